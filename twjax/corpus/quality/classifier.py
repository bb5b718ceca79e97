"""A linear classifier of quality, learnt from texts that its user calls good and bad.

Logistic regression on hashed character 1- to 3-grams, the mean over a text's n-grams of what each
weighs, as fastText's classifier has it (Joulin et al. 2017, "Bag of Tricks for Efficient Text
Classification") but with characters for words and without a hidden layer. The score is calibrated
on texts that weren't fitted (Platt 1999, "Probabilistic Outputs for Support Vector Machines"), as
if good and bad texts were equally frequent: it says nothing about how many bad ones there are.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from twjax import storage
from twjax.corpus import codepoints
from twjax.corpus.document import Document, Rejection
from twjax.corpus.step import Outcome, Step

FORMAT = 1
_LENGTHS = (1, 2, 3)
_BATCH = 64
# A text's beginning says what it is; the rest of a book would only take time.
_CHARACTERS = 5_000
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)


@dataclasses.dataclass(frozen=True)
class Model:
    """A fitted classifier: int8 `weights` [2^bits] times `scale`, and its calibration.

    `about` is what `train` measured on the texts held out: documents, AUC, calibration error.
    """

    weights: np.ndarray
    scale: float
    slope: float
    offset: float
    about: dict[str, Any]

    @property
    def bits(self) -> int:
        return len(self.weights).bit_length() - 1

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Returns float64 [texts]: the calibrated probability of good."""
        raw = [_raw(self.weights, self.bits, t[:_CHARACTERS]) * self.scale for t in texts]
        return _logistic(self.slope * np.array(raw) + self.offset)

    def save(self, path: pathlib.Path) -> None:
        """Writes the model, atomically; equal models give equal bytes."""
        numbers = {"scale": self.scale, "slope": self.slope, "offset": self.offset}
        header = json.dumps({"format": FORMAT, **numbers, "about": self.about}, sort_keys=True)
        with storage.atomic_writer(path, "wb") as file:
            np.savez_compressed(
                file, header=np.frombuffer(header.encode(), np.uint8), weights=self.weights
            )


