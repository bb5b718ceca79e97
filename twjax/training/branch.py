"""A run that begins with the whole state of another one's checkpoint, at its step."""

from __future__ import annotations

import pathlib

import jax
from jax.experimental import multihost_utils

from twjax.config import ConfigError, Run, compare
from twjax.training import ledger
from twjax.training.history import History, handed_on
from twjax.training.source import Source

# Compared by what is read at each step: a branch may read other rows from its step on.
_READ = ("data.mixture.stages", "data.batch_ramp", "data.seq_len_stages")


def begin(text: str, run: Run, run_dir: pathlib.Path, allow_change: bool) -> None:
    """Notes in the ledger of `run_dir` that the run branches off from `text` ("RUN@STEP").

    Nothing changes where that has been noted. Raises ConfigError when `run_dir` holds another run,
    or when `run` differs from the trunk in more than its schedule and what it reads from there on.
    """
    source = Source.parse(text)
    if source.imported is not None:
        raise ConfigError(
            f"--branch-from {text}: is an imported model, which has no state of a run. Set "
            f"Run.init = 'run:{source.directory}' instead."
        )
    if not source.has_state:
        raise ConfigError(
            f"--branch-from {text}: of this step the weights alone are kept. Set Run.init = "
            f"'run:{source.directory}@{source.step}' instead."
        )
    trunk = str(source.directory.resolve())
    before = ledger.read(run_dir)
    if jax.process_count() > 1:
        # Nobody writes before all have read.
        multihost_utils.sync_global_devices(f"branch {source.step}")
    known = History().after(before).branch
    if known is not None:
        if (known["from"], known["step"]) != (trunk, source.step):
            raise ConfigError(
                f"{run_dir}: branches off from {known['from']}@{known['step']}, not from {text}. "
                "Use another --run-dir."
            )
        return
    if before:
        raise ConfigError(
            f"{run_dir}: holds a run already, which doesn't branch off from {text}. Use another "
            "--run-dir."
        )
    if source.step >= run.steps:
        raise ConfigError(
            f"Run.steps ({run.steps}) must be more than the {source.step} steps of {text}."
        )
    fixed = [c for c in compare(source.run, run) if c.fixed and c.path not in _READ]
    if fixed and not allow_change:
        listing = "; ".join(f"{c.path} {c.old!r} there, {c.new!r} here" for c in fixed)
        raise ConfigError(
            f"--branch-from {text}: the run there has other settings that decide its data or its "
            f"shapes: {listing}. Use the same, or --allow-change."
        )
    if jax.process_index() == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
        source.keep(run_dir)
        events = handed_on(ledger.read(source.directory), source.step)
        ledger.append(run_dir, "branch", source.step, **{"from": trunk}, events=events)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"branched {source.step}")
