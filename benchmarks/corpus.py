"""Cleaning speed beside datatrove on the same documents, in CPU seconds of one core.

    python benchmarks/corpus.py --data DIR [--part filters pipeline] [--documents N]
        [--datatrove-python PATH] [--json FILE]

`filters`: our QualityRules and Repetition against datatrove's GopherRepetitionFilter,
FineWebQualityFilter and GopherQualityFilter with FineWeb-2's settings for Mandarin (jieba), on
laws and transcripts of DIR (tw_laws_zh.jsonl.gz, tw_transcripts_cc0.jsonl.gz), wrapped as they
come. Both stop at a document's first broken rule; both see texts in memory, after a warm-up that
loads dictionaries and tables. Ours is the median of several runs, before and after datatrove's
one.

`pipeline`: `twjax corpus build` from the file to the finished corpus against datatrove's same
filters and its four MinHash stages: once with the steps that do what these do ("same"), once with
all of configs/corpora/taiwan.gin ("all": licences, normalising, wraps, region, conversion, usage,
adverts, harm, exact duplicates and personal data besides). Ours counts the whole process, start-up
and writing included; datatrove's start-up isn't counted.

Without --datatrove-python, the interpreter of an environment that has datatrove[io], spacy
and jieba, only ours is measured. For MinHash see `dedup.py`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

SOURCES = {"tw_laws_zh": "law", "tw_transcripts_cc0": "speech"}
TARGET = 20
_ALL = pathlib.Path(__file__).parent.parent / "configs/corpora/taiwan.gin"
_SAME = """
Corpus.name = 'same'
Corpus.output = 'same'
Corpus.steps = (@QualityRules(), @Repetition(), @NearDedup())
QualityRules.by_source = ('*Law*=law', '*archive.tw*=speech')
Repetition.by_source = ('*Law*=law', '*archive.tw*=speech')
"""
_BUILDS = {"same": _SAME, "all": _ALL.read_text(encoding="utf-8")}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--part", nargs="+", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--documents", type=int, default=400, help="of each source")
    parser.add_argument("--runs", type=int, default=5, help="of ours")
    parser.add_argument("--datatrove-python", help="without it only our own speed is measured")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there as well")
    args = parser.parse_args()
    if not args.datatrove_python:
        print("No --datatrove-python: our own speed only.")
    figures = {part: PARTS[part](args) for part in args.part}
    if args.json:
        text = json.dumps(figures, indent=2, ensure_ascii=False)
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0


def records(data: pathlib.Path, name: str, number: int) -> list[dict[str, Any]]:
    """Returns documents spread evenly over a file of the data pack."""
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    number = min(number, len(lines))
    return [lines[len(lines) * i // number] for i in range(number)]


def documents(texts: Sequence[str], source: str, lang: str = "zh-TW") -> list[Any]:
    from twjax.corpus.document import Document

    return [
        Document(id=str(i), text=text, source=source, license="unknown", lang=lang)
        for i, text in enumerate(texts)
    ]


def filters(args: argparse.Namespace) -> dict[str, Any]:
    """Measures the quality and repetition rules, by source."""
    from twjax.corpus.quality.repetition import Repetition
    from twjax.corpus.quality.rules import QualityRules

    figures: dict[str, Any] = {}
    for source, preset in SOURCES.items():
        texts = [record["text"] for record in records(args.data, source, args.documents)]
        batch = documents(texts, source)
        rules, repetition = QualityRules(preset=preset), Repetition(preset=preset)
        for step in (rules, repetition):
            step.apply(batch[:2])
        times: dict[str, list[float]] = {"quality": [], "repetition": []}
        kept = 0

        def ours(batch=batch, rules=rules, repetition=repetition, times=times) -> int:
            passed, taken = _timed(lambda: rules.apply(batch).kept)
            times["quality"].append(taken)
            passed, taken = _timed(lambda: repetition.apply(passed).kept)
            times["repetition"].append(taken)
            return len(passed)

        for _ in range((args.runs + 1) // 2):
            kept = ours()
        theirs = datatrove(args.datatrove_python, texts)
        for _ in range(args.runs // 2):
            kept = ours()
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        seconds = statistics.median(map(sum, zip(*times.values(), strict=True)))
        row: dict[str, Any] = {
            "documents": len(texts),
            "megabytes": megabytes,
            "ours_seconds": seconds,
            "ours_seconds_by_step": {k: statistics.median(v) for k, v in times.items()},
            "ours_megabytes_per_second": megabytes / seconds,
            "ours_kept": kept / len(texts),
        }
        line = (
            f"{source}: {len(texts):,} documents, {megabytes:.1f} MB; ours {seconds:.2f} CPU-s, "
            f"{megabytes / seconds:.1f} MB/s, {len(texts) / seconds:,.0f} documents/s, "
            f"kept {kept / len(texts):.1%}"
        )
        if theirs is not None:
            total = sum(theirs["seconds"].values())
            passed = theirs["dropped"].count("") / len(texts)
            row |= {
                "datatrove_seconds": total,
                "datatrove_seconds_by_filter": theirs["seconds"],
                "datatrove_megabytes_per_second": megabytes / total,
                "datatrove_kept": passed,
                "ratio": total / seconds,
            }
            line += (
                f"; datatrove {total:.1f} CPU-s, {megabytes / total:.2f} MB/s, "
                f"{len(texts) / total:.1f} documents/s, kept {passed:.1%}; "
                f"{total / seconds:.0f} times (target {TARGET})"
            )
        print(line)
        figures[source] = row
    return figures


def pipeline(args: argparse.Namespace) -> dict[str, Any]:
    """Measures a whole build beside datatrove's filters and MinHash, by source."""
    from dedup import their_seconds

    figures: dict[str, Any] = {}
    for source in SOURCES:
        chosen = records(args.data, source, args.documents)
        texts = [record["text"] for record in chosen]
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        rows: dict[str, Any] = {"documents": len(texts), "megabytes": megabytes}
        theirs = None
        if (filtered := datatrove(args.datatrove_python, texts)) is not None:
            stages = their_seconds(args.datatrove_python, texts)
            theirs = sum(filtered["seconds"].values()) + sum(stages.values())
            rows["datatrove_seconds"] = theirs
            print(f"{source}: datatrove {theirs:.1f} CPU-s, {megabytes / theirs:.2f} MB/s")
        for kind, config in _BUILDS.items():
            seconds, manifest = _build(chosen, config)
            by_step = manifest["run"]["cpu_seconds"]
            kept = manifest["counts"]["documents"] / len(texts)
            rows[kind] = {"seconds": seconds, "seconds_by_step": by_step, "kept": kept}
            line = (
                f"{source}: {len(texts):,} documents, {megabytes:.1f} MB; ours ({kind}) "
                f"{seconds:.1f} CPU-s, {seconds - sum(by_step.values()):.1f} of it start-up, "
                f"{megabytes / seconds:.2f} MB/s, kept {kept:.1%}"
            )
            if theirs is not None:
                rows[kind]["ratio"] = theirs / seconds
                line += f"; {theirs / seconds:.0f} times datatrove (target {TARGET})"
            print(line)
        figures[source] = rows
    return figures


