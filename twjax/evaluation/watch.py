"""What a run looks at while it trains: held-out scores, and prompts continued."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from twjax.config import Run
from twjax.data.loader import evaluation_batches
from twjax.data.rows import RowReader
from twjax.evaluation.generate import generate
from twjax.evaluation.likelihood import Evaluator, HeldOut, text_bytes
from twjax.models.decoder import Network
from twjax.parallel.sharding import batch_sharding, batch_shards
from twjax.storage import atomic_writer
from twjax.vocab.model import SentencePieceModel

# Rows that one evaluation batch gives each device.
ROWS_A_DEVICE = 8


def make_scores(
    run: Run, network: Network, mesh: jax.sharding.Mesh, *, config_name: str = "CONFIG"
) -> Evaluator:
    """Opens the held-out rows of `run.evaluation`; every problem is reported before training."""
    size = ROWS_A_DEVICE * batch_shards(mesh)
    tasks = {}
    for name in run.evaluation.tasks:
        reader = RowReader(
            run.data.cache, name, run.evaluation.split, run.data.seq_len, config=config_name
        )
        reader.verify(run.data.vocabulary)
        if reader.info.vocabulary["size"] != run.model.vocab_size:
            raise ValueError(
                f"Evaluation.tasks: the rows of {name} ({reader.path}) were made with a vocabulary "
                f"of {reader.info.vocabulary['size']} ids; the model has {run.model.vocab_size}."
            )
        rows = min(run.evaluation.rows or len(reader), len(reader))
        if rows == 0:
            raise ValueError(f"Evaluation.tasks: {name} has no held-out rows ({reader.path}).")
        tasks[name] = HeldOut(
            batches=_batches(reader, rows, size, mesh),
            num_batches=-(-rows // size),
            rows=rows,
            text_bytes=_text_bytes(reader, rows),
        )
    return Evaluator(run, network, mesh, tasks)


def make_evaluate(
    run: Run, network: Network, mesh: jax.sharding.Mesh, *, run_dir: pathlib.Path, config: str
) -> Callable[[Any, int], list[dict[str, Any]]]:
    """Returns what the loop calls: scores by task, and samples written to `run_dir`/samples."""
    scores = make_scores(run, network, mesh, config_name=config)

    def evaluate(params: Any, step: int) -> list[dict[str, Any]]:
        records = scores(params, step)
        if run.evaluation.prompts:
            prompts = run.evaluation.prompts
            texts = continue_prompts(
                run,
                network,
                params,
                prompts,
                mesh=mesh,
                tokens=run.evaluation.sample_tokens,
                temperature=run.evaluation.temperature,
                seed=run.seed,
            )
            if jax.process_index() == 0:
                with atomic_writer(run_dir / "samples" / f"{step}.jsonl") as file:
                    for prompt, text in zip(prompts, texts, strict=True):
                        line = {"step": step, "prompt": prompt, "text": text}
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return records

    return evaluate


def continue_prompts(
    run: Run,
    network: Network,
    params: Any,
    prompts: Sequence[str],
    *,
    mesh: jax.sharding.Mesh,
    tokens: int,
    temperature: float,
    seed: int,
    vocabulary: str | None = None,
) -> list[str]:
    """Returns the text that the model adds to each prompt."""
    model = SentencePieceModel(vocabulary or run.data.vocabulary)
    if model.vocab_size != run.model.vocab_size:
        raise ValueError(
            f"{vocabulary or run.data.vocabulary}: has {model.vocab_size} ids, but the model was "
            f"trained with {run.model.vocab_size}."
        )
    ids = generate(
        network,
        params,
        [[model.bos_id, *model.encode(prompt)] for prompt in prompts],
        tokens=tokens,
        mesh=mesh,
        temperature=temperature,
        eos_id=model.eos_id,
        seed=seed,
        dtype=run.step.dtype,
    )
    return [model.decode(new) for new in ids]


def _batches(reader: RowReader, rows: int, size: int, mesh: jax.sharding.Mesh) -> Callable[[], Any]:
    return lambda: evaluation_batches(reader, batch_sharding(mesh), size, rows=rows)


def _text_bytes(reader: RowReader, rows: int) -> int:
    total = 0
    for first in range(0, rows, 1024):
        part = reader.read(range(first, min(first + 1024, rows)))
        total += text_bytes(part["tokens"], part["loss_weights"], reader.token_bytes)
    return total
