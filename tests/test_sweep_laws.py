"""Mixture laws: known curves found again, error bars that hold their level, too little refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.cli import main
from twjax.config import ConfigError
from twjax.sweeps import forecast, law_page, laws
from twjax.sweeps.laws import Curve
from twjax.sweeps.results import Outcome, Result, Results, write

SHARES = (0.05, 0.1, 0.3, 0.45, 0.6)
TOKENS = tuple(np.linspace(5e5, 1e6, 6))
LEVEL = 0.9


def loss(share, tokens, e=1.5, c=0.15, gamma=0.5, epsilon=0.0, b=0.2, eta=0.3, beta=0.5):
    """The D-CPT law as printed, tokens in millions, without a term of the model's size."""
    d = np.asarray(tokens) / 1e6
    return e + b * share**eta / d**beta + c / (share + epsilon) ** gamma


def curves(shares=SHARES, noise=0.0, within=0.0, rng=None, **law):
    found = []
    for share in shares:
        off = rng.normal(0, noise) if rng else 0.0
        each = rng.normal(0, within, len(TOKENS)) if rng else 0.0
        found.append(Curve(share, TOKENS, tuple(loss(share, TOKENS, **law) + off + each)))
    return found


@settings(max_examples=20, deadline=None)
@given(
    e=st.floats(0.3, 4), c=st.floats(0.01, 0.6), gamma=st.floats(0.05, 2), at=st.floats(0.05, 0.6)
)
def test_a_curve_of_the_law_is_found_again(e, c, gamma, at):
    truth = {"e": e, "c": c, "gamma": gamma, "b": 0.0}
    found = laws.fit(curves(**truth))
    size = loss(SHARES[0], 1e6, **truth) - loss(SHARES[-1], 1e6, **truth)
    assert found.predict(at).mean == pytest.approx(loss(at, 1e6, **truth), abs=2e-3 * size)


@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_the_law_of_shares_and_tokens_is_found_again(gamma):
    found = laws.fit(curves(gamma=gamma), "dcpt")
    for share, tokens in ((0.2, 1e6), (0.2, 7e5), (0.4, 5e5)):
        assert found.losses([share], tokens)[0] == pytest.approx(
            loss(share, tokens, gamma=gamma), abs=2e-3
        )


def test_a_run_without_the_kind_tells_how_the_law_begins():
    shares = (0.0, 0.02, 0.1, 0.3, 0.45, 0.6)
    found = laws.fit(curves(shares, epsilon=0.02, b=0.0))
    assert found.law.names[-1] == "epsilon"
    assert found.predict(0.05).mean == pytest.approx(loss(0.05, 1e6, epsilon=0.02, b=0.0), abs=5e-3)
    with pytest.raises(ValueError, match="at least 6 different shares"):
        laws.fit(curves(shares[:-1], epsilon=0.02))


def covered(law: str, seeds: int) -> tuple[int, list[float]]:
    hits, errors = 0, []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        truth = {"e": rng.uniform(1, 2), "c": rng.uniform(0.05, 0.3), "gamma": rng.uniform(0.2, 1)}
        made = curves(noise=0.01, within=0.002, rng=rng, **truth)
        prediction = laws.fit(made, law).predict(0.2, LEVEL)
        own = loss(0.2, 1e6, **truth) + rng.normal(0, math.hypot(0.01, 0.002))
        hits += prediction.holds(own)
        errors.append(prediction.error)
    return hits, errors


def test_error_bars_hold_their_level():
    seeds = 200
    hits, errors = covered("share", seeds)
    assert abs(hits / seeds - LEVEL) <= 3 * math.sqrt(LEVEL * (1 - LEVEL) / seeds)
    # Not by being useless: Student's t with two runs to spare is 2.9 spreads, and 1.2 for the law.
    assert np.median(errors) < 0.05


@pytest.mark.slow
def test_error_bars_of_the_law_of_tokens_hold_their_level():
    seeds = 100
    hits, errors = covered("dcpt", seeds)
    assert abs(hits / seeds - LEVEL) <= 3 * math.sqrt(LEVEL * (1 - LEVEL) / seeds)
    assert np.median(errors) < 0.06


def test_a_law_that_does_not_hold_has_long_error_bars():
    step = [Curve(s, TOKENS, tuple(loss(s, TOKENS, b=0) + 0.2 * (s > 0.2))) for s in SHARES]
    true = curves(b=0.0, noise=0.002, rng=np.random.default_rng(0))
    assert laws.fit(step).predict(0.25).error > 5 * laws.fit(true).predict(0.25).error


