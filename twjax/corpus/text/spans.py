"""Stretches of a text that are no prose: code, addresses of pages and mail, paths of files.

Conversion leaves them byte for byte, and the region and usage steps don't read them: a program's
identifiers say nothing of where a text comes from, and a changed one is broken.
"""

from __future__ import annotations

import regex

# A fence of tildes needs a language after it: lines of tildes decorate chat and bulletin boards.
_FENCE = regex.compile(
    r"^[ \t>]*+(?:(?P<fence>`{3,}+)[^`\n]*+|(?P<fence>~{3,}+)[ \t]*[A-Za-z][^\n]*+)\n",
    regex.MULTILINE,
)
_INLINE = regex.compile(r"(?<!`)(?:``(?!`)[^\n]{1,300}?(?<!`)``|`[^`\n]{1,300}+`)(?!`)")
_ELEMENT = regex.compile(r"<(pre|code|script|style)(?![\w-])[^<>]*+>", regex.IGNORECASE)
# Markdown and reStructuredText: an indented block after an empty line.
_INDENTED = regex.compile(
    r"(?:\A|(?<=\n)[ \t\r]*\n)(?P<block>(?:(?: {4}|\t)[ \t]*+[^\s][^\n]*+(?:\n|\Z))++)"
)
# Han belongs to an address only after a delimiter inside it (/wiki/臺灣): in running text an
# address ends where Han begins (請看https://example.org的說明).
_URL = regex.compile(
    r"(?<![A-Za-z0-9])(?:(?:https?|ftp|file|git|ssh)://|www\.)"
    r"(?:[!#-&*-;=?-Z\\^_a-z|~\[\]]|\([!#-&*-~\p{Han}]*+\)|(?<=[/=?#_%])\p{Han}++)++",
    regex.I,
)
_END = ".,;:!?]|*_~"
_MAIL = regex.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}+@(?:[A-Za-z0-9-]++\.)++[A-Za-z0-9-]++"
)
_WINDOWS = regex.compile(
    r"(?:(?<![A-Za-z0-9])[A-Za-z]:|\\\\[A-Za-z0-9._$-]++)\\[^\s\"'<>|*?`，。、；：！？（）「」『』“”]*+"
)
# A path is found by its first slash and read to both sides. Of a relative one the first part has a
# Latin letter and the last an ending: 和/或 and 1/2 are no paths.
_HEAD = regex.compile(r"(?r)[A-Za-z0-9_.@+~-]*+")
_PARTS = regex.compile(r"/[A-Za-z0-9_.@+-]++(?:/[\p{Han}A-Za-z0-9_.@+-]++)*+/?")
_FILE = regex.compile(
    r"(?:/[\p{Han}A-Za-z0-9_.@+-]++){0,32}/[\p{Han}A-Za-z0-9_@+-]+\.[A-Za-z0-9]{1,8}\b"
)
_ROOTS = ("", "~", ".", "..")

# Of the characters of an indented block, the most that may be wide for it to be code; statutes
# and quotations are indented as well.
_MAX_WIDE = 0.25


def protected(text: str) -> list[tuple[int, int]]:
    """Returns where a text is code, an address or a path: (start, stop) in code points.

    The spans are in order and don't touch each other. Code is fenced (CommonMark, section 4.5),
    indented after an empty line and mostly Latin, between backticks, or in an HTML element of
    that kind; the others are URLs, e-mail addresses, and Unix and Windows paths.
    """
    found: list[tuple[int, int]] = []
    # The look for a character that every match has is much faster than the patterns.
    if "```" in text or "~~~" in text:
        found += _enclosed(text, _FENCE, r"^[ \t>]*+{}[`~]*+[ \t\r]*+$")
    if "`" in text:
        found += [match.span() for match in _INLINE.finditer(text)]
    if "</" in text:
        found += _enclosed(text, _ELEMENT, r"</{}\s*+>")
    if "\n    " in text or "\n\t" in text:
        found += [m.span("block") for m in _INDENTED.finditer(text) if _is_code(m["block"])]
    if "://" in text or "www." in text.lower():
        found += [(m.start(), m.start() + len(m[0].rstrip(_END))) for m in _URL.finditer(text)]
    if "@" in text:
        found += [match.span() for match in _MAIL.finditer(text)]
    if "\\" in text:
        found += [match.span() for match in _WINDOWS.finditer(text)]
    if "/" in text:
        found += _paths(text)
    return _merged(found)


def without(text: str, spans: list[tuple[int, int]]) -> str:
    """Returns a text with a space for each span."""
    if not spans:
        return text
    starts = [0, *(stop for _, stop in spans)]
    stops = [*(start for start, _ in spans), len(text)]
    return " ".join(text[start:stop] for start, stop in zip(starts, stops, strict=True))


def _enclosed(text: str, opening: regex.Pattern[str], closing: str) -> list[tuple[int, int]]:
    """Finds what an opening mark and the next closing mark of that name enclose.

    A mark that is never closed encloses nothing, and is looked for once: that keeps the time
    linear.
    """
    found = []
    unclosed: set[str] = set()
    opened = opening.search(text)
    while opened:
        stop = opened.end()
        name = opened[1].lower()
        if name not in unclosed:
            pattern = closing.format(regex.escape(name))
            closed = regex.compile(pattern, regex.MULTILINE | regex.IGNORECASE).search(text, stop)
            if closed:
                stop = closed.end()
                found.append((opened.start(), stop))
            else:
                unclosed.add(name)
        opened = opening.search(text, stop)
    return found


def _paths(text: str) -> list[tuple[int, int]]:
    found = []
    stop, slash = 0, text.find("/")
    while slash >= 0:
        head = _HEAD.match(text, stop, slash)
        start = head.start() if head else slash
        root = text[start:slash]
        before = text[start - 1 : start]
        match = None
        if root in _ROOTS and not (before.isalnum() or before in tuple("<>)]:/")):
            match = _PARTS.match(text, slash)
        elif before not in tuple("<:/") and any(map(str.isalpha, root)):
            match = _FILE.match(text, slash)
        stop = match.end() if match else slash + 1
        if match:
            found.append((start, stop))
        slash = text.find("/", stop)
    return found


def _is_code(block: str) -> bool:
    """UTF-8 has three bytes for a Han character and one for a Latin one."""
    marks = "".join(block.split())
    return bool(marks) and len(marks.encode()) - len(marks) <= 2 * _MAX_WIDE * len(marks)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
