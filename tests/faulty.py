"""A run in which rows lead to bad steps: they hold an id whose row of the embedding is NaN."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Iterable, Sequence

import jax
import numpy as np

from tests import tiny
from twjax import config, storage
from twjax.config import Run
from twjax.data.course import Course, Jump
from twjax.data.loader import open_course
from twjax.data.rows import RowWriter
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.training.checkpoint import Checkpoints
from twjax.training.optimizer import make_optimizer
from twjax.training.schedule import make_schedule
from twjax.training.state import init_state

STEPS, POISON, ROWS = 30, 3, 400
# Read at these places of the course, counted from 0: steps 9 to 11 are bad.
FIRST = (8, 9, 10)
# Of the course that follows on the first rollback, to step 6.
SECOND = (17, 18, 19)
ALONE = (3, 25)
FAULTY = """
include '{base}'
Run.init = 'run:{run}'
Run.steps = 30
Run.log_every = 1
Run.faults = @Faults()
Faults.in_a_row = 3
Model.tie_embeddings = False
Optimizer.ema = 0.9
"""


def write_config(folder: pathlib.Path, poisoned: bool = True) -> pathlib.Path:
    """Writes the rows, the weights that a run begins with, and the gin file."""
    base = tiny.write_config(folder)
    path = folder / "faulty.gin"
    path.write_text(FAULTY.format(base=base, run=folder / "source"))
    write_cache(folder / "cache", {})
    run = config.load(Run, [path]).value
    if poisoned:
        course = open_course(run.data, steps=run.steps)[1]
        jump = Jump(step=6, until=11, read=course.read_until(11))
        jumped = open_course(run.data, jumps=[jump], steps=run.steps)[1]
        bad = [*rows_at(course, (*FIRST, ALONE[0])), *rows_at(jumped, (*SECOND, ALONE[1]))]
        write_cache(folder / "cache", {pair: POISON for pair in bad})
    write_source(path, folder / "source")
    return path


def poison(path: pathlib.Path, places: Iterable[int]) -> None:
    """Writes the rows again: those at these places of the course lead to bad steps, no others."""
    run = config.load(Run, [path]).value
    course = open_course(run.data, steps=run.steps)[1]
    write_cache(pathlib.Path(run.data.cache), dict.fromkeys(rows_at(course, places), POISON))


def rows_at(course: Course, steps: Iterable[int]) -> list[tuple[str, int]]:
    """Returns a row, (task, number), of each step's batch."""
    found = []
    for step in steps:
        task, row = course.lookup(step, np.arange(1))
        found.append((course.tasks[task[0]], int(row[0])))
    return found


def write_cache(cache: pathlib.Path, ids: dict[tuple[str, int], int]) -> None:
    """Writes rows of a and b, with an id in the middle of some."""
    shutil.rmtree(cache)
    for number, task in enumerate(("a", "b")):
        for split, count in (("train", ROWS), ("validation", 11)):
            made = tiny.rows(np.random.default_rng([number, split == "train"]), count)
            for (of, row), token in ids.items():
                if of == task and split == "train":
                    made["tokens"][row, 2] = token
            token_bytes = np.arange(tiny.VOCAB, dtype=np.int32) % 4
            with RowWriter(cache, task, split, tiny.SEQ, "f0", token_bytes=token_bytes) as writer:
                writer.write(made)
                writer.finish(
                    documents=3,
                    text_bytes=100 * count,
                    vocabulary={"sha256": "0", "size": tiny.VOCAB, "path": f"{cache}/none.model"},
                    ingredients={},
                )


def write_source(path: pathlib.Path, run_dir: pathlib.Path) -> None:
    """Writes a run whose weights are random but for the embedding of an id, which is NaN."""
    loaded = config.load(Run, [path], ["Run.init = None", "Optimizer.ema = None"])
    run = loaded.value
    network, mesh = declare(run.model), make_mesh(run.mesh, jax.devices()[:1])
    schedule = make_schedule(run.schedule, run.steps, 0.0)
    with jax.set_mesh(mesh):
        optimizer = make_optimizer(run.optimizer, schedule, network.specs)
        state = init_state(network, optimizer, mesh, 0)
        table = state.params["embedding"].at[POISON].set(np.nan)
        state = dataclasses.replace(state, params=state.params | {"embedding": table})
        with Checkpoints(run_dir, run.checkpoint) as checkpoints:
            checkpoints.save(state, 3, {"step": 3, "tokens": 0})
            checkpoints.wait()
    (run_dir / "config.gin").write_text(loaded.text)
    record = {"event": "start", "step": 0, "caches": {}, "vocabulary": "0"}
    storage.write_json(run_dir / "ledger.jsonl", record)
    text = (run_dir / "ledger.jsonl").read_text()
    (run_dir / "ledger.jsonl").write_text("".join(text.split("\n")) + "\n")


def train(path: pathlib.Path, run_dir: pathlib.Path, *bindings: str, code: int = 0) -> str:
    """Trains in a process of its own; returns what it says."""
    done = tiny.twjax(*command(path, run_dir, bindings))
    assert done.returncode == code, done.stderr
    return done.stderr


def command(path: pathlib.Path, run_dir: pathlib.Path, bindings: Sequence[str] = ()) -> list[str]:
    """Returns the twjax command that trains the run."""
    sets = [part for binding in bindings for part in ("--set", binding)]
    return ["train", str(path), "--run-dir", str(run_dir), *sets]


def events(run_dir: pathlib.Path, *kinds: str) -> list[dict]:
    """Returns a run's events of some kinds."""
    found = storage.read_json_lines(run_dir / "ledger.jsonl")
    return [event for event in found if event["event"] in kinds]
