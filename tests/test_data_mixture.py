"""Mixtures: shares, coverage, caps and order, against tallies and a slow reference."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twjax.config.schema import Mixture
from twjax.data import permutation, shares
from twjax.data.mixture import MixtureIndex, rates

TASKS = "abcde"


@st.composite
def indexes(draw: st.DrawFn, caps: bool = True) -> MixtureIndex:
    """Random weights (some tiny), sizes, stages, blocks and, for some tasks, epoch caps."""
    number = draw(st.integers(1, 5))
    weight = st.one_of(
        st.floats(0.001, 10),
        st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0, 1e-3]),
    )
    weights = st.lists(weight, min_size=number, max_size=number).filter(any)
    lengths = draw(st.lists(st.integers(1, 60), max_size=3))
    starts = [0, *itertools.accumulate(lengths)]
    stages = tuple((start, dict(zip(TASKS, draw(weights), strict=False))) for start in starts)
    used = {task for _, stage in stages for task, value in stage.items() if value > 0}
    limits = None
    if caps and draw(st.booleans()):
        limits = draw(
            st.dictionaries(st.sampled_from(sorted(used)), st.sampled_from([1, 1.5, 2, 7]))
        )
    mixture = Mixture(
        stages=stages,
        seed=draw(st.integers(0, 2**31)),
        max_epochs=limits,
        block_rows=draw(st.sampled_from([1, 2, 7, 16, 64])),
    )
    sizes = {task: draw(st.integers(1, 300)) for task in TASKS}
    return MixtureIndex(mixture, sizes, batch_size=draw(st.integers(1, 9)))


def whole_block(share: Fraction, block: int) -> int:
    """The length of the blocks that a task of this share is held to."""
    while share * block < 1:
        block *= 2
    return block


def longest_block(segment: shares.Segment, block: int) -> int:
    return max(whole_block(share, block) for share in segment.weights.values())


def span(index: MixtureIndex, most: int = 3000) -> int:
    """A number of rows that reaches every stage, as far as the tasks' rows go."""
    last = index.segments[-1]
    longest = longest_block(last, index.mixture.block_rows)
    end = last.start + (3 * longest if last.length is None else last.length)
    return min(end, most)


