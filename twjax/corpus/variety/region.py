"""Where a text was written, as far as it can be told: language, script and regional wording.

Characters decide the language and the script (`script`, and the characters that only one Sinitic
language uses); a linear model decides between Taiwan's and the mainland's wording (`regionmodel`).
"Can't tell" is an answer: "zh-Hant" is Traditional Chinese of no certain region.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import regex

from twjax.corpus.conversion import opencc
from twjax.corpus.document import Document, Rejection
from twjax.corpus.step import Outcome, Step
from twjax.corpus.variety import regionmodel, script

# BCP 47; the variants pehoeji and tailo are in IANA's registry. "zh-Hant-CN" is mainland wording in
# Traditional characters; "mul" has parts in several languages, and "und" can't be told.
LABELS = (
    "zh-Hant-TW", "zh-Hant-HK", "zh-Hant-CN", "zh-Hant", "zh-Hans", "zh", "yue-Hant", "nan-Hant",
    "nan-Latn-pehoeji", "nan-Latn-tailo", "hak-Hant", "ja", "ko", "en", "mul", "und",
)  # fmt: skip
DIALECTS = ("yue-Hant", "nan-Hant", "hak-Hant")
TAIGI_LATIN = ("nan-Latn-pehoeji", "nan-Latn-tailo")
MIN_CONFIDENCE = 0.8
# How much of the Traditional Chinese that is met is Taiwan's: an assumption. With 0.5, the little
# that is worded as on the mainland in a source that is nearly all Taiwan's drowns in errors.
PRIOR = 0.75
SCRIPT_THRESHOLD = 0.8

# Characters that mark a text, and how strongly; general knowledge of the written languages. What
# two of them share, like 毋, tells both from Mandarin; what names and statutes have (伊朗, 毋庸,
# 遮蔽) weighs little.
_MARKS: dict[str, dict[float, str]] = {
    "yue": {
        1: "嘅咗喺嚟咁唔冇哋啲嗰嘢攞瞓噉嘥嘞揾嗌嗮",
        0.5: "佢咩喎睇畀乜嗱孖啱",
        0.15: "係俾埋咪返",
    },
    "nan": {1: "佇𪜶媠𨑨𠢕蹛", 0.7: "袂佮咧囝", 0.4: "毋遐啉矣", 0.2: "攏遮恁欲閣", 0.15: "伊阮"},
    "hak": {1: "𠊎摎吂", 0.7: "个晡", 0.5: "佢", 0.4: "毋儕", 0.2: "恁", 0.15: "係該仔盡"},
    "mandarin": {1: "的了們们這这那沒没很她您", 0.7: "他", 0.5: "不在和", 0.3: "是"},
    "hongkong": {1: "裏着衞綫説脱税牀鷄粧"},
}
_LANGUAGES = tuple(_MARKS)
# Words that weigh one more each, once the characters are suspicious.
_WORDS = {
    "yue": "點解|而家|依家|鍾意|邊個|邊度|話畀|唔係|係咪|返工|屋企|細路|靚仔|尋日|"
    "聽日|佢哋|我哋|嘅",
    "nan": "按呢|啥物|這馬|佇咧|毋是|毋知|毋過|毋通|毋但|毋捌|袂使|袂當|真濟|查某|"
    "查埔|囡仔|阮兜|敢若|敢有|敢是|啥人|佗位|佗一|今仔日|明仔載|昨昏|予人|"
    "予伊|予我|共伊|共我|攏總|攏是|攏無|攏有|逐家|逐工|遮爾|閣再|猶未|猶毋|"
    "拄好|拄仔|恁兜|阮阿|甲伊|伊的|伊就|伊是|真媠|好食|食飯|欲去|欲食|無閒|"
    "轉去|物件|代誌|趁錢|厝內|厝裡|規家|啉酒|尻川|跤手|目睭|喙齒|頭殼|較緊|"
    "一寡|濟濟|做伙|鬥陣|佮意|心適",
    "hak": "麼个|麼儕|仰般|仰會|毋會|毋使|毋好|毋係|毋知|毋驚|暗晡|今晡日|天光日|"
    "屋下|細人|細妹|恁多|恁久|該兜|分佢|摎佢|這兜|吾个|頭擺|下擺|打幫|盡多|"
    "老妹|著病|阿姆|姐公|莊下|差毋多|共下|歸日|佢个|恁樣|恁好|等佢|無愛|"
    "當會|盡會|食飽|食飯|遽遽|歇睏|逐儕|轉屋|該位|這位|个時",
    "hk": "的士|巴士|士多|質素|港元|港鐵|八達通|強積金|公屋|居屋|屋邨|屋苑|信用咭|"
    "咭片|返工|飲管|按揭|埋單|渠務|差餉|地鋪|旅遊巴|小巴|多士|沙律|朱古力|"
    "三文治|芝士|曱甴|雪櫃|荃灣|九龍|新界|旺角|銅鑼灣|尖沙咀|港島|將軍澳|"
    "屯門|元朗|觀塘|本港|港幣|警務處|醫管局|廉政公署|區議會|政務司|財政司|"
    "律政司",
}
_PATTERNS = {name: regex.compile(words) for name, words in _WORDS.items()}
# Pe̍h-ōe-jī and Tâi-lô share the tone marks; the spellings of a few sounds tell them apart.
_TAIGI = regex.compile(r"[\p{Latin}\p{M}]*(?:\u030d|\u0358|ⁿ|[āēīōū])[\p{Latin}\p{M}]*", regex.I)
_TONED = regex.compile(
    r"[\p{Latin}\p{M}]*(?:[áàâāéèêēíìîīóòôōúùûūńǹḿ]|\u030d|\u0358|ⁿ)[\p{Latin}\p{M}]*", regex.I
)
_MARKED = regex.compile(r"[\u00c0-\u024f\u0300-\u036f\u1e00-\u1effⁿ]")
_HYPHEN = regex.compile(r"\p{Latin}\p{M}*-{1,2}\p{Latin}")
_NOT_TAIGI = regex.compile(r"[çœæëïüñãõăđơưß]|[qvwxyz]\p{Latin}", regex.IGNORECASE)
_POJ = regex.compile(r"\bchh?|\u0358|ⁿ|o[aeáàâāéèêē]|e(?:k|ng)\b", regex.IGNORECASE)
_TAILO = regex.compile(r"\btsh?|u[aeáàâāéèêē]|nn\b|oo|i(?:k|ng)\b", regex.IGNORECASE)
_WORD = regex.compile(r"[\p{Latin}\p{M}’']+")
_ENGLISH = regex.compile(
    r"\b(?:the|of|and|to|is|that|for|it|with|was|are|this|by|you|not|from|have|has|can|will|if"
    r"|your|we|they|which|be|what|when|there|then)\b",
    regex.IGNORECASE,
)
_MAX_GROUP = 1 << 20
_MIN_LETTERS = 8
# Of shorter text in Traditional characters one common word (消息, 數據) would decide that it is the
# mainland's: read by hand, nearly all of it was Taiwan's.
_MIN_MAINLAND = 40
_SHORT = 60
# As much of a long text as is searched for words.
_MAX_READ = 10_000
# A part of a text counts for "mul" from this share of its letters on.
_MIN_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A label of `LABELS`, how sure it is (0 to 1), and the probability of Taiwan's wording.

    `score` is calibrated for the three regions of Traditional Chinese; for the others it is the
    share of the characters that speak for the label. `taiwan` is 0.5 where there is no Chinese.
    """

    label: str
    score: float
    taiwan: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region(Step):
    """Labels documents by language, script and region, and keeps or drops them by label.

    `meta["region"]` is one of `LABELS`, `meta["region_score"]` how sure it is, with two digits. A
    document in which two paragraphs' labels have a fifth of the letters each is "mul" if these
    are different languages or scripts; `meta["region_parts"]` then lists them as
    "zh-Hans 0.62, zh-Hant-TW 0.38".

    With `policy` "drop", a document whose label isn't in `keep` is rejected with the reason
    "region", its value the label and the score. "zh-Hant" and "und" mean that it can't be told,
    so `keep` should say what happens to them. `lang` "fill" sets a document's `lang` where it is
    "und" or "zh", "correct" in any case where the label is certain, "keep" never.

    `prior` is the share of Taiwan's among the documents worded as in Taiwan or as on the mainland,
    as far as it is known beforehand: nearer to 1 for a source from Taiwan, 0.5 for one of which
    nothing is known. Text of less than 40 Han characters is never "zh-Hant-CN".
    """

    name: ClassVar[str] = "region"

    policy: Literal["label", "drop"] = "label"
    keep: tuple[str, ...] = ("zh-Hant-TW", "zh-Hant", "zh", "nan-Hant", "nan-Latn-pehoeji",
                             "nan-Latn-tailo", "hak-Hant", "en", "mul", "und")  # fmt: skip
    lang: Literal["keep", "fill", "correct"] = "fill"
    confidence: float = MIN_CONFIDENCE
    prior: float = PRIOR

    def __post_init__(self) -> None:
        unknown = sorted(set(self.keep) - set(LABELS))
        if unknown:
            raise ValueError(f"Region.keep: {unknown[0]!r} is no label; they are {LABELS}.")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"Region.confidence ({self.confidence}) must be from 0.5 up to 1.")
        if not 0 < self.prior < 1:
            raise ValueError(f"Region.prior ({self.prior}) must be between 0 and 1.")
        for field, values in (("policy", ("label", "drop")), ("lang", ("keep", "fill", "correct"))):
            if getattr(self, field) not in values:
                raise ValueError(f"Region.{field} ({getattr(self, field)!r}) must be in {values}.")

    def versions(self) -> dict[str, str]:
        return {"opencc": opencc.version(), "region.npz": regionmodel.version()}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        texts = [document.text for document in batch]
        verdicts = judge(texts, self.confidence, self.prior)
        for document, (verdict, parts) in zip(batch, verdicts, strict=True):
            outcome.changed[verdict.label] += 1
            meta = {"region": verdict.label, "region_score": f"{verdict.score:.2f}"}
            if parts:
                meta["region_parts"] = ", ".join(f"{k} {share:.2f}" for k, share in parts)
            lang = self._lang(document.lang, verdict.label)
            document = dataclasses.replace(document, lang=lang, meta={**document.meta, **meta})
            if self.policy == "drop" and verdict.label not in self.keep:
                value = f"{verdict.label} {verdict.score:.2f}"
                outcome.rejected.append(Rejection(document, "region", value))
            else:
                outcome.kept.append(document)
        return outcome

    def _lang(self, old: str, label: str) -> str:
        vague = label in ("und", "mul", "zh")
        if self.lang == "keep" or vague or (self.lang == "fill" and old not in ("und", "zh", "")):
            return old
        if label == "zh-Hant" and old.startswith("zh-") and "Hans" not in old and old != "zh-CN":
            return old
        return {"zh-Hant-TW": "zh-TW", "zh-Hant-HK": "zh-HK"}.get(label, label)


