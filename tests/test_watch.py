"""`twjax watch`: its numbers are the log's, it fits the terminal, and leaves it as it was."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from twjax.cli import main
from twjax.report.cells import bar, cut, pad, plot, spark, width_of
from twjax.report.live import Live
from twjax.report.read import read_run
from twjax.report.tail import Tail
from twjax.report.terminal import snapshot, view
from twjax.storage import is_locked


def write_run(folder, steps=40, name="網頁"):
    """Writes the folder of a run of `steps` steps, as far as a screen shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.gin").write_text(
        tiny.CONFIG.format(cache="nowhere").replace("Run.steps = 12", "Run.steps = 60")
    )
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(steps + 1):
            if step:
                record = {"kind": "train", "step": step, "loss": 4 - step / 20, "tokens": 64 * step}
                if step % 4 == 0:
                    record |= {"tokens_per_second": 1234.0, "step_seconds": 0.5}
                file.write(json.dumps(record) + "\n")
            if step % 20 == 0:
                for task, bits in ((name, 2 - step / 40), ("en_web", 1 + step / 400)):
                    record = {"kind": "eval", "step": step, "task": task, "bits_per_byte": bits}
                    file.write(json.dumps(record | {"seconds": 3.0}) + "\n")
    events = [
        {"event": "start", "step": 0},
        {
            "event": "budget",
            "step": 40,
            "used": {"en_web": 0.8},
            "shares": {"en_web": 0.25},
            "action": "steer",
            "beyond": 0,
            "rate": 1.0,
        },
    ]
    (folder / "ledger.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return folder


def live(folder):
    run = Live(folder)
    run.update()
    return run


def test_a_snapshot_has_the_numbers_of_the_log(tmp_path, capsys):
    folder = write_run(tmp_path / "run")
    assert main(["watch", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "step 40 / 60" in text and "67%" in text
    # 20 steps of half a second, and four evaluations of two tasks, three seconds each.
    assert "ETA 34 s" in text
    assert "loss 2.0000" in text and "1,234 tok/s" in text and "2,560 tokens" in text
    row = next(line for line in text.splitlines() if line.startswith("網頁"))
    assert row.split()[1:4] == ["2.0000", "1.0000", "−50.0%"]
    assert "forgotten: en_web 80%; replay en_web 25.0%" in text and "80%" in text
    assert "\x1b" not in text


def test_a_run_that_stands_still_is_told_from_one_that_trains(tmp_path):
    folder = write_run(tmp_path / "run")
    now = time.time()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_locked(folder / ".lock") is None:
            pytest.skip("this system doesn't list locks")
        os.utime(folder / "metrics.jsonl", (0, 0))
        assert live(folder).state(now) == "training"
    assert live(folder).state(now) == "not running"
    with (folder / "ledger.jsonl").open("a") as file:
        file.write(json.dumps({"event": "finish", "step": 60}) + "\n")
    assert live(folder).state(now) == "finished"


def test_looking_neither_writes_nor_locks(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / ".lock").touch()
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}
    run = live(folder)
    view(run, 80, 24, time.time())
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    after = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}
    assert before.keys() == after.keys()
    assert {p: v for p, v in before.items() if p.name != ".lock"} == {
        p: v for p, v in after.items() if p.name != ".lock"
    }


def test_a_log_that_is_torn_and_replaced_is_followed(tmp_path):
    path = tmp_path / "log.jsonl"
    tail = Tail(path)
    assert tail.read() == (False, [])
    path.write_bytes(b'{"step": 1}\n{"st')
    assert tail.read() == (True, [{"step": 1}])
    with path.open("ab") as file:
        file.write(b'ep": 2}\nbroken\n')
    assert tail.read() == (False, [{"step": 2}]) and tail.unreadable == 1
    new = tmp_path / "new"
    new.write_text('{"step": 1}\n{"step": 3}\n')
    os.replace(new, path)
    assert tail.read() == (True, [{"step": 1}, {"step": 3}]) and tail.unreadable == 0
    path.unlink()
    assert tail.read() == (False, [])


def test_a_run_that_goes_back_forgets_what_it_left(tmp_path):
    folder = write_run(tmp_path / "run")
    run = live(folder)
    assert run.step == 40
    log = folder / "metrics.jsonl"
    kept = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= 15]
    (folder / "new").write_text("\n".join(kept) + "\n")
    os.replace(folder / "new", log)
    run.update()
    assert run.step == 15 and list(run.evaluations["eval", "網頁"]) == [0]


