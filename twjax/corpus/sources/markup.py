"""Text of HTML pages, by resiliparse, and of Markdown files with front matter.

  python -m twjax.corpus.sources.markup frame < page.html

is how a page is read that could take its square in time or worse: in a process that can be killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import regex

from twjax.corpus.document import Unusable

PAGE_CHARACTERS = 20_000_000
_SECONDS = 30
_MEMORY_BYTES = 4 << 30
# Measured on resiliparse 2.0.1: time grows with the square of a tag's attributes and of open
# elements, and is some 0.01 s at these bounds.
_DEPTH = 500
_TAG_BYTES = 20_000
# What frames a page: elements and roles, and the names that ids and classes have by custom.
# Matched as whole names, since `has-sidebar` may be a class of the body.
_FRAME_NAMES = (
    "footer header site-header site-footer page-footer header_wrap masthead nav navbar navigation "
    "main-nav main-menu menu topnav top-nav topbar sidebar side-bar breadcrumb breadcrumbs "
    "pagination pager share sharing social social-links related related-posts advertisement ads ad "
    "adsbygoogle copyright cookie-banner cookie-notice skip-link sr-only"
)
_FRAME = ["nav", "footer", "aside", "body>header"]
_FRAME += [f"[role={role}]" for role in
           ("navigation", "banner", "contentinfo", "complementary", "search")]  # fmt: skip
_FRAME += [mark + name for name in _FRAME_NAMES.split() for mark in "#."]
# With less than this share of all text outside it, it is no frame.
_INSIDE = 0.1
# `main_content` of resiliparse leaves out elements of one character beyond ASCII (`<b>粗</b>`,
# `<td>一`); a mark beside it keeps it, and is taken out of the text.
_SINGLE = regex.compile(r">(\s*+(?:[^\x00-\x7f]|&\#?\w{1,31};)\p{M}*)(?=\s*<)")
_KEEP = "\ufdd0"
_LINES = regex.compile(r"[ \t]+$", regex.M)
_GAPS = regex.compile(r"\n{3,}")
_META_CHARSET = regex.compile(
    rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]{2,40})|^<\?xml[^>]{0,200}encoding\s*="
    rb"\s*[\"']([\w.:-]{2,40})", regex.I
)  # fmt: skip


Extraction = Literal["frame", "main", "all"]


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """The text of a page and what its head says; empty strings where it says nothing.

    `extraction` is how boilerplate was left out: "frame" by elements, roles and customary names
    of ids and classes, "main" by resiliparse's rules for the main content, "all" not at all,
    since the other left nothing or next to nothing.
    """

    text: str
    title: str = ""
    lang: str = ""
    url: str = ""
    date: str = ""
    extraction: Extraction = "frame"

    def meta(self) -> dict[str, str]:
        """Returns what goes to `Document.meta`."""
        values = {"title": self.title, "date": self.date}
        if self.extraction != "frame":
            values["extraction"] = self.extraction
        return {key: value for key, value in values.items() if value}


def declared_charset(data: bytes) -> str | None:
    """Returns the charset in the first 4 kB of a page's bytes, as the page names it."""
    found = _META_CHARSET.search(data[:4096])
    return (found[1] or found[2]).decode("ascii") if found else None


def page(html: str, extraction: Extraction = "frame") -> Page:
    """Returns the text of a page: paragraphs apart by blank lines, rows of tables as lines.

    Raises `Unusable` for a page without text, too large, or too costly to read.
    """
    if len(html) > PAGE_CHARACTERS:
        raise Unusable("page too large", f"{len(html)} characters, read are {PAGE_CHARACTERS}")
    read = _apart(html, extraction) if _costly(html) else extract(html, extraction)
    if not read.text:
        raise Unusable("no text", read.title)
    return read


