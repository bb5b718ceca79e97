"""Mainland words in context, and what is done with documents that have many."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.document import Document
from twjax.corpus.quality import phrases
from twjax.corpus.variety import usage
from twjax.corpus.variety.usage import Usage

MAINLAND = "這個視頻的軟件質量很好，用戶可以通過網絡訪問服務器的數據庫，把信息打印出來。"
TAIWAN = "這個影片的軟體品質很好，使用者可以透過網路存取伺服器的資料庫，把資訊列印出來。"


def document(text: str) -> Document:
    return Document(id="a", text=text, source="s", license="CC0-1.0", lang="zh-TW")


def words(text: str) -> list[str]:
    return [found.word for found in usage.load().find([text])[0]]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("我看了一段視頻", ["視頻"]),
        ("我看了一段视频", ["视频"]),
        ("電視頻道與境內存放的產品", []),
        ("專戶內存儲，指針對災害之預報，檢舉報案一併發還", []),
        ("推導出型別、重新建立中斷點，依下圖標明，印在列印台與打印台上", []),
        ("吃菠蘿麵包，存儲於保稅倉庫", []),
        ("舉報這台服務器的內存", ["舉報", "服務器", "內存"]),
        ("質量守恆定律", []),
        ("鋼鐵的密度與質量", []),
        ("這件產品的質量不好", ["質量"]),
        ("空氣質量监测", ["空氣質量"]),
        # Words that are ordinary in Taiwan outside of computing.
        ("文件應於程序終結前提出，項目如附表", []),
        (TAIWAN, []),
        ("執行 `打印.软件()` 與 https://a.tw/软件", []),
    ],
)
def test_words_are_found_in_context(text, wanted):
    assert words(text) == wanted


def test_computing_words_count_in_texts_about_computers():
    assert "文件" in words("伺服器上的 Python 程式碼會打開文件夾裡的文件並且返回字串")
    assert "文件" not in words("承辦人員應打開文件並且返回")


def test_words_that_a_conversion_chose_do_not_count():
    text = "這個軟件的文件說明伺服器上的 Python 程式碼怎樣返回字串。"
    plain = document(text)
    converted = dataclasses.replace(plain, meta={"converted": "s2tw"})
    kept = Usage().apply([plain, converted]).kept
    assert "文件" in kept[0].meta["usage_terms"] and "軟件" in kept[0].meta["usage_terms"]
    assert kept[1].meta["usage_terms"] == "軟件 1"


def test_places_are_those_of_the_text():
    text = "𠊎\n" * 3 + MAINLAND
    for found in usage.load().find(["a", text, ""])[1]:
        assert text[found.start : found.stop] == found.word


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([MAINLAND, TAIWAN, "", "視頻\n", "a" * 50]), max_size=6))
def test_neighbours_do_not_matter(texts):
    lexicon = usage.load()
    assert lexicon.find(texts) == [lexicon.find([text])[0] for text in texts]


def test_score_and_terms_are_written():
    outcome = Usage().apply([document(MAINLAND), document(TAIWAN)])
    first, second = outcome.kept
    assert first.meta["usage"] == "mainland"
    assert float(first.meta["usage_score"]) > 100
    assert "視頻 1" in first.meta["usage_terms"].split(", ")
    assert second.meta == {}
    assert outcome.changed == {"flagged": 1, "with mainland words": 1}


def test_one_word_never_flags():
    text = "視頻，視頻，視頻，視頻。"
    assert "usage" not in Usage(threshold=0.1).apply([document(text)]).kept[0].meta


def test_keep_and_drop():
    assert "usage" not in Usage(policy="keep").apply([document(MAINLAND)]).kept[0].meta
    outcome = Usage(policy="drop").apply([document(MAINLAND), document(TAIWAN)])
    assert [kept.text for kept in outcome.kept] == [TAIWAN]
    assert outcome.rejected[0].reason == "mainland usage"
    assert "視頻" in outcome.rejected[0].value


def test_convert_replaces_words_and_says_where():
    text = MAINLAND + "《視頻軟件》" + "`視頻`"
    outcome = Usage(policy="convert").apply([document(text)])
    after = outcome.kept[0].text
    assert after.startswith("這個影片的軟體品質很好，")
    assert after.endswith("《視頻軟件》`視頻`")
    restored = after
    for edit in reversed(outcome.edits):
        assert restored[edit.start : edit.start + len(edit.after)] == edit.after
        stop = edit.start + len(edit.after)
        restored = restored[: edit.start] + edit.before + restored[stop:]
    assert restored == text
    again = Usage(policy="convert").apply([outcome.kept[0]])
    assert again.kept[0].text == after


def test_simplified_text_is_left_to_conversion():
    text = "这个视频的软件质量很好，用户可以通过网络访问服务器的数据库，把信息打印出来。"
    outcome = Usage(policy="convert").apply([document(text)])
    assert outcome.kept[0].text == text and outcome.kept[0].meta["usage"] == "mainland"


def test_table_is_reviewable():
    rows = phrases.read_rows(phrases.TABLES / "usage.tsv", usage.COLUMNS)
    assert len(rows) > 1000
    assert [row["mainland"] for row in rows] == sorted(row["mainland"] for row in rows)
    assert {row["licence"] for row in rows} == {"Apache-2.0", "MIT", "CC0-1.0"}
    for row in rows:
        assert usage.fold(row["mainland"]) != usage.fold(row["taiwan"])
        assert 0 < float(row["weight"]) <= 5


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "table.tsv"
    head = "\t".join(usage.COLUMNS)
    path.write_text(f"# mine\n{head}\n給力\t帶勁\t~量\t-\t2\t-\tme\tCC0-1.0\n", encoding="utf-8")
    found = usage.load(str(path)).find(["很給力，給力量"])[0]
    assert [word.start for word in found] == [1]
    path.write_text(f"{head}\n給力\t帶勁\t-\t-\tmuch\t-\tme\tCC0-1.0\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"weight .much. of 給力"):
        usage.load.__wrapped__(str(path))
    with pytest.raises(ValueError, match=r"threshold .0. must be above"):
        Usage(threshold=0)
