"""Memory and rate of converting a large Hugging Face folder, in and out, beside `cp`.

  python benchmarks/convert_hf.py --folder /big/disk --gb 20

Makes a folder of random bfloat16 weights with the widths of Llama-3.1 8B and as many layers as fill
the size; then, in each round, copies it with `cp`, converts it, copies the result with `cp` and
converts it back. Every run reads from the disk (its files are dropped from the page cache first)
and is timed until all it wrote is on the disk. The disk holds two copies at a time: what the files
were is known by their sha256, and a round begins with the folder that the one before it gave back.

Memory is the peak of anonymous and shared memory, sampled every 20 ms: what the process allocated.
Pages of mapped files (libraries, the parts of a checkpoint that are read through a mapping) are the
kernel's to drop; with them the peak is `resident_gib`. Python's bytecode is compiled before the
clock starts, as it is where a package has been installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from typing import Any

import ml_dtypes
import numpy as np

from twjax.huggingface.families.llama import FAMILY
from twjax.huggingface.mapping import bind
from twjax.huggingface.tensors import INDEX, ShardWriter, make_header
from twjax.models.network import network
from twjax.storage import write_json

REPO = pathlib.Path(__file__).resolve().parent.parent
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 128_000,
    "eos_token_id": 128_001,
}
SHARD_BYTES = 5_000_000_000


# Of the conversion that compiles the bytecode.
SMALL = {"vocab_size": 512, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}


def make(folder: pathlib.Path, size: float, config: dict[str, Any] = CONFIG) -> int:
    """Writes a folder of about `size` bytes; returns the bytes of its tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    layers = 0
    while sum(2 * int(np.prod(shape)) for shape in shapes.values()) < size:
        layers += 1
        model = FAMILY.read_config(config | {"num_hidden_layers": layers})
        binding = bind(FAMILY, model, network(model).specs)
        shapes = {name: group[0].shape for name, group in binding.tensors().items()}
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config | {"num_hidden_layers": layers})
    files: list[dict[str, Any]] = [{}]
    for name, shape in shapes.items():
        bytes_ = 2 * int(np.prod(shape))
        if files[-1] and sum(e[2] for e in files[-1].values()) + bytes_ > SHARD_BYTES:
            files.append({})
        files[-1][name] = ("BF16", shape, bytes_)
    # One stretch of values for all: the bytes are as good as random at any one place.
    noise = np.random.default_rng(0).normal(0, 0.02, 1 << 24).astype(np.float32)
    block = (noise.view(np.uint32) >> 16).astype(np.uint16).view("V2")
    places = {}
    for number, file in enumerate(files, start=1):
        name = f"model-{number:05}-of-{len(files):05}.safetensors"
        writer = ShardWriter(folder / name, make_header(file, {"format": "pt"}))
        for offset, (tensor, (_, shape, bytes_)) in enumerate(file.items()):
            places[tensor] = name
            data = np.roll(block, 97 * offset)
            count = bytes_ // 2
            raw = np.resize(data, count) if count < (1 << 26) else None
            if raw is not None:
                writer.write_raw(tensor, raw.tobytes())
                continue
            row = int(np.prod(shape[1:]))
            step = (1 << 24) // row
            for first in range(0, shape[0], step):
                rows = min(step, shape[0] - first)
                part = data[: rows * row].view(ml_dtypes.bfloat16).reshape(rows, row)
                writer.write(tensor, first, part)
        writer.finish()
    total = sum(e[2] for file in files for e in file.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
    return total


def forget(folder: pathlib.Path) -> None:
    """Takes a folder's files out of the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def measure(
    command: list[str], source: pathlib.Path, size: int, bytecode: pathlib.Path
) -> dict[str, float]:
    """Runs a command that reads `source`; returns its seconds, rate and peak memory."""
    forget(source)
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPO, env=_environment(bytecode))
    own = resident = 0
    while process.poll() is None:
        status = _status(process.pid)
        own = max(own, status.get("RssAnon", 0) + status.get("RssShmem", 0))
        resident = max(resident, status.get("VmHWM", 0))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed")
    os.sync()
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "mb_per_second": size / 1e6 / seconds,
        "memory_gib": own / (1 << 20),
        "resident_gib": resident / (1 << 20),
    }


def _environment(bytecode: pathlib.Path) -> dict[str, str]:
    found = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
    return found | {"PYTHONPATH": str(REPO), "PYTHONPYCACHEPREFIX": str(bytecode)}


def _status(pid: int) -> dict[str, int]:
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in lines)
        if name in ("RssAnon", "RssShmem", "VmHWM")
    }


def digests(folder: pathlib.Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("*")):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def one_round(work: pathlib.Path, size: int) -> dict[str, dict[str, float]]:
    """Copies and converts `work`/original, in and out; it is a converted one afterwards."""
    original, copy, model, back = (work / name for name in ("original", "copy", "model", "back"))
    bytecode = work / "bytecode"
    twjax = [sys.executable, "-m", "twjax", "convert"]
    found = {}
    found["cp_in"] = measure(["cp", "-r", str(original), str(copy)], original, size, bytecode)
    shutil.rmtree(copy)
    command = [*twjax, "from-hf", str(original), str(model), "--no-probe"]
    found["from_hf"] = measure(command, original, size, bytecode)
    shutil.rmtree(original)
    found["cp_out"] = measure(["cp", "-r", str(model), str(copy)], model, size, bytecode)
    shutil.rmtree(copy)
    found["to_hf"] = measure([*twjax, "to-hf", str(model), str(back)], model, size, bytecode)
    shutil.rmtree(model)
    (back / "twjax_export.json").unlink()
    back.rename(original)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--folder", type=pathlib.Path, required=True, help="where to work; needs twice the size"
    )
    parser.add_argument("--gb", type=float, default=2.0, help="size of the weights (default: 2)")
    parser.add_argument("--rounds", type=int, default=1, help="medians of so many (default: 1)")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    work = args.folder / "convert_hf"
    shutil.rmtree(work, ignore_errors=True)
    args.folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(args.folder).free) < 2.2e9 * args.gb + 2e9:
        raise SystemExit(f"{args.folder}: {free / 1e9:.0f} GB are free, too little.")
    try:
        warm = work / "warm"
        size = make(warm / "original", 1, CONFIG | SMALL)
        one_round(warm, size)
        (warm / "bytecode").rename(work / "bytecode")
        shutil.rmtree(warm)
        size = make(work / "original", args.gb * 1e9)
        before = digests(work / "original")
        rounds = [one_round(work, size) for _ in range(args.rounds)]
        identical = digests(work / "original") == before
    finally:
        shutil.rmtree(work, ignore_errors=True)
    results = {
        name: {
            "seconds": statistics.median(r[name]["seconds"] for r in rounds),
            "mb_per_second": statistics.median(r[name]["mb_per_second"] for r in rounds),
            "memory_gib": max(r[name]["memory_gib"] for r in rounds),
            "resident_gib": max(r[name]["resident_gib"] for r in rounds),
        }
        for name in rounds[0]
    }
    print(f"{size / 1e9:.2f} GB; files identical after {args.rounds} x both ways: {identical}")
    print(f"{'':10} {'seconds':>8} {'MB/s':>7} {'of cp':>6} {'own GiB':>8} {'resident GiB':>12}")
    for name, beside in (
        ("cp_in", None),
        ("from_hf", "cp_in"),
        ("cp_out", None),
        ("to_hf", "cp_out"),
    ):
        r = results[name]
        share = r["mb_per_second"] / results[beside]["mb_per_second"] if beside else 1.0
        print(
            f"{name:10} {r['seconds']:>8.1f} {r['mb_per_second']:>7.0f} "
            f"{share:>6.0%} {r['memory_gib']:>8.2f} {r['resident_gib']:>12.2f}"
        )
    if args.json:
        summary = {"bytes": size, "identical": identical, "median": results, "rounds": rounds}
        args.json.write_text(json.dumps(summary, indent=2))
    if not identical:
        raise SystemExit("the files are not what they were")


if __name__ == "__main__":
    main()