def test_more_evaluations_of_the_same_runs_do_not_shorten_error_bars():
    rng = np.random.default_rng(1)
    offs = rng.normal(0, 0.02, len(SHARES))

    def made(times):
        tokens = np.linspace(5e5, 1e6, times)
        return [
            Curve(s, tuple(tokens), tuple(loss(s, tokens) + off))
            for s, off in zip(SHARES, offs, strict=True)
        ]

    few, many = (laws.fit(made(times), "dcpt").predict(0.2).error for times in (6, 48))
    assert many == pytest.approx(few, rel=0.25)


def test_an_outlier_among_many_runs_weighs_less():
    shares = tuple(np.linspace(0.05, 0.6, 16))
    made = curves(shares, b=0.0, noise=0.001, rng=np.random.default_rng(0))
    made[7] = Curve(made[7].share, TOKENS, tuple(np.add(made[7].losses, 0.3)))
    x, y = np.array(shares), np.array([c.losses[-1] for c in made])
    plain = np.polyval(np.polyfit(np.log(x), y, 2), math.log(shares[7]))
    truth = loss(shares[7], 1e6, b=0.0)
    assert abs(laws.fit(made).predict(shares[7]).mean - truth) < 0.5 * abs(plain - truth)


def test_a_domain_that_is_learnt_falls_with_the_rest_of_the_mixture():
    made = [Curve(1 - c.share, c.tokens, c.losses) for c in curves(b=0.0)]
    found = laws.fit(made)
    assert found.rising
    assert found.predict(0.7).mean == pytest.approx(loss(0.3, 1e6, b=0.0), abs=1e-3)


def test_too_few_shares_are_refused_with_how_many_are_needed():
    with pytest.raises(ValueError, match=r"at least 5 different shares.*there are 4: 0.05, 0.1"):
        laws.fit(curves(SHARES[:4]))
    with pytest.raises(ValueError, match="there are 2"):
        laws.fit(curves((0.1, 0.1, 0.1, 0.2, 0.2)))
    with pytest.raises(ValueError, match="different numbers of evaluations"):
        laws.fit([*curves()[:-1], Curve(0.6, TOKENS[1:], (1.0,) * 5)], "dcpt")


def test_a_limit_is_kept_from_where_the_law_crosses():
    found = laws.fit(curves(b=0.0))
    most = 1.5 + 0.15 / 0.25**0.5
    assert laws.kept([(found, most)], None) == (pytest.approx(0.25, abs=2e-3), SHARES[-1])
    assert laws.kept([(found, 9.0)], None) == (SHARES[0], SHARES[-1])
    assert laws.kept([(found, 1.0)], None) is None
    noisy = laws.fit(curves(b=0.0, noise=0.003, rng=np.random.default_rng(3)))
    law, safe = (laws.kept([(noisy, most)], level) for level in (None, LEVEL))
    assert law is not None and (safe is None or safe[0] > law[0])


def mirrored():
    """Runs of which the loss rises with the share."""
    return [Curve(c.share, c.tokens, tuple(3.7 - v for v in c.losses)) for c in curves(b=0.0)]


@settings(max_examples=20, deadline=None)
@given(limits=st.lists(st.tuples(st.booleans(), st.floats(1.65, 2.2)), min_size=1, max_size=4))
def test_limits_of_losses_that_fall_and_rise_are_kept_together(limits):
    falls = laws.fit(curves(b=0.0))
    rises = laws.fit(mirrored())
    pairs = [(rises if rising else falls, most) for rising, most in limits]
    found = laws.kept(pairs, None)
    grid = np.linspace(SHARES[0], SHARES[-1], 500)
    good = [s for s in grid if all(fit.losses([s])[0] <= most for fit, most in pairs)]
    if found is None:
        assert not good or good[-1] - good[0] < 2e-3
    else:
        assert found[0] - 2e-3 <= good[0] <= found[0] + 2e-3 if good else found[1] - found[0] < 2e-3
        for fit, most in pairs:
            assert max(fit.losses(list(found))) <= most


def test_the_law_of_critical_ratios_is_found_again():
    tokens = np.linspace(1e6, 8e6, 7)
    found = laws.critical_law(tokens, 0.2 + 0.3 * (tokens / 8e6) ** 0.4)
    assert found.at(16e6) == pytest.approx(0.2 + 0.3 * 2**0.4, abs=5e-3)
    with pytest.raises(ValueError, match="five numbers of tokens"):
        laws.critical_law(tokens[:4], tokens[:4])


def results(shares=(*SHARES, 0.2), **more) -> Results:
    """A sweep whose protected task follows the law and whose learnt one its mirror."""
    points = []
    for share in shares:
        steps = [0, *range(10, 110, 10)]
        kept = [1.6, *(float(loss(share, s * 1e4, b=0.05)) for s in steps[1:])]
        learnt = [4.0, *(float(loss(1 - share, s * 1e4)) for s in steps[1:])]
        tokens = [s * 1e4 for s in steps]
        outcomes = {
            "en": Outcome(True, "bits_per_byte", steps, tokens, kept),
            "tw": Outcome(True, "bits_per_byte", steps, tokens, learnt),
        }
        swept = {"replay": share} | more
        points.append(Result(f"replay={share:g}", swept, ("replay",), "finished", outcomes))
    return Results("made", points)


