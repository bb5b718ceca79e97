"""Fits the model of wording: `python -m twjax.corpus.variety.region_fit`.

Every document belongs to one of ten parts by a hash of its name, the same for both sides of a
pair: parts 0 and 1 are never fitted (they test), part 2 calibrates, the rest fits.
`twjax.corpus.variety.region_sources` says which texts these are. Needs SciPy.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from twjax import storage
from twjax.corpus.conversion import opencc
from twjax.corpus.variety import region_sources, regionmodel, script
from twjax.corpus.variety.region_sources import Sentences
from twjax.corpus.variety.regionmodel import Model

TEST_PARTS, CALIBRATION_PART = region_sources.TEST_PARTS, 2
# Sentences of a group, parts that are left out in turn, and how much groups are made alike.
_MOST, _TURNS, _EVEN = 40_000, 3, 0.5
_ODD = 50


def grams(texts: Sequence[str], fold: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (sentence, slot·256+check, order) of every n-gram of the texts."""
    points = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    sentence = np.cumsum(points == 10).astype(np.int32)
    folded = fold[np.where(points < 65536, points, 0)]
    rows, keys, orders = [], [], []
    for order, (slots, checks) in enumerate(regionmodel.hashes(folded, np.empty(0, np.int64)), 1):
        at = np.flatnonzero(checks)
        rows.append(sentence[at])
        keys.append(slots[at] << np.uint32(8) | checks[at])
        orders.append(np.full(len(at), order, np.uint8))
    return np.concatenate(rows), np.concatenate(keys), np.concatenate(orders)


def fit(sentences: Sentences, *, features: int = 400_000, penalty: float = 0.5) -> Model:
    """Fits usage by the parts that fit, then traces beside it, then calibrates.

    Usage is a logistic regression with an L2 penalty on n-gram counts over the root of the
    sentence's length, each scaled by its naive Bayes log-odds (Wang and Manning, "Baselines and
    Bigrams", 2012); n-grams must occur in three sentences of two documents.
    """
    fold = region_sources.variant_classes()
    fitted = balanced(sentences.where(sentences.parts > CALIBRATION_PART))
    model = _fit_usage(fitted, fold, features, penalty)
    model = dataclasses.replace(model, traces=fit_traces(fold, fitted))
    held = sentences.where(sentences.parts == CALIBRATION_PART)
    rows = [_calibration_rows(model, held)]
    # As it does on subjects that it has never seen: groups of sources by turns left out.
    names = np.unique(fitted.groups)
    turn = np.searchsorted(names, fitted.groups) % _TURNS
    for number in range(_TURNS):
        others = fitted.where((turn != number) & (np.arange(len(turn)) % 3 == 0))
        blind = _fit_usage(others, fold, features, penalty)
        blind = dataclasses.replace(blind, traces=model.traces)
        unseen = np.isin(held.groups, names[number::_TURNS])
        rows.append(_calibration_rows(blind, held.where(unseen)))
    return dataclasses.replace(model, calibration=_calibrate(rows))


def balanced(sentences: Sentences) -> Sentences:
    """Returns at most `_MOST` sentences a group, of two sides that weigh the same.

    A group weighs the root of what its sentences do, so that no subject outweighs all.
    """
    order = np.random.default_rng(0).permutation(len(sentences.texts))
    kept = np.zeros(len(order), bool)
    for group in np.unique(sentences.groups):
        members = order[sentences.groups[order] == group]
        kept[members[: _MOST * (3 if group == "prose" else 1)]] = True
    found = sentences.where(kept)
    whole = found.weights.sum()
    for group in np.unique(found.groups):
        members = found.groups == group
        mass = found.weights[members].sum()
        sides = [members & (found.taiwan == side) for side in (False, True)]
        for side in sides:
            if all(part.any() for part in sides):
                found.weights[side] *= mass / 2 / found.weights[side].sum()
        found.weights[members] *= mass**-_EVEN
    found.weights *= whole / found.weights.sum()
    return found


def _fit_usage(fitted: Sentences, fold: np.ndarray, features: int, penalty: float) -> Model:
    keys, ratios = _select(fitted, fold, features)
    weights = _logistic_ngrams(fitted, fold, keys, ratios, penalty)
    scale = float(np.percentile(np.abs(weights), 99.9)) / 127
    slots = np.full(1 << regionmodel.BITS, regionmodel.EMPTY, np.uint16)
    whole = np.clip(np.rint(weights / scale), -127, 127).astype(np.int64) + 128
    used = whole != 128
    slots[keys[used] >> np.uint32(8)] = (keys[used] & 0xFF) << 8 | whole[used].astype(np.uint32)
    return Model(fold, slots, scale, np.zeros((65536, 3), np.float32), np.zeros((2, 4)))


