"""The search for a step: its candidates, their order, its limits, and the file that it writes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
import random
import sys
import time

import pytest

from tests import plan_side
from tests.plan_side import candidate, considered
from twjax import config
from twjax.cli import main
from twjax.config import ConfigError
from twjax.planning.candidates import Point, consider, meshes, ordered, points
from twjax.planning.chosen import write_chosen
from twjax.planning.search import Outcome, TimedOut, Worker, pareto, search
from twjax.planning.search_table import found_dict, render_found
from twjax.planning.topology import GIB, parse_topology, set_environment

USABLE = plan_side.V5E.chip.usable_bytes


def found(listed, compile, seconds=1e3, each=1e3, usable=USABLE, tell=lambda message: None):
    return search(listed, compile, seconds=seconds, each=each, usable=usable, tell=tell)


def test_every_candidate_divides_the_devices_and_keeps_the_batch(tmp_path):
    pytest.importorskip("libtpu")
    run = plan_side.small(tmp_path)
    for name in ("v5e-4", "2xv5e-4"):
        topology = parse_topology(name)
        seen = consider(run, topology)
        assert seen.ordered and seen.indivisible
        for one in seen.ordered:
            sizes = one.point.sizes
            assert sizes["slice"] == topology.num_slices
            assert sizes["slice"] * sizes["data"] * sizes["fsdp"] * sizes["tensor"] == (
                topology.num_devices
            )
            assert one.point.batch_size == 32 and one.point.rows >= 1
            assert one.point.rows == int(one.point.rows)
        assert len({one.point for one in seen.ordered}) == len(seen.ordered)
        rows = {(one.point.rows, one.point.accumulation) for one in seen.ordered}
        assert len(rows) > 4


def test_what_the_configuration_says_is_compiled_first(tmp_path):
    pytest.importorskip("libtpu")
    run = plan_side.small(tmp_path, "Mesh.fsdp = 2", "Mesh.tensor = 2", "Step.accumulation = 2")
    first = consider(run, plan_side.V5E).ordered[0].point
    assert first == Point((1, 1, 2, 1, 2), 32, 2, "full")
    assert first.bindings(run, 4) == []
    # One for other devices is no candidate, but the others are.
    other = plan_side.small(tmp_path, "Mesh.fsdp = 3")
    listed = consider(other, plan_side.V5E).ordered
    assert listed and all("Mesh.fsdp" in str(one.point.bindings(other, 4)) for one in listed)


def test_a_free_batch_has_other_rows(tmp_path):
    run = plan_side.small(tmp_path)
    own = Point.of(run, 4)
    kept = {p.batch_size for p in points(run, plan_side.V5E, "keep")}
    free = [p for p in points(run, plan_side.V5E, "free") if p != own]
    assert kept == {32}
    assert len({p.batch_size for p in free}) > 4 and {p.accumulation for p in free} == {1}


def test_rows_are_cut_only_where_there_are_too_few(tmp_path):
    many, few = plan_side.small(tmp_path), plan_side.small(tmp_path, "Data.batch_size = 2")
    assert {m[3] for m in meshes(Point.of(many, 4), plan_side.V5E)} == {1}
    assert {m[3] for m in meshes(Point.of(few, 4), plan_side.V5E)} > {1, 2}


def test_a_model_without_a_gate_saves_none(tmp_path):
    run = plan_side.small(tmp_path)
    model = dataclasses.replace(run.model, gated=False)
    plain = dataclasses.replace(run, model=model)
    saved = {p.remat for p in points(plain, plan_side.V5E, "keep")}
    assert saved and not any(isinstance(r, tuple) and "gate" in r for r in saved)


def test_the_order_begins_with_what_nothing_beats():
    random.seed(3)
    listed = [candidate(random.uniform(1, 1.4), random.uniform(1, 9)) for _ in range(60)]
    got = ordered(listed)
    assert sorted(map(id, got)) == sorted(map(id, listed))
    front = list(itertools.takewhile(lambda c: not beaten(c, listed), got))
    assert len(front) == sum(not beaten(c, listed) for c in listed) > 2
    rest = got[len(front) :]
    for part in (front, rest):
        times = [c.seconds for c in part]
        assert times == sorted(times)
    # What is very slow waits, however small it is.
    slow = candidate(9.0, 0.5)
    assert ordered([slow, *listed])[-1] is slow


def beaten(one, listed) -> bool:
    return any(
        o.seconds <= one.seconds and o.memory.total <= one.memory.total and o is not one
        for o in listed
    )


def test_pareto_keeps_just_what_nothing_beats():
    random.seed(5)
    for _ in range(50):
        outcomes = [
            Outcome(candidate(1, 1), "fits", plan=plan_side.plan(t / 8, g / 2 + 1))
            for t, g in ((random.randint(1, 12), random.randint(1, 12)) for _ in range(12))
        ]
        front = pareto(outcomes)
        keys = {(o.seconds_per_token, o.bytes) for o in front}
        assert len(keys) == len(front)
        for o in outcomes:
            here = (o.seconds_per_token, o.bytes)
            better = [k for k in keys if k != here and k[0] <= here[0] and k[1] <= here[1]]
            assert bool(better) != (here in keys)


def test_a_search_judges_what_it_compiles():
    a, b, c = candidate(1, 4), candidate(2, 30, fsdp=2), candidate(3, 2, fsdp=1)
    plans = {id(a): plan_side.plan(0.5, 4), id(b): plan_side.plan(1, 30, fits=False)}
    said = []
    got = found(
        considered(a, b, c), lambda one, s: plans.get(id(one), "no\u0020way"), tell=said.append
    )
    assert [o.state for o in got.outcomes] == ["fits", "too large", "failed"]
    assert [o.why for o in got.outcomes] == ["", "needs 30.0 of 15.8 GiB", "no way"]
    assert got.best is got.outcomes[0] and got.front == [got.best]
    assert any("0.500 s, 4.0 GiB" in line for line in said)


def test_memory_can_be_bounded_from_outside():
    a, b = candidate(1, 4), candidate(2, 3, fsdp=2)
    plans = {id(a): plan_side.plan(0.5, 4), id(b): plan_side.plan(1, 3)}
    got = found(considered(a, b), lambda one, s: plans[id(one)], usable=3.5 * GIB)
    assert [o.state for o in got.outcomes] == ["too large", "fits"]


def test_what_saves_more_than_one_too_large_is_not_compiled():
    small, large = candidate(2, 16, remat="dots"), candidate(1, 17, remat="none")
    elsewhere = candidate(1, 17, remat="none", micro=2)
    tried = []

    def compile(one, seconds):
        tried.append(one)
        return plan_side.plan(1, 16, fits=False)

    got = found(considered(small, large, elsewhere), compile)
    assert tried == [small, elsewhere]
    assert [o.state for o in got.outcomes] == ["too large"] * 3
    assert "saves more than one that needs 16.0" in got.outcomes[1].why


def test_the_time_is_kept():
    listed = considered(*(candidate(1 + i, 2, fsdp=1) for i in range(50)))
    given = []

    def compile(one, seconds):
        given.append(seconds)
        time.sleep(0.05)
        return plan_side.plan(1, 2)

    begin = time.monotonic()
    got = found(listed, compile, seconds=0.3, each=0.2)
    assert time.monotonic() - begin < 1
    states = [o.state for o in got.outcomes]
    assert len(states) == 50 and 1 <= states.count("fits") < 10
    assert set(states) == {"fits", "not tried"}
    # No compilation may take more than its own time, nor more than is left.
    assert given[0] == 0.2 and all(s <= 0.2 for s in given) and given[-1] < 0.2


def test_the_number_of_compilations_can_be_bounded():
    listed = considered(*(candidate(1 + i, 2, fsdp=1) for i in range(5)))
    got = search(
        listed, lambda one, s: plan_side.plan(1, 2), seconds=9, each=9, usable=USABLE, most=2
    )
    assert [o.state for o in got.outcomes] == ["fits"] * 2 + ["not tried"] * 3


def test_a_compilation_without_end_costs_only_itself():
    def compile(one, seconds):
        if one.seconds == 1:
            raise TimedOut
        return plan_side.plan(1, 2)

    got = found(considered(candidate(1, 2), candidate(2, 2, fsdp=1)), compile)
    assert [o.state for o in got.outcomes] == ["out of time", "fits"]


def test_an_interrupt_ends_the_search_with_what_there_is():
    def compile(one, seconds):
        if one.seconds == 2:
            raise KeyboardInterrupt
        return plan_side.plan(1, 2)

    got = found(considered(candidate(1, 2), candidate(2, 2), candidate(3, 2)), compile)
    assert [o.state for o in got.outcomes] == ["fits", "not tried", "not tried"]


def worker(tmp_path, program: str | None = None, **changes) -> Worker:
    run = plan_side.small(tmp_path)
    command = {} if program is None else {"command": (sys.executable, "-c", program)}
    given = {"config": plan_side.gin(tmp_path), "bindings": (), "run": run, "num_devices": 4}
    given |= {"topology": "v5e-4", "quick": False, "cache": None}
    return Worker(**given | command | changes)


CHILD = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({path!r}).write_text(str(child.pid))
time.sleep(600)
"""