def test_a_held_out_share_is_not_fitted_to():
    runs = forecast.runs_of(results(), "replay", {})
    for task in ("en", "tw"):
        found = forecast.forecast(runs, "replay", task, held_out=[0.2], asked=[0.15])
        assert [curve.share for curve in found.fitted] == list(SHARES)
        (held, seen), (asked, nothing) = found.asked
        assert (held.share, asked.share, nothing) == (0.2, 0.15, None)
        assert seen == runs[-1][1].last(task)
        assert held.mean == pytest.approx(seen, abs=0.02)
        spoilt = [(s, p) for s, p in runs if s != 0.2]
        assert forecast.forecast(spoilt, "replay", task, asked=[0.2]).asked[0][0] == held


def test_each_inner_share_is_predicted_by_the_others():
    runs = forecast.runs_of(results(), "replay", {})
    found = forecast.forecast(runs, "replay", "en").left_out
    assert [prediction.share for prediction, _ in found] == [0.1, 0.2, 0.3, 0.45]
    assert all(abs(p.mean - seen) < 0.05 for p, seen in found)


def test_the_replay_that_keeps_a_budget():
    runs = forecast.runs_of(results(), "replay", {})
    one, together = forecast.enough(runs, "replay", {"en": 0.25})
    assert one.baselines == {"en": 1.6} and together == one and one.between == (0.05, 0.6)
    assert one.share is not None and one.share[1] == 0.6
    assert loss(one.share[0], 1e6, b=0.05) == pytest.approx(1.85, abs=0.01)
    assert one.safe is None or one.safe[0] >= one.share[0]
    found = forecast.critical(runs, {"en": 0.25})
    tokens, ratio = found.table[-1]
    assert tokens == 1e6 and ratio == pytest.approx(1 - one.share[0], abs=2e-3)
    assert found.law is not None and found.law.at(tokens) == pytest.approx(ratio, abs=0.02)


def with_code(least=1.85, slope=0.01) -> Results:
    """The sweep of `results` with a protected task that nobody replays: it rises with replay."""
    made = results()
    for point in made.points:
        steps, share = point.outcomes["tw"].steps, float(point.settings["replay"])
        tokens = point.outcomes["tw"].tokens
        values = [1.8, *(least + slope * (1 - share) ** -2 for _ in steps[1:])]
        point.outcomes["code"] = Outcome(True, "bits_per_byte", steps, tokens, values)
    return made


def test_what_keeps_all_tasks_is_looked_for_with_all_of_them():
    runs = forecast.runs_of(with_code(), "replay", {})
    # Of replay English needs 0.163 or more, and code bears 0.33 or 0.11 at most.
    for rise, expected in ((0.0722, True), (0.0626, False)):
        english, code, together = forecast.enough(runs, "replay", {"en": 0.25, "code": rise})
        assert english.share is not None and code.share is not None
        assert english.share[1] == 0.6 and code.share[0] == 0.05
        most = 1 - (0.01 / (rise - 0.05)) ** 0.5
        assert code.share[1] == pytest.approx(most, abs=5e-3)
        found = forecast.critical(runs, {"en": 0.25, "code": rise})
        *lines, last = law_page.needs([english, code, together], "replay", LEVEL)
        assert f"code may rise by {rise:g} over 1.8000: replay by the law up to" in lines[1]
        if expected:
            assert together.share == (english.share[0], code.share[1])
            low, high = together.share
            assert f"all of them: replay by the law {low:.3f} to {high:.3f}" in last
            assert found.table[-1][1] == pytest.approx(1 - low, abs=2e-3)
        else:
            assert code.share[1] < english.share[0] and together.share is None
            assert "by the law none of those that were run, with error bars none of those" in last
            assert found.table[-1][1] is None and found.law is None
            assert "1,000,000 tokens: none of those that were run" in law_page.ratios(found)


def test_what_needs_no_more_or_less_than_was_run_is_said_so():
    runs = forecast.runs_of(with_code(), "replay", {})

    def said(**allowed):
        return law_page.needs(forecast.enough(runs, "replay", allowed), "replay", LEVEL)

    assert "by the law 0.05 or less, with its 90% error bar 0.05 or less" in said(en=2.0)[0]
    assert "by the law more than was run, with its 90% error bar more than" in said(en=0.01)[0]
    assert "by the law up to 0.6 or more, with its 90% error bar up to 0.6 or" in said(code=1.0)[0]
    assert "by the law less than was run, with its 90% error bar less than" in said(code=0.01)[0]
    assert "all of them: replay by the law any from 0.05 to 0.6, with" in said(en=2.0, code=1.0)[-1]
    found = forecast.critical(runs, {"en": 2.0})
    assert found.law is None and "1,000,000 tokens: 95.0% or more" in law_page.ratios(found)


