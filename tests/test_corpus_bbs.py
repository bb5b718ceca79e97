"""Bulletin board articles, in samples written for this test in the forms that the systems use."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.document import Document
from twjax.corpus.text import bbs
from twjax.corpus.text.bbs import ParseBoards

ARTICLE = """作者: teaLover (愛喝茶) 看板: Tea
標題: [心得] 木柵的鐵觀音
時間: Sat Mar  7 21:05:09 2015

上週去了木柵的茶園，
走了一整天。

※ 引述《hillWalker (走山)》之銘言：
: 請問哪一家的茶好喝？
: 想帶長輩去。

我覺得都不錯。
--
茶要慢慢喝
--
※ 發信站: 批踢踢實業坊(ptt.cc), 來自: 203.0.113.7
※ 文章網址: https://www.ptt.cc/bbs/Tea/M.1425733512.A.ABC.html
推 hillWalker: 謝謝分享！ 03/07 21:10
→ hillWalker: 下週就去 03/07 21:11
噓 noTea: 我不喝茶 198.51.100.9 03/07 22:00
※ 編輯: teaLover (203.0.113.7), 03/07/2015 22:30:01
那就喝咖啡
推 third3: 推 03/08 00:01
"""

MAIL = """發信人: oldUser (老站友), 信區: Hiking
標  題: Re: 週末爬山
發信站: 山頂小站 (Tue Dec  3 08:00:00 1996)
轉信站: 山頂小站!relay

> 這週下雨嗎？
不會，天氣好得很。

--
山在那裡
"""


def make(text: str, **meta: str) -> Document:
    return Document(id="a", text=text, source="s", license="l", lang="zh-TW", meta=meta)


def test_the_parts_of_an_article():
    article = bbs.parse(ARTICLE)
    assert article is not None
    assert (article.author, article.board) == ("teaLover (愛喝茶)", "Tea")
    assert article.title == "[心得] 木柵的鐵觀音"
    assert article.time == "Sat Mar  7 21:05:09 2015"
    assert article.body.startswith("上週去了") and article.body.endswith("我覺得都不錯。")
    assert article.signature == "茶要慢慢喝"
    assert [(c.kind, c.user, c.text, c.time) for c in article.comments] == [
        ("推", "hillWalker", "謝謝分享！", "03/07 21:10"),
        ("→", "hillWalker", "下週就去", "03/07 21:11"),
        ("噓", "noTea", "我不喝茶", "03/07 22:00"),
        ("", "", "那就喝咖啡", ""),
        ("推", "third3", "推", "03/08 00:01"),
    ]


def test_by_default_no_user_and_no_address_is_left():
    outcome = ParseBoards().apply([make(ARTICLE)])
    (kept,) = outcome.kept
    assert kept.text == (
        "[心得] 木柵的鐵觀音\n\n上週去了木柵的茶園，\n走了一整天。\n\n"
        ": 請問哪一家的茶好喝？\n: 想帶長輩去。\n\n我覺得都不錯。"
    )
    assert kept.meta == {
        "bbs": "article", "bbs_board": "Tea", "bbs_title": "[心得] 木柵的鐵觀音",
        "bbs_time": "Sat Mar  7 21:05:09 2015", "bbs_push": "2", "bbs_boo": "1",
        "bbs_arrow": "1", "bbs_quoted": "2",
    }  # fmt: skip
    assert kept.created == datetime.datetime(2015, 3, 7, 13, 5, 9, tzinfo=datetime.UTC)
    assert outcome.changed == {"documents": 1, "comments": 5, "signatures": 1}
    everything = ParseBoards(comments="keep", signatures="separate").apply([make(ARTICLE)]).kept
    for document in everything:
        for name in ("teaLover", "hillWalker", "noTea", "third3", "203.0", "198.51"):
            assert name not in document.text + "".join(document.meta.values())


def test_comments_and_signatures_by_policy():
    step = ParseBoards(comments="separate", signatures="separate", quotes="drop", users="keep")
    article, signature, comments = step.apply([make(ARTICLE, source_id="7")]).kept
    assert [d.id for d in (article, signature, comments)] == ["a", "a#signature", "a#comments"]
    assert "請問哪一家" not in article.text and "引述" not in article.text
    assert article.meta["bbs_author"] == "teaLover (愛喝茶)"
    assert signature.text == "茶要慢慢喝"
    assert comments.text.split("\n")[0] == "推 hillWalker: 謝謝分享！"
    assert comments.meta["bbs"] == "comments" and comments.meta["source_id"] == "7"
    kept = ParseBoards(comments="keep", signatures="keep").apply([make(ARTICLE)]).kept[0].text
    assert kept.endswith(
        "\n--\n茶要慢慢喝\n\n推 謝謝分享！\n→ 下週就去\n噓 我不喝茶\n那就喝咖啡\n推 推"
    )


def test_other_boards_headers():
    (kept,) = ParseBoards().apply([make(MAIL.replace("\n", "\r\n"))]).kept
    assert kept.text == "Re: 週末爬山\n\n> 這週下雨嗎？\n不會，天氣好得很。"
    assert kept.meta["bbs_board"] == "Hiking" and kept.meta["bbs_reply"] == "yes"
    assert kept.meta["bbs_time"] == "Tue Dec  3 08:00:00 1996"
    page = "作者teaLover (愛喝茶)\n看板Tea\n標題茶\n時間Sat Mar  7 21:05:09 2015\n好喝。\n"
    (kept,) = ParseBoards().apply([make(page)]).kept
    assert kept.text == "茶\n\n好喝。" and kept.meta["bbs_board"] == "Tea"


def test_a_rule_of_dashes_in_the_body_is_no_signature():
    body = "\n".join(f"第{i}行" for i in range(30))
    text = f"作者: ab (c) 看板: X\n標題: t\n時間: y\n\n上文\n--\n{body}\n"
    (kept,) = ParseBoards().apply([make(text)]).kept
    assert kept.text.endswith("第29行") and "上文\n--\n第0行" in kept.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "作者：魯迅\n標題：狂人日記\n\n今天晚上，很好的月光。",
        "推 這個活動不錯\n→ 請大家參加",
        "標題: 會議紀錄\n時間: 下午三點\n地點: 會議室",
        "第一章\n--\n推 abc: 好",
    ],
)
def test_other_texts_stay(text):
    document = make(text)
    assert ParseBoards(comments="separate").apply([document]).kept == [document]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([*ARTICLE.split("\n"), *MAIL.split("\n"), "--", ": x"]), max_size=25)
)
def test_any_order_of_lines_is_parsed_once(lines):
    step = ParseBoards(comments="separate", signatures="separate")
    once = step.apply([make("\n".join(lines))]).kept
    assert step.apply(once).kept == once
    assert len({d.id for d in once}) == len(once)
