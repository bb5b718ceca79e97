"""`twjax eval RUN --generate TASK`: what a checkpoint writes, judged by SeqIO's evaluator."""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

_EXAMPLES = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "generation tasks",
        "SeqIO tasks with metrics of generated text. SeqIO and its metrics run in a process of "
        "their own.",
    )
    group.add_argument(
        "--generate", metavar="TASK[,TASK…]", help="answer the examples of these tasks, greedily"
    )
    group.add_argument(
        "--import", dest="imports", action="append", metavar="MODULE",
        help="module that registers the tasks; may be repeated (default: those that the "
        "configuration imports, and tasks.supervised)",
    )  # fmt: skip
    group.add_argument(
        "--examples", default=str(_EXAMPLES), metavar="N",
        help=f"the first N examples of a task, or 'all' (default: {_EXAMPLES})",
    )  # fmt: skip
    group.add_argument(
        "--tokens", type=int, metavar="N",
        help="most new tokens of an answer (default: as many as the longest right answer has)",
    )  # fmt: skip
    group.add_argument(
        "--answers", type=pathlib.Path, metavar="FILE",
        help="write prompts, answers and right answers to this file, a line each",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    tasks = [name for name in args.generate.split(",") if name]
    if not tasks:
        raise ValueError("--generate names no task.")
    count = None if args.examples == "all" else _positive("--examples", args.examples)
    if args.follow or args.suite:
        raise ValueError("--generate stands alone: leave out --follow and --suite.")
    if args.tokens is not None:
        _positive("--tokens", args.tokens)
    from twjax.parallel import distributed

    distributed.initialize()
    import jax

    from twjax.config import Run, load
    from twjax.data.task_process import TaskProcess
    from twjax.evaluation import follow
    from twjax.evaluation.watch import open_vocabulary
    from twjax.models.network import network as declare
    from twjax.parallel.mesh import mesh_here
    from twjax.progress import say
    from twjax.storage import atomic_writer, write_json
    from twjax.training.source import CONFIG_FILE, Source

    source = Source.open(args.run_dir, args.step)
    if args.weights == "ema":
        source.require_average()
    if args.record and (source.imported or args.weights != "last"):
        raise ValueError(
            "--record is for a run's own weights, whose scores RUN/evaluations.jsonl has; write "
            "others with --json."
        )
    settings, imports = source.run, ()
    if args.config or source.imported is None:
        loaded = load(Run, [args.config or source.directory / CONFIG_FILE])
        settings, imports = loaded.value, loaded.imports
    imports = args.imports or list(dict.fromkeys((*imports, "tasks.supervised")))
    model = open_vocabulary(source.run.data.vocabulary, source.run, source.vocabulary)
    network, mesh = declare(source.run.model), mesh_here(settings.mesh)
    length = settings.data.seq_len
    inputs, targets = (length, length) if isinstance(length, int) else length
    records, answers = [], []
    with TaskProcess() as process, jax.set_mesh(mesh):
        params = None
        for task in tasks:
            say(f"{task}: reading examples")
            examples, cut_short = process.examples(
                task,
                split=settings.evaluation.split,
                vocabulary=source.run.data.vocabulary,
                imports=imports,
                sequence_length={"inputs": inputs, "targets": targets},
                count=count,
            )
            if params is None:
                params = source.params(network, mesh, args.weights)
            said = _answered(args, source, network, params, mesh, model, task, examples)
            metrics, texts = process.metrics(said)
            records.append(
                {
                    "kind": "generation",
                    "step": source.step,
                    "task": task,
                    "examples": len(examples),
                    "metrics": metrics,
                }
            )
            for example, text in zip(examples, texts, strict=True):
                shown = {"prompt": example["prompt"], "said": text, "right": example["answer"]}
                answers.append({"task": task, "step": source.step, **shown})
            if jax.process_index() == 0:
                _show(records[-1], cut_short, inputs)
    if args.record:
        follow.record(source.directory, source.step, records)
    if jax.process_index() != 0:
        return 0
    if args.answers:
        with atomic_writer(args.answers) as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in answers)
    if args.json:
        write_json(args.json, {"run": str(args.run_dir), "step": source.step, "scores": records})
    return 0


def _positive(name: str, value: Any) -> int:
    if not str(value).isdigit() or int(value) < 1:
        raise ValueError(f"{name} ({value}) must be a number, at least 1.")
    return int(value)


def _answered(
    args: argparse.Namespace,
    source: Any,
    network: Any,
    params: Any,
    mesh: Any,
    model: Any,
    task: str,
    examples: Sequence[dict[str, Any]],
) -> list[list[int]]:
    """Returns the ids that the network adds to each example's inputs."""
    from twjax.evaluation.answers import answer
    from twjax.huggingface.carry import end_ids

    said = answer(
        source.run,
        network,
        params,
        [example["inputs"] for example in examples],
        mesh=mesh,
        tokens=args.tokens or max(len(example["targets"]) for example in examples),
        eos_ids={model.eos_id, *end_ids(source.directory)},
        name=f"{task}: answers",
    )
    # Rows of the model beyond the vocabulary stand for no text.
    return [[id for id in ids if id < model.vocab_size] for ids in said]


def _show(record: dict[str, Any], cut_short: int, room: int) -> None:
    scores = "  ".join(
        f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in record["metrics"].items()
    )
    print(f"{record['task']} at step {record['step']}: {record['examples']:,} examples  {scores}")
    if cut_short:
        print(
            f"{record['task']}: {cut_short:,} questions are longer than {room:,} tokens (Data."
            "seq_len) and lost their end"
        )
