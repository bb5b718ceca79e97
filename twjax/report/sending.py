"""Sends a run's log to a tracker: the log is the truth, the tracker a view of it.

What was sent is written down in RUN/tracking after it was sent, so that a sender that is killed
or cut off goes on where it was, and a step that a resumed run logs again isn't sent again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import pathlib
import select
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from twjax.config import ConfigError, Run, Tracking, flatten, load
from twjax.evaluation.records import not_set_aside, rollbacks
from twjax.progress import say
from twjax.report.decisions import telling
from twjax.report.evaluations import Told
from twjax.report.tail import Tail
from twjax.report.trackers import Tracker, open_tracker
from twjax.storage import read_json, read_json_lines, sha256_json, write_json

FOLDER = "tracking"
POLL_SECONDS = 2.0
# Between attempts to reach a tracker that can't be reached: doubled each time, up to the last.
RETRY_SECONDS = (5.0, 300.0)
# Attempts after the end of the run.
LAST_ATTEMPTS = 3
_TOGETHER = 500

# Of a record: what says which one it is and when it was written, not what was measured.
_LABELS = ("kind", "step", "task", "train_tokens", "time")


def points(record: dict[str, Any], name: str | None = None) -> Iterator[tuple[str, float]]:
    """Yields the names and values of what a record of the log measured, `name` being its series'.

    A value that is no finite number is left out.
    """
    kind = record.get("kind")
    prefix = "train" if kind == "train" else f"{kind}/{name or record.get('task')}"
    for key, value in record.items():
        if key in _LABELS or isinstance(value, bool):
            continue
        if isinstance(value, (int, float)) and math.isfinite(value):
            yield f"{prefix}/{key}", float(value)
        elif isinstance(value, dict) and key in ("rows", "seconds", "metrics"):
            # Rows consumed by task; seconds by cause; the metrics of a generation task.
            inner = prefix if key == "metrics" else f"{prefix}/{key}"
            for name, number in value.items():
                if isinstance(number, (int, float)) and math.isfinite(number):
                    yield f"{inner}/{name}", float(number)


@dataclasses.dataclass
class Sent:
    """What a tracker has of a run.

    `id` names the run there. `step` is the last training step, `evaluated` the steps of each
    evaluation, `events` the number of the ledger's, `rows` the number of rows of values, a step
    being one, or more if parts of it came later. `identity` tells what the steps were trained with:
    where another one or a rollback changes steps that were sent, `attempt` is counted on, and the
    tracker gets a new run, which holds the log as it is then.
    """

    id: str
    attempt: int = 1
    identity: str = ""
    step: int = 0
    events: int = 0
    rows: int = 0
    samples: int = -1
    evaluated: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    def has(self, record: dict[str, Any], name: str) -> bool:
        """Whether a record was sent, of the series with this name."""
        if record["kind"] == "train":
            return record["step"] <= self.step
        return record["step"] in self.evaluated.get(f"{record['kind']}/{name}", ())

    def add(self, record: dict[str, Any], name: str) -> None:
        """Notes a record."""
        if record["kind"] == "train":
            self.step = record["step"]
        else:
            self.evaluated.setdefault(f"{record['kind']}/{name}", []).append(record["step"])

    @property
    def last(self) -> int:
        """The last step of which anything was sent."""
        return max([self.step, *(step for steps in self.evaluated.values() for step in steps)])


class Sender:
    """What stands between a run's folder and one of its trackers; `send` brings it up to date."""

    def __init__(
        self,
        run_dir: pathlib.Path,
        kind: str,
        tracking: Tracking,
        opener: Callable[..., Tracker] = open_tracker,
    ):
        self._run_dir, self._kind, self._tracking = run_dir, kind, tracking
        self._opener = opener
        self._folder = run_dir / FOLDER
        self._note = self._folder / f"{kind}.json"
        self._tracker: Tracker | None = None
        self._logs = [Tail(run_dir / name) for name in ("metrics.jsonl", "evaluations.jsonl")]
        self._ledger = Tail(run_dir / "ledger.jsonl")
        self._events: list[dict[str, Any]] = []
        self._series = Told()
        self._steps: set[int] = set()
        # Steps of the run's own evaluations that its log has.
        self._evaluated: set[int] = set()
        self._sent = Sent(id=uuid.uuid4().hex[:8])
        self._recall()

    @property
    def finished(self) -> bool:
        """Whether the run's ledger says that it has done all its steps."""
        return bool(self._events) and self._events[-1].get("event") == "finish"

    def send(self) -> int:
        """Sends what is new in the folder; returns how many records and events that were.

        After an error nothing is lost: the next call reads the log again.
        """
        try:
            return self._send()
        except BaseException:
            for tail in (*self._logs, self._ledger):
                tail.close()
            self._tracker = None
            self._recall()
            raise

    def close(self) -> None:
        """Ends the tracker's run."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None

    def _recall(self) -> None:
        """Takes up what is written down as sent."""
        self._steps = set()
        if self._note.is_file():
            self._sent = Sent(**read_json(self._note))

    def _send(self) -> int:
        # The ledger before the log: what it says is left, the log has no more.
        decided = self._ledger.read()
        self._events = decided.records if decided.anew else self._events + decided.records
        # Once: it is another one from one moment to the next.
        identity = self._identity()
        if self._superseded(identity):
            self.close()
            self._sent = Sent(id=self._sent.id, attempt=self._sent.attempt + 1)
            for tail in self._logs:
                tail.close()
        records = self._records()
        if not records and len(self._events) <= self._sent.events:
            return 0
        if self._tracker is None:
            self._open()
        self._configure(identity)
        count = pending = 0
        for series, record in records:
            if "kind" not in record or self._sent.has(record, series):
                continue
            for name, value in points(record, series):
                self._scalar(name, value, record["step"])
                pending += 1
            self._sent.add(record, series)
            count += 1
            if pending >= _TOGETHER:
                self._flush()
                pending = 0
        for number in range(self._sent.events, len(self._events)):
            self._decision(number)
            count += 1
        self._sent.events = len(self._events)
        self._samples()
        self._flush()
        return count

    def _records(self) -> list[tuple[str, dict[str, Any]]]:
        """Returns what is new in the logs, without what is of steps that the run has left.

        Each record comes with the name of its series.
        """
        back = rollbacks(e for e in self._events if isinstance(e.get("step"), int))
        # Read later, when they are set aside: the file is another one then.
        left = min((step for _, step in not_set_aside(self._run_dir, back)), default=math.inf)
        own, beside = (tail.read() for tail in self._logs)
        if own.anew:
            self._evaluated = set()
        records = [r for r in own.records if isinstance(r.get("step"), int)]
        self._evaluated |= {r["step"] for r in records if r.get("kind") != "train"}
        late = [r for r in beside.records if isinstance(r.get("step"), int) and r["step"] <= left]
        return self._series.named(records, late)

    def _open(self) -> None:
        self._folder.mkdir(exist_ok=True)
        # Before the tracker knows of it: whoever is killed now goes on with the same id.
        if not self._note.is_file():
            write_json(self._note, dataclasses.asdict(self._sent))
        name = self._tracking.name or self._run_dir.resolve().name
        again = "" if self._sent.attempt == 1 else f"-{self._sent.attempt}"
        self._tracker = self._opener(
            self._kind,
            self._tracking,
            self._folder,
            id=self._sent.id + again,
            name=name + again,
            rows=self._sent.rows,
        )

    def _configure(self, identity: str) -> None:
        """Sends the configuration where it is not the one that the tracker has."""
        assert self._tracker is not None
        if identity != self._sent.identity:
            self._tracker.config(_settings(self._run_dir))
            self._sent.identity = identity

    def _flush(self) -> None:
        assert self._tracker is not None
        self._tracker.flush()
        self._sent.rows += len(self._steps)
        self._steps = set()
        write_json(self._note, dataclasses.asdict(self._sent))

    def _scalar(self, name: str, value: float, step: int) -> None:
        assert self._tracker is not None
        self._tracker.scalar(name, value, step)
        self._steps.add(step)

    def _text(self, name: str, value: str, step: int) -> None:
        assert self._tracker is not None
        self._tracker.text(name, value, step)
        self._steps.add(step)

    def _decision(self, number: int) -> None:
        event = self._events[number]
        step = event.get("step")
        if not isinstance(step, int):
            return
        # A text takes the place of one that the tracker has of this step.
        here = [text for other, text, _ in telling(self._events) if other["step"] == step]
        if here:
            self._text("decisions", "\n".join(f"step {step}: {text}" for text in here), step)
        # A decision made again, or at an earlier step, takes the place of all that followed it.
        later = (e for e in self._events[number + 1 :] if e.get("event") in ("budget", "roll_back"))
        if any(isinstance(e.get("step"), int) and e["step"] <= step for e in later):
            return
        look = event.get("look") if event.get("event") == "roll_back" else event
        for name, key in (("budget", "used"), ("replay", "shares")):
            for task, value in ((look or {}).get(key) or {}).items():
                self._scalar(f"{name}/{task}", float(value), step)

    def _samples(self) -> None:
        folder = self._run_dir / "samples"
        found = [path for path in folder.glob("*.jsonl") if path.stem.isdigit()]
        for path in sorted(found, key=lambda path: int(path.stem)):
            step = int(path.stem)
            # Of a step that the run has not evaluated (again), the file is that of a way it left.
            if step > self._sent.samples and step in self._evaluated:
                texts = [f"{s.get('prompt')}{s.get('text')}" for s in read_json_lines(path)]
                self._text("samples", "\n\n".join(texts), step)
                self._sent.samples = step

    def _superseded(self, identity: str) -> bool:
        """Whether steps that were sent have been trained again otherwise, or left."""
        new = self._events[self._sent.events :]
        earlier = [e for e in new if isinstance(e.get("step"), int) and e["step"] < self._sent.last]
        if any(event.get("event") == "rolled_back" for event in earlier):
            return True
        # Not only a new one: the configuration is written after it.
        begun = [e for e in self._events if e.get("event") in ("start", "resume")][-1:]
        again = any(isinstance(e.get("step"), int) and e["step"] < self._sent.last for e in begun)
        return again and identity != self._sent.identity

    def _identity(self) -> str:
        """Tells what steps are trained with: the configuration and the rows."""
        path = self._run_dir / "config.gin"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        caches = [event["caches"] for event in self._events if event.get("caches")]
        return sha256_json([text, caches[-1:]])


def _settings(run_dir: pathlib.Path) -> dict[str, Any]:
    """Returns a run's configuration as names and values."""
    path = run_dir / "config.gin"
    if not path.is_file():
        return {}
    values = flatten(load(Run, [path]).value)
    plain = (str, int, float, bool, type(None))
    return {k: v if isinstance(v, plain) else json.dumps(v, default=str) for k, v in values.items()}


