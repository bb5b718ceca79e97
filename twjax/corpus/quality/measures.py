"""Rules that tell running text from what only looks like it: quality, without n-grams.

The rules of Gopher, C4, FineWeb and FineWeb-2 in units that fit Chinese (`codepoints`: a Han
character or a run of letters and digits is a token). Sources of the figures:

G    Rae et al. 2021, "Scaling Language Models", §A.1.1 and Table A1.
C4   Raffel et al. 2020, "Exploring the Limits of Transfer Learning", §2.2; mC4: Xue et al. 2021.
FW   Penedo et al. 2024, "The FineWeb Datasets", §3.6.
FW2  FineWeb-2's configuration `cmn_Hani.yml` for Mandarin.
TW   FineWeb-zhtw's settings for Traditional Chinese (mtkresearch).
NC   NeMo Curator's heuristics for languages other than English.
own  Calibrated: see `PRESETS`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np

from twjax.corpus.codepoints import Class, Lines, View
from twjax.corpus.quality import phrases

# Reasons of rejection, in the order of trial; "min_" and "max_" say which way a limit goes.
RULES = {
    "max_latin_1": "UTF-8 read as Latin-1",  # own: share of visible characters.
    "max_broken": "broken characters",  # own: share of visible characters.
    "max_rare_han": "rare characters",  # own: share of Han; UTF-8 or Big5 read as GBK.
    "min_tokens": "few tokens",  # G: 50 words; TW: 50.
    "max_tokens": "many tokens",  # G: 100,000 words; a word has 1.6 characters.
    "max_run": "endless word",  # C4: 1,000 characters.
    "min_token_length": "short words",  # G: 3, where tokens are words.
    "max_token_length": "long words",  # G: 10 where tokens are words; FW2: 5.
    "max_symbols": "symbols",  # G: 0.1 of either # or … to a word; here …… is one.
    "max_digits": "digits",  # NC: 0.15 of characters.
    "min_letters": "few letters",  # G: 0.8 of words; FW2: 0.735; here of visible characters.
    "max_links": "links",  # NC: 0.2 of characters; nothing else counts them.
    "max_braces": "braces",  # C4: none at all; TW: 0.01 of characters.
    "min_stop_words": "few stop words",  # G, FW2: 2 different ones.
    "min_function": "few function characters",  # own: share of Han; lists of keywords have none.
    "min_sentences": "few sentences",  # C4: 5; here ends of sentences.
    "min_long_lines": "few long lines",  # mC4: 3 of 200 characters; here of 100 characters.
    "max_bullet_lines": "bullet lines",  # G: 0.9 of lines.
    "max_ellipsis_lines": "lines ending in an ellipsis",  # G: 0.3 of lines.
    "min_punctuated_lines": "unpunctuated lines",  # FW: 0.12 of lines; FW2: 0.106; TW: 0.04.
    "max_short_lines": "short lines",  # FW: 0.67 of 30 characters; TW: 0.8 of 10; here of 10.
    "max_line_breaks": "line breaks",  # FW: 0.3 to a word; FW2: 0.178; TW: 0.3.
    "max_boilerplate": "boilerplate lines",  # C4 drops such lines; here their share.
    "max_filler": "placeholder text",  # C4: no "lorem ipsum"; here to a token.
}
_STOP_WORDS = re.compile(r"\b(the|be|to|of|and|that|have|with)\b", re.I)  # Gopher's.
_SHORT, _LONG, _BOILERPLATE = 10, 100, 80  # Visible characters of a line.
# Tokens are characters in a text whose tokens are Han, kana or Bopomofo to this share.
_UNIT_SHARE = 0.3
# Japanese has more kana than this, Big5 read as GBK has less.
_KANA_SHARE = 0.2
# Taigi, Hakka and Cantonese have characters and grammatical words of their own.
_OWN_WORDS = ("nan", "hak", "yue")


def metrics(view: View, texts: Sequence[str], langs: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns float64 [texts] for each rule of `RULES`; NaN where it doesn't apply."""
    counts = view.counts
    visible = np.maximum(counts.sum(1) - counts[:, [Class.SPACE, Class.NEWLINE]].sum(1), 1)
    han = counts[:, [Class.HAN, Class.FUNCTION, Class.RARE]].sum(1)
    units = han + counts[:, Class.KANA]
    latin = counts[:, Class.ASCII] + counts[:, Class.LATIN_1]
    letters = counts[:, Class.LETTER] + latin
    starts = view.tokens.starts
    tokens = np.maximum(np.diff(starts), 1)
    runs = np.maximum(tokens - units, 0)
    known = np.array([lang.partition("-")[0].lower() not in _OWN_WORDS for lang in langs], bool)
    chinese = (
        known & (units >= _UNIT_SHARE * tokens) & (counts[:, Class.KANA] <= _KANA_SHARE * units)
    )
    words = known & (units < _UNIT_SHARE * tokens) & (latin >= 0.9 * letters)
    length = (units + letters + counts[:, Class.DIGIT]) / tokens
    dots = [text.count("...") for text in texts]
    # Chinese writes two of them for one ellipsis.
    ellipses = view.classes == Class.ELLIPSIS
    ellipses[1:] &= view.classes[:-1] != Class.ELLIPSIS
    found = {
        "max_latin_1": counts[:, [Class.LATIN_1, Class.SYMBOL_1]].sum(1) / visible,
        "max_broken": counts[:, Class.BROKEN] / visible,
        "max_rare_han": np.where(chinese, counts[:, Class.RARE] / np.maximum(han, 1), np.nan),
        "min_tokens": np.diff(starts),
        "max_tokens": np.diff(starts),
        "max_run": _longest(view),
        "min_token_length": np.where(words, length, np.nan),
        "max_token_length": length,
        "max_symbols": np.maximum(counts[:, Class.HASH], view.sums(ellipses) + dots)
        / np.maximum(runs + units, 1),
        "max_digits": counts[:, Class.DIGIT] / visible,
        "min_letters": (units + letters) / visible,
        "max_links": view.links / (view.links + visible),
        "max_braces": counts[:, Class.BRACE] / visible,
        "min_stop_words": _stop_words(view, texts, langs, chinese),
        "min_function": np.where(chinese, counts[:, Class.FUNCTION] / np.maximum(han, 1), np.nan),
        "min_sentences": _sentences(view),
    }
    return {**found, **_line_metrics(view, texts, tokens)}


