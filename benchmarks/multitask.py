"""Four supervised tasks mixed into pretraining, beside the same tokens of text alone.

    python benchmarks/multitask.py --data DIR [--work DIR] [--seeds 0 1] [--json FILE]

DIR holds `.jsonl.gz` files: texts of Taiwan and China, and the records of the tasks. A decoder
(language modelling) and an encoder-decoder like mT5 (span corruption) are trained from random
weights twice each: on text alone, and with 1.5 % of the rows from each task. Steps, rows a step and
tokens a row are the same. Scored on held-out documents and on held-out examples of the tasks:
bits per byte of the targets, and what greedy decoding writes. No text that the tasks are made of
is among the documents. WORK keeps what is made, and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import prepare

from twjax import storage
from twjax.data.rows import RowReader, SeqLen
from twjax.data.text_metrics import character_f1, entity_f1
from twjax.data.translation_metrics import chrf
from twjax.evaluation.generate import generate
from twjax.models.network import network
from twjax.parallel.mesh import mesh_here
from twjax.training.source import Source
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

TEXTS = ("cofacts_replies", "moztw_cc0_zhTW", "rustbook_zhTW", "taiwan_md_zh", "tw_laws_zh",
         "tw_transcripts_cc0", "tidb_zhCN", "react_zhCN")  # fmt: skip
TASKS: dict[str, Callable[..., dict[str, float]]] = {
    "tw_pydocs_from_cn": chrf,
    "tw_mozilla_from_en": chrf,
    "tw_gsd_entities": entity_f1,
    "tw_taigi_reading": character_f1,
}
SHARE = 0.015
PIECES, SENTINELS = 6_144, 100
VALIDATION = 0.05
DECODED, LONGEST_ANSWER = 96, 48

MODELS: dict[str, tuple[str, SeqLen, str, int]] = {
    # Name: its settings, the length of its rows, the task of its documents, and how many times as
    # many rows it reads a step: an encoder-decoder predicts a quarter of a row only.
    "decoder": (
        """
Model.num_layers = 4
Model.num_heads = 4
Model.num_kv_heads = 2
Model.head_dim = 32
Model.tie_embeddings = True
""",
        256,
        "texts",
        1,
    ),
    "encdec": (
        """
Model.encoder_layers = 3
Model.num_layers = 3
Model.num_heads = 4
Model.num_kv_heads = 4
Model.head_dim = 32
Model.positions = 'relative'
Model.query_scale = 1.0
Model.norm_eps = 1e-6
Model.activation = 'gelu_tanh'
""",
        (256, 64),
        "texts_spans",
        2,
    ),
}

RUN = (
    """
import tasks.supervised
import multitask_spans
"""
    + prepare.RUN
    + """
Run.steps = {steps}
Run.seed = {seed}
Model.vocab_size = {ids}
Model.embed_dim = 128
Model.mlp_dim = 384
{model}
Data.cache = '{work}/cache'
Data.vocabulary = '{vocabulary}'
Data.corpora = {corpora!r}
Data.validation = {validation}
Data.mixture = @Mixture()
Data.seq_len = {length}
Data.batch_size = {rows}
Mixture.stages = ((0, {shares!r}),)
Mixture.seed = {seed}
Schedule.kind = 'wsd'
Schedule.peak = 3e-3
Schedule.warmup_steps = {warmup}
Schedule.decay_fraction = 0.2
Step.loss_chunks = 1
Evaluation.tasks = {tasks!r}
Evaluation.rows = 64
Evaluation.every = 10_000
Checkpoint.every = 100
"""
)

SPANS = """
from twjax.data.preprocessors import span_corruption
from twjax.data.sources import add_corpus
from twjax.data.vocabulary import features

add_corpus("texts_spans", {corpus!r}, [span_corruption], {validation},
           features("inputs", "targets", extra_ids={sentinels}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, help="default: a folder that is deleted")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--rows", type=int, default=8, help="of a step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    os.environ["TWJAX_RECORDS_DIR"] = str(args.data.absolute())
    with tempfile.TemporaryDirectory(prefix="twjax-multitask-") as temporary:
        work = (args.work or pathlib.Path(temporary)).absolute()
        found = measure(args, work)
    prepare.save(found, args.json)
    return 0


def measure(args: argparse.Namespace, work: pathlib.Path) -> dict[str, Any]:
    corpus = prepare.write_corpus(work / "texts", args.data, TEXTS, None)
    vocabulary = prepare_vocabulary(corpus, work)
    spans = {"corpus": str(corpus), "validation": VALIDATION, "sentinels": SENTINELS}
    (work / "multitask_spans.py").write_text(SPANS.format(**spans))
    inherited = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(work), inherited]))
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in args.seeds:
        for model in args.models:
            for kind in ("alone", "mixed"):
                found = one(args, work, vocabulary, model, kind, seed)
                runs.setdefault(f"{model}/{kind}", []).append(found)
                print(f"{model}/{kind}, seed {seed}: {json.dumps(found)}", flush=True)
    for model in args.models:
        print_table(model, runs[f"{model}/alone"], runs[f"{model}/mixed"])
    return {"steps": args.steps, "rows": args.rows, "share": SHARE, "runs": runs}


