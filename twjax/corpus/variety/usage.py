"""Mainland words in a text: which, where, how many, and what Taiwan says instead.

Words are found as words as far as a table can say so: 視頻 isn't in 電視頻道, 內存 isn't in
境內存放, 質量 is 品質 beside 產品 and mass beside 守恆. The longest entry wins, Taiwan's own words
that hold a mainland one shield it, and a word that is ordinary in Taiwan outside of computing
counts in texts about computers only.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import regex

from twjax.corpus.codepoints import View
from twjax.corpus.document import Document, Rejection
from twjax.corpus.quality import phrases
from twjax.corpus.quality.phrases import Phrases
from twjax.corpus.step import Edit, Outcome, Step
from twjax.corpus.text import spans
from twjax.corpus.variety import script

COLUMNS = ("mainland", "taiwan", "exclude", "require", "weight", "note", "source", "licence")
_TABLE = "usage.tsv"
_TITLE = regex.compile("《[^《》\n]{1,80}+》")
_NEAR = 20
# A word counts three times a text at most: a subject that is named often is still one word.
_CAP = 3
# Texts shorter than this are scored as if they were this long.
_MIN_HAN = 100
# What texts about computers have, on both sides; two of them, and one in 500 characters.
_CUES = (
    "軟體 軟件 程式 程式碼 代碼 伺服器 服務器 資料庫 數據庫 瀏覽器 演算法 算法 編譯 編譯器 函式 "
    "函數 變數 變量 物件 陣列 數組 字串 字符串 檔案 文件夾 資料夾 目錄 介面 接口 位元 字節 網址 "
    "網頁 線程 執行緒 進程 指令 命令行 開源 原始碼 源碼 API HTTP HTTPS Linux Windows Android "
    "Python Java JavaScript CSS HTML SQL GitHub JSON server"
)
_GROUP = 1 << 18


class Term(NamedTuple):
    """A row of the table; `exclude` and `require`, as `fold` has them, mustn't or must be near."""

    mainland: str
    taiwan: str
    exclude: tuple[str, ...]
    require: tuple[str, ...]
    computing: bool
    weight: float
    keep: bool


