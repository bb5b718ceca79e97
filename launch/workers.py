"""The machines of a pod: what is copied to them, started on them, and read from them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pathlib
import queue
import re
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from launch.gcloud import NOISE, Gcloud, end
from launch.request import Request

SCRIPT = pathlib.Path(__file__).with_name("bootstrap.sh")
REMOTE = "twjax-bootstrap.sh"
# Workers that wait for one that failed get this long to notice it themselves.
GRACE_SECONDS = 30.0
# A connection that is dead without having been closed is found out in two minutes: ssh itself would
# wait on it for ever.
_ALIVE = ("--ssh-flag=-oServerAliveInterval=30", "--ssh-flag=-oServerAliveCountMax=4")

# A line of the log, with its number in two parts, or one of the bootstrap's own.
_LINE = re.compile(r"\[(\d+)\.(\d+)(?:\+(\d+)\] (\d+):|\](!?) ?)(.*)", re.DOTALL)
_ENDED = re.compile(r"ended: exit code (\d+)(?: after it was asked to stop by (.+))?")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How an attempt ended on all workers.

    done: exit code 0 everywhere. asked: the user let it stop. stopped: the machines did, or went
    away. failed: a worker ended with another code.
    """

    kind: str
    code: int = 0
    where: str = ""


class Workers:
    """All workers of all slices of one request."""

    def __init__(self, gcloud: Gcloud, request: Request, poll: float = 30.0) -> None:
        self.gcloud, self.request, self.poll = gcloud, request, poll
        self.grace = GRACE_SECONDS

    def prepare(self, attempt: int) -> None:
        """Copies the bootstrap, the wheel and the user's files, and installs; whole or an error.

        Where this attempt runs already, what it was started with stays installed.
        """
        request = self.request
        if not request.requirement:
            raise ValueError("say what to install: --wheel FILE or --git URL@REF.")
        files = [str(SCRIPT), *([request.wheel] if request.wheel else []), *request.files]
        for file in files:
            if not pathlib.Path(file).exists():
                raise FileNotFoundError(f"{file}: no such file on this machine.")
        arguments = ["prepare", self._key(), request.requirement, request.setup]
        arguments += [request.name, str(attempt)]
        self._on_nodes(lambda node: self._copy(node, files))
        self._on_nodes(lambda node: self._run(node, *arguments))

    def start(self, attempt: int, command: Sequence[str], env: Sequence[str] = ()) -> None:
        """Starts a twjax command in the background of all workers; a second time does nothing."""
        words = ["start", self.request.name, str(attempt), *env, "--", *command]
        self._on_nodes(lambda node: self._run(node, *words))

    def stop(self, kill: bool = False) -> None:
        """Asks the command to save and end, on all workers."""
        words = ["stop", self.request.name, *(["KILL"] if kill else [])]
        self._on_nodes(lambda node: self._run(node, *words))

    def states(self) -> list[str]:
        """Returns a line a worker."""
        lines: list[str] = []
        for number, node in enumerate(self.request.nodes):
            printed = self._run(node, "state", self.request.name, str(number))
            lines += [line for line in printed.splitlines() if _LINE.match(line)]
        return sorted(lines)

    def follow(
        self, attempt: int, say: Callable[[str], None], gone: Callable[[bool], bool]
    ) -> Outcome:
        """Prints what all workers say, with slice and worker, until the attempt has ended.

        A connection that breaks is made anew and goes on with the line after the last. `gone(sure)`
        is asked now and then whether the machines are lost, and thoroughly (`sure`) when the
        connections are.
        """
        reader = _Reader(say)
        pause, failed_at, killed = 1.0, 0.0, False
        while True:
            running = self._connect(attempt, reader)
            if self.gcloud.dry:
                return Outcome("done")
            looked = time.monotonic()
            try:
                while any(thread.is_alive() for thread in running.values()):
                    heard = reader.take(min(self.poll, 0.5))
                    pause = 1.0 if heard else pause
                    now = time.monotonic()
                    failed_at = failed_at or (now if reader.failures() else 0.0)
                    if failed_at and not killed and now - failed_at > self.grace:
                        killed = True
                        self.stop(kill=True)
                    if now - looked > self.poll:
                        looked = now
                        if gone(False):
                            return reader.outcome(self.request.workers)
            finally:
                for process in running:
                    end(process)
                for thread in running.values():
                    thread.join(5)
                reader.take(0.0)
            if reader.whole(self.request.workers) or gone(True):
                return reader.outcome(self.request.workers)
            say(f"connection lost; again in {pause:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, 60.0)

    def _connect(self, attempt: int, reader: _Reader):
        """Starts reading from all slices; returns {process: its thread}."""
        running = {}
        for number, node in enumerate(self.request.nodes):
            seen = reader.seen(number)
            words = ["follow", self.request.name, str(attempt), str(number), seen]
            process = self.gcloud.begin(*self._ssh(node, words))
            if process is not None:
                thread = threading.Thread(target=reader.read, args=(process.stdout,), daemon=True)
                thread.start()
                running[process] = thread
        return running

    def _ssh(self, node: str, words: Sequence[str]) -> list[str]:
        # One string for the worker's shell: each word quoted, so that none of them is a command.
        command = shlex.join(["bash", REMOTE, *words])
        return ["tpu-vm", "ssh", node, "--worker=all", *_ALIVE, f"--command={command}"]

    def _run(self, node: str, *words: str) -> str:
        return self.gcloud.read(*self._ssh(node, words))

    def _copy(self, node: str, files: Sequence[str]) -> None:
        # The script has a name of its own in the worker's home folder.
        self.gcloud.read("tpu-vm", "scp", files[0], f"{node}:{REMOTE}", "--worker=all")
        if files[1:]:
            self.gcloud.read("tpu-vm", "scp", *files[1:], f"{node}:", "--worker=all", "--recurse")

    def _on_nodes(self, act: Callable[[str], object]) -> None:
        """Does something on all slices at once; raises the first error."""
        errors: list[Exception] = []

        def guarded(node: str) -> None:
            try:
                act(node)
            except Exception as error:
                errors.append(error)

        if self.gcloud.dry:
            for node in self.request.nodes:
                act(node)
            return
        # Daemons: Ctrl-C doesn't wait for them.
        nodes = self.request.nodes
        threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _key(self) -> str:
        """What an installation is known by: another wheel under the same name is another one."""
        request, digest = self.request, hashlib.sha256()
        digest.update(request.requirement.encode())
        if request.wheel:
            digest.update(pathlib.Path(request.wheel).read_bytes())
        return digest.hexdigest()[:16]


class _Reader:
    """Lines of all workers, from the threads that read them to the one that prints them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lines: queue.Queue[str] = queue.Queue()
        self._counts: dict[tuple[int, int], int] = {}
        self._ends: dict[tuple[int, int], str] = {}

    def read(self, stream: IO[bytes]) -> None:
        # A carriage return of a progress bar ends no line.
        for line in io.TextIOWrapper(stream, "utf-8", errors="replace", newline="\n"):
            # What a connection broke off comes whole with the next one.
            if line.endswith("\n"):
                self._lines.put(line[:-1])

    def take(self, seconds: float) -> bool:
        """Prints what has come, waiting for the first at most so long; whether anything had."""
        heard = False
        while True:
            try:
                line = self._lines.get(timeout=0.0 if heard else seconds) if seconds else (
                    self._lines.get_nowait())  # fmt: skip
            except queue.Empty:
                return heard
            heard = self._one(line) or heard

    def _one(self, line: str) -> bool:
        match = _LINE.match(line)
        if match is None:
            if not NOISE.match(line):
                self._say(f"gcloud: {line}")
            return False
        place, text = (int(match[1]), int(match[2])), match[6]
        if match[4]:
            number = int(match[3]) + int(match[4])
            if number > self._counts.get(place, 0):
                self._counts[place] = number
                # Of a progress bar, what a terminal would show.
                self._say(f"[{place[0]}.{place[1]}] {text.rstrip(chr(13)).rpartition(chr(13))[2]}")
        elif match[5] and self._ends.get(place) != text:
            self._ends[place] = text
            self._say(f"[{place[0]}.{place[1]}] {text}")
        return True

    def seen(self, number: int) -> str:
        """Returns how many lines of each worker of a slice have been printed, as `0=12 1=11`."""
        own = {place[1]: n for place, n in self._counts.items() if place[0] == number}
        return " ".join(f"{worker}={count}" for worker, count in sorted(own.items()))

    def failures(self) -> list[tuple[int, str]]:
        """Returns (exit code, worker) of those that failed."""
        found = []
        for place, text in sorted(self._ends.items()):
            match = _ENDED.match(text)
            if match and int(match[1]) and not match[2]:
                found.append((int(match[1]), f"{place[0]}.{place[1]}"))
        return found

    def whole(self, workers: int) -> bool:
        """Whether all workers have said how they ended."""
        return len(self._ends) >= workers

    def outcome(self, workers: int) -> Outcome:
        matches = [_ENDED.match(text) for text in self._ends.values()]
        ended = [match for match in matches if match]
        if any(match[2] == "the user" for match in ended):
            return Outcome("asked")
        if failures := self.failures():
            # What was killed for the sake of another is not why.
            code, where = min(failures, key=lambda failure: failure[0] == 137)
            return Outcome("failed", code, where)
        if len(ended) < workers or any(match[2] for match in ended):
            return Outcome("stopped")
        return Outcome("done")
