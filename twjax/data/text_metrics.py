"""Scores of generated text against right answers, from 0 to 100; Chinese counts by characters.

Each is a seqio metric function: `targets` has the right answers of each example (a string, or a
list of several), `predictions` the text that was generated.
"""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Callable, Sequence

Answers = Sequence[str | Sequence[str]]

_LETTER = re.compile(r"(?<![A-Za-z])\(?([A-Z])\)?(?![A-Za-z])")


def exact_match(targets: Answers, predictions: Sequence[str]) -> dict[str, float]:
    """Returns how many predictions are one of the right answers, up to `normal`."""
    return {"exact_match": _best(targets, predictions, lambda a, b: float(normal(a) == normal(b)))}


def character_f1(targets: Answers, predictions: Sequence[str]) -> dict[str, float]:
    """Returns the mean F1 of the bags of characters, up to `normal`; of the best right answer.

    As DRCD is scored (Shao et al. 2018, section 4): SQuAD's F1 with characters for words.
    """

    def score(answer: str, prediction: str) -> float:
        return _bag_f1(list(normal(answer)), list(normal(prediction)))

    return {"character_f1": _best(targets, predictions, score)}


def accuracy(targets: Answers, predictions: Sequence[str]) -> dict[str, float]:
    """Returns how many predictions choose the right letter: the first that stands alone.

    "(C)", "Ｃ", "C. 三月" and "答案是C" choose C; no letter is wrong.
    """

    def score(answer: str, prediction: str) -> float:
        chosen = letter(prediction)
        return float(chosen is not None and chosen == letter(answer))

    return {"accuracy": _best(targets, predictions, score)}


def entity_f1(targets: Answers, predictions: Sequence[str]) -> dict[str, float]:
    """Returns F1 over all names of all examples, each a line "kind：name"; 無 stands for none."""
    right = found = given = 0
    for answers, prediction in paired(targets, predictions):
        truth, guess = _lines(answers[0]), _lines(prediction)
        right, found, given = right + len(truth & guess), found + len(guess), given + len(truth)
    total = found + given
    return {"entity_f1": 100.0 * 2 * right / total if total else 100.0}


def rouge_l(targets: Answers, predictions: Sequence[str]) -> dict[str, float]:
    """Returns the mean F1 of the longest common subsequence of characters, spaces left out.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1, with β = 1;
    of the best right answer. Words of Latin letters count by letters too.
    """

    def score(answer: str, prediction: str) -> float:
        a, b = (
            "".join(unicodedata.normalize("NFKC", text).split()) for text in (answer, prediction)
        )
        if not a or not b:
            return float(a == b)
        return 2 * common_subsequence(a, b) / (len(a) + len(b))

    return {"rouge_l": _best(targets, predictions, score)}


def normal(text: str) -> str:
    """Returns the text in NFKC and lower case, without white space, punctuation and symbols."""
    text = unicodedata.normalize("NFKC", text).lower()
    return "".join(c for c in text if unicodedata.category(c)[0] not in "PSZC")


def letter(text: str) -> str | None:
    """Returns the option that an answer names, or None."""
    found = _LETTER.search(unicodedata.normalize("NFKC", text))
    return found[1] if found else None


def common_subsequence(a: str, b: str) -> int:
    """Returns the length of the longest common subsequence of characters.

    Bits for rows of the table: Hyyrö 2004, "Bit-parallel LCS-length computation revisited",
    figure 3.
    """
    places: dict[str, int] = collections.defaultdict(int)
    for index, character in enumerate(a):
        places[character] |= 1 << index
    full = (1 << len(a)) - 1
    row = full
    for character in b:
        matches = row & places.get(character, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(a) - row.bit_count()


def _bag_f1(truth: Sequence[str], guess: Sequence[str]) -> float:
    if not truth or not guess:
        return float(list(truth) == list(guess))
    common = (collections.Counter(truth) & collections.Counter(guess)).total()
    return 2 * common / (len(truth) + len(guess))


def _lines(text: str) -> set[str]:
    lines = {"".join(unicodedata.normalize("NFKC", line).split()) for line in text.splitlines()}
    return lines - {"", "無"}


def _best(
    targets: Answers, predictions: Sequence[str], score: Callable[[str, str], float]
) -> float:
    """Returns 100 times the mean over examples of the score of the best right answer."""
    scores = [
        max(score(answer, prediction) for answer in answers)
        for answers, prediction in paired(targets, predictions)
    ]
    return 100.0 * sum(scores) / max(1, len(scores))


def paired(targets: Answers, predictions: Sequence[str]) -> list[tuple[list[str], str]]:
    """Returns each example's right answers, one at least, and prediction."""
    if len(targets) != len(predictions):
        raise ValueError(f"{len(targets)} targets don't go with {len(predictions)} predictions.")
    pairs = []
    for answers, prediction in zip(targets, predictions, strict=True):
        every = [answers] if isinstance(answers, str) else list(answers)
        if not every:
            raise ValueError(f"No right answer goes with the prediction {prediction!r}.")
        pairs.append((every, prediction))
    return pairs
