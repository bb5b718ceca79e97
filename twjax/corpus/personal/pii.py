"""Personal data and secrets, found by pattern, checksum and context; replaced or labelled."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import regex

from twjax.corpus.document import Document, Rejection
from twjax.corpus.personal import (
    accounts,
    addresses,
    births,
    keys,
    online,
    papers,
    persons,
    phones,
    plates,
    surrogates,
    windows,
)  # fmt: skip
from twjax.corpus.personal.patterns import BREAK, Found, Recognizer, after, before, fold
from twjax.corpus.step import Edit, Outcome, Step

# Where two kinds claim a stretch, the earlier one has it.
KINDS = (
    *("secret", "e-mail", "address", "identity number", "passport", "health card", "birth date"),
    *("bank account", "card", "mobile", "landline", "LINE id", "plate", "IP address"),
    *("company number", "name"),
)
# Public by law (company number); off by default (name).
_UNASKED = ("company number", "name")
_RANK = {kind: rank for rank, kind in enumerate(KINDS)}
_SCAN_CHARACTERS = 1 << 20

_OFFICE = regex.compile(
    r"[\u4e00-\u9fff](?:部|局|署|處|院|會|所|館|校|中心|法院|大學|學院|醫院|診所|公司|政府|飯店|餐廳|門市|銀行|商店|書店|出版社"
    r"|工作室|辦公室|店)|客服|服務(?:電話|專線|台|信箱|時間)|專線|總機|訂[位房購]|免付費|代表號|熱線|申訴|檢舉|[會校所店館院]址"
    r"|公司地址|機關地址|營業|地點|集合|展覽|主辦|協辦|報名"
)
_PERSON = regex.compile(
    r"住|戶籍|家裡|家在|老家|我|他|她|本人|先生|小姐|女士|太太|同學|老師|聯絡人|連絡人|收件|寄件|寄[到給至]|送[到至]|包裹|搬|租"
    r"|被告|原告|被害|告訴人|患者|病患|學生|家長|姓名|媽|爸|阿[公嬤姨]"
)
# A form's label; a shop's address may have it too, but then an office word is near.
_LABEL = regex.compile(r"(?:地址|住址|通訊處)[^\u4e00-\u9fff\n]{0,6}$")
_OF_A_PERSON = {
    "identity number",
    "mobile",
    "birth date",
    "LINE id",
    "passport",
    "health card",
    "name",
}
_NEIGHBOURHOOD = 60


@functools.cache
def _recognizers(kinds: frozenset[str]) -> tuple[Recognizer, ...]:
    files = (keys, online, addresses, papers, plates, births, accounts, phones, persons)
    return tuple(r for file in files for r in file.recognizers() if r.kind in kinds)


def find(text: str, kinds: Collection[str] = KINDS) -> list[Found]:
    """Returns the stretches of these kinds, in order and without overlaps; `KINDS` are all.

    Takes time linear in the length of the text, whatever it holds.
    """
    return _resolved(_scan(*fold(text), frozenset(kinds)))


def _scan(folded: str, codes: np.ndarray, kinds: frozenset[str]) -> Iterator[Found]:
    if not folded:
        return
    cut = windows.cut(folded, codes)
    for one in _recognizers(kinds):
        window = cut.get(one.where)
        check, text = one.check, window.text if window else folded
        if one.needs not in text:
            continue
        for match in one.pattern.finditer(text):
            found = check(text, match)
            if found is not None:
                yield window.moved(found) if window else found


def _resolved(found: Iterator[Found]) -> list[Found]:
    kept: list[Found] = []
    for one in sorted(found, key=lambda f: (f.start, _RANK[f.kind], -f.end)):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
        elif _RANK[one.kind] < _RANK[kept[-1].kind]:
            kept[-1] = one
    return kept


def is_public(text: str, found: Found, personal_near: bool = False) -> bool:
    """Whether a find is a company's, an authority's or a place's, by the words before it.

    Landlines and addresses with an office's words and no person's; addresses without any word of
    a person's, unless `personal_near`; mailboxes such as info@…, official LINE accounts, and
    the hosts of links.
    """
    if online.is_office(found) or online.in_link(text, found):
        return True
    if found.kind not in ("landline", "address") or personal_near:
        return False
    near = before(text, found.start, 40)
    office = max((m.start() for m in _OFFICE.finditer(near)), default=None)
    person = _PERSON.search(near, max(0, office - 4) if office is not None else 0)
    if office is not None or found.kind == "landline":
        return office is not None and not person
    return not (person or _LABEL.search(near) or _PERSON.match(after(text, found.end, 12).lstrip()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplacePersonalData(Step):
    """Finds personal data and secrets of `kinds` and replaces them.

    `policy` "replace" puts in `style` "surrogate" a stand-in of the same kind that is nobody's
    (see `personal.surrogates`) or "tag" such as [MOBILE_1]; equal values of a document get equal
    ones. "label" leaves the text and writes the counts to `meta["pii"]` ("e-mail:1 mobile:2");
    "drop" rejects documents with `drop_from` finds or more and leaves the others as they are.

    `offices` "keep" leaves what is public by the words around it (see `is_public`): landlines,
    addresses, mailboxes (info@…) and LINE accounts of companies and authorities, and places;
    "replace" treats them like a person's. Toll-free and short numbers are never touched, mobile
    numbers always. Company numbers are public by law, and names are of public figures more often
    than not: both are found only if `kinds` has them, and names in `public_names` never. The
    counts are by kind; edits have a tag in place of what was replaced, and no value found is kept
    anywhere.
    """

    name: ClassVar[str] = "personal_data"

    kinds: tuple[str, ...] = tuple(kind for kind in KINDS if kind not in _UNASKED)
    policy: Literal["replace", "label", "drop"] = "replace"
    style: Literal["surrogate", "tag"] = "surrogate"
    offices: Literal["keep", "replace"] = "keep"
    drop_from: int = 1
    public_names: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown:
            raise ValueError(
                f"ReplacePersonalData.kinds has {unknown}; choose from {', '.join(KINDS)}."
            )
        for field, values in (
            ("policy", ("replace", "label", "drop")),
            ("style", ("surrogate", "tag")),
            ("offices", ("keep", "replace")),
        ):
            if getattr(self, field) not in values:
                raise ValueError(
                    f"ReplacePersonalData.{field} ({getattr(self, field)!r}) must be one of "
                    f"{', '.join(values)}."
                )
        if self.drop_from < 1:
            raise ValueError(f"ReplacePersonalData.drop_from ({self.drop_from}) must be 1 or more.")

    def versions(self) -> dict[str, str]:
        digest = hashlib.sha256()
        for file in sorted(pathlib.Path(surrogates.__file__).parent.glob("*.py")):
            digest.update(file.read_bytes())
        return {"regex": regex.__version__, "personal data rules": digest.hexdigest()[:16]}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        for document, found in zip(batch, self.find([d.text for d in batch]), strict=True):
            if not found:
                outcome.kept.append(document)
                continue
            counts = collections.Counter(f.kind for f in found)
            summary = " ".join(f"{kind}:{counts[kind]}" for kind in sorted(counts))
            if self.policy == "drop" and len(found) >= self.drop_from:
                outcome.rejected.append(Rejection(document, "personal data", summary))
                continue
            if self.policy == "label":
                document = dataclasses.replace(document, meta={**document.meta, "pii": summary})
            elif self.policy == "replace":
                text, edits = self._replaced(document, found)
                document = dataclasses.replace(document, text=text)
                outcome.edits += edits
            outcome.changed.update(counts)
            outcome.changed["documents"] += 1
            outcome.kept.append(document)
        return outcome

    def find(self, texts: Sequence[str]) -> list[list[Found]]:
        """Returns what is personal in each text under the step's kinds and policies."""
        result: list[list[Found]] = [[] for _ in texts]
        for group in _groups(texts):
            # Short texts are scanned together: a call costs more than a hundred characters.
            joined, codes = fold(BREAK.join(texts[i] for i in group))
            starts = [0]
            for i in group:
                starts.append(starts[-1] + len(texts[i]) + 1)
            place = 0
            all_found = _resolved(_scan(joined, codes, frozenset(self.kinds)))
            for index, found in enumerate(all_found):
                while found.start >= starts[place + 1]:
                    place += 1
                if self._is_asked(joined, all_found, index):
                    moved = found._replace(
                        start=found.start - starts[place], end=found.end - starts[place]
                    )
                    result[group[place]].append(moved)
        return result

    def _is_asked(self, text: str, finds: list[Found], index: int) -> bool:
        found = finds[index]
        if found.kind == "name" and found.value in self.public_names:
            return False
        if self.offices == "replace":
            return True
        near = any(
            other.kind in _OF_A_PERSON
            and max(found.start, other.start) - min(found.end, other.end) <= _NEIGHBOURHOOD
            and BREAK not in text[min(found.end, other.end) : max(found.start, other.start)]
            for other in finds[max(0, index - 2) : index + 3]
            if other is not found
        )
        return not is_public(text, found, near)

    def _replaced(self, document: Document, found: list[Found]) -> tuple[str, list[Edit]]:
        ordinals: dict[tuple[str, str], int] = {}
        numbers: collections.Counter[str] = collections.Counter()
        parts: list[str] = []
        edits: list[Edit] = []
        end = size = 0
        for one in found:
            key = (one.kind, one.value)
            if key not in ordinals:
                ordinals[key] = numbers[one.kind]
                numbers[one.kind] += 1
            before_it, written = document.text[end : one.start], document.text[one.start : one.end]
            tag = f"[{one.kind.upper().replace(' ', '_').replace('-', '_')}_{ordinals[key] + 1}]"
            by = tag
            if self.style == "surrogate":
                draw = surrogates.Draw(self.seed, document.id, one.kind, ordinals[key])
                by = surrogates.surrogate(one.kind, written, draw)
            parts += [before_it, by]
            size += len(before_it)
            # The tag stands for what was there: personal data goes nowhere.
            edits.append(Edit(document.id, one.kind, size, tag, by))
            size += len(by)
            end = one.end
        return "".join([*parts, document.text[end:]]), edits


def _groups(texts: Sequence[str]) -> Iterator[list[int]]:
    group: list[int] = []
    size = 0
    for i, text in enumerate(texts):
        if group and size + len(text) > _SCAN_CHARACTERS:
            yield group
            group, size = [], 0
        group.append(i)
        size += len(text) + 1
    if group:
        yield group
