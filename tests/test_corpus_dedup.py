"""Duplicates of all sizes against brute force, for any cut of the corpus and any memory."""

import gzip
import itertools
import json
import pathlib
import random
import re
import tempfile
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.document import Document
from twjax.corpus.duplicates import spill
from twjax.corpus.duplicates.dedup import ExactDedup
from twjax.corpus.duplicates.ids import UniqueIds
from twjax.corpus.duplicates.lines import LineDedup
from twjax.corpus.duplicates.near import NearDedup
from twjax.corpus.duplicates.substring import SubstringDedup, sentence_ends
from twjax.corpus.step import Records, keepers

TEXTS = pathlib.Path(__file__).parent.parent / "configs" / "corpora" / "texts"


def make(texts, sources=None):
    sources = sources or ["s"] * len(texts)
    return [
        Document(id=str(i), text=t, source=s, license="l", lang="zh-TW")
        for i, (t, s) in enumerate(zip(texts, sources, strict=True))
    ]


def laws(count):
    with gzip.open(TEXTS / "tw_laws.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in itertools.islice(file, count)]


def build(step, documents, cuts=(), budget=1 << 30):
    """Runs a global step on units cut anywhere; returns (id, text) kept, (id, value) rejected."""
    bounds = [0, *sorted(cuts), len(documents)]
    units = [documents[a:b] for a, b in itertools.pairwise(bounds)]
    requests = [None] * len(units)
    with tempfile.TemporaryDirectory() as folder:
        for round in range(step.rounds):
            arrays = [
                step.map(round, unit, request) if unit else None
                for unit, request in zip(units, requests, strict=True)
            ]
            scratch = pathlib.Path(folder, str(round))
            scratch.mkdir()
            records = Records(arrays, [len(unit) for unit in units], budget)
            requests = list(step.reduce(round, records, scratch))
    kept, rejected = [], []
    for unit, request in zip(units, requests, strict=True):
        if unit:
            names = {int(n): documents[n].id for n in keepers(request)}
            outcome = step.decide(unit, request, names)
            kept += [(d.id, d.text) for d in outcome.kept]
            rejected += [(r.document.id, r.value) for r in outcome.rejected]
    return kept, rejected


def grams(text, length=5):
    plain = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())
    return {plain[i : i + length] for i in range(len(plain) - length + 1)}


