"""Bits-per-byte, loss and perplexity of held-out rows, task by task."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from twjax.config import Run
from twjax.models.attention import choose_attention
from twjax.models.network import AnyNetwork
from twjax.parallel.sharding import batch_sharding, replicated
from twjax.progress import Progress
from twjax.training.loss import Bend, LossSums, next_token_sums
from twjax.training.step import Batch, forward


class HeldOut(NamedTuple):
    """One task's held-out rows: `batches()` yields them in order, the same each time.

    The last batch is padded with rows of loss weight 0. `text_bytes` counts the UTF-8 bytes of
    text that the predicted tokens of all rows stand for; a sentinel of span corruption stands for
    none, so there it is the bytes of what was hidden.
    """

    batches: Callable[[], Iterator[Batch]]
    num_batches: int
    rows: int
    text_bytes: int


def text_bytes(tokens: np.ndarray, loss_weights: np.ndarray, token_bytes: np.ndarray) -> int:
    """Returns the UTF-8 bytes of the predicted tokens of rows [rows, seq]."""
    return int(np.sum(token_bytes[tokens].astype(np.int64) * (loss_weights > 0)))


class Evaluator:
    """Scores parameters on every held-out task; compiled once."""

    def __init__(
        self,
        run: Run,
        network: AnyNetwork,
        mesh: jax.sharding.Mesh,
        tasks: Mapping[str, HeldOut],
    ):
        self._tasks = tasks
        kind = choose_attention(run.step.attention, mesh.devices.flat[0].platform)

        def sums(params: Any, batch: Batch) -> LossSums:
            *arrays, ahead = forward(network, run, params, batch, kind)
            rows = next_token_sums(
                *arrays,
                ahead=ahead,
                vocab_size=run.model.vocab_size,
                bend=Bend.of(run.model),
                chunks=run.step.loss_chunks,
            )
            return jax.tree.map(jnp.sum, rows)

        self._sums = jax.jit(
            sums,
            in_shardings=(None, batch_sharding(mesh)),
            out_shardings=replicated(mesh),
        )

    @property
    def settings(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What the record of each (kind, task) will say of what is asked."""
        return {
            ("eval", name): {"rows": task.rows, "bytes": task.text_bytes}
            for name, task in self._tasks.items()
        }

    def __call__(self, params: Any, step: int) -> list[dict[str, Any]]:
        """Returns one record a task, in the tasks' order.

        `bits_per_byte` is the total negative log-likelihood in bits over the bytes of text, which
        compares models with different vocabularies; `loss` is in nats per token.
        """
        records = []
        total = sum(task.num_batches for task in self._tasks.values())
        with Progress(total, f"evaluate step {step}", "batch") as progress:
            for name, task in self._tasks.items():
                began = time.perf_counter()
                parts = []
                for batch in task.batches():
                    parts.append(self._sums(params, batch))
                    progress.update(1, name)
                # Sums of batches are added in float64 on the host.
                host = jax.device_get(parts)
                nll, weight, correct = (
                    float(np.sum([np.float64(getattr(part, field)) for part in host]))
                    for field in ("nll", "weight", "correct")
                )
                if weight == 0 or task.text_bytes == 0:
                    raise ValueError(f"task {name}: its held-out rows predict no text.")
                loss = nll / weight
                records.append(
                    {
                        "task": name,
                        "bits_per_byte": nll / math.log(2) / task.text_bytes,
                        "loss": loss,
                        "perplexity": math.exp(min(loss, 700.0)),
                        "accuracy": correct / weight,
                        "tokens": int(weight),
                        "bytes": task.text_bytes,
                        "rows": task.rows,
                        "seconds": time.perf_counter() - began,
                    }
                )
        return records
