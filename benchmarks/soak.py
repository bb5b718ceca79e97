"""A run of two hosts under one fault after another, against the same run left alone.

    PYTHONPATH=. python benchmarks/soak.py [--faults 30] [--steps 240] [--seed 0] [--json FILE]

The tiny run of the tests as two processes (`launch.local`), with rows that lead to losses that are
NaN: single ones, and twice so many in a row that the run goes back. Beside these the faults are, by
chance: kill -9 of a host, at any time or while a checkpoint is written; SIGTERM; SIGSTOP of a host
for a second, or for so long that the watchdog of the other ends it; a file of the newest
checkpoint cut short. After each that ends it the same command is run again. In the end losses and
evaluations must be those of the run left alone, and no start may have lost a checkpoint that was
whole.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from tests import faulty, tiny
from twjax import storage

KINDS = ("kill", "kill in a save", "terminate", "stop", "pause", "cut")
TIMEOUT = 15.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(pathlib.Path(folder), args.steps, args.seed)
        soak.alone()
        result = soak.run(args.faults)
    result["seconds"] = round(time.monotonic() - began)
    print("\n".join(f"{name}: {value}" for name, value in result.items()))
    if args.json:
        storage.write_json(args.json, result)
    return 0 if result["equal"] and not result["problems"] else 1


class Soak:
    """Two runs of one configuration; `chance` decides what happens to the second."""

    def __init__(self, folder: pathlib.Path, steps: int, seed: int):
        self.config = faulty.write_config(folder)
        self.left, self.run_dir = folder / "alone", folder / "run"
        self.log = folder / "log.txt"
        self.steps, self.chance = steps, random.Random(seed)
        self.problems: list[str] = []
        # The host that stands still.
        self.stopped: int | None = None

    def alone(self) -> None:
        """Trains the run that nothing happens to."""
        if code := self.start(self.left).wait():
            raise SystemExit(f"The run left alone ended with {code}:\n{self.log.read_text()}")

    def start(self, run_dir: pathlib.Path) -> subprocess.Popen[str]:
        """Starts the two hosts of a run."""
        limits = (f"Run.steps = {self.steps}", f"Faults.timeout = {TIMEOUT}")
        command = [sys.executable, "-m", "launch.local", "--hosts", "2", "--"]
        with self.log.open("w") as log:
            return subprocess.Popen(
                [*command, *faulty.command(self.config, run_dir, limits)],
                env=tiny.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, faults: int) -> dict:
        """Trains the other to its end; returns what happened and whether it came out the same."""
        done: collections.Counter[str] = collections.Counter()
        starts = 0
        while starts < 4 * faults + 8:
            whole = self.checkpoints()
            process = self.start(self.run_dir)
            starts += 1
            kind = None
            while sum(done.values()) < faults and process.poll() is None:
                kind = self.chance.choice(KINDS)
                target = self.reached() + self.chance.randint(1, max(2 * self.steps // faults, 2))
                tiny.wait_for_step(self.run_dir, min(target, self.steps - 1), process)
                if process.poll() is not None:
                    break
                self.happen(kind, process)
                done[kind] += 1
                # After a pause the same processes go on.
                if kind != "pause":
                    break
            code = self.end(process)
            self.check(kind, code, whole)
            if kind == "cut":
                self.cut()
            print(f"{kind or 'nothing'}: code {code}, at step {self.reached()}", flush=True)
            if code == 0 and storage.read_json_lines(self.run_dir / "ledger.jsonl")[-1][
                "event"
            ] == ("finish"):
                break
        same = [
            (tiny.losses(d), [r for r in tiny.records(d, "eval")])
            for d in (self.left, self.run_dir)
        ]
        clean = [
            (losses, [(r["step"], r["task"], r["bits_per_byte"]) for r in evaluations])
            for losses, evaluations in same
        ]
        ledger = storage.read_json_lines(self.run_dir / "ledger.jsonl")
        return {
            "faults": sum(done.values()),
            "by kind": dict(done),
            "starts": starts,
            "bad steps in the end": sum(r["skipped"] for r in tiny.records(self.run_dir, "train")),
            "rollbacks": sum(event["event"] == "roll_back" for event in ledger),
            "steps": len(clean[0][0]),
            "equal": clean[0] == clean[1] and len(clean[0][0]) == self.steps,
            "problems": self.problems,
            "goodput": ledger[-1].get("goodput", {}).get("seconds"),
        }

    def happen(self, kind: str, process: subprocess.Popen[str]) -> None:
        """Lets a fault happen to a run."""
        hosts = self.hosts(process.pid)
        if kind == "terminate":
            process.terminate()
        elif not hosts:
            process.wait()
        elif kind == "stop":
            self.stopped = self.chance.choice(hosts)
            self.signal(self.stopped, signal.SIGSTOP)
        elif kind == "pause":
            host = self.chance.choice(hosts)
            self.signal(host, signal.SIGSTOP)
            time.sleep(1.0)
            self.signal(host, signal.SIGCONT)
        else:
            folder = self.run_dir / "checkpoints"
            while kind == "kill in a save" and process.poll() is None:
                # What isn't whole has another name.
                if any(not path.name.isdigit() for path in folder.iterdir()):
                    break
            self.signal(self.chance.choice(hosts), signal.SIGKILL)

    def end(self, process: subprocess.Popen[str]) -> int:
        """Returns the exit code of a run; a host that was stopped goes on after a while."""
        try:
            return process.wait(None if self.stopped is None else 3 * TIMEOUT)
        except subprocess.TimeoutExpired:
            assert self.stopped is not None
            self.signal(self.stopped, signal.SIGCONT)
            return process.wait()
        finally:
            self.stopped = None

    def check(self, kind: str | None, code: int, whole: list[int]) -> None:
        """Notes what shouldn't have come of a fault, and a start that didn't go on from the last
        checkpoint.
        """
        hang = "no step has ended for" in self.log.read_text()
        ended = {"pause": (0,), "terminate": (0,), None: (0,)}
        # A host that dies is seen by the launcher, by the other host or by its watchdog.
        wanted = ended.get(kind)
        if wanted is not None and code not in wanted:
            self.problems.append(f"{kind}: code {code}: {self.log.read_text()[-2000:]}")
        if hang and kind in ("pause", "terminate", None):
            self.problems.append(f"{kind}: a watchdog ended the run")
        starts = [
            event["step"]
            for event in storage.read_json_lines(self.run_dir / "ledger.jsonl")
            if event["event"] in ("start", "resume")
        ]
        # A rollback that was begun takes checkpoints away first.
        if whole and starts and starts[-1] < whole[-1] and not self.back_to(starts[-1]):
            self.problems.append(f"went on from {starts[-1]} with a checkpoint of {whole[-1]}")

    def back_to(self, step: int) -> bool:
        events = storage.read_json_lines(self.run_dir / "ledger.jsonl")
        return any(e["event"] == "roll_back" and e["step"] == step for e in events)

    def cut(self) -> None:
        """Cuts the largest file of the newest checkpoint short, where there is one before it."""
        steps = self.checkpoints()
        if len(steps) > 1:
            folder = self.run_dir / "checkpoints" / str(steps[-1])
            files = [path for path in folder.rglob("*") if path.is_file()]
            largest = max(files, key=lambda path: path.stat().st_size)
            os.truncate(largest, largest.stat().st_size // 2)
            (folder / "cut").touch()

    def checkpoints(self) -> list[int]:
        """Returns the steps of checkpoints that are whole."""
        folder = self.run_dir / "checkpoints"
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        whole = [n for n in names if n.isdigit() and not (folder / n / "cut").exists()]
        return sorted(map(int, whole))

    def reached(self) -> int:
        """Returns the last step in the log."""
        path = self.run_dir / "metrics.jsonl"
        records = storage.read_json_lines(path) if path.exists() else []
        return max((record["step"] for record in records), default=0)

    def hosts(self, launcher: int) -> list[int]:
        """Returns the process ids of the hosts that a launcher has started."""
        found = subprocess.run(
            ["pgrep", "-P", str(launcher)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    def signal(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main())
