"""Peak memory of near de-duplication on many synthetic documents, and the plan for 50 million.

    python dedup_memory.py DOCUMENTS BUDGET_MIB

Documents are six clauses of 20 random characters out of a million clauses; a quarter are copies of
earlier ones with one character changed (similarity 0.92). Units are mapped one after the other and
their records lie on the disk, as in a build. Run by `dedup.py`, a process of its own.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Self

import numpy as np

from twjax.corpus.document import Document
from twjax.corpus.duplicates.near import NearDedup
from twjax.corpus.step import Records

UNIT = 20_000
CLAUSES, CLAUSE = 1_000_000, 20
PLANNED = 50_000_000


def units(count: int) -> Iterator[list[Document]]:
    """Yields the documents, unit by unit; the same at every call."""
    pool = np.random.default_rng(0).integers(0x4E00, 0x9FA0, (CLAUSES, CLAUSE), np.uint32)
    for start in range(0, count, UNIT):
        size = min(UNIT, count - start)
        numbers = np.arange(start, start + size)
        copied = (numbers % 4 == 3).nonzero()[0]
        chance = np.random.default_rng((1, start))
        # A copy's original is a document that is none, anywhere before it.
        originals = numbers.copy()
        originals[copied] = chance.integers(0, numbers[copied] // 4 + 1) * 4
        rows = pool[_choices(originals)].reshape(size, -1)
        rows[copied, chance.integers(0, rows.shape[1], len(copied))] = 0x4E00
        text = rows.tobytes().decode("utf-32-le")
        yield [
            Document(
                id=str(number), source="s", license="unknown", lang="zh-TW",
                text=text[i * rows.shape[1] : (i + 1) * rows.shape[1]],
            )
            for i, number in enumerate(numbers)
        ]  # fmt: skip


def _choices(numbers: np.ndarray) -> np.ndarray:
    """Returns the six clauses of each document, which depend on its number alone."""
    mixed = numbers[:, None].astype(np.uint64) * np.uint64(6) + np.arange(6, dtype=np.uint64)
    mixed = (mixed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(31)
    return (mixed * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(20)) % np.uint64(CLAUSES)


class Peak:
    """The greatest resident memory while it is open, in MiB: anonymous, and with mapped files."""

    def __enter__(self) -> Self:
        self.anonymous = self.total = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            status = pathlib.Path("/proc/self/status").read_text()
            sizes = dict(re.findall(r"(VmRSS|RssAnon):\s+(\d+) kB", status))
            self.anonymous = max(self.anonymous, int(sizes["RssAnon"]) / 1024)
            self.total = max(self.total, int(sizes["VmRSS"]) / 1024)


def _disk(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Disk(Peak):
    """The most bytes below a folder while it is open."""

    def __init__(self, folder: pathlib.Path):
        self._folder, self.bytes = folder, 0

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            try:
                self.bytes = max(self.bytes, _disk(self._folder))
            except FileNotFoundError:
                continue


def main() -> int:
    count, budget = int(sys.argv[1]), int(sys.argv[2]) << 20
    step, figures = NearDedup(), {}
    requests: list[pathlib.Path] = []
    sizes = [min(UNIT, count - start) for start in range(0, count, UNIT)]
    start = time.process_time()
    with tempfile.TemporaryDirectory(prefix="twjax-dedup-", dir="/var/tmp") as name:
        folder = pathlib.Path(name)
        for round in range(2):
            files = []
            with Peak() as peak:
                for unit, documents in enumerate(units(count)):
                    own = np.load(requests[unit]) if requests else None
                    files.append(folder / f"{round}-{unit}.npy")
                    np.save(files[-1], step.map(round, documents, own))
            figures[f"round {round}: map, peak MiB"] = peak.total
            records = Records(files, sizes, budget)
            stored = sum(path.stat().st_size for path in files)
            figures[f"round {round}: records, bytes a document"] = stored / count
            scratch = folder / f"scratch-{round}"
            scratch.mkdir()
            with Peak() as peak, Disk(scratch) as disk:
                requests = []
                for unit, answer in enumerate(step.reduce(round, records, scratch)):
                    requests.append(folder / f"request-{round}-{unit}.npy")
                    np.save(requests[-1], answer)
            figures[f"round {round}: reduce, peak MiB"] = peak.total
            figures[f"round {round}: reduce, peak MiB without mapped files"] = peak.anonymous
            figures[f"round {round}: reduce, spilled bytes a document"] = disk.bytes / count
            asked = sum(path.stat().st_size for path in requests) / count
            figures[f"round {round}: requests, bytes a document"] = asked
            for path in files:
                path.unlink()
        decided = [np.load(path) for path in requests]
    figures["CPU seconds, documents made included"] = time.process_time() - start
    figures["dropped"] = sum(map(len, decided))
    figures["copies among the documents"] = count // 4
    wrong = sum(
        int(((unit["document"] + UNIT * i) % 4 != 3).sum()) for i, unit in enumerate(decided)
    )
    figures["dropped, but no copy"] = wrong
    figures.update(plan(figures))
    print(json.dumps(figures))
    return 0


def plan(figures: dict[str, float]) -> dict[str, float]:
    """Returns the disk that 50 million documents like these take; memory is the budget's."""
    each = [
        sum(figures[f"round {r}: {what}, bytes a document"] for what in ("records", "requests"))
        + figures[f"round {r}: reduce, spilled bytes a document"]
        for r in range(2)
    ]
    return {
        f"plan for {PLANNED:,}: disk of round {r}, GB": PLANNED * each[r] / 1e9 for r in range(2)
    }


if __name__ == "__main__":
    sys.exit(main())