@settings(max_examples=150, deadline=None)
@given(indexes())
def test_shares_are_within_one_row_at_every_block_boundary(index: MixtureIndex) -> None:
    total = span(index)
    task, _ = index.lookup(np.arange(total))
    seen = np.cumsum(np.eye(len(index.tasks), dtype=int)[task], axis=0)
    seen = np.vstack([np.zeros_like(seen[:1]), seen])
    mixture, caps = index.mixture, index.caps
    anchor, owed = 0, dict.fromkeys(index.tasks, Fraction(0))
    previous: dict[str, Fraction] = {}
    for number, segment in enumerate(index.segments):
        if segment.start >= total:
            break
        # Who shares these rows, from the configuration and what was really handed out.
        step = segment.start // index.batch_size
        stage = [w for start, w in mixture.stages if start <= step][-1]
        active = {
            name: Fraction(repr(float(weight)))
            for name, weight in stage.items()
            if weight > 0 and seen[segment.start][index.tasks.index(name)] < caps.get(name, 10**9)
        }
        share = {name: weight / sum(active.values()) for name, weight in active.items()}
        assert segment.weights == share
        carried = number > 0 and segment.carry == index.segments[number - 1].carry_out()
        if not (carried and list(previous) == list(segment.weights)):
            longest = longest_block(segment, mixture.block_rows)
            long = segment.length is None or segment.length >= longest
            assert not (long and list(previous) == list(segment.weights)), "carry was dropped"
            anchor, owed = segment.start, dict.fromkeys(index.tasks, Fraction(0))
        end = total if segment.length is None else segment.start + segment.length
        for name in index.tasks:
            portion = share.get(name, Fraction(0))
            block = whole_block(portion, mixture.block_rows) if portion else mixture.block_rows
            # The last block of a segment that ends takes the rest.
            number_of = max((end - segment.start) // block - (segment.length is not None), 0)
            edges = [segment.start + k * block for k in range(1, number_of + 1)]
            column = index.tasks.index(name)
            for edge in [*edges, *([end] if segment.length is not None else [])]:
                if edge > total:
                    break
                real = seen[edge][column] - seen[anchor][column]
                want = owed[name] + portion * (edge - segment.start)
                assert abs(real - want) < 1, (name, edge, real, float(want))
        if segment.length is not None:
            for name in owed:
                owed[name] += share.get(name, Fraction(0)) * segment.length
        previous = segment.weights


@settings(max_examples=100, deadline=None)
@given(indexes())
def test_every_epoch_reads_each_row_once_and_caps_hold(index: MixtureIndex) -> None:
    ends = [s.start + s.length for s in index.segments if s.length is not None]
    last = index.segments[-1]
    if last.length is None:
        ends += [last.start + longest_block(last, index.mixture.block_rows)]
    total = min([end for end in ends if end <= 4000][-1:] or [0])
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
    mixture = Mixture(stages=((0, {"a": 0.7, "b": 0.1, "c": 0.2}),), seed=5, block_rows=64)
    sizes = {"a": 1000, "b": 7, "c": 99_991}
    index = MixtureIndex(mixture, sizes, batch_size=1)
    weights = {"a": Fraction(7, 10), "b": Fraction(1, 10), "c": Fraction(2, 10)}
    rows = np.arange(first, first + 200)
    task, row = index.lookup(rows)
    for i, position in enumerate(rows.tolist()):
        expected = slow_lookup(weights, sizes, 5, 64, position)
        assert (index.tasks[task[i]], row[i]) == expected


def test_the_order_is_the_one_that_older_runs_were_trained_on() -> None:
    mixture = Mixture(stages=((0, {"a": 0.7, "b": 0.3}), (4, {"b": 1.0, "c": 1.0})), seed=1)
    index = MixtureIndex(mixture, {"a": 50, "b": 40, "c": 30}, batch_size=4)
    task, row = index.lookup(np.arange(10, 22))
    assert task.tolist() == GOLDEN_TASKS
    assert row.tolist() == GOLDEN_ROWS


GOLDEN_TASKS = [0, 0, 0, 1, 1, 0, 1, 2, 1, 1, 2, 2]
GOLDEN_ROWS = [47, 36, 33, 4, 15, 18, 31, 19, 22, 28, 24, 19]


@pytest.mark.parametrize("weights", [{"a": 0.7, "b": 0.3}, {"a": 1 / 3, "b": 0.1, "c": 1e-5}])
def test_shares_do_not_drift_far_out(weights: dict[str, float]) -> None:
    index = MixtureIndex(
        Mixture(stages=((0, {"a": 1.0}), (3, weights))), dict.fromkeys("abc", 10**6), batch_size=8
    )
    segment = index.segments[-1]
    block = longest_block(segment, index.mixture.block_rows)
    rows = segment.start + 10**12 // block * block
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
    stages = ((0, {"a": 0.5, "b": 0.5}), (64, {"b": 1.0}), (96, {"a": 1.0}))
    index = MixtureIndex(Mixture(stages=stages, block_rows=8), {"a": 1000, "b": 1000}, batch_size=8)
    task, row = index.lookup(np.arange(8 * 96 + 400))
    for number in range(2):
        mine = row[task == number]
        assert len(set(mine.tolist())) == len(mine) > 500


def test_a_carry_that_would_take_rows_back_is_dropped() -> None:
    stages = (
        (0, {"a": 0.5, "b": 0.7, "c": 0.1}),
        (1, {"a": 0.2, "b": 0.05, "c": 0.2}),
        (2, {"a": 0.9, "b": 0.05, "c": 0.9}),
        (32, {"a": 0.05, "b": 0.1, "c": 0.1}),
    )
    index = MixtureIndex(
        Mixture(stages=stages, block_rows=16), dict.fromkeys("abc", 1000), batch_size=1
    )
    counts = np.array([list(index.counts(rows).values()) for rows in range(200)])
    assert (counts.sum(axis=1) == np.arange(200)).all()
    assert (np.diff(counts, axis=0) >= 0).all()
    task, row = index.lookup(np.arange(200))
    assert len(set(zip(task.tolist(), row.tolist(), strict=True))) == 200


def test_seeds_and_tasks_have_orders_of_their_own() -> None:
    def order(seed: int, name: str) -> list[int]:
        index = MixtureIndex(
            Mixture(stages=((0, {name: 1.0}),), seed=seed), {name: 500}, batch_size=1
        )
        return index.lookup(np.arange(500))[1].tolist()

    assert order(0, "a") == order(0, "a")
    orders = [order(0, "a"), order(1, "a"), order(0, "b")]
    for one, other in itertools.combinations(orders, 2):
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 20


def test_a_spent_task_leaves_its_share_to_the_others_in_proportion() -> None:
    mixture = Mixture(
        stages=((0, {"a": 0.5, "b": 0.3, "c": 0.2}),), max_epochs={"a": 1.5}, block_rows=10
    )
    index = MixtureIndex(mixture, {"a": 100, "b": 100, "c": 100}, batch_size=1)
    assert [segment.length for segment in index.segments][1] is None
    # 150 rows of a at a half: they last for 300 rows of the stream.
    assert abs(index.segments[1].start - 300) <= 2
    assert index.segments[1].weights == {"b": Fraction(3, 5), "c": Fraction(2, 5)}
    start = index.segments[1].start
    assert index.counts(start)["a"] == index.counts(10**6)["a"] == 150
    later = index.counts(start + 1000)
    assert later["b"] - index.counts(start)["b"] == 600


def test_running_out_is_an_error_before_the_run_starts() -> None:
    mixture = Mixture(stages=((0, {"a": 0.5, "b": 0.5}),), max_epochs=2)
    sizes = {"a": 10, "b": 30}
    index = MixtureIndex(mixture, sizes, batch_size=4, steps=20)
    assert index.counts(80) == {"a": 20, "b": 60}
    with pytest.raises(ValueError) as caught:
        MixtureIndex(mixture, sizes, batch_size=4, steps=21)
    assert str(caught.value) == (
        "Mixture.max_epochs: no task of the stage from step 0 on has rows left at step 20, and "
        "the run needs 21 steps: a (10 rows, at most 2 epochs), b (30 rows, at most 2 epochs); "
        "raise max_epochs, add tasks or train fewer steps."
    )
    with pytest.raises(IndexError, match="row 80 was asked for"):
        index.lookup(np.array([80]))


def test_a_stage_whose_tasks_are_spent_is_an_error_even_if_a_later_one_is_not() -> None:
    mixture = Mixture(stages=((0, {"a": 1.0}), (50, {"b": 1.0})), max_epochs={"a": 1})
    with pytest.raises(ValueError, match=r"stage from step 0 on has rows left at step 10, and"):
        MixtureIndex(mixture, {"a": 10, "b": 10}, batch_size=1, steps=60)


@pytest.mark.parametrize(
    ("caps", "sizes", "message"),
    [
        (None, {"a": 10, "b": 0}, "task b has a positive weight but no rows"),
        (None, {"a": 10}, "task b has a positive weight but no rows"),
        ({"a": 0.01}, {"a": 10, "b": 10}, r"max_epochs of a \(0.01\) leaves none of its 10 rows"),
        ({"z": 2}, {"a": 10, "b": 10}, "max_epochs names z, which no stage reads"),
    ],
)
def test_mixtures_that_cannot_be_are_refused(caps, sizes, message: str) -> None:
    mixture = Mixture(stages=((0, {"a": 0.5, "b": 0.5}),), max_epochs=caps)
    with pytest.raises(ValueError, match=message):
        MixtureIndex(mixture, sizes, batch_size=1)


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
