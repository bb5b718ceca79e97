"""A linear model of whether Chinese is worded as in Taiwan or as on the mainland.

It reads runs of Han characters and nothing else: punctuation, Latin letters and digits only end a
run. What it knows is kept apart in two, because they fail in different ways:

* usage: weights of character 1- to 4-grams after every character was replaced by its class of
  variants (里, 裏 and 裡 are one class, so are 台, 臺, 檯 and 颱). Which script a text is in, and
  which converter wrote it, can't be seen there; only its words can.
* traces: how likely the variants of each class are in each of the `WAYS` in which a text came to
  be in the characters that it has. OpenCC's s2t writes 爲, 衆 and 裏 where Taiwan writes 為, 眾 and
  裡; its s2tw writes 臺 where Taiwan mostly writes 台. A text came to be in one way as a whole, so
  that many 為 say no more than one does: any good converter writes it.

`tables/region.npz` is made by `python -m twjax.corpus.variety.region_fit`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

TABLE = pathlib.Path(__file__).parent.with_name("tables") / "region.npz"
BITS = 21
ORDERS = 4
EMPTY = 128
# Knuth, The Art of Computer Programming 3, section 6.4: multiplicative hashing by a number near
# 2^32 divided by the golden ratio; the orders differ so that a run of one character doesn't
# collide with itself.
_STEP = np.uint32(0x01000193)
_SPREAD = np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F], np.uint32)
_CHUNK = 1 << 17
# Ways in which text in Traditional characters came to be: whose it is, by which of OpenCC's
# conversions, and how often within its side. Taiwan's own is often put through s2t together with
# other text; the last stands for converters that write as Taiwan does. The shares within a side
# are assumptions; `region_fit` writes its texts by them.
WAYS = (
    ("taiwan", "", 0.5),
    ("taiwan", "s2t", 0.5),
    ("mainland", "s2t", 0.75),
    ("mainland", "s2tw", 0.15),
    ("mainland", "", 0.1),
)
# What can be told apart: the last way's characters are the first's.
_TOLD = len(WAYS) - 2
# Not more than one text in twenty is taken to be otherwise than its characters say.
_MOST = 3.0
COLUMNS = 3 + _TOLD


@dataclasses.dataclass(frozen=True)
class Model:
    """Tables of the model.

    `fold` uint16 [65536]: the class of a code point, 0 if it isn't Han. `slots` uint16
    [2^BITS]: a check byte above a weight plus 128, `EMPTY` where there is none. `scale`: the
    unit of those weights. `traces` float32 [65536, 3]: how much likelier a code point is, as the
    logarithm, within its class in the second to the fourth of the `WAYS` than in the first.
    `calibration` float64 [2, 4]: for usage alone, and for both.
    """

    fold: np.ndarray
    slots: np.ndarray
    scale: float
    traces: np.ndarray
    calibration: np.ndarray

    def sums(self, points: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Returns float64 [parts, 6]: Han characters, usage, known long n-grams, and traces.

        `points` uint32 are its code points; the parts end at `stops`, which ascend to its length.
        A sum of usage above 0 speaks for Taiwan. No n-gram goes over a stop.
        """
        sums = np.zeros((COLUMNS, len(stops)))
        for start in range(0, len(points), _CHUNK):
            # Each chunk reads on a little, so that no n-gram is lost at its end.
            chunk = points[start : start + _CHUNK + ORDERS - 1]
            low = np.searchsorted(stops, start, "right")
            touched = slice(low, np.searchsorted(stops, start + _CHUNK) + 1)
            self._add(chunk, (stops[touched] - start).clip(0, _CHUNK), sums[:, touched])
        return sums.T

    def _add(self, points: np.ndarray, bounds: np.ndarray, sums: np.ndarray) -> None:
        size = min(len(points), _CHUNK)
        points = np.where(points < 65536, points, 0).astype(np.uint16)
        folded = self.fold.take(points)
        han = folded[:size] > 0
        if not han.any():
            return
        weights = np.zeros(size, np.int32)
        known = np.zeros(size, bool)
        for order, (slots, checks) in enumerate(hashes(folded, bounds[bounds < len(folded)]), 1):
            found = self.slots.take(slots[:size])
            weight = (found & 0xFF).astype(np.int16) - 128
            weight *= (found >> 8) == checks[:size]
            weights[: len(weight)] += weight
            if order == ORDERS:
                known[: len(weight)] = weight != 0
        lows = np.concatenate([[0], bounds[:-1]])
        spots = bounds.clip(0, size)
        columns = ((han, 1.0), (weights, self.scale), (known, 1.0))
        for row, (values, unit) in enumerate(columns):
            sums[row] += unit * _between(values, lows.clip(0, size), spots)
        at = np.flatnonzero(self._telling.take(points[:size]))
        found = self.traces.take(points[at], 0)
        first, last = np.searchsorted(at, lows), np.searchsorted(at, spots)
        for row, values in enumerate(found.T, 3):
            sums[row] += _between(values, first, last)

    @functools.cached_property
    def _telling(self) -> np.ndarray:
        """Bool [65536]: the code points that have a trace."""
        return np.logical_or.reduce(self.traces != 0, 1)

    def probability(self, sums: np.ndarray, *, traces: bool = True) -> np.ndarray:
        """Returns float64 [parts], the calibrated probability of Taiwan's against mainland wording.

        Platt (1999) with slopes that change with the length and with how much of the text is like
        what was fitted; 0.5 where there is nothing to read.
        """
        features = calibration_features(sums) * (1, 1, 1, traces)
        # Column by column: a matrix product rounds by how many rows there are.
        slopes = self.calibration[int(traces)].tolist()
        margin = sum(column * slope for column, slope in zip(features.T, slopes, strict=True))
        return 1 / (1 + np.exp(-np.clip(margin, -500, 500)))


