"""Pages keep their text and lose their frame; Markdown keeps its structure."""

import pathlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.document import Unusable
from twjax.corpus.sources import markup

SAMPLES = pathlib.Path(__file__).parent / "data" / "reading"
PAGE = """<!DOCTYPE html><html lang="zh-TW"><head><title> 山上的
 圖書館 </title><meta property="article:published_time" content="2019-05-06T07:08:09+08:00">
<link rel="canonical" href="https://example.com/a"><style>p{color:red}</style></head>
<body class="has-sidebar"><header><a href="/">首頁</a></header><nav><a href="/b">關於我們</a></nav>
<main><article><header><h1>山上的圖書館</h1></header>
<p>村裡的<b>老</b>人說，<a href="c">這座</a>圖書館建於日治時期。</p><p>第二段<br>換了一行。</p>
<ul><li>甲</li><li>乙丙</li></ul>
<table><tr><th>年</th><th>冊</th></tr><tr><td>一</td><td>二百</td></tr></table>
<pre><code>def f(x):
    return x
</code></pre></article></main>
<div class="sidebar">熱門文章</div><div id="footer">版權所有</div>
<script>var a = "不是文字";</script>
</body></html>"""


@pytest.mark.parametrize("extraction", ["frame", "main"])
def test_a_page(extraction):
    page = markup.page(PAGE, extraction)
    for text in ("村裡的老人說，這座圖書館建於日治時期。\n\n第二段\n換了一行。", "二百",
                 "def f(x):\n    return x"):  # fmt: skip
        assert text in page.text
    for text in ("關於我們", "版權所有", "不是文字", "color"):
        assert text not in page.text
    if extraction == "frame":
        assert "甲" in page.text and "乙丙" in page.text and "首頁" not in page.text
    assert ("山上的圖書館" in page.text) and re.search(r"年\s+冊\n\s*一\s+二百", page.text)
    assert (page.title, page.lang, page.url) == (
        "山上的 圖書館", "zh-TW", "https://example.com/a")  # fmt: skip
    assert page.date == "2019-05-06T07:08:09+08:00"


def test_a_page_that_is_all_frame_is_kept_whole():
    page = markup.page("<body><nav>只有選單的頁面，沒有別的內容。</nav></body>")
    assert page.text == "只有選單的頁面，沒有別的內容。" and page.extraction == "all"
    assert page.meta() == {"extraction": "all"}


@pytest.mark.parametrize("name", ["moztw-contribute-sumo", "moztw-docs-big5"])
def test_real_pages_against_their_sources(name):
    # The source lacks the frame that the server put around it.
    source = (SAMPLES / f"{name}.shtml").read_text(encoding="utf-8")
    wanted = runs(re.sub(r"<!--.*?-->|<script.*?</script>|<style.*?</style>|<[^>]*>", "", source,
                         flags=re.S))  # fmt: skip
    got = runs(markup.page((SAMPLES / f"{name}.html").read_text(encoding="utf-8")).text)
    assert len(wanted & got) >= 0.9 * len(wanted)
    assert len(got - wanted) <= 0.12 * len(got)


def runs(text: str) -> set[str]:
    text = re.sub(r"&\w+;|[\W_]+", "", text)
    return {text[i : i + 8] for i in range(len(text) - 7)}


def test_the_charset_that_a_page_declares():
    assert markup.declared_charset(b'<meta charset="big5">') == "big5"
    meta = b'<META http-equiv="Content-Type" content="text/html; charset=gb2312">'
    assert markup.declared_charset(meta) == "gb2312"
    assert markup.declared_charset(b'<?xml version="1.0" encoding="EUC-JP"?>') == "EUC-JP"
    assert markup.declared_charset(b"<p>charset=big5</p>") is None


HOSTILE = {
    "deep": "<div>" * 3000 + "字" * 100,
    "closed first": "</div>" * 10_000 + "<div>" * 3000 + "字" * 100,
    "attributes": "<div " + " ".join(f"a{i}=1" for i in range(6_000)) + ">字字字",
    "open elements": "".join(f"<b class=a{i}><p>字" for i in range(510)),
    "brackets": "<" * 1_000_000,
    "comments": "<!--" * 200_000,
    "tables": "<table><tr><td>" * 3000 + "字",
    "flat": "<p>一段文字。" * 50_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_end(name):
    start = time.process_time()
    try:
        page = markup.page(HOSTILE[name])
    except Unusable as error:
        assert error.reason in ("page too costly", "no text")
    else:
        assert "字" in page.text or "<" in page.text
    # Here; what costs more is in a process that can be killed.
    assert time.process_time() - start < 10


def test_pages_that_are_too_large_or_too_costly_are_refused(monkeypatch):
    monkeypatch.setattr(markup, "PAGE_CHARACTERS", 1000)
    with pytest.raises(Unusable, match="page too large"):
        markup.page("<p>" + "字" * 1000)
    monkeypatch.undo()
    monkeypatch.setattr(markup, "_SECONDS", 0.01)
    with pytest.raises(Unusable, match="page too costly"):
        markup.page(HOSTILE["deep"])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(["<p>", "</p>", "<b>", "<td>", "<table>", "<!--", "-->", "<script>",
       "<nav>", "&#x0;", "&amp", "<a href='", "字", "\0", "\ud7ff", "\ufdd0", "<svg>", "]]>", "<"])
       | st.text(max_size=8)))  # fmt: skip
def test_any_page_is_read_or_refused(pieces):
    try:
        page = markup.page("".join(pieces))
    except Unusable:
        return
    assert page.text and "\0" not in page.text


def test_front_matter():
    head = 'title: "山 與 海"\ndate: 2020-01-02\ntags:\n  - 旅行\n  - 山\n# note\nlang: zh-TW\n'
    text = f"---\n{head}---\n# 標題\n\n- 項\n"
    meta, body = markup.front_matter(text)
    assert meta == {
        "title": "山 與 海",
        "date": "2020-01-02",
        "tags": "  - 旅行\n  - 山",
        "lang": "zh-TW",
    }
    assert body == "# 標題\n\n- 項\n"
    meta, body = markup.front_matter('+++\ntitle = "海"\ndate = 2020-01-02\ntags = ["a"]\n+++\nx\n')
    assert meta == {"title": "海", "date": "2020-01-02", "tags": '["a"]'} and body == "x\n"


@pytest.mark.parametrize(
    "text", ["# 沒有\n---\n", "---\nnever: closed\n", "+++\nnot = toml =\n+++\nx", ""]
)
def test_what_is_no_front_matter_stays(text):
    assert markup.front_matter(text) == ({}, text)
