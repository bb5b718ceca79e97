"""What a run looks at while it trains: held-out scores, prompts continued, and its suite."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Collection
from typing import Any

import jax

from twjax.config import Run
from twjax.data.loader import evaluation_batches
from twjax.data.rows import RowReader
from twjax.evaluation.batching import NotANumber
from twjax.evaluation.continuation import continue_prompts, prompt_ids
from twjax.evaluation.generate import require_positions
from twjax.evaluation.likelihood import Evaluator, HeldOut, text_bytes
from twjax.evaluation.localisation import measure
from twjax.evaluation.sampling import Sampling
from twjax.evaluation.suite import SuiteScores
from twjax.models.encdec import EncoderDecoder
from twjax.models.network import AnyNetwork
from twjax.parallel.sharding import batch_sharding, batch_shards
from twjax.progress import say
from twjax.storage import atomic_writer
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

# Rows that one evaluation batch gives each device, at most; a training step may have fewer.
ROWS_A_DEVICE = 8


class Watch:
    """Scores by task, and samples written to `run_dir`/samples; everything is opened and checked
    when it is made.

    `vocabulary` is the sha256 of the vocabulary that the run is trained with. `end_ids` tells which
    ids end a text beside EOS; it is asked at each look, when what came with an imported model is in
    the run's folder.
    """

    def __init__(
        self,
        run: Run,
        network: AnyNetwork,
        mesh: jax.sharding.Mesh,
        vocabulary: str,
        *,
        run_dir: pathlib.Path,
        config: str,
        end_ids: Callable[[], Collection[int]] = tuple,
    ):
        self._run, self._network, self._mesh, self._run_dir = run, network, mesh, run_dir
        self._end_ids = end_ids
        self._scores, readers = open_scores(
            run, network, mesh, vocabulary=vocabulary, config_name=config
        )
        self.caches = {
            f"{task}/{run.evaluation.split}": reader.info.fingerprint
            for task, reader in readers.items()
        }
        self._model = self._suite = None
        evaluation = run.evaluation
        if evaluation.prompts or evaluation.suite is not None:
            self._model = open_vocabulary(run.data.vocabulary, run, vocabulary)
        if self._model is not None and evaluation.prompts:
            both = isinstance(network, EncoderDecoder)
            rows = [prompt_ids(self._model, prompt, both=both) for prompt in evaluation.prompts]
            require_positions(network, rows, evaluation.sample_tokens)
        if self._model is not None and evaluation.suite is not None:
            self._suite = SuiteScores(
                run, network, mesh, evaluation.suite, self._model, end_ids=end_ids
            )
        keys = {("eval", task) for task in evaluation.tasks}
        keys |= {("writing", "samples")} if evaluation.prompts else set()
        self.keys = frozenset(keys | (self._suite.keys if self._suite else set()))

    def __call__(self, params: Any, step: int) -> list[dict[str, Any]]:
        """Returns one record a task, and those of samples and suite, which say their "kind".

        Where a likelihood isn't a number, the records say so: if the weights are to blame, the next
        step's loss ends the run.
        """
        others = []
        if self._model is not None and self._run.evaluation.prompts:
            others.append(self._sample(params, step, self._model))
        if self._suite is not None:
            try:
                others += self._suite(params, step)
            except NotANumber as error:
                others += error.records
                if jax.process_index() == 0:
                    say(f"step {step}: {error}")
        return self._scores(params, step) + others

    def _sample(self, params: Any, step: int, model: Tokenizer) -> dict[str, Any]:
        """Writes what the model says after each prompt; returns how Taiwanese it is."""
        evaluation = self._run.evaluation
        texts = continue_prompts(
            self._run,
            self._network,
            params,
            evaluation.prompts,
            model,
            mesh=self._mesh,
            tokens=evaluation.sample_tokens,
            sampling=Sampling(temperature=evaluation.temperature, seed=self._run.seed),
            end_ids=self._end_ids(),
        )
        if jax.process_index() == 0:
            with atomic_writer(self._run_dir / "samples" / f"{step}.jsonl") as file:
                for prompt, text in zip(evaluation.prompts, texts, strict=True):
                    line = {"step": step, "prompt": prompt, "text": text}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return measure(texts).record(step, "samples")


def open_scores(
    run: Run,
    network: AnyNetwork,
    mesh: jax.sharding.Mesh,
    *,
    vocabulary: str | None = None,
    config_name: str = "CONFIG",
) -> tuple[Evaluator, dict[str, RowReader]]:
    """Opens and checks the held-out rows of `run.evaluation`.

    Raises one ValueError with all that is wrong. With `vocabulary` (a sha256) rows that another
    one made are refused: their ids mean other text.
    """
    shards = batch_shards(mesh)
    step_rows = run.data.batch_size // (shards * run.step.accumulation)
    size = shards * max(1, min(ROWS_A_DEVICE, step_rows))
    tasks, readers, problems = {}, {}, []
    for name in run.evaluation.tasks:
        try:
            reader = RowReader(
                run.data.cache, name, run.evaluation.split, run.data.seq_len, config=config_name
            )
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        readers[name] = reader
        problems += reader.problems(run.data.vocabulary)
        made_by = reader.info.vocabulary
        if made_by["size"] > run.model.vocab_size or vocabulary not in (None, made_by["sha256"]):
            problems.append(
                f"{reader.path}: the held-out rows of {name} were made with another vocabulary "
                f"({made_by['size']} ids, sha256 {made_by['sha256'][:12]}…) than the model's "
                f"({run.model.vocab_size} ids, sha256 {(vocabulary or '?')[:12]}…)"
            )
        rows = min(run.evaluation.rows or len(reader), len(reader))
        if rows == 0:
            problems.append(f"{reader.path}: {name} has no held-out rows")
        elif not problems:
            tasks[name] = HeldOut(
                batches=_batches(reader, rows, size, mesh),
                num_batches=-(-rows // size),
                rows=rows,
                text_bytes=_text_bytes(reader, rows),
            )
    if problems:
        raise ValueError(" | ".join(dict.fromkeys(problems)))
    return Evaluator(run, network, mesh, tasks), readers


def open_vocabulary(path: str, run: Run, sha256: str | None = None) -> Tokenizer:
    """Opens the model's vocabulary; raises ValueError for another one."""
    model = load_vocabulary(path)
    # The model may have more rows than its vocabulary has ids; they stand for nothing.
    if model.vocab_size > run.model.vocab_size or sha256 not in (None, model.sha256):
        raise ValueError(
            f"{path}: is not the vocabulary that the model was trained with ({model.vocab_size} "
            f"ids, sha256 {model.sha256[:12]}…; the model has {run.model.vocab_size}, sha256 "
            f"{(sha256 or '?')[:12]}…)."
        )
    return model


def _batches(reader: RowReader, rows: int, size: int, mesh: jax.sharding.Mesh) -> Callable[[], Any]:
    return lambda: evaluation_batches(reader, batch_sharding(mesh), size, rows=rows)


def _text_bytes(reader: RowReader, rows: int) -> int:
    total = 0
    for first in range(0, rows, 1024):
        part = reader.read(range(first, min(first + 1024, rows)))
        predicted = part["targets"] if "targets" in part else part["tokens"]
        total += text_bytes(predicted, part["loss_weights"], reader.token_bytes)
    return total
