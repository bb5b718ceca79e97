"""Simplified characters and mainland words in texts of which it is known what they are."""

from __future__ import annotations

import gzip
import json
import pathlib
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.conversion import opencc
from twjax.corpus.document import Document
from twjax.corpus.variety import script, usage
from twjax.evaluation import localisation
from twjax.evaluation.localisation import Writing, judge, measure

ROOT = pathlib.Path(__file__).resolve().parent.parent
TAIWAN = "這個影片的軟體品質很好，使用者可以透過網路存取伺服器的資料庫，把資訊列印出來。"
WORDED = "這個視頻的軟件質量很好，用戶可以通過網絡訪問服務器的數據庫，把信息打印出來。"
SIMPLIFIED = "这个视频的软件质量很好，用户可以通过网络访问服务器的数据库，把信息打印出来。"
JAPANESE = "今日は学校で国語の授業がありました。"
PIECES = [TAIWAN, WORDED, SIMPLIFIED, "", "English only.", JAPANESE, "公厘"]


def texts(name: str) -> list[str]:
    path = ROOT / f"configs/corpora/texts/{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def test_the_laws_have_no_simplified_character_and_none_is_the_mainlands():
    laws = texts("tw_laws")
    found = measure(laws)
    assert found.texts == len(laws) == 693 and found.han > 600_000
    assert found.simplified == found.with_simplified == 0
    assert judge(laws) == [""] * len(laws)
    assert found.record(0, "laws")["mainland_per_1000"] < 0.15


def test_mainland_documents_are_flagged():
    found = judge(texts("cn_general"))
    assert found.count("") <= 0.01 * len(found)
    assert found.count("script") >= 0.99 * len(found)


def test_most_documents_whose_characters_alone_were_converted_are_flagged_by_their_words():
    documents = [text[:20_000] for text in texts("cn_general")[::3]]
    found = judge(list(map(opencc.converter("s2t"), documents)))
    assert found.count("script") == 0
    assert found.count("words") >= 0.9 * len(found)


def test_taiwans_documents_are_not_flagged():
    for name in ("tw_transcripts", "tw_articles"):
        documents = texts(name)[::3]
        assert len(documents) - judge(documents).count("") <= 0.01 * len(documents), name


@pytest.mark.parametrize(
    ("text", "simplified", "mainland"),
    [
        (TAIWAN, 0, 0),
        # 視頻 軟件質量 用戶 可以通過 網絡 訪問 服務器 數據庫 信息 打印出
        (WORDED, 0, 10),
        ("他说话", 2, 0),
        ("口徑一百公厘，客庄的涂先生住在恒春", 0, 0),
        ("合成胜肽與胜\ue83d", 0, 0),
        ("胜利", 1, 0),
        ("日本新檢株式会社", 0, 0),
        ("开会", 2, 0),
        (JAPANESE, 0, 0),
        ("執行 `打印.软件()`", 1, 0),
    ],
)
def test_counts_of_known_texts(text, simplified, mainland):
    found = measure([text])
    assert (found.simplified, found.mainland) == (simplified, mainland)
    assert localisation.simplified(text) == simplified
    assert found.with_simplified == (simplified > 0)
    assert found.with_mainland == (mainland > 0)


@pytest.mark.parametrize("place", ["这是我の最爱", "这是我ノ最爱", "这是我のノ最爱"])
def test_a_few_kana_hide_no_simplified_text(place):
    text = f"我们今天去超市买了很多东西，{place}，软件质量很好"
    same = text.replace(place, "这是我的最爱")
    assert judge([text]) == judge([same]) == ["script"]
    assert measure([text]).simplified == measure([same]).simplified == 7


def test_japanese_text_is_never_the_mainlands():
    """Messages of Vim's Japanese translation, and headings with few kana."""
    po = (ROOT / "tests/data/reading/vim.euc-jp.po").read_text(encoding="euc_jp")
    found = re.findall(r'^(?:msgstr )?"(.+)"$', po, re.MULTILINE)
    kana = [text for text in found if script.count(text).kana]
    assert len(kana) == 78 and sum(script.count(text).simplified > 0 for text in kana) > 10
    headings = [
        "国民の声を聞く会",
        "東京都知事選挙の開票結果と当選者一覧",
        "学校教育法の一部を改正する法律案",
        "経済産業省、国内企業の対応状況を発表へ",
        "会社概要（株式会社ニホン学会）",
    ]
    some = [*kana, *headings, JAPANESE, JAPANESE * 20]
    assert judge(some) == [""] * len(some)
    assert measure(some).simplified == 0


def test_a_japanese_name_in_a_sentence_of_taiwan_is_no_leak():
    text = "日本的「こども家庭庁」與文部科学省分工，前者主管幼兒照顧，後者負責教育與學術。"
    assert measure([text]).simplified == 0 and judge([text]) == [""]
    # One character that Japanese doesn't have tells that the text isn't only that.
    assert measure([text.replace("負責", "负责")]).simplified > 0


def test_verdicts_say_what_makes_a_text_the_mainlands():
    assert judge([TAIWAN, WORDED, SIMPLIFIED, "", "软件"]) == ["", "words", "script", "", ""]
    half = "台灣與美國開會討論，他们说这个问题还没"
    assert judge([half]) == ["script"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6))
def test_words_are_judged_as_the_corpus_room_does(pieces):
    documents = [
        Document(id=str(n), text=text, source="s", license="CC0-1.0", lang="zh")
        for n, text in enumerate(pieces)
    ]
    kept = usage.Usage().apply(documents).kept
    for document, verdict in zip(kept, judge(pieces), strict=True):
        if verdict != "script":
            assert (verdict == "words") == (document.meta.get("usage") == "mainland")
    assert measure(pieces).with_mainland == sum("usage_terms" in d.meta for d in kept)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=5), st.lists(st.sampled_from(PIECES), max_size=5))
def test_counts_of_texts_add_up_and_their_order_does_not_matter(first, second):
    assert measure(first) + measure(second) == measure([*first, *second])
    assert measure(first[::-1]) == measure(first)
    assert measure([]) == Writing()


@settings(max_examples=50, deadline=None)
@given(st.sampled_from("这们说会时问为国无体价万个见经"), st.integers(0, len(TAIWAN)))
def test_a_simplified_character_raises_the_rate(character, place):
    before = measure([TAIWAN]).record(0, "x")
    after = measure([TAIWAN[:place] + character + TAIWAN[place:]]).record(0, "x")
    assert before["simplified_per_1000"] == 0 < after["simplified_per_1000"]
    assert (before["texts_with_simplified"], after["texts_with_simplified"]) == (0, 1)


def test_the_record_has_rates_of_han_characters_and_shares_of_texts():
    found = measure(["他说话，去年", "English", "看視頻", ""])
    assert found.record(7, "samples") == {
        "kind": "writing",
        "step": 7,
        "task": "samples",
        "texts": 4,
        "han": 8,
        "simplified_per_1000": pytest.approx(1000 * 2 / 8),
        "texts_with_simplified": 0.25,
        "mainland_per_1000": pytest.approx(1000 * 1 / 8),
        "texts_with_mainland": 0.25,
    }
    empty = Writing().record(0, "samples")
    assert {v for k, v in empty.items() if k not in ("kind", "task")} == {0}


def test_measuring_needs_no_jax():
    script = "import sys, twjax.evaluation.localisation; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0