def test_a_hung_process_is_ended_with_its_children(tmp_path):
    told = tmp_path / "pid"
    hung = worker(tmp_path, CHILD.format(path=str(told)))
    begin = time.monotonic()
    with pytest.raises(TimedOut):
        hung(candidate(1, 2), 5.0)
    assert time.monotonic() - begin < 30
    child = int(told.read_text())
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os; os.abort()", "died of SIGABRT"),
        ("import sys; print('bad flag', file=sys.stderr); sys.exit(3)", "ended with 3: bad flag"),
        ("raise RuntimeError('unheard of')", "ended with 1: RuntimeError: unheard of"),
    ],
)
def test_a_process_that_dies_says_its_last_words(tmp_path, program, why):
    assert why in worker(tmp_path, program)(candidate(1, 2), 60)


def test_the_real_process_is_given_the_candidate_and_answers(tmp_path):
    pytest.importorskip("libtpu")
    # Refused before anything is compiled: the configuration has another length than is divisible.
    asked = worker(tmp_path, bindings=("Data.batch_size = 30",))
    told = asked(candidate(1, 2, fsdp=4), 120)
    assert isinstance(told, str) and "Data.batch_size (30) must be a multiple of 4" in told
    other = worker(tmp_path)(candidate(1, 2, micro=5), 120)
    assert isinstance(other, str) and "Step.accumulation (5)" in other


