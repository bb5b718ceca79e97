"""Which encoding bytes are in, by likelihood, and their text.

A byte order mark or strict UTF-8 settles it. Else each candidate decodes a sample, and the text's
cost in bits under character frequencies of Traditional Chinese, Simplified Chinese, Japanese and
other scripts is compared: all candidates explain the same bytes, so the cheapest one is the most
likely. What a file declares is only worth some bits.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

import numpy as np

from twjax.corpus.document import Unusable
from twjax.corpus.sources.charsets import TABLES, decode_big5, decode_euc_tw, strip_escapes

MODELS = ("traditional", "simplified", "japanese", "other")
UNITS = 8.0
_SAMPLE_BYTES = 32 << 10
# What a declaration, a model, a candidate is worth before the bytes are seen, in bits.
_DECLARED = 12.0
_PRIORS = {
    "big5": 0.0, "big5-uao": 3.0, "gb18030": 2.0, "euc-tw": 8.0, "shift_jis": 6.0, "euc-jp": 8.0,
    "euc-kr": 20.0, "utf-16-le": 6.0, "utf-16-be": 8.0, "windows-1252": 8.0,
}  # fmt: skip
_UNUSUAL = 4.0
# Two-byte text without a mark and without a blank, digit or line end is next to unheard of.
_NO_ZEROS = 20.0
_USUAL = {"big5": "traditional", "big5-uao": "traditional", "euc-tw": "traditional",
          "gb18030": "simplified", "shift_jis": "japanese", "euc-jp": "japanese",
          "euc-kr": "other", "windows-1252": "other"}  # fmt: skip
_BROKEN = 40.0
# A line is read in another encoding than its file if that is so many bits cheaper.
_LINE_MARGIN = 30.0
# A line that costs no more than this for each byte beyond ASCII isn't tried in other encodings.
_TEXT_BITS = 8.5
# Text costs 8-11 bits a character beyond ASCII, drawings up to 15, random bytes 19 and more.
_CHARACTER_BITS = 17.0
_LATIN_BITS = 10.0
_BROKEN_SHARE = 0.1
_FEW = 24
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"), (b"\x84\x31\x95\x33", "gb18030"),
)  # fmt: skip
_LABELS = {
    "big5-hkscs": "big5", "big5hkscs": "big5", "cp950": "big5", "x-x-big5": "big5",
    "cn-big5": "big5", "ms950": "big5", "big5-eten": "big5", "gb2312": "gb18030",
    "gbk": "gb18030", "cp936": "gb18030", "x-gbk": "gb18030", "gb-2312": "gb18030",
    "euctw": "euc-tw", "x-euc-tw": "euc-tw", "sjis": "shift_jis", "shift-jis": "shift_jis",
    "x-sjis": "shift_jis", "windows-31j": "shift_jis", "cp932": "shift_jis", "eucjp": "euc-jp",
    "ks_c_5601-1987": "euc-kr", "cp949": "euc-kr", "iso-8859-1": "windows-1252",
    "latin1": "windows-1252", "utf-16": "utf-16-le", "utf8": "utf-8",
}  # fmt: skip
_HIGH_LINES = re.compile(rb"[^\n]*[\x80-\xff][^\n]*\n?")
_ASCII = re.compile("[\x00-\x7f]+")
# No byte below 0x40 is the second half of a double-byte character.
_SEGMENTS = re.compile(rb"[\x00-\x3f]+|[^\x00-\x3f]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Decoded:
    """A text and how it was read.

    `encoding` is the label of most of it, `others` those of lines or segments that are in another
    one; `undecodable` counts U+FFFD put for broken bytes, `escapes` removed terminal escapes.
    """

    text: str
    encoding: str
    others: tuple[str, ...] = ()
    undecodable: int = 0
    escapes: int = 0

    def meta(self) -> dict[str, str]:
        """Returns what is worth keeping with a document: nothing for plain UTF-8."""
        values = {
            "encoding": "" if self.encoding == "utf-8" else self.encoding,
            "encoding_others": " ".join(self.others),
            "undecodable": str(self.undecodable or ""),
            "escapes": str(self.escapes or ""),
        }
        return {key: value for key, value in values.items() if value}


def label(declared: str | None) -> str | None:
    """Returns this module's label of a declared charset; None for none or one it doesn't know."""
    name = (declared or "").strip().strip("\"'").lower().replace("_", "-")
    name = _LABELS.get(name, "shift_jis" if name == "shift-jis" else name)
    return name if name in (*_PRIORS, "utf-8") else None


def detect(data: bytes, declared: str | None = None) -> str:
    """Returns the label of the likeliest encoding; `declared` is a prior, not the answer."""
    marked = _mark(data)
    if marked:
        return marked[1]
    clean, escapes = strip_escapes(data)
    return _detect(clean, label(declared), escapes)


def decode(data: bytes, declared: str | None = None) -> Decoded:
    """Decodes text of any encoding; raises `Unusable` for bytes that are no text in any of them.

    Terminal escapes are removed first, so that characters they split are whole again. Lines, and
    segments of lines, that are in another encoding than the rest are read in theirs.
    """
    marked = _mark(data)
    if marked:
        data = data[len(marked[0]) :]
    clean, escapes = strip_escapes(data)
    if marked:
        name = marked[1]
        text = _decoder(name)(clean)
    else:
        if b"\x1b$" in data and data.isascii():
            text = data.decode("iso2022_jp", "replace")
            return Decoded(text, "iso-2022-jp", undecodable=text.count("\ufffd"))
        with contextlib.suppress(UnicodeDecodeError):
            if b"\0" not in clean:
                return Decoded(clean.decode("utf-8"), "utf-8", escapes=escapes)
        name = _detect(clean, label(declared), escapes)
        text = _decoder(name)(clean)
    others: tuple[str, ...] = ()
    if not name.startswith(("utf-16", "utf-32")):
        text, others = _mixed(clean, text, name)
    decoded = Decoded(text, name, others, text.count("\ufffd"), escapes)
    _check(decoded, clean)
    return decoded


def _mark(data: bytes) -> tuple[bytes, str] | None:
    return next((mark for mark in _MARKS if data.startswith(mark[0])), None)


def _detect(data: bytes, declared: str | None, escapes: int) -> str:
    if b"\0" not in data:
        with contextlib.suppress(UnicodeDecodeError):
            # The last character may be cut.
            codecs.utf_8_decode(data, "strict", False)
            return "utf-8"
    sample = _sample(data)
    scores = _scores(sample, declared, escapes)
    broken = sample.decode("utf-8", "replace")
    # Lines of another encoding, or a cut character, don't make a UTF-8 file a Big5 one.
    whole = len(re.findall("[\x80-\ufffc\U00010000-\U0010ffff]", broken))
    scores["utf-8"] = _cost(broken)[0] if whole > 2 * broken.count("\ufffd") else np.inf
    return min(scores, key=scores.__getitem__)


def _sample(data: bytes) -> bytes:
    """Returns the first lines that aren't all ASCII, or the beginning of data with NUL bytes."""
    if b"\0" in data[:_SAMPLE_BYTES] or data.isascii():
        return data[: _SAMPLE_BYTES & ~1]
    parts, size = [], 0
    for found in _HIGH_LINES.finditer(data):
        parts.append(found.group()[:_SAMPLE_BYTES])
        size += len(parts[-1])
        if size >= _SAMPLE_BYTES:
            break
    return b"".join(parts)