def judge(
    texts: Sequence[str], confidence: float = MIN_CONFIDENCE, prior: float = PRIOR
) -> list[tuple[Verdict, list[tuple[str, float]]]]:
    """Returns, for each text, its verdict and the shares of its languages if it is "mul"."""
    found: list[tuple[Verdict, list[tuple[str, float]]]] = []
    for group in _groups(texts):
        counts = _Counts.of(group)
        verdicts = _decide(counts, group, confidence, prior)
        several = counts.perhaps_several()
        for text, verdict, look in zip(group, verdicts, several, strict=True):
            shares = _shares(text, verdict.label, confidence, prior) if look else []
            if shares:
                verdict = Verdict("mul", shares[0][1], verdict.taiwan)
            found.append((verdict, shares))
    return found


def paragraphs(
    text: str, confidence: float = MIN_CONFIDENCE, prior: float = PRIOR
) -> list[tuple[int, int, Verdict]]:
    """Returns (start, stop, verdict) of each line of a text that isn't blank."""
    found = []
    spots = [match.span() for match in regex.finditer(r"[^\r\n]*\S[^\r\n]*", text)]
    lines = [text[start:stop] for start, stop in spots]
    for (start, stop), (verdict, _) in zip(spots, judge(lines, confidence, prior), strict=True):
        found.append((start, stop, verdict))
    return found


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for text in texts:
        if group and size + len(text) > _MAX_GROUP:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text) + 1
    if group:
        yield group


