"""Memory and rate of converting a large Hugging Face folder, in and out, beside `cp`.

  python benchmarks/convert_hf.py --folder /big/disk --gb 20

Makes a folder of random bfloat16 weights with the widths of Llama-3.1 8B and as many layers as fill
the size, copies it with `cp`, converts it and converts it back. Every run reads from the disk (its
files are dropped from the page cache first) and is timed until all it wrote is on the disk.

Memory is the peak of anonymous and shared memory, sampled every 20 ms: what the process allocated.
Pages of mapped files (libraries, the parts of a checkpoint that are read through a mapping) are the
kernel's to drop; with them the peak is `resident_gib`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import shutil
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


def make(folder: pathlib.Path, size: float) -> int:
    """Writes a folder of about `size` bytes; returns the bytes of its tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    layers = 0
    while sum(2 * int(np.prod(shape)) for shape in shapes.values()) < size:
        layers += 1
        model = FAMILY.read_config(CONFIG | {"num_hidden_layers": layers})
        binding = bind(FAMILY, model, network(model).specs)
        shapes = {name: group[0].shape for name, group in binding.tensors().items()}
    folder.mkdir(parents=True)
    write_json(folder / "config.json", CONFIG | {"num_hidden_layers": layers})
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


def measure(command: list[str], source: pathlib.Path, size: int) -> dict[str, float]:
    """Runs a command that reads `source`; returns its seconds, rate and peak memory."""
    forget(source)
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPO, env=os.environ | {"PYTHONPATH": str(REPO)})
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--folder", type=pathlib.Path, required=True, help="where to work; needs 3x"
    )
    parser.add_argument("--gb", type=float, default=2.0, help="size of the weights (default: 2)")
    parser.add_argument("--keep", action="store_true", help="leave the folders")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    work = args.folder / "convert_hf"
    shutil.rmtree(work, ignore_errors=True)
    original, copy, model, back = (work / name for name in ("original", "copy", "model", "back"))
    size = make(original, args.gb * 1e9)
    twjax = [sys.executable, "-m", "twjax", "convert"]
    results: dict[str, Any] = {"bytes": size}
    try:
        results["cp"] = measure(["cp", "-r", str(original), str(copy)], original, size)
        shutil.rmtree(copy)
        results["from_hf"] = measure(
            [*twjax, "from-hf", str(original), str(model), "--no-probe"], original, size
        )
        results["to_hf"] = measure([*twjax, "to-hf", str(model), str(back)], model, size)
        results["cp_again"] = measure(["cp", "-r", str(original), str(copy)], original, size)
        shutil.rmtree(copy)
        before, after = digests(original), digests(back)
        after.pop("twjax_export.json")
        results["identical"] = before == after
    finally:
        if not args.keep:
            shutil.rmtree(work)
    rate = (results["cp"]["mb_per_second"] + results["cp_again"]["mb_per_second"]) / 2
    print(f"{size / 1e9:.2f} GB; files identical after both ways: {results['identical']}")
    print(f"{'':10} {'seconds':>8} {'MB/s':>7} {'of cp':>6} {'own GiB':>8} {'resident GiB':>12}")
    for name in ("cp", "from_hf", "to_hf", "cp_again"):
        r = results[name]
        print(
            f"{name:10} {r['seconds']:>8.1f} {r['mb_per_second']:>7.0f} "
            f"{r['mb_per_second'] / rate:>6.0%} {r['memory_gib']:>8.2f} {r['resident_gib']:>12.2f}"
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