def _scores(sample: bytes, declared: str | None, escapes: int) -> dict[str, float]:
    """Returns the bits that each candidate needs for the sample, with its prior."""
    scores = {}
    for name, prior in _PRIORS.items():
        costs = _cost(_decoder(name)(sample), _USUAL.get(name))
        scores[name] = min(costs) + prior - _DECLARED * (name == declared)
        if name.startswith("utf-16") and b"\0" not in sample:
            scores[name] += _NO_ZEROS
    if escapes:
        # Only bulletin boards have escapes, and theirs is this Big5.
        scores["big5-uao"] -= 2 * _DECLARED
    elif declared == "big5":
        scores["big5-uao"] -= _DECLARED
    return scores


@functools.cache
def _models() -> np.ndarray:
    """Returns float32 [models, 65537] bits; the last column is for what lies beyond."""
    with np.load(TABLES.with_name("encodings.npz")) as file:
        rows = [np.append(file[name], 200) for name in MODELS]
    models = np.stack(rows).astype(np.float32) / UNITS
    models[:, 0xFFFD] = _BROKEN
    return models


def _points(text: str) -> np.ndarray:
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.minimum(points, 1 << 16)


def _cost(text: str, usual: str | None = None) -> list[float]:
    """Returns bits a model; a model that is unusual for the encoding costs some more."""
    points = _points(text)
    if len(points) > _SAMPLE_BYTES:
        counts = np.bincount(points)
        costs = _models()[:, : len(counts)] @ counts.astype(np.float64)
    else:
        costs = _models()[:, points].sum(1, dtype=np.float64)
    extra = [0.0 if usual in (None, name) else _UNUSUAL for name in MODELS]
    return [float(c) + e for c, e in zip(costs, extra, strict=True)]