def test_critical_ratios_are_not_fitted_to_held_out_shares():
    made = results()
    spoilt = [dataclasses.replace(p, outcomes=dict(p.outcomes)) for p in made.points]
    english = spoilt[-1].outcomes["en"]
    assert spoilt[-1].settings["replay"] == 0.2
    spoilt[-1].outcomes["en"] = dataclasses.replace(
        english, values=[1.6, *(value + 0.3 for value in english.values[1:])]
    )
    whole, other = (forecast.runs_of(Results("x", p), "replay", {}) for p in (made.points, spoilt))
    allowed = {"en": 0.25}
    held = forecast.critical(other, allowed, held_out=[0.2])
    assert held.table == forecast.critical(whole, allowed, held_out=[0.2]).table
    assert held.table != forecast.critical(other, allowed).table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": "peak"}, "the sweep has replay"),
        ({"task": "fr"}, "was evaluated on en, tw"),
        ({"asked": [0.7]}, "beyond the shares that were run"),
        ({"held_out": [0.21]}, "no finished point has it"),
        ({"where": {"rate": "1"}}, "the sweep has replay among its settings"),
    ],
)
def test_questions_that_cannot_be_answered(change, message):
    about = {"share": "replay", "task": "en", "asked": [], "held_out": [], "where": {}} | change
    with pytest.raises(ConfigError, match=message):
        runs = forecast.runs_of(results(), about["share"], about["where"])
        forecast.forecast(
            runs, about["share"], about["task"], asked=about["asked"], held_out=about["held_out"]
        )


def test_points_that_were_measured_on_other_rows_are_not_fitted_together():
    made = results()
    outcomes = made.points[3].outcomes
    outcomes["en"] = dataclasses.replace(outcomes["en"], size=12_000)
    runs = forecast.runs_of(made, "replay", {})
    with pytest.raises(ConfigError, match=r"replay=0.45 was evaluated on 12,000 bytes of text, re"):
        forecast.forecast(runs, "replay", "en")
    forecast.forecast(runs, "replay", "tw")


def test_points_that_differ_otherwise_must_be_told_apart():
    both = Results("both", [*results(peak=0.1).points, *results(peak=0.2).points])
    with pytest.raises(ConfigError, match="differ in peak too"):
        forecast.runs_of(both, "replay", {})
    assert len(forecast.runs_of(both, "replay", {"peak": "0.20"})) == 6
    seeds = Results("seeds", [*results(seed=1).points, *results(seed=2).points])
    assert len(forecast.runs_of(seeds, "replay", {})) == 12


def test_the_command_answers_and_draws(tmp_path, capsys):
    write(results(), tmp_path)
    asked = ["--share", "replay", "--hold-out", "0.2", "--at", "0.15", "--allowed", "en=0.25"]
    assert main(["sweep", "fit", str(tmp_path), "--task", "en", "tw", *asked]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[1]) for line in lines[1:5]] == [
        ("en", "0.2"), ("en", "0.15"), ("tw", "0.2"), ("tw", "0.15"),
    ]  # fmt: skip
    seen = float(loss(0.2, 1e6, b=0.05))
    assert float(lines[1][4]) == pytest.approx(seen, abs=1e-4) and lines[1][6] == "yes"
    drawn = (tmp_path / "law.html").read_text()
    # Of each task the law is a line, and its five runs and the one held out are dots.
    charts = [svg for svg in drawn.split("<svg")[1:] if 'class="line c0"' in svg]
    assert len(charts) == 2
    assert all(svg.count('class="dot c1"') == 5 for svg in charts)
    assert not any('class="line c1"' in svg for svg in charts)
    assert "held out 0.2" in drawn and "may rise by 0.25 over 1.6000: replay by the law" in drawn
    capsys.readouterr()
    # A share that the law was fitted to says nothing of how well it does.
    fitted = [*asked[:2], "--at", "0.1", "0.15"]
    assert main(["sweep", "fit", str(tmp_path), "--task", "en", *fitted]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[1], *line[4:]) for line in lines[1:3]] == [
        ("0.1", "–", "–", "fitted"), ("0.15", "–", "–", "–"),
    ]  # fmt: skip
    assert "held out" not in (tmp_path / "law.html").read_text()
    assert main(["sweep", "fit", str(tmp_path), "--task", "en", *asked[:2], "--level", "2"]) == 1
    short = ["--share", "replay", "--hold-out", "0.1", "0.2", "0.3"]
    assert main(["sweep", "fit", str(tmp_path), "--task", "en", *short]) == 1
    assert "at least 5 different shares" in capsys.readouterr().err
