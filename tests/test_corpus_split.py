"""Splitting: nothing is lost, nothing is too large, and sentences stay whole."""

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.document import Document
from twjax.corpus.text import split
from twjax.corpus.text.split import SplitDocuments

PIECES = ["天氣很好。", "「真的嗎？」", "他說：「去吧！」", "然後……", "\n", "\n\n", "## 標題\n",
          "第 1 條 ", "word ", "The end. ", "3.14", "，", "é", "e\u0301", "👨\u200d👩", "𠀀",
          "\r\n", "一", "https://example.org/a.b?c=d ", "```\ncode. Code\n```\n",
          "Mr. Wang "]  # fmt: skip
SENTENCES = ["他笑了。", "「好嗎？」她問。", "走吧！", "「他說：『是。』」", "不知道……", "天黑了；",
             "雨停了。\n", "（完。）"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=60).map("".join) | st.text(max_size=80)


def make(text: str) -> Document:
    return Document(id="d", text=text, source="s", license="l", lang="zh-TW", meta={"k": "v"})


@settings(max_examples=300, deadline=None)
@given(
    TEXTS, st.integers(1, 60), st.sampled_from(["characters", "bytes"]), st.sampled_from([0, 0.5])
)
def test_parts_are_the_text_and_small_enough(text, limit, unit, fill):
    parts = SplitDocuments(limit=limit, unit=unit, fill=fill).split(text)
    assert "".join(parts) == text
    assert all(parts) or parts == [""]
    for part in parts:
        size = len(part) if unit == "characters" else len(part.encode("utf-8", "surrogatepass"))
        assert size <= limit or len(part) == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=40))
def test_no_sentence_is_cut_that_fits(sentences):
    text = "".join(sentences)
    ends = set(np.cumsum([len(s) for s in sentences]).tolist())
    ends |= {m.end() for m in regex.finditer("「好嗎？」", text)}
    parts = SplitDocuments(limit=12).split(text)
    assert set(np.cumsum([len(p) for p in parts]).tolist()) <= ends


def test_the_best_place_is_taken():
    text = "# 甲\n一二三。四五六。\n\n# 乙\n一二三。四五六。\n\n丙丙丙。丁丁丁。\n"
    assert SplitDocuments(limit=26).split(text) == [
        "# 甲\n一二三。四五六。\n\n", "# 乙\n一二三。四五六。\n\n丙丙丙。丁丁丁。\n",
    ]  # fmt: skip
    law = "第 1 條 甲乙丙丁。\n第 2 條 甲乙丙丁。\n戊己庚辛。\n第 3 條 甲乙。"
    assert SplitDocuments(limit=36).split(law)[-1] == "第 3 條 甲乙。"
    english = "Mr. Wang paid 3.14 dollars. He left. She stayed for a long, long while."
    assert SplitDocuments(limit=40).split(english)[0] in (
        "Mr. Wang paid 3.14 dollars. He left. ", "Mr. Wang paid 3.14 dollars. ",
    )  # fmt: skip
    # A sentence that is too large is cut at a pause, and characters stay whole.
    assert SplitDocuments(limit=6).split("一二三，四五六七") == ["一二三，", "四五六七"]
    assert SplitDocuments(limit=3).split("ae\u0301e\u0301e\u0301") == [
        "ae\u0301",
        "e\u0301",
        "e\u0301",
    ]


def test_the_last_part_is_no_scrap():
    text = "一二三四五六七八九。" * 11
    assert [len(p) for p in SplitDocuments(limit=100).split(text)] == [80, 30]


def test_documents_become_parts():
    outcome = SplitDocuments(limit=6).apply([make("天氣很好。天氣很壞。"), make("短。")])
    assert [(d.id, d.text) for d in outcome.kept] == [
        ("d#1", "天氣很好。"), ("d#2", "天氣很壞。"), ("d", "短。"),
    ]  # fmt: skip
    assert outcome.kept[1].meta == {"k": "v", "part": "2", "parts": "2", "part_of": "d"}
    assert outcome.changed == {"documents": 1, "parts": 2}
    again = SplitDocuments(limit=6).apply(outcome.kept)
    assert again.kept == outcome.kept and not again.changed


def test_tokens_by_estimate_and_by_costs():
    text = "天氣很好。" * 20
    parts = SplitDocuments(limit=50, unit="tokens", tokens_per_byte=0.5).split(text)
    assert [len(p.encode()) * 0.5 <= 50 for p in parts] == [True] * len(parts)
    assert "".join(parts) == text
    # A vocabulary that has each sentence as one token.
    costs = np.zeros(len(text))
    costs[::5] = 1
    assert split.cuts(text, costs, 8, 0.5) == [40, 80]


@pytest.mark.parametrize(
    "wrong, field",
    [
        ({"limit": 0}, "limit"),
        ({"limit": 5, "unit": "tokens"}, "tokens_per_byte"),
        ({"limit": 5, "tokens_per_byte": 1.0}, "tokens_per_byte"),
        ({"limit": 5, "unit": "tokens", "tokens_per_byte": -1.0}, "tokens_per_byte"),
        ({"limit": 5, "fill": 1.0}, "fill"),
    ],
)
def test_wrong_parameters_are_named(wrong, field):
    with pytest.raises(ValueError, match=field):
        SplitDocuments(**wrong)
