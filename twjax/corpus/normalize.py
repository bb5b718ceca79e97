"""One spelling for the same text: line ends, invisible characters, composed characters."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from twjax.corpus.document import Document
from twjax.corpus.step import Outcome, Step

# The Unicode Standard, section 5.8 (newline guidelines): what other systems end a line with.
_LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
# C0 and C1 controls but tab and line feed; interlinear annotation marks and noncharacters.
_CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff]")
# Unicode, section 23.2 (layout controls): soft hyphen, zero-width space, word joiner and its old
# form, the BOM, direction marks, embeddings, overrides and isolates, invisible operators.
_ZERO_WIDTH = re.compile("[\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
# Joiners shape emoji and Indic, Arabic or Mongolian script; beside Han they are only noise.
_HAN = "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_JOINER = re.compile(f"(?<=[{_HAN}])[\u200c\u200d]+|[\u200c\u200d]+(?=[{_HAN}])")
# Unicode Standard Annex #11: full-width forms of letters and digits, half-width forms of kana.
# Full-width punctuation is what Chinese is written with and stays in any case.
_FULL_WIDTH = re.compile("[０-９Ａ-Ｚａ-ｚ]")
_IDEOGRAPHIC_SPACE = re.compile("\u3000")
_HALF_WIDTH_KANA = re.compile("[\uff66-\uff9f]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalizeText(Step):
    """Makes line ends LF, removes invisible characters and composes the rest (NFC, UAX #15).

    `width` "keep" leaves full-width letters, digits and the ideographic space as they are;
    "fold" makes them ASCII and half-width kana full-width. Punctuation such as ，（）：； is
    never folded. Applying the step twice changes nothing more.
    """

    name: ClassVar[str] = "normalize_text"

    width: Literal["keep", "fold"] = "keep"

    def versions(self) -> dict[str, str]:
        return {"unicode": unicodedata.unidata_version}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        for document in batch:
            text, counts = self.normalize(document.text)
            outcome.changed.update(counts)
            if text != document.text:
                outcome.changed["documents"] += 1
                document = dataclasses.replace(document, text=text)
            outcome.kept.append(document)
        return outcome

    def normalize(self, text: str) -> tuple[str, dict[str, int]]:
        """Returns the text and how many characters of each kind were changed."""
        counts: dict[str, int] = {}

        def replace(
            kind: str, pattern: re.Pattern[str], by: str | Callable[[re.Match[str]], str]
        ) -> None:
            nonlocal text
            text, number = pattern.subn(by, text)
            if number:
                counts[kind] = number

        replace("line ends", _LINE_END, "\n")
        replace("controls", _CONTROL, "")
        replace("zero width", _ZERO_WIDTH, "")
        if self.width == "fold":
            replace("full-width forms", _FULL_WIDTH, lambda m: chr(ord(m[0]) - 0xFEE0))
            replace("ideographic spaces", _IDEOGRAPHIC_SPACE, " ")
            kana = _HALF_WIDTH_KANA
            replace("half-width kana", kana, lambda m: unicodedata.normalize("NFKC", m[0]))
        # Joiners last but for NFC, which may put a Han character where a look-alike stood.
        if not unicodedata.is_normalized("NFC", text):
            text = unicodedata.normalize("NFC", text)
            counts["composed documents"] = 1
        if "\u200c" in text or "\u200d" in text:
            replace("joiners", _JOINER, "")
        return text, counts