def test_what_others_evaluated_is_shown_beside(tmp_path):
    folder = write_run(tmp_path / "run")
    records = [
        {"kind": "eval", "step": 10, "task": "網頁", "bits_per_byte": 1.75},
        {"kind": "eval", "step": 20, "task": "網頁", "bits_per_byte": 9.0},
        {"kind": "choice", "step": 40, "task": "tmmlu", "accuracy": 0.5},
        {"kind": "new kind", "step": 40, "task": "x", "score": 0.5},
    ]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    run = live(folder)
    # What the run logged itself holds.
    assert run.evaluations["eval", "網頁"] == {0: 2.0, 10: 1.75, 20: 1.5, 40: 1.0}
    assert "choice: accuracy" in snapshot([run], 80) and "50.0%" in snapshot([run], 80)


def test_what_was_measured_otherwise_is_shown_on_a_line_of_its_own(tmp_path):
    folder = write_run(tmp_path / "run")
    log = folder / "metrics.jsonl"
    log.write_text(log.read_text().replace('"seconds"', '"bytes": 900, "seconds"'))
    records = [
        {"kind": "eval", "step": 30, "task": "網頁", "bits_per_byte": 1.25, "bytes": 900},
        {"kind": "eval", "step": 40, "task": "網頁", "bits_per_byte": 0.5, "bytes": 77},
        {"kind": "eval", "step": 40, "task": "en_web", "bits_per_byte": 0.5, "bytes": 77},
        {"kind": "eval", "step": 40, "task": "en_web", "bits_per_byte": 0.6, "bytes": 78},
        *({"kind": "choice", "step": 40, "task": "tmmlu", "shots": n, "accuracy": n / 10}
          for n in (0, 5)),
        {"kind": "generation", "step": 40, "task": "t", "metrics": {"bleu": 1.5, "f1": 2.5}},
    ]  # fmt: skip
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    run = live(folder)
    assert run.evaluations["eval", "網頁"] == {0: 2.0, 20: 1.5, 30: 1.25, 40: 1.0}
    assert run.evaluations["eval", "網頁 (twjax eval)"] == {40: 0.5}
    assert run.evaluations["eval", "en_web (twjax eval, 77 bytes)"] == {40: 0.5}
    assert run.evaluations["eval", "en_web (twjax eval, 78 bytes)"] == {40: 0.6}
    assert run.evaluations["choice", "tmmlu, 0-shot"] == {40: 0.0}
    assert run.evaluations["choice", "tmmlu, 5-shot"] == {40: 0.5}
    assert run.evaluations["generation", "t f1"] == {40: 2.5}
    # The report's names and values are the same.
    read = read_run(folder)
    shown = {k[1]: points for k, points in run.evaluations.items() if k[0] == "eval"}
    assert read.bits_per_byte == shown
    assert set(read.results["choice"]) == {"tmmlu, 0-shot", "tmmlu, 5-shot"}


@settings(max_examples=50, deadline=None)
@given(
    width=st.integers(20, 200),
    height=st.integers(4, 70),
    name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
)
def test_any_screen_holds_what_is_drawn(tmp_path_factory, width, height, name):
    folder = tmp_path_factory.getbasetemp() / "screen"
    run = live(write_run(folder, 25, name))
    lines = view(run, width, height, time.time())
    assert len(lines) <= height
    for text, _ in lines:
        assert width_of(text) <= width
        assert not any(unicodedata.category(character) == "Cc" for character in text)
    assert any("step 25" in text for text, _ in lines)


def test_a_han_character_takes_two_cells():
    assert width_of("臺灣 a") == 6 and width_of("é") == 1 and width_of("ｅ") == 2
    assert (
        cut("臺灣華語", 5) == "臺灣…"
        and cut("臺灣", 4) == "臺灣"
        and cut("a\x1b[31m", 9) == "a [31m"
    )
    assert pad("臺", 4) == "臺  " and width_of(pad("臺灣", 3)) == 3


def test_pictures_show_their_numbers():
    assert spark([1, 2, 3], 10) == "▁▅█" and spark([1, 1, float("nan"), 3, 3], 2) == "▁█"
    assert bar(0.5, 4) == "██░░" and bar(2.0, 3) == "███"
    lines, low, high = plot(range(100), [float(100 - x) for x in range(100)], 10, 4)
    assert (low, high) == (pytest.approx(2.5, abs=3), pytest.approx(98, abs=3))
    # A line that falls: every column has dots, the first at the top, the last at the bottom.
    assert lines[0][0] != "⠀" and lines[-1][-1] != "⠀"
    assert lines[0][-1] == "⠀" == lines[-1][0]
    assert all(any(line[column] != "⠀" for line in lines) for column in range(10))


