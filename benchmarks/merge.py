"""Memory and time of merging models with the shape of Llama-3.1 8B, and what comes out.

  python benchmarks/merge.py --folder /big/disk

Makes a folder of random bfloat16 weights with the shape of Llama-3.1 8B (16 GB), two models tuned
from it and a continued one with 24,720 more pieces; merges them by each method in a process of its
own, and compares a sample of what it wrote with the same in float64. The three others are files
with holes: only the embedding and two layers of theirs take room on the disk, all else reads as 0.
So the disk needs some 40 GB, and the rates are of one real model read and one written.

Memory is the peak of anonymous and shared memory, sampled every 20 ms, as in `convert_hf.py`;
`resident_gib` adds the libraries' pages. `--cpus` lets the process believe in another number of
cores: it then runs as many threads as it would there.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from convert_hf import CONFIG, SHARD_BYTES, SMALL, forget, measure

from twjax.huggingface.families.llama import FAMILY
from twjax.huggingface.mapping import bind
from twjax.huggingface.tensors import INDEX, Reader, ShardWriter, make_header
from twjax.models.network import network
from twjax.storage import read_json, write_json

NEW_PIECES = 24_720
# Layers that hold values in the tuned and the continued models.
REAL_LAYERS = (0, 1)
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
NOISE = 1 << 24
# Elements that are compared at once.
PART = 1 << 22
# Rows of the chat model's special tokens.
ROWS = (128_006, 128_007, 128_009)

Values = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def make(
    folder: pathlib.Path, config: dict[str, Any], scale: float, seed: int, holes: bool
) -> None:
    """Writes a folder of bfloat16 noise around that of seed 0, `scale` times as large."""
    model = FAMILY.read_config(config)
    tensors = bind(FAMILY, model, network(model).specs).tensors()
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)
    files: list[dict[str, Any]] = [{}]
    for name, group in tensors.items():
        size = 2 * int(np.prod(group[0].shape))
        if files[-1] and sum(e[2] for e in files[-1].values()) + size > SHARD_BYTES:
            files.append({})
        files[-1][name] = ("BF16", group[0].shape, size)
    noise = np.random.default_rng(0).normal(0, 0.02, NOISE).astype(np.float32)
    if scale:
        tuned = np.random.default_rng(seed).normal(0, scale, NOISE)
        noise += tuned.astype(np.float32)
    stretch = noise.astype(ml_dtypes.bfloat16)
    places = {}
    kept = [EMBEDDING, *(f"model.layers.{layer}." for layer in REAL_LAYERS)]
    for number, file in enumerate(files, start=1):
        shard = folder / f"model-{number:05}-of-{len(files):05}.safetensors"
        header = make_header(file, {"format": "pt"})
        writer = ShardWriter(shard, header)
        for name, (_, shape, _) in file.items():
            places[name] = shard.name
            if holes and not name.startswith(tuple(kept)):
                continue
            width = int(np.prod(shape[1:]))
            step = max(1, NOISE // width)
            # The same in each model, whatever the order of its tensors.
            data = np.roll(stretch, 97 * sum(name.encode()))
            for first in range(0, shape[0], step):
                rows = min(step, shape[0] - first)
                writer.write(name, first, data[: rows * width].reshape(rows, *shape[1:]))
        writer.close()
        with shard.open("r+b") as opened:
            opened.truncate(8 + len(header) + sum(e[2] for e in file.values()))
    total = sum(e[2] for file in files for e in file.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def sample(reader: Reader) -> list[tuple[str, int, int]]:
    """Returns the first, a middle and the last rows of one tensor of each kind: name, rows."""
    shapes = {name: stored.shape for name, stored in reader.tensors.items()}
    layers = max(int(name.split(".")[2]) for name in shapes if ".layers." in name) + 1
    chosen = {0, 1, layers // 2, layers - 1}
    found = []
    for name, shape in shapes.items():
        if ".layers." in name and int(name.split(".")[2]) not in chosen:
            continue
        rows = max(1, PART // int(np.prod(shape[1:])))
        for first in sorted({0, max(0, shape[0] // 2 - rows), max(0, shape[0] - rows)}):
            found.append((name, first, min(first + rows, shape[0])))
    return found


def compare(
    out: pathlib.Path, sources: Mapping[str, pathlib.Path], expect: Values, skipped: bool
) -> dict[str, float]:
    """Compares a sample of a merged folder with float64.

    An element is right if it is within half a step of bfloat16, and what float32 loses where large
    numbers cancel, of what `expect` makes of the sources. With `skipped` the embedding and the
    output matrix are to be the first source's, but for `ROWS` of "chat".
    """
    readers = {name: Reader(path) for name, path in sources.items()}
    result, worst, equal, count = Reader(out), 0.0, 0, 0
    for name, first, stop in sample(result):
        box = (slice(first, stop), *(slice(0, n) for n in result.tensors[name].shape[1:]))
        found = result.read(name, box)
        if skipped and name in (EMBEDDING, OUTPUT):
            expected = readers["continued"].read(name, box)
            for row in ROWS:
                if first <= row < stop:
                    one = (slice(row, row + 1), box[1])
                    expected[row - first] = readers["chat"].read(name, one)[0]
            assert np.array_equal(found, expected), name
            continue
        blocks = {n: reader.read(name, box).astype(np.float64) for n, reader in readers.items()}
        exact = expect(blocks)
        largest = np.max([np.abs(block) for block in blocks.values()], axis=0)
        allowed = np.abs(exact) * 2.0**-8 + largest * 2.0**-21
        error = np.abs(found.astype(np.float64) - exact)
        wrong = np.divide(error, allowed, out=np.zeros_like(error), where=error > 0)
        worst = max(worst, float(wrong.max()))
        equal += int(np.sum(found == exact.astype(np.float32).astype(ml_dtypes.bfloat16)))
        count += found.size
    return {"compared": count, "equal_share": equal / count, "worst_of_allowed": worst}


def compare_dare(
    out: pathlib.Path, sources: Mapping[str, pathlib.Path], density: float
) -> dict[str, float]:
    """Looks which of the four things each element can be it is, where they differ enough to say."""
    base, one, two = (Reader(sources[name]) for name in ("base", "one", "two"))
    result, none, count, kept = Reader(out), 0, 0, np.zeros(2, np.int64)
    for name, first, stop in sample(result):
        box = (slice(first, stop), *(slice(0, n) for n in result.tensors[name].shape[1:]))
        start, a, b = (r.read(name, box).astype(np.float64) for r in (base, one, two))
        found = result.read(name, box).astype(np.float64)
        choices = np.stack(
            [start + x * (a - start) / density + y * (b - start) / density
             for x in (0, 1) for y in (0, 1)]
        )  # fmt: skip
        allowed = np.abs(choices) * 2.0**-8 + np.max(np.abs([start, a, b]), axis=0) * 2.0**-20
        fits = np.abs(choices - found) <= allowed
        none += int(np.sum(~fits.any(axis=0)))
        single = fits.sum(axis=0) == 1
        which = fits.argmax(axis=0)[single]
        kept += [int(np.sum(which >= 2)), int(np.sum(which % 2))]
        count += which.size
    return {
        "told_apart": count,
        "fit_nothing": none,
        "kept_of_one": kept[0] / count,
        "kept_of_two": kept[1] / count,
    }


def compare_threshold(
    base: pathlib.Path, model: pathlib.Path, threshold: float, density: float
) -> dict[str, float]:
    """Counts all differences of at least, and of more than, the threshold."""
    with_base, with_model = Reader(base), Reader(model)
    least = more = total = 0
    for name, stored in with_base.tensors.items():
        step = max(1, PART // int(np.prod(stored.shape[1:])))
        for first in range(0, stored.shape[0], step):
            box = (slice(first, min(first + step, stored.shape[0])),
                   *(slice(0, n) for n in stored.shape[1:]))  # fmt: skip
            size = np.abs(
                with_model.read(name, box).astype(np.float32)
                - with_base.read(name, box).astype(np.float32)
            )
            least += int(np.sum(size >= np.float32(threshold)))
            more += int(np.sum(size > np.float32(threshold)))
            total += size.size
    return {"at_least": least / total, "more": more / total,
            "right": more < round(density * total) <= least}  # fmt: skip


def ties(blocks: Mapping[str, np.ndarray], thresholds: list[float]) -> np.ndarray:
    vectors = []
    for name, least in zip(("one", "two"), thresholds, strict=True):
        # What is trimmed is decided on differences in float32, as thresholds are.
        small = np.abs(blocks[name].astype(np.float32) - blocks["base"].astype(np.float32))
        vectors.append(np.where(small >= np.float32(least), blocks[name] - blocks["base"], 0))
    sign = np.sign(sum(vectors))
    agree = [(np.sign(v) == sign) & (v != 0) for v in vectors]
    share = sum(a.astype(np.float64) for a in agree)
    total = sum(np.where(a, v, 0) for a, v in zip(agree, vectors, strict=True))
    return blocks["base"] + total / np.maximum(share, 1)


METHODS = ("average", "task", "ties", "dare", "chat")


def one(
    method: str, work: pathlib.Path, command: list[str], bytecode: pathlib.Path
) -> dict[str, Any]:
    """Merges by one method, in a process of its own; returns memory, time and comparisons."""
    base, a, b, continued = (work / name for name in ("base", "one", "two", "continued"))
    out = work / "out"
    inputs = {"average": [a, b, base], "chat": [continued, base, a]}.get(method, [base, a, b])
    options = {
        "average": [out, a, b, base, "--weights", 0.5, 0.3, 0.2],
        "task": [out, base, a, b, "--weights", 0.5, 0.2],
        "ties": [out, base, a, b, "--density", 0.2],
        "dare": [out, base, a, b, "--density", 0.5],
        "chat": [out, continued, "--base", base, "--chat", a, "--copy-rows", *ROWS],
    }[method]
    for folder in inputs:
        forget(folder)
    size = Reader(inputs[0]).total_bytes
    found: dict[str, Any] = measure(
        [*command, "merge", method, *map(str, options)], base, size, bytecode
    )
    found["inputs_gib"] = sum(Reader(folder).total_bytes for folder in inputs) / 2**30
    folders = {folder.name: folder for folder in inputs}
    if method == "dare":
        return found | compare_dare(out, folders, 0.5)
    if method == "chat":
        folders = {"continued": continued, "base": base, "chat": a}
        chat = lambda x: x["continued"] + x["chat"] - x["base"]  # noqa: E731
        return found | compare(out, folders, chat, skipped=True)
    if method == "ties":
        thresholds = read_json(out / "twjax_merge.json")["thresholds"]
        found["thresholds"] = [
            {"threshold": least} | compare_threshold(base, model, least, 0.2)
            for least, model in zip(thresholds, (a, b), strict=True)
        ]
        return found | compare(out, folders, lambda x: ties(x, thresholds), skipped=False)
    expect: Values = {
        "average": lambda x: 0.5 * x["one"] + 0.3 * x["two"] + 0.2 * x["base"],
        "task": lambda x: x["base"] + 0.5 * (x["one"] - x["base"]) + 0.2 * (x["two"] - x["base"]),
    }[method]
    return found | compare(out, folders, expect, skipped=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="where to work")
    parser.add_argument("--layers", type=int, default=32, help="32 is the whole 8B shape")
    parser.add_argument(
        "--cpus", type=int, help="cores that the process sees (default: those here)"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    work = args.folder / "merge"
    shutil.rmtree(work, ignore_errors=True)
    args.folder.mkdir(parents=True, exist_ok=True)
    needs = 1e9 * (args.layers + 14)
    if (free := shutil.disk_usage(args.folder).free) < needs:
        raise SystemExit(f"{args.folder}: {free / 1e9:.0f} GB are free, {needs / 1e9:.0f} needed.")
    command = [sys.executable, "-m", "twjax"]
    if args.cpus:
        code = (
            f"import os, sys; os.cpu_count = lambda: {args.cpus}; "
            "from twjax.cli import main; sys.exit(main())"
        )
        command = [sys.executable, "-c", code]
    results: dict[str, dict[str, Any]] = {}
    try:
        for config, place in ((CONFIG | SMALL, work / "warm"), (CONFIG, work)):
            config |= {"num_hidden_layers": args.layers if place == work else 2}
            small = place != work
            for number, name in enumerate(("base", "one", "two", "continued")):
                grown = {"vocab_size": config["vocab_size"] + NEW_PIECES}
                make(
                    place / name, config | (grown if name == "continued" else {}),
                    0.002 * number, number, holes=number > 0,
                )  # fmt: skip
            if small:
                # Bytecode is compiled here, before any clock runs.
                measure([*command, "merge", "average", str(place / "out"), str(place / "base"),
                         str(place / "one")], place / "base", 1, work / "bytecode")  # fmt: skip
                shutil.rmtree(place)
        for method in args.methods:
            results[method] = one(method, work, command, work / "bytecode")
            shutil.rmtree(work / "out")
            print(json.dumps({method: results[method]}), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(
        f"{'':8} {'seconds':>8} {'MB/s':>6} {'own GiB':>8} {'resident GiB':>12} {'inputs GiB':>10}"
    )
    for method, r in results.items():
        print(
            f"{method:8} {r['seconds']:>8.1f} {r['mb_per_second']:>6.0f} {r['memory_gib']:>8.2f} "
            f"{r['resident_gib']:>12.2f} {r['inputs_gib']:>10.1f}"
        )
    wrong = [
        method
        for method, r in results.items()
        if r.get("worst_of_allowed", 0) > 1
        or r.get("fit_nothing", 0)
        or not all(limit["right"] for limit in r.get("thresholds", ()))
    ]
    print(f"not as in float64: {', '.join(wrong) or 'none'}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if wrong:
        raise SystemExit("some merged values are wrong")


if __name__ == "__main__":
    main()
