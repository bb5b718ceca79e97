"""Round ticks, short numbers and thinned curves keep what they stand for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twjax.report.scale import (
    change_percent,
    compact,
    fixed,
    median,
    shares,
    thin,
    tick_labels,
    ticks,
)

finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(finite, st.floats(1e-6, 1e12), st.integers(3, 9))
def test_ticks_are_round_few_and_inside(low, size, count):
    high = low + size
    if high - low < 1e-9 * max(abs(low), abs(high)):
        return
    found = ticks(low, high, count)
    slack = size * 1e-6
    assert 1 <= len(found) <= count + 1
    assert all(low - slack <= v <= high + slack for v in found)
    labels = tick_labels(found)
    if size > 1e-3 * max(abs(low), abs(high)):
        assert len(set(labels)) == len(labels)
    if len(found) > 1:
        step = found[1] - found[0]
        mantissa = step / 10.0 ** math.floor(math.log10(step * 1.000001))
        assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-2


def test_labels_say_the_values():
    assert tick_labels([0, 1e6, 2e6]) == ["0", "1 M", "2 M"]
    assert tick_labels([0.5, 1.0]) == ["0.5", "1.0"]
    assert tick_labels([-0.2, 0, 0.2]) == ["\N{MINUS SIGN}0.2", "0", "0.2"]
    assert tick_labels([0, 1e-4, 2e-4]) == ["0", "1e-4", "2e-4"]
    assert [compact(v) for v in (1_234_567, 9_828, 0.8661, 3e-4, 0, math.nan)] == [
        "1.23 M", "9,828", "0.866", "3e-4", "0", "–",
    ]  # fmt: skip
    assert [change_percent(v) for v in (0.0204, -0.43, -0.0001)] == [
        "+2.0%", "\N{MINUS SIGN}43.0%", "0.0%",
    ]  # fmt: skip
    assert fixed(-0.0001) == "0.000" and fixed(math.inf) == "–"


@given(st.lists(finite | st.just(math.nan), max_size=400), st.integers(1, 50))
def test_thinning_keeps_mean_extremes_and_order(y, most):
    curve = thin(range(len(y)), y, most)
    kept = [v for v in y if math.isfinite(v)]
    assert len(curve.x) == min(most, len(kept))
    assert curve.x == sorted(curve.x)
    if len(kept) > most:
        assert curve.low is not None and curve.high is not None
        assert min(curve.low) == min(kept) and max(curve.high) == max(kept)
    elif kept:
        assert curve.low is None and curve.y == kept


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_shares_of_bins_add_up_to_the_rows_consumed(counts, most):
    steps = [10 * (i + 1) for i in range(len(counts))]
    rows = {
        task: [sum(c[k] for c in counts[: i + 1]) for i in range(len(counts))]
        for k, task in enumerate(("a", "b"))
    }
    edges, parts = shares(steps, rows, most)
    assert edges == sorted(set(edges)) and len(edges) - 1 <= most
    totals = [rows["a"][steps.index(int(e))] + rows["b"][steps.index(int(e))] for e in edges[1:]]
    used = [b - a for a, b in zip([0, *totals], totals, strict=False)]
    assert all(a + b == pytest.approx(1) for a, b in zip(parts["a"], parts["b"], strict=True))
    consumed = sum(share * n for share, n in zip(parts["a"], used, strict=True))
    at = steps.index(int(edges[-1])) if len(edges) > 1 else None
    assert consumed == pytest.approx(0 if at is None else rows["a"][at])
    assert sum(c[0] + c[1] for c in counts) == (totals[-1] if totals else 0)


def test_median_leaves_out_what_is_not_a_number():
    assert median([3.0, math.nan, 1.0, 2.0]) == 2.0
    assert median([1.0, 2.0]) == 1.5
    assert math.isnan(median([]))
