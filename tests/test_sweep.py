"""Sweeps: points from a grid, a kill in the middle, what is refused, and the page of results."""

from __future__ import annotations

import concurrent.futures
import csv
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import browser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from twjax import config
from twjax.cli import main
from twjax.config import ConfigError
from twjax.config.sweep import Sweep, shared
from twjax.sweeps import anneal, page, results, runner
from twjax.sweeps.points import expand
from twjax.training import ledger

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
STEPS = 40
SWEEP = """
Sweep.base = '{base}'
Sweep.fixed = {{
    'Run.steps': {steps}, 'Run.log_every': 1, 'Checkpoint.every': 5, 'Evaluation.every': 10,
    'Mixture.stages': ((0, {{'a': 1.0}}),), 'Mixture.max_epochs': None,
}}
Sweep.shares = {{'replay': {shares!r}}}
Sweep.parts = {{'replay': {{'b': 1.0}}}}
"""

BUDGET = """
Run.budget = @Budget()
Budget.mode = {mode!r}
Budget.allowed = {{'b': 0.1}}
Budget.replay = {{'b': 'b'}}
"""


def write_sweep(folder: pathlib.Path, shares=SHARES) -> pathlib.Path:
    """Writes the tiny run, its rows, and a sweep over how much of task b it reads."""
    base = tiny.write_config(folder)
    path = folder / "sweep.gin"
    path.write_text(SWEEP.format(base=base, steps=STEPS, shares=shares))
    return path


def write_plain(folder: pathlib.Path, *lines: str) -> pathlib.Path:
    """Writes a sweep over the tiny run, without its rows."""
    (folder / "tiny.gin").write_text(tiny.CONFIG.format(cache=folder / "cache"))
    path = folder / "plain.gin"
    path.write_text("\n".join([f"Sweep.base = '{folder / 'tiny.gin'}'", *lines]))
    return path


def points_of(path: pathlib.Path):
    return expand(config.load(Sweep, [path]).value)


weights = st.dictionaries(
    st.sampled_from(["a", "b", "c", "x", "y"]), st.floats(0.01, 5), min_size=1, max_size=5
)


@given(
    stages=st.lists(weights, min_size=1, max_size=3),
    share=st.floats(0, 1),
    part=st.dictionaries(st.sampled_from(["x", "y", "z"]), st.floats(0.1, 5), min_size=1),
)
def test_a_part_has_its_share_of_every_stage_and_the_others_keep_their_proportions(
    stages, share, part
):
    given_stages = tuple((number, stage) for number, stage in enumerate(stages))
    if any(stage.keys() <= part.keys() for stage in stages):
        if share < 1 - 1e-9:
            with pytest.raises(ValueError, match=r"no task outside of Sweep\.parts"):
                shared(given_stages, {"p": share}, {"p": part})
        return
    for (start, after), (number, before) in zip(
        shared(given_stages, {"p": share}, {"p": part}), given_stages, strict=True
    ):
        assert start == number
        assert sum(after.values()) == pytest.approx(1, abs=1e-6)
        assert sum(after.get(task, 0) for task in part) == pytest.approx(share, abs=1e-6)
        others = [task for task in before if task not in part]
        for one in others:
            whole = sum(before[task] for task in others)
            assert after.get(one, 0) == pytest.approx((1 - share) * before[one] / whole, abs=1e-6)


