"""Several processes on this machine: what they are told, what they say, and how they end."""

from __future__ import annotations

import os
import pathlib
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import tiny

# Two processes of one program, in the place of two hosts that train.
LAUNCH = """
import fcntl, os, signal, sys, termios
from launch.local import together
if sys.argv[3] == "terminal":
    # The session that it leads gets standard input as its terminal.
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[3] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.exit(together(
    [sys.executable, "-u", "-c", sys.argv[1], sys.argv[2]],
    [{**os.environ, "NUMBER": str(number)} for number in range(2)],
))
"""
# Writes when it has begun, then the signal that it hears; ends a while after, as one that saves.
SAVES = """
import os, pathlib, signal, sys, time
own = pathlib.Path(sys.argv[1]) / os.environ["NUMBER"]
asked = []
signal.signal(signal.SIGTERM, lambda *about: asked.append(1))
own.write_text("began")
until = time.monotonic() + 60
while not asked and time.monotonic() < until:
    time.sleep(0.01)
for _ in range(3000):
    print("saving", "." * 100)
own.write_text("saved")
"""
# One that can't be asked.
STAYS = """
import os, pathlib, signal, sys, time
own = pathlib.Path(sys.argv[1]) / os.environ["NUMBER"]
signal.signal(signal.SIGTERM, lambda *about: own.write_text("asked"))
own.write_text(f"began {os.getpid()}")
time.sleep(60)
"""


class Group:
    """Two processes under the launcher, which leads a session and may have a terminal."""

    def __init__(self, program: str, folder: pathlib.Path, way: str = "", **streams: Any):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, program, str(folder), way],
            env=tiny.environment(),
            cwd=tiny.REPO,
            start_new_session=True,
            **streams,
        )

    def said(self) -> bytes:
        """Returns all that was said when it has ended."""
        said, _ = self.process.communicate(timeout=60)
        assert isinstance(said, bytes)
        return said

    def wait_for(self, word: str) -> list[str]:
        """Returns what both have written when both have written this word."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            files = sorted(self.folder.glob("[01]"))
            texts = [path.read_text() for path in files]
            if len(texts) == 2 and all(text.startswith(word) for text in texts):
                return texts
            time.sleep(0.01)
        raise AssertionError(f"{word!r} was not written by both within a minute")


@pytest.fixture
def groups() -> Iterator[list[Group]]:
    started: list[Group] = []
    yield started
    for group in started:
        group.process.kill()
        group.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_all_who_save_and_end_well(number, groups, tmp_path):
    groups.append(group := Group(SAVES, tmp_path, stdout=subprocess.PIPE))
    group.wait_for("began")
    group.process.send_signal(number)
    said = group.said()
    assert group.process.returncode == 0
    group.wait_for("saved")
    for host in range(2):
        assert said.count(b"[host %d] saving" % host) == 3000


def test_a_terminal_that_closes_leaves_no_process_behind(groups, tmp_path):
    master, inside = pty.openpty()
    streams = {"stdin": inside, "stdout": inside, "stderr": inside}
    groups.append(group := Group(SAVES, tmp_path, "terminal", **streams))
    os.close(inside)
    group.wait_for("began")
    os.close(master)
    # They say more than a pipe holds, and nobody reads it.
    assert group.process.wait(60) == 0
    group.wait_for("saved")


def test_nohup_keeps_what_a_closing_terminal_would_end(groups, tmp_path):
    groups.append(group := Group(SAVES, tmp_path, "nohup", stdout=subprocess.DEVNULL))
    group.wait_for("began")
    group.process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        group.process.wait(1)
    group.process.send_signal(signal.SIGTERM)
    assert group.process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_time_of_asking_kills(number, groups, tmp_path):
    groups.append(group := Group(STAYS, tmp_path, stdout=subprocess.DEVNULL))
    ids = [int(text.split()[1]) for text in group.wait_for("began")]
    # A terminal may say several times that it closes.
    for early in (signal.SIGHUP, signal.SIGHUP, number, signal.SIGHUP):
        group.process.send_signal(early)
        group.wait_for("asked")
        time.sleep(0.3)
    assert group.process.poll() is None
    group.process.send_signal(number)
    assert group.process.wait(60) == 128 + signal.SIGKILL
    for id in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(id, 0)


def test_what_is_no_text_is_passed_on_as_it_is(groups, tmp_path):
    program = """
