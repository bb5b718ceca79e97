"""Training on one GPU beside plain transformers with torch.compile: speed, use of the peak, memory.

    python benchmarks/gpu_training.py                       # Llama 3.2 1B's shape, rows of 8,192
    python benchmarks/gpu_training.py --shape 3b --seq 4096 --batch 2
    python benchmarks/gpu_training.py --tiny                # on a CPU, to see that all parts run

One command, under 8 minutes, nothing but the machine itself; each part is a process of its own and
has the whole memory: (1) the rate of bfloat16 products on the device, which use of the peak (MFU)
is measured against; (2) attention's kernels, checked against the reference in float32, then timed
in several tilings, of which the best ones train; (3) twjax's step on random rows that are in memory
already, once packed with documents (1,024 tokens on average) and once a document a row; (4) plain
`transformers` with torch.compile on the same shape, batch and length: scaled-dot-product attention
over whole rows (what it computes of attention is then the same as twjax's whole rows), weights in
float32 with autocast, as twjax has them, and in bfloat16, which is less work; FlashAttention where
`flash_attn` is installed. Where the memory doesn't suffice, a side saves less, then takes fewer
rows. MFU counts causal attention of whole rows once. No part imports TensorFlow.

It needs jax with CUDA (`pip install 'twjax[cuda]'`), and for the comparison torch with CUDA and
transformers 5; without them it says so. A machine that reaches no package index and has these, flax
and optax lacks only gin-config: elsewhere `pip download --no-deps -d wheels gin-config`, and there
`pip install --no-index --no-deps --target site wheels/*.whl` with `site` in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Shape:
    """A Llama's sizes, and what of a layer is saved for the backward pass, most first."""

    layers: int
    embed: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    saved: tuple[str, ...]


# What `Step.remat` takes; each saves less than the one before. The first recomputes no product.
_SAVED = ("'dots'", "('attention',)", "'full'")
SHAPES = {
    "1b": Shape(16, 2048, 32, 8, 64, 8192, 128_256, _SAVED),
    "3b": Shape(28, 3072, 24, 8, 128, 8192, 128_256, _SAVED),
    "tiny": Shape(2, 64, 4, 2, 32, 128, 512, _SAVED),
}
# Published, for orientation; another model on other machines (float32 master weights, bfloat16
# products, eight H100 with 500 W and HBM2e).
TORCHTITAN = (
    "torchtitan, Llama 3.1 8B on 8 H100 with FSDP: 5,762 tokens/s a GPU, 6,667 with torch.compile "
    "(33 to 39% of the peak): pytorch/torchtitan b5bcd76c, "
    "benchmarks/llama3_h100_202412_torchtitan.md"
)
AIM_RATIO, AIM_MFU = 1.15, 0.50
# A part isn't begun with less time.
LEAST_SECONDS = 10.0


class Parts:
    """Runs parts as processes, within a time limit for all."""

    def __init__(self, seconds: float, common: dict[str, Any]):
        self._end = time.monotonic() + seconds
        self._common = common

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def run(self, script: str, most: float, **given: Any) -> dict[str, Any]:
        """Returns what a part found, or {"error": …}; `most` seconds, or what is left."""
        seconds = min(most, self.left)
        if seconds < LEAST_SECONDS:
            return {"error": "no time was left"}
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as told:
            command = [sys.executable, FOLDER / script, json.dumps(self._common | given)]
            try:
                done = subprocess.run(
                    [*map(str, command)], cwd=ROOT, env=environment(), stdout=told,
                    stderr=subprocess.STDOUT, timeout=seconds, check=False,
                )  # fmt: skip
                code: int | None = done.returncode
            except subprocess.TimeoutExpired:
                code = None
            told.seek(0)
            lines = told.read().splitlines()
        # A part says what it has so far, the last word is the whole.
        found = [line[7:] for line in lines if line.startswith("RESULT ")]
        result: dict[str, Any] = json.loads(found[-1]) if found else {}
        if code is None:
            result["error"] = f"stopped after {seconds:.0f} s"
        elif code:
            result["error"] = " / ".join(line.strip() for line in lines[-3:])[-600:]
            if any(word in "\n".join(lines[-60:]) for word in ("RESOURCE_EXHAUSTED", "OutOfMem")):
                result["oom"] = True
        result["seconds"] = round(time.monotonic() - began, 1)
        return result


