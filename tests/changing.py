"""A run whose course changes on the way: a budget, a ramp, a length, a decay."""

from __future__ import annotations

import pathlib

import numpy as np

from tests import tiny
from twjax import storage
from twjax.data.rows import RowWriter

STEPS = 80
# From b alone to mostly a: what is known of b is lost unless it is replayed.
CHANGING = """
include '{base}'
Run.init = 'run:{run}'
Run.steps = 80
Run.log_every = 1
Run.budget = @Budget()
Budget.allowed = {{'b': 0.02}}
Budget.replay = {{'b': 'b'}}
Mixture.stages = ((0, {{'a': 0.95, 'b': 0.05}}), ('decay', {{'a': 0.5, 'b': 0.5}}))
Data.batch_ramp = ((20, 16),)
Data.seq_len_stages = ((45, 64),)
Schedule.kind = 'wsd'
Schedule.decay_fraction = 0.25
Checkpoint.every = 7
Evaluation.every = 10
"""


def write_config(folder: pathlib.Path) -> pathlib.Path:
    """Writes rows of two lengths and the gin file, and trains the base."""
    base = tiny.write_config(folder)
    for seq in (32, 64):
        write_cache(folder / "cache", seq)
    only_b = "Mixture.stages = ((0, {'b': 1.0}),)"
    train(base, folder / "base", only_b, "Run.steps = 200", "Checkpoint.every = 200")
    path = folder / "changing.gin"
    path.write_text(CHANGING.format(base=base, run=folder / "base"))
    return path


def write_cache(cache, seq):
    """Rows of two languages that say the opposite of each other: a counts up, b counts down."""
    everything = tiny.rows(np.random.default_rng(seq), 300, seq)
    for task in ("a", "b"):
        for split, part in (("train", slice(20, None)), ("validation", slice(20))):
            made = {name: values[part] for name, values in everything.items()}
            if task == "b":
                real = made["segment_ids"] > 0
                made["tokens"] = np.where(real, tiny.VOCAB + 3 - made["tokens"], 0).astype(np.int32)
            token_bytes = np.arange(tiny.VOCAB, dtype=np.int32) % 4
            with RowWriter(cache, task, split, seq, "f1", token_bytes=token_bytes) as writer:
                writer.write(made)
                writer.finish(
                    documents=3,
                    text_bytes=100,
                    vocabulary={"sha256": "0", "size": tiny.VOCAB, "path": f"{cache}/none.model"},
                    ingredients={},
                )


def command(config, run_dir, *bindings, options=()):
    sets = [part for binding in bindings for part in ("--set", binding)]
    return ["train", config, "--run-dir", run_dir, *sets, *options]


def train(config, run_dir, *bindings, options=(), code=0):
    done = tiny.twjax(*command(config, run_dir, *bindings, options=options))
    assert done.returncode == code, done.stderr
    return done.stderr


def events(run_dir, *kinds):
    found = storage.read_json_lines(run_dir / "ledger.jsonl")
    return [event for event in found if not kinds or event["event"] in kinds]


def decided(run_dir):
    """What the budget has decided at each step, without the clock."""
    kept = ("used", "shares", "action", "rate", "beyond", "bits")
    return {
        (e["event"], e["step"]): {k: e[k] for k in kept if k in e}
        for e in events(run_dir, "baseline", "budget")
    }
