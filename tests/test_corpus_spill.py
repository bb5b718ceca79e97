"""Sorting beyond memory, components, and signatures, each against the plain way to do it."""

import itertools
import pathlib
import random
import re
import tempfile
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.duplicates import minhash, shingles, spill
from twjax.corpus.duplicates.clusters import Clusters
from twjax.corpus.step import Records

SMALL = st.integers(0, 5) | st.integers(0, 2**64 - 1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(SMALL, SMALL, SMALL), max_size=40), max_size=6),
    st.booleans(),
    st.sampled_from([1, 1 << 20]),
)
def test_sorter_gives_back_what_it_got_in_order(parts, unique, budget):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(spill, "_LEAST_ROWS", 7)  # Otherwise only large tests would spill.
            with spill.Sorter(path, "rows", 3, budget, unique) as sorter:
                for part in parts:
                    sorter.add(*np.array(part, np.uint64).reshape(-1, 3).T)
                found = [tuple(row) for block in sorter.blocks() for row in block.tolist()]
                spilled = list(path.iterdir())
        rows = [row for part in parts for row in part]
        assert found == sorted(set(rows) if unique else rows)
        assert bool(spilled) == (budget == 1 and len(rows) > 7)
        assert not list(path.iterdir())


def test_a_full_disk_is_told_in_one_line(tmp_path):
    (tmp_path / "rows-00000.run").symlink_to("/dev/full")
    with (
        pytest.raises(OSError, match=r"No space left.*rows-00000.run"),
        spill.Sorter(tmp_path, "rows", 2, 1) as sorter,
    ):
        sorter.add(np.arange(5000), np.arange(5000))
        list(sorter.blocks())


def test_large_arrays_are_files(tmp_path):
    assert not isinstance(spill.room(tmp_path, "small", 10, np.int64, 80), np.memmap)
    large = spill.room(tmp_path, "large", 1000, np.int64, 80)
    assert isinstance(large, np.memmap) and not large.any()
    assert (tmp_path / "large.npy").stat().st_blocks * 512 >= 8000


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 99))),
    st.sets(st.integers(0, 30)),
)
def test_leaders_are_the_first_of_each_group_over_any_blocks(rows, cuts):
    rows = sorted(rows)
    array = np.array(rows, np.uint64).reshape(-1, 3)
    firsts = {key: next(group) for key, group in itertools.groupby(rows, lambda row: row[:2])}
    found = []
    for own, first in spill.leaders(np.split(array, [c for c in sorted(cuts) if c < len(rows)]), 2):
        found += zip(map(tuple, own.tolist()), map(tuple, first.tolist()), strict=True)
    assert found == [(row, firsts[row[:2]]) for row in rows]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
def test_every_unit_gets_its_rows(sizes, data):
    numbers = data.draw(st.lists(st.integers(0, max(0, sum(sizes) - 1))).map(sorted))
    numbers = numbers if sum(sizes) else []
    cuts = sorted(data.draw(st.sets(st.integers(0, len(numbers)))))
    array = np.array([(n, n * 10) for n in numbers], np.uint64).reshape(-1, 2)
    records = Records([None] * len(sizes), sizes)
    found = list(spill.requests(np.split(array, cuts), records, [("value", "<i8")]))
    assert len(found) == len(sizes)
    for start, size, own in zip(records.starts, sizes, found, strict=True):
        expected = [n for n in numbers if start <= n < start + size]
        assert (own["document"] + start).tolist() == expected
        assert own["value"].tolist() == [10 * n for n in expected]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))), st.integers(1, 10))
def test_components_are_those_of_a_search(edges, block):
    clusters = Clusters(np.zeros(31, np.int64))
    for start in range(0, len(edges), block):
        part = np.array(edges[start : start + block])
        clusters.join(part[:, 0], part[:, 1])
    least = list(range(31))
    for _ in range(31):
        for a, b in edges:
            least[a] = least[b] = min(least[a], least[b])
    assert clusters.roots(np.arange(31)).tolist() == least