def extract(html: str, extraction: Extraction = "frame") -> Page:
    """Returns the text of a page, however long that takes."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    html = html.replace("\0", "")
    if extraction == "main":
        html = _SINGLE.sub(rf">\1{_KEEP}", html)
    tree = HTMLTree.parse(html)
    everything = _tidy(extract_plain_text(tree, alt_texts=False))
    text = everything
    if extraction == "frame":
        text = _tidy(extract_plain_text(tree, alt_texts=False, skip_elements=_FRAME))
    elif extraction == "main":
        text = _tidy(extract_plain_text(tree, alt_texts=False, main_content=True))
    if len(text) < _INSIDE * len(everything):
        text, extraction = everything, "all"
    return Page(text, *_head(tree), extraction=extraction)


def _tidy(text: str) -> str:
    text = _LINES.sub("", text.replace(_KEEP, "").replace("\r", ""))
    return _GAPS.sub("\n\n", text).strip()


def _head(tree: Any) -> tuple[str, str, str, str]:
    """Returns title, language, URL and date."""

    def first(selectors: tuple[tuple[str, str], ...]) -> str:
        for selector, attribute in selectors:
            node = tree.document.query_selector(selector)
            value = node.getattr(attribute, "") if node is not None else ""
            if value and value.strip():
                return value.strip()
        return ""

    title = (tree.title or "").replace(_KEEP, "").strip()
    lang = first((("html", "lang"), ("html", "xml:lang"), ("meta[name=language]", "content")))
    url = first((("link[rel=canonical]", "href"), ("meta[property='og:url']", "content")))
    date = first((
        ("meta[property='article:published_time']", "content"),
        ("meta[name='DC.date']", "content"), ("meta[name=date]", "content"),
        ("meta[itemprop=datePublished]", "content"), ("time[datetime]", "datetime"),
    ))  # fmt: skip
    return " ".join(title.split()), lang, url, date


def _costly(html: str) -> bool:
    """Says whether a page could take much longer than its length lets expect."""
    if len(html) < _TAG_BYTES // 2:
        return False
    codes = np.frombuffer(html.encode("utf-8", "replace"), np.uint8)
    opens = np.flatnonzero(codes[:-1] == ord("<"))
    if not len(opens):
        return False
    following = codes[opens + 1]
    letter = (following | 0x20) - ord("a") < 26
    closes = following == ord("/")
    # Paragraphs, items, cells and what is always empty don't nest, closed or not.
    second = codes[np.minimum(opens + 2, len(codes) - 1)] | 0x20
    pair = (following | 0x20).astype(np.uint16) << 8 | second
    flat = np.isin(pair, _FLAT)
    depth = np.cumsum(np.where(flat, 0, letter.astype(np.int64) - closes))
    # Closing tags without an opening one mustn't hide depth that comes later.
    depth -= np.minimum.accumulate(np.minimum(depth, 0))
    ends = np.flatnonzero(codes == ord(">"))
    tags = opens[letter]
    closing = np.searchsorted(ends, tags)
    stops = np.append(ends, len(codes))[closing]
    longest = int((stops - tags).max(initial=0))
    return int(depth.max(initial=0)) > _DEPTH or longest > _TAG_BYTES


_FLAT = np.asarray(
    [int.from_bytes(name.encode(), "big") for name in
     ("br", "im", "in", "me", "li", "hr", "p>", "p ", "td", "tr", "dt", "dd", "op", "co", "wb")],
    np.uint16,
)  # fmt: skip


def _apart(html: str, extraction: Extraction) -> Page:
    """Extracts a page in a process with bounds on time and memory."""
    command = [sys.executable, "-m", "twjax.corpus.sources.markup", extraction]
    done = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, input=html.encode("utf-8", "replace"), capture_output=True,
            timeout=_SECONDS, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    if done is None or done.returncode:
        raise Unusable("page too costly", f"more than {_SECONDS} s or {_MEMORY_BYTES >> 30} GiB")
    return Page(**json.loads(done.stdout))


def front_matter(text: str) -> tuple[dict[str, str], str]:
    """Splits Markdown into its front matter and its body; the body's structure is kept.

    YAML (between `---`) is read one key a line, deeper levels as the text below their key; TOML
    (between `+++`) as it is defined. What can't be read stays in the body.
    """
    import tomllib

    found = _FRONT.match(text)
    if not found:
        return {}, text
    body = text[found.end() :]
    if found[1] == "+++":
        try:
            values = tomllib.loads(found[2])
        except tomllib.TOMLDecodeError:
            return {}, text
        return {key: _plain(value) for key, value in values.items()}, body
    meta: dict[str, str] = {}
    key = ""
    for line in found[2].splitlines():
        entry = _ENTRY.match(line)
        if entry:
            key = entry[1]
            meta[key] = entry[2].strip().strip("\"'")
        elif key and line.strip() and not line.lstrip().startswith("#"):
            meta[key] = f"{meta[key]}\n{line}".strip("\n")
    return {key: value for key, value in meta.items() if value}, body


_FRONT = regex.compile(r"\A\ufeff?(---|\+\+\+)[ \t]*\r?\n(.*?\n)\1[ \t]*(?:\r?\n|\Z)", regex.S)
_ENTRY = regex.compile(r"([\w.-]+)[ \t]*:(?=[ \t]|$)(.*)$")


def _plain(value: object) -> str:
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _main() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    extraction: Any = sys.argv[1]
    html = sys.stdin.buffer.read().decode("utf-8")
    sys.stdout.write(json.dumps(dataclasses.asdict(extract(html, extraction))))


if __name__ == "__main__":
    _main()
