"""Mixtures: shares, coverage, caps and order, against tallies and a slow reference."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twjax.data import permutation, shares
from twjax.data.mixture import MixtureIndex, Read, rates

TASKS = "abcdefg"


@st.composite
def indexes(draw: st.DrawFn, caps: bool = True) -> MixtureIndex:
    """Random weights (some tiny), sizes, stages, blocks and, for some tasks, epoch caps."""
    number = draw(st.integers(1, 7))
    weight = st.one_of(
        st.floats(0.001, 10),
        st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0, 1e-3]),
    )
    weights = st.lists(weight, min_size=number, max_size=number).filter(any)
    lengths = draw(st.lists(st.integers(1, 60), max_size=7))
    starts = [0, *itertools.accumulate(lengths)]
    stages = tuple((start, dict(zip(TASKS, draw(weights), strict=False))) for start in starts)
    used = {task for _, stage in stages for task, value in stage.items() if value > 0}
    limits = None
    if caps and draw(st.booleans()):
        limits = draw(
            st.dictionaries(st.sampled_from(sorted(used)), st.sampled_from([1, 1.5, 2, 7]))
        )
    sizes = {task: draw(st.integers(1, 300)) for task in TASKS}
    rows = draw(st.integers(1, 9))
    return MixtureIndex(
        [(start * rows, weights) for start, weights in stages],
        sizes,
        seed=draw(st.integers(0, 2**31)),
        block_rows=draw(st.sampled_from([1, 2, 7, 16, 64])),
        caps={t: max(int(Fraction(repr(c)) * sizes[t]), 1) for t, c in (limits or {}).items()},
    )


def longest_block(segment: shares.Segment, block: int) -> int:
    """The length of blocks that hold a row of each task."""
    while min(segment.stretch.shares.values()) * block < 1:
        block *= 2
    return block


def ends(index: MixtureIndex, most: int) -> list[int]:
    """Rows at which blocks and segments end."""
    rows = []
    for segment in index.segments:
        start, length = segment.stretch.start, segment.stretch.length
        block = longest_block(segment, index.block_rows)
        if length is None:
            rows += range(start + block, most + 1, block)
        else:
            rows += [*range(start + block, start + length // block * block, block), start + length]
    return [row for row in rows if row <= most]


def span(index: MixtureIndex, most: int = 1500) -> int:
    """A number of rows that reaches every stage, as far as the tasks' rows go."""
    last = index.segments[-1]
    longest = longest_block(last, index.block_rows)
    length = last.stretch.length
    return min(last.stretch.start + (3 * longest if length is None else length), most)


def exact_rows(index: MixtureIndex, total: int) -> tuple[list[dict[str, Fraction]], list[int]]:
    """What each task has had at each row if rows can be divided, and the rows after which shares
    are others, row by row from the configuration.
    """
    stages, caps = index.stages, index.caps
    had = dict.fromkeys(index.tasks, Fraction(0))
    table, changes = [dict(had)], [first for first, _ in stages[1:]]
    for row in range(total):
        weights = [weights for first, weights in stages if first <= row][-1]
        left = Fraction(1)
        while left > 0:
            open_ = {t: w for t, w in weights.items() if t not in caps or had[t] < caps[t]}
            all_ = sum(open_.values())
            now = min([left] + [(caps[t] - had[t]) * all_ / open_[t] for t in open_ if t in caps])
            for task, weight in open_.items():
                had[task] += now * weight / all_
            left -= now
            if left > 0 or any(had[t] == caps[t] for t in open_ if t in caps):
                changes.append(row + 1)
        table.append(dict(had))
    return table, sorted({row for row in changes if row <= total})


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(indexes())
def test_shares_are_within_one_row_at_every_block_boundary(index: MixtureIndex) -> None:
    total = span(index)
    task, _ = index.lookup(np.arange(total))
    seen = np.cumsum(np.eye(len(index.tasks), dtype=int)[task], axis=0)
    seen = np.vstack([np.zeros_like(seen[:1]), seen])
    table, changes = exact_rows(index, total)
    starts = [segment.stretch.start for segment in index.segments[1:]]
    last = index.segments[-1].stretch.start
    assert [row for row in starts if row <= total] == [row for row in changes if row <= last]
    for row in ends(index, total):
        for real, (name, want) in zip(seen[row], table[row].items(), strict=True):
            assert abs(int(real) - want) < 1, (name, row, int(real), float(want))
    # A task that a stage leaves out gets nothing in it, and parts of blocks are near their shares.
    for segment in index.segments:
        start, length = segment.stretch.start, segment.stretch.length
        stop = total if length is None else min(start + length, total)
        got = {index.tasks[number] for number in task[start:stop]}
        assert got <= set(segment.stretch.shares)
        low, *_ = segment.parts(np.arange(stop - start), index.seed)
        for row in np.unique(low) + start:
            for real, want in zip(seen[row], table[row].values(), strict=True):
                assert abs(int(real) - want) < 4


