"""Mixture laws: what a domain's loss is at a share of the mixture that nobody ran.

With x the share of the mixture that is of the kind whose loss is predicted, and D the tokens read,
the D-CPT law is L(N, D, x) = E + A / N^α + B·x^η / D^β + C / (x + ε)^γ (Que et al. 2024, arXiv
2406.01375). Here all runs have one size, so A / N^α is a part of E. At one number of tokens B·x^η
/ D^β is nearly constant beside the last term, and what remains is `SHARE`. Both write C / (x +
ε)^γ as a + b·((x + ε)^-γ - 1) / γ, which is the same curve and stays determined where γ is near 0,
a logarithm.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import optimize, stats

Array = np.ndarray
# A fit may not bend more than this either way; -1 is a line in the share.
GAMMA = (-1.0, 4.0)
# Runs beyond the parameters that a share must pay for: with one, t is 6.3 and nothing is learnt.
FREE = 2
# Evaluations of a run that tell the three parameters of its course.
TIMES = 4
# The power of tokens in the law of critical ratios.
STEEPEST = 3.0
# From so many residuals on their median says how far they spread, whatever a few of them do.
MANY = 8


@dataclasses.dataclass(frozen=True)
class Law:
    """A form of the loss: `at(parameters, x, d)`, d being tokens by those of the prediction.

    `of_share` parameters are told apart by runs of different shares alone, the others by the
    course of each run; `starts` gives values to start a fit from, for the losses y.
    """

    name: str
    names: tuple[str, ...]
    of_share: int
    at: Callable[[Array, Array, Array], Array]
    low: tuple[float, ...]
    high: tuple[float, ...]
    starts: Callable[[Array, Array, Array], list[tuple[float, ...]]]


def _bent(x: Array, gamma: float) -> Array:
    """Returns (x^-γ - 1) / γ, and its limit -log x at 0."""
    log = np.log(x)
    if abs(gamma) < 1e-6:
        return -log
    return np.expm1(-gamma * log) / gamma


def share_law(zero: bool) -> Law:
    """Returns L = a + b·((x + ε)^-γ - 1) / γ; `zero` is whether a run had none of the kind.

    Only such a run tells ε from the rest, so without one it is 0.
    """

    def at(p: Array, x: Array, d: Array) -> Array:
        return p[0] + p[1] * _bent(x + (p[3] if zero else 0.0), p[2])

    def starts(x: Array, d: Array, y: Array) -> list[tuple[float, ...]]:
        size = max(float(np.ptp(y)), 1e-3)
        found = []
        for gamma, epsilon in itertools.product((-0.5, 0.3, 1.0), (0.003, 0.05) if zero else (0,)):
            found.append((float(y.min()), size / 3, gamma, *([epsilon] if zero else [])))
        return found

    names = ("a", "b", "gamma", *(["epsilon"] if zero else []))
    low, high = (-np.inf, 0.0, GAMMA[0]), (np.inf, np.inf, GAMMA[1])
    more = ((1e-4,), (0.5,)) if zero else ((), ())
    return Law("share", names, len(names), at, (*low, *more[0]), (*high, *more[1]), starts)


def dcpt_law(zero: bool) -> Law:
    """Returns the D-CPT law of one model size, over shares and tokens."""
    share = share_law(zero)
    size = len(share.names)

    def at(p: Array, x: Array, d: Array) -> Array:
        of_tokens = p[size] * np.maximum(x, 1e-9) ** p[size + 1] * d ** -p[size + 2]
        return share.at(p[:size], x, d) + of_tokens

    def starts(x: Array, d: Array, y: Array) -> list[tuple[float, ...]]:
        begins = share.starts(x, d, y)[::2]
        return [(*begin, 0.1, eta, beta) for begin in begins for eta, beta in ((0.1, 0.3), (1, 1))]

    return Law(
        "dcpt",
        (*share.names, "B", "eta", "beta"),
        size,
        at,
        (*share.low, 0.0, 0.0, 0.01),
        (*share.high, np.inf, 3.0, 5.0),
        starts,
    )


LAWS = {"share": share_law, "dcpt": dcpt_law}


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run: its share of the mixture, and losses [k] at tokens [k]."""

    share: float
    tokens: tuple[float, ...]
    losses: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A loss, and how far a run's own may be from it with a probability of `level`."""

    share: float
    mean: float
    error: float
    level: float

    def holds(self, loss: float) -> bool:
        return abs(loss - self.mean) <= self.error


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law fitted to runs.

    The error of a prediction is that of linearised least squares: the spread of runs around the
    law, and how far the runs leave the law open at that share, times Student's t for the runs that
    are left over. It holds its level where the law holds and runs scatter alike at all shares;
    `left_out` shows whether that is so. What a run is off is taken to be the same for all of its
    evaluations, so more evaluations don't make an error bar shorter.
    """

    law: Law
    parameters: Array
    scale: float
    rising: bool
    covariance: Array
    between: float
    within: float
    freedom: int
    shares: tuple[float, ...]

    def losses(self, shares: Sequence[float], tokens: float | None = None) -> Array:
        """Returns the law at these shares, at these tokens (default: the last)."""
        x = _kind(np.asarray(shares, float), self.rising)
        d = np.full_like(x, 1.0 if tokens is None else tokens / self.scale)
        return self.law.at(self.parameters, x, d)

    def predict(self, share: float, level: float = 0.9) -> Prediction:
        """Returns the loss of a run with this share at its end."""
        x, one = _kind(np.array([share]), self.rising), np.ones(1)
        slope = _jacobian(self.law, self.parameters, x, one)[0]
        variance = slope @ self.covariance @ slope + self.between**2 + self.within**2
        t = float(stats.t.ppf((1 + level) / 2, self.freedom))
        mean = float(self.law.at(self.parameters, x, one)[0])
        return Prediction(share, mean, t * float(np.sqrt(variance)), level)

    def named(self) -> dict[str, float]:
        """Returns the parameters by name."""
        return dict(zip(self.law.names, self.parameters.tolist(), strict=True))


def fit(curves: Sequence[Curve], law: str = "share") -> Fit:
    """Fits a law to runs by least squares from several starts, outliers weighing less (Huber).

    "share" uses each run's last loss, "dcpt" all of them. Raises ValueError when there are too few
    runs of different shares, or runs with other numbers of evaluations.
    """
    curves = sorted(curves, key=lambda curve: curve.share)
    shares = np.array([curve.share for curve in curves])
    rising = _rises([curve.losses[-1] for curve in curves], shares)
    form = LAWS[law](bool((_kind(shares, rising) <= 0).any()))
    needed, seen = form.of_share + FREE, len(set(shares.tolist()))
    if seen < needed:
        raise ValueError(
            f"The {law} law needs runs of at least {needed} different shares "
            f"({form.of_share} parameters and {FREE} to judge them by); there are {seen}: "
            f"{', '.join(f'{s:g}' for s in sorted(set(shares.tolist()))) or 'none'}."
        )
    if len({len(curve.losses) for curve in curves}) > 1:
        raise ValueError("Runs have different numbers of evaluations; let all of them end.")
    if law == "dcpt" and len(curves[0].losses) < TIMES:
        raise ValueError(
            f"The dcpt law needs {TIMES} evaluations of a run, there are {len(curves[0].losses)}: "
            "evaluate more often, or use the share law."
        )
    last = 1 if law == "share" else None
    y = np.array([curve.losses[-1:] if last else curve.losses for curve in curves])
    tokens = np.array([curve.tokens[-1:] if last else curve.tokens for curve in curves])
    scale = float(tokens[:, -1].mean())
    x = np.repeat(_kind(shares, rising)[:, None], y.shape[1], 1)
    d = np.maximum(tokens / scale, 1e-6)
    parameters, spread = _least_squares(form, x, d, y)
    between, within, covariance = spread
    freedom = len(curves) - form.of_share
    return Fit(form, parameters, scale, rising, covariance, between, within, freedom, tuple(shares))


def left_out(curves: Sequence[Curve], law: str = "share", level: float = 0.9) -> list[Any]:
    """Returns (prediction, loss) of each run by the others, where these suffice.

    Runs of one share are left out together; the first and the last share are beyond the others,
    so they are not asked for.
    """
    found = []
    for share in sorted({curve.share for curve in curves})[1:-1]:
        others = [curve for curve in curves if curve.share != share]
        mine = [curve for curve in curves if curve.share == share]
        try:
            prediction = fit(others, law).predict(share, level)
        except ValueError:
            continue
        found += [(prediction, curve.losses[-1]) for curve in mine]
    return found


def _kind(shares: Array, rising: bool) -> Array:
    """Returns the share of what lowers the loss: the named share, or all but it."""
    return 1 - shares if rising else shares


def _rises(losses: Sequence[float], shares: Array) -> bool:
    """Whether losses rise with the share (by rank)."""
    return float(np.nan_to_num(stats.spearmanr(shares, losses)[0])) > 0


def _least_squares(law: Law, x: Array, d: Array, y: Array) -> tuple[Array, tuple[Any, ...]]:
    """Returns parameters, and (spread of runs, spread within runs, covariance of parameters).

    x, d and y are [runs, evaluations]. What runs are off is an error of its own beside that of
    evaluations, so means of runs are weighed down (quasi-demeaning of a random-effects model).
    """
    runs, times = y.shape
    weight = 0.0
    best = None
    for _ in range(1 if times == 1 else 3):

        def weighed(values: Array, weight: float = weight) -> Array:
            return (values - weight * values.mean(1, keepdims=True)).ravel()

        def residuals(p: Array, weighed: Callable[[Array], Array] = weighed) -> Array:
            return weighed(law.at(p, x, d) - y)

        starts = law.starts(x, d, y) if best is None else [tuple(best)]
        best = _best(law, residuals, starts)
        off = y - law.at(best, x, d)
        means = off.mean(1)
        between = float(np.sqrt((means**2).sum() / (runs - law.of_share)))
        rest = len(law.names) - law.of_share
        inside = max(runs * (times - 1) - rest, 1)
        within = float(np.sqrt(((off - means[:, None]) ** 2).sum() / inside)) if times > 1 else 0.0
        if times > 1 and between > 0:
            weight = 1 - min(1.0, within / np.sqrt(times * between**2 + within**2))
            weight = min(weight, 0.98)
    assert best is not None
    slopes = _jacobian(law, best, x.ravel(), d.ravel()).reshape(runs, times, -1)
    bread = slopes - weight * slopes.mean(1, keepdims=True)
    bread = bread.reshape(runs * times, -1)
    free = (best > np.array(law.low) + 1e-9) & (best < np.array(law.high) - 1e-9)
    # What is left of errors along a run's mean, and across it: alike where the weight is right.
    error = max(within**2, (1 - weight) ** 2 * (times * between**2 + within**2))
    covariance = np.zeros((len(best), len(best)))
    inverse = np.linalg.pinv(bread[:, free].T @ bread[:, free])
    covariance[np.ix_(free, free)] = inverse * error
    return best, (between, within, covariance)


def _best(law: Law, residuals: Callable[[Array], Array], starts: Sequence[Any]) -> Array:
    """Returns the parameters of the start that ends lowest; large residuals then weigh less."""
    bounds = (np.array(law.low), np.array(law.high))

    def solve(begin: Any, **more: Any) -> Any:
        inside = np.clip(begin, bounds[0] + 1e-9, bounds[1] - 1e-9)
        return optimize.least_squares(
            residuals, inside, bounds=bounds, x_scale="jac", max_nfev=400, **more
        )

    plain = min((solve(start) for start in starts), key=lambda found: found.cost)
    free = len(plain.fun) - len(law.names)
    spread = np.sqrt(2 * plain.cost / max(free, 1))
    if free >= MANY:
        spread = 1.4826 * float(np.median(np.abs(plain.fun)))
    # Below twice the spread it is least squares: of a few runs none can be told to be an outlier.
    if spread < 1e-9 or np.abs(plain.fun).max() < 2 * spread:
        return plain.x
    return solve(plain.x, loss="huber", f_scale=2 * spread).x


def _jacobian(law: Law, p: Array, x: Array, d: Array) -> Array:
    """Returns slopes [n, parameters] of the law, by central differences."""
    columns = []
    for place, value in enumerate(p):
        step = 1e-5 * max(abs(value), 1e-2)
        up, down = p.copy(), p.copy()
        up[place], down[place] = value + step, value - step
        columns.append((law.at(up, x, d) - law.at(down, x, d)) / (2 * step))
    return np.stack(columns, -1)


def kept(
    limits: Sequence[tuple[Fit, float]], level: float | None = 0.9, step: float = 0.001
) -> tuple[float, float] | None:
    """Returns the first range of shares, of those between the runs', that keeps all limits.

    Each is a fit and the most that its loss may be. With a level the whole error bar must be below
    it; with None the law's own value. None: no share keeps them all.
    """
    low = max(min(found.shares) for found, _ in limits)
    high = min(max(found.shares) for found, _ in limits)
    first = last = None
    for share in (*np.arange(low, high - step / 2, step).tolist(), high):
        if all(_bound(found, share, level) <= most for found, most in limits):
            first, last = share if first is None else first, share
        elif first is not None:
            break
    return None if first is None or last is None else (first, last)


def _bound(found: Fit, share: float, level: float | None) -> float:
    """Returns the loss at a share, or with a level the end of its error bar."""
    if level is None:
        return float(found.losses([share])[0])
    prediction = found.predict(share, level)
    return prediction.mean + prediction.error


@dataclasses.dataclass(frozen=True)
class Critical:
    """The critical mixture ratio over tokens, R(T) = β0 + β1·T^s (Gu et al. 2024, 2407.17467).

    R is the greatest share of new text with which general losses stay within what is allowed. T is
    relative to the last of `tokens`.
    """

    tokens: tuple[float, ...]
    ratios: tuple[float, ...]
    parameters: tuple[float, float, float]

    def at(self, tokens: float) -> float:
        """Returns the ratio after so many tokens, within 0 to 1."""
        first, slope, power = self.parameters
        return float(np.clip(first + slope * (tokens / self.tokens[-1]) ** power, 0, 1))


def critical_law(tokens: Sequence[float], ratios: Sequence[float]) -> Critical:
    """Fits R(T) = β0 + β1·T^s; raises ValueError with fewer than five numbers of tokens."""
    if len(tokens) < 5:
        raise ValueError(
            f"The law of critical ratios needs five numbers of tokens, there are {len(tokens)}: "
            "evaluate more often."
        )
    t, r = np.asarray(tokens) / tokens[-1], np.asarray(ratios)

    def off(p: Array) -> Array:
        return p[0] + p[1] * t ** p[2] - r

    bounds = ([-np.inf, -np.inf, -STEEPEST], [np.inf, np.inf, STEEPEST])
    starts = [(r[-1] - b, b, s) for b in (0.1, -0.1) for s in (-0.5, 0.5)]
    found = min(
        (optimize.least_squares(off, start, bounds=bounds) for start in starts),
        key=lambda one: one.cost,
    )
    first, slope, power = map(float, found.x)
    if abs(power) > 0.99 * STEEPEST:
        # The solver stays just within its bounds.
        power = math.copysign(STEEPEST, power)
    return Critical(tuple(tokens), tuple(ratios), (first, slope, power))