def environment() -> dict[str, str]:
    """Returns the parts' environment: this checkout, and nearly all of the memory."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.93",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "USE_TF": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), default="1b")
    parser.add_argument("--seq", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=4, help="rows, halved where they don't fit")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--seconds", type=float, default=460, help="limit for all parts together")
    parser.add_argument("--attention", choices=("pallas", "chunked", "reference"))
    parser.add_argument("--tiny", action="store_true", help="a few seconds on a CPU")
    parser.add_argument("--json", type=pathlib.Path, help="where all figures go")
    args = parser.parse_args()
    if args.tiny:
        args.shape, args.seq, args.batch, args.steps = "tiny", 256, 2, 2
    shape = SHAPES[args.shape]
    common = {"shape": dataclasses.asdict(shape), "seq": args.seq, "tiny": args.tiny}
    common["steps"] = args.steps
    parts = Parts(args.seconds, common)
    result: dict[str, Any] = {"arguments": {k: str(v) for k, v in vars(args).items()}}

    def keep(name: str, found: dict[str, Any]) -> dict[str, Any]:
        result[name] = found
        if args.json:
            # A part that hangs the machine leaves what was found before it.
            args.json.write_text(json.dumps(result, indent=1))
        return found

    rate = keep("rate", parts.run("gpu_training_jax.py", 90, part="rate"))
    say("rate", rate)
    attention = keep("attention", parts.run("gpu_training_jax.py", 110, part="attention"))
    say("attention", attention)
    kind = args.attention or ("pallas" if attention.get("pallas_is_right") else "chunked")

    def train(rows: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for saved in shape.saved:
            given = {"attention": kind, "tiling": attention.get("tiling"), "batch": rows}
            found = parts.run("gpu_training_jax.py", 150, part="train", saved=saved, **given)
            say(f"twjax, {rows} rows, saved: {saved}", found)
            if not found.get("oom"):
                break
        return found

    batch = args.batch
    ours = keep("twjax", train(batch))
    while ours.get("oom") and batch > 1:
        batch //= 2
        ours = keep("twjax", train(batch))
    theirs: dict[str, dict[str, Any]] = {}
    for name, given in others().items():
        found: dict[str, Any] = {"oom": True}
        rows = batch
        while found.get("oom") and rows:
            found = parts.run("gpu_training_torch.py", 170, batch=rows, **given)
            say(f"{name}, {rows} rows", found)
            rows //= 2
        theirs[name] = found
        keep("torch", theirs)
    most = max((found["batch"] for found in theirs.values() if "batch" in found), default=batch)
    if most < batch:
        # Side by side is with the same rows.
        ours = keep("twjax_with_their_rows", train(most))
    lines = table(shape, args.seq, rate, ours, theirs)
    keep("table", {"lines": lines})
    print("\n" + "\n".join(lines), flush=True)


def others() -> dict[str, dict[str, Any]]:
    """Returns what there is to compare with."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            print(f"{package} isn't installed: nothing to compare with.", flush=True)
            return {}
    found = {
        "transformers, SDPA, float32 weights": {"attention": "sdpa", "weights": "float32"},
        "transformers, SDPA, bfloat16 weights": {"attention": "sdpa", "weights": "bfloat16"},
    }
    if importlib.util.find_spec("flash_attn") is not None:
        how = {"attention": "flash_attention_2", "weights": "float32"}
        found["transformers, FlashAttention 2, float32 weights"] = how
    return found


def say(name: str, found: dict[str, Any]) -> None:
    print(f"{name}: {json.dumps(found)}", flush=True)


def table(
    shape: Shape, seq: int, rate: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]
) -> list[str]:
    """Returns the comparison as lines: tokens/s, MFU, memory, and whether the aims are met."""
    peak = rate.get("flops", 0.0)
    each = flops_per_token(shape, seq)
    lines = [
        f"{rate.get('device', 'no device')}: bfloat16 products at {peak / 1e12:,.1f} TFLOP/s, "
        f"jax {rate.get('jax')}; {each / 1e9:.2f} GFLOP a token at rows of {seq:,}",
        "",
        "| | rows | tokens/s | MFU of the measured rate | peak memory |",
        "|---|--:|--:|--:|--:|",
    ]

    def mfu(speed: float) -> float:
        return speed * each / peak if peak else 0.0

    def line(name: str, found: dict[str, Any], key: str) -> None:
        speed = found.get(key)
        if speed is None:
            lines.append(f"| {name} | – | – | – | {found.get('error', 'not run')} |")
            return
        memory = found.get("memory_gib")
        room = "" if memory is None else f"{memory:.1f} GiB"
        cells = (name, found["batch"], f"{speed:,.0f}", f"{mfu(speed):.1%}", room)
        lines.append("| " + " | ".join(map(str, cells)) + " |")

    kind = ours.get("attention", "")
    line(f"twjax, {kind}, packed documents", ours, "tokens_per_second_packed")
    line(f"twjax, {kind}, a document a row", ours, "tokens_per_second")
    for name, found in theirs.items():
        line(name, found, "tokens_per_second")
    lines += ["", f"For orientation: {TORCHTITAN}."]
    speed = ours.get("tokens_per_second")
    speeds = [found["tokens_per_second"] for found in theirs.values() if "error" not in found]
    if speed and speeds:
        ratio = speed / max(speeds)
        met = "met" if ratio >= AIM_RATIO else "not met"
        lines.append(
            f"twjax on whole rows / the best of the others: {ratio:.2f} (aim {AIM_RATIO}: {met})"
        )
    elif speed:
        lines.append("There is nothing to compare with here.")
    if speed and peak:
        met = "met" if mfu(speed) >= AIM_MFU else "not met"
        lines.append(f"MFU of the measured rate: {mfu(speed):.1%} (aim {AIM_MFU:.0%}: {met})")
    return lines


def flops_per_token(shape: Shape, seq: int) -> float:
    """Returns what a token of a whole row asks for, forward and backward.

    As `twjax.planning.flops` counts: six a weight in a product, causal attention once.
    """
    width = shape.heads * shape.head_dim
    attention = shape.embed * (2 * width + 2 * shape.kv_heads * shape.head_dim)
    weights = shape.layers * (attention + 3 * shape.embed * shape.mlp)
    weights += shape.vocab * shape.embed
    return 6.0 * weights + 12 * width * seq / 2 * shape.layers


if __name__ == "__main__":
    main()
