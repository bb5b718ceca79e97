"""Progress that suits the reader: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

LINE_SECONDS = 10.0


class Progress:
    """Counts work done; shows a bar on a terminal, else a line every `LINE_SECONDS`.

    `total` may be None when it is not known. `unit` names what is counted.
    """

    def __init__(self, total: int | None, description: str, unit: str = "it", initial: int = 0):
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            desc=description,
            unit=unit,
            initial=initial,
            dynamic_ncols=True,
            disable=not self._terminal,
        )
        self._description, self._unit, self._total = description, unit, total
        self._count = initial
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def update(self, count: int = 1, note: str = "") -> None:
        """Adds `count` units; `note` (a loss, a rate) stands behind the counter."""
        self._count += count
        if self._terminal:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
            return
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS or self._count == self._total:
            self._last = now
            of = "" if self._total is None else f"/{self._total}"
            tail = f"  {note}" if note else ""
            print(
                f"{self._description}: {self._count}{of} {self._unit}, "
                f"{now - self._start:.0f} s{tail}",
                file=sys.stderr,
                flush=True,
            )


def track(items: Iterable[T], total: int | None, description: str, unit: str = "it") -> Iterator[T]:
    """Yields `items` unchanged and shows how far it got."""
    with Progress(total, description, unit) as progress:
        for item in items:
            yield item
            progress.update()


def say(message: str) -> None:
    """Prints one line for the person who watches, on stderr, without breaking a bar."""
    tqdm.write(message, file=sys.stderr)
    sys.stderr.flush()
