"""Courses: batch ramps, lengths, changes on the way and caps, against plain counting."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.config import Data, Mixture
from twjax.config.reading import Reading
from twjax.data.course import Course, Turn

TASKS = "abc"


def reading_of(**changes) -> Reading:
    plain = Reading(
        stages=((0, {"a": 0.5, "b": 0.5}),),
        batches=((0, 4),),
        lengths=((0, 16),),
        seed=1,
        max_epochs=None,
        block_rows=8,
    )
    return dataclasses.replace(plain, **changes)


def read(course: Course, first: int, stop: int) -> list[list[tuple[str, int]]]:
    """(task, row) of every place of the steps."""
    found = []
    for step in range(first, stop):
        _, rows, _ = course.shape(step)
        tasks, numbers = course.lookup(step, np.arange(rows))
        names = [course.tasks[task] for task in tasks]
        found.append(list(zip(names, numbers.tolist(), strict=True)))
    return found


def starts(most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, 30), max_size=most, unique=True).map(sorted)


@st.composite
def readings(draw: st.DrawFn, lengths: bool = True) -> Reading:
    shares = st.fixed_dictionaries({t: st.sampled_from([0.1, 0.3, 1.0]) for t in TASKS})
    sizes = st.sampled_from([16, 32])
    return reading_of(
        stages=tuple((s, draw(shares)) for s in [0, *draw(starts(3))]),
        batches=tuple((s, draw(st.integers(1, 9))) for s in [0, *draw(starts(3))]),
        lengths=tuple((s, draw(sizes)) for s in [0, *draw(starts(2 if lengths else 0))]),
        seed=draw(st.integers(0, 9)),
    )


SIZES = {16: {"a": 37, "b": 200, "c": 90}, 32: {"a": 19, "b": 101, "c": 44}}


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(readings())
def test_counts_epochs_and_shapes_are_those_of_what_is_read(reading: Reading) -> None:
    course = Course([(0, reading)], SIZES)
    table = read(course, 0, 40)
    tally: dict[tuple[int, str], list[int]] = {}
    total = dict.fromkeys(TASKS, 0)
    for step, batch in enumerate(table):
        assert course.counts(step) == total
        length, rows, _ = course.shape(step)
        # Of the configuration itself, without a course.
        assert rows == [rows for start, rows in reading.batches if start <= step][-1]
        assert length == [length for start, length in reading.lengths if start <= step][-1]
        assert len(batch) == rows
        assert reading.rows_before(step + 1) - reading.rows_before(step) == rows
        for task, row in batch:
            tally.setdefault((length, task), []).append(row)
            total[task] += 1
    for (length, task), rows in tally.items():
        # Every row once an epoch, whatever happened between; an epoch may begin within a part.
        reads = np.bincount(rows, minlength=SIZES[length][task])
        assert reads.max() <= -(-(len(rows) + 16) // len(reads))
    for task in TASKS:
        epochs = sum(len(rows) / SIZES[n][t] for (n, t), rows in tally.items() if t == task)
        assert course.epochs(40)[task] == pytest.approx(epochs)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(readings(), readings(), st.integers(0, 35), st.data())
def test_nothing_that_comes_later_changes_what_was_read(
    reading: Reading, other: Reading, cut: int, data: st.DataObject
) -> None:
    before = Course([(0, reading)], SIZES)
    turns = [
        Turn(step=step, shares={"a": data.draw(st.sampled_from([0.1, 0.25, 0.5]))})
        for step in sorted(data.draw(st.sets(st.integers(cut, 38), max_size=3)))
    ]
    after = Course([(0, reading), (cut, other)] if cut else [(0, other)], SIZES, turns=turns)
    assert read(after, 0, cut) == read(before, 0, cut)
    # One turn after another leads to the same course as all of them at once.
    course = Course([(0, reading), (cut, other)] if cut else [(0, other)], SIZES)
    for turn in turns:
        known = read(course, 0, turn.step)
        course = course.turned(turn)
        assert read(course, 0, turn.step) == known
    assert read(course, 0, 45) == read(after, 0, 45)
    assert course.counts(45) == after.counts(45)


def test_a_turn_gives_its_tasks_their_shares_in_all_later_stages() -> None:
    stages = ((0, {"a": 0.3, "b": 0.5, "c": 0.2}), (100, {"a": 0.1, "b": 0.1, "c": 0.8}))
    course = Course([(0, reading_of(stages=stages))], {16: dict.fromkeys(TASKS, 10**6)})
    course = course.turned(Turn(step=50, shares={"a": 0.6}))
    counts = [course.counts(step) for step in (50, 100, 300)]
    first = {t: counts[1][t] - counts[0][t] for t in TASKS}
    second = {t: counts[2][t] - counts[1][t] for t in TASKS}
    for found, rows, wanted in (
        (first, 200, {"a": 0.6, "b": 0.4 * 5 / 7, "c": 0.4 * 2 / 7}),
        (second, 800, {"a": 0.6, "b": 0.4 / 9, "c": 0.4 * 8 / 9}),
    ):
        for task, share in wanted.items():
            assert abs(found[task] - share * rows) < 3
    assert course.shares(60) == pytest.approx({"a": 0.6, "b": 2 / 7, "c": 0.8 / 7})


def test_epochs_of_other_lengths_count_towards_a_cap() -> None:
    reading = reading_of(
        stages=((0, {"a": 1.0}),), batches=((0, 1),), lengths=((0, 16), (15, 32)), max_epochs=2
    )
    sizes = {16: {"a": 10}, 32: {"a": 5}}
    # A half epoch is left at step 15: two rows of five.
    Course([(0, reading)], sizes, steps=17)
    with pytest.raises(ValueError, match="at step 17, and the run needs 18 steps: a"):
        Course([(0, reading)], sizes, steps=18)


def test_running_out_is_an_error_before_the_run_starts() -> None:
    reading = reading_of(max_epochs=2)
    sizes = {16: {"a": 10, "b": 30}}
    course = Course([(0, reading)], sizes, steps=20)
    assert course.counts(20) == {"a": 20, "b": 60}
    with pytest.raises(ValueError) as caught:
        Course([(0, reading)], sizes, steps=21)
    assert str(caught.value) == (
        "Mixture.max_epochs: no task of the stage from step 0 on has rows left at step 20, and "
        "the run needs 21 steps: a (10 rows, at most 2 epochs), b (30 rows, at most 2 epochs); "
        "raise max_epochs, add tasks or train fewer steps."
    )


def test_a_stage_whose_tasks_are_spent_is_an_error_even_if_a_later_one_is_not() -> None:
    reading = reading_of(
        stages=((0, {"a": 1.0}), (50, {"b": 1.0})), batches=((0, 1),), max_epochs={"a": 1}
    )
    with pytest.raises(ValueError, match=r"stage from step 0 on has rows left at step 10, and"):
        Course([(0, reading)], {16: {"a": 10, "b": 10}}, steps=60)


def test_running_out_before_rows_get_longer_is_said_and_after_the_run_no_matter() -> None:
    reading = reading_of(
        stages=((0, {"a": 1.0}),), batches=((0, 1),), lengths=((0, 16), (100, 32)), max_epochs=1
    )
    sizes = {16: {"a": 80}, 32: {"a": 80}}
    course = Course([(0, reading)], sizes, steps=80)
    assert course.counts(80) == {"a": 80}
    for steps in (81, 120):
        with pytest.raises(ValueError, match="has rows left at step 80, and the run needs"):
            Course([(0, reading)], sizes, steps=steps)
    # The same for another reading from a later step on.
    later = dataclasses.replace(reading, lengths=((0, 16),), batches=((0, 1), (100, 2)))
    with pytest.raises(ValueError, match="has rows left at step 80"):
        Course([(0, dataclasses.replace(later, batches=((0, 1),))), (100, later)], sizes, steps=120)


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        ({"a": 0.01}, r"max_epochs of a \(0.01\) leaves none of its 10 rows"),
        ({"z": 2}, "max_epochs names z, which no stage reads"),
    ],
)
def test_caps_that_cannot_be_are_refused(caps: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Course([(0, reading_of(max_epochs=caps))], {16: {"a": 10, "b": 10}})


def data_of(**changes) -> Data:
    settings = {
        "cache": "c",
        "vocabulary": "v",
        "mixture": Mixture(stages=((0, {"a": 1.0}), ("decay", {"b": 1.0}))),
        "seq_len": 16,
        "batch_size": 4,
    }
    return Data(**(settings | changes))


def test_decay_stands_for_a_step() -> None:
    ramp = {"batch_ramp": ((10, 8),), "seq_len_stages": (("decay", 32),)}
    reading = Reading.of(data_of(**ramp), decay=90)
    assert reading.stages == ((0, {"a": 1.0}), (90, {"b": 1.0}))
    assert reading.lengths == ((0, 16), (90, 32))
    assert reading.shapes(100) == [(0, 4, 16), (10, 8, 16), (90, 8, 32)]
    assert Reading.parse(json.loads(json.dumps(reading.record()))) == reading
    with pytest.raises(ValueError, match=r"Mixture.stages: a stage begins at 'decay', but Sch"):
        Reading.of(data_of())
    late = Mixture(stages=((0, {"a": 1.0}), (95, {"c": 1.0}), ("decay", {"b": 1.0})))
    with pytest.raises(ValueError, match="begins at step 95, not before the one at 'decay'"):
        Reading.of(data_of(mixture=late), decay=90)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_ramp": ((10, 8), (5, 16))}, r"Data.batch_ramp: first steps \[0, 10, 5\] must inc"),
        ({"batch_ramp": ((10, 0),)}, r"Data.batch_ramp \(0 from step 10 on\) must be positive"),
        ({"batch_ramp": (("decay", 8), (50, 16))}, r"Data.batch_ramp: first steps"),
        ({"seq_len_stages": ((0, 32),)}, r"Data.seq_len_stages: first steps \[0, 0\] must incr"),
        ({"seq_len_stages": ((5, (8, 8)),)}, "must both be one length, or both"),
        ({"seq_len_stages": ((5, 1),)}, r"Data.seq_len_stages \(1 from step 5 on\) must be at"),
    ],
)
def test_stages_out_of_order_are_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data_of(**changes)


def test_the_first_difference_of_two_readings() -> None:
    one = reading_of(stages=((0, {"a": 1.0}), (90, {"b": 1.0})))
    moved = reading_of(stages=((0, {"a": 1.0}), (180, {"b": 1.0})))
    assert one.first_difference(one) is None
    assert one.first_difference(moved) == moved.first_difference(one) == 90
    ramped = dataclasses.replace(one, batches=((0, 4), (20, 8)))
    assert one.first_difference(ramped) == 20
    assert one.first_difference(dataclasses.replace(one, seed=9)) == 0
