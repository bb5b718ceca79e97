"""A run of two hosts under one fault after another, against the same run left alone.

    PYTHONPATH=. python benchmarks/soak.py [--faults 32] [--steps 180] [--seed 0] [--json FILE]

The tiny run of the tests as two processes, each a slice of its own that keeps a checkpoint of every
second step in its memory (`Checkpoint.local_every`), started once (`launch.local --restarts`), with
rows that lead to losses that are NaN: single ones, and twice so many in a row that the run goes
back. Beside these come the faults of `KINDS`, each as often as the others, in an order and at steps
that chance decides. Nothing is done about them from outside: the launcher starts the command again,
and the run goes on from what it finds. In the end losses and evaluations must be those of the run
left alone, which keeps nothing in memory, bit for bit, and each start must have gone on from the
newest checkpoint that was whole, or from a later step.

The disk of the run is one of its own (a tmpfs in a mount namespace), which can be full; where the
system allows none, a limit on the size of files takes its place.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from tests import faulty, tiny
from twjax import storage

KINDS = {
    "kill": "kill -9 of a host",
    "save": "kill -9 of a host while a checkpoint is written",
    "terminate": "SIGTERM to one host",
    "stop": "SIGSTOP of a host until it is given up",
    "pause": "SIGSTOP of a host for a second",
    "lose": "kill -9 of a host, and what it kept in its memory gone",
    "cut": "the newest checkpoint cut short, kill -9 of both, what they kept gone",
    "disk": "the disk full during a save and the next start",
}
TIMEOUT = 25.0
# How long a run may take to go on after a fault.
PATIENCE = 240.0
FULL_SECONDS = 8.0
# How a disk of the run's own can be had: "tmpfs" or "limit".
DISK = "SOAK_DISK"
ALONE = ["unshare", "--user", "--map-root-user", "--mount"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=32)
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    if DISK not in os.environ:
        return with_own_disk()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(pathlib.Path(folder), args.steps, args.seed)
        with soak.mounted():
            soak.alone()
            result = soak.run(args.faults)
    result["seconds"] = round(time.monotonic() - began)
    print(soak.table())
    print("\n".join(f"{name}: {value}" for name, value in result.items()))
    if args.json:
        storage.write_json(args.json, result)
    return 0 if result["equal"] and not result["problems"] else 1


def with_own_disk() -> int:
    """Runs this script where it may mount a disk that nobody else sees, if the system lets it."""
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(
            [*ALONE, "mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False
        )
    alone = tried.returncode == 0
    command = [*(ALONE if alone else []), sys.executable, *sys.argv]
    os.environ[DISK] = "tmpfs" if alone else "limit"
    return subprocess.run(command, check=False).returncode


class Soak:
    """Two runs of one configuration; `chance` decides what happens to the second."""

    def __init__(self, folder: pathlib.Path, steps: int, seed: int):
        self.config = faulty.write_config(folder)
        self.own, self.ram = folder / "disk", folder / "ram"
        self.compiled = folder / "compiled"
        self.left, self.run_dir = folder / "alone", self.own / "run"
        self.log = folder / "log.txt"
        self.steps, self.chance = steps, random.Random(seed)
        self.problems: list[str] = []
        self.lost = 0
        # {kind: seconds from the fault until the run went on}
        self.seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.launcher: subprocess.Popen[str] | None = None

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Gives the run its disk."""
        self.own.mkdir()
        if os.environ[DISK] != "tmpfs":
            yield
            return
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(self.own)]
        subprocess.run(mount, check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", str(self.own)], check=True)

    def alone(self) -> None:
        """Trains the run that nothing happens to."""
        if code := self.start(self.left, 0).wait():
            raise SystemExit(f"The run left alone ended with {code}:\n{self.log.read_text()}")

    def start(self, run_dir: pathlib.Path, restarts: int) -> subprocess.Popen[str]:
        """Starts the two hosts of a run."""
        settings = [
            f"Run.steps = {self.steps}",
            f"Faults.timeout = {TIMEOUT}",
            "Mesh.slice = 2",
            "Mesh.fsdp = 1",
        ]
        if run_dir == self.run_dir:
            settings += [
                "Checkpoint.local_every = 2",
                f"Checkpoint.local_directory = {str(self.ram)!r}",
            ]
        command = [
            sys.executable,
            "-m",
            "launch.local",
            "--hosts",
            "2",
            "--restarts",
            str(restarts),
        ]
        with self.log.open("w") as log:
            return subprocess.Popen(
                [*command, "--", *faulty.command(self.config, run_dir, settings)],
                env=tiny.environment(
                    JAX_COMPILATION_CACHE_DIR=str(self.compiled),
                    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
                    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
                ),
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, faults: int) -> dict:
        """Trains the other to its end; returns what happened and whether it came out the same."""
        order = [kind for _ in range(-(-faults // len(KINDS))) for kind in self.shuffled()][:faults]
        self.launcher = process = self.start(self.run_dir, 4 * faults + 8)
        for number, kind in enumerate(order):
            # Evenly over the run, and some of it is left behind the last one.
            step = (number + self.chance.uniform(0.5, 1.0)) * (self.steps - 20) / faults
            self.wait(kind, lambda step=step: self.reached() >= max(step, 1))
            if process.poll() is not None:
                self.problems.append(f"the run ended before fault {number + 1}")
                break
            self.suffer(kind)
        code = process.wait()
        if code:
            self.problems.append(f"code {code}: {self.log.read_text()[-2000:]}")
        found = [self.outcome(run_dir) for run_dir in (self.left, self.run_dir)]
        ledger = storage.read_json_lines(self.run_dir / "ledger.jsonl")
        kept = [event["local"] for event in ledger if "local" in event]
        return {
            "faults": sum(map(len, self.seconds.values())),
            "by kind": {kind: len(seconds) for kind, seconds in self.seconds.items()},
            "attempts": len(self.beginnings()),
            "went on from what hosts kept": len(kept),
            "of these with some of it from a peer": sum(bool(k["peers"]) for k in kept),
            "bad steps in the end": sum(r["skipped"] for r in tiny.records(self.run_dir, "train")),
            "rollbacks": sum(event["event"] == "roll_back" for event in ledger),
            "steps": len(found[1][0]),
            "steps lost beyond the newest whole checkpoint": self.lost,
            "equal": found[0] == found[1] and len(found[0][0]) == self.steps,
            "finished": ledger[-1]["event"] == "finish",
            "disk": os.environ[DISK],
            "problems": self.problems,
            "goodput": ledger[-1].get("goodput", {}).get("seconds"),
        }

    def shuffled(self) -> list[str]:
        return self.chance.sample(list(KINDS), len(KINDS))

    def outcome(self, run_dir: pathlib.Path) -> tuple[dict, list]:
        """Returns a run's losses and evaluations."""
        evaluations = tiny.records(run_dir, "eval")
        return tiny.losses(run_dir), [
            (r["step"], r["task"], r["bits_per_byte"]) for r in evaluations
        ]

    def suffer(self, kind: str) -> None:
        """Lets a fault happen, and waits until the run goes on behind it."""
        process, before, began = self.launcher, len(self.beginnings()), time.monotonic()
        assert process is not None
        hosts, reached = self.hosts(), self.reached()
        whole = getattr(self, kind)(hosts)
        if kind == "pause":
            went_on = lambda: self.reached() > reached  # noqa: E731
        else:
            went_on = lambda: len(self.beginnings()) > before  # noqa: E731
        self.wait(kind, went_on)
        self.seconds[kind].append(time.monotonic() - began)
        starts = self.beginnings()[before:]
        resumed = min(starts, default=None)
        print(f"{kind} at step {reached}: {self.told(starts)}", flush=True)
        if kind == "pause" and starts:
            self.problems.append(f"a pause at step {reached} ended the run")
        # A rollback that was begun takes checkpoints away first.
        elif whole and resumed is not None and not self.back_to(resumed):
            self.lost += max(whole[-1] - resumed, 0)
            if resumed < whole[-1]:
                self.problems.append(f"{kind}: went on from {resumed} instead of {whole[-1]}")

    def told(self, starts: list[int]) -> str:
        return f"went on from step {', '.join(map(str, starts))}" if starts else "went on"

    # What happens, each with the hosts' process ids; they return the checkpoints that were whole.

    def kill(self, hosts: list[int]) -> list[int]:
        whole = self.checkpoints()
        self.signal(self.chance.choice(hosts), signal.SIGKILL)
        return whole

    def save(self, hosts: list[int]) -> list[int]:
        folder = self.run_dir / "checkpoints"
        # What isn't whole has another name.
        self.wait("save", lambda: any(not n.name.isdigit() for n in folder.glob("*")), 0.0005)
        return self.kill(hosts)

    def terminate(self, hosts: list[int]) -> list[int]:
        whole = self.checkpoints()
        self.signal(self.chance.choice(hosts), signal.SIGTERM)
        return whole

    def stop(self, hosts: list[int]) -> list[int]:
        whole = self.checkpoints()
        self.signal(self.chance.choice(hosts), signal.SIGSTOP)
        return whole

    def pause(self, hosts: list[int]) -> list[int]:
        host = self.chance.choice(hosts)
        self.signal(host, signal.SIGSTOP)
        time.sleep(1.0)
        self.signal(host, signal.SIGCONT)
        return []

    def lose(self, hosts: list[int]) -> list[int]:
        whole, number = self.checkpoints(), self.chance.randrange(len(hosts))
        # What is gone stays so: nobody writes it again meanwhile.
        for host in hosts:
            self.signal(host, signal.SIGSTOP)
        self.forget(number)
        self.signal(hosts[number], signal.SIGKILL)
        return whole

    def cut(self, hosts: list[int]) -> list[int]:
        """Cuts the largest file of the newest checkpoint short, where there is one before it."""
        # Nothing is saved, removed or logged meanwhile.
        for host in hosts:
            self.signal(host, signal.SIGSTOP)
        steps = self.checkpoints()
        if len(steps) > 1:
            newest = self.run_dir / "checkpoints" / str(steps.pop())
            files = [path for path in newest.rglob("*") if path.is_file()]
            largest = max(files, key=lambda path: path.stat().st_size)
            os.truncate(largest, largest.stat().st_size // 2)
        for number, host in enumerate(hosts):
            self.forget(number)
            self.signal(host, signal.SIGKILL)
        return steps

    def forget(self, number: int) -> None:
        """Removes what a host has kept in its memory."""
        for folder in self.ram.glob(f"run-*/{number}"):
            shutil.rmtree(folder, ignore_errors=True)

    def disk(self, hosts: list[int]) -> list[int]:
        whole = self.checkpoints()
        filler = self.own / "filler"
        if os.environ[DISK] == "tmpfs":
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
        else:
            for host in hosts:
                with contextlib.suppress(ProcessLookupError):
                    hard = resource.prlimit(host, resource.RLIMIT_FSIZE)[1]
                    resource.prlimit(host, resource.RLIMIT_FSIZE, (4096, hard))
        self.wait("disk", lambda: not set(hosts) & set(self.hosts()))
        # The next start finds it full too.
        time.sleep(FULL_SECONDS)
        filler.unlink(missing_ok=True)
        return whole

    def wait(self, kind: str, holds: Callable[[], bool], every: float = 0.02) -> None:
        """Returns when something holds or the launcher has ended; notes where it takes too long."""
        until = time.monotonic() + PATIENCE
        while not holds() and self.launcher is not None and self.launcher.poll() is None:
            if time.monotonic() > until:
                self.problems.append(f"{kind}: nothing for {PATIENCE:.0f} seconds")
                return
            time.sleep(every)

    def beginnings(self) -> list[int]:
        """Returns the steps that the run's starts went on from."""
        path = self.run_dir / "ledger.jsonl"
        events = storage.read_json_lines(path) if path.exists() else []
        return [e["step"] for e in events if e["event"] in ("start", "resume")]

    def back_to(self, step: int) -> bool:
        events = storage.read_json_lines(self.run_dir / "ledger.jsonl")
        return any(e["event"] == "roll_back" and e["step"] == step for e in events)

    def checkpoints(self) -> list[int]:
        """Returns the steps of checkpoints that are there under their names."""
        folder = self.run_dir / "checkpoints"
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdigit())

    def reached(self) -> int:
        """Returns the last step in the log."""
        path = self.run_dir / "metrics.jsonl"
        records = storage.read_json_lines(path) if path.exists() else []
        return max((record["step"] for record in records), default=0)

    def hosts(self) -> list[int]:
        """Returns the process ids of the hosts that the launcher has started."""
        assert self.launcher is not None
        found = subprocess.run(
            ["pgrep", "-P", str(self.launcher.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    def signal(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def table(self) -> str:
        """Returns the faults by kind, as a table of Markdown."""
        lines = ["| fault | times | seconds until it went on: median, longest |", "|---|---|---|"]
        for kind, seconds in self.seconds.items():
            if seconds:
                median = sorted(seconds)[len(seconds) // 2]
                lines.append(
                    f"| {KINDS[kind]} | {len(seconds)} | {median:.0f}, {max(seconds):.0f} |"
                )
        return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