def _build(chosen: Sequence[dict[str, Any]], config: str) -> tuple[float, dict[str, Any]]:
    """Returns the CPU seconds of a build in one process, the median of three, and its manifest."""
    with tempfile.TemporaryDirectory(prefix="twjax-pipeline-") as name:
        folder = pathlib.Path(name)
        with (folder / "in.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in chosen)
        (folder / "build.gin").write_text(config, encoding="utf-8")
        command = [sys.executable, "-m", "twjax", "corpus", "build", str(folder / "build.gin")]
        command += ["--set", f"Corpus.inputs = ({str(folder / 'in.jsonl')!r},)"]
        command += ["--output", str(folder / "out"), "--fresh", "--workers", "1"]
        seconds = statistics.median(_children(command) for _ in range(3))
        manifest = json.loads((folder / "out/manifest.json").read_text(encoding="utf-8"))
    return seconds, manifest


def _children(command: Sequence[str]) -> float:
    """Runs a command; returns the CPU seconds of it and all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return work(), time.process_time() - start


def datatrove(python: str | None, texts: Sequence[str]) -> dict[str, Any] | None:
    """Runs datatrove's filters in their own interpreter; None without one."""
    if not python:
        return None
    with tempfile.TemporaryDirectory(prefix="twjax-corpus-") as folder:
        path = pathlib.Path(folder) / "documents.jsonl"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        script = pathlib.Path(__file__).with_name("corpus_datatrove.py")
        done = subprocess.run([python, script, path], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{python} {script.name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "filters": filters,
    "pipeline": pipeline,
}


if __name__ == "__main__":
    sys.exit(main())