def varied(count, seed):
    """Laws and copies of them, some changed beyond recognition, in any order."""
    chance, originals = random.Random(seed), [t[:1500] for t in laws(count // 2)]
    texts = list(originals)
    while len(texts) < count:
        text, rate = chance.choice(originals), chance.choice([0, 0.005, 0.02, 0.08])
        text = "".join(chance.choice("的一是了不") if chance.random() < rate else c for c in text)
        text = chance.choice([
            text, text[: int(len(text) * chance.uniform(0.5, 1))], text + "\n回上一頁｜列印",
            re.sub(r"\s+", "", text), unicodedata.normalize("NFKC", text),
        ])  # fmt: skip
        texts.append(text)
    chance.shuffle(texts)
    return texts


ANY = st.lists(st.sampled_from("甲乙丙丁"), max_size=30)


@settings(max_examples=60, deadline=None)
@given(ANY, st.lists(st.integers(0, 30), max_size=4), st.sampled_from([1, 1 << 30]))
def test_exact_dedup_keeps_the_first_whatever_the_cuts_and_the_memory(texts, cuts, budget):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_LEAST_ROWS", 4)
        cuts = [min(c, len(texts)) for c in cuts]
        kept, rejected = build(ExactDedup(), make(texts), cuts, budget)
    first = {text: str(texts.index(text)) for text in texts}
    assert [id for id, _ in kept] == sorted(first.values(), key=int)
    assert rejected == [(str(i), first[t]) for i, t in enumerate(texts) if first[t] != str(i)]


def all_pairs(texts):
    """Returns {(i, j): similarity} of all pairs i < j."""
    sets = [grams(text) for text in texts]
    return {
        (i, j): len(sets[i] & sets[j]) / max(1, len(sets[i] | sets[j]))
        for i, j in itertools.combinations(range(len(texts)), 2)
    }


def test_near_dedup_finds_what_brute_force_finds():
    texts = varied(240, seed=1)
    _, rejected = build(NearDedup(), make(texts))
    pairs = all_pairs(texts)
    cluster = list(range(len(texts)))
    for _ in texts:
        for (i, j), value in pairs.items():
            if value >= 0.8:
                cluster[i] = cluster[j] = min(cluster[i], cluster[j])
    keeper = {int(a): int(b) for a, b in rejected}
    expected = {i for i in range(len(texts)) if cluster[i] != i}
    assert len(expected) > 40 and any(0.5 < v < 0.8 for v in pairs.values())
    assert all(cluster[i] == cluster[k] for i, k in keeper.items())  # Precision: nothing else.
    assert len(keeper.keys() & expected) >= 0.95 * len(expected)
    found = sum(keeper.get(i, i) == keeper.get(j, j) for (i, j), v in pairs.items() if v >= 0.8)
    assert found >= 0.95 * sum(v >= 0.8 for v in pairs.values())


def chain():
    """Returns texts of which each is similar to its neighbours only, and some equal ones."""
    chance = random.Random(0)
    text = [chr(c) for c in chance.sample(range(0x4E00, 0x9F00), 400)]
    texts = []
    for _ in range(12):
        texts.append("".join(text))
        for place in chance.sample(range(400), 7):
            text[place] = chr(chance.randrange(0x4E00, 0x9F00))
    return [*texts, texts[5] + "。", texts[2] + "！"]


@pytest.mark.parametrize("keep", ["first", "longest"])
def test_a_chain_is_one_cluster_or_is_cut_where_nothing_similar_stays(keep):
    texts = chain()
    pairs = {pair: v for pair, v in all_pairs(texts).items() if v >= 0.8}
    assert pairs.keys() >= {(i, i + 1) for i in range(11)} and (0, 11) not in pairs
    step = NearDedup(bands=40, rows=4, keep=keep)  # So many bands that no pair is overlooked.
    assert len(build(step, make(texts))[0]) == 1
    stays, gone = [], {}
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]) if keep == "longest" else 0, i))
    for i in order:
        keeper = next((k for k in stays if (min(i, k), max(i, k)) in pairs), None)
        if keeper is None:
            stays.append(i)
        else:
            gone[i] = keeper
    step = NearDedup(bands=40, rows=4, keep=keep, linkage="kept")
    for cuts in ([], [3, 3, 9]):
        kept, rejected = build(step, make(texts), cuts)
        assert [int(id) for id, _ in kept] == sorted(stays)
        assert {int(a): int(b) for a, b in rejected} == gone


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 120), max_size=6),
    st.sampled_from([1, 1 << 30]),
    st.sampled_from(["cluster", "kept"]),
)
def test_near_dedup_does_not_depend_on_cuts_or_memory(cuts, budget, linkage):
    documents = make([*(t[:400] for t in varied(100, seed=2)), *["短文", "短文。"] * 10])
    step = NearDedup(keep="longest", linkage=linkage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_LEAST_ROWS", 16)
        assert build(step, documents, cuts, budget) == build(step, documents)


def test_one_batch_is_a_corpus_of_its_own():
    documents = make(varied(60, seed=3))
    outcome = NearDedup().apply(documents)
    kept, rejected = build(NearDedup(), documents, [7, 7, 30])
    assert [(d.id, d.text) for d in outcome.kept] == kept
    assert [(r.document.id, r.value) for r in outcome.rejected] == rejected
    assert {r.reason for r in outcome.rejected} == {"near duplicate"}
    assert NearDedup().apply([]).kept == []


def test_near_dedup_sees_through_wrapping_width_and_punctuation():
    text = laws(3)[2][:600]
    flat = re.sub(r"\s+", "", text)
    wrapped = "\r\n　　".join(flat[i : i + 17] for i in range(0, len(flat), 17))
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    bare = re.sub(r"[^\w]", " ", text)
    _, rejected = build(NearDedup(threshold=1.0), make([text, wrapped, wide, bare]))
    assert rejected == [("1", "0"), ("2", "0"), ("3", "0")]


def test_short_documents_are_duplicates_only_if_equal():
    texts = [
        "第一條",
        "第　一　條。",
        "第二條",
        "",
        "——",
        "……",
        "本法自公布日施行",
        "本法自公布日施行之",
    ]
    _, rejected = build(NearDedup(threshold=0.3), make(texts))
    assert rejected == [("1", "0")]
    _, rejected = build(NearDedup(threshold=0.3, min_letters=5), make(texts))
    assert rejected == [("1", "0"), ("7", "6")]


@pytest.mark.parametrize(
    ("step", "stays"),
    [
        (NearDedup(), "0"),
        (NearDedup(keep="longest"), "2"),
        (NearDedup(sources=("b", "a")), "1"),
        (NearDedup(sources=("b", "a"), keep="longest"), "3"),
        (NearDedup(sources=("z",)), "0"),
    ],
)
def test_the_stated_preference_decides_which_one_stays(step, stays):
    text = laws(1)[0][:500]
    longer, longest = text + "。" * 20, text + "，甲乙丙"
    texts = [text, text, longest + "。" * 40, longer]
    kept, rejected = build(step, make(texts, ["a", "b", "c", "b"]), [1, 2])
    assert [id for id, _ in kept] == [stays] and {value for _, value in rejected} == {stays}


def test_a_template_does_not_join_what_differs():
    head = laws(1)[0][:300]
    chance = random.Random(0)
    texts = [head + "".join(chances(chance, 250)) for _ in range(300)]
    assert build(NearDedup(), make(texts))[1] == []
    # A crowded band: copies are found among hundreds that share it.
    copies = [t[:-3] + "甲乙丙" for t in texts[::10]]
    _, rejected = build(NearDedup(), make(texts + copies))
    assert rejected == [(str(300 + i), str(10 * i)) for i in range(30)]


def chances(chance, count):
    return [chr(chance.randrange(0x4E00, 0x9FA0)) for _ in range(count)]


def test_line_dedup_takes_out_what_an_earlier_document_has():
    line = "本網站資料僅供參考，正式內容以各機關公告及政府公報所載者為準，請讀者自行查證後引用之。"
    texts = [
        f"甲文的第一行。\n{line}\n{line}\n第一條",
        f"乙文說的是別的事情，與甲文沒有任何相同的地方，當然也比較長一點，這樣才會留下來。\n第一條。\n{line}",
        f"{line}\n第一條",
        "第一條\n甲文的第一行",
    ]
    kept, rejected = build(LineDedup(), make(texts), [1, 3])
    assert [text for _, text in kept] == [texts[0], texts[1][: -len(line) - 1], texts[3]]
    assert rejected == [("2", "0.930")]
    kept, rejected = build(LineDedup(policy="document"), make(texts))
    assert [text for _, text in kept] == [texts[0], texts[1], texts[3]] and len(rejected) == 1
    wrapped = (
        f"另一份文件\n\n{line[:20]}\n{line[20:]}\n\n結尾的段落也在這裡，它夠長而且沒有人見過。"
        + "字" * 20
    )
    for unit in ("paragraph", "sentence"):
        kept, _ = build(LineDedup(unit=unit), make([f"頭\n\n{line}", wrapped]))
        assert kept[1][1] == wrapped.replace(f"{line[:20]}\n{line[20:]}\n\n", "")
    halves = [
        f"{line[:-6]}\n甲而非乙。\n（{line}）",
        f"{line[:-6]}\n乙而非甲，\n丙也不是。\n（{line}）",
    ]
    kept, _ = build(LineDedup(min_letters=20), make(halves))
    assert kept[1][1] == halves[1][: -len(line) - 3]  # No half of a sentence went.


LINES = st.lists(
    st.lists(st.sampled_from(["甲" * 5, "乙丙" * 3, "短", "", "丁戊己" * 2]), max_size=6)
)


@settings(max_examples=100, deadline=None)
@given(LINES, st.lists(st.integers(0, 30), max_size=3))
def test_lines_against_a_set_of_lines_seen(documents, cuts):
    texts = ["\n".join(lines) for lines in documents]
    step = LineDedup(unit="line", min_letters=4, most=1.0)
    kept, rejected = build(step, make(texts), [min(c, len(texts)) for c in cuts])
    seen, expected = set(), []
    for text in texts:
        own = text.split("\n")
        expected.append("\n".join(x for x in own if len(x) < 4 or x not in seen))
        seen |= set(own)
    assert [text for _, text in kept] == expected and not rejected


def repeated(texts, length):
    """Returns for each text which characters an earlier window of `length` covers: naive."""
    first, covered = {}, []
    for number, text in enumerate(texts):
        marks = [False] * len(text)
        for place in range(len(text) - length + 1):
            other, at = first.setdefault(text[place : place + length], (number, place))
            if other != number or place >= at + length:
                marks[place : place + length] = [True] * length
        covered.append(marks)
    return covered


PIECES = st.lists(
    st.sampled_from(["甲乙丙丁戊己庚辛壬癸", "子丑寅卯辰巳。", "甲甲甲甲甲甲", "乙丙丁", "。"]),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(PIECES.map("".join), max_size=6),
    st.integers(8, 13),
    st.lists(st.integers(0, 6), max_size=3),
)
def test_substrings_are_those_of_a_naive_search(texts, length, cuts):
    step, documents = SubstringDedup(length=length), make(texts)
    bounds = [0, *sorted(min(c, len(texts)) for c in cuts), len(texts)]
    units = [documents[a:b] for a, b in itertools.pairwise(bounds)]
    requests = [None] * len(units)
    with tempfile.TemporaryDirectory() as folder:
        for round in range(2):
            arrays = [
                step.map(round, u, r) if u else None for u, r in zip(units, requests, strict=True)
            ]
            records = Records(arrays, [len(unit) for unit in units], 1)
            requests = list(step.reduce(round, records, pathlib.Path(folder)))
    found = [[False] * len(text) for text in texts]
    for start, request in zip(bounds, requests, strict=False):
        for index, begin, end in request.tolist():
            found[start + index][begin:end] = [True] * (end - begin)
    assert found == repeated(texts, length)


def test_passages_go_in_whole_sentences_and_the_first_copy_stays():
    passage = "".join(f"這是第{n}個句子，它在兩份文件裡一字不差。" for n in range(8))
    texts = [
        f"開頭。{passage}結尾在此",
        f"另一個開頭，{passage[5:]}另一個結尾也不同，而且長得多" + "字" * 120,
    ]
    kept, rejected = build(SubstringDedup(), make(texts), [1])
    assert kept[0][1] == texts[0] and not rejected
    cut = passage[5:].index("。") + 1  # The first sentence is whole only in the first text.
    assert kept[1][1] == texts[1].replace(passage[5 + cut :], "")
    _, rejected = build(SubstringDedup(), make([passage, passage + "完"]))
    assert [id for id, _ in rejected] == ["1"]
    assert sentence_ends("甲。」乙！\n丙 3.5 丁. 戊").tolist() == [0, 3, 6, 15, 16]


@pytest.mark.parametrize(
    ("make_step", "field"),
    [
        (lambda: NearDedup(threshold=0), "threshold"),
        (lambda: NearDedup(rows=0), "rows"),
        (lambda: NearDedup(bands=100, rows=100), "bands"),
        (lambda: NearDedup(linkage="none"), "linkage"),  # type: ignore[arg-type]
        (lambda: NearDedup(keep="last"), "keep"),  # type: ignore[arg-type]
        (lambda: LineDedup(most=0), "most"),
        (lambda: LineDedup(unit="word"), "unit"),  # type: ignore[arg-type]
        (lambda: SubstringDedup(length=3), "length"),
    ],
)
def test_parameters_out_of_range_are_named(make_step, field):
    with pytest.raises(ValueError, match=rf"\.{field}"):
        make_step()


def test_a_corpus_without_documents_or_without_letters():
    for step in (ExactDedup(), NearDedup(), LineDedup(), SubstringDedup()):
        assert build(step, [], [0, 0]) == ([], [])
        documents = make(["", "——"])
        assert build(step, documents, [1, 1])[0] == [(d.id, d.text) for d in documents]


def test_records_do_not_depend_on_neighbours():
    documents = make(varied(30, seed=5))
    for step in (NearDedup(), LineDedup(min_letters=10), SubstringDedup(length=20)):
        whole = step.map(0, documents, None)
        parts = []
        for index, document in enumerate(documents):
            part = step.map(0, [document], None)
            part["document"] += index
            parts.append(part)
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from("abcdé一"), max_size=25),
    st.lists(st.integers(0, 25), max_size=4),
    st.sampled_from([1, 1 << 20]),
)
def test_ids_become_unique_and_the_first_one_keeps_its_own(ids, cuts, budget):
    documents = [
        Document(id=id, text=f"t{n}", source="s", license="l", lang="en")
        for n, id in enumerate(ids)
    ]
    cuts = [min(c, len(ids)) for c in cuts]
    kept, rejected = build(UniqueIds(), documents, cuts, budget)
    seen: set[str] = set()
    expected = []
    for number, id in enumerate(ids):
        expected.append(f"{id}~{number}" if id in seen else id)
        seen.add(id)
    assert kept == [(id, f"t{n}") for n, id in enumerate(expected)] and not rejected
    kept, rejected = build(UniqueIds(policy="drop"), documents, cuts, budget)
    assert [id for id, _ in kept] == list(dict.fromkeys(ids))
    assert len(kept) + len(rejected) == len(ids)
    assert all(id == value for id, value in rejected)
