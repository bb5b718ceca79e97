"""What a run reads, step by step, with all steps as numbers: what its ledger keeps."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from typing import Any

from twjax.config.data import Data, SeqLen, When


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """Stages, batch sizes and lengths of rows, each as ((first step, value), ...) from step 0 on.

    The other fields are the mixture's.
    """

    stages: tuple[tuple[int, dict[str, float]], ...]
    batches: tuple[tuple[int, int], ...]
    lengths: tuple[tuple[int, SeqLen], ...]
    seed: int
    max_epochs: float | dict[str, float] | None
    block_rows: int

    @classmethod
    def of(cls, data: Data, decay: int | None = None) -> Reading:
        """Puts a number in the place of "decay"; raises ValueError when steps don't increase.

        `decay` is the step at which the learning rate begins its last decay; None without one.
        """

        def numbered(field: str, stages: tuple[tuple[When, Any], ...]) -> tuple[Any, ...]:
            if any(start == "decay" for start, _ in stages) and decay is None:
                raise ValueError(
                    f"{field}: a stage begins at 'decay', but Schedule.kind has no decay of its "
                    "own; use 'wsd' or 'infinite', or give the step."
                )
            found: list[tuple[Any, Any]] = [
                (decay if start == "decay" else start, value) for start, value in stages
            ]
            for (one, _), (other, _) in itertools.pairwise(found):
                if one >= other:
                    raise ValueError(
                        f"{field}: a stage begins at step {one}, not before the one at 'decay', "
                        f"which is step {other}: it must begin earlier, or the run be longer."
                    )
            return tuple(found)

        mixture = data.mixture
        return cls(
            stages=numbered("Mixture.stages", mixture.stages),
            batches=numbered("Data.batch_ramp", ((0, data.batch_size), *data.batch_ramp)),
            lengths=numbered("Data.seq_len_stages", ((0, data.seq_len), *data.seq_len_stages)),
            seed=mixture.seed,
            max_epochs=mixture.max_epochs,
            block_rows=mixture.block_rows,
        )

    @classmethod
    def parse(cls, record: dict[str, Any]) -> Reading:
        """Reads what `record` wrote."""

        def pairs(name: str) -> tuple[Any, ...]:
            return tuple(
                (start, tuple(value) if isinstance(value, list) else value)
                for start, value in record[name]
            )

        series: dict[str, Any] = {name: pairs(name) for name in ("stages", "batches", "lengths")}
        return cls(**(record | series))

    def record(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return dataclasses.asdict(self)

    def rows(self, step: int) -> int:
        """Returns how many rows the batch of a step has."""
        return self.batches[_place(self.batches, step)][1]

    def length(self, step: int) -> SeqLen:
        """Returns the length of the rows of a step."""
        return self.lengths[_place(self.lengths, step)][1]

    def rows_before(self, step: int) -> int:
        """Returns how many rows all batches before a step have."""
        ends = [*(start for start, _ in self.batches[1:]), step]
        return sum(
            max(min(end, step) - start, 0) * rows
            for (start, rows), end in zip(self.batches, ends, strict=True)
        )

    def shapes(self, steps: int) -> list[tuple[int, int, SeqLen]]:
        """Returns (first step, rows, length) wherever batches of a run change their shape."""
        starts = sorted({start for start, _ in (*self.batches, *self.lengths) if start < steps})
        return [(start, self.rows(start), self.length(start)) for start in starts]

    def first_difference(self, other: Reading) -> int | None:
        """Returns the first step that may read other rows under `other`; None if none does."""
        if self == other:
            return None
        if any(
            getattr(self, name) != getattr(other, name)
            for name in ("seed", "max_epochs", "block_rows")
        ):
            return 0
        found = []
        for name in ("stages", "batches", "lengths"):
            pairs = itertools.zip_longest(getattr(self, name), getattr(other, name))
            differing = next((pair for pair in pairs if pair[0] != pair[1]), None)
            if differing is not None:
                found.append(min(stage[0] for stage in differing if stage is not None))
        return min(found)


def _place(series: tuple[tuple[int, Any], ...], step: int) -> int:
    return bisect.bisect_right([start for start, _ in series], step) - 1
