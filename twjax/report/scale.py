"""Numbers for the eye: round ticks, short labels, and fewer points that show the same curve."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"
UNITS = ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k"))


def ticks(low: float, high: float, count: int = 7) -> list[float]:
    """Returns up to `count` round numbers (1, 2 or 5 times a power of ten) within [low, high]."""
    if not low < high:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Returns labels of one unit and one number of decimals for the ticks of an axis."""
    largest = max((abs(v) for v in values), default=0.0)
    step = min((b - a for a, b in itertools.pairwise(values)), default=largest) or 1.0
    if 0 < largest < 1e-3:
        exponent = math.floor(math.log10(largest) + 1e-9)
        unit = 10.0**exponent
        decimals = max(0, -math.floor(math.log10(step / unit) + 1e-9))
        return ["0" if v == 0 else _sign(f"{v / unit:.{decimals}f}e{exponent}") for v in values]
    scale, unit = next(((s, u) for s, u in UNITS if largest >= s), (1.0, ""))
    if largest < 1e4:
        scale, unit = 1.0, ""
    decimals = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    return [
        "0" if v == 0 else _sign(f"{v / scale:,.{decimals}f}{unit}") for v in values
    ]  # fmt: skip


def compact(value: float) -> str:
    """Returns about three significant digits with a unit: 1.23 M, 45.6 k, 0.012, 3e-4."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    for scale, unit in UNITS:
        if size >= scale * 0.9995 and size >= 9_999.5:
            return _sign(f"{value / scale:.{_decimals(size / scale)}f}{unit}")
    if size >= 1000:
        return _sign(f"{value:,.0f}")
    if size == 0:
        return "0"
    if size < 1e-3:
        return _scientific(value)
    return _sign(f"{value:.{_decimals(size)}f}")


def fixed(value: float, decimals: int = 3) -> str:
    """Returns `value` with `decimals` decimals and a true minus sign; a dash if not finite."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{decimals}f}"
    return _sign(text if float(text) else text.lstrip("-"))


def change_percent(relative: float) -> str:
    """Returns a relative change as a percentage with its sign."""
    if not math.isfinite(relative):
        return "–"
    text = f"{relative * 100:+.1f}%"
    return _sign(text if float(text[:-1]) else "0.0%")


def percent(share: float, decimals: int = 0) -> str:
    """Returns a share in percent, without a plus."""
    return f"{fixed(share * 100, decimals)}%" if math.isfinite(share) else "–"


def _decimals(size: float) -> int:
    return max(0, 2 - math.floor(math.log10(size) + 1e-9))


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return _sign(f"{float(mantissa):g}e{int(exponent)}")


def _sign(text: str) -> str:
    """Puts a true minus in front."""
    return text.replace("-", MINUS, 1) if text.startswith("-") else text


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points of a line; where each stands for many, `low` and `high` are their range."""

    x: list[float]
    y: list[float]
    low: list[float] | None = None
    high: list[float] | None = None


def thin(x: Sequence[float], y: Sequence[float], most: int = 240) -> Curve:
    """Returns the finite points of a curve, as means with ranges over equal groups if too many."""
    points = [
        (a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)
    ]  # fmt: skip
    if len(points) <= most:
        return Curve([a for a, _ in points], [b for _, b in points])
    edges = [len(points) * i // most for i in range(most + 1)]
    groups = [points[a:b] for a, b in itertools.pairwise(edges)]
    values = [[b for _, b in group] for group in groups]
    return Curve(
        [sum(a for a, _ in group) / len(group) for group in groups],
        [sum(v) / len(v) for v in values],
        [min(v) for v in values],
        [max(v) for v in values],
    )


def shares(
    steps: Sequence[int], rows: dict[str, list[int]], most: int = 160
) -> tuple[list[float], dict[str, list[float]]]:
    """Returns bin edges (steps) and each task's share of the rows consumed within each bin.

    `rows` counts since step 0; shares of a bin are exact, whatever its width. A bin in which
    nothing was consumed joins the next one.
    """
    edges: list[float] = [0]
    parts: dict[str, list[float]] = {task: [] for task in rows}
    wanted = min(most, len(steps))
    last = dict.fromkeys(rows, 0)
    for i in range(1, wanted + 1):
        at = len(steps) * i // wanted - 1
        used = {task: counts[at] - last[task] for task, counts in rows.items()}
        total = sum(used.values())
        if total <= 0 or steps[at] <= edges[-1]:
            continue
        for task in rows:
            parts[task].append(used[task] / total)
            last[task] = rows[task][at]
        edges.append(steps[at])
    return edges, parts


def median(values: Sequence[float]) -> float:
    """Returns the median of the finite values; nan if there are none."""
    ordered = sorted(v for v in values if math.isfinite(v))
    if not ordered:
        return math.nan
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