@dataclasses.dataclass
class _Counts:
    """Numbers of characters by class of script, marks by language, and the model's sums."""

    scripts: np.ndarray
    marks: np.ndarray
    latin: np.ndarray
    hangul: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[str]) -> _Counts:
        points = np.frombuffer("\n".join([*parts, ""]).encode("utf-32-le", "surrogatepass"), "<u4")
        stops = np.cumsum([len(part) + 1 for part in parts])
        starts = np.concatenate([[0], stops[:-1]])
        classes = _table()[points]
        kinds = np.stack(
            [np.add.reduceat(classes == kind, starts, dtype=np.int64) for kind in range(1, 7)], 1
        )
        numbers, weights = _marks()
        marks = np.zeros((len(parts), len(_LANGUAGES)))
        number = numbers[points]
        marked = np.flatnonzero(number)
        if len(marked):
            owner = np.searchsorted(stops, marked, "right")
            for column, weight in enumerate(weights.T):
                marks[:, column] = np.bincount(owner, weight[number[marked]], len(parts))
        sums = regionmodel.load().sums(points, stops)
        return cls(kinds[:, :4], marks, kinds[:, 4], kinds[:, 5], sums)

    def perhaps_several(self) -> np.ndarray:
        """Returns bool [texts]: which may have parts in different languages or scripts."""
        letters = np.maximum(1, self.letters())
        _, simplified, traditional, kana = self.scripts.T
        one_script = np.maximum(simplified, traditional) / np.maximum(1, simplified + traditional)
        low, high = _MIN_SHARE / 2, 1 - _MIN_SHARE / 2
        several = np.zeros(len(letters), bool)
        for share in (self.latin / 4 / letters, self.hangul / letters, 1 - one_script):
            several |= (share > low) & (share < high)
        several |= (kana > 0.002 * letters) & (kana < 0.2 * letters)
        dialect = self.marks[:, :3].max(1) / letters
        several |= (dialect > 0.01) & (dialect < 0.1)
        return several & (letters >= 4 * _MIN_LETTERS)

    def letters(self) -> np.ndarray:
        """Returns how much is written, in Han characters: a Latin letter is a quarter of one."""
        return self.scripts.sum(1) + self.hangul + self.latin / 4