import os
for number in range(4000):
    os.write(1, b"\\xff\\xfe no text %d\\n" % number)
"""
    groups.append(group := Group(program, tmp_path, stdout=subprocess.PIPE))
    said = group.said()
    assert group.process.returncode == 0
    for host in range(2):
        lines = [line for line in said.splitlines() if line.startswith(b"[host %d]" % host)]
        assert lines == [b"[host %d] \xff\xfe no text %d" % (host, n) for n in range(4000)]


@pytest.mark.parametrize("number", [0, 1])
def test_whoever_fails_ends_the_others(number, groups, tmp_path):
    program = f"""
import os, sys, time
if os.environ["NUMBER"] == "{number}":
    sys.exit(7)
time.sleep(300)
"""
    groups.append(group := Group(program, tmp_path))
    assert group.process.wait(timeout=60) == 7


# Two processes of a command that is run again; what each attempt does is in its words.
AGAIN = """
import sys
from launch import local
sys.exit(local.run([sys.executable, "-u", "-c", *sys.argv[3:]], 2, 1, int(sys.argv[1])))
"""
# The n-th time each process does what the n-th word says: exits so, or waits to be asked.
ATTEMPT = """
import os, pathlib, signal, sys, time
own = pathlib.Path(sys.argv[1]) / os.environ["TWJAX_PROCESS_ID"]
count = len(own.read_text()) if own.exists() else 0
asked = []
signal.signal(signal.SIGTERM, lambda *about: asked.append(1))
own.write_text("x" * (count + 1))
# Whoever fails ends the other one: both have begun then.
other = own.with_name(str(1 - int(own.name)))
while not other.exists() or len(other.read_text()) <= count:
    time.sleep(0.01)
word = sys.argv[2:][min(count, len(sys.argv) - 3)]
until = time.monotonic() + 60
while word == "wait" and not asked and time.monotonic() < until:
    time.sleep(0.01)
stopped = int(os.environ.get("TWJAX_STOP_CODE", "0"))
sys.exit(stopped if word in ("wait", "stopped") else int(word))
"""


def attempts(folder: pathlib.Path) -> list[int]:
    return [len((folder / str(host)).read_text()) for host in range(2)]


def again(folder: pathlib.Path, restarts: int, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", AGAIN, str(restarts), "-", ATTEMPT, str(folder), *words],
        env=tiny.environment(),
        cwd=tiny.REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_command_that_fails_or_was_stopped_is_run_again_until_it_is_done(tmp_path):
    process = again(tmp_path, 5, "7", "stopped", "0", "9")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert attempts(tmp_path) == [3, 3]
    assert said.splitlines() == [
        "The command ended with exit code 7: again in 1 s, 5 times at most.",
        # It failed at once: the pauses become longer.
        "The command was asked to stop: again in 2 s, 4 times at most.",
    ]


def test_restarts_are_spent_and_none_are_made_unasked(tmp_path):
    for restarts, words, code in ((1, ["7"], 7), (0, ["7"], 7), (0, ["stopped"], 0)):
        folder = tmp_path / f"{restarts}-{words[0]}"
        folder.mkdir()
        process = again(folder, restarts, *words)
        process.communicate(timeout=60)
        assert process.returncode == code
        assert attempts(folder) == [restarts + 1] * 2


@pytest.mark.parametrize("word", ["wait", "7"])
def test_a_launcher_that_is_asked_to_stop_starts_nothing_again(word, tmp_path):
    process = again(tmp_path, 5, word)
    until = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    if word == "7":
        # In the pause.
        assert process.stdout is not None
        assert "again in 1 s" in process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == (0 if word == "wait" else 7)
    assert attempts(tmp_path) == [1, 1]
