"""What was learnt and what was forgotten, in numbers and in one sentence."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterable, Sequence

from twjax.report.evaluations import is_beside
from twjax.report.read import RunLog
from twjax.report.scale import change_percent, compact, fixed

# A change that the report would print as 0.0% is neither learnt nor forgotten.
SAME = 0.0005
# Of an evaluation that gave none.
NOT_A_NUMBER = "not a number"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roles:
    """What the runs and the domains of a report are to each other; all of it may be left out.

    Runs are named by directory, or by their name in the report. `baseline` is the run that the
    others continued: its last evaluation stands in where they have none at step 0. `learnt` are
    the domains to gain, `protected` those to keep. Without them domains named `tw_…` are to be
    learnt; those that a forgetting budget names are to be kept, or without one all others. What
    `twjax eval` took on other held-out rows is neither, unless it is named.
    """

    baseline: str | os.PathLike[str] | None = None
    without_replay: str | os.PathLike[str] | None = None
    with_replay: str | os.PathLike[str] | None = None
    learnt: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Change:
    """One domain's bits-per-byte before a run and after it, and the steps of these evaluations.

    `first` is None where the end of the run that was continued stands in for step 0.
    """

    task: str
    before: float
    after: float
    first: int | None
    last: int

    @property
    def bits(self) -> float:
        """after - before, bits per byte; below 0 the domain was learnt."""
        return self.after - self.before

    @property
    def relative(self) -> float:
        """(after - before) / before."""
        return self.bits / self.before if self.before else math.nan

    @property
    def known(self) -> bool:
        """Whether both evaluations gave a number."""
        return math.isfinite(self.relative)

    @property
    def learnt(self) -> bool:
        return self.relative < -SAME

    @property
    def forgotten(self) -> bool:
        return self.relative > SAME


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs with their parts: which is which, and which domains are to gain or to keep.

    `left_out` are domains that would be among these, but that some of the compared runs lack.
    """

    runs: list[RunLog]
    baseline: RunLog | None
    without_replay: RunLog | None
    with_replay: RunLog | None
    learnt: tuple[str, ...]
    protected: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def continued(self) -> list[RunLog]:
        """The runs that are compared: all but the one they started from."""
        return [run for run in self.runs if run is not self.baseline]

    def change(self, run: RunLog, task: str, step: int | None = None) -> Change | None:
        """Returns `task`'s change up to `step` (None: the last); None without two evaluations."""
        points = run.bits_per_byte.get(task, {})
        if not points:
            return None
        end = max(points) if step is None else step
        first, before = 0, points.get(0)
        if before is None and self.baseline is not None and run is not self.baseline:
            source = self.baseline.bits_per_byte.get(task, {})
            first, before = None, source[max(source)] if source else None
        if before is None:
            first = min(points)
            if first == end:
                return None
            before = points[first]
        elif end == 0 and step is None:
            return None
        return Change(task, before, points[end], first, end) if end in points else None

    def changes(self, run: RunLog) -> list[Change]:
        """Returns the changes of all domains of a run, the most learnt first.

        Those of which an evaluation is not a number stand at the end.
        """
        found = (self.change(run, task) for task in run.bits_per_byte)
        return sorted((c for c in found if c is not None), key=_by_rise)

    def gain(self, run: RunLog, step: int | None = None) -> float:
        """Mean relative fall of the learnt domains' bits-per-byte; nan if any is missing."""
        changes = [self.change(run, task, step) for task in self.learnt]
        if not changes or None in changes:
            return math.nan
        return -sum(c.relative for c in changes if c) / len(changes)

    def worst(self, run: RunLog, step: int | None = None) -> Change | None:
        """The protected domain that rose most, relatively; None if any is missing.

        One of which an evaluation is not a number is worse than any rise.
        """
        changes = [self.change(run, task, step) for task in self.protected]
        if not changes or None in changes:
            return None
        return max((c for c in changes if c), key=_by_rise)

    def forgetting(self, run: RunLog) -> float:
        """Mean rise of the protected domains' bits-per-byte in bits; nan if any is missing.

        A domain that fell counts as 0: what one gains does not make good what another lost.
        """
        changes = [self.change(run, task) for task in self.protected]
        if not changes or None in changes:
            return math.nan
        rises = [c.bits for c in changes if c]
        if not all(map(math.isfinite, rises)):
            return math.nan
        return sum(max(0.0, rise) for rise in rises) / len(rises)