POINTS = [
    Point((1, 1, 4, 1, 1), 32, 1, "full"),
    Point((1, 2, 2, 1, 1), 32, 4, ("query", "key", "value", "attention")),
    Point((1, 1, 2, 1, 2), 64, 2, "dots"),
    Point((1, 4, 1, 1, 1), 32, 1, ("attention",)),
    Point((1, 1, 1, 1, 4), 16, 1, "none"),
    Point((1, 1, 4, 1, 1), 32, 1, "dots", ("input", "query")),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.describe())
@pytest.mark.parametrize("overrides", [(), ("Mesh.fsdp = 4", "Step.z_loss = 1e-4")])
def test_what_is_written_loads_as_what_was_chosen(tmp_path, point, overrides):
    file = plan_side.gin(tmp_path)
    run = config.load(config.Run, [file], overrides).value
    one = dataclasses.replace(candidate(1, 2), point=point)
    outcome = Outcome(one, "fits", plan=plan_side.plan(0.5, 3))
    out = tmp_path / "chosen.gin"
    text = write_chosen(out, outcome, file, overrides, plan_side.V5E)
    assert out.read_text() == text and "0.500 s a step, 3.0 of 15.8 GiB" in text
    loaded = config.load(config.Run, [out]).value
    assert Point.of(loaded, 4) == point
    expected = point.apply(run)
    assert dataclasses.replace(loaded, mesh=expected.mesh) == expected
    # Only what differs is set, and the user's own bindings.
    assert text.count(" = ") == len(overrides) + len(point.bindings(run, 4))
    assert list(tmp_path.glob(".*")) == []


def test_a_configuration_of_the_package_is_included_by_its_name(tmp_path):
    outcome = Outcome(candidate(1, 2, remat="dots"), "fits", plan=plan_side.plan(0.5, 3))
    text = write_chosen(
        tmp_path / "chosen.gin", outcome, "runs/pods/llama_1b_v5e-16.gin",
        ("Mesh.fsdp = 4", "Data.batch_size = 32"), plan_side.V5E,
    )  # fmt: skip
    assert "include 'configs/runs/pods/llama_1b_v5e-16.gin'" in text


def test_what_cannot_be_set_from_outside_is_said(tmp_path):
    file = tmp_path / "scoped.gin"
    common = pathlib.Path("configs/runs/plans/_common.gin").read_text()
    common = common.replace("Step.", "mine/Step.").replace("@Step()", "@mine/Step()")
    include = "include 'configs/runs/plans/_common.gin'"
    base = plan_side.GIN.replace(include, common).replace("'full'", "'none'")
    file.write_text(base + "mine/Step.remat = 'none'\n")
    assert config.load(config.Run, [str(file)]).value.step.remat == "none"
    outcome = Outcome(candidate(1, 2, remat="dots"), "fits", plan=plan_side.plan(0.5, 3))
    out = tmp_path / "chosen.gin"
    with pytest.raises(ConfigError, match=r"can't be set from outside.*Step\.remat = 'dots'"):
        write_chosen(out, outcome, str(file), (), plan_side.V5E)
    assert not out.exists()


