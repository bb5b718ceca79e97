"""What checkpoints cost: how long a save blocks the step, and how fast checksums are compared.

A state as of AdamW (float32 weights and two moments, in matrices of a few MB) is saved
asynchronously, as `twjax.training.checkpoint` does in a run. Beside it stands the plain copy of
the same state from the devices into new memory of the host, which any save must make. On a CPU
the host sees the device's memory, and a save that has returned may still read it: the next step,
which takes the state over, is part of what is blocked, beyond what that step takes without a
save. Then the files are compared with their checksums, from the
page cache. Each figure is the median of the rounds.

  python benchmarks/checkpoint.py [--mebibytes 600] [--rounds 5] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from twjax.config import Checkpoint
from twjax.storage import write_json
from twjax.training import integrity
from twjax.training.checkpoint import FOLDER, Checkpoints
from twjax.training.state import TrainState

_MATRIX = 1024, 1024


def state_of(mebibytes: int, seed: int) -> TrainState:
    """Returns a state of about this size with random values, on the devices."""
    count = max(1, mebibytes * 2**20 // (3 * 4 * _MATRIX[0] * _MATRIX[1]))
    keys = jax.random.split(jax.random.key(seed), count)
    params = {f"w{i}": jax.random.normal(key, _MATRIX) for i, key in enumerate(keys)}
    moments = [jax.tree.map(lambda x, by=by: x * by, params) for by in (0.1, 0.01)]
    state = TrainState(jnp.int32(seed), params, {"mu": moments[0], "nu": moments[1]})
    return jax.block_until_ready(state)


def copied(state: TrainState) -> float:
    """Returns how long the plain copy of a state to the host takes."""
    began = time.perf_counter()
    # On a CPU the host sees the device's memory: a copy is asked for.
    kept = [np.array(leaf, copy=True) for leaf in jax.tree.leaves(state)]
    took = time.perf_counter() - began
    del kept
    return took


@functools.partial(jax.jit, donate_argnums=0)
def next_step(state: TrainState) -> TrainState:
    """A step that takes the memory of the state over."""
    return jax.tree.map(lambda leaf: leaf + leaf, state)


def stepped(state: TrainState) -> tuple[float, TrainState]:
    """Returns how long a step takes, and its state."""
    began = time.perf_counter()
    state = jax.block_until_ready(next_step(state))
    return time.perf_counter() - began, state


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mebibytes", type=int, default=600, help="size of the state")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=pathlib.Path, help="where to write (default: a temporary)")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()

    rows: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        rows.setdefault(name, []).append(value)

    with (
        tempfile.TemporaryDirectory(dir=args.folder) as temporary,
        Checkpoints(
            pathlib.Path(temporary), Checkpoint(every=1, keep=2, export_every=2)
        ) as checkpoints,
    ):
        size = 0
        # The first two rounds warm up: files, threads, memory.
        for step in range(1, 2 * args.rounds + 3):
            state = state_of(args.mebibytes, step)
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
            plain = copied(state)
            alone, state = stepped(state)
            began = time.perf_counter()
            checkpoints.save(state, step, {"step": step, "tokens": 0})
            returned = time.perf_counter() - began
            after, state = stepped(state)
            later = max(0.0, after - alone)
            checkpoints.wait()
            saved = time.perf_counter() - began
            del state
            if step <= 2:
                continue
            milestone = step % 2 == 0
            of = "weights_too_" if milestone else ""
            note(f"{of}returned_s", returned)
            note(f"{of}next_step_later_s", later)
            note(f"{of}blocked_s", returned + later)
            if milestone:
                continue
            note("copy_s", plain)
            note("saved_s", saved)
            folder = pathlib.Path(temporary) / FOLDER / str(step)
            began = time.perf_counter()
            found = integrity.compare(folder)
            note("compared_s", time.perf_counter() - began)
            assert found.trust is integrity.Trust.WHOLE, found
    stored = {name: statistics.median(values) for name, values in rows.items()}
    stored |= {"bytes": size, "compared_gb_s": size / stored["compared_s"] / 1e9}
    print(f"state: {size / 1e6:,.0f} MB, {args.rounds} rounds")
    print(f"  plain copy to the host        {stored['copy_s']:8.3f} s")
    for of, name in (("", "a save"), ("weights_too_", "a save with weights alone")):
        returned, later = stored[f"{of}returned_s"], stored[f"{of}next_step_later_s"]
        blocked = stored[f"{of}blocked_s"]
        print(f"  blocked by {name:<26s} {blocked:.3f} s", end="")
        print(
            f"  ({blocked / stored['copy_s']:.2f} of the copy: the call {returned:.3f} s,", end=""
        )
        print(f" the next step later by {later:.3f} s)")
    print(f"  until it is committed         {stored['saved_s']:8.3f} s")
    print(f"  checksums compared            {stored['compared_s']:8.3f} s", end="")
    print(f"  ({stored['compared_gb_s']:.2f} GB/s)")
    if args.json:
        write_json(args.json, stored | {"rounds": rows})


if __name__ == "__main__":
    main()