def test_points_are_all_combinations_with_names_to_read(tmp_path):
    path = write_plain(
        tmp_path,
        "Sweep.fixed = {'Run.steps': 9}",
        "Sweep.points = ({'Schedule.kind': 'cosine'}, {'Schedule.kind': 'linear'})",
        "Sweep.grid = {'Schedule.peak': (1e-4, 3e-4), 'Optimizer.clip_norm': (None, 1.0)}",
        "Sweep.shares = {'replay': (0.25,)}",
        "Sweep.parts = {'replay': {'b': 1.0}}",
    )
    points = points_of(path)
    assert len({point.name for point in points}) == 8
    assert points[1].name == "kind=cosine,peak=0.0001,clip_norm=1,replay=0.25"
    for point in points:
        run, swept = point.run.value, point.settings
        assert run.steps == 9
        assert run.schedule.kind == swept["kind"] and run.schedule.peak == swept["peak"]
        assert run.optimizer.clip_norm == swept["clip_norm"]
        assert [stage for _, stage in run.data.mixture.stages] == [{"a": 0.75, "b": 0.25}] * 2
        again = config.load(config.Run, [point.config], point.overrides)
        assert again.value == run


def test_fields_of_one_name_keep_their_class(tmp_path):
    lines = "Sweep.grid = {'Run.seed': (1, 2), 'Mixture.seed': (3,)}"
    names = [point.name for point in points_of(write_plain(tmp_path, lines))]
    assert names == ["Run.seed=1,Mixture.seed=3", "Run.seed=2,Mixture.seed=3"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("Sweep.grid = {}",), "nothing is swept"),
        (("Sweep.grid = {'Schedule.peak': ()}",), "Sweep.grid of Schedule.peak is empty"),
        (("Sweep.grid = {'peak': (1.0,)}",), "must be CLASS.FIELD"),
        (
            ("Sweep.grid = {'Schedule.peek': (1e-3,)}",),
            "Point peek=0.001: --set: Schedule has no field peek. Did you mean peak?",
        ),
        (
            ("Sweep.grid = {'Schedule.peak': (1e-3, -1.0)}",),
            "Point peak=-1: --set: Schedule.peak (-1.0) must be positive.",
        ),
        (("Sweep.grid = {'Schedule.peak': (1e-3, 0.001)}",), "more than once (peak=0.001)"),
        (
            ("Sweep.grid = {'Run.seed': (1,)}", "Sweep.fixed = {'Run.seed': 2}"),
            "Run.seed is bound twice",
        ),
        (("Sweep.shares = {'replay': (0.1,)}",), "every swept share needs the tasks"),
        (
            ("Sweep.shares = {'r': (1.2,)}", "Sweep.parts = {'r': {'b': 1.0}}"),
            "must be between 0 and 1",
        ),
        (
            ("Sweep.shares = {'r': (0.2,)}", "Sweep.parts = {'r': {'a': 1.0, 'b': 1.0}}"),
            "which has no task outside of Sweep.parts",
        ),
        (
            (
                "Sweep.shares = {'r': (0.2,), 'q': (0.1,)}",
                "Sweep.parts = {'r': {'b': 1.0}, 'q': {'b': 1.0}}",
            ),
            "b is a part of both r and q",
        ),
        (("Sweep.sheres = {}",), "Sweep has no field sheres. Did you mean shares?"),
    ],
)
def test_a_wrong_sweep_is_one_clear_line(tmp_path, lines, message):
    with pytest.raises(ConfigError) as error:
        points_of(write_plain(tmp_path, *lines))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_shares_that_a_budget_would_change_are_not_swept(tmp_path):
    shares = "Sweep.shares = {'replay': (0.1, 0.2)}", "Sweep.parts = {'replay': {'b': 1.0}}"
    path = write_plain(tmp_path, *shares)
    base = tmp_path / "tiny.gin"
    base.write_text(base.read_text() + BUDGET.format(mode="steer"))
    with pytest.raises(
        ConfigError, match=r"Point replay=0\.1: Budget\.mode is 'steer', which sets"
    ):
        points_of(path)
    path.write_text(path.read_text() + "\nSweep.fixed = {'Budget.mode': 'observe'}\n")
    assert len(points_of(path)) == 2