def _select(fitted: Sentences, fold: np.ndarray, features: int) -> tuple[np.ndarray, np.ndarray]:
    rows, keys, _ = grams(fitted.texts, fold)
    # Once a sentence.
    pairs = np.unique(keys.astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64))
    keys, rows = (pairs >> np.uint64(32)).astype(np.uint32), (pairs & 0xFFFFFFFF).astype(np.int64)
    known, inverse = np.unique(keys, return_inverse=True)
    weights = np.where(fitted.taiwan, fitted.weights, 0)[rows]
    taiwan = np.bincount(inverse, weights)
    mainland = np.bincount(inverse, fitted.weights[rows] - weights)
    _, document = np.unique(fitted.documents, return_inverse=True)
    first = np.full(len(known), -1)
    first[inverse[::-1]] = document[rows[::-1]]
    other = np.zeros(len(known), bool)
    other[inverse[document[rows] != first[inverse]]] = True
    total = fitted.weights[fitted.taiwan].sum(), fitted.weights[~fitted.taiwan].sum()
    ratio = np.log((taiwan + 0.5) / total[0]) - np.log((mainland + 0.5) / total[1])
    usable = other & (np.bincount(inverse) >= 3)
    # Roughly the root of the likelihood ratio statistic.
    value = np.where(usable, np.abs(ratio) * np.sqrt(taiwan + mainland), 0)
    order = np.argsort(-value, kind="stable")[:features]
    order = order[value[order] > 0]
    # One n-gram a slot, the best.
    _, firsts = np.unique(known[order] >> np.uint32(8), return_index=True)
    order = np.sort(order[firsts])
    return known[order], ratio[order]


def _logistic_ngrams(
    fitted: Sentences, fold: np.ndarray, keys: np.ndarray, ratios: np.ndarray, penalty: float
) -> np.ndarray:
    from scipy import sparse

    rows, found, orders = grams(fitted.texts, fold)
    han = np.bincount(rows[orders == 1], minlength=len(fitted.texts))
    column = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
    known = keys[column] == found
    shape = (len(fitted.texts), len(keys))
    values = np.clip(np.abs(ratios), 0.3, 3)
    entries = (values[column[known]] / np.sqrt(han[rows[known]])).astype(np.float32)
    matrix = sparse.csr_matrix((entries, (rows[known], column[known])), shape)
    return logistic(matrix, fitted.taiwan, fitted.weights, penalty) * values


def logistic(
    matrix: Any, taiwan: np.ndarray, sample: np.ndarray, penalty: float, rounds: int = 50
) -> np.ndarray:
    """Returns the weights of a logistic regression with an L2 penalty and no intercept, by L-BFGS.

    Without an intercept, a text of which nothing is known is as likely Taiwan's as not.
    """
    from scipy import optimize

    transposed = matrix.T.tocsr() if hasattr(matrix, "tocsr") else matrix.T
    sign = np.where(taiwan, 1.0, -1.0)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (matrix @ point)
        value = (sample * np.logaddexp(0, -margin)).sum() + penalty / 2 * point @ point
        slope = -sample * sign / (1 + np.exp(np.clip(margin, -500, 500)))
        return value, transposed @ slope + penalty * point

    start = np.zeros(matrix.shape[1])
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": rounds})
    return found.x


def write_as(text: str, way: tuple[str, str, float]) -> str:
    """Returns a text in the characters in which one of the model's `WAYS` leaves it."""
    side, config, _ = way
    if side == "taiwan":
        return opencc.converter(config)(text) if config else text
    converted = opencc.converter(config or "s2tw")(text)
    return converted if config else converted.replace("臺", "台")


def spellings(sentences: Sentences) -> list[str]:
    """Returns the sentences in the characters in which they are met: a way for each document."""
    texts = []
    for text, name, taiwan in zip(
        sentences.texts, sentences.documents, sentences.taiwan, strict=True
    ):
        side = "taiwan" if taiwan else "mainland"
        ways = [way for way in regionmodel.WAYS if way[0] == side]
        digest = hashlib.blake2b(f"{side}/{name}".encode(), digest_size=4).digest()
        stops = np.cumsum([share for _, _, share in ways])
        spot = np.searchsorted(stops, int.from_bytes(digest, "little") / 2**32)
        texts.append(write_as(text, ways[min(int(spot), len(ways) - 1)]))
    return texts


