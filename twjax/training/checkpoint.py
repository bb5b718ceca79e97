"""Orbax checkpoints of a training state, restored to any mesh.

Orbax and TensorStore are imported here and in `training.stored` only.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from twjax.config import Checkpoint
from twjax.models import parts
from twjax.progress import say
from twjax.training import stored
from twjax.training.integrity import PROMISE, Trust, Verdict, compare
from twjax.training.quiet import quiet_orbax
from twjax.training.retention import Retention
from twjax.training.state import TrainState
from twjax.training.stored import Pieces, StoredArray

__all__ = [
    "BROKEN",
    "FOLDER",
    "IMPORT_FILE",
    "MODEL_FILE",
    "WEIGHTS",
    "Checkpoints",
    "Pieces",
    "Restored",
    "StoredArray",
    "write_pieces",
]

FOLDER = "checkpoints"
# The parameters alone of some steps, for ever (`Checkpoint.export_every`).
WEIGHTS = "weights"
# Beside the checkpoint of an imported model: its configuration, and what it was made from.
MODEL_FILE, IMPORT_FILE = "model.gin", "twjax_import.json"
# Checkpoints that could not be read are moved here, never deleted.
BROKEN = "checkpoints-broken"


@dataclasses.dataclass(frozen=True)
class Restored:
    """A state and the JSON that was saved with it."""

    state: TrainState
    meta: dict[str, Any]


class Checkpoints:
    """Saves asynchronously below `run_dir`/checkpoints; restores the newest that can be trusted.

    A checkpoint is a folder named by its step that appears by one rename when all of it is
    written, its checksums too: a killed save leaves nothing that reads as whole. Whatever is read
    of one is compared with its checksums first.
    """

    def __init__(self, run_dir: pathlib.Path, config: Checkpoint | None = None):
        quiet_orbax()
        self._run_dir = run_dir.absolute()
        self._folder = self._run_dir / FOLDER
        self._retention = None if config is None else Retention(config, self._run_dir)
        self._manager = stored.open_folder(self._folder, self._retention, write=config is not None)
        self._export_every = None if config is None else config.export_every
        self._weights = None
        if self._export_every is not None:
            self._weights = stored.open_folder(self._run_dir / WEIGHTS, None, write=True)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Of a loss all processes know.
        alone = error is not None and not isinstance(error, FloatingPointError)
        if alone and jax.process_count() > 1:
            # A save in the background waits for the others, which know nothing of an error of this
            # one and may wait for it in turn.
            return
        try:
            self._manager.close()
            if self._weights is not None:
                self._weights.close()
        except Exception as late:
            if error is None:
                raise self._save_error(late) from late

    @property
    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, oldest first."""
        return sorted(stored.listed(lambda: self._manager.all_steps(read=True)))

    @property
    def milestones(self) -> list[int]:
        """Steps whose weights alone were written, oldest first."""
        folder = self._run_dir / WEIGHTS
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(int(path.name) for path in found if path.name.isdigit())

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
        try:
            stored.save(self._manager, _as_tree(state), step, meta)
            self._export(state, step, meta)
        except Exception as error:
            raise self._save_error(error) from error

    def make_up(self, restored: Restored) -> None:
        """Writes the weights alone that a run was killed before, when its checkpoint was whole."""
        step = restored.meta["step"]
        if step not in self.steps or step in self.milestones:
            return
        try:
            self._export(restored.state, step, restored.meta)
        except Exception as error:
            raise self._save_error(error) from error

    def _export(self, state: TrainState, step: int, meta: dict[str, Any]) -> None:
        """Starts to write the weights alone of a milestone."""
        every, kept = self._export_every, self._weights
        if kept is None or every is None or step % every:
            return
        weights = {n: v for n, v in _as_tree(state).items() if n in ("params", "average")}
        if step in kept.all_steps():
            # A run that goes on from an earlier checkpoint comes by again.
            kept.delete(step)
        stored.save(kept, weights, step, meta)

    def evaluated(self, step: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Takes note of an evaluation, by which the best checkpoints are known."""
        if self._retention is not None:
            self._retention.evaluated(step, records)

    def keep_newest(self, *wanted: Callable[[int], bool]) -> None:
        """From here on, for each of `wanted`, the newest checkpoint of a step that it is true of
        stays.
        """
        if self._retention is not None:
            self._retention.wanted = wanted

    def wait(self) -> None:
        """Returns when all saves are on disk; raises the error of one that failed."""
        try:
            self._manager.wait_until_finished()
            if self._weights is not None:
                self._weights.wait_until_finished()
        except Exception as error:
            raise self._save_error(error) from error

    def restore(self, abstract: TrainState, step: int) -> Restored:
        """Reads one step's checkpoint into the shapes, dtypes and shardings of `abstract`."""
        if step not in self.steps:
            raise FileNotFoundError(
                f"{self._folder}: no checkpoint of step {step}; there are {self.steps}."
            )
        self._require_sound(step)
        return self._read(abstract, step)

    def _read(self, abstract: TrainState, step: int) -> Restored:
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
        self._require_sound(step)
        found = self._restore(step, state=args)["state"]
        return parts.put(found["params"], found.get("average", {}))

    def meta(self, step: int) -> dict[str, Any]:
        """Returns the JSON that was saved with one step's checkpoint."""
        return self._restore(step, meta=ocp.args.JsonRestore())["meta"]

    def arrays(self, step: int, *, average: bool = False) -> dict[str, StoredArray]:
        """Opens one step's parameters by name ("layers/q") without reading their values.

        With `average` those that have one are their average.
        """
        self._require_sound(step)
        with stored.listed(
            lambda: ocp.CheckpointManager(
                self._holding(step),
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
        """Deletes the checkpoints and the weights of later steps."""
        for later in [number for number in self.settled() if number > step]:
            self._manager.delete(later)
        if self._retention is not None:
            self._retention.forget_after(step)
        # Of exports that the run doesn't make any more too.
        if jax.process_index() == 0:
            for later in [number for number in self.milestones if number > step]:
                shutil.rmtree(self._run_dir / WEIGHTS / str(later))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"weights after {step}")
        if self._weights is not None:
            self._weights.reload()

    def is_sound(self, step: int) -> bool:
        """Whether one step's state is there and can be trusted; says why where it can't."""
        folder = self._folder / str(step)
        if step not in self.steps:
            return False
        found = compare(folder)
        if found.trust >= Trust.UNSURE and jax.process_index() == 0:
            say(f"{folder}: isn't gone back to: {found.reason}.")
        return found.trust < Trust.UNSURE

    def _holding(self, step: int) -> pathlib.Path:
        """Returns the folder with a step's parameters: that of its whole state where it is kept."""
        whole = (self._folder / str(step)).is_dir() or step not in self.milestones
        return self._folder if whole else self._run_dir / WEIGHTS

    def _require_sound(self, step: int) -> None:
        """Raises ValueError where a step's files aren't what was saved; says what isn't known."""
        folder = self._holding(step) / str(step)
        if not folder.is_dir():
            return
        found = compare(folder)
        if found.trust is Trust.DAMAGED:
            raise ValueError(f"{folder}: the checkpoint is damaged: {found.reason}.")
        _tell(folder, found)

    def _restore(self, step: int, **args: Any) -> Any:
        try:
            if (folder := self._holding(step)) == self._folder:
                return self._manager.restore(step, args=ocp.args.Composite(**args))
            with stored.open_folder(folder, None, write=False) as manager:
                return manager.restore(step, args=ocp.args.Composite(**args))
        except (PermissionError, MemoryError):
            raise
        except Exception as error:
            raise self._restore_error(step, error) from error

    def _restore_error(self, step: int, error: Exception) -> Exception:
        reason = " ".join(str(error).split())[:500]
        if "RESOURCE_EXHAUSTED" in reason:
            return error
        return ValueError(
            f"{self._holding(step) / str(step)}: can't be restored into this run's state "
            f"({type(error).__name__}: {reason})."
        )

    def restore_latest(self, abstract: TrainState) -> Restored | None:
        """Reads the newest checkpoint that can be trusted; later ones are moved aside and said so.

        One whose checksum file alone is lost is used where no other can be. Returns None when
        there is none. Raises ValueError when there are some and none is readable.
        """
        steps = self.steps
        problems: dict[int, str] = {}
        unsure: list[int] = []

        def attempt(step: int) -> Restored | None:
            restored = None
            try:
                restored = self._read(abstract, step)
            except ValueError as error:
                problems[step] = str(error)
            return restored if _everywhere(restored is not None) else None

        def use(step: int, restored: Restored) -> Restored:
            for broken in steps[steps.index(step) + 1 :]:
                self._set_aside(broken, problems.get(broken, "another process can't"))
            return restored

        for step in reversed(steps):
            folder = self._folder / str(step)
            found = compare(folder)
            if found.trust >= Trust.UNSURE:
                problems[step] = f"{folder}: {found.reason}"
                unsure += [step] if found.trust is Trust.UNSURE else []
            elif (restored := attempt(step)) is not None:
                _tell(folder, found)
                return use(step, restored)
        for step in unsure:
            reason = problems[step]
            if (restored := attempt(step)) is not None:
                _tell(self._folder / str(step), Verdict(Trust.UNSURE, reason.partition(": ")[2]))
                return use(step, restored)
        if problems:
            raise ValueError(
                f"{self._folder}: no checkpoint can be restored: {problems[max(problems)]}"
            )
        return None

    def _set_aside(self, step: int, reason: str) -> None:
        target = self._run_dir / BROKEN / f"{step}-{time.strftime('%Y%m%d-%H%M%S')}"
        if jax.process_index() == 0:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(self._folder / str(step), target)
            say(
                f"Checkpoint of step {step} can't be read: moved to {target}, using one before it "
                f"({reason})."
            )
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


@functools.cache
def _tell(folder: pathlib.Path, found: Verdict) -> None:
    """Says once what isn't known of a checkpoint that is used."""
    if found.trust is not Trust.WHOLE and jax.process_index() == 0:
        say(f"{folder}: used, but it couldn't be verified: {found.reason}.")


def write_pieces(run_dir: pathlib.Path, params: Any, meta: dict[str, Any]) -> None:
    """Writes a checkpoint of step 0 that holds only parameters, a tree of `Pieces`.

    Memory is bounded by the pieces that are made at once. The folder appears by one rename.
    """
    quiet_orbax()
    with ocp.CheckpointManager(
        run_dir.absolute() / FOLDER,
        item_handlers={"state": stored.writing_handler(), "meta": ocp.JsonCheckpointHandler()},
        options=ocp.CheckpointManagerOptions(
            enable_async_checkpointing=False, temporary_path_class=stored.Summed
        ),
    ) as manager:
        manager.save(
            0,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave({"params": params}), meta=ocp.args.JsonSave(meta)
            ),
            custom_metadata=PROMISE,
        )


def _everywhere(here: bool) -> bool:
    """Whether something holds in every process of the run."""
    if jax.process_count() == 1:
        return here
    return bool(np.all(multihost_utils.process_allgather(np.array(here))))


def _as_tree(state: TrainState) -> dict[str, Any]:
    tree = {"step": state.step, "params": state.params, "optimizer": state.optimizer}
    return tree if state.average is None else tree | {"average": state.average}