@settings(max_examples=100, deadline=None)
@given(indexes())
def test_every_epoch_reads_each_row_once_and_caps_hold(index: MixtureIndex) -> None:
    total = max([row for row in ends(index, 4000)], default=0)
    assume(total > 0)
    task, row = index.lookup(np.arange(total))
    for number, name in enumerate(index.tasks):
        size = index.sizes[name]
        reads = np.bincount(row[task == number], minlength=size)
        assert len(reads) == size
        epochs = int(reads.sum()) // size
        assert reads.min() >= epochs and reads.max() <= epochs + 1
        if name in index.caps:
            assert reads.sum() <= index.caps[name]


@settings(max_examples=60, deadline=None)
@given(indexes(), st.data())
def test_counts_are_the_tally_of_the_stream(index: MixtureIndex, data: st.DataObject) -> None:
    total = span(index)
    task, _ = index.lookup(np.arange(total))
    for _ in range(5):
        rows = data.draw(st.integers(0, total))
        tally = np.bincount(task[:rows], minlength=len(index.tasks)).tolist()
        assert list(index.counts(rows).values()) == tally


@settings(max_examples=30, deadline=None)
@given(indexes(), st.data())
def test_a_row_does_not_depend_on_which_rows_are_asked_for_with_it(
    index: MixtureIndex, data: st.DataObject
) -> None:
    total = span(index)
    task, row = index.lookup(np.arange(total))
    some = np.array(data.draw(st.lists(st.integers(0, total - 1), min_size=1)))
    task_again, row_again = index.lookup(some)
    np.testing.assert_array_equal(task_again, task[some])
    np.testing.assert_array_equal(row_again, row[some])


def slow_mix(value: int) -> int:
    mask = 2**64 - 1
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def slow_subkey(key: int, number: int) -> int:
    return slow_mix(slow_mix((key + number * 0x9E3779B97F4A7C15) % 2**64) ^ key)


def slow_permute(index: int, size: int, key: int) -> int:
    side = next(a for a in range(max(1, int(size**0.5) - 2), size + 1) if a * a >= size)
    while True:
        left, right = divmod(index, side)
        for round_ in range(8):
            left, right = right, (left + slow_mix(right ^ slow_subkey(key, round_))) % side
        index = left * side + right
        if index < size:
            return index


def slow_lookup(
    weights: dict[str, Fraction], sizes: dict[str, int], seed: int, block: int, row: int
) -> tuple[str, int]:
    """One stage without rare tasks, with Python's integers and fractions."""

    def upto(edge: int) -> list[int]:
        sums = itertools.accumulate(weights[name] for name in sorted(weights))
        return [int(share * edge + Fraction(1, 2)) for share in sums]

    low = row // block * block
    before, after = upto(low), upto(low + block)
    key = slow_subkey(int(permutation.key_of(seed, "block")), low)
    spot = slow_permute(row - low, block, key)
    gains = [b - a for a, b in zip(before, after, strict=True)]
    number = sum(spot >= gain for gain in gains)
    name = sorted(weights)[number]
    first = gains[number - 1] if number else 0
    count = before[number] - (before[number - 1] if number else 0) + spot - first
    epoch, place = divmod(count, sizes[name])
    key = slow_subkey(int(permutation.key_of(seed, "task", name)), epoch)
    return name, slow_permute(place, sizes[name], key)


@pytest.mark.parametrize("first", [0, 5_000, 10**9, 10**12, 2**50 + 3])
def test_lookup_equals_slow_exact_arithmetic(first: int) -> None:
    sizes = {"a": 1000, "b": 7, "c": 99_991}
    index = MixtureIndex([(0, {"a": 0.7, "b": 0.1, "c": 0.2})], sizes, seed=5, block_rows=64)
    weights = {"a": Fraction(7, 10), "b": Fraction(1, 10), "c": Fraction(2, 10)}
    rows = np.arange(first, first + 200)
    task, row = index.lookup(rows)
    for i, position in enumerate(rows.tolist()):
        expected = slow_lookup(weights, sizes, 5, 64, position)
        assert (index.tasks[task[i]], row[i]) == expected