@functools.lru_cache(maxsize=4)
def load(path: str, sha256: str = "") -> Model:
    """Reads a model; raises ValueError where it is no model, or another than `sha256` says."""
    file = pathlib.Path(path)
    if not file.is_file():
        raise ValueError(
            f"{path}: no such classifier; train one with `twjax corpus train-classifier`."
        )
    if sha256 and (seen := storage.sha256_file(file)) != sha256:
        raise ValueError(f"{path}: its sha256 is {seen}, not {sha256}; use the file meant.")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            weights = arrays["weights"]
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}")
        scale, slope, offset = (float(header[name]) for name in ("scale", "slope", "offset"))
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path}: no classifier of format {FORMAT} ({error}).") from error
    return Model(weights, scale, slope, offset, header["about"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityClassifier(Step):
    """Scores documents with a model that `twjax corpus train-classifier` made.

    `meta["quality_score"]` is the probability of good, with three decimals. The policy "drop"
    rejects documents below `threshold`; "label" keeps all. `sha256` is the model file's.
    """

    name: ClassVar[str] = "quality_classifier"

    model: str
    sha256: str
    threshold: float = 0.5
    policy: Literal["label", "drop"] = "drop"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(
                f"QualityClassifier.threshold ({self.threshold}) must be between 0 and 1."
            )

    def versions(self) -> dict[str, str]:
        load(self.model, self.sha256)
        return {"classifier": self.sha256}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        scores = load(self.model, self.sha256).score([document.text for document in batch])
        outcome = Outcome([])
        for document, score in zip(batch, scores, strict=True):
            text = f"{score:.3f}"
            labelled = dataclasses.replace(document, meta={**document.meta, "quality_score": text})
            # The score as it is written decides, so that it can be checked by reading.
            if self.policy == "drop" and float(text) < self.threshold:
                outcome.rejected.append(Rejection(labelled, "low quality score", text))
            else:
                outcome.kept.append(labelled)
        return outcome


def train(
    good: Sequence[str],
    bad: Sequence[str],
    *,
    bits: int = 18,
    epochs: int = 5,
    rate: float = 0.5,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Model:
    """Fits a model by AdaGrad: 80% of the texts to fit, 10% to calibrate, 10% to measure.

    Good and bad weigh equally, however many there are. The same texts, in the same order, and the
    same seed give the same model. Raises ValueError for fewer than 50 texts a side.
    """
    if min(len(good), len(bad)) < 50:
        raise ValueError(
            f"{len(good)} good and {len(bad)} bad texts are too few; give at least 50 of each."
        )
    if not 8 <= bits <= 24:
        raise ValueError(f"bits ({bits}) must be between 8 and 24.")
    random = np.random.default_rng(seed)
    texts = [text[:_CHARACTERS] for text in (*good, *bad)]
    labels = np.concatenate((np.ones(len(good)), np.zeros(len(bad))))
    part = np.concatenate([_parts(len(side), random) for side in (good, bad)])
    fit, tune, test = (np.flatnonzero(part == which) for which in (0, 1, 2))
    balance = np.where(labels == 1, 0.5 / len(good), 0.5 / len(bad)) * len(labels)
    weights = _fit(texts, labels, balance, random.permutation, fit, bits, epochs, rate, say)
    scale = max(float(np.abs(weights).max()), 1e-12) / 127
    small = np.round(weights / scale).astype(np.int8)
    raw = np.array([_raw(small, bits, texts[i]) * scale for i in (*tune, *test)])
    tuned = raw[: len(tune)]
    slope, offset = _platt(tuned, labels[tune], balance[tune])
    scores = _logistic(slope * raw[len(tune) :] + offset)
    about = {
        "good": len(good),
        "bad": len(bad),
        "held_out": len(test),
        "auc": round(auc(scores, labels[test]), 4),
        "calibration_error": round(calibration_error(scores, labels[test], balance[test]), 4),
        "accuracy": round(
            float(np.average((scores >= 0.5) == labels[test], weights=balance[test])), 4
        ),
        "bits": bits,
        "epochs": epochs,
        "rate": rate,
        "seed": seed,
    }
    return Model(small, scale, slope, offset, about)


def _parts(size: int, random: np.random.Generator) -> np.ndarray:
    """Returns int64 [size], 0, 1 or 2 for 80%, 10% and 10% of the texts, drawn by chance."""
    part = np.zeros(size, np.int64)
    tenth = max(size // 10, 5)
    part[:tenth], part[tenth : 2 * tenth] = 1, 2
    return random.permutation(part)


def _fit(
    texts: Sequence[str],
    labels: np.ndarray,
    balance: np.ndarray,
    shuffle: Callable[[np.ndarray], np.ndarray],
    fit: np.ndarray,
    bits: int,
    epochs: int,
    rate: float,
    say: Callable[[str], None],
) -> np.ndarray:
    weights, squares = np.zeros(1 << bits), np.full(1 << bits, 1e-10)
    for epoch in range(epochs):
        loss = 0.0
        order = shuffle(fit)
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            features = [_features(texts[int(i)], bits) for i in batch]
            sizes = np.array([len(f) for f in features])
            owner = np.repeat(np.arange(len(batch)), sizes)
            joined = np.concatenate(features)
            share = (1 / np.maximum(sizes, 1))[owner]
            raw = np.bincount(owner, weights[joined] * share, minlength=len(batch))
            chance = _logistic(raw)
            wrong = (chance - labels[batch]) * balance[batch] / len(batch)
            likely = np.where(labels[batch] == 1, chance, 1 - chance)
            loss -= float((np.log(np.maximum(likely, 1e-12)) * balance[batch]).sum())
            gradient = np.bincount(joined, wrong[owner] * share, minlength=1 << bits)
            touched = np.flatnonzero(gradient)
            squares[touched] += gradient[touched] ** 2
            weights[touched] -= rate * gradient[touched] / np.sqrt(squares[touched])
        say(f"epoch {epoch + 1} of {epochs}: loss {loss / len(fit):.4f}")
    return weights


def _features(text: str, bits: int) -> np.ndarray:
    """Returns int64 [n-grams], the bucket of each."""
    points = _folds()[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]
    # White space of any length is one space: wrapping says nothing.
    points = points[~((points == 32) & np.append(False, points[:-1] == 32))].astype(np.uint64)
    found, hashes = [], np.zeros(len(points), np.uint64)
    for length, multiplier in zip(_LENGTHS, _MULTIPLIERS, strict=True):
        size = max(len(points) - length + 1, 0)
        hashes = hashes[:size] * np.uint64(0x100000001B3) + points[length - 1 :][:size]
        found.append((hashes * np.uint64(multiplier)) >> np.uint64(64 - bits))
    return np.concatenate(found).astype(np.int64)


def _raw(weights: np.ndarray, bits: int, text: str) -> float:
    features = _features(text, bits)
    return float(weights[features].sum(dtype=np.float64)) / max(len(features), 1)


@functools.cache
def _folds() -> np.ndarray:
    """Returns uint32 [0x110000]: small letters, narrow forms, 0 for digits, 32 for white space."""
    folds = np.arange(0x110000, dtype=np.uint32)
    classes = codepoints.table()
    folds[np.isin(classes, (codepoints.Class.SPACE, codepoints.Class.NEWLINE))] = 32
    folds[0xFF01:0xFF5F] = np.arange(0x21, 0x7F)
    folds[ord("A") : ord("Z") + 1] += 32
    folds[0xFF21:0xFF3B] += 32
    folds[ord("0") : ord("9") + 1] = folds[0xFF10:0xFF1A] = ord("0")
    return folds


def _logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -40, 40)))


def _platt(raw: np.ndarray, labels: np.ndarray, balance: np.ndarray) -> tuple[float, float]:
    """Fits logistic(slope · raw + offset) by Newton's method, with Platt's smoothed targets."""
    good, bad = (labels == 1).sum(), (labels == 0).sum()
    target = np.where(labels == 1, (good + 1) / (good + 2), 1 / (bad + 2))
    centre, spread = raw.mean(), max(raw.std(), 1e-12)
    inputs = np.stack(((raw - centre) / spread, np.ones(len(raw))), 1)
    solution = np.zeros(2)
    for _ in range(50):
        chance = _logistic(inputs @ solution)
        gradient = inputs.T @ (balance * (chance - target)) + 1e-3 * solution
        curvature = (inputs * (balance * chance * (1 - chance))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-3 * np.eye(2), gradient)
        solution -= np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    slope = solution[0] / spread
    return float(slope), float(solution[1] - slope * centre)


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the chance that a good text scores higher than a bad one; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    good = int((labels == 1).sum())
    bad = len(labels) - good
    return float((ranks[labels == 1].sum() - good * (good + 1) / 2) / (good * bad))


def calibration_error(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Returns the expected calibration error in ten bins of equal width (Guo et al. 2017)."""
    bins = np.minimum((scores * 10).astype(np.int64), 9)
    gap = np.bincount(bins, weights * (scores - labels), minlength=10)
    return float(np.abs(gap).sum() / weights.sum())
