"""The forgetting budget on synthetic loss curves: bounds, convergence, and what lies beyond."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.config import Budget
from twjax.training.budget import Look, decide, rolled_back

BASE = {"en": 2.0, "cn": 3.0}


def budget_of(**changes) -> Budget:
    plain = {"allowed": {"en": 0.05, "cn": 0.1}, "replay": {"en": "en_web", "cn": "cn_web"}}
    return Budget(**(plain | changes))


@dataclasses.dataclass
class Domain:
    """A loss that forgets as in continual pretraining.

    The rise tends to `far` * exp(-share / `scale`) with time constant `slow` (in evaluations):
    without replay it tends to `far`, and each `scale` of replay keeps a factor of e of it.
    """

    far: float
    scale: float
    slow: float
    rise: float = 0.0

    def evaluate(self, share: float, heat: float = 1.0) -> float:
        target = heat * self.far * math.exp(-share / self.scale)
        self.rise += (target - self.rise) / self.slow
        return self.rise


def simulate(
    budget: Budget,
    domains: dict[str, Domain],
    number: int = 40,
    start: float = 0.1,
    noise: float = 0.0,
    heat: Callable[[float], float] = lambda t: 1.0,
) -> list[Look]:
    """The looks of a run whose domains answer to the shares that it is given."""
    rng = np.random.default_rng(0)
    shares = dict.fromkeys(budget.replay.values(), start)
    looks: list[Look] = [decide(budget, 0, BASE, BASE, None, shares)]
    for step in range(1, number):
        bits = {}
        for task, domain in domains.items():
            share = looks[-1].shares[budget.replay[task]]
            error = noise * budget.allowed[task] * rng.normal()
            bits[task] = BASE[task] + domain.evaluate(share, heat(step / number)) + error
        look = decide(budget, step, BASE | bits, BASE, looks[-1], looks[-1].shares)
        looks.append(look)
    return looks


DOMAINS = st.fixed_dictionaries(
    {
        name: st.builds(
            Domain,
            far=st.floats(0.0, 0.8),
            scale=st.floats(0.03, 0.12),
            slow=st.floats(1.0, 6.0),
        )
        for name in BASE
    }
)


@settings(max_examples=200, deadline=None)
@given(DOMAINS, st.floats(0.0, 0.05))
def test_every_share_is_within_bounds_and_steps_are_small(domains, noise: float) -> None:
    budget = budget_of()
    looks = simulate(budget, domains, noise=noise)
    for before, look in itertools.pairwise(looks):
        # Rounded to four digits, each.
        assert budget.least - 2e-4 <= sum(look.shares.values()) <= budget.most + 2e-4
        for task, share in look.shares.items():
            assert 0 < share <= 2 * before.shares[task] + 0.011
            full = sum(look.shares.values()) >= budget.most - 2e-4
            assert share >= before.shares[task] / 2 - 1e-4 or full
            assert look.used.keys() == budget.allowed.keys()


@settings(max_examples=200, deadline=None)
@given(DOMAINS)
def test_a_budget_that_can_be_met_is_met_and_replay_settles(domains) -> None:
    budget = budget_of(most=0.9)
    looks = simulate(budget, domains, number=60)
    late = looks[30:]
    for task, allowed in budget.allowed.items():
        domain = domains[task]
        used = [look.used[task] for look in late]
        assert max(used) <= 1.0
        # Less replay than it takes at the aim would be wasted allowance: it isn't kept much higher.
        wanted = domain.scale * math.log(max(domain.far / (budget.margin * allowed), 1e-9))
        share = late[-1].shares[budget.replay[task]]
        if wanted > budget.least:
            assert 0.6 * wanted - 0.02 <= share <= 1.5 * wanted + 0.03
    for task in budget.replay.values():
        moves = [b.shares[task] / a.shares[task] for a, b in itertools.pairwise(late)]
        # No oscillation: late moves are small, and don't alternate for ever.
        turns = sum(x > 1.02 and y < 0.98 for x, y in itertools.pairwise(moves))
        assert turns <= 2 and max(moves) < 1.3 and min(moves) > 1 / 1.3


def test_noise_of_evaluations_does_not_move_a_share_far() -> None:
    domains = {"en": Domain(0.4, 0.06, 3.0), "cn": Domain(0.3, 0.06, 3.0)}
    quiet = simulate(budget_of(), domains, number=60)[-1]
    domains = {"en": Domain(0.4, 0.06, 3.0), "cn": Domain(0.3, 0.06, 3.0)}
    looks = simulate(budget_of(), domains, number=60, noise=0.05)
    for task, share in quiet.shares.items():
        late = [look.shares[task] for look in looks[30:]]
        assert 0.7 * share < min(late) and max(late) < 1.4 * share


def test_a_rate_that_falls_frees_replay() -> None:
    def fresh() -> dict[str, Domain]:
        return {"en": Domain(0.6, 0.06, 2.0), "cn": Domain(0.6, 0.06, 2.0)}

    hot = simulate(budget_of(), fresh(), number=60)
    cooled = simulate(budget_of(), fresh(), number=60, heat=lambda t: 1.0 if t < 0.5 else 0.3)
    assert sum(cooled[-1].shares.values()) < 0.8 * sum(hot[-1].shares.values())
    assert all(look.within for look in cooled[30:])


def test_a_task_that_renews_two_domains_follows_the_one_in_need() -> None:
    budget = budget_of(replay={"en": "web", "cn": "web"})
    before = Look(step=0, used={"en": 0.0, "cn": 0.0}, shares={"web": 0.1}, action="hold")
    look = decide(budget, 1, {"en": 2.0, "cn": 3.3}, BASE, before, before.shares)
    assert look.used == {"en": 0.0, "cn": 3.0} and look.shares == {"web": 0.2}


def test_where_replay_is_short_a_domain_in_need_loses_none_to_those_that_have_room() -> None:
    budget = budget_of(most=0.4)
    shares = {"en_web": 0.2, "cn_web": 0.2}
    before = Look(step=0, used={"en": 0.1, "cn": 0.9}, shares=shares, action="hold")
    bits = {"en": 2.005, "cn": 3.1}
    look = decide(budget, 1, bits, BASE, before, before.shares)
    assert look.used == pytest.approx({"en": 0.1, "cn": 1.0})
    assert sum(look.shares.values()) <= 0.4 + 2e-4
    # en's share falls by its own slack; cn's rises by all that it asks for.
    assert look.shares["cn_web"] == pytest.approx(0.2 * math.exp(0.3 * 0.35), abs=1e-4)
    assert look.shares["en_web"] <= 0.2 * math.exp(-0.3 * 0.6) + 1e-4
    # With a first share beyond the most, cn keeps what it has and en is cut.
    shares = {"en_web": 0.25, "cn_web": 0.25}
    look = decide(budget, 1, bits, BASE, before, shares)
    assert sum(look.shares.values()) == pytest.approx(0.4, abs=2e-4)
    assert look.shares["cn_web"] >= 0.25 > 0.16 > look.shares["en_web"]


def test_no_share_falls_by_more_than_half_where_others_can_give() -> None:
    """All that is over the most is asked of one domain at first."""
    budget = budget_of(most=0.5)
    shares = {"en_web": 0.25, "cn_web": 0.25}
    before = Look(step=0, used={"en": 0.0, "cn": 0.0}, shares=shares, action="hold")
    look = decide(budget, 1, {"en": 2.0, "cn": 3.3}, BASE, before, shares)
    assert look.used == pytest.approx({"en": 0.0, "cn": 3.0})
    # cn asks for twice 0.25: en gives half, and both are cut to what is left.
    assert look.shares == pytest.approx({"en_web": 0.1, "cn_web": 0.4}, abs=1e-3)


def test_observing_moves_nothing() -> None:
    budget = budget_of(mode="observe")
    look = decide(budget, 5, {"en": 2.5, "cn": 3.0}, BASE, None, {"en_web": 0.1, "cn_web": 0.2})
    assert look.used == {"en": 10.0, "cn": 0.0}
    assert (look.action, look.shares) == ("observe", {"en_web": 0.1, "cn_web": 0.2})


HOPELESS = {"en": Domain(2.0, 10.0, 1.0), "cn": Domain(0.0, 0.1, 1.0)}


@pytest.mark.parametrize("beyond", ["go_on", "stop", "lower_rate", "roll_back"])
def test_a_budget_that_cannot_be_met_is_said_by_its_policy(beyond) -> None:
    looks = simulate(budget_of(beyond=beyond, patience=2, rate_factor=0.5), HOPELESS, number=20)
    actions = [look.action for look in looks]
    first = actions.index(beyond)
    # At first replay is raised to its most; then two evaluations pass.
    assert set(actions[1:first]) <= {"steer", "hold"}
    assert sum(looks[first - 1].shares.values()) >= 0.4998
    full = next(i for i, look in enumerate(looks) if sum(look.shares.values()) >= 0.4998)
    assert first == full + 2
    if beyond == "lower_rate":
        rates = [look.rate for look in looks]
        assert rates[first] == 0.5 and rates == sorted(rates, reverse=True)
        assert rates[first + 1 : first + 3] == [0.5, 0.25]


def test_rolling_back_ends_after_some_times() -> None:
    budget = budget_of(beyond="roll_back", patience=1, rollbacks=1)
    before = Look(
        step=1, used={"en": 2.0, "cn": 0.0}, shares={"en_web": 0.4, "cn_web": 0.1}, action="steer"
    )
    bits = {"en": 2.2, "cn": 3.0}
    look = decide(budget, 2, bits, BASE, before, before.shares)
    assert look.action == "roll_back"
    assert decide(budget, 2, bits, BASE, before, before.shares, rollbacks=1).action == "go_on"
    shares = {"en_web": 0.05, "cn_web": 0.05}
    good = Look(step=0, used={"en": 0.1, "cn": 0.0}, shares=shares, action="hold")
    again = rolled_back(budget, look, good)
    assert again.step == 0 and again.used == good.used
    assert sum(again.shares.values()) == pytest.approx(budget.most, abs=2e-4)
    assert again.shares["en_web"] > again.shares["cn_web"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"allowed": {}}, "Budget.allowed is empty"),
        ({"allowed": {"en": 0.0, "cn": 0.1}}, r"Budget.allowed of en \(0.0\) must be positive"),
        ({"replay": {"en": "en_web"}}, "Budget.replay names en, Budget.allowed cn, en: every"),
        ({"least": 0.6}, r"Budget.least \(0.6\) and Budget.most \(0.5\) are shares"),
        ({"margin": 1.5}, r"Budget.margin \(1.5\)"),
        ({"gain": 0.0}, r"Budget.gain \(0.0\) must be positive"),
        ({"patience": 0}, r"Budget.patience \(0\) must be at least 1"),
        ({"rate_factor": 1.0}, r"Budget.rate_factor \(1.0\)"),
    ],
)
def test_budgets_that_cannot_be_are_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        budget_of(**changes)


@pytest.mark.parametrize(
    ("stages", "evaluated", "message"),
    [
        (((0, {"en_web": 1, "cn_web": 1, "tw": 1}),), ("en",), "cn has no baseline, as Evaluation"),
        (((0, {"en_web": 1, "cn_web": 1, "tw": 1}), (5, {"en_web": 1, "tw": 1})), ("en", "cn"),
         "the stage of Mixture.stages from step 5 on has no share of cn_web"),
        (((0, {"en_web": 1, "cn_web": 1}),), ("en", "cn"), "has nothing but replay"),
    ],
)  # fmt: skip
def test_what_a_budget_needs_of_a_run(stages, evaluated, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        budget_of().check(stages, evaluated)