def a_search():
    """A search of which each fate has one."""
    listed = considered(
        candidate(1.0, 4, remat="dots"),
        candidate(1.2, 3),
        candidate(1.3, 5, fsdp=2),
        candidate(1.4, 16, fsdp=1),
        candidate(1.5, 3, micro=2),
        candidate(1.6, 3, micro=4),
        large=(candidate(0.5, 40, remat="none"),),
    )
    answers = iter(
        [
            plan_side.plan(0.5, 4.2),
            plan_side.plan(0.6, 3.1),
            plan_side.plan(0.7, 5.5),
            plan_side.plan(0.4, 16.4, fits=False),
            "The TPU compiler refused the step: <b>no</b>",
        ]
    )

    def compile(one, seconds):
        answer = next(answers, None)
        if answer is None:
            raise TimedOut
        return answer

    return found(listed, compile)


def test_the_table_and_the_figures_have_every_fate(tmp_path):
    run = plan_side.small(tmp_path)
    got = a_search()
    table = render_found(got, run, plan_side.V5E, "small.gin")
    lines = table.splitlines()
    assert (
        "3 fit, 1 compiled or known, and too large, 1 refused by the compiler, 1 ended" in lines[0]
    )
    rows = [line.split() for line in lines[3:6]]
    assert [row[0] for row in rows] == ["*", "*=", "0.700"]
    assert rows[0][1] == "0.500" and rows[1][1] == "0.600"
    assert "needs 16.4 of 15.8 GiB" in table and "refused the step" in table
    assert "save all: about 0.5 s, 40.0 GiB" in table
    told = json.loads(json.dumps(found_dict(got, run, plan_side.V5E)))
    states = [o["state"] for o in told["outcomes"]]
    assert states == ["fits"] * 3 + ["too large", "failed", "out of time"]
    assert [o["best"] for o in told["outcomes"]] == [True] + [False] * 5
    assert [o["front"] for o in told["outcomes"]] == [True, True] + [False] * 4
    assert told["outcomes"][0]["bindings"] == ["Step.remat = 'dots'"]
    assert told["outcomes"][0]["plan"]["prediction"]["seconds"] == 0.5
    assert told["too_large"][0]["expected_bytes"]["total"] == pytest.approx(40 * GIB)


def test_options_that_need_a_search_say_so(capsys, tmp_path):
    asked = ["plan", plan_side.gin(tmp_path), "--topology", "v5e-4"]
    for option, value, message in (
        ("--minutes", "3", "--minutes needs --search"),
        ("--each-minutes", "3", "--each-minutes needs --search"),
        ("--most", "3", "--most needs --search"),
        ("--write", "x.gin", "--write needs --search"),
        ("--batch", "free", "--batch needs --search"),
        ("--within", "3", "--within needs --search"),
    ):
        assert main([*asked, option, value]) == 1
        assert message in capsys.readouterr().err
    assert main([*asked, "--search", "--minutes", "0"]) == 1
    assert "--minutes (0) must be positive" in capsys.readouterr().err
    assert main([*asked, "--search", "--write", "chosen.txt"]) == 1
    assert "must end in .gin" in capsys.readouterr().err


def test_a_batch_that_grows_is_no_free_choice(capsys, tmp_path):
    pytest.importorskip("libtpu")
    ramp = "Data.batch_ramp = ((100, 64),)"
    asked = ["plan", plan_side.gin(tmp_path), "--topology", "v5e-4", "--search", "--set", ramp]
    assert main([*asked, "--batch", "free"]) == 1
    assert "Data.batch_ramp" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_search_finds_a_step_and_writes_it(tmp_path, capsys, monkeypatch):
    pytest.importorskip("libtpu")
    set_environment()
    monkeypatch.setenv("TWJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    file, out = plan_side.gin(tmp_path), tmp_path / "chosen.gin"
    asked = ["plan", file, "--topology", "v5e-4", "--search", "--minutes", "20"]
    asked += ["--most", "2"]
    asked += ["--set", "Model.num_layers = 2", "--write", str(out)]
    json_file, html = tmp_path / "search.json", tmp_path / "search.html"
    assert main([*asked, "--json", str(json_file), "--html", str(html)]) == 0
    told = json.loads(json_file.read_text())
    fitting = [o for o in told["outcomes"] if o["state"] == "fits"]
    assert len(fitting) == 2
    best = min(fitting, key=lambda o: o["plan"]["prediction"]["seconds"])
    assert best["best"]
    assert "*" in capsys.readouterr().out and html.stat().st_size > 10_000
    # What it wrote plans to the same figures, from the cache.
    again = tmp_path / "again.json"
    assert main(["plan", str(out), "--topology", "v5e-4", "--json", str(again)]) == 0
    assert "compiled before" in capsys.readouterr().err
    plan = json.loads(again.read_text())
    assert plan["prediction"] == best["plan"]["prediction"]
    assert plan["memory_bytes"] == best["plan"]["memory_bytes"]
