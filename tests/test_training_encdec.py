"""An encoder-decoder from documents to text: spans cached, trained, resumed, scored, continued."""

from __future__ import annotations

import pathlib
import textwrap

import numpy as np
import pytest

from tests import data_side, tiny
from twjax.data.rows import RowReader

INPUTS, TARGETS = 96, 32

TASKS = """
from twjax.data.preprocessors import span_corruption
from twjax.data.sources import add_corpus
from twjax.data.vocabulary import features

add_corpus(
    "spans",
    "{corpus}",
    [span_corruption],
    output_features=features("inputs", "targets", extra_ids=20),
)
"""

CONFIG = """
import {tasks}
Run.model = @Model()
Run.data = @Data()
Run.mesh = @Mesh()
Run.optimizer = @Optimizer()
Run.schedule = @Schedule()
Run.step = @Step()
Run.checkpoint = @Checkpoint()
Run.evaluation = @Evaluation()
Run.steps = 40
Run.log_every = 10
Model.vocab_size = 720
Model.encoder_layers = 2
Model.num_layers = 2
Model.embed_dim = 32
Model.num_heads = 4
Model.num_kv_heads = 4
Model.head_dim = 8
Model.mlp_dim = 64
Model.positions = 'relative'
Model.query_scale = 1.0
Model.activation = 'gelu_tanh'
Data.cache = '{folder}/cache'
Data.vocabulary = '{vocabulary}'
Data.mixture = @Mixture()
Data.seq_len = ({inputs}, {targets})
Data.batch_size = 8
Mixture.stages = ((0, {{'spans': 1.0}}),)
Mixture.max_epochs = None
Schedule.kind = 'constant'
Schedule.peak = 5e-3
Schedule.warmup_steps = 4
Step.dtype = 'float32'
Step.remat = 'none'
Step.loss_chunks = 2
Checkpoint.every = 10
Evaluation.tasks = ('spans',)
Evaluation.every = 20
Evaluation.rows = 16
Evaluation.prompts = ('第一條',)
Evaluation.sample_tokens = 8
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """A configuration, its task and its cached rows."""
    folder = tmp_path_factory.mktemp("encdec")
    corpus = data_side.make_corpus(folder / "corpus", data_side.texts())
    (folder / "encdec_tasks.py").write_text(textwrap.dedent(TASKS).format(corpus=corpus))
    values = {"tasks": "encdec_tasks", "folder": folder, "vocabulary": data_side.vocabulary()}
    text = CONFIG.format(**values, inputs=INPUTS, targets=TARGETS)
    (folder / "run.gin").write_text(text)
    done = twjax(folder, "tasks", "cache", folder / "run.gin", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return folder


def twjax(folder: pathlib.Path, *arguments):
    path = {"PYTHONPATH": f"{tiny.REPO}:{folder}"}
    return tiny.twjax(*arguments, env=path)


@pytest.mark.slow
def test_an_encoder_decoder_is_trained_from_documents_to_text(folder):
    reader = RowReader(folder / "cache", "spans", "train", (INPUTS, TARGETS))
    rows = reader.read(range(len(reader)))
    assert rows["inputs_segment_ids"].max() > 1, "pairs are packed"
    config, whole, parts = folder / "run.gin", folder / "whole", folder / "parts"

    done = twjax(folder, "train", config, "--run-dir", whole)
    assert done.returncode == 0, done.stderr
    losses = [loss for loss, _ in tiny.losses(whole).values()]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    scores = tiny.records(whole, "eval")
    assert [record["step"] for record in scores] == [0, 20, 40]
    assert scores[-1]["bits_per_byte"] < scores[0]["bits_per_byte"]
    held_out = RowReader(folder / "cache", "spans", "validation", (INPUTS, TARGETS))
    targets = held_out.read(range(min(16, len(held_out))))["targets"]
    assert scores[0]["bytes"] == held_out.token_bytes[targets].sum()
    assert scores[0]["tokens"] == (targets != 0).sum()
    assert (whole / "samples" / "40.jsonl").is_file()

    # Ten steps, then the rest in another process: the same numbers.
    first = twjax(folder, "train", config, "--run-dir", parts, "--set", "Run.steps = 10")
    assert first.returncode == 0, first.stderr
    rest = twjax(folder, "train", config, "--run-dir", parts)
    assert rest.returncode == 0, rest.stderr
    assert tiny.losses(parts) == tiny.losses(whole)

    done = twjax(folder, "generate", whole, "--prompt", "第一條", "--tokens", 6)
    assert done.returncode == 0, done.stderr
    done = twjax(folder, "eval", whole, "--rows", 16)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_rows_without_room_for_the_targets_are_refused(folder):
    short = ["--set", f"Data.seq_len = ({INPUTS}, 16)"]
    done = twjax(folder, "tasks", "cache", folder / "run.gin", *short)
    assert done.returncode == 1
    assert "spans makes targets of up to 22 tokens from 96 inputs" in done.stderr
