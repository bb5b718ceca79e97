"""Worker processes that end with their parent and report a full disk or a crash in one line."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pool:
    """Maps functions over items with `workers` processes, or in this one when it is 1.

    Processes are spawned, not forked: a fork would copy locks of whatever threads the caller has.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self._executor: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Yields (item, result) as results come; few items are drawn ahead of the workers."""
        if self.workers == 1:
            for item in items:
                yield item, function(item)
            return
        if self._executor is None:
            self._executor = concurrent.futures.ProcessPoolExecutor(
                self.workers, multiprocessing.get_context("spawn"), initializer=_start_worker
            )
        running: dict[concurrent.futures.Future[Result], Item] = {}
        source = iter(items)
        try:
            while True:
                while len(running) < 2 * self.workers:
                    item = next(source, _END)
                    if item is _END:
                        break
                    running[self._executor.submit(function, item)] = item  # type: ignore
                if not running:
                    return
                done, _ = concurrent.futures.wait(
                    running, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A worker process died (killed, or out of memory). Finished parts are kept: run "
                "again, with fewer --workers if memory was short."
            ) from error
        finally:
            for future in running:
                future.cancel()


_END = object()


def default_workers() -> int:
    """Returns the number of cores that this process may use."""
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_worker() -> None:
    # Ctrl-C reaches the whole group; the parent decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        # A parent that was killed can't tell its workers; without this they would wait forever.
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