def prepare_vocabulary(corpus: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    output = work / "benchmark.model"
    if not output.exists():
        prepare.twjax(
            *("vocab", "train", "configs/corpora/quickstart_vocab.gin"),
            *("--set", f"Vocabulary.inputs = ({str(corpus)!r},)"),
            *("--set", f"Vocabulary.output = {str(output)!r}"),
            *("--set", f"Vocabulary.size = {PIECES}"),
        )
    return output


def one(
    args: argparse.Namespace,
    work: pathlib.Path,
    vocabulary: pathlib.Path,
    model: str,
    kind: str,
    seed: int,
) -> dict[str, Any]:
    """Trains one model, unless that is done, and returns its scores."""
    run_dir = work / "runs" / f"{model}_{kind}_{seed}_{args.steps}x{args.rows}"
    scores = run_dir / "multitask.json"
    if scores.exists():
        return storage.read_json(scores)
    settings, length, texts, times = MODELS[model]
    shares = dict.fromkeys(TASKS, SHARE) if kind == "mixed" else {}
    shares[texts] = 1 - sum(shares.values())
    config = work / f"{run_dir.name}.gin"
    config.write_text(
        RUN.format(
            steps=args.steps, warmup=min(30, args.steps), seed=seed, model=settings,
            length=length, rows=args.rows * times,
            ids=PIECES + (SENTINELS if model == "encdec" else 0),
            work=work, vocabulary=vocabulary, validation=VALIDATION, shares=shares,
            corpora={"texts": str(work / "texts")} if model == "decoder" else {},
            tasks=(texts, *TASKS),
        )
    )  # fmt: skip
    began = time.perf_counter()
    prepare.twjax("tasks", "cache", config)
    cached = time.perf_counter()
    prepare.twjax("train", config, "--run-dir", run_dir)
    found: dict[str, Any] = {
        "cache_seconds": cached - began,
        "train_seconds": time.perf_counter() - cached,
        "bits_per_byte": {},
        "parameters": None,
        "decoded": {},
    }
    records = storage.read_json_lines(run_dir / "metrics.jsonl")
    for record in records:
        if record["kind"] == "eval" and record["step"] == args.steps:
            name = "texts" if record["task"] == texts else record["task"]
            found["bits_per_byte"][name] = record["bits_per_byte"]
    source = Source.open(run_dir)
    net, mesh = network(source.run.model), mesh_here(source.run.mesh)
    with jax.set_mesh(mesh):
        params = source.params(net, mesh)
        found["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(params))
        tokenizer = load_vocabulary(vocabulary)
        for task, metric in TASKS.items():
            pairs = list(held_out(RowReader(work / "cache", task, "validation", length)))
            pairs = [pair for pair in pairs if len(pair[1]) <= LONGEST_ANSWER][:DECODED]
            found["decoded"][task] = decoded(net, params, mesh, tokenizer, pairs, metric)
    found["decode_seconds"] = (
        time.perf_counter()
        - began
        - sum(found[name] for name in ("cache_seconds", "train_seconds"))
    )
    storage.write_json(scores, found)
    return found


def held_out(reader: RowReader) -> Iterator[tuple[list[int], list[int]]]:
    """Yields the ids of each held-out example's inputs and targets, as they were cached."""
    rows = reader.read(range(len(reader)))
    both = "inputs" in rows
    for number in range(len(reader)):
        if both:
            sides = [(rows[s][number], rows[f"{s}_segment_ids"][number])
                     for s in ("inputs", "targets")]  # fmt: skip
        else:
            tokens, segments = rows["tokens"][number], rows["segment_ids"][number]
            answers = rows["loss_weights"][number] > 0
            sides = [(tokens, np.where(which, segments, 0)) for which in (~answers, answers)]
        for segment in range(1, int(sides[0][1].max()) + 1):
            inputs, targets = (ids[of == segment].tolist() for ids, of in sides)
            if inputs and targets:
                yield inputs, targets


def decoded(
    net: Any,
    params: Any,
    mesh: jax.sharding.Mesh,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[list[int], list[int]]],
    metric: Callable[..., dict[str, float]],
) -> dict[str, Any]:
    """Returns a metric of what greedy decoding answers, and the first answers."""
    answers = generate(
        net, params, [inputs for inputs, _ in pairs], tokens=LONGEST_ANSWER, mesh=mesh,
        eos_ids=(tokenizer.eos_id,),
    )  # fmt: skip
    # An encoder-decoder may write sentinels, which aren't text.
    said = [tokenizer.decode([i for i in ids if i < tokenizer.vocab_size]) for ids in answers]
    right = [
        tokenizer.decode([i for i in targets if i != tokenizer.eos_id]) for _, targets in pairs
    ]
    found: dict[str, Any] = dict(metric([[text] for text in right], said))
    found["examples"] = len(pairs)
    found["ended"] = float(np.mean([len(ids) < LONGEST_ANSWER for ids in answers]))
    found["first"] = [
        {"right": text, "said": answer} for text, answer in zip(right[:4], said[:4], strict=True)
    ]
    return found


def print_table(
    model: str, alone: Sequence[dict[str, Any]], mixed: Sequence[dict[str, Any]]
) -> None:
    parameters = alone[0]["parameters"]
    print(f"\n{model}, {parameters / 1e6:.1f} M parameters, mean of {len(alone)} seeds")
    print(f"{'':20} {'bits/byte alone':>16} {'mixed':>7} {'change':>8}   greedy: alone, mixed")
    for name in ("texts", *TASKS):
        a, b = ([r["bits_per_byte"][name] for r in runs] for runs in (alone, mixed))
        line = f"{name:20} {statistics.mean(a):>16.3f} {statistics.mean(b):>7.3f} "
        line += f"{statistics.mean(b) / statistics.mean(a) - 1:>+8.1%}"
        if name in TASKS:
            metric = next(iter(alone[0]["decoded"][name]))
            a, b = ([r["decoded"][name][metric] for r in runs] for runs in (alone, mixed))
            line += f"   {metric} {statistics.mean(a):.1f}, {statistics.mean(b):.1f}"
        print(line)


if __name__ == "__main__":
    sys.exit(main())
