"""How long a run takes from the command to its first step, and a wrong one to fail.

Trains the quickstart's base with an empty compilation cache, then again with what the first start
has left there; each without evaluations, and as it is configured (all domains, samples and the
suite are evaluated before step 1). Then three wrong configurations: a name that doesn't exist, a
value that can't be, and rows that aren't there. Needs the quickstart's cached rows: run `make
quickstart` once, or name the folder of another one.

  python benchmarks/startup.py [--folder build/quickstart] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = "configs/runs/quickstart_base.gin"
BARE = ("Evaluation.tasks = ()", "Evaluation.prompts = ()")
# A suite that is bound must be used.
SUITE = re.compile(r"^(Evaluation\.suite|Suite\.\w+) = (\{.*?^\}|.*?)$", re.MULTILINE | re.DOTALL)
WRONG = {
    "a name that doesn't exist": "Model.embed_dims = 128",
    "a value that can't be": "Model.num_kv_heads = 3",
    "rows that aren't there": "Data.cache = '/nowhere'",
}
# First start and wrong configuration, in seconds.
BOUNDS = (20.0, 5.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "quickstart")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    folder = args.folder.resolve()
    if not (folder / "cache").is_dir():
        sys.exit(f"{folder} has no cached rows; run `make quickstart` once, or give --folder.")
    sets = [f"Data.cache = '{folder}/cache'", f"Data.vocabulary = '{folder}/vocab/tw.model'"]
    sets += ["Run.log_every = 1"]
    found: dict[str, list[tuple[float, float]]] = {}

    def note(name: str, taken: tuple[float, float]) -> None:
        found.setdefault(name, []).append(taken)
        load = os.getloadavg()[0]
        print(f"{name}: {taken[0]:.1f} s, {taken[1]:.1f} s of a core (load {load:.1f})", flush=True)

    def median(name: str, place: int = 0) -> float:
        return statistics.median(taken[place] for taken in found[name])

    for _ in range(args.rounds):
        for how, more in (("bare", BARE), ("as configured", ())):
            with tempfile.TemporaryDirectory() as compiled:
                for number in ("first", "second"):
                    note(f"{number} start, {how}", first_step([*sets, *more], compiled, not more))
        for what, binding in WRONG.items():
            note(f"wrong: {what}", failure([*sets, binding]))
    print(f"\n{os.cpu_count()} cores, median of {args.rounds}, slowest in brackets")
    for name, taken in found.items():
        slowest = max(seconds for seconds, _ in taken)
        print(f"{name:32} {median(name):6.1f} s ({slowest:.1f}), {median(name, 1):.1f} s of a core")
    if args.json:
        args.json.write_text(json.dumps(found))
    first, second = (median(f"{n} start, bare") for n in ("first", "second"))
    wrong = max(median(f"wrong: {what}") for what in WRONG)
    if first >= BOUNDS[0] or second >= first or wrong >= BOUNDS[1]:
        sys.exit(f"bounds: first < {BOUNDS[0]:.0f} s, second faster, wrong < {BOUNDS[1]:.0f} s")


def command(bindings: list[str], run_dir: str, config: str = CONFIG) -> list[str]:
    words = [sys.executable, "-m", "twjax", "train", config, "--run-dir", run_dir]
    return words + [part for binding in bindings for part in ("--set", binding)]


def first_step(bindings: list[str], compiled: str, whole: bool) -> tuple[float, float]:
    """Returns the seconds from the command until step 1 is in the run's log, and those of a core.

    The latter say what it is on a machine that does nothing else: no more than these.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "quickstart.gin")
        text = (ROOT / CONFIG).read_text()
        config.write_text(text if whole else SUITE.sub("", text))
        log, errors = pathlib.Path(folder, "run", "metrics.jsonl"), pathlib.Path(folder, "errors")
        began = time.monotonic()
        process = subprocess.Popen(
            command(bindings, f"{folder}/run", str(config)),
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": compiled},
            stdout=subprocess.DEVNULL,
            stderr=errors.open("w"),
        )
        try:
            while not log.exists() or '"kind": "train"' not in log.read_text():
                if process.poll() is not None:
                    sys.exit(f"the run ended with {process.returncode}: {errors.read_text()}")
                time.sleep(0.02)
            seconds = time.monotonic() - began
            before = _cores()
            process.kill()
            process.wait()
            return seconds, _cores() - before
        finally:
            process.kill()
            process.wait()


def _cores() -> float:
    """Returns the seconds of a core that processes which have ended took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def failure(bindings: list[str]) -> tuple[float, float]:
    """Returns the seconds until a wrong run has failed, and those of a core."""
    with tempfile.TemporaryDirectory() as folder:
        began, before = time.monotonic(), _cores()
        done = subprocess.run(
            command(bindings, f"{folder}/run"),
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 1 or "error:" not in done.stderr:
            sys.exit(f"{bindings[-1]} should have failed: {done.stderr}")
        return time.monotonic() - began, _cores() - before


if __name__ == "__main__":
    main()