def _between(values: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    totals = np.concatenate([[0], np.cumsum(values, dtype=np.float64)])
    return totals[stops] - totals[starts]


def hashes(folded: np.ndarray, cuts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (slots, checks) of the n-grams that begin at each position, order after order.

    `folded` are classes of characters, 0 where a run ends; no n-gram goes over the positions
    `cuts`. The arrays are as long as there are n-grams of that order. One that isn't whole has the
    check 0, which no stored one has.
    """
    han = folded > 0
    goes_on = han.copy()
    goes_on[cuts] = False
    whole, state = han, folded.astype(np.uint32)
    for order in range(ORDERS):
        if order:
            whole = whole[:-1] & goes_on[order:]
            state = state[:-1] * _STEP + folded[order:]
        mixed = state * _SPREAD[order]
        mixed ^= mixed >> np.uint32(15)
        mixed *= np.uint32(0x2C1B3C6D)
        yield mixed >> np.uint32(32 - BITS), ((mixed & np.uint32(0xFF)) | np.uint32(1)) * whole


def calibration_features(sums: np.ndarray) -> np.ndarray:
    """Returns float64 [n, 4]: usage by the root of the length, twice again, and the traces.

    Again by the logarithm of the length and by the share of known n-grams. Traces are the
    logarithm of the odds that the characters came to be in one of Taiwan's ways, within `_MOST`.
    """
    han, usage, known = sums.T[:3]
    length = np.maximum(han, 1)
    usage = usage / np.sqrt(length)
    likely = np.concatenate([np.zeros((len(sums), 1)), sums[:, 3:], np.zeros((len(sums), 1))], 1)
    sides: dict[str, list[np.ndarray]] = {"taiwan": [], "mainland": []}
    for column, (side, _, share) in zip(likely.T, WAYS, strict=True):
        sides[side].append(column + np.log(share))
    odds = [np.logaddexp.reduce(columns) for columns in sides.values()]
    traces = np.clip(odds[0] - odds[1], -_MOST, _MOST)
    features = [usage, usage * np.log(length), usage * (known / length), traces]
    return np.stack(features, 1)


@functools.cache
def load() -> Model:
    """Returns the model that comes with twjax."""
    with open(TABLE, "rb") as file:
        return read(file)


def read(file: IO[bytes]) -> Model:
    """Returns a model from an open `.npz` file."""
    with np.load(file) as data:
        slots = np.full(1 << BITS, EMPTY, np.uint16)
        slots[np.cumsum(data["gaps"].astype(np.int64))] = data["entries"]
        traces = np.zeros((65536, _TOLD), np.float32)
        traces[data["variants"]] = data["variant_weights"]
        fold = data["fold"]
        return Model(fold, slots, float(data["scale"]), traces, data["calibration"])


def write(file: IO[Any], model: Model) -> None:
    """Writes a model; equal models give equal bytes."""
    places = np.flatnonzero(model.slots != EMPTY)
    variants = np.flatnonzero(model.traces.any(1))
    np.savez_compressed(
        file,
        fold=model.fold,
        gaps=np.diff(places, prepend=0).astype(np.uint16),
        entries=model.slots[places],
        scale=np.float64(model.scale),
        variants=variants.astype(np.uint16),
        variant_weights=model.traces[variants].astype(np.float32),
        calibration=model.calibration,
    )


@functools.cache
def version() -> str:
    """Returns the sha256 of the table, 16 digits."""
    return hashlib.sha256(TABLE.read_bytes()).hexdigest()[:16]
