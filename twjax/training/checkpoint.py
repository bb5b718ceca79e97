"""Orbax checkpoints of a training state, restored to any mesh.

Orbax and TensorStore are imported here and in `training.stored` only.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import absl.logging
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from twjax.config import Checkpoint
from twjax.models import parts
from twjax.progress import say
from twjax.training import stored
from twjax.training.state import TrainState
from twjax.training.stored import Pieces, StoredArray

__all__ = [
    "BROKEN",
    "FOLDER",
    "IMPORT_FILE",
    "MODEL_FILE",
    "Checkpoints",
    "Pieces",
    "Restored",
    "StoredArray",
    "write_pieces",
]

T = TypeVar("T")

FOLDER = "checkpoints"
# Beside the checkpoint of an imported model: its configuration, and what it was made from.
MODEL_FILE, IMPORT_FILE = "model.gin", "twjax_import.json"
# Checkpoints that could not be read are moved here, never deleted.
BROKEN = "checkpoints-broken"


@dataclasses.dataclass(frozen=True)
class Restored:
    """A state and the JSON that was saved with it."""

    state: TrainState
    meta: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Kept:
    """Keeps the newest `keep` checkpoints of multiples of `every`, and the newest of all.

    A save for a stop that was asked for takes no other's place, so that a run that is stopped
    often has the same earlier states to go back to as one that never is.
    """

    every: int
    keep: int

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns for each checkpoint, oldest first, whether it stays."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {step for step in steps if step % self.every == 0}
        kept = set(sorted(kept)[-self.keep :]) | set(steps[-1:])
        # As many as are wanted, where the interval was another one before.
        for step in reversed(steps):
            if len(kept) < self.keep:
                kept.add(step)
        return [step in kept for step in steps]


class Checkpoints:
    """Saves asynchronously below `run_dir`/checkpoints; restores the newest readable one.

    A checkpoint is a folder named by its step that appears by one rename when all of it is
    written: a killed save leaves nothing that reads as whole.
    """

    def __init__(self, run_dir: pathlib.Path, config: Checkpoint | None = None):
        _quiet()
        self._run_dir = run_dir.absolute()
        self._folder = self._run_dir / FOLDER
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if config is None else _Kept(config.every, config.keep),
            create=config is not None,
            cleanup_tmp_directories=config is not None,
            read_only=config is None,
        )
        self._manager = _listed(
            lambda: ocp.CheckpointManager(
                self._folder, item_names=("state", "meta"), options=options
            )
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exc: object) -> None:
        self._manager.close()

    @property
    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, oldest first."""
        return sorted(_listed(lambda: self._manager.all_steps(read=True)))

    def settled(self) -> list[int]:
        """Returns `steps` when all saves are on disk, the same in every process of the run."""
        self.wait()
        found = self.steps
        if jax.process_count() == 1:
            return found
        most = int(np.max(multihost_utils.process_allgather(np.array(len(found)))))
        padded = np.array([*found, *[-1] * (most - len(found))], np.int64)
        everywhere = multihost_utils.process_allgather(padded)
        return [step for step in found if all(step in seen for seen in everywhere)]

    def save(self, state: TrainState, step: int, meta: dict[str, Any]) -> None:
        """Starts a save; returns once the state has been copied off the devices."""
        tree = _as_tree(state)
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(tree, jax.tree.map(_storage, tree)),
                    meta=ocp.args.JsonSave(meta),
                ),
                force=True,
            )
        except Exception as error:
            raise self._save_error(error) from error

    def wait(self) -> None:
        """Returns when all saves are on disk; raises the error of one that failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._save_error(error) from error

    def restore(self, abstract: TrainState, step: int) -> Restored:
        """Reads one step's checkpoint into the shapes, dtypes and shardings of `abstract`."""
        if step not in self.steps:
            raise FileNotFoundError(
                f"{self._folder}: no checkpoint of step {step}; there are {self.steps}."
            )
        items = self._restore(
            step,
            state=ocp.args.StandardRestore(_as_tree(abstract)),
            meta=ocp.args.JsonRestore(),
        )
        return Restored(TrainState(**items["state"]), items["meta"])

    def params(self, abstract: Any, step: int, average: Any = None) -> Any:
        """Reads one step's parameters alone into the shapes, dtypes and shardings of `abstract`.

        `average` is the part of `abstract` that is taken from the average instead.
        """
        tree = {"params": abstract}
        if average is not None:
            names = parts.names_of(abstract) - parts.names_of(average)
            tree = {"params": parts.take(abstract, names), "average": average}
        args = ocp.args.PyTreeRestore(
            item=tree,
            restore_args=ocp.checkpoint_utils.construct_restore_args(tree),
            partial_restore=True,
        )
        found = self._restore(step, state=args)["state"]
        return parts.put(found["params"], found.get("average", {}))

    def meta(self, step: int) -> dict[str, Any]:
        """Returns the JSON that was saved with one step's checkpoint."""
        return self._restore(step, meta=ocp.args.JsonRestore())["meta"]

    def arrays(self, step: int, *, average: bool = False) -> dict[str, StoredArray]:
        """Opens one step's parameters by name ("layers/q") without reading their values.

        With `average` those that have one are their average.
        """
        with _listed(
            lambda: ocp.CheckpointManager(
                self._folder,
                item_handlers={"state": stored.reading_handler()},
                options=ocp.CheckpointManagerOptions(read_only=True),
            )
        ) as manager:
            try:
                found = manager.restore(
                    step, args=ocp.args.Composite(state=ocp.args.PyTreeRestore())
                )["state"]
            except Exception as error:
                raise self._restore_error(step, error) from error
        leaves = jax.tree_util.tree_leaves_with_path(
            parts.put(found["params"], found["average"] if average else {}),
            is_leaf=lambda leaf: isinstance(leaf, StoredArray),
        )
        return {"/".join(str(key.key) for key in path): array for path, array in leaves}

    def remove_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps."""
        for later in [number for number in self.settled() if number > step]:
            self._manager.delete(later)

    def _restore(self, step: int, **args: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**args))
        except (PermissionError, MemoryError):
            raise
        except Exception as error:
            raise self._restore_error(step, error) from error

    def _restore_error(self, step: int, error: Exception) -> Exception:
        reason = " ".join(str(error).split())[:500]
        if "RESOURCE_EXHAUSTED" in reason:
            return error
        return ValueError(
            f"{self._folder / str(step)}: can't be restored into this run's state "
            f"({type(error).__name__}: {reason})."
        )

    def restore_latest(self, abstract: TrainState) -> Restored | None:
        """Reads the newest checkpoint; one that can't be read is moved aside and said so.

        Returns None when there is none. Raises ValueError when there are some and none is
        readable, which means another model rather than a broken file.
        """
        steps = self.steps
        problems: list[str] = []
        for step in reversed(steps):
            restored = None
            try:
                restored = self.restore(abstract, step)
            except ValueError as error:
                problems.append(str(error))
            if not _everywhere(restored is not None):
                continue
            assert restored is not None
            for broken in steps[steps.index(step) + 1 :]:
                self._set_aside(broken)
            return restored
        if problems:
            raise ValueError(f"{self._folder}: no checkpoint can be restored: {problems[0]}")
        return None

    def _set_aside(self, step: int) -> None:
        target = self._run_dir / BROKEN / f"{step}-{time.strftime('%Y%m%d-%H%M%S')}"
        if jax.process_index() == 0:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(self._folder / str(step), target)
            say(f"Checkpoint of step {step} can't be read: moved to {target}, using one before it.")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"set aside {step}")
        self._manager.reload()

    def _save_error(self, error: Exception) -> OSError:
        text = " ".join(str(error).split())
        if "No space left" in text or "RESOURCE_EXHAUSTED" in text or "ENOSPC" in text:
            text = "no space left on the disk"
        kept = self.steps
        stay = f"the checkpoints of steps {kept} are whole" if kept else "there is no earlier one"
        return OSError(f"{self._folder}: a checkpoint could not be saved ({text[:300]}); {stay}.")


def _listed(look: Callable[[], T]) -> T:
    """Returns what Orbax finds, which lists all checkpoints and then looks at each.

    A run that trains may delete one between the two: then they are listed again.
    """
    for _ in range(_LISTINGS):
        try:
            return look()
        except (FileNotFoundError, NotADirectoryError):
            continue
    return look()


_LISTINGS = 20


def write_pieces(run_dir: pathlib.Path, params: Any, meta: dict[str, Any]) -> None:
    """Writes a checkpoint of step 0 that holds only parameters, a tree of `Pieces`.

    Memory is bounded by the pieces that are made at once. The folder appears by one rename.
    """
    _quiet()
    with ocp.CheckpointManager(
        run_dir.absolute() / FOLDER,
        item_handlers={"state": stored.writing_handler(), "meta": ocp.JsonCheckpointHandler()},
        options=ocp.CheckpointManagerOptions(enable_async_checkpointing=False),
    ) as manager:
        manager.save(
            0,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave({"params": params}), meta=ocp.args.JsonSave(meta)
            ),
        )


def _storage(leaf: Any) -> ocp.SaveArgs:
    """Large stacked weights are stored by layers, so that a layer can be read alone."""
    if leaf.ndim < 2:
        return ocp.SaveArgs()
    # An axis that is named is cut into ones before any other: a matrix would be rows, each alone.
    stacked = (0,) if leaf.ndim > 2 else ()
    return ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES, shard_axes=stacked)


_CHUNK_BYTES = 128 << 20


def _quiet() -> None:
    """Orbax reports every file at INFO, and failures both at ERROR and by raising."""
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    _quiet_late_callbacks()


def _quiet_late_callbacks() -> None:
    """Drops the tracebacks of writes that end after the save they belong to has failed.

    They reach for the event loop of that save, which is closed; the save's own error is raised
    and says what happened. Everything else is reported as before.
    """

    def closed_loop(error: BaseException | None) -> bool:
        return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"

    report, unraisable = sys.excepthook, sys.unraisablehook
    if getattr(report, "quiet_late_callbacks", False):
        return

    def on_error(kind: Any, error: BaseException, trace: Any) -> None:
        if not closed_loop(error):
            report(kind, error, trace)

    def on_unraisable(info: Any) -> None:
        if not closed_loop(info.exc_value):
            unraisable(info)

    on_error.quiet_late_callbacks = True  # type: ignore[attr-defined]
    sys.excepthook, sys.unraisablehook = on_error, on_unraisable


def _everywhere(here: bool) -> bool:
    """Whether something holds in every process of the run."""
    if jax.process_count() == 1:
        return here
    return bool(np.all(multihost_utils.process_allgather(np.array(here))))


def _as_tree(state: TrainState) -> dict[str, Any]:
    tree = {"step": state.step, "params": state.params, "optimizer": state.optimizer}
    return tree if state.average is None else tree | {"average": state.average}