def test_rows_that_are_missing_are_told_before_anything_starts(tmp_path, capsys):
    path = write_plain(tmp_path, "Sweep.grid = {'Run.seed': (1, 2, 3)}")
    assert main(["sweep", "run", str(path), "--output", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "no cached rows of task a" in told and "(seed=1 and 2 more)" in told
    assert not (tmp_path / "out").exists()


def begin(point: runner.Point, out: pathlib.Path, *events: str) -> pathlib.Path:
    """Writes what a run leaves that was begun as a point is."""
    run_dir = out / point.name
    run_dir.mkdir(parents=True)
    (run_dir / "config.gin").write_text(point.run.text)
    for event in events:
        ledger.append(run_dir, event, 40)
    return run_dir


def test_a_point_that_was_begun_with_other_settings_is_refused_before_anything_starts(
    tmp_path, capsys
):
    path, out = write_sweep(tmp_path, (0.1, 0.2, 0.3)), tmp_path / "out"
    for point, event in zip(points_of(path)[1:], ("start", "finish"), strict=True):
        begin(point, out, "start", event)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    sweep = ["sweep", "run", str(path), "--output", str(out)]
    fixed = path.read_text().splitlines()
    edits = "'Schedule.peak': 0.05, 'Mixture.seed': 3,"
    path.write_text("\n".join([*fixed[:3], edits, *fixed[3:]]))
    for more in ((), ("--dry-run",)):
        assert main([*sweep, *more]) == 1
        told = capsys.readouterr().err
        assert f"{out}/replay=0.2: was begun with other settings: " in told
        assert "data.mixture.seed 0 -> 3; schedule.peak 0.01 -> 0.05 (and 1 more point)" in told
        assert "Use another --output, or delete the points." in told
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_settings_that_change_no_result_do_not_make_another_point(tmp_path):
    path = write_sweep(tmp_path, (0.1,))
    [point] = points_of(path)
    run_dir = begin(point, tmp_path / "out", "start", "finish")
    neutral = "'Checkpoint.keep': 2, 'Mesh.data': 2, 'Run.init_tolerance': 0.5,"
    text = path.read_text()
    path.write_text(text.replace("'Run.log_every': 1,", f"'Run.log_every': 7, {neutral}"))
    [edited] = points_of(path)
    assert edited.run.value != point.run.value
    assert runner.is_finished(edited, run_dir)
    runner.refuse_edited([edited], tmp_path / "out")
    # A run that rolls back does so to its checkpoints.
    budget = BUDGET.format(mode="steer") + "Budget.beyond = 'roll_back'\n"
    write_plain(tmp_path, "Sweep.grid = {'Run.seed': (1,)}")
    base = tmp_path / "tiny.gin"
    base.write_text(base.read_text() + budget + "Checkpoint.every = 6\n")
    [steered] = points_of(tmp_path / "plain.gin")
    begin(steered, tmp_path / "steered")
    base.write_text(base.read_text() + "Checkpoint.every = 12\n")
    [edited] = points_of(tmp_path / "plain.gin")
    with pytest.raises(ConfigError, match=r"checkpoint.every 6 -> 12. Use another --output"):
        runner.refuse_edited([edited], tmp_path / "steered")


def test_a_launch_template_becomes_words():
    [template] = ["ssh host 'cd x && twjax train {config} --run-dir {run_dir} {overrides}' {slot}"]
    runner.check_template(template)
    point = runner.Point("p", {}, (), "c.gin", ("A.b = 'x y'",), None, ("--decay", "3"))
    assert runner.command(point, pathlib.Path("d/p"), template, 1) == [
        "ssh",
        "host",
        "cd x && twjax train c.gin --run-dir d/p --set 'A.b = '\"'\"'x y'\"'\"'' --decay 3",
        "1",
    ]
    words = runner.command(point, pathlib.Path("d/p"), "run {config} {run_dir} {overrides}", 0)
    assert words == ["run", "c.gin", "d/p", "--set", "A.b = 'x y'", "--decay", "3"]
    for wrong, message in (
        ("run {config} {run_dir}", "lacks {overrides}"),
        ("{config} {run_dir} {overrides} {gpu}", "has {gpu}"),
        ("'{config} {run_dir} {overrides}", "No closing quotation"),
    ):
        with pytest.raises(ConfigError, match=message):
            runner.check_template(wrong)


def test_a_point_that_fails_is_told_and_the_others_go_on(tmp_path, capsys):
    path, out = write_sweep(tmp_path, (0.1, 0.2)), tmp_path / "out"
    launch = "sh -c 'echo the disk is gone >&2; exit 3' {config} {run_dir} {overrides}"
    arguments = ["sweep", "run", str(path), "--output", str(out), "--launch", launch]
    assert main(arguments) == 1
    told = capsys.readouterr().err
    for name in ("replay=0.1", "replay=0.2"):
        assert f"{name}: not finished, exit code 3:\n  the disk is gone" in told
    written = json.loads((out / "results.json").read_text())
    assert [point["state"] for point in written["points"]] == ["failed", "failed"]


def start(path: pathlib.Path, out: pathlib.Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "twjax", "sweep", "run", str(path), "--output", str(out), *more],
        env=tiny.environment(), cwd=tiny.REPO, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def children(process: int) -> list[int]:
    text = pathlib.Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in text.split()]


def wait_while_trained(run_dir: pathlib.Path) -> None:
    while runner._is_held(run_dir / ".lock"):
        time.sleep(0.05)


# What a point is to a sweep: it begins, and finishes when it is told to.
POINT = """
import pathlib, sys, time
run_dir, slot, told = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
def tell(what):
    with told.open("a") as file:
        file.write(f"{run_dir.name} {what}\\n")
tell(f"begins in {slot}")
for _ in range(3000):
    if (run_dir / "go").exists():
        break
    time.sleep(0.01)
tell("ends")
with (run_dir / "ledger.jsonl").open("a") as file:
    file.write('{"event": "finish", "step": 40}\\n')
"""
RUNNER = """
import pathlib, sys
from twjax import config
from twjax.config.sweep import Sweep
from twjax.sweeps.points import expand
from twjax.sweeps.runner import Runner
path, out, template, jobs = sys.argv[1:]
points = expand(config.load(Sweep, [path]).value)
Runner(pathlib.Path(out), points, jobs=int(jobs), template=template).run()
"""


class World:
    """Points that a test tells when to finish, and what they told."""

    def __init__(self, folder: pathlib.Path, count: int):
        base, self.out, self.told = folder / "tiny.gin", folder / "out", folder / "told"
        base.write_text(tiny.CONFIG.format(cache=folder / "cache"))
        self.path = folder / "sweep.gin"
        self.path.write_text(SWEEP.format(base=base, steps=STEPS, shares=SHARES[:count]))
        self.points = points_of(self.path)
        for point in self.points:
            begin(point, self.out, "start")
        (folder / "point.py").write_text(POINT)
        words = [sys.executable, folder / "point.py", "{run_dir}", "{slot}", self.told]
        self.template = " ".join(map(str, [*words, "{config}", "{overrides}"]))

    def lines(self) -> list[str]:
        return self.told.read_text().splitlines() if self.told.exists() else []

    def wait_for(self, line: str) -> None:
        end = time.monotonic() + 30
        while line not in self.lines():
            assert time.monotonic() < end, (line, self.lines())
            time.sleep(0.01)

    def go(self, *names: str) -> None:
        for name in names:
            (self.out / name / "go").touch()

    def run(self, jobs: int, meanwhile) -> None:
        """Runs a sweep to its end while something else happens."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            happens = pool.submit(meanwhile)
            sweep = runner.Runner(self.out, self.points, jobs=jobs, template=self.template)
            assert sweep.run()
            happens.result()


@pytest.mark.parametrize("jobs", [1, 2])
def test_points_that_outlive_their_sweep_keep_their_job_and_their_slot(tmp_path, jobs):
    world = World(tmp_path, 4)
    first, second, third, fourth = (point.name for point in world.points)
    sweep = subprocess.Popen(
        [sys.executable, "-c", RUNNER, world.path, world.out, world.template, "2"],
        env=tiny.environment(), cwd=tiny.REPO,
    )  # fmt: skip
    world.wait_for(f"{second} begins in 1")
    world.go(first)
    world.wait_for(f"{third} begins in 0")
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    # The second ends without a sweep, the third goes on, and is one that the sweep no longer has.
    world.go(second)
    world.wait_for(f"{second} ends")
    world.points = [point for point in world.points if point.name != third]

    def meanwhile():
        try:
            if jobs == 2:
                world.wait_for(f"{fourth} begins in 1")
                assert f"{third} ends" not in world.lines()
            else:
                time.sleep(0.5)
                assert not any(line.startswith(f"{fourth} begins") for line in world.lines())
        finally:
            world.go(third, fourth)

    world.run(jobs, meanwhile)
    if jobs == 1:
        assert world.lines()[-3:] == [f"{third} ends", f"{fourth} begins in 0", f"{fourth} ends"]
    assert sum("begins" in line for line in world.lines()) == 4


def test_a_point_that_somebody_trains_is_one_of_the_jobs(tmp_path):
    world = World(tmp_path, 2)
    first, second = (point.name for point in world.points)
    with (world.out / first / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def meanwhile():
            world.go(second)
            time.sleep(0.5)
            before = world.lines()
            ledger.append(world.out / first, "finish", STEPS)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert before == []

        world.run(1, meanwhile)
    assert world.lines() == [f"{second} begins in 0", f"{second} ends"]


@pytest.mark.slow
def test_a_sweep_survives_stop_and_kill_and_repeats_nothing(tmp_path):
    path, out = write_sweep(tmp_path), tmp_path / "out"
    names = [point.name for point in points_of(path)]

    def first_lines():
        return {n: (out / n / "ledger.jsonl").read_bytes() for n in names if finished(n)}

    def finished(name):
        events = ledger.read(out / name)
        return bool(events) and events[-1]["event"] == "finish"

    # SIGTERM in the second point: it saves, and the sweep says that it isn't done.
    sweep = start(path, out)
    tiny.wait_for_step(out / names[1], 8, sweep)
    sweep.send_signal(signal.SIGTERM)
    told = sweep.communicate(timeout=120)[0]
    assert sweep.returncode == 1, told
    assert finished(names[0]) and ledger.read(out / names[1])[-1]["event"] == "stop"
    assert not (out / names[2]).exists()
    # SIGKILL in the third, of the sweep alone: the run that it leaves is waited for.
    before = first_lines()
    sweep = start(path, out)
    tiny.wait_for_step(out / names[2], 1, sweep)
    sweep.kill()
    sweep.wait()
    # SIGKILL in the fourth, of the sweep and its run.
    sweep = start(path, out)
    tiny.wait_for_step(out / names[3], 12, sweep)
    for child in (sweep.pid, *children(sweep.pid)):
        os.kill(child, signal.SIGKILL)
    sweep.communicate()
    wait_while_trained(out / names[3])
    assert finished(names[1]) and finished(names[2]) and not finished(names[3])
    before |= first_lines()
    times = {n: (out / n / "checkpoints").stat().st_mtime_ns for n in before}
    sweep = start(path, out)
    told = sweep.communicate(timeout=300)[0]
    assert sweep.returncode == 0, told
    assert all(map(finished, names))
    for name, text in before.items():
        assert (out / name / "ledger.jsonl").read_bytes() == text
        assert (out / name / "checkpoints").stat().st_mtime_ns == times[name]
    # A point that was stopped, and the one that was killed, measured what unbroken ones do.
    other = write_sweep(tmp_path / "again", (SHARES[1], SHARES[3]))
    sweep = start(other, tmp_path / "unbroken", "--jobs", "2")
    told = sweep.communicate(timeout=300)[0]
    assert sweep.returncode == 0, told
    broken, unbroken = results.read(out), results.read(tmp_path / "unbroken")
    assert [point.name for point in unbroken.points] == [names[1], names[3]]
    for point in unbroken.points:
        same = next(p for p in broken.points if p.name == point.name)
        assert same.outcomes == point.outcomes
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [row["point"] for row in rows] == names
    assert {row["state"] for row in rows} == {"finished"}
    for row, point in zip(rows, broken.points, strict=True):
        assert float(row["a"]) == point.last("a") and float(row["replay"]) in SHARES
    fit = ["sweep", "fit", str(out), "--task", "b", "--share", "replay", "--hold-out", "0.3"]
    assert main([*fit, "--at", "0.25", "--allowed", "b=0.5"]) == 0
    assert (out / "law.html").is_file()


@pytest.mark.slow
def test_a_checkpoint_is_annealed_on_each_candidate(tmp_path):
    trunk, out = tmp_path / "trunk", tmp_path / "out"
    plain = tiny.write_config(tmp_path)
    sets = ("Schedule.kind = 'wsd'", "Mixture.stages = ((0, {'a': 1.0}),)", "Run.steps = 8")
    sets = [part for binding in (*sets, "Checkpoint.every = 4") for part in ("--set", binding)]
    done = tiny.twjax("train", plain, "--run-dir", trunk, *sets)
    assert done.returncode == 0, done.stderr
    arguments = ["sweep", "anneal", f"{trunk}@4", "--candidates", "b", "--steps", "80"]
    done = tiny.twjax(*arguments, "--share", "0.5", "--output", out)
    assert done.returncode == 0, done.stderr
    for candidate, share in (("none", 0.0), ("b", 0.5)):
        run_dir = out / f"candidate={candidate}"
        events = ledger.read(run_dir)
        assert (events[0]["event"], events[0]["step"]) == ("branch", 4)
        assert (events[-1]["event"], events[-1]["step"]) == ("finish", 84)
        rows = tiny.records(run_dir, "train")[-1]["rows"]
        assert rows.get("b", 0) == pytest.approx(share * 80 * 8, abs=1)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["candidate", "state", "a", "b"]
    found = results.read(out)
    change = found.points[1].last("b") - found.points[0].last("b")
    assert change < 0 and f"({change:+.4f})" in lines[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trunk": "run"}, "give the run and the step"),
        ({"trunk": "run@5"}, "no checkpoint of step 5; has [4]"),
        ({"share": "1.5"}, "--share (1.5) must be above 0 and below 1"),
        ({}, "has no decay of its own"),
    ],
)
def test_a_probe_that_cannot_be_made(tmp_path, capsys, change, message):
    run = tmp_path / "run"
    (run / "checkpoints" / "4").mkdir(parents=True)
    (run / "config.gin").write_text(tiny.CONFIG.format(cache=tmp_path))
    about = {"trunk": "run@4", "share": "0.3"} | change
    asked = ["--candidates", "b", "--steps", "3", "--share", about["share"]]
    trunk = str(tmp_path / about["trunk"])
    assert main(["sweep", "anneal", trunk, *asked, "--output", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def write_trunk(folder: pathlib.Path, step: int, more: str = "") -> str:
    """Writes what is read of a 'wsd' trunk with a checkpoint; returns "RUN@STEP"."""
    run = folder / "trunk"
    (run / "checkpoints" / str(step)).mkdir(parents=True)
    text = tiny.CONFIG.format(cache=folder).replace("'cosine'", "'wsd'")
    (run / "config.gin").write_text(text + more)
    return f"{run}@{step}"


@pytest.mark.parametrize("step", [5, 6, 7])
def test_a_branch_reads_on_what_its_trunk_does(tmp_path, step):
    trunk = anneal.Trunk.parse(write_trunk(tmp_path, step))
    plain, candidate = anneal.branches(trunk, ["c"], share=0.3, steps=4)
    own, mine = trunk.run.value.reading, plain.run.value.reading
    assert own.first_difference(mine) in (None, step)
    # At step 6 the trunk's second stage begins.
    weights = {"a": 0.2, "b": 0.8} if step >= 6 else {"a": 0.7, "b": 0.3}
    assert mine.stages[-1] == (step, weights)
    rest = {task: pytest.approx(0.7 * weight) for task, weight in weights.items()}
    assert candidate.run.value.reading.stages[-1] == (step, rest | {"c": 0.3})


def look(action: str) -> dict:
    return {"used": {"b": 0.2}, "shares": {"b": 0.4}, "action": action, "rate": 1.0, "beyond": 0}


def test_a_trunk_whose_shares_a_budget_sets_is_no_probe(tmp_path, capsys):
    asked = ["--candidates", "c", "--steps", "4", "--output", str(tmp_path / "out")]
    steered = write_trunk(tmp_path / "steered", 6, BUDGET.format(mode="steer"))
    assert main(["sweep", "anneal", steered, *asked]) == 1
    told = capsys.readouterr().err
    assert "Budget.mode is 'steer', so branches would read the shares that the budget" in told
    assert "Probe from a run with Budget.mode = 'observe', or without a budget" in told
    trunk = anneal.Trunk.parse(write_trunk(tmp_path, 6, BUDGET.format(mode="observe")))
    events = (
        # What came before the start, what only looked, and what was set behind the checkpoint.
        ("budget", 0, look("steer")), ("start", 0, {}), ("budget", 0, look("hold")),
        ("budget", 6, look("observe")), ("budget", 9, look("steer")),
    )  # fmt: skip
    for event, step, details in events:
        ledger.append(trunk.folder, event, step, **details)
    points = anneal.branches(trunk, ["c"], share=0.3, steps=4)
    assert [point.run.value.budget.mode for point in points] == ["observe"] * 2
    # A budget that steered once, in the trunk or in the trunk's own trunk.
    past = [{"event": "roll_back", "step": 3, "look": look("steer")}]
    ledger.append(trunk.folder, "branch", 5, events=past)
    with pytest.raises(ConfigError, match="a forgetting budget has set its shares of replay"):
        anneal.branches(trunk, ["c"], share=0.3, steps=4)


def test_only_finished_branches_are_compared(tmp_path):
    def branch(candidate, state, *values):
        steps = list(range(100, 100 + 40 * len(values), 40))
        outcome = results.Outcome(True, "bits_per_byte", steps, [], list(values))
        outcomes = {"tw": outcome} if values else {}
        return results.Result(candidate, {"candidate": candidate}, (), state, outcomes)

    def table(*branches):
        lines = anneal.table(results.Results("probe", list(branches)))
        return [line[1:] for line in lines]

    none = branch("none", "finished", 3.5, 3.0)
    some = [branch("x", "finished", 3.5, 2.6), branch("y", "stopped", 3.5), branch("z", "waiting")]
    assert table(none, *some) == [
        ("state", "tw"), ("finished", "3.0000"), ("finished", "2.6000 (-0.4000)"),
        ("stopped", "3.5000"), ("waiting", "–"),
    ]  # fmt: skip
    # The last that was logged of the branch without a candidate is the trunk's own.
    assert table(branch("none", "failed", 3.5), some[0])[1:] == [
        ("failed", "3.5000"), ("finished", "2.6000"),
    ]  # fmt: skip


def made(tmp_path: pathlib.Path) -> results.Results:
    """Results of three points, one of them not finished, with a name that HTML must escape."""
    found = []
    for number, (state, last) in enumerate(
        (("finished", 1.5), ("finished", 1.25), ("stopped", 0.5))
    ):
        run_dir = tmp_path / f"p{number}"
        run_dir.mkdir()
        lines = [
            {"kind": "eval", "step": s, "task": "en<b>", "bits_per_byte": v, "train_tokens": s * 8}
            for s, v in ((0, 2.0), (5, 3.0), (5, 1.75), (10, last))
        ]
        lines += [{"kind": "train", "step": 10, "loss": 1.0}]
        lines += [{"kind": "choice", "step": 10, "task": "exam", "accuracy": 0.25 + number / 4}]
        (run_dir / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        settings = {"peak": 10.0**-number, "kind": "cosine"}
        found.append(
            results.Result(f"p{number}", settings, (), state, results.outcomes(run_dir))
        )  # fmt: skip
    return results.Results("made", found)


def log(run_dir: pathlib.Path, name: str, *records: dict) -> None:
    run_dir.mkdir(exist_ok=True)
    (run_dir / name).write_text("".join(json.dumps(record) + "\n" for record in records))


def bits(step: int, value: float, **more) -> dict:
    return {"kind": "eval", "step": step, "task": "en", "bits_per_byte": value} | more


def exam(shots: int, right: float) -> dict:
    return {"kind": "choice", "step": 10, "task": "exam", "shots": shots, "accuracy": right}


def test_what_was_measured_beside_a_point_does_not_take_the_place_of_its_own(tmp_path):
    sizes = {"bytes": 200, "train_tokens": 64}
    log(
        tmp_path / "p", "metrics.jsonl", bits(0, 2.0, **sizes), bits(10, 1.5, **sizes), exam(5, 0.5)
    )
    log(
        tmp_path / "p", "evaluations.jsonl",
        bits(10, 9.0, **sizes), bits(5, 1.75, **sizes), bits(10, 1.2, bytes=999), exam(0, 0.9),
    )  # fmt: skip
    found = results.outcomes(tmp_path / "p")
    assert found["en"].steps == [0, 5, 10] and found["en"].values == [2.0, 1.75, 1.5]
    assert (found["en"].tokens, found["en"].size) == ([64.0] * 3, 200)
    assert found["en (twjax eval)"].values == [1.2] and found["en (twjax eval)"].size == 999
    assert found["exam, 5-shot accuracy"].values == [0.5]
    assert found["exam, 0-shot accuracy"].values == [0.9]


def test_a_measure_has_one_name_in_all_points(tmp_path):
    for name in ("p0", "p1"):
        log(tmp_path / name, "metrics.jsonl", exam(5, 0.5))
    log(tmp_path / "p1", "evaluations.jsonl", exam(0, 0.9))
    points = [runner.Point(name, {}, (), "", (), None) for name in ("p0", "p1", "p2")]
    states = {point.name: runner.Status("finished") for point in points}
    found = results.collect("made", tmp_path, points, states)
    assert [list(point.outcomes) for point in found.points] == [
        ["exam, 5-shot accuracy"], ["exam, 5-shot accuracy", "exam, 0-shot accuracy"], []
    ]  # fmt: skip


def test_results_are_the_last_values_and_the_best_of_what_finished(tmp_path):
    found = made(tmp_path)
    assert found.points[0].outcomes["en<b>"].values == [2.0, 1.75, 1.5]
    assert found.points[0].outcomes["en<b>"].tokens == [0, 40, 80]
    assert found.best("en<b>").name == "p1" and found.best("exam accuracy").name == "p1"
    results.write(found, tmp_path)
    assert results.read(tmp_path) == found
    assert "1.2500*" in results.render(results.table(found))
    with pytest.raises(ValueError, match=r"holds no results.json"):
        results.read(tmp_path / "p0")


@browser.needed
def test_the_page_opens_without_errors_and_marks_the_best(tmp_path):
    path = page.write_page(made(tmp_path), tmp_path)
    shown = browser.dump(path, tmp_path / "user")
    assert "2 of 3 points are finished" in shown and "1 stopped" in shown
    assert shown.count("1.2500 best") == 1 and "en&lt;b&gt;" in shown and "en<b>" not in shown
    assert "Bits per byte over peak" in shown and "Accuracy over peak" in shown
    assert "http" not in shown.replace("http-equiv", "")
