"""Runs one twjax command as several processes on this machine, joined like the hosts of a pod.

  python -m launch.local --hosts 2 --devices-per-host 4 -- train CONFIG --run-dir DIR

Each process gets its own CPU devices and finds the others through JAX's coordination service.
The first process that fails ends the others; its exit code is the command's. Ctrl-C, SIGTERM and a
terminal that closes ask all of them to stop; the second Ctrl-C or SIGTERM kills them.

With --restarts N a command that fails, or that was asked to stop by somebody else (a run whose
host got SIGTERM), is run again up to N times: at once after it went well for a while, with longer
and longer pauses (1 s to 60 s) where it fails soon.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from twjax.parallel.distributed import COORDINATOR, NUM_PROCESSES, PROCESS_ID, STOP_CODE

# Processes that wait for one that is gone get this long before they are killed.
GRACE_SECONDS = 5.0
# What a run that was asked to stop ends with here: it has saved, and isn't finished.
STOPPED = 76
# Before a command is run again. One that went well for ten times as long as the last pause begins
# with the first one again.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.local",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hosts", type=int, required=True, help="number of processes")
    parser.add_argument(
        "--devices-per-host", type=int, default=1, help="CPU devices of each (default: 1)"
    )
    parser.add_argument(
        "--restarts", type=int, default=0, help="run it again up to so often (default: 0)"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and a twjax command")
    args = parser.parse_args(arguments)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if args.hosts < 1 or args.devices_per_host < 1 or args.restarts < 0 or not command:
        parser.error(
            "give --hosts and --devices-per-host of at least 1, --restarts of at least 0, and "
            "-- COMMAND"
        )
    twjax = [sys.executable, "-m", "twjax", *command]
    return run(twjax, args.hosts, args.devices_per_host, args.restarts)


def run(command: Sequence[str], hosts: int, devices: int, restarts: int = 0) -> int:
    """Runs a command as `hosts` processes, again after failures up to `restarts` times."""
    asked = _listen()
    again = {STOP_CODE: str(STOPPED)} if restarts else {}
    pause = FIRST_PAUSE
    for left in range(restarts, -1, -1):
        began = time.monotonic()
        code = together(command, environments(hosts, devices, **again), asked)
        if asked or not left or code == 0:
            break
        if time.monotonic() - began >= 10 * pause:
            pause = FIRST_PAUSE
        what = "was asked to stop" if code == STOPPED else f"ended with exit code {code}"
        print(f"The command {what}: again in {pause:.0f} s, {left} times at most.", flush=True)
        _rest(pause, asked)
        if asked:
            break
        pause = min(2 * pause, LONGEST_PAUSE)
    # It has saved, as without --restarts.
    return 0 if code == STOPPED else code


def environments(hosts: int, devices: int, **more: str) -> list[dict[str, str]]:
    """Returns the environments of processes that join each other."""
    port = _free_port()
    return [
        {
            **os.environ,
            **more,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            COORDINATOR: f"127.0.0.1:{port}",
            NUM_PROCESSES: str(hosts),
            PROCESS_ID: str(number),
        }
        for number in range(hosts)
    ]


def _listen() -> list[int]:
    """Returns a list that gets the signals that ask this process to stop."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # What nohup ignores stays ignored.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: asked.append(number))
    return asked


def _rest(seconds: float, asked: list[int]) -> None:
    until = time.monotonic() + seconds
    while not asked and time.monotonic() < until:
        time.sleep(0.1)


def together(
    command: Sequence[str],
    environments: Sequence[Mapping[str, str]],
    asked: list[int] | None = None,
) -> int:
    """Runs a command once in each environment, all at once; returns its exit code.

    SIGINT, SIGTERM and SIGHUP ask all processes to stop, by SIGTERM. The second of the first two
    kills them. A SIGHUP only asks: a terminal that closes may send several, and SIGTERM after them.
    `asked` is where these signals come in; without it they are listened to here.
    """
    if asked is None:
        asked = _listen()
    processes = [
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A terminal's Ctrl-C reaches only this process, which passes it on.
            start_new_session=True,
        )
        for environment in environments
    ]
    readers = [
        threading.Thread(target=_print, args=(number, process.stdout), daemon=True)
        for number, process in enumerate(processes)
    ]
    for reader in readers:
        reader.start()
    code = _wait(processes, asked)
    for reader in readers:
        reader.join(timeout=5)
    return code


def _wait(processes: list[subprocess.Popen[bytes]], asked: list[int]) -> int:
    """Returns 0 when all processes have ended well, STOPPED where some were asked to stop, else the
    first bad code.
    """
    told = 0
    # All are asked: one that is never asked has never ended.
    while any([process.poll() is None for process in processes]):
        while told < len(asked):
            again = asked[told] != signal.SIGHUP and set(asked[:told]) - {signal.SIGHUP}
            for process in processes:
                process.send_signal(signal.SIGKILL if again else signal.SIGTERM)
            told += 1
        # Who was asked to stop has saved, and so do the others.
        failed = [p.returncode for p in processes if p.returncode not in (None, 0, STOPPED)]
        if failed:
            _end(processes)
            return _exit_code(failed[0])
        time.sleep(0.1)
    return max(_exit_code(process.returncode) for process in processes)


def _exit_code(code: int) -> int:
    """A shell's exit code: 128 + n for a process that signal n ended."""
    return 128 - code if code < 0 else code


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    # The others wait for the lost one in a collective: they can't save, only stop.
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _print(number: int, stream: IO[bytes] | None) -> None:
    """Passes on what a process says, byte for byte, while anybody reads it."""
    for line in stream or ():
        try:
            sys.stdout.buffer.write(f"[host {number}] ".encode() + line)
            sys.stdout.buffer.flush()
        except OSError:
            # The terminal is closed, or the pipe: no process may wait for it, nor fail at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
