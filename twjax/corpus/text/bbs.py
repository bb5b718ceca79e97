"""Articles of bulletin boards (PTT and its kin) as structure: header, body, signature, comments.

The forms are those that the PTT system writes (pttbbs) and that older boards share: a header of
author, board, title and time; quotations after "※ 引述"; "--" before a signature; the origin
after "※ 發信站"; and readers' comments, one a line, as 推, 噓 or →.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import ClassVar, Literal

import regex

from twjax.corpus.document import Document
from twjax.corpus.step import Outcome, Step

Policy = Literal["keep", "drop", "separate"]

# Author and board are on one line; a page read as text may have them on two, without colons.
_HEADER = regex.compile(
    r"\A\s*(?:作者|發信人|發信者|寄件人|寄信人)(?:[ \t]*[:：][ \t]*|[ \t]*(?=\w+[ \t]*\())"
    r"(?P<author>[^\n]*?)"
    r"(?:[ \t,，]*\n?[ \t]*(?:看板|看版|站內|信區|板名)[ \t]*[:：]?[ \t]*(?P<board>[^\n]*?))?"
    r"[ \t]*\n"
    r"(?:[ \t]*(?:標[ \t\u3000]*題|主[ \t\u3000]*題)[ \t]*[:：]?[ \t]*(?P<title>[^\n]*?)[ \t]*\n)"
    r"(?:[ \t]*發信站[ \t]*[:：][^\n(]*(?:\((?P<sent>[^\n()]*\d{4})\))?[^\n]*\n"
    r"|[ \t]*(?:時[ \t\u3000]*間|日[ \t\u3000]*期)[ \t]*[:：]?[ \t]*"
    r"(?P<time>[^\n]*?)[ \t]*(?:\n|\Z))?"
    r"(?:[ \t]*(?:轉信站|Origin)[ \t]*[:：][^\n]*\n)?(?:[─-]{10,}[ \t]*\n)?"
)
_ORIGIN = regex.compile(r"(?m)^[ \t]*(?:※ 發信站[ \t]*[:：]|◆ From[ \t]*[:：]|\[m?※ Origin)")
_PUSH = regex.compile(
    r"(?m)^(?P<kind>推|噓|→)[ \t]*(?P<user>[A-Za-z][A-Za-z0-9]{1,11})[ \t]*[:：][ \t]?"
    r"(?P<text>[^\n]{0,200}?)[ \t]*+(?:\d{1,3}(?:\.\d{1,3}){3})?[ \t]*+"
    r"(?P<time>\d{1,2}/\d{1,2}(?:[ \t]+\d{1,2}:\d{2})?)?[ \t]*$"
)
# Lines that the system adds; they name users and addresses.
_SYSTEM = regex.compile(
    r"(?m)^[ \t]*(?:※[ \t]*(?:發信站|文章網址|編輯|轉錄者|轉錄至|轉寄者|Origin|批踢踢實業坊|"
    r"\w+[ \t(（].*於.*\d)|◆[ \t]*From|★[ \t]*轉錄自)[^\n]*(?:\n|\Z)"
)
_SIGNATURE = regex.compile(r"(?m)^--[ \t]*$\n?")
_QUOTED = regex.compile(r"(?m)^[ \t]*(?:[:>][ \t]?)[^\n]*(?:\n|\Z)")
_ATTRIBUTION = regex.compile(
    r"(?m)^[ \t]*(?:(?:[:>][ \t]?)*※[ \t]*引述《(?P<user>[^\n》]*)》[^\n]*"
    r"|(?:[:>][ \t]?)*【[ \t]*在[^\n】]*的(?:大作|文章)[^\n】]*】[^\n]*"
    r"|(?:[:>][ \t]?)*==>[^\n]*(?:提到|寫道)[^\n]*)(?:\n|\Z)"
)
# A signature is six lines at most on PTT; others allow a few more.
_SIGNATURE_LINES = 12
_TAIPEI = datetime.timezone(datetime.timedelta(hours=8))


@dataclasses.dataclass(frozen=True)
class Comment:
    """A reader's line: `kind` is 推, 噓 or →; an author's answer between them has none."""

    kind: str
    user: str
    text: str
    time: str


@dataclasses.dataclass(frozen=True)
class Article:
    """The parts of one article; what it lacks is empty."""

    author: str
    board: str
    title: str
    time: str
    body: str
    signature: str
    comments: tuple[Comment, ...]


def parse(text: str) -> Article | None:
    """Returns an article's parts, or None for a text that isn't one."""
    header = _HEADER.match(text)
    origin = next(iter(reversed(list(_ORIGIN.finditer(text)))), None)
    if header is None and (origin is None or not _PUSH.search(text, origin.end())):
        return None
    start = header.end() if header else 0
    if header and not (header["board"] or header["time"] or header["sent"] or origin):
        return None
    stop, tail = _tail(text, start, origin.start() if origin and origin.start() >= start else None)
    body, signature = _signature(text[start:stop], origin is not None)
    fields = {k: (header[k] or "").strip() for k in ("author", "board", "title")} if header else {}
    return Article(
        author=fields.get("author", ""),
        board=fields.get("board", ""),
        title=fields.get("title", ""),
        time=((header["time"] or header["sent"] or "") if header else "").strip(),
        body=_SYSTEM.sub("", body).strip("\n"),
        signature=_SYSTEM.sub("", signature).strip("\n"),
        comments=tuple(_comments(tail)),
    )


def _tail(text: str, start: int, origin: int | None) -> tuple[int, str]:
    """Returns where the article itself ends, and what readers added after it."""
    if origin is not None:
        return origin, text[origin:]
    # Without an origin, the last lines that are comments and nothing else.
    lines = text[start:].splitlines(keepends=True)
    count = len(lines)
    while count and (not lines[count - 1].strip() or _PUSH.match(lines[count - 1].rstrip("\n"))):
        count -= 1
    stop = start + sum(map(len, lines[:count]))
    return stop, text[stop:]


def _signature(text: str, footed: bool) -> tuple[str, str]:
    """Parts an article from its signature; with an origin after it, "--" stands before that."""
    marks = list(_SIGNATURE.finditer(text))
    if not marks:
        return text, ""
    place = len(marks) - 1
    after = text[marks[place].end() :]
    if footed and not after.strip() and place:
        former = text[marks[place - 1].end() : marks[place].start()]
        if former.strip("\n").count("\n") < _SIGNATURE_LINES:
            place -= 1
    elif after.strip("\n").count("\n") >= _SIGNATURE_LINES:
        return text, ""
    signature = text[marks[place].end() :]
    return text[: marks[place].start()], _SIGNATURE.sub("", signature)


def _comments(tail: str) -> list[Comment]:
    found = []
    for line in _SYSTEM.sub("", tail).split("\n"):
        match = _PUSH.match(line.rstrip())
        if match:
            found.append(Comment(match["kind"], match["user"], match["text"], match["time"] or ""))
        elif line.strip() and not _SIGNATURE.match(line.rstrip()):
            found.append(Comment("", "", line.strip(), ""))
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParseBoards(Step):
    """Turns articles of bulletin boards into their title and body; other texts stay as they are.

    `comments` (推文) and `signatures`: "keep" puts them after the body, "drop" leaves them out,
    "separate" makes them a document "<id>#comments" or "<id>#signature". `quotes` "drop" leaves
    out quoted lines. `users` "drop" leaves out who wrote what: author, commenters, who is quoted.

    Meta: "bbs" is "article", "comments" or "signature"; "bbs_board", "bbs_title", "bbs_time" as
    written; "bbs_reply" "yes" for an answer; the numbers "bbs_push", "bbs_boo", "bbs_arrow" and
    "bbs_quoted" (lines); "bbs_author" if `users` is "keep". `created` is set from the time,
    taken as Taipei's, where it is not known.
    """

    name: ClassVar[str] = "parse_boards"

    comments: Policy = "drop"
    signatures: Policy = "drop"
    quotes: Literal["keep", "drop"] = "keep"
    users: Literal["keep", "drop"] = "drop"

    def versions(self) -> dict[str, str]:
        return {"regex": regex.__version__}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        for document in batch:
            may_be = "標" in document.text[:400] or "※ 發信站" in document.text
            article = None
            if may_be and "bbs" not in document.meta:
                article = parse(document.text.replace("\r\n", "\n"))
            if article is None:
                outcome.kept.append(document)
                continue
            outcome.changed["documents"] += 1
            outcome.changed["comments"] += len(article.comments)
            outcome.changed["signatures"] += bool(article.signature.strip())
            outcome.kept.extend(self._documents(document, article))
        outcome.changed = +outcome.changed
        return outcome

    def _documents(self, document: Document, article: Article) -> list[Document]:
        kinds = [comment.kind for comment in article.comments]
        quoted = len(_QUOTED.findall(article.body))
        meta = {
            "bbs_board": article.board,
            "bbs_title": article.title,
            "bbs_time": article.time,
            "bbs_reply": "yes"
            if regex.match(r"(?i)(?:re|回覆|fw|轉錄?)[:：]", article.title)
            else "",
            "bbs_push": str(kinds.count("推")),
            "bbs_boo": str(kinds.count("噓")),
            "bbs_arrow": str(kinds.count("→")),
            "bbs_quoted": str(quoted),
            "bbs_author": article.author if self.users == "keep" else "",
        }
        meta = {key: value for key, value in meta.items() if value not in ("", "0")}
        meta = {**document.meta, **meta}
        body = article.body
        if self.quotes == "drop":
            body = _QUOTED.sub("", _ATTRIBUTION.sub("", body))
        elif self.users == "drop":
            body = _ATTRIBUTION.sub("", body)
        signature = article.signature
        comments = "\n".join(self._comment(c) for c in article.comments)
        texts = [article.title, "", body.strip("\n")] if article.title else [body.strip("\n")]
        if self.signatures == "keep" and signature.strip():
            texts += ["", "--", signature]
        if self.comments == "keep" and comments:
            texts += ["", comments]
        created = document.created or _moment(article.time)
        made = [("article", document.id, "\n".join(texts))]
        if self.signatures == "separate" and signature.strip():
            made.append(("signature", f"{document.id}#signature", signature))
        if self.comments == "separate" and comments:
            made.append(("comments", f"{document.id}#comments", comments))
        return [
            dataclasses.replace(
                document, id=id, text=text, created=created, meta={**meta, "bbs": kind}
            )
            for kind, id, text in made
        ]

    def _comment(self, comment: Comment) -> str:
        if not comment.kind:
            return comment.text
        if self.users == "keep":
            return f"{comment.kind} {comment.user}: {comment.text}"
        return f"{comment.kind} {comment.text}"


def _moment(time: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.strptime(time, "%a %b %d %H:%M:%S %Y").replace(tzinfo=_TAIPEI)
    except ValueError:
        return None
