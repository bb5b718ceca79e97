"""Simplified Chinese becomes Taiwan's Traditional Chinese; Traditional text is left alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import numpy as np
import regex
import xxhash

from twjax.corpus.conversion import opencc, overlay, taiwan
from twjax.corpus.document import Document
from twjax.corpus.step import Edit, Outcome, Step
from twjax.corpus.text import spans
from twjax.corpus.variety import script

_TITLE = regex.compile("《[^《》\n]{1,80}+》")
_SENTENCE = regex.compile("[^。！？；：!?;「」『』“”]++|[。！？；：!?;「」『』“”]++")

_ENDED = regex.compile("[。！？!?]")

# A line of a document that isn't Simplified as a whole needs more evidence: names and single
# words in Simplified characters occur in Taiwan's texts.
_MIN_FOREIGN = 6
# Labels of `Region` that a conversion overtakes.
_SIMPLIFIED = ("zh-Hans", "zh")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertSimplified(Step):
    """Converts what is written in Simplified characters to Taiwan's characters and words.

    A document is converted if at least `threshold` of the characters that one script alone has
    are Simplified, except for its Traditional lines; of other documents the lines, or in mixed
    lines the sentences, that are Simplified by the same share. On Traditional text OpenCC does
    damage (s2twp makes about 5,000 edits in a million characters of statutes).

    `config` is OpenCC's conversion of characters; `overlay` the table of words ("taiwan", a path,
    or "none" for OpenCC's conversion as it is, also "s2twp"); beside one, 臺 is written as `tai`.
    Code, URLs, e-mail addresses and paths stay byte for byte, and so do `names` and, unless
    `titles` is "convert", what stands in 《》.

    A converted document has `lang` "zh-TW" and in `meta`: `converted`, what did it;
    `converted_from`, the old `lang`; `converted_xxh3`, the hash of the old text; and, if only
    parts were converted, `converted_spans` ("0-12 40-77", code points of the new text). A `region`
    of "zh-Hans" or "zh" becomes "zh-Hant-TW", and `region_before` has the old one. With these
    and its edits `restore` makes the old document. Edits of kind "phrase" are the overlay's;
    those of kind "characters" are needed for the way back only, e.g. where 干 became 乾 in one
    place and 幹 in another. Converting again changes nothing.
    """

    name: ClassVar[str] = "convert_simplified"

    config: str = "s2tw"
    overlay: str = overlay.TAIWAN
    threshold: float = 0.8
    names: tuple[str, ...] = ()
    titles: Literal["keep", "convert"] = "keep"
    tai: Literal["台", "臺"] = "台"

    def __post_init__(self) -> None:
        if not 0.5 < self.threshold <= 1:
            raise ValueError(
                f"ConvertSimplified.threshold ({self.threshold}) must be above 0.5, up to 1."
            )
        if self.overlay != "none" and self.config not in ("s2t", "s2tw"):
            raise ValueError(
                f"ConvertSimplified.config ({self.config!r}) must be 's2tw' or 's2t' beside an "
                "overlay; others, as 's2twp', have words of their own and need overlay='none'."
            )
        if self.titles not in ("keep", "convert"):
            raise ValueError(
                f"ConvertSimplified.titles ({self.titles!r}) must be 'keep' or 'convert'."
            )
        if self.tai not in ("台", "臺"):
            raise ValueError(f"ConvertSimplified.tai ({self.tai!r}) must be '台' or '臺'.")
        if isinstance(self.names, str) or not all(self.names):
            raise ValueError(
                f"ConvertSimplified.names ({self.names!r}) must be a tuple of names, none empty."
            )

    def versions(self) -> dict[str, str]:
        found = {"opencc": opencc.version()}
        if self.overlay != "none":
            found["overlay"] = overlay.load(self.overlay).digest
        return found

    def apply(self, batch: Sequence[Document]) -> Outcome:
        opencc.converter(self.config)
        outcome = Outcome([])
        for document in batch:
            outcome.kept.append(self._converted(document, outcome))
        outcome.changed = +outcome.changed
        return outcome

    def _converted(self, document: Document, outcome: Outcome) -> Document:
        text = document.text
        kept = self._kept(text)
        verdict, stretches = simplified(text, kept, self.threshold)
        if not stretches:
            outcome.changed[f"left {verdict}"] += 1
            return document
        table = None if self.overlay == "none" else overlay.load(self.overlay)
        done = taiwan.convert(text, stretches, kept, table, self.config, self.tai)
        if done.text == text:
            outcome.changed[f"left {verdict}"] += 1
            return document
        outcome.changed["documents"] += 1
        outcome.changed["documents in part"] += stretches != [(0, len(text))]
        outcome.changed["documents on computing"] += done.computing
        outcome.changed["characters"] += done.characters
        for one in done.replacements:
            kind = "phrase" if one.phrase else "characters"
            outcome.changed["phrases"] += one.phrase
            outcome.edits.append(Edit(document.id, kind, one.start, one.before, one.after))
        origin = {
            "converted": " ".join((self.config, *self.versions().values())),
            "converted_from": document.lang,
            "converted_xxh3": xxhash.xxh3_64_hexdigest(text.encode()),
        }
        if stretches != [(0, len(text))]:
            origin["converted_spans"] = " ".join(f"{start}-{stop}" for start, stop in done.spans)
        if (region := document.meta.get("region")) in _SIMPLIFIED:
            origin |= {"region": "zh-Hant-TW", "region_before": region}
        return dataclasses.replace(
            document, text=done.text, lang="zh-TW", meta={**document.meta, **origin}
        )

    def _kept(self, text: str) -> list[taiwan.Span]:
        kept = spans.protected(text)
        if self.titles == "keep" and "《" in text:
            kept += [match.span() for match in _TITLE.finditer(text)]
        if self.names:
            kept += [match.span() for match in _any_of(self.names).finditer(text)]
        return kept


def restore(document: Document, edits: Iterable[Edit]) -> Document:
    """Returns the document of which `ConvertSimplified` made this one, given its edits.

    Edits of other documents are passed over. Raises ValueError for a document that wasn't
    converted, or if the result isn't the old text: other edits, a later change, another OpenCC.
    """
    meta = dict(document.meta)
    try:
        lang, digest = meta.pop("converted_from"), meta.pop("converted_xxh3")
        del meta["converted"]
    except KeyError as error:
        raise ValueError(f"{document.id}: it wasn't converted; its meta has no {error}.") from None
    if (region := meta.pop("region_before", None)) is not None:
        meta["region"] = region
    listed = meta.pop("converted_spans", f"0-{len(document.text)}")
    stretches = [(int(a), int(b)) for a, _, b in (part.partition("-") for part in listed.split())]
    own = [
        taiwan.Replacement(edit.start, edit.before, edit.after, edit.kind == "phrase")
        for edit in edits
        if edit.id == document.id
    ]
    try:
        text = taiwan.back(document.text, stretches, own)
    except ValueError as error:
        raise ValueError(f"{document.id}: {error}") from None
    if (found := xxhash.xxh3_64_hexdigest(text.encode())) != digest:
        raise ValueError(
            f"{document.id}: the restored text hashes to {found}, not to {digest}; the edits or "
            "the text are others than when it was converted."
        )
    return dataclasses.replace(document, text=text, lang=lang, meta=meta)


def simplified(
    text: str, kept: Sequence[taiwan.Span], threshold: float
) -> tuple[script.Script, list[taiwan.Span]]:
    """Returns the script of a text without the stretches `kept`, and what of it is Simplified.

    The stretches of the answer, (start, stop), are in order and apart; they may hold some of
    `kept`.
    """
    points = taiwan.points(text)
    classes = script.table()[points]
    for start, stop in kept:
        classes[start:stop] = 0
    verdict = _counts(classes).script(threshold)
    foreign = (classes == _class("國")) | (classes == _class("か"))
    if verdict == "japanese" or not (classes == _class("国")).any():
        return verdict, []
    if verdict == "simplified" and not foreign.any():
        return verdict, [(0, len(text))]
    # Lines that can't be otherwise than the document need no count of their own.
    bounds = np.concatenate([[0], np.flatnonzero(points[:-1] == ord("\n")) + 1, [len(points)]])
    telling = foreign if verdict == "simplified" else classes == _class("国")
    doubtful = np.add.reduceat(telling, bounds[:-1], dtype=np.int64) > 0
    if verdict == "mixed":
        doubtful[:] = True
    taken = np.full(len(doubtful), verdict == "simplified")
    found: list[taiwan.Span] = []
    inherited = verdict == "simplified"
    for line in np.flatnonzero(doubtful).tolist():
        start, stop = int(bounds[line]), int(bounds[line + 1])
        counts = _counts(classes[start:stop])
        own = counts.script(threshold)
        enough = verdict in ("simplified", "mixed") or counts.simplified >= _MIN_FOREIGN
        taken[line] = inherited if own == "undecided" else own == "simplified" and enough
        if verdict == "mixed" and own != "undecided":
            inherited = bool(taken[line])
        if own == "mixed":
            found += _simplified_sentences(text, classes, start, stop, threshold)
    edges = np.flatnonzero(np.diff(taken, prepend=False, append=False))
    found += zip(bounds[edges[::2]].tolist(), bounds[edges[1::2]].tolist(), strict=True)
    return verdict, _joined(found)


def _simplified_sentences(
    text: str, classes: np.ndarray, start: int, stop: int, threshold: float
) -> list[taiwan.Span]:
    """Finds the parts of a line between marks of sentences or quotations that are Simplified.

    A part that tells too little goes with its neighbours in the sentence: 预防“武汉”病毒感染.
    """
    parts = [match.span() for match in _SENTENCE.finditer(text, start, stop)]
    counts = [_counts(classes[a:b]) for a, b in parts]
    taken = [each.script(threshold) == "simplified" for each in counts]
    for order in (range(1, len(parts)), range(len(parts) - 2, -1, -1)):
        step = order.step
        for i in order:
            open_to = counts[i].traditional == 0 and not _ENDED.search(text, *parts[i])
            taken[i] |= taken[i - step] and open_to
    return [part for part, take in zip(parts, taken, strict=True) if take]


def _joined(found: list[taiwan.Span]) -> list[taiwan.Span]:
    joined: list[taiwan.Span] = []
    for start, stop in sorted(found):
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, stop))
    return joined


def _counts(classes: np.ndarray) -> script.Counts:
    each = np.bincount(classes, minlength=8)
    numbers = {name: int(each[_class(c)]) for name, c in _EXAMPLES.items()}
    numbers["han"] += numbers["simplified"] + numbers["traditional"]
    return script.Counts(**numbers)


# One character of each class of `script.table`.
_EXAMPLES = {"han": "人", "simplified": "国", "traditional": "國", "kana": "か"}


@functools.cache
def _class(character: str) -> int:
    return int(script.table()[ord(character)])


@functools.lru_cache(8)
def _any_of(names: tuple[str, ...]) -> regex.Pattern[str]:
    return regex.compile(r"\L<names>", names=names)