def fit_traces(fold: np.ndarray, fitted: Sentences) -> np.ndarray:
    """Returns float32 [65536, 3], the model's traces, from every second sentence.

    Variants of a class are compared with one another only, so that how often the class is used,
    which is usage, can't enter. One in `_ODD` characters is let be as in any text.
    """
    shared = np.bincount(fold, minlength=65536) > 1
    # What only Simplified text has is for the script to tell.
    told = shared[fold] & (fold > 0) & (script.table()[:65536] != 2)
    counts = []
    for way in regionmodel.WAYS[:-1]:
        side = fitted.where(fitted.taiwan == (way[0] == "taiwan"))
        text = "".join(write_as(text, way) for text in side.texts[::2])
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        counts.append(np.bincount(points[points < 65536], minlength=65536) * told)
    seen = np.array(counts, float)

    def within(values: np.ndarray) -> np.ndarray:
        return values / np.maximum(np.bincount(fold, values, 65536)[fold], 1e-9)

    pooled = within(np.sum([within(row) for row in seen], 0) + 1e-9)
    of_class = np.array([np.bincount(fold, row, 65536)[fold] for row in seen])
    share = (seen + 3 * pooled) / (of_class + 3)
    likely = np.log(share * (1 - 1 / _ODD) + pooled / _ODD)
    traces = (likely[1:] - likely[0]).T
    # What is too small to tell from chance would add up where a character recurs.
    traces[(seen.sum(0) < 5)[:, None] | (np.abs(traces) < 0.1)] = 0
    # Steps of 1/64 add up exactly, whatever stands before and after.
    return (np.rint(traces * 64) / 64).astype(np.float32)


def sums(model: Model, texts: Sequence[str]) -> np.ndarray:
    """Returns float64 [texts, 6], the model's sums of each text."""
    points = np.frombuffer("\n".join([*texts, ""]).encode("utf-32-le", "surrogatepass"), np.uint32)
    return model.sums(points, np.cumsum([len(text) + 1 for text in texts]))


def by_document(sentences: Sentences) -> tuple[np.ndarray, np.ndarray]:
    """Returns (number of the document of each sentence, whether each document is Taiwan's)."""
    names = np.char.add(sentences.documents, sentences.taiwan.astype("U5"))
    _, member = np.unique(names, return_inverse=True)
    return member, np.bincount(member, sentences.taiwan) > 0


def total(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Returns [groups, columns], the sums of the rows [n, columns] of each group."""
    return np.stack([np.bincount(member, column) for column in values.T], 1)


Rows = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def _calibration_rows(model: Model, held: Sentences) -> Rows:
    """Returns (features, sides, weights) without and with traces.

    Of sentences, of eight sentences in a row, and of documents alike.
    """
    count = len(held.texts)
    member, _ = by_document(held)
    rows = []
    for traces in (False, True):
        found = sums(model, spellings(held) if traces else held.texts)
        features, sides, samples = [], [], []
        for spots in (np.arange(count), member * count + np.arange(count) // 8, member):
            _, group = np.unique(spots, return_inverse=True)
            used = (1, 1, 1, traces)
            features.append(regionmodel.calibration_features(total(found, group)) * used)
            sides.append(np.bincount(group, held.taiwan) > 0)
            weight = np.bincount(group, held.weights) / np.bincount(group)
            samples.append(weight / weight.sum() * 1000)
        rows.append((np.concatenate(features), np.concatenate(sides), np.concatenate(samples)))
    return rows


def _calibrate(rows: Sequence[Rows]) -> np.ndarray:
    """Fits the slopes, half on subjects that were fitted and half on those that weren't."""
    slopes = []
    for seen, *blind in zip(*rows, strict=True):
        matrix, side, sample = map(np.concatenate, zip(seen, *blind, strict=True))
        sample[len(seen[2]) :] /= len(blind)
        slopes.append(logistic(matrix, side, sample, 0.01, rounds=500))
    return np.array(slopes)


def main() -> None:
    """Fits the model and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, help="folders with the sources' files")
    parser.add_argument("--out", default=str(regionmodel.TABLE))
    args = parser.parse_args()
    model = fit(region_sources.load(args.data))
    with storage.atomic_writer(args.out, "wb") as file:
        regionmodel.write(file, model)
    print(f"{args.out}: {pathlib.Path(args.out).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