@contextlib.contextmanager
def only_sender(run_dir: pathlib.Path, kind: str, patience: float = 0.0) -> Iterator[None]:
    """Keeps a second sender out, after `patience` seconds; the lock goes with the process."""
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    until = time.monotonic() + patience
    with (folder / f".{kind}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise ConfigError(
                        f"{run_dir}: another process is sending this run to {kind}; it goes on "
                        "by itself."
                    ) from None
                time.sleep(0.2)
        yield


def send_until(
    sender: Sender, kind: str, ended: Callable[[float], bool], tell: Callable[[str], None]
) -> bool:
    """Sends what is logged until the run has ended; returns whether all was sent.

    `ended(seconds)` waits that long for the end. A tracker that can't be reached is told once and
    tried again.
    """
    # Failures since the last success, and how often it was tried since the end.
    failures, tried, wait, over = 0, 0, POLL_SECONDS, ended(0.0)
    while True:
        tried += over
        try:
            sender.send()
            if failures:
                tell(f"{kind}: reached again, nothing is missing there.")
            failures, wait = 0, POLL_SECONDS
            if over:
                sender.close()
                return True
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            if not failures:
                tell(f"{kind}: nothing can be sent ({reason}); the values stay in metrics.jsonl.")
            failures += 1
            wait = min(RETRY_SECONDS[0] * 2 ** (failures - 1), RETRY_SECONDS[1])
            if tried >= LAST_ATTEMPTS:
                return False
        if over:
            time.sleep(min(wait, POLL_SECONDS))
        else:
            over = ended(wait)


def until_end(sender: Sender, *, attached: bool, follow: bool) -> Callable[[float], bool]:
    """Returns what waits for the end of a run: of the process that started this one if `attached`,
    with `follow` the one in the ledger. Without either nothing is waited for.
    """

    def input_ends(seconds: float) -> bool:
        readable, _, _ = select.select([sys.stdin.buffer], [], [], seconds)
        return bool(readable) and not sys.stdin.buffer.read(1)

    def ledger_ends(seconds: float) -> bool:
        time.sleep(seconds)
        return sender.finished

    if attached:
        return input_ends
    return ledger_ends if follow else lambda seconds: True


def speaker(attached: bool) -> Callable[[str], None]:
    """Returns what tells whoever watches; if `attached`, the process that started this one.

    What libraries print then goes where errors go.
    """
    if not attached:
        return say
    said = os.dup(1)
    os.dup2(2, 1)

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            os.write(said, f"{text}\n".encode())

    return tell