@functools.cache
def _table() -> np.ndarray:
    """Returns uint8 [0x110000]: the script module's classes, then 5 Latin letters, 6 Hangul."""
    classes = script.table().copy()
    for start, stop in ((0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250), (0x1E00, 0x1F00)):
        classes[start:stop] = 5
    classes[[0xD7, 0xF7]] = 0
    classes[0xAC00:0xD7A4] = 6
    return classes


@functools.cache
def _marks() -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 [0x110000], a number for each character of `_MARKS`, and their weights."""
    numbers = np.zeros(0x110000, np.uint8)
    weights = [[0.0] * len(_LANGUAGES)]
    for column, levels in enumerate(_MARKS.values()):
        for weight, characters in levels.items():
            for character in characters:
                if not numbers[ord(character)]:
                    numbers[ord(character)] = len(weights)
                    weights.append([0.0] * len(_LANGUAGES))
                weights[numbers[ord(character)]][column] = weight
    return numbers, np.array(weights)


def _decide(
    counts: _Counts, texts: Sequence[str], confidence: float, prior: float
) -> list[Verdict]:
    shared, simplified, traditional, kana = counts.scripts.T
    han = shared + simplified + traditional
    letters = counts.letters()
    taiwan = regionmodel.load().probability(counts.sums)
    taiwan = taiwan * prior / (taiwan * prior + (1 - taiwan) * (1 - prior))
    verdicts = []
    for i, text in enumerate(texts):
        p = float(taiwan[i])
        if letters[i] < 1:
            verdicts.append(Verdict("und", 0.0, 0.5))
        elif counts.hangul[i] > 0.3 * letters[i]:
            verdicts.append(Verdict("ko", float(counts.hangul[i] / letters[i]), 0.5))
        elif counts.latin[i] / 4 > 0.6 * letters[i]:
            verdicts.append(_latin(text, float(counts.latin[i] / 4 / letters[i])))
        elif counts.latin[i] / 4 > 0.15 * letters[i] and _latin(text, 1.0).label in TAIGI_LATIN:
            # Taigi in Han characters with how it is said, or in both scripts.
            verdicts.append(Verdict("nan-Hant", float(han[i] / letters[i]), 0.5))
        else:
            tallies = script.Counts(
                int(han[i]), int(simplified[i]), int(traditional[i]), int(kana[i])
            )
            verdicts.append(_han(text, tallies, counts.marks[i].tolist(), p, confidence))
    return verdicts


def _latin(text: str, share: float) -> Verdict:
    text = text[:_MAX_READ]
    words = max(1, len(_WORD.findall(text)))
    toned = hyphens = taigi = foreign = 0
    if len(_MARKED.findall(text)) >= 0.3 * words:
        toned, hyphens = len(_TONED.findall(text)), len(_HYPHEN.findall(text))
        taigi, foreign = len(_TAIGI.findall(text)), len(_NOT_TAIGI.findall(text))
    if toned >= 0.35 * words and foreign <= 0.05 * words and taigi + hyphens >= 0.2 * words:
        poj, tailo = len(_POJ.findall(text)), len(_TAILO.findall(text))
        label = "nan-Latn-pehoeji" if poj > tailo else "nan-Latn-tailo"
        return Verdict(label, share * max(poj, tailo, 1) / max(1, poj + tailo), 0.5)
    english = len(_ENGLISH.findall(text)) / words
    # Running English has a quarter to a third of such words.
    if english >= 0.1:
        return Verdict("en", share * min(1.0, 0.5 + 2 * english), 0.5)
    return Verdict("und", share, 0.5)


def _han(
    text: str, tallies: script.Counts, marks: list[float], taiwan: float, confidence: float
) -> Verdict:
    kind = tallies.script(SCRIPT_THRESHOLD)
    if kind == "japanese":
        return Verdict("ja", min(1.0, 2 * tallies.kana / (tallies.han + tallies.kana)), 0.5)
    dialect = _dialect(text, tallies.han, marks)
    if dialect:
        return Verdict(*dialect, taiwan)
    share = tallies.simplified_share
    if kind == "simplified":
        return Verdict("zh-Hans", share, taiwan)
    if kind == "mixed":
        return Verdict("zh", 1 - abs(2 * share - 1), taiwan)
    if _hong_kong(text, tallies.han, marks[4], taiwan):
        return Verdict("zh-Hant-HK", confidence, taiwan)
    if taiwan >= confidence and tallies.han >= _MIN_LETTERS:
        return Verdict("zh-Hant-TW", taiwan, taiwan)
    if 1 - taiwan >= confidence and tallies.han >= _MIN_MAINLAND:
        return Verdict("zh-Hant-CN", 1 - taiwan, taiwan)
    if kind == "undecided":
        return Verdict("zh" if tallies.han >= 2 else "und", 0.5, taiwan)
    return Verdict("zh-Hant", max(taiwan, 1 - taiwan), taiwan)


def _dialect(text: str, han: int, marks: list[float]) -> tuple[str, float] | None:
    """Cantonese, Taigi or Hakka, if its own characters and words outweigh Mandarin's."""
    mandarin = marks[3]
    if max(marks[:3]) < max(0.3, 0.012 * han) and (han > _SHORT or not max(marks[:3])):
        return None
    text = text[:_MAX_READ]
    # The words are looked for in as much of a long text as the marks then stand for.
    part = min(1.0, len(text) / max(1, han)) or 1.0
    found = []
    for mark, language in zip(marks[:3], _LANGUAGES, strict=False):
        own = mark + len(_PATTERNS[language].findall(text)) / part
        found.append((own if mark else 0.0, f"{language}-Hant"))
    best, label = max(found)
    if best < max(1.0, 0.035 * han) or best <= 0.8 * mandarin:
        return None
    return label, best / (best + mandarin)