def test_a_long_chain_joined_backwards_is_one_component():
    clusters = Clusters(np.zeros(50_000, np.int64))
    order = np.arange(49_999)[::-1]
    clusters.join(order, order + 1)
    assert (clusters.roots(np.arange(50_000)) == 0).all()


TEXT = st.text(st.sampled_from("中文字ＡaÁ１①， \n。é\u0301ｶ㎏🙂"), max_size=30)


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, max_size=6), st.integers(1, 6))
def test_shingles_are_the_ngrams_of_each_text(texts, length):
    def plain(text):
        parts = []
        for c in text:
            form = unicodedata.normalize("NFKC", c)
            c = form if len(form) == 1 and form.isalnum() else c
            base = unicodedata.normalize("NFD", c)[0]
            parts.append((base if base < "\u0530" else c).lower())
        return re.sub(r"[\W_]+", "", "".join(parts))

    letters, starts = shingles.fold(texts)
    hashes, bounds = shingles.shingles(letters, starts, length)
    known = {}
    for i, text in enumerate(map(plain, texts)):
        assert starts[i + 1] - starts[i] == len(text)
        grams = [text[k : k + length] for k in range(len(text) - length + 1)]
        own = hashes[bounds[i] : bounds[i + 1]].tolist()
        assert len(own) == len(grams)
        for gram, hash in zip(grams, own, strict=True):
            assert known.setdefault(gram, hash) == hash
    assert len(set(known.values())) == len(known)


@pytest.mark.parametrize("length", [2, 5, 13, 50])
def test_window_hashes_tell_windows_apart_by_what_is_in_them(length):
    chance = random.Random(length)
    values = np.array([chance.choice([1, 2, 1 << 20]) for _ in range(20_000)], np.uint32)
    hashes = shingles.windows(values, length, np.uint64).tolist()
    windows = [tuple(values[i : i + length].tolist()) for i in range(len(values) - length + 1)]
    assert len(hashes) == len(windows)
    assert len(set(zip(windows, hashes, strict=True))) == len(set(windows)) == len(set(hashes))


@pytest.mark.parametrize("size", [1, 4, 30, 100, 400, 3000])
@pytest.mark.parametrize("similarity", [0.5, 0.9])
def test_signatures_agree_as_often_as_the_sets_are_similar(size, similarity):
    # The mean of 200 pairs of 112 bins: its deviation is at most 0.5 / sqrt(22,400) = 0.0033.
    chance = np.random.default_rng(size)
    hashes, bounds, true = [], [0], 0.0
    for _ in range(200):
        union = chance.integers(0, 2**32, size, np.uint32)
        apart = int((1 - similarity) * size) // 2
        for own in (union[: size - apart], union[apart:]):
            hashes.append(own)
            bounds.append(bounds[-1] + len(own))
        true += (size - 2 * apart) / size / 200
    found = minhash.signatures(np.concatenate(hashes), np.array(bounds), 112)
    agree = (found[::2] == found[1::2]).mean()
    assert abs(agree - true) < 0.015
    assert not (found == 0xFFFFFFFF).any()


def test_signatures_of_texts_do_not_depend_on_their_neighbours():
    chance = np.random.default_rng(3)
    sizes = [0, 1, 7, 200_000, 0, 90, 3000]
    hashes = chance.integers(0, 2**32, sum(sizes), np.uint32)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    whole = minhash.signatures(hashes, bounds, 112)
    for row, (low, high) in zip(whole, itertools.pairwise(bounds), strict=True):
        alone = minhash.signatures(hashes[low:high], np.array([0, high - low]), 112)
        np.testing.assert_array_equal(alone[0], row)
    keys = minhash.band_keys(whole, 14)
    assert keys.shape == (7, 14) and len(np.unique(keys[1:4])) == 42
    with pytest.raises(ValueError, match="112 bins"):
        minhash.band_keys(whole, 5)
