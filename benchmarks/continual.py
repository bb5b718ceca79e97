"""What continual pretraining learns and forgets: four ways to go on, at equal tokens.

    python benchmarks/continual.py --data DIR [--work DIR] [--seeds N] [--json FILE]

DIR holds `.jsonl.gz` files with "text" (Taiwan's, English ones and Chinese of China). A small base
is trained on English and Chinese of China. Then each seed goes on from it with Taiwan's texts
alone; with a fixed share of replay; with replay that a forgetting budget steers; and with the fixed
share and the loss KL(base || model) on the replayed rows. All read as many tokens, in the same
number of steps. Bits per byte are those of held-out documents: Taiwan's of each kind, and of the
protected domains. WORK keeps what is made, and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

import prepare

from twjax import storage

TAIWAN = {
    "tw_laws": ("tw_laws_zh",),
    "tw_speech": ("tw_transcripts_cc0",),
    "tw_articles": ("taiwan_md_zh", "cofacts_replies"),
}
# Protected domains, each renewed by the task of its own training text.
GENERAL = {
    "en_books": ("gutenberg_pp_en", "gutenberg_sh_en"),
    "en_docs": ("pydocs_en", "react_en", "rustbook_en"),
    "cn_docs": ("pydocs_zhCN", "tidb_zhCN", "vue_zhCN", "react_zhCN", "rustbook_zhCN"),
}
SEQ, ROWS = 256, 8

RUN = (
    prepare.RUN
    + """
Run.log_every = 50
Model.vocab_size = {ids}
Model.num_layers = 4
Model.embed_dim = 128
Model.num_heads = 4
Model.num_kv_heads = 2
Model.head_dim = 32
Model.mlp_dim = 384
Data.cache = '{work}/cache'
Data.vocabulary = '{work}/vocabulary.model'
Data.corpora = {corpora!r}
Data.held_out = {held_out!r}
Data.validation = 0.0
Data.mixture = @Mixture()
Data.seq_len = {seq}
Data.batch_size = {rows}
Mixture.max_epochs = None
Step.loss_chunks = 4
Evaluation.rows = 32
Evaluation.tasks = {held_out!r}
Checkpoint.every = 10_000
"""
)
BASE = """
include '{common}'
Run.steps = {steps}
Run.seed = {seed}
Mixture.seed = {seed}
Mixture.stages = ((0, {stage!r}),)
Evaluation.every = 10_000
Schedule.kind = 'cosine'
Schedule.peak = 4e-3
Schedule.warmup_steps = 40
"""
# Re-warmed slowly: what is known falls most while the rate rises.
WAY = """
include '{common}'
Run.init = 'run:{base}'
Run.steps = {steps}
Mixture.seed = {seed}
Mixture.stages = ((0, {stage!r}),)
Evaluation.every = {every}
Schedule.kind = 'cosine'
Schedule.start = 'source'
Schedule.peak = {peak}
Schedule.warmup_steps = {warmup}
{more}
"""
BUDGET = """
Run.budget = @Budget()
Budget.allowed = {allowed!r}
Budget.replay = {replay!r}
Budget.most = {most}
"""
KL = """
Run.distillation = @Distillation()
Distillation.tasks = {tasks!r}
Distillation.weight = 1.0
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, help="default: a folder that is deleted")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--every", type=int, default=25, help="steps between evaluations")
    parser.add_argument("--share", type=float, default=0.3, help="of replay, where it is fixed")
    parser.add_argument("--most", type=float, default=0.7, help="of steered replay, and at first")
    parser.add_argument("--peak", type=float, default=1.5e-3, help="learning rate after re-warming")
    parser.add_argument("--warmup", type=int, default=80, help="steps of the re-warm-up")
    parser.add_argument("--allowed", type=float, default=0.15, help="rise in bits per byte")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="twjax-continual-") as temporary:
        work = (args.work or pathlib.Path(temporary)).absolute()
        figures = measure(args, work)
    figures["minutes"] = (time.monotonic() - began) / 60
    show(args, figures)
    prepare.save(figures, args.json)
    return 0


def measure(args: argparse.Namespace, work: pathlib.Path) -> dict[str, Any]:
    """Trains all runs; returns bits per byte by way, seed, step and domain."""
    common = prepare_texts(args.data, work)
    bases = {seed: base(args, work, common, seed) for seed in range(args.seeds)}
    ways = {
        (way, seed): write(args, work, common, way, seed)
        for seed in range(args.seeds)
        for way in ("taiwan", "fixed", "steered", "kl")
    }
    prepare.twjax("tasks", "cache", ways["fixed", 0])
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(work / "compiled"))
    train(bases, ways)
    runs = {}
    for (way, seed), path in ways.items():
        scores: dict[int, dict[str, float]] = {}
        for record in storage.read_json_lines(work / "runs" / path.stem / "metrics.jsonl"):
            if record["kind"] == "eval":
                task = record["task"].removesuffix("_test")
                scores.setdefault(record["step"], {})[task] = record["bits_per_byte"]
        ledger = storage.read_json_lines(work / "runs" / path.stem / "ledger.jsonl")
        shares = {e["step"]: e["shares"] for e in ledger if e["event"] == "budget"}
        runs.setdefault(way, []).append({"seed": seed, "scores": scores, "shares": shares})
    return {"runs": runs}


