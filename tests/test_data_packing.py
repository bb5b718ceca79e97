"""Packing: every token once, nothing over a row's end, little padding, the same plan always."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.data import packing


def restore(plan: packing.Plan, lengths: list[int]) -> list[list[tuple[int, bool]]]:
    """Returns for each example its token positions with whether they are predicted."""
    order = np.lexsort((plan.start, plan.example))
    found: list[list[tuple[int, bool]]] = [[] for _ in lengths]
    for piece in order.tolist():
        start, length = int(plan.start[piece]), int(plan.length[piece])
        found[plan.example[piece]] += [(start + i, i > 0) for i in range(length)]
    return found


@settings(deadline=None)
@given(st.lists(st.integers(2, 200), max_size=60), st.integers(2, 50))
def test_every_token_but_the_first_is_predicted_exactly_once(lengths, seq_len):
    plan = packing.plan_decoder(np.array(lengths, np.int64), seq_len)
    for length, tokens in zip(lengths, restore(plan, lengths), strict=True):
        assert [at for at, predicted in tokens if predicted] == list(range(1, length))
        # What isn't predicted is the first token, or repeats the one before the cut.
        assert next(at for at, predicted in tokens if not predicted) == 0


@settings(deadline=None)
@given(st.lists(st.integers(2, 200), max_size=60), st.integers(2, 50))
def test_pieces_fill_rows_without_overlap(lengths, seq_len):
    plan = packing.plan_decoder(np.array(lengths, np.int64), seq_len)
    slots = np.zeros((plan.rows, seq_len), int)
    for row, at, length in zip(plan.row, plan.offset[:, 0], plan.length, strict=True):
        assert at + length <= seq_len
        slots[row, at : at + length] += 1
    assert slots.max(initial=0) <= 1
    assert (np.diff(slots, axis=1) <= 0).all(), "padding stands at the end"
    for row in range(plan.rows):
        mine = plan.segment[plan.row == row]
        assert mine.tolist() == list(range(1, len(mine) + 1))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), max_size=80),
    st.tuples(st.integers(12, 30), st.integers(8, 20)),
)
def test_both_sides_of_encoder_decoder_rows_fit(sizes, seq_len):
    inputs, targets = np.array(sizes, np.int64).reshape(-1, 2).T
    plan = packing.plan_encoder_decoder(inputs, targets, seq_len)
    assert sorted(plan.example.tolist()) == list(range(len(sizes)))
    for side, lengths in enumerate((inputs, targets)):
        ends = plan.offset[:, side] + lengths[plan.example]
        assert (ends <= seq_len[side]).all()
        for row in range(plan.rows):
            mine = plan.row == row
            taken = lengths[plan.example[mine]]
            assert plan.offset[mine, side].tolist() == (np.cumsum(taken) - taken).tolist()


def test_an_encoder_decoder_example_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="don't fit"):
        packing.plan_encoder_decoder(np.array([5]), np.array([9]), (8, 8))


def best_fit_decreasing(sizes: list[int], capacity: int) -> list[int]:
    """The textbook's way, looking at every row for every piece; returns the rows' rooms."""
    rooms: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [row for row, room in enumerate(rooms) if room >= size]
        if fitting:
            rooms[min(fitting, key=lambda row: rooms[row])] -= size
        else:
            rooms.append(capacity - size)
    return sorted(rooms)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=80))
def test_it_is_best_fit_decreasing(sizes):
    rows = packing._best_fit(np.array(sizes, np.int64), 40)
    taken = np.bincount(rows, weights=sizes)
    assert sorted((40 - taken).astype(int).tolist()) == best_fit_decreasing(sizes, 40)


def test_padding_is_small_on_documents_of_many_lengths():
    lengths = np.random.default_rng(0).lognormal(6.5, 1.0, 3000).astype(np.int64) + 2
    for seq_len in (512, 2048):
        plan = packing.plan_decoder(lengths, seq_len)
        assert 1 - plan.length.sum() / (plan.rows * seq_len) < 0.01


def test_windows_bound_the_work_and_keep_every_piece(monkeypatch):
    lengths = np.random.default_rng(1).integers(2, 60, 500)
    whole = packing.plan_decoder(lengths, 32)
    monkeypatch.setattr(packing, "WINDOW", 100)
    windowed = packing.plan_decoder(lengths, 32)
    assert sorted(windowed.example.tolist()) == sorted(whole.example.tolist())
    assert windowed.rows >= whole.rows
    assert windowed.length.sum() == whole.length.sum()


def test_the_first_rows_are_a_fair_sample():
    lengths = np.random.default_rng(2).integers(2, 1000, 4000)
    plan = packing.plan_decoder(lengths, 1000)
    per_row = np.bincount(plan.row)
    half = len(per_row) // 2
    assert abs(per_row[:half].mean() - per_row[half:].mean()) < 0.2


def test_scattering_is_the_same_with_every_numpy():
    mask, state, hashes = (1 << 64) - 1, 0, []
    for _ in range(1000):
        state = (state + 0x9E3779B97F4A7C15) & mask
        x = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        hashes.append(x ^ (x >> 31))
    assert hashes[0] == 0xE220A8397B1DCDAF  # Published first value of SplitMix64 from seed 0.
    ranks = {value: rank for rank, value in enumerate(sorted(hashes))}
    assert packing._scatter(1000).tolist() == [ranks[value] for value in hashes]