def _by_rise(change: Change) -> float:
    return change.relative if change.known else math.inf


def compare(runs: Sequence[RunLog], roles: Roles | None = None) -> Comparison:
    """Matches `roles` with `runs`; raises ValueError for a run or a domain that is not there.

    Runs are compared on the domains that all of them have evaluated before and after.
    """
    roles = roles or Roles()
    tasks = sorted({task for run in runs for task in run.bits_per_byte})
    for field in ("learnt", "protected"):
        for task in getattr(roles, field):
            if task not in tasks:
                raise ValueError(
                    f"{field} domain {task!r} is in no evaluation of these runs; evaluated were: "
                    f"{', '.join(tasks) or 'none'}."
                )
    both = sorted(set(roles.learnt) & set(roles.protected))
    if both:
        raise ValueError(f"domain {both[0]!r} is named as learnt and as protected; choose one.")
    own = [task for task in tasks if not is_beside(task)]
    taiwan = tuple(task for task in own if task.startswith("tw_"))
    learnt = roles.learnt or tuple(task for task in taiwan if task not in roles.protected)
    others = tuple(task for task in own if task not in learnt and task not in taiwan)
    guarded = {task for run in runs for task in _guarded(run)}
    protected = roles.protected or tuple(t for t in others if t in guarded) or others
    found = Comparison(
        runs=list(runs),
        baseline=_find(runs, roles.baseline, "baseline"),
        without_replay=_find(runs, roles.without_replay, "without_replay"),
        with_replay=_find(runs, roles.with_replay, "with_replay"),
        learnt=learnt,
        protected=protected,
    )
    # A run that has only begun has no domain yet, and takes none from the others.
    begun = [run for run in found.continued if found.changes(run)]
    lacking = {t for t in learnt + protected if not all(found.change(run, t) for run in begun)}
    # Nothing would be left of what was asked for by name.
    for asked in (roles.learnt, roles.protected):
        lacking -= set(asked) if lacking.issuperset(asked) else set()
    return dataclasses.replace(
        found,
        learnt=tuple(task for task in learnt if task not in lacking),
        protected=tuple(task for task in protected if task not in lacking),
        left_out=tuple(task for task in tasks if task in lacking),
    )


def _guarded(run: RunLog) -> list[str]:
    budget = run.settings.run.budget if run.settings.run is not None else None
    return [] if budget is None else list(budget.allowed)


def _find(
    runs: Sequence[RunLog], wanted: str | os.PathLike[str] | None, role: str
) -> RunLog | None:
    if wanted is None:
        return None
    for run in runs:
        if run.name == str(wanted) or run.path.resolve() == pathlib.Path(wanted).resolve():
            return run
    names = ", ".join(run.name for run in runs)
    raise ValueError(f"{role} ({wanted}) is none of the runs of this report: {names}.")


def headline(comparison: Comparison, run: RunLog) -> str:
    """Returns one run's story in a sentence or two."""
    # What `twjax eval` took on other rows is a domain that is there already.
    changes = [c for c in comparison.changes(run) if not is_beside(c.task)]
    done = f"After {run.last_step:,} steps"
    tokens = run.tokens_at(run.last_step)
    if tokens > 0:
        done += f" and {compact(tokens)} tokens"
    if not changes:
        return f"{done}: no domain was evaluated before and after, so no change can be told."
    fell = [c for c in changes if c.learnt]
    rose = [c for c in changes if c.forgotten]
    broken = [c for c in changes if not c.known]
    parts = []
    if fell:
        parts.append(f"fell in {_of(fell, changes)}, {_most(fell, fell[0])}")
    if rose:
        parts.append(f"rose in {_of(rose, changes)}, {_most(rose, rose[-1])}")
    if broken:
        names = ", ".join(c.task for c in broken)
        parts.append(f"is {NOT_A_NUMBER} in {_of(broken, changes)}, {names}")
    told = f"{done}, bits-per-byte {' and '.join(parts) or 'is what it was in every domain'}."
    late = [c for c in changes if c.first]
    if late:
        of = "Before" if len(late) == len(changes) else (
            f"For {', '.join(c.task for c in late)}, before"
        )  # fmt: skip
        steps = steps_of(c.first for c in late if c.first)
        told += f" {of} is {steps}: what was earlier is not recorded here."
    early = steps_of(c.last for c in changes if c.last < run.last_step)
    return told + (f" Last evaluated at {early}." if early else "")


