"""One reduction of a global step: the records of all units in, a request for each unit out."""

from __future__ import annotations

import dataclasses
import mmap
import pathlib
import shutil
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from twjax import storage
from twjax.corpus import document
from twjax.corpus.running.units import Files, Stage, Task, save_array
from twjax.corpus.step import BUDGET_BYTES, GlobalStep, Records, keepers, load_array


@dataclasses.dataclass(frozen=True)
class Reduce(Task):
    """Reduces one round; `sizes` are the documents of the `units`, in the same order.

    The last round also notes, for each unit, the ids of the documents that its decision names.
    """

    stage: Stage
    round: int
    units: tuple[str, ...]
    sizes: tuple[int, ...]
    budget_bytes: int = BUDGET_BYTES

    @property
    def _step(self) -> GlobalStep:
        assert self.stage.closing is not None
        return self.stage.closing

    @property
    def mark(self) -> pathlib.Path:
        return self.folder / f"stage-{self.stage.index}-round-{self.round}.json"

    def _files(self) -> list[Files]:
        return [Files(self.folder, unit, self.stage.index) for unit in self.units]

    @property
    def _last(self) -> bool:
        return self.round == self._step.rounds - 1

    def needs(self) -> list[pathlib.Path]:
        pairs = [(f, size) for f, size in zip(self._files(), self.sizes, strict=True) if size]
        paths = [files.records(self.round) for files, _ in pairs]
        return [*paths, *(files.ids for files, _ in pairs)] if self._last else paths

    def spent(self) -> list[pathlib.Path]:
        return [files.records(self.round) for files in self._files()]

    def run(self) -> dict[str, Any]:
        """Writes a request a unit; returns the seconds that it took."""
        start = time.process_time()
        scratch = self.folder / f"scratch-{self.mark.stem}"
        shutil.rmtree(scratch, ignore_errors=True)
        named = 0
        if any(self.sizes):
            with document.disk_errors(scratch):
                (scratch / "step").mkdir(parents=True)
            for files, request in zip(self._files(), self._requests(scratch), strict=True):
                save_array(files.request(self.round), request)
                named += len(keepers(request)) if self._last else 0
            if named:
                with document.disk_errors(scratch):
                    self._name(scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        return {"cpu_seconds": {"reduce": time.process_time() - start}}

    def _requests(self, scratch: pathlib.Path) -> Iterator[np.ndarray]:
        paths = [
            files.records(self.round) if size else None
            for files, size in zip(self._files(), self.sizes, strict=True)
        ]
        records = Records(paths, self.sizes, self.budget_bytes)
        count = 0
        with document.disk_errors(scratch):
            for request in self._step.reduce(self.round, records, scratch / "step"):
                count += 1
                if count <= len(self.units):
                    yield request
        if count != len(self.units):
            raise RuntimeError(
                f"{self._step.name}: reduce of round {self.round} gave {count} requests for "
                f"{len(self.units)} units."
            )

    def _name(self, scratch: pathlib.Path) -> None:
        """Looks up ids by number in one file of all ids, not in memory."""
        with (scratch / "ids").open("wb") as texts, (scratch / "ends").open("wb") as ends:
            for files, size in zip(self._files(), self.sizes, strict=True):
                if size:
                    encoded = [name.encode() for name in storage.read_json(files.ids)]
                    lengths = np.array([len(each) for each in encoded], np.int64)
                    ends.write((texts.tell() + np.cumsum(lengths)).tobytes())
                    texts.write(b"".join(encoded))
        places = np.memmap(scratch / "ends", np.int64, "r")
        with (scratch / "ids").open("rb") as file:
            # Ids may all be empty, and nothing can't be mapped.
            size = file.seek(0, 2)
            text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            for files in self._files():
                numbers = keepers(load_array(files.request(self.round)))
                if len(numbers):
                    stops = places[numbers]
                    starts = np.where(numbers > 0, places[numbers - 1], 0)
                    pairs = zip(starts.tolist(), stops.tolist(), strict=True)
                    storage.write_json(files.names, [text[a:b].decode() for a, b in pairs])
