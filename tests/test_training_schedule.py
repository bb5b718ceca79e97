"""Learning rates at chosen steps, from the schedules' definitions."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from twjax.config import Schedule
from twjax.training.schedule import make_schedule, scaled
from twjax.training.source import run_schedule

STEPS, WARM, PEAK = 100, 10, 0.5


def rates(start=0.0, **options):
    schedule = make_schedule(
        Schedule(**{"peak": PEAK, "warmup_steps": WARM, **options}), STEPS, start
    )
    return [float(schedule(step)) for step in range(STEPS)]


@pytest.mark.parametrize("kind", ["cosine", "linear", "rsqrt", "constant", "wsd"])
def test_warmup_is_linear_from_the_start_rate_to_the_peak(kind):
    extra = {"rsqrt_offset": 1} if kind == "rsqrt" else {}
    got = rates(start=0.1, kind=kind, **extra)
    steps = [(0.1 + (PEAK - 0.1) * (s + 1) / (WARM + 1)) for s in range(WARM)]
    np.testing.assert_allclose(got[:WARM], steps, rtol=1e-6)
    assert got[WARM] == pytest.approx(PEAK)
    assert max(got) == pytest.approx(PEAK)


def test_cosine_and_linear_end_at_their_final_share():
    body = STEPS - WARM - 1
    for s, (cosine, linear) in enumerate(
        zip(rates(kind="cosine", final=0.2), rates(kind="linear", final=0.2), strict=True)
    ):
        if s >= WARM:
            t = (s - WARM) / body
            wave = 0.5 * (1 + math.cos(math.pi * t))
            assert cosine == pytest.approx(PEAK * (0.2 + 0.8 * wave), rel=1e-5)
            assert linear == pytest.approx(PEAK * (1 - 0.8 * t), rel=1e-5)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_fall_may_end_before_the_run(kind):
    got = rates(kind=kind, final=0.2, fall_until=0.6)
    shorter = make_schedule(Schedule(kind=kind, peak=PEAK, warmup_steps=WARM, final=0.2), 60, 0.0)
    np.testing.assert_allclose(got[:60], [float(shorter(step)) for step in range(60)], rtol=1e-6)
    np.testing.assert_allclose(got[59:], PEAK * 0.2, rtol=1e-5)
    assert got[58] > got[59]


def test_rsqrt_is_flat_until_its_offset_and_then_falls_as_one_over_root():
    got = rates(kind="rsqrt", rsqrt_offset=40)
    assert got[39] == got[WARM] == pytest.approx(PEAK)
    assert got[80] == pytest.approx(PEAK * math.sqrt(40 / 80), rel=1e-5)
    # T5: 1/sqrt(max(n, k)) with base rate 1 is a peak of 1/sqrt(k).
    t5 = rates(kind="rsqrt", peak=1 / math.sqrt(50), warmup_steps=0, rsqrt_offset=50)
    for n in (0, 49, 50, 99):
        assert t5[n] == pytest.approx(1 / math.sqrt(max(n, 50)), rel=1e-5)


@pytest.mark.parametrize(
    ("decay", "share"),
    [
        ("linear", lambda t: 1 - 0.9 * t),
        ("exp", lambda t: 0.1**t),
        ("1-sqrt", lambda t: 1 - 0.9 * math.sqrt(t)),
    ],
)
def test_wsd_holds_the_peak_and_decays_over_its_last_part(decay, share):
    got = rates(kind="wsd", decay=decay, decay_fraction=0.2, final=0.1)
    assert all(rate == pytest.approx(PEAK) for rate in got[WARM:81])
    for step in (80, 85, 99):
        assert got[step] == pytest.approx(PEAK * share((step - 80) / 19), rel=1e-4)


def test_a_schedule_without_warmup_begins_at_its_peak():
    assert rates(kind="cosine", warmup_steps=0)[0] == pytest.approx(PEAK)


@pytest.mark.parametrize(
    ("decay", "share"), [("linear", lambda t: 1 - 0.8 * t), ("exp", lambda t: 0.2**t)]
)
def test_infinite_cools_down_holds_and_decays_at_last(decay, share):
    options = {"kind": "infinite", "cooldown_steps": 30, "plateau": 0.5, "final": 0.1}
    got = rates(**options, decay=decay, decay_fraction=0.2)
    for step in range(WARM, WARM + 30):
        wave = 0.5 * (1 + math.cos(math.pi * (step - WARM) / 30))
        assert got[step] == pytest.approx(PEAK * (0.5 + 0.5 * wave), rel=1e-5)
    assert all(rate == pytest.approx(PEAK / 2) for rate in got[WARM + 30 : 81])
    for step in (80, 90, 99):
        assert got[step] == pytest.approx(PEAK / 2 * share((step - 80) / 19), rel=1e-4)


@pytest.mark.parametrize("kind", ["wsd", "infinite"])
def test_a_longer_run_has_the_same_rates_until_its_decay(kind):
    extra = {"cooldown_steps": 20} if kind == "infinite" else {}
    config = Schedule(kind=kind, peak=PEAK, warmup_steps=WARM, decay_fraction=0.1, **extra)
    short, long = (make_schedule(config, steps, 0.0) for steps in (100, 1000))
    for step in range(90):
        assert float(short(step)) == float(long(step))
    assert (config.decay_steps(100), config.decay_steps(1000)) == (10, 100)


def test_a_rewarmed_peak_is_a_multiple_of_the_sources_last_rate():
    config = Schedule(kind="constant", rewarm=5.0, start="source", warmup_steps=4)
    run = dataclasses.make_dataclass("Run", ["schedule", "steps"])(config, 10)
    schedule = run_schedule(run, 1e-4)
    expected = [1e-4 + 4e-4 * (s + 1) / 5 for s in range(4)] + [5e-4] * 6
    np.testing.assert_allclose([float(schedule(s)) for s in range(10)], expected, rtol=1e-6)


def test_factors_hold_from_their_steps_on():
    plain = make_schedule(Schedule(kind="constant", peak=PEAK), STEPS, 0.0)
    lowered = scaled(plain, [(10, 0.5), (20, 0.25)])
    got = [float(lowered(step)) for step in (0, 9, 10, 19, 20, 99)]
    np.testing.assert_allclose(got, [PEAK, PEAK, PEAK / 2, PEAK / 2, PEAK / 4, PEAK / 4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "cosine"}, r"Schedule.peak \(None\) and Schedule.rewarm \(None\): give one"),
        ({"kind": "cosine", "peak": 1.0, "rewarm": 2.0}, "give one of them"),
        (
            {"kind": "linear", "peak": 1.0, "fall_until": 0.0},
            r"Schedule.fall_until \(0.0\) is a sha",
        ),
        (
            {"kind": "wsd", "peak": 1.0, "fall_until": 0.5},
            "it belongs to kind 'cosine' or 'linear'",
        ),
        ({"kind": "cosine", "rewarm": -2.0}, r"Schedule.rewarm \(-2.0\) must be positive"),
        ({"kind": "infinite", "peak": 1.0}, r"Schedule.cooldown_steps \(0\) must be at least 1"),
        ({"kind": "wsd", "peak": 1.0, "cooldown_steps": 5}, "it belongs to kind 'infinite'"),
        (
            {"kind": "infinite", "peak": 1.0, "cooldown_steps": 5, "plateau": 0.05},
            r"Schedule.final \(0.1\) must not be above Schedule.plateau \(0.05\)",
        ),
    ],
)
def test_schedules_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**options)
