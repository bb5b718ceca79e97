"""One HTML file that shows a plan: what fills a device's memory and a step's time."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence

from twjax import storage
from twjax.planning.compile import Plan
from twjax.planning.schedule import PREFETCH
from twjax.planning.topology import GIB
from twjax.planning.verdict import trust, verdict
from twjax.report import shell
from twjax.report.bars import bar_chart
from twjax.report.frame import clean

NOTE = (
    "Figures of the TPU compiler and of a model on top of them; nothing was measured on hardware."
)


def write_plan_page(plan: Plan, name: str, output: str | pathlib.Path) -> None:
    """Writes the page of one compiled step; the file is whole or absent."""
    title = f"{name} on {plan.topology.name}"
    body = tiles(plan_tiles(plan)) + plan_charts(plan)
    with storage.atomic_writer(output) as file:
        file.write(shell.document(title, body, clean(NOTE)))


def plan_tiles(plan: Plan) -> dict[str, str]:
    """Returns a plan's main figures by their names."""
    found = {}
    if plan.prediction is not None:
        found["a step, predicted"] = f"{plan.prediction.seconds:.3f} s"
        found["MFU"] = f"{plan.mfu:.1%}"
        found["tokens a second"] = f"{plan.tokens_per_second:,.0f}"
    found["of a device's memory"] = f"{plan.memory.total / plan.memory.usable:.0%}"
    found["of it left" if plan.memory.fits else "too much"] = (
        f"{abs(plan.memory.usable - plan.memory.total) / GIB:.2f} GiB"
    )
    found["chips"] = f"{plan.topology.num_chips:,}"
    found["parameters"] = f"{plan.num_parameters / 1e9:.2f} B"
    found["mesh"] = " × ".join(f"{a} {s}" for a, s in plan.mesh.items() if s > 1) or "one device"
    return found


def plan_charts(plan: Plan) -> str:
    """Returns memory by class, time by class and the collectives of a plan."""
    memory = plan.memory
    held = {
        "parameters": memory.parameters,
        "optimizer": memory.optimizer,
        "batch": memory.batch,
        "layout padding": memory.layout,
        "temporaries": memory.temporaries,
        "outputs": memory.outputs,
        "program": memory.program,
    }
    usable = f"{memory.usable / GIB:.2f} GiB are usable."
    parts = [_bars("Memory of one device", held, GIB, "GiB", usable)]
    if plan.largest:
        shown = {f"{b.count} × {b.maker} {b.shape}": b.bytes for b in plan.largest}
        parts.append(_bars("Largest temporaries", shown, GIB, "GiB", ""))
    judged, prediction = verdict(plan), plan.prediction
    if prediction is not None and judged is not None:
        times = {
            "matrix products": prediction.matmul,
            "other operations": prediction.other,
            "attention kernels": prediction.kernels,
            "waiting: links": prediction.exposed,
            "waiting: other slices": prediction.exposed_dcn,
            "waiting: host": prediction.host,
            "waiting: prefetch": prediction.prefetch,
        }
        note = " ".join([f"The step is bound by: {judged.bound}.", judged.advice, *trust(plan)])
        parts.append(_bars("Time of one step", times, 1.0, "s", note))
    html = f'<div class="charts">{"".join(parts)}</div>'
    return html + _traffic(plan)


def _bars(title: str, parts: Mapping[str, float], unit: float, name: str, note: str) -> str:
    values = [size / unit for size in parts.values()]
    return bar_chart(title, list(parts), {title: values}, lambda v: f"{v:.3f}", name, note)


def _traffic(plan: Plan) -> str:
    if plan.prediction is None:
        return ""
    lines = [
        (
            traffic.kind + (" between slices" if traffic.across_slices else ""),
            f"{traffic.count:,}",
            f"{traffic.bytes / GIB:,.2f}",
            f"{traffic.seconds:.3f}",
            f"{traffic.exposed:.3f}",
            f"{traffic.hidden:.0%}",
        )
        for traffic in plan.prediction.traffic
        if traffic.kind != PREFETCH
    ]
    if not lines:
        return "<h2>Collectives</h2><p>None: one device.</p>"
    header = ("collective", "number", "GiB", "links busy, s", "waited for, s", "hidden")
    return f"<h2>Collectives of one device and step</h2>{table(header, lines, set(range(1, 6)))}"


def tiles(found: Mapping[str, str]) -> str:
    """Returns figures with their names as tiles."""
    items = "".join(f"<li><b>{clean(v)}</b>{clean(k)}</li>" for k, v in found.items())
    return f'<ul class="tiles">{items}</ul>'


def table(
    header: Sequence[str], lines: Iterable[Sequence[str]], numbers: set[int] | frozenset[int]
) -> str:
    """Returns a table; columns of `numbers` are right-aligned, the first one heads its line."""

    def cell(value: str, place: int) -> str:
        if place == 0:
            return f'<th scope="row">{clean(value)}</th>'
        kind = ' class="n"' if place in numbers else ""
        return f"<td{kind}>{clean(value)}</td>"

    heads = "".join(
        f"<th{' class=n' if place in numbers else ''}>{clean(name)}</th>"
        for place, name in enumerate(header)
    )
    rows = "".join(
        f"<tr>{''.join(cell(value, place) for place, value in enumerate(line))}</tr>"
        for line in lines
    )
    return (
        f'<div class="card"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )
