"""What repeated text is worth, and the table of what a run reads, against tallies of its rows."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from twjax import config
from twjax.config import Run
from twjax.config.data import Data, Mixture
from twjax.config.reading import Reading
from twjax.data import effective
from twjax.data.course import Course
from twjax.data.effective import effective_tokens
from twjax.planning.data import plan_data


@pytest.mark.parametrize("epochs", ["1", "1.5", "2", "4", "16", "44", "1000"])
def test_the_closed_form_in_fifty_digits(epochs):
    getcontext().prec = 50
    unique, life = Decimal(8_700_000_000), Decimal("15.39")
    expected = unique + unique * life * (1 - (-(Decimal(epochs) - 1) / life).exp())
    assert effective_tokens(8.7e9, float(epochs)) == pytest.approx(float(expected), rel=1e-14)


def test_repetition_by_hand():
    assert effective_tokens(100.0, 0.25) == 25
    assert effective_tokens(100.0, 1.0) == 100
    # Three repetitions: 1 + 15.39 (1 - e^-0.19493) = 1 + 15.39 (1 - 0.82289) = 3.7257.
    assert effective_tokens(1.0, 4.0) == pytest.approx(3.7257, abs=1e-4)
    # However often, never more than 16.39 times.
    assert effective_tokens(1.0, 1e9) == pytest.approx(16.39)
    assert effective_tokens(0.0, 3.0) == 0
    with pytest.raises(ValueError, match="must be >= 0"):
        effective_tokens(1.0, -1.0)


@given(st.floats(0, 1e15), st.floats(0, 100), st.floats(0, 100))
def test_more_reading_is_worth_more_and_never_more_than_was_read(unique, one, other):
    low, high = sorted((one, other))
    assert effective_tokens(unique, low) <= effective_tokens(unique, high) * (1 + 1e-12)
    assert effective_tokens(unique, high) <= unique * high * (1 + 1e-12)


def course(**changes) -> tuple[Course, Reading, int, dict[str, int]]:
    """A run of 40 steps with stages, a batch ramp and caps, and the rows of its tasks."""
    stages = ((0, {"a": 0.5, "b": 0.5}), (20, {"a": 0.2, "c": 0.8}))
    mixture = Mixture(stages=stages, max_epochs={"b": 1.5, "c": 40.0}, block_rows=16)
    options = {"seq_len": 32, "batch_size": 4, "batch_ramp": ((10, 8),)} | changes
    data = Data(cache="", vocabulary="", mixture=mixture, **options)
    sizes = {"a": 1_000, "b": 20, "c": 9}
    reading = Reading.of(data)
    held = {length: sizes for length in data.seq_lens}
    return Course([(0, reading)], held, steps=40), reading, 40, sizes


def test_uses_are_those_of_a_tally():
    made, reading, steps, sizes = course()
    tally = np.zeros((2, 3), int)
    for step in range(steps):
        task, _ = made.lookup(step, np.arange(reading.rows(step)))
        tally[int(step >= 20)] += np.bincount(task, minlength=3)
    tokens = {task: (rows, 31 * rows) for task, rows in sizes.items()}
    found = effective.uses(made, reading, steps, tokens)
    assert [use.task for use in found] == ["a", "b", "c"]
    for column, use in enumerate(found):
        read = int(tally[:, column].sum())
        assert use.epochs == pytest.approx(read / sizes[use.task])
        assert use.read == pytest.approx(31 * read)
        assert use.effective == pytest.approx(effective_tokens(use.tokens, use.epochs))
        assert use.shares == pytest.approx(tuple(tally[:, column] / tally.sum(axis=1)))
    assert [use.cap for use in found] == [None, 1.5, 40.0]
    assert [use.spent for use in found] == [False, True, False]


def test_epochs_count_over_rows_of_all_lengths():
    made, reading, steps, sizes = course(seq_len_stages=((30, 64),), batch_ramp=())
    tokens = {task: (rows, 31 * rows) for task, rows in sizes.items()}
    found = {use.task: use for use in effective.uses(made, reading, steps, tokens)}
    read = sum(use.epochs * sizes[task] for task, use in found.items())
    assert read == pytest.approx(4 * steps)


def test_the_table_is_aligned_and_its_sum_is_right():
    made, reading, steps, sizes = course()
    tokens = {task: (rows, 31_000 * rows) for task, rows in sizes.items()}
    found = effective.uses(made, reading, steps, tokens)
    head, *lines, last = effective.table(found, reading, steps)
    assert head == "data of 40 steps"
    assert "from 0" in lines[0] and "from 20" in lines[0] and lines[0].endswith("effective")
    assert len({len(line) for line in lines}) == 1
    assert "1.5 (spent)" in lines[2]
    worth = sum(use.effective for use in found)
    assert lines[-1].startswith("  total") and lines[-1].endswith(effective.short(worth))
    assert f"{worth / sum(use.read for use in found):.1%} of it" in last


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (7, "7"), (999, "999"), (999.6, "1 k"), (2.1e6, "2.1 M"), (41.9e9, "41.9 B")],
)
def test_short_numbers(number, text):
    assert effective.short(number) == text


@pytest.fixture
def run(tmp_path):
    """Loads a run whose rows are cached, with overrides."""
    tiny.write_cache(tmp_path / "cache")
    path = tmp_path / "run.gin"
    text = tiny.CONFIG.format(cache=tmp_path / "cache")
    path.write_text(f"{text}\nMixture.max_epochs = 4\n")
    return lambda *overrides: config.load(Run, [path], overrides).value


def test_the_plan_shows_what_cached_rows_give(run):
    lines, figures = plan_data(run(), "run.gin")
    assert figures is not None
    by_task = {figure["task"]: figure for figure in figures}
    assert by_task.keys() == {"a", "b"}
    # 48 rows of 0.7 and 48 of 0.2 are 43.2; there are 60.
    assert by_task["a"]["epochs"] == pytest.approx(43 / 60, abs=0.02)
    assert by_task["a"]["cap"] == 4
    assert lines[0] == "data of 12 steps"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Run.steps = 5000", "no task of the stage from step 6 on has rows left"),
        ("Data.cache = '/nowhere'", "twjax tasks cache run.gin (and 1 more)"),
        ("Mixture.max_epochs = {'x': 2}", "max_epochs names x, which no stage reads"),
    ],
)
def test_the_plan_says_in_one_line_why_it_has_no_table(run, override, message):
    lines, figures = plan_data(run(override), "run.gin")
    assert figures is None
    (line,) = lines
    assert line.startswith("what the run reads is not known: ")
    assert message in line and "\n" not in line