def steps_of(steps: Iterable[int]) -> str:
    """Returns "step 300" or "steps 200, 300"; empty for none."""
    numbers = [f"{step:,}" for step in sorted(set(steps))]
    return f"step{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}" if numbers else ""


def caveats(comparison: Comparison) -> list[str]:
    """Returns what has to be known of the runs' comparison, a sentence each."""
    found = []
    if comparison.left_out:
        found.append(
            "Left out, as not all of these runs have evaluated it before and after: "
            f"{', '.join(comparison.left_out)}."
        )
    for run in comparison.continued:
        changes = [comparison.change(run, t) for t in comparison.learnt + comparison.protected]
        late = steps_of(c.first for c in changes if c and c.first)
        if late:
            found.append(f"{run.name} is measured from {late} on; what was earlier is not there.")
        broken = [c.task for c in changes if c and not c.known]
        if broken:
            found.append(f"{run.name}: {NOT_A_NUMBER} in {', '.join(broken)}.")
    return found


def _of(some: list[Change], changes: list[Change]) -> str:
    if len(some) == len(changes) == 1:
        return "the one domain"
    return f"{len(some)} of {len(changes)} domains"


def _most(some: list[Change], change: Change) -> str:
    return ("most in " if len(some) > 1 else "") + _told(change)


def _told(change: Change) -> str:
    return (
        f"{change.task} ({fixed(change.before)} → {fixed(change.after)}, "
        f"{change_percent(change.relative)})"
    )


def replay_saved(comparison: Comparison) -> float:
    """Returns the share of the forgetting that replay saved: 1 - with / without.

    Forgetting is `Comparison.forgetting`. Below 0 more was lost with replay than without. nan
    without both runs, or if nothing was forgotten without replay.
    """
    if comparison.without_replay is None or comparison.with_replay is None:
        return math.nan
    lost = comparison.forgetting(comparison.without_replay)
    return 1 - comparison.forgetting(comparison.with_replay) / lost if lost > 0 else math.nan


def replay_sentence(comparison: Comparison) -> str:
    """Returns how much of the forgetting replay saved, and its price; empty if it is unknown."""
    without, with_replay = comparison.without_replay, comparison.with_replay
    if without is None or with_replay is None:
        return ""
    lost, kept = comparison.forgetting(without), comparison.forgetting(with_replay)
    if math.isnan(lost) or math.isnan(kept):
        return ""
    many = len(comparison.protected) > 1
    kind = "protected domains" if many else "protected domain"
    average = " on average" if many else ""
    if lost <= 0:
        verb = "lose" if many else "loses"
        sentence = f"Without replay the {kind} {verb} nothing: there is no forgetting to save"
        sentence += f"; with replay {fixed(kept)} bits per byte{average}." if kept > 0 else "."
    else:
        saved = replay_saved(comparison)
        verdict = (
            "replay saves all of the forgetting" if kept <= 0
            else f"replay saves {saved:.0%} of the forgetting" if saved > 0
            else "replay saves none of the forgetting"
        )  # fmt: skip
        sentence = (
            f"Without replay the bits-per-byte of the {kind} rises by {fixed(lost)}{average}, with "
            f"replay by {fixed(kept)}: {verdict}."
        )
    gains = comparison.gain(without), comparison.gain(with_replay)
    if not any(map(math.isnan, gains)):
        many = len(comparison.learnt) > 1
        sentence += (
            f" On the {'domains' if many else 'domain'} to learn it changes by "
            f"{change_percent(-gains[0])} without replay and by {change_percent(-gains[1])} with "
            "it."
        )
    return sentence


def change_bits(value: float) -> str:
    """Formats a change in bits per byte with its sign."""
    return ("+" if round(value, 3) > 0 else "") + fixed(value)