def prepare_texts(data: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """Makes corpora and a vocabulary; returns the configuration that all runs include."""
    corpora = {}
    for name, files in (TAIWAN | GENERAL).items():
        for test in (False, True):
            key = f"{name}_test" if test else name
            folder = prepare.write_corpus(work / "corpora" / key, data, files, test)
            corpora[key] = str(folder)
    texts = [work / "corpora" / name for name in TAIWAN | GENERAL]
    vocabulary = prepare.train_vocabulary(texts, work)
    if not (work / "vocabulary.model").exists():
        vocabulary.rename(work / "vocabulary.model")
    common = work / "common.gin"
    settings = {
        "work": work,
        "ids": storage_size(work / "vocabulary.model"),
        "corpora": corpora,
        "held_out": tuple(f"{name}_test" for name in TAIWAN | GENERAL),
        "seq": SEQ,
        "rows": ROWS,
    }
    common.write_text(RUN.format(**settings))
    return common


def storage_size(vocabulary: pathlib.Path) -> int:
    """Returns the number of ids of a vocabulary."""
    from twjax.vocab.tokenizer_load import load_vocabulary

    return load_vocabulary(vocabulary).vocab_size


def base(args: argparse.Namespace, work: pathlib.Path, common: pathlib.Path, seed: int):
    """Writes the configuration of a base: half English, half Chinese."""
    path = work / f"base{seed}.gin"
    stage = {"en_books": 0.25, "en_docs": 0.25, "cn_docs": 0.5}
    path.write_text(BASE.format(common=common, steps=args.base_steps, seed=seed, stage=stage))
    return path


def write(
    args: argparse.Namespace, work: pathlib.Path, common: pathlib.Path, way: str, seed: int
) -> pathlib.Path:
    """Writes the configuration of one way to go on."""
    replayed = {"taiwan": 0.0, "steered": args.most}.get(way, args.share)
    stage = {name: (1 - replayed) / len(TAIWAN) for name in TAIWAN}
    if replayed:
        stage |= {name: replayed / len(GENERAL) for name in GENERAL}
    more = ""
    if way == "steered":
        allowed = {f"{name}_test": args.allowed for name in GENERAL}
        replay = {f"{name}_test": name for name in GENERAL}
        more = BUDGET.format(allowed=allowed, replay=replay, most=args.most)
    elif way == "kl":
        more = KL.format(tasks=tuple(GENERAL))
    path = work / f"{way}{seed}.gin"
    about = {"common": common, "base": work / "runs" / f"base{seed}", "stage": stage}
    about |= {"steps": args.steps, "every": args.every, "seed": seed, "more": more}
    about |= {"peak": args.peak, "warmup": args.warmup}
    path.write_text(WAY.format(**about))
    return path


def train(bases: dict[int, pathlib.Path], ways: dict[tuple[str, int], pathlib.Path]) -> None:
    """Trains bases, then what goes on from them, one a core: small models gain little from two."""
    free = sorted(os.sched_getaffinity(0))

    def run(path: pathlib.Path, base: concurrent.futures.Future[None] | None) -> None:
        if base:
            base.result()
        core = free.pop()
        began = time.monotonic()
        prepare.twjax("train", path, "--run-dir", path.parent / "runs" / path.stem, core=core)
        free.append(core)
        print(f"{path.stem}: {time.monotonic() - began:.0f} s", flush=True)

    with concurrent.futures.ThreadPoolExecutor(len(free)) as pool:
        ready = {seed: pool.submit(run, path, None) for seed, path in bases.items()}
        going = [pool.submit(run, path, ready[seed]) for (_, seed), path in ways.items()]
        for done in (*ready.values(), *going):
            done.result()


def gain(run: dict[str, Any]) -> float:
    """Returns the bits per byte by which Taiwan's domains fell, on average."""
    first, last = run["scores"][min(run["scores"])], run["scores"][max(run["scores"])]
    return statistics.mean(first[name] - last[name] for name in TAIWAN)


def rises(run: dict[str, Any], step: int | None = None) -> dict[str, float]:
    """Returns the rise of each protected domain at a step, by default the last."""
    first = run["scores"][min(run["scores"])]
    now = run["scores"][max(run["scores"]) if step is None else step]
    return {name: now[name] - first[name] for name in GENERAL}


def show(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Prints the table, and adds it to the figures."""
    runs, table = figures["runs"], {}
    full = [gain(run) for run in runs["taiwan"]]
    print(
        f"\n{args.seeds} seeds, {args.steps} steps of {ROWS * SEQ:,} tokens; allowed rise "
        f"{args.allowed} bits per byte; {figures['minutes']:.0f} min\n"
        f"{'way':9} {'gain':>14} {'of no replay':>13} {'worst rise at the end':>22} "
        f"{'worst rise ever':>16} {'replay':>7}"
    )
    for way, of_way in runs.items():
        gains = [gain(run) for run in of_way]
        kept = [mine / whole for mine, whole in zip(gains, full, strict=True)]
        ends = [max(rises(run).values()) for run in of_way]
        peaks = [
            max(max(rises(run, step).values()) for step in run["scores"] if step) for run in of_way
        ]
        replayed = [
            statistics.mean(sum(s.values()) for s in run["shares"].values())
            if run["shares"]
            else (0.0 if way == "taiwan" else args.share)
            for run in of_way
        ]
        table[way] = {
            "gain": gains,
            "of_no_replay": kept,
            "worst_rise_at_the_end": ends,
            "worst_rise": peaks,
            "rises": [rises(run) for run in of_way],
            "replay": replayed,
        }
        print(
            f"{way:9} {_spread(gains):>14} {statistics.mean(kept):>13.1%} {_spread(ends):>22} "
            f"{_spread(peaks):>16} {statistics.mean(replayed):>7.1%}"
        )
    figures["table"] = table


def _spread(values: list[float]) -> str:
    error = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):+.3f} ±{error:.3f}"


if __name__ == "__main__":
    sys.exit(main())
