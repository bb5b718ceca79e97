"""Normalising: what each policy changes, what nothing may change, and that once is enough."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.document import Document
from twjax.corpus.text import spans
from twjax.corpus.text.normalize import NormalizeText

FULL = NormalizeText(width="fold", punctuation="full", quotes="corner", spaces="collapse")
CHARACTERS = (
    "漢字臺灣學“”‘’「」『』（）()[],;:?!.，。 \t\n\u3000\xa0|Ａ１ａa1豈\u200b\u200d\r`e\u0301/\\"
)
PIECES = [*CHARACTERS, "...", "。。。", "  ", "https://example.org/a(b),c", "`x, y`", "a@b.tw",
          "\n\n\n\n", "│", "這個國家", "\n    ", "```\n", "\uf900", "\ufdd0", "\ue000",
          "ﾊﾞ"]  # fmt: skip


def make(text: str) -> Document:
    return Document(id="x", text=text, source="s", license="l", lang="zh-TW")


def full(text: str) -> str:
    return FULL.normalize(text)[0]


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_once_is_enough(text):
    once = full(text)
    again, counts = FULL.normalize(once)
    assert again == once and counts == {}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_letters_and_han_stay(text):
    """Whatever is punctuated, the letters, numbers and Han are those of NFC, full width folded."""

    def core(text: str) -> str:
        folded = unicodedata.normalize("NFKC", text)
        return "".join(c for c in folded if unicodedata.category(c)[0] in "LN")

    assert core(full(text)) == core(text)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("你好,世界", "你好，世界"),
        ("你好, 世界;是嗎?", "你好，世界；是嗎？"),
        ("名稱:臺灣", "名稱：臺灣"),
        ("他說:「好」", "他說：「好」"),
        ("「好」,他說", "「好」，他說"),
        ("好了!\n再見", "好了！\n再見"),
        ("1,000 元", "1,000 元"),
        ("下午3:30開會", "下午3:30開會"),
        ("Java,Python 和 C", "Java,Python 和 C"),
        ("使用Java,再說", "使用Java,再說"),
        ("本法(以下簡稱甲法)規定", "本法（以下簡稱甲法）規定"),
        ("本法 (以下簡稱甲法) 規定", "本法（以下簡稱甲法）規定"),
        ("(一)總則", "（一）總則"),
        ("作業系統(OS)是", "作業系統(OS)是"),
        ("f(甲) = 1", "f(甲) = 1"),
        ("見[說明](說明.md)。", "見[說明](說明.md)。"),
        ("看 https://example.org/頁,面 吧", "看 https://example.org/頁,面 吧"),
        ("用 `甲,乙` 表示", "用 `甲,乙` 表示"),
        ("| 甲,乙 | 丙 |", "| 甲,乙 | 丙 |"),
        ("│甲,乙│", "│甲,乙│"),
        ("甲,乙      丙,丁", "甲,乙      丙,丁"),
        ("等等...", "等等……"),
        ("等等……好。。。", "等等……好……"),
        ("等。", "等。"),
        ("第１２條　Ａｂ，（ﾊﾞ）", "第12條 Ab，（バ）"),
        ("第 7  條  規定", "第 7 條 規定"),
        ("甲 \n乙\t\n\n\n\n\n丙", "甲\n乙\n\n\n丙"),
        ("    縮排", "    縮排"),
    ],
)
def test_the_policy_by_example(text, expected):
    assert full(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("這個國家說“你好”。", "這個國家說「你好」。"),
        ("這個國家說“他說‘好’了”。", "這個國家說「他說『好』了」。"),
        ("這個國家說「他說“好”了」。", "這個國家說「他說『好』了」。"),
        ("這個國家的‘學習’", "這個國家的「學習」"),
        ("這個國家說“你好。", "這個國家說“你好。"),
        ("這個國家說”你好“。", "這個國家說”你好“。"),
        ("這個國家說“hello”。", "這個國家說“hello”。"),
        ("這個國家 it’s 說“好”", "這個國家 it’s 說「好」"),
        ("这个国家说“你好”。", "这个国家说“你好”。"),
        ("“Hello,” he said.", "“Hello,” he said."),
        ("這個國家“甲\n乙”", "這個國家“甲\n乙”"),
        ("這個國家 | “甲” | “乙” |", "這個國家 | “甲” | “乙” |"),
    ],
)
def test_quotation_marks(text, expected):
    assert full(text) == expected


def test_everything_else_is_kept_by_default():
    text = "他說:“好,(好)”  ...  Ａ１　ﾊﾞ  \n\n\n\n\n"
    assert NormalizeText().normalize(text) == (text, {})


def test_compatibility_ideographs_by_policy():
    assert NormalizeText().normalize("豈\uf900é") == (
        "豈豈é", {"compatibility ideographs": 1, "composed documents": 1},
    )  # fmt: skip
    kept = NormalizeText(compatibility="keep")
    assert kept.normalize("豈\uf900e\u0301") == ("豈\uf900é", {"composed documents": 1})
    assert kept.normalize("豈\uf900é") == ("豈\uf900é", {})


def test_private_use_is_counted_and_kept():
    (kept,) = NormalizeText().apply([make("造\ue000字\U000f0000")]).kept
    assert kept.text == "造\ue000字\U000f0000" and kept.meta == {"private_use": "2"}


def test_chinese_punctuation_is_never_folded():
    marks = "，。、；：？！（）「」『』《》〈〉【】…—～％＋＝＠＃"
    assert full(f"國{marks}家") == f"國{marks}家"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_guarded_stretches_stay(text):
    plain = NormalizeText().normalize(text)[0]
    result = full(text)
    place = 0
    for start, stop in spans.protected(plain):
        place = result.find(plain[start:stop].rstrip(), place)
        assert place >= 0, plain[start:stop]