def _decoder(name: str) -> Callable[[bytes], str]:
    if name == "big5":
        return decode_big5
    if name == "big5-uao":
        return functools.partial(decode_big5, uao=True)
    if name == "euc-tw":
        return decode_euc_tw
    codec = {"shift_jis": "cp932", "euc-kr": "cp949"}.get(name, name)
    return lambda data: data.decode(codec, "replace")


def _mixed(data: bytes, text: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Reads lines again that the file's encoding explains badly; returns text and other labels."""
    lines = data.split(b"\n")
    texts = text.split("\n")
    if len(lines) != len(texts):
        return text, ()
    costs = _line_costs(texts)
    high = np.asarray([len(line) if not line.isascii() else 0 for line in lines])
    broken = np.asarray(["\ufffd" in line for line in texts], bool)
    # Anything a line of text could cost is left alone without trying others.
    doubtful = np.flatnonzero((high > 0) & np.logical_or(broken, costs > _TEXT_BITS * high))
    used: set[str] = set()
    for index in doubtful:
        texts[index], labels = _line(lines[index], texts[index], name)
        used |= labels
    return ("\n".join(texts), tuple(sorted(used))) if used else (text, ())


def _line_costs(texts: Sequence[str]) -> np.ndarray:
    points = _points("\n".join(texts))
    bits = _models()[:, points].min(0)
    ends = np.flatnonzero(points == 10)
    return np.add.reduceat(bits, np.concatenate(([0], ends))) if len(points) else np.zeros(1)


def _line(line: bytes, text: str, name: str) -> tuple[str, set[str]]:
    """Returns a line's text and the other labels in it; none if the file's fits, or in doubt."""
    found = _strict_utf8(line)
    if found is not None and name != "utf-8":
        return found, {"utf-8"}
    if "\ufffd" in text:
        joined, used = _segments(line, name)
        if used and "\ufffd" not in joined:
            return joined, used
    scores = {n: s for n, s in _scores(line, None, 0).items() if not n.startswith("utf-16")}
    best = min(scores, key=scores.__getitem__)
    other = _decoder(best)(line)
    if best != name and "\ufffd" not in other and scores[best] + _LINE_MARGIN < min(_cost(text)):
        return other, {best}
    return text, set()


def _segments(line: bytes, name: str) -> tuple[str, set[str]]:
    """Reads stretches between blanks, digits and the like on their own where they are broken."""
    texts, used = [], set()
    for part in _SEGMENTS.findall(line):
        text = _decoder(name)(part)
        if "\ufffd" in text:
            found = _strict_utf8(part)
            if found is not None:
                text = found
                used.add("utf-8")
            elif name == "utf-8":
                scores = _scores(part, None, 0)
                best = min((n for n in scores if n[:3] != "utf"), key=scores.__getitem__)
                text = _decoder(best)(part)
                used.add(best)
        texts.append(text)
    return "".join(texts), used


def _strict_utf8(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    # Two-byte sequences alone are more often pairs of another encoding.
    return text if any(c >= "\u0800" for c in text) else None


def _check(decoded: Decoded, data: bytes) -> None:
    """Raises `Unusable` where too much is broken, or too unlikely, to be text."""
    high = len(data) - len(data.translate(None, bytes(range(0x80, 0x100))))
    wide = decoded.encoding.startswith(("utf-16", "utf-32"))
    amount = len(data) if wide else high
    if not amount:
        return
    if decoded.undecodable > max(4, _BROKEN_SHARE * amount):
        raise Unusable("unknown encoding", f"{decoded.undecodable} broken characters as "
                       f"{decoded.encoding}, the likeliest")  # fmt: skip
    if decoded.encoding == "utf-8" or amount < _FEW:
        return
    rare = _ASCII.sub("", decoded.text)
    bits = min(_cost(rare)) / max(1, len(rare))
    if bits > (_LATIN_BITS if decoded.encoding == "windows-1252" else _CHARACTER_BITS):
        raise Unusable("unknown encoding", f"no text in any encoding known; as {decoded.encoding}, "
                       f"the likeliest, {bits:.1f} bits a character")  # fmt: skip
