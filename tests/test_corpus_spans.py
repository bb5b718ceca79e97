"""Spans of code, addresses and paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twjax.corpus.text import spans


def found(text: str) -> list[str]:
    return [text[start:stop] for start, stop in spans.protected(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("請看https://example.org/a?b=1#c的說明。", ["https://example.org/a?b=1#c"]),
        (
            "見 https://zh.wikipedia.org/wiki/台灣_(島)。",
            ["https://zh.wikipedia.org/wiki/台灣_(島)"],
        ),
        ("（www.example.tw），", ["www.example.tw"]),
        ("網址是 http://a.tw.", ["http://a.tw"]),
        ("寄到 a.b+c@mail.gov.tw。", ["a.b+c@mail.gov.tw"]),
        ("在 /usr/local/share/文件 裡", ["/usr/local/share/文件"]),
        ("存到C:\\用户\\文件\\a.txt，", ["C:\\用户\\文件\\a.txt"]),
        ("src/文件/主程序.py 是", ["src/文件/主程序.py"]),
        ("和/或 1/2 他/她 km/h", []),
        ("用 `软件.open()` 打開", ["`软件.open()`"]),
        ("用 ``a `b` c`` 打開", ["``a `b` c``"]),
        ("前\n```python\n软件 = 1\n\n视频\n```\n後", ["```python\n软件 = 1\n\n视频\n```"]),
        ("~~~~\n好棒\n~~~~", []),
        ("```\n沒有結尾的圍欄", []),
        ("例：\n\n    x = 1  # 註解\n    print(x)\n\n下文", ["    x = 1  # 註解\n    print(x)\n"]),
        ("條文：\n\n    第一條　本法依某法制定之。\n\n下文", []),
        (
            "<pre class=a>文件</pre>文件<code>內存</code>",
            ["<pre class=a>文件</pre>", "<code>內存</code>"],
        ),
        ("比<b>大", []),
    ],
)
def test_finds_what_is_no_prose(text, wanted):
    assert found(text) == wanted


@given(st.text(alphabet="a軟/.:@`~<>\\ \n\t-wWpreC1()（。", max_size=200))
def test_spans_are_ordered_apart_and_inside(text):
    last = -1
    for start, stop in spans.protected(text):
        assert last < start < stop <= len(text)
        last = stop


@given(st.text(alphabet="軟體，。和/或一二\n ", max_size=100))
def test_plain_chinese_has_none(text):
    assert spans.protected(text) == []
    assert spans.without(text, []) == text


def test_without_puts_a_space_for_each_span():
    text = "用`a`和`b`。"
    assert spans.without(text, spans.protected(text)) == "用 和 。"


@pytest.mark.parametrize(
    "piece",
    ["```a\n", "<pre>", "`", "/", "a/", "a@", "http://", "\n\n    ", "    x\n", "C:\\", "a."],
)
def test_hostile_text_ends(piece):
    """A search whose time grows with the square of the length takes hours for this."""
    text = piece * 200_000
    assert all(start < stop for start, stop in spans.protected(text))