def test_the_order_is_the_one_that_older_runs_were_trained_on() -> None:
    stages = [(0, {"a": 0.7, "b": 0.3}), (16, {"b": 1.0, "c": 1.0})]
    index = MixtureIndex(stages, {"a": 50, "b": 40, "c": 30}, seed=1)
    task, row = index.lookup(np.arange(10, 22))
    assert task.tolist() == GOLDEN_TASKS
    assert row.tolist() == GOLDEN_ROWS


GOLDEN_TASKS = [0, 0, 0, 0, 1, 0, 1, 2, 1, 1, 2, 2]
GOLDEN_ROWS = [47, 36, 33, 15, 19, 18, 20, 19, 37, 16, 24, 19]


@pytest.mark.parametrize("weights", [{"a": 0.7, "b": 0.3}, {"a": 1 / 3, "b": 0.1, "c": 1e-5}])
def test_shares_do_not_drift_far_out(weights: dict[str, float]) -> None:
    index = MixtureIndex([(0, {"a": 1.0}), (24, weights)], dict.fromkeys("abc", 10**6))
    segment = index.segments[-1]
    block = longest_block(segment, index.block_rows)
    rows = segment.stretch.start + 10**12 // block * block
    counts = index.counts(rows)
    total = sum(Fraction(repr(weight)) for weight in weights.values())
    for name, weight in weights.items():
        exact = Fraction(repr(weight)) / total * (rows - 24) + (24 if name == "a" else 0)
        assert abs(counts[name] - exact) < 1
    task, _ = index.lookup(np.arange(rows, rows + 700))
    later = index.counts(rows + 700)
    tally = np.bincount(task, minlength=len(index.tasks)).tolist()
    assert [later[name] - counts[name] for name in index.tasks] == tally


def test_a_task_goes_on_where_the_previous_stage_left_it() -> None:
    stages = ((0, {"a": 0.5, "b": 0.5}), (8 * 64, {"b": 1.0}), (8 * 96, {"a": 1.0}))
    index = MixtureIndex(stages, {"a": 1000, "b": 1000}, block_rows=8)
    task, row = index.lookup(np.arange(8 * 96 + 400))
    for number in range(2):
        mine = row[task == number]
        assert len(set(mine.tolist())) == len(mine) > 500


def test_short_stages_take_no_row_back() -> None:
    stages = (
        (0, {"a": 0.5, "b": 0.7, "c": 0.1}),
        (1, {"a": 0.2, "b": 0.05, "c": 0.2}),
        (2, {"a": 0.9, "b": 0.05, "c": 0.9}),
        (32, {"a": 0.05, "b": 0.1, "c": 0.1}),
    )
    index = MixtureIndex(stages, dict.fromkeys("abc", 1000), block_rows=16)
    counts = np.array([list(index.counts(rows).values()) for rows in range(200)])
    assert (counts.sum(axis=1) == np.arange(200)).all()
    assert (np.diff(counts, axis=0) >= 0).all()
    task, row = index.lookup(np.arange(200))
    assert len(set(zip(task.tolist(), row.tolist(), strict=True))) == 200


def test_seeds_and_tasks_have_orders_of_their_own() -> None:
    def order(seed: int, name: str) -> list[int]:
        index = MixtureIndex([(0, {name: 1.0})], {name: 500}, seed=seed)
        return index.lookup(np.arange(500))[1].tolist()

    assert order(0, "a") == order(0, "a")
    orders = [order(0, "a"), order(1, "a"), order(0, "b")]
    for one, other in itertools.combinations(orders, 2):
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 20


def test_a_spent_task_leaves_its_share_to_the_others_in_proportion() -> None:
    stages = [(0, {"a": 0.5, "b": 0.3, "c": 0.2})]
    index = MixtureIndex(stages, dict.fromkeys("abc", 100), caps={"a": 150}, block_rows=10)
    assert [segment.stretch.length for segment in index.segments][1] is None
    # 150 rows of a at a half: they last for 300 rows of the stream.
    assert index.segments[1].stretch.start == 300
    assert index.segments[1].stretch.shares == {"b": Fraction(3, 5), "c": Fraction(2, 5)}
    start = index.segments[1].stretch.start
    assert index.counts(start)["a"] == index.counts(10**6)["a"] == 150
    later = index.counts(start + 1000)
    assert later["b"] - index.counts(start)["b"] == 600


@pytest.mark.parametrize("sizes", [{"a": 10, "b": 0}, {"a": 10}])
def test_a_task_without_rows_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="task b has a positive weight but no rows"):
        MixtureIndex([(0, {"a": 0.5, "b": 0.5})], sizes)


def test_a_share_that_no_run_would_see_is_refused() -> None:
    stages = [(0, {"a": 1.0}), (5, {"a": 1.0, "b": 1e-9})]
    with pytest.raises(ValueError, match=r"task b has a share of 1.0e-09, less than a row in"):
        MixtureIndex(stages, {"a": 10, "b": 10})


