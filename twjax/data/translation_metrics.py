"""BLEU and chrF of translations into Chinese and English, from 0 to 100, as seqio metrics.

`chrf` equals sacreBLEU (Post 2018, "A Call for Clarity in Reporting BLEU Scores") on any text,
`bleu` its `-tok 13a` on text without Han characters, and `bleu_sacrebleu_zh` its `-tok zh`. On
Chinese, that one splits ordinary quotation marks and dashes as Chinese, and doesn't split Han
characters beyond U+FFFF or from U+9FBC on; for `bleu` every Han character is a token, whichever
block it is of. Report both, the second where figures are compared with others'.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Callable, Sequence

from twjax.data.text_metrics import Answers, paired

_ORDERS = 4
_CHRF_ORDERS = 6
_BETA = 2.0

# Han with its radicals and strokes, Bopomofo, and the punctuation that goes with them.
_CHINESE = re.compile(
    "([\u2e80-\u2fdf\u2ff0-\u303f\u3100-\u312f\u31a0-\u31ef\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\ufe10-\ufe1f\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff])"
)
# What sacreBLEU 2.6.0 takes for Chinese with `-tok zh`. Its bounds for U+20000 to U+2A6D6 are
# written as strings of two characters, which compare as U+2001 to U+2A6D.
_SACREBLEU_ZH = re.compile(
    "([\u2001-\u2a6d\u2e80-\u2fdf\u2ff0-\u303f\u3100-\u312f\u31a0-\u31ef\u3200-\u4db5\u4e00-\u9fbb"
    "\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\ufe10-\ufe1f\ufe30-\ufe4f\uff00-\uffef])"
)
# How sacreBLEU signs the same figure.
SACREBLEU_ZH_SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:2.6.0"
# The language-independent part of mteval-v13a.pl (NIST 2009).
_13A = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def bleu(targets: Answers, predictions: Sequence[str]) -> dict[str, float]:
    """Returns BLEU of the whole set: n-grams of 1 to 4 tokens, brevity against the closest answer.

    Papineni et al. 2002, section 2.3; an order without a match counts as 1 / (2^k total), k the
    number of such orders so far (Chen and Cherry 2014, smoothing 3, sacreBLEU's "exp").
    """
    return {"bleu": _corpus_bleu(targets, predictions, tokens)}


def bleu_sacrebleu_zh(targets: Answers, predictions: Sequence[str]) -> dict[str, float]:
    """Returns BLEU as sacreBLEU 2.6.0 computes it with `-tok zh`, its peculiarities included."""
    return {"bleu_sacrebleu_zh": _corpus_bleu(targets, predictions, sacrebleu_zh_tokens)}


def _corpus_bleu(
    targets: Answers, predictions: Sequence[str], tokenize: Callable[[str], list[str]]
) -> float:
    matches, totals = [0] * _ORDERS, [0] * _ORDERS
    length = wanted = 0
    for answers, prediction in paired(targets, predictions):
        guess = tokenize(prediction)
        truths = [tokenize(answer) for answer in answers]
        length += len(guess)
        wanted += min((abs(len(t) - len(guess)), len(t)) for t in truths)[1]
        for order in range(1, _ORDERS + 1):
            found = _ngrams(guess, order)
            most: collections.Counter[tuple[str, ...]] = collections.Counter()
            for truth in truths:
                most |= _ngrams(truth, order)
            matches[order - 1] += (found & most).total()
            totals[order - 1] += found.total()
    return _bleu(matches, totals, length, wanted)


def _bleu(matches: Sequence[int], totals: Sequence[int], length: int, wanted: int) -> float:
    if not length or not any(matches) or not all(totals):
        return 0.0
    logs, halving = 0.0, 1.0
    for match, total in zip(matches, totals, strict=True):
        if not match:
            halving *= 2
        logs += math.log(match / total if match else 1 / (halving * total))
    brevity = min(0.0, 1 - wanted / length)
    return 100.0 * math.exp(logs / _ORDERS + brevity)


def chrf(targets: Answers, predictions: Sequence[str]) -> dict[str, float]:
    """Returns chrF2 of the whole set: n-grams of 1 to 6 characters, spaces left out.

    Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation", with β = 2; of
    several right answers the one that scores best counts.
    """
    sums = [[0, 0, 0] for _ in range(_CHRF_ORDERS)]
    for answers, prediction in paired(targets, predictions):
        every = [_counts(answer, prediction) for answer in answers]
        for total, counts in zip(sums, max(every, key=_chrf), strict=True):
            for index, count in enumerate(counts):
                total[index] += count
    return {"chrf": _chrf(sums)}


def _counts(answer: str, prediction: str) -> list[list[int]]:
    """Returns for each order how many n-grams the prediction has, the answer has, both have."""
    truth, guess = ("".join(text.split()) for text in (answer, prediction))
    rows = []
    for order in range(1, _CHRF_ORDERS + 1):
        a, b = _ngrams(truth, order), _ngrams(guess, order)
        # An answer too short for an order says nothing about the prediction's n-grams of it.
        rows.append([b.total() if a else 0, a.total(), (a & b).total()])
    return rows


def _chrf(rows: Sequence[Sequence[int]]) -> float:
    """Returns the F-score of the mean precision and recall of the orders that both sides have."""
    both = [(match / guess, match / truth) for guess, truth, match in rows if guess and truth]
    if not both:
        return 0.0
    precision, recall = (sum(side) / len(both) for side in zip(*both, strict=True))
    weighed = _BETA**2 * precision + recall
    return 100.0 * (1 + _BETA**2) * precision * recall / weighed if weighed else 0.0


def tokens(text: str) -> list[str]:
    """Returns Han characters and their punctuation one by one, other text as 13a splits it."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return _split(" " + _CHINESE.sub(r" \1 ", text) + " ")


def sacrebleu_zh_tokens(text: str) -> list[str]:
    """Returns the tokens of sacreBLEU 2.6.0's `zh`."""
    return _split(_SACREBLEU_ZH.sub(r" \1 ", text.strip()))


def _split(text: str) -> list[str]:
    for pattern, replacement in _13A:
        text = pattern.sub(replacement, text)
    return text.split()


def _ngrams(items: Sequence[str], order: int) -> collections.Counter[tuple[str, ...]]:
    return collections.Counter(
        tuple(items[at : at + order]) for at in range(len(items) - order + 1)
    )
