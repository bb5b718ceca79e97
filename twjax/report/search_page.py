"""One HTML file that shows a search: time against memory, what was chosen, and what was not."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from twjax import storage
from twjax.config import Run
from twjax.planning.candidates import Candidate, Point
from twjax.planning.search import Found, Outcome
from twjax.planning.search_table import COLUMNS, cells, reasons
from twjax.planning.topology import GIB, Topology
from twjax.report import shell
from twjax.report.chart import Line, line_chart
from twjax.report.frame import Axis, clean
from twjax.report.plan_page import NOTE, plan_charts, plan_tiles, table, tiles
from twjax.report.scale import Curve

_MOST_LINES = 200


def write_search_page(
    found: Found, run: Run, topology: Topology, name: str, output: str | pathlib.Path
) -> None:
    """Writes the page of a search; the file is whole or absent."""
    parts = []
    best = found.best
    if best is not None and best.plan is not None:
        parts += [
            f"<h2>The fastest that fits: {clean(best.candidate.point.describe())}</h2>",
            tiles(plan_tiles(best.plan)),
        ]
    parts += ["<h2>Time against memory</h2>", _plots(found, run, topology)]
    parts += ["<h2>What fits</h2>", _fitting(found, run, topology)]
    if best is not None and best.plan is not None:
        parts += ["<h2>The fastest, taken apart</h2>", plan_charts(best.plan)]
    fates = [(fate, f"{count:,}") for fate, count in reasons(found).items()]
    parts += ["<h2>What became of the candidates</h2>", table(("", "number"), fates, {1})]
    parts += [_others(found)]
    with storage.atomic_writer(output) as file:
        title = f"{name} on {topology.name}: a search"
        file.write(shell.document(title, "".join(parts), clean(NOTE)))


def _plots(found: Found, run: Run, topology: Topology) -> str:
    """Predictions against memory, and against what was expected before compiling."""
    front = found.front
    own = Point.of(run, topology.num_devices)
    behind = [o for o in found.fitting if o not in front and o.candidate.point != own]
    mine = [o for o in found.fitting if o.candidate.point == own]
    memory = Axis("GiB of a device", form=lambda v: f"{v:.2f} GiB", zero=False)
    time = Axis(
        "seconds of a million tokens", form=lambda v: f"{v:.3g} s a million tokens", zero=False
    )
    first = line_chart(
        "Predicted time and memory",
        [
            _line("not beaten", front, joined=True),
            _line("beaten", behind),
            _line("your own", mine),
        ],
        memory,
        time,
        "Down and to the left is better; of what is beaten, another one is better in both.",
    )
    compiled = [o for o in found.fitting if o.plan is not None]
    ordered = sorted(compiled, key=lambda o: o.candidate.memory.total)
    points = [o.candidate.point.describe() for o in ordered]
    expected = [o.candidate.memory.total / GIB for o in ordered]
    exact = Line(
        "compiled",
        Curve(expected, [o.bytes / GIB for o in ordered]),
        told=points,
        joined=False,
    )
    same = Line("expected", Curve(expected, expected))
    second = line_chart(
        "Memory expected before compiling",
        [exact, same],
        Axis("GiB expected", form=lambda v: f"{v:.2f} GiB expected"),
        Axis("GiB", form=lambda v: f"{v:.2f} GiB"),
    )
    return f'<div class="charts">{first}{second}</div>'


def _line(name: str, outcomes: Sequence[Outcome], joined: bool = False) -> Line:
    ordered = sorted(outcomes, key=lambda o: o.bytes)
    return Line(
        name,
        Curve([o.bytes / GIB for o in ordered], [1e6 * o.seconds_per_token for o in ordered]),
        told=[f"{o.candidate.point.describe()}, {o.bytes / GIB:.2f} GiB" for o in ordered],
        joined=joined,
    )


def _fitting(found: Found, run: Run, topology: Topology) -> str:
    own = Point.of(run, topology.num_devices)
    lines = [cells(outcome, found, own) for outcome in found.fitting]
    note = (
        '<p class="note">* not beaten in both time and memory; = the configuration\'s own. '
        "Rows are a device's at a time, micro the microbatches of a step.</p>"
    )
    return table(COLUMNS, lines, {1, 2, 3, 4, 6, 7}) + note if lines else "<p>Nothing.</p>"


def _others(found: Found) -> str:
    told = [
        (outcome.candidate.point.describe(), outcome.state, outcome.why)
        for outcome in found.outcomes
        if outcome.state not in ("fits", "not tried")
    ]
    told += [_pruned(candidate) for candidate in found.considered.too_large]
    shown = told[:_MOST_LINES]
    if not shown:
        return ""
    more = len(told) - len(shown)
    note = f'<p class="note">and {more:,} more</p>' if more else ""
    return (
        f"<h2>What doesn't fit or failed</h2>{table(('point', 'fate', 'why'), shown, set())}{note}"
    )


def _pruned(candidate: Candidate) -> tuple[str, str, str]:
    why = f"about {candidate.memory.total / GIB:.1f} GiB by the memory model"
    return candidate.point.describe(), "not compiled", why
