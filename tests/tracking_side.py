"""A run's log as a trainer writes it, and a tracker in memory that a sender fills from it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import pathlib
import threading
from collections.abc import Callable, Iterator

from tests import tiny
from twjax.config import Tracking
from twjax.report.sending import Sender, points
from twjax.training.metrics import cut, set_aside

CONFIG = tiny.CONFIG.format(cache="nowhere")


class Log:
    """A run's folder as a trainer writes it: step `s` has loss f(s), an evaluation each 5 steps."""

    def __init__(self, run_dir: pathlib.Path):
        self.run_dir, self.step, self.factor = run_dir, 0, 1.0
        run_dir.mkdir(parents=True, exist_ok=True)
        self.begin("start")

    def event(self, event: str, **details) -> None:
        line = json.dumps({"event": event, "step": self.step, **details})
        with (self.run_dir / "ledger.jsonl").open("a") as file:
            file.write(line + "\n")

    def records(self, steps: range) -> list[dict]:
        found = []
        for step in steps:
            loss = self.factor * (5 - 0.01 * step)
            found.append({"kind": "train", "step": step, "loss": loss, "tokens": 64 * step})
            if step % 5 == 0:
                found.append({"kind": "eval", "step": step, "task": "網頁", "bits_per_byte": loss})
        return found

    def train(self, steps: int) -> None:
        lines = [json.dumps(r) for r in self.records(range(self.step + 1, self.step + steps + 1))]
        self.step += steps
        with (self.run_dir / "metrics.jsonl").open("a") as file:
            file.writelines(line + "\n" for line in lines)

    def begin(self, event: str) -> None:
        self.configure()
        self.event(event)

    def configure(self) -> None:
        text = CONFIG.replace("1e-2", f"{self.factor * 1e-2}")
        (self.run_dir / "config.gin").write_text(text)

    def go_back(self, step: int, factor: float | None = None) -> None:
        """The run goes on from an earlier step, as after a kill."""
        self.step, self.factor = step, factor or self.factor
        cut(self.run_dir, step)
        self.begin("resume")

    def roll_back(self, step: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        """The run leaves what followed a step; `meanwhile` is what others do at any time of it."""
        self.step = step
        self.event("roll_back", look={"used": {"網頁": 2.0}, "shares": {"b": 0.5}})
        meanwhile()
        number = len(list(self.run_dir.glob("metrics-abandoned-*"))) + 1
        set_aside(self.run_dir, step, number)
        meanwhile()
        self.event("rolled_back")
        meanwhile()

    def sample(self, step: int, text: str) -> None:
        line = json.dumps({"step": step, "prompt": "p:", "text": text})
        (self.run_dir / "samples").mkdir(exist_ok=True)
        (self.run_dir / "samples" / f"{step}.jsonl").write_text(line + "\n")

    def points(self) -> dict[tuple[str, int], float]:
        return logged(self.run_dir)


def logged(run_dir: pathlib.Path) -> dict[tuple[str, int], float]:
    """Returns what a run's log has measured, by name and step."""
    records = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return {(name, r["step"]): value for r in records for name, value in points(r)}


class Memory:
    """A tracker that keeps what was flushed, and fails when it is told to."""

    def __init__(self, runs: dict, id: str):
        self.values, self.texts = runs.setdefault(id, ({}, {}))
        self.kept: list[tuple] = []
        self.fails = 0

    def config(self, values) -> None:
        assert values["model.vocab_size"] == 96

    def scalar(self, name, value, step) -> None:
        self.kept.append((self.values, name, value, step))

    def text(self, name, value, step) -> None:
        self.kept.append((self.texts, name, value, step))

    def flush(self) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the server is down")
        for where, name, value, step in self.kept:
            where.setdefault((name, step), []).append(value)
        self.kept = []

    def close(self) -> None:
        assert not self.kept


class Desk:
    """A sender that can be killed and started again; `runs` is what its tracker has."""

    def __init__(self, run_dir: pathlib.Path):
        self.run_dir, self.runs, self.down = run_dir, {}, 0
        self.restart()

    def restart(self) -> None:
        self.sender = Sender(self.run_dir, "memory", Tracking(to=("wandb",)), self.open)

    def open(self, kind, tracking, folder, *, id, name, rows) -> Memory:
        tracker = Memory(self.runs, id)
        tracker.fails, self.down = self.down, 0
        return tracker

    def send(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.sender.send()

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Sends all the time while the block runs, and what is left at its end."""
        over = threading.Event()

        def follow() -> None:
            # `twjax track` refuses a folder without one.
            while not (self.run_dir / "config.gin").exists() and not over.wait(0.001):
                pass
            while not over.wait(0.001):
                self.sender.send()

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            done = pool.submit(follow)
            try:
                yield
            finally:
                over.set()
            done.result()
        self.sender.send()

    def measured(self, number: int = -1) -> dict[tuple[str, int], list[float]]:
        values = list(self.runs.values())[number][0]
        return {k: v for k, v in values.items() if k[0].split("/")[0] in ("train", "eval")}