@settings(max_examples=60, deadline=None)
@given(indexes(), st.data())
def test_an_index_that_goes_on_reads_what_was_left(
    index: MixtureIndex, data: st.DataObject
) -> None:
    total = span(index, 600)
    cuts = sorted(data.draw(st.lists(st.integers(0, total), min_size=1, max_size=3)))
    seen: dict[str, list[int]] = {name: [] for name in index.tasks}
    now, before = index, 0
    # Of a task that a mixture doesn't have, what was read before stays as it is.
    read: dict[str, Read] = {}
    for cut in [*cuts, total]:
        rows = min(cut - before, 10**9 if now.end is None else now.end)
        task, row = now.lookup(np.arange(rows))
        for number, name in enumerate(now.tasks):
            seen[name] += row[task == number].tolist()
        read |= now.read_until(rows)
        # Another mixture goes on: the last stage's shares the other way round.
        _, weights = now.stages[-1]
        turned = dict(zip(weights, reversed(list(weights.values())), strict=True))
        now = MixtureIndex(
            [(0, turned)], index.sizes, seed=index.seed, block_rows=7, caps=index.caps,
            read={name: read.get(name, Read()) for name in index.tasks},
        )  # fmt: skip
        before = cut
        assert {name: r.count for name, r in read.items()} == {
            name: len(rows) for name, rows in seen.items() if name in read
        }
        if now.end == 0:
            break
    for name, rows_read in seen.items():
        # All places of the task's order up to some are read once, but for those that wait.
        size, waiting = index.sizes[name], len(read[name].pending) if name in read else 0
        tally = np.bincount(rows_read, minlength=size)
        assert tally.max(initial=0) <= -(-(len(rows_read) + waiting) // size)
        assert len(rows_read) <= index.caps.get(name, 10**9)


def test_a_rare_task_is_spread_over_its_blocks() -> None:
    weights = {"a": 0.98, "b": 0.01, "c": 0.01}
    index = MixtureIndex([(0, weights)], dict.fromkeys("abc", 10**6), block_rows=10)
    block = longest_block(index.segments[0], 10)
    task, _ = index.lookup(np.arange(2000 * block))
    for number in (1, 2):
        places = np.flatnonzero(task == number) % block
        tenths = np.bincount(places * 10 // block, minlength=10)
        expected = len(places) / 10
        assert np.abs(tenths - expected).max() < 5 * np.sqrt(expected)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
def test_permutations_are_bijections(size: int, key: int) -> None:
    values = permutation.permute(np.arange(size), size, np.uint64(key))
    np.testing.assert_array_equal(np.sort(values), np.arange(size))


def test_permutations_look_random() -> None:
    """Means of many statistics, each of which is standard normal for random permutations."""
    size, number = 997, 400
    base = permutation.key_of("statistics")
    index = np.arange(size)
    keys = permutation.subkey(base, np.arange(number))
    table = np.stack([permutation.permute(index, size, key) for key in keys])
    table = (table - (size - 1) / 2) / np.sqrt((size**2 - 1) / 12)
    scale = np.sqrt(size - 1)
    statistics = {
        "with the identity": table @ table[0][np.argsort(table[0])] / size * scale,
        "between neighbouring keys": np.sum(table[1:] * table[:-1], axis=1) / size * scale,
        "between neighbouring places": np.sum(table[:, 1:] * table[:, :-1], axis=1) / size * scale,
        "of one place over keys": table.sum(axis=0) / np.sqrt(number),
    }
    for name, values in statistics.items():
        assert abs(values.mean()) < 5 / np.sqrt(len(values)), name
        assert 0.8 < values.std() < 1.2, name
        assert np.abs(values).max() < 5.5, name


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.3])
@pytest.mark.parametrize("maximum", [None, 500])
def test_rates_are_seqios(temperature: float, maximum: int | None) -> None:
    seqio = pytest.importorskip("seqio")
    sizes = {"a": 10, "b": 700, "c": 100_000}
    ours = rates(sizes, temperature, maximum)
    for name, size in sizes.items():
        task = seqio.Task(
            f"rates_{name}",
            source=seqio.FunctionDataSource(
                lambda split, shuffle_files, seed=None: None,
                splits=["train"],
                num_input_examples={"train": size},
            ),
            preprocessors=[],
            output_features={},
        )
        theirs = seqio.mixing_rate_num_examples(task, maximum=maximum, temperature=temperature)
        assert ours[name] == pytest.approx(theirs)