class Found(NamedTuple):
    """One occurrence: its place in the text, in code points, what stands there, and the row."""

    start: int
    stop: int
    word: str
    term: Term


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """The table, ready for searching. `phrases` has the terms first, then cues and shields."""

    terms: tuple[Term, ...]
    phrases: Phrases
    cues: np.ndarray

    def find(self, texts: Sequence[str]) -> list[list[Found]]:
        """Returns the mainland words of each text, in order of place."""
        found: list[list[Found]] = [[] for _ in texts]
        start = 0
        while start < len(texts):
            stop, size = start, 0
            while stop < len(texts) and (stop == start or size + len(texts[stop]) <= _GROUP):
                size += len(texts[stop])
                stop += 1
            self._find(texts[start:stop], found[start:stop])
            start = stop
        return found

    def _find(self, texts: Sequence[str], found: list[list[Found]]) -> None:
        view = View(texts)
        hits = self.phrases.find(view)
        han = np.maximum(500, np.diff(view.starts))
        is_cue = self.cues[hits.phrase]
        cues = np.bincount(hits.text[is_cue], minlength=len(texts))
        kinds = np.unique(hits.text[is_cue] * len(self.cues) + hits.phrase[is_cue])
        different = np.bincount(kinds // len(self.cues), minlength=len(texts))
        computing = (different >= 2) & (cues * 500 >= han)
        columns = zip(hits.text.tolist(), hits.place.tolist(), hits.phrase.tolist(), strict=True)
        last, folded = -1, ""
        code: list[tuple[int, int]] = []
        for text, place, phrase in columns:
            if phrase >= len(self.terms):
                continue
            term = self.terms[phrase]
            if term.computing and not computing[text]:
                continue
            if text != last:
                last = text
                folded = fold(texts[int(text)])
                code = spans.protected(texts[int(text)])
            start = place - int(view.starts[text])
            stop = start + len(term.mainland)
            if not _fits(folded[max(0, start - _NEAR) : stop + _NEAR], term):
                continue
            words = found[int(text)]
            if words and start < words[-1].stop:
                # 軟件質量 ends where 質量很 begins: the first stands.
                continue
            if not any(low < stop and start < high for low, high in code):
                words.append(Found(start, stop, texts[int(text)][start:stop], term))


def fold(text: str) -> str:
    """Returns a text as the table compares it: script, width and case aside."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return phrases.folds()[points].tobytes().decode("utf-32-le", "surrogatepass")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Usage(Step):
    """Scores documents by mainland words and keeps, flags, converts or drops those with many.

    The score is the sum of the words' weights in `tables/usage.tsv` (or the file `table`), each
    word counted three times at most, to 1,000 Han characters; shorter documents than 100 count as
    100. A document is flagged from `threshold` on if it has `different` words or more.
    `meta["usage_score"]` has one decimal; `meta["usage_terms"]` lists the words with their counts,
    "視頻 3, 軟件 1", the weightiest first, at most 20; documents without any have neither. Words
    that are ordinary in Taiwan too don't count in what `ConvertSimplified` converted: it chose
    them, as 文件 for 文档.

    `policy` "keep" does no more, "flag" sets `meta["usage"]` to "mainland" in flagged documents,
    "drop" rejects these (reason "mainland usage", value the score and the words), and "convert"
    puts Taiwan's word for each in flagged documents that aren't in Simplified characters, except
    where the table says that the word is ordinary in Taiwan too, and inside 《》; edits of kind
    "usage" say where. Code, addresses and paths are neither counted nor changed.
    """

    name: ClassVar[str] = "usage"

    policy: Literal["keep", "flag", "convert", "drop"] = "flag"
    threshold: float = 8.0
    different: int = 3
    table: str = ""

    def __post_init__(self) -> None:
        if self.policy not in ("keep", "flag", "convert", "drop"):
            raise ValueError(f"Usage.policy ({self.policy!r}) must be keep, flag, convert or drop.")
        if self.threshold <= 0 or self.different < 1:
            raise ValueError(
                f"Usage.threshold ({self.threshold}) must be above 0, different "
                f"({self.different}) at least 1."
            )

    def versions(self) -> dict[str, str]:
        return {"usage table": hashlib.sha256(_path(self.table).read_bytes()).hexdigest()}

    def flags(self, words: Sequence[Found], han: int) -> bool:
        """Whether a text of `han` Han characters with these words is flagged."""
        many = len({word.term for word in words}) >= self.different
        return many and score(words, han) >= self.threshold

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        found = load(self.table).find([document.text for document in batch])
        for document, words in zip(batch, found, strict=True):
            if "converted" in document.meta:
                words = [word for word in words if not word.term.keep]
            if not words:
                outcome.kept.append(document)
                continue
            counts = script.count(document.text)
            points = score(words, counts.han)
            terms = _listed(words)
            meta = {**document.meta, "usage_score": f"{points:.1f}", "usage_terms": terms}
            flagged = self.flags(words, counts.han)
            outcome.changed["flagged"] += flagged
            outcome.changed["with mainland words"] += 1
            if flagged and self.policy == "drop":
                rejected = dataclasses.replace(document, meta=meta)
                outcome.rejected.append(
                    Rejection(rejected, "mainland usage", f"{points:.1f}: {terms}")
                )
                continue
            if flagged and self.policy in ("flag", "convert"):
                meta["usage"] = "mainland"
            text = document.text
            if flagged and self.policy == "convert" and counts.script(0.8) != "simplified":
                text, edits = _converted(document, words)
                outcome.edits += edits
                outcome.changed["words replaced"] += len(edits)
            outcome.kept.append(dataclasses.replace(document, text=text, meta=meta))
        outcome.changed = +outcome.changed
        return outcome


def score(words: Sequence[Found], han: int) -> float:
    """Returns the weights of the words to 1,000 Han characters, each word three times at most."""
    counts = Counter(word.term for word in words)
    return 1000 * sum(t.weight * min(n, _CAP) for t, n in counts.items()) / max(_MIN_HAN, han)


@functools.cache
def load(path: str = "") -> Lexicon:
    """Loads the table that comes with twjax, or the file `path`."""
    file = _path(path)
    terms = [_term(row, file) for row in phrases.read_rows(file, COLUMNS)]
    seen = {fold(term.mainland) for term in terms}
    rest: list[tuple[str, str]] = [(cue, "cue") for cue in _CUES.split()]
    for row in phrases.read_rows(file, COLUMNS):
        rest += [(shield, "not mainland") for shield in _shields(row["mainland"], row["exclude"])]
    others, categories = [], []
    cue_keys = {fold(cue) for cue in _CUES.split()}
    for phrase, category in rest:
        if fold(phrase) not in seen:
            seen.add(fold(phrase))
            others.append(phrase)
            categories.append(category)
    everything = [*(term.mainland for term in terms), *others]
    weights = [*(term.weight for term in terms), *(0.0 for _ in others)]
    found = Phrases(everything, ["mainland"] * len(terms) + categories, weights)
    return Lexicon(tuple(terms), found, np.array([fold(p) in cue_keys for p in everything]))


def _path(path: str) -> pathlib.Path:
    return pathlib.Path(path) if path else phrases.TABLES / _TABLE


def _term(row: dict[str, str], file: pathlib.Path) -> Term:
    try:
        weight = float(row["weight"])
    except ValueError:
        raise ValueError(
            f"{file}: weight {row['weight']!r} of {row['mainland']} is no number."
        ) from None
    exclude = _alternatives(row["exclude"])
    require = _alternatives(row["require"])
    return Term(
        row["mainland"],
        row["taiwan"],
        tuple(fold(w) for w in exclude if "~" not in w and row["mainland"] not in w),
        () if require == ("computing",) else tuple(map(fold, require)),
        require == ("computing",),
        weight,
        row["note"] == "keep",
    )


def _alternatives(field: str) -> tuple[str, ...]:
    return () if field == "-" else tuple(field.split("|"))


def _shields(mainland: str, exclude: str) -> list[str]:
    """Longer words in which a mainland one isn't that word."""
    words = [word.replace("~", mainland) for word in _alternatives(exclude)]
    return [word for word in words if mainland in word and word != mainland]


def _fits(near: str, term: Term) -> bool:
    if any(word in near for word in term.exclude):
        return False
    return not term.require or any(word in near for word in term.require)


def _listed(words: Sequence[Found]) -> str:
    counts = Counter(word.term for word in words)
    ranked = sorted(counts.items(), key=lambda item: (-item[0].weight * item[1], item[0].mainland))
    return ", ".join(f"{term.mainland} {number}" for term, number in ranked[:20])


def _converted(document: Document, words: Sequence[Found]) -> tuple[str, list[Edit]]:
    titles = [match.span() for match in _TITLE.finditer(document.text)]
    pieces, edits, end, moved = [], [], 0, 0
    for start, stop, word, term in words:
        if term.keep or any(low < stop and start < high for low, high in titles):
            continue
        pieces += [document.text[end:start], term.taiwan]
        edits.append(Edit(document.id, "usage", start + moved, word, term.taiwan))
        moved += len(term.taiwan) - (stop - start)
        end = stop
    return "".join([*pieces, document.text[end:]]), edits
