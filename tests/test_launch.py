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
