"""Steps for tests of the corpus runners; a file of its own, so that worker processes find it."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import xxhash

from twjax.corpus.document import Document, Rejection
from twjax.corpus.duplicates.dedup import ExactDedup
from twjax.corpus.step import Edit, GlobalStep, Outcome, Records, Step
from twjax.corpus.text.length import MinLength

CRASH = "TWJAX_TEST_CRASH"


def crash(point: str) -> None:
    """Kills this process the first time that it gets to the point that a file names."""
    path = pathlib.Path(os.environ.get(CRASH) or "/nowhere")
    if path.is_file() and path.read_text() == point:
        path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def line_hash(line: str) -> int:
    return xxhash.xxh3_64_intdigest(line.encode())


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeenLines(GlobalStep):
    """Rejects documents all of whose lines earlier documents have; marks such lines in others."""

    name: ClassVar[str] = "seen_lines"
    rounds: ClassVar[int] = 2

    mark: str = "〃"

    def map(self, round: int, batch: Sequence[Document], request: np.ndarray | None) -> np.ndarray:
        crash(f"map {round}")
        assert batch
        if round == 0:
            assert request is None
            rows = [(i, line_hash(x)) for i, d in enumerate(batch) for x in d.text.split("\n")]
            return np.array(rows, [("document", "<u4"), ("hash", "<u8")])
        assert request is not None
        first = {(int(r["document"]), int(r["hash"])): int(r["first"]) for r in request}
        rows = []
        for index, document in enumerate(batch):
            seen = [first.get((index, line_hash(x)), -1) for x in document.text.split("\n")]
            if max(seen) >= 0:
                rows.append((index, seen[0] if min(seen) >= 0 else -1))
        return np.array(rows, [("document", "<u4"), ("keeper", "<i8")])

    def reduce(self, round: int, records: Records, scratch: pathlib.Path) -> Iterable[np.ndarray]:
        crash(f"reduce {round}")
        assert scratch.is_dir() and not list(scratch.iterdir())
        (scratch / "spilled").write_text("x")
        units = [
            unit["document"] + start for unit, start in zip(records, records.starts, strict=True)
        ]
        numbers = np.concatenate(units).astype(np.int64)
        if round == 1:
            keeper = np.concatenate([unit["keeper"] for unit in records])
            return records.requests(numbers, keeper=keeper)
        hashes = np.concatenate([unit["hash"] for unit in records])
        first: dict[int, int] = {}
        for number, key in zip(numbers.tolist(), hashes.tolist(), strict=True):
            first.setdefault(key, number)
        firsts = np.array([first[key] for key in hashes.tolist()], np.int64)
        old = firsts < numbers
        return records.requests(numbers[old], hash=hashes[old], first=firsts[old])

    def decide(
        self, batch: Sequence[Document], request: np.ndarray, names: Mapping[int, str]
    ) -> Outcome:
        crash("decide")
        told = dict(zip(request["document"].tolist(), request["keeper"].tolist(), strict=True))
        outcome = Outcome([])
        for index, document in enumerate(batch):
            if told.get(index, -1) >= 0:
                outcome.rejected.append(Rejection(document, "seen", names[told[index]]))
                continue
            if index in told:
                outcome.changed["documents"] += 1
                outcome.edits.append(Edit(document.id, "seen", 0, document.text[:2], self.mark))
                document = dataclasses.replace(document, text=self.mark + document.text[2:])
            outcome.kept.append(document)
        return outcome


def expected(documents: Sequence[Document], mark: str = "〃") -> tuple[list[str], dict[str, str]]:
    """Returns what `SeenLines` keeps (texts) and whom it rejects for whom, by brute force."""
    first: dict[str, int] = {}
    kept, gone = [], {}
    for number, document in enumerate(documents):
        lines = document.text.split("\n")
        if all(line in first for line in lines):
            gone[document.id] = documents[first[lines[0]]].id
        elif any(line in first for line in lines):
            kept.append(mark + document.text[2:])
        else:
            kept.append(document.text)
        for line in lines:
            first.setdefault(line, number)
    return kept, gone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replace(Step):
    """Replaces words and reports each place; `pairs` are "before=after"."""

    name: ClassVar[str] = "replace"

    pairs: tuple[str, ...]

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        for document in batch:
            text = document.text
            for pair in self.pairs:
                before, after = pair.split("=")
                start = text.find(before)
                while start >= 0:
                    assert len(before) == len(after)
                    text = text[:start] + after + text[start + len(before) :]
                    outcome.edits.append(Edit(document.id, "word", start, before, after))
                    start = text.find(before)
            outcome.changed["documents"] += text != document.text
            outcome.kept.append(dataclasses.replace(document, text=text))
        outcome.edits.sort(key=lambda e: ([d.id for d in batch].index(e.id), e.start))
        outcome.changed = +outcome.changed
        return outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrongCount(SeenLines):
    """Forgets a unit, or invents one."""

    name: ClassVar[str] = "wrong_count"

    more: int

    def reduce(self, round: int, records: Records, scratch: pathlib.Path) -> Iterable[np.ndarray]:
        found = list(super().reduce(round, records, scratch))
        return found[: self.more] if self.more < 0 else found + found[: self.more]


STEPS = (
    Replace(pairs=("行=航", "第1=壹1")),
    SeenLines(),
    Replace(pairs=("航=行",)),
    ExactDedup(),
    MinLength(characters=3),
)


def pairs(edits: Iterable[Mapping[str, object]]) -> collections.Counter[tuple[object, ...]]:
    """Counts edits as the manifest does."""
    return collections.Counter((e["step"], e["kind"], e["before"], e["after"]) for e in edits)