def test_a_run_that_does_not_exist_is_an_error_or_waited_for(tmp_path, capsys):
    assert main(["watch", str(tmp_path / "run")]) == 1
    assert "--wait waits for it" in capsys.readouterr().err
    waiting = subprocess.Popen(
        [sys.executable, "-m", "twjax", "watch", "--wait", "--every", "0.1", tmp_path / "run"],
        env=tiny.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    write_run(tmp_path / "later")
    (tmp_path / "later").rename(tmp_path / "run")
    assert "step 40 / 60" in waiting.communicate(timeout=60)[0]


# Keys such as Ctrl-C, and changes of size, reach the program only if the terminal is its own.
# A shell in the background hands on that Ctrl-C is ignored; one in front of a terminal doesn't.
OWN_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "twjax", *sys.argv[1:]])
"""


class Terminal:
    """A pseudo-terminal with a program of its own, and what it wrote."""

    def __init__(self, *arguments, size=(24, 80)):
        self.master, inside = pty.openpty()
        self.resize(*size, tell=inside)
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *map(str, arguments)],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=tiny.environment(TERM="xterm"),
            start_new_session=True,
        )
        os.close(inside)
        self.written = b""

    def resize(self, rows, columns, tell=None):
        fcntl.ioctl(tell or self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def read(self, until, seconds=60):
        """Reads until a pattern has been written since the call, or the program has ended."""
        start, end = len(self.written), time.monotonic() + seconds
        while not re.search(until, self.written[start:].decode(errors="ignore"), re.S):
            assert time.monotonic() < end, self.written[start:].decode(errors="ignore")
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.written += os.read(self.master, 65536)
            elif self.process.poll() is not None:
                break
        return self.written[start:].decode(errors="ignore")

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def screens(text):
    """Returns the screens that were drawn as a whole, as lines without colours."""
    drawn = re.findall(r"\x1b\[H(.*?)\x1b\[J", text, re.S)
    return [re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", screen).split("\r\n") for screen in drawn]


def test_the_screen_follows_the_run_and_its_size_and_is_given_back(tmp_path):
    folder = write_run(tmp_path / "run")
    terminal = Terminal("watch", folder, "--every", "0.2")
    try:
        text = terminal.read("step 40 / 60.*\x1b\\[J")
        assert text.index("\x1b[?1049h") < text.index("\x1b[H")
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"kind": "train", "step": 41, "loss": 1.5}) + "\n")
        text = terminal.read("step 41 / 60.*\x1b\\[J")
        assert all(len(s) <= 24 and max(map(width_of, s)) <= 80 for s in screens(text))
        terminal.resize(12, 50)
        terminal.read("\x1b\\[J")
        text = terminal.read("\x1b\\[H.*\x1b\\[J")
        assert len(screens(text)[-1]) <= 12 and max(map(width_of, screens(text)[-1])) <= 50
        os.write(terminal.master, b"\x03")
        text = terminal.read("\x1b\\[\\?1049l")
        assert text.rstrip().endswith("\x1b[?25h\x1b[?1049l") and "Traceback" not in text
        assert terminal.process.wait(30) == 0
    finally:
        terminal.close()


def test_the_terminal_is_given_back_when_the_watcher_is_told_to_end(tmp_path):
    terminal = Terminal("watch", write_run(tmp_path / "run"))
    try:
        terminal.read("\x1b\\[J")
        terminal.process.send_signal(signal.SIGTERM)
        assert "\x1b[?25h\x1b[?1049l" in terminal.read("1049l")
        assert terminal.process.wait(30) == 128 + signal.SIGTERM
    finally:
        terminal.close()


@pytest.mark.slow
def test_a_real_run_is_shown_as_it_was_logged(unbroken):
    done = tiny.twjax("watch", "--once", unbroken[0], env={"COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    last = tiny.records(unbroken[0], "train")[-1]
    steps = tiny.LONG_STEPS
    assert f"step {steps} / {steps}" in done.stdout and "finished" in done.stdout
    assert f"loss {last['loss']:.4f}" in done.stdout
    for record in tiny.records(unbroken[0], "eval")[-2:]:
        row = next(r for r in done.stdout.splitlines() if r.startswith(f"{record['task']} "))
        assert row.split()[2] == f"{record['bits_per_byte']:.4f}"