def _line_metrics(view: View, texts: Sequence[str], tokens: np.ndarray) -> dict[str, np.ndarray]:
    lines, size = view.lines, len(view)
    number = np.maximum(np.bincount(lines.texts, minlength=size), 1)

    def total(mask: np.ndarray) -> np.ndarray:
        return np.bincount(lines.texts[mask], minlength=size)

    first, last = view.points[lines.first], view.classes[lines.last]
    dots = view.points[lines.last] == ord(".")
    before = view.points[np.maximum(lines.last - 1, 0)] == ord(".")
    ellipsis = (last == Class.ELLIPSIS) | (dots & before & (lines.last > lines.first))
    ended = (
        (last == Class.END)
        | (last == Class.STOP)
        | (last == Class.CLOSER)
        | (last == Class.ELLIPSIS)
    )
    breaks = view.counts[:, Class.NEWLINE]
    return {
        "min_long_lines": total(lines.visible >= _LONG),
        "max_bullet_lines": total(np.isin(first, _bullets())) / number,
        "max_ellipsis_lines": total(ellipsis) / number,
        "min_punctuated_lines": total(ended) / number,
        "max_short_lines": total(lines.visible <= _SHORT) / number,
        "max_line_breaks": breaks / tokens,
        "max_boilerplate": _boilerplate_lines(view, lines) / number,
        "max_filler": np.array([text.count("orem ipsum") for text in texts]) / tokens,
    }


def _longest(view: View) -> np.ndarray:
    """The longest token of each text, in characters."""
    tokens, size = view.tokens, len(view)
    longest = np.zeros(size, np.int64)
    full = np.flatnonzero(np.diff(tokens.starts))
    if len(full):
        longest[full] = np.maximum.reduceat(tokens.lengths, tokens.starts[full])
    return longest


def _stop_words(
    view: View, texts: Sequence[str], langs: Sequence[str], chinese: np.ndarray
) -> np.ndarray:
    """How many different stop words: of Chinese text, and of text whose language is English."""
    places = np.flatnonzero(view.classes == Class.FUNCTION)
    text = np.searchsorted(view.starts, places, "right") - 1
    keys = np.unique((text.astype(np.uint64) << np.uint64(32)) | view.points[places])
    different = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(view))
    found = np.where(chinese, different, np.nan)
    for index, (content, lang) in enumerate(zip(texts, langs, strict=True)):
        if not chinese[index] and lang.partition("-")[0].lower() == "en":
            found[index] = len({word.lower() for word in _STOP_WORDS.findall(content)})
    return found


def _sentences(view: View) -> np.ndarray:
    """Ends of sentences: runs of 。！？!?, and full stops before white space or a closing mark."""
    stops = (view.points[:-1] == ord(".")) & (view.classes[:-1] == Class.STOP)
    after = view.classes[1:]
    open_end = (after == Class.SPACE) | (after == Class.NEWLINE) | (after == Class.CLOSER)
    ended = view.classes == Class.END
    ended[:-1] &= after != Class.END
    ended[:-1] |= stops & open_end
    return view.sums(ended)


def _boilerplate_lines(view: View, lines: Lines) -> np.ndarray:
    """Short lines that hold a phrase of navigation, script or legal boilerplate.

    Lines that end a sentence (。！？) are text that speaks of such things.
    """
    hits = phrases.load("boilerplate.tsv").find(view)
    line = np.unique(np.searchsorted(lines.first, hits.place, "right") - 1)
    spoken = view.classes[lines.last[line]] == Class.END
    line = line[(lines.visible[line] <= _BOILERPLATE) & ~spoken]
    return np.bincount(lines.texts[line], minlength=len(view))


@functools.cache
def _bullets() -> np.ndarray:
    """Gopher's bullets (• and -), and those of Chinese and Markdown."""
    return np.array([ord(c) for c in "•-*●○◆◇■□▪▫‧·・※★☆►▶◎–—"], np.uint32)