def _hong_kong(text: str, han: int, variants: float, taiwan: float) -> bool:
    if taiwan > 0.98 and not variants:
        return False
    words = len(set(_PATTERNS["hk"].findall(text[:_MAX_READ])))
    return words >= 2 and 20 * words + variants >= 0.02 * min(han, 5000)


def _shares(text: str, label: str, confidence: float, prior: float) -> list[tuple[str, float]]:
    """Returns the languages of a text's parts and their shares, if there are several."""
    size = max(40, len(text) // 16)
    parts, start = [], 0
    while start < len(text):
        stop = text.find("\n", start + size) + 1 or len(text)
        parts.append(text[start:stop])
        start = stop
    if len(parts) < 2:
        return []
    counts = _Counts.of(parts)
    letters = counts.letters()
    shares: dict[str, float] = {}
    verdicts = _decide(counts, parts, confidence, prior)
    for verdict, written in zip(verdicts, letters.tolist(), strict=True):
        if written >= _MIN_LETTERS:
            name = _language(verdict.label)
            # Lines of a Taigi text without a mark of it are Taigi.
            name = label if name == "zh-Hant" and label in DIALECTS else name
            shares[name] = shares.get(name, 0.0) + float(written / letters.sum())
    ranked = sorted(((n, s) for n, s in shares.items() if n), key=lambda pair: -pair[1])
    ranked = [(name, share) for name, share in ranked if share >= _MIN_SHARE]
    return ranked if len(ranked) > 1 else []


def _language(label: str) -> str:
    """Region and confidence aside: what "mul" compares."""
    if label in ("und", "zh"):
        return ""
    if label.startswith("zh-Hant"):
        return "zh-Hant"
    return "nan-Latn" if label.startswith("nan-Latn") else label
