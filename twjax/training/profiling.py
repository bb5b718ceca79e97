"""Traces of some steps of a run for XProf, and what took longest in them."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
from jax.profiler import ProfileData

from twjax.config.profile import Steps
from twjax.progress import say

FOLDER = "profile"

# Operations that a run prints.
SHOWN = 15


class Profile:
    """Traces `steps` of a run into its folder; without steps it does nothing.

    The first process traces what it sees, its own devices: the others' do the same work.
    """

    def __init__(self, steps: Steps | None = None, run_dir: pathlib.Path = pathlib.Path(".")):
        self.steps = steps if jax.process_index() == 0 else None
        self.folder = run_dir / FOLDER
        self._traced: list[int] = []

    def begin(self, start: int) -> None:
        """Says what is left to trace for a run that goes on from step `start`."""
        if self.steps is None or start < self.steps.first:
            return
        if start >= self.steps.last:
            say(f"profile: step {start} is done already, so nothing of {self.steps} is traced.")
            self.steps = None
        else:
            say(f"profile: tracing begins with step {start + 1}, where the run goes on.")

    @contextlib.contextmanager
    def step(self, step: int, ready: Any) -> Iterator[None]:
        """Marks what is dispatched here as a step; tracing begins when `ready` is computed."""
        if self.steps is None or step not in self.steps:
            yield
            return
        if not self._traced:
            # What was dispatched before isn't of this step.
            jax.block_until_ready(ready)
            options = jax.profiler.ProfileOptions()
            # Calls of Python fill a trace before the devices' operations do.
            options.python_tracer_level = 0
            jax.profiler.start_trace(self.folder, profiler_options=options)
        self._traced.append(step)
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def ends(self, step: int) -> bool:
        """Whether the trace ends with this step."""
        return bool(self._traced) and self.steps is not None and step == self.steps.last

    def finish(self, ready: Any = None) -> None:
        """Ends a trace that runs, when `ready` is computed, and says what took longest."""
        if not self._traced:
            return
        steps, self._traced, self.steps = self._traced, [], None
        jax.block_until_ready(ready)
        jax.profiler.stop_trace()
        for line in told(newest(self.folder), steps):
            say(line)


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of a compiled step: how long it ran on all devices, itself, and how often."""

    name: str
    seconds: float
    count: int


def newest(folder: pathlib.Path) -> pathlib.Path:
    """Returns the file of the newest trace in a run's folder of them."""
    return max(folder.glob("plugins/profile/*/*.xplane.pb"), key=lambda path: path.parent.name)


def operations(path: pathlib.Path) -> tuple[list[Operation], int]:
    """Returns the operations in a trace, slowest first, and the number of devices.

    What an operation runs within it (a loop its body) counts for those, not for itself.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    devices: set[Any] = set()
    planes = list(ProfileData.from_file(str(path)).planes)
    of_devices = [plane for plane in planes if plane.name.startswith("/device:")]
    # A CPU's own threads are a device's.
    for plane in of_devices or planes:
        lines = list(plane.lines)
        # A TPU's other lines are sums of this one; a GPU has one for each stream.
        whole = [line for line in lines if line.name == "XLA Ops"]
        for line in whole or lines:
            if of_devices and not whole and not line.name.startswith("Stream"):
                continue
            events = []
            for event in line.events:
                stats = dict(event.stats)
                name = stats.get("hlo_op") or (event.name if of_devices else None)
                if name is None:
                    continue
                devices.add((plane.name, stats.get("device_ordinal", 0)))
                short = str(name).partition(" = ")[0].lstrip("%")
                events.append((event.start_ns, event.duration_ns, short))
            for name, own in own_times(events):
                seconds[name] += own / 1e9
                counts[name] += 1
    found = [Operation(name, value, counts[name]) for name, value in seconds.items()]
    return sorted(found, key=lambda op: -op.seconds), max(len(devices), 1)


def own_times(events: Iterable[tuple[float, float, str]]) -> Iterator[tuple[str, float]]:
    """Yields each of (start, duration, name) with the time in which no other runs within it."""
    running: list[list[Any]] = []
    for start, duration, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while running and running[-1][0] <= start:
            _, ended, own = running.pop()
            yield ended, own
        if running:
            running[-1][2] -= min(duration, running[-1][0] - start)
        running.append([start + duration, name, duration])
    for _, name, own in running:
        yield name, own


def told(path: pathlib.Path, steps: Sequence[int]) -> list[str]:
    """Returns what a run prints of a trace of these steps."""
    found, devices = operations(path)
    each = 1e3 / (len(steps) * devices)
    total = sum(op.seconds for op in found)
    named = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
    lines = [f"profile: {named} in {path.parent}; a step's {total * each:,.1f} ms of a device:"]
    for op in found[:SHOWN]:
        share = op.seconds / total if total else 0.0
        times = op.count / (len(steps) * devices)
        lines.append(f"{op.seconds * each:12,.2f} ms {share:6.1%} {times:9,.4g} ×  {op.name}")
    return lines
