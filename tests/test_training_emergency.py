"""Checkpoints on the hosts themselves: what is kept, what is trusted, and what peers give back."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests import faulty, tiny
from tests.test_training_watchdog import host
from twjax import storage
from twjax.config import Checkpoint, ConfigError, Mesh
from twjax.parallel.mesh import make_mesh
from twjax.training import ledger
from twjax.training.emergency import LocalCheckpoints

# Values of which a sum of numbers would lose the sign or the payload.
ODD = np.array([0x80000000, 0x7FC00123, 0xFFC00001, 0x7F800000, 1, 0x3F800000], np.uint32)


def checkpoint(folder: pathlib.Path, **settings) -> Checkpoint:
    settings = {"local_every": 4, "local_directory": str(folder / "ram")} | settings
    return Checkpoint(every=100, **settings)


def begin(run_dir: pathlib.Path, steps: int = 100) -> None:
    """Writes what a run that has come so far has written."""
    ledger.append(run_dir, "start", 0)
    log = [{"kind": "train", "step": step} for step in range(1, steps + 1)]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in log))


def a_state(mesh: jax.sharding.Mesh, shift: int = 0):
    """A tree of odd values of several types, divided in several ways."""
    wide = np.tile(ODD, (8, 4)).view(np.float32)
    values = {
        "step": (np.int32(shift), PartitionSpec()),
        "divided": (wide + np.float32(shift) if shift else wide, ("fsdp",)),
        "columns": (wide.astype(jnp.bfloat16), (None, "tensor")),
        "flags": (np.arange(8) % 3 == shift % 3, ()),
        "bytes": (np.arange(16, dtype=np.int8) - 8, ("fsdp",)),
    }
    return {
        name: jax.device_put(value, NamedSharding(mesh, PartitionSpec(*spec)))
        for name, (value, spec) in values.items()
    }


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def bits(state) -> dict[str, bytes]:
    return {name: np.asarray(x).tobytes() for name, x in state.items()}


@pytest.fixture(name="mesh")
def small_mesh():
    return make_mesh(Mesh(slice=2, fsdp=2, tensor=2), jax.devices())


def test_a_state_comes_back_bit_for_bit(mesh, tmp_path):
    run_dir = tmp_path / "run"
    begin(run_dir)
    state = a_state(mesh)
    kept = LocalCheckpoints(run_dir, checkpoint(tmp_path), mesh)
    kept.begin(0)
    assert [step for step in range(1, 10) if kept.due(step)] == [4, 8]
    kept.save(state, 4, {"step": 4, "tokens": 7})
    kept.wait()
    again = LocalCheckpoints(run_dir, checkpoint(tmp_path), mesh)
    assert again.look(1) == [4]
    found = again.restore(abstract(state))
    assert found is not None and found[1] == {"step": 4, "tokens": 7}
    assert bits(found[0]) == bits(state)
    assert all(found[0][name].sharding == state[name].sharding for name in state)
    assert again.record() == {"local": {"peers": []}}
    # A state of other arrays can't be taken from it.
    other = LocalCheckpoints(run_dir, checkpoint(tmp_path), mesh)
    assert other.look(1) == [4]
    assert other.restore(abstract(state) | {"more": abstract(state)["step"]}) is None
    assert other.record() == {}
    kept.remove()
    assert not list((tmp_path / "ram").iterdir())


def test_what_a_place_lacks_comes_from_the_replica_that_has_it(mesh, tmp_path):
    run_dir = tmp_path / "run"
    begin(run_dir)
    kept = LocalCheckpoints(run_dir, checkpoint(tmp_path), mesh)
    good, bad = a_state(mesh), a_state(mesh, shift=1)
    replicas = mesh.devices.reshape(2, -1)
    # The first slice has the first and the last place, the second one the others.
    source = np.array([0, 1, 1, 0])
    gives = {replicas[source[place], place] for place in range(4)}
    for name, leaf in abstract(good).items():
        parts = {
            shard.device: np.asarray(shard.data) if shard.device in gives else None
            for shard in good[name].addressable_shards
        }
        assert sum(part is None for part in parts.values()) == 4
        shared = kept._shared(leaf, parts, source)
        assert shared.sharding == leaf.sharding and shared.dtype == leaf.dtype
        for shard, wanted in zip(
            shared.addressable_shards, good[name].addressable_shards, strict=True
        ):
            assert np.asarray(shard.data).tobytes() == np.asarray(wanted.data).tobytes()
    assert bits(good) != bits(bad)


def test_only_what_is_whole_logged_and_of_this_course_is_used(mesh, tmp_path, capsys):
    run_dir = tmp_path / "run"
    begin(run_dir, steps=12)
    kept = LocalCheckpoints(run_dir, checkpoint(tmp_path), mesh)
    kept.begin(0)
    for step in (4, 8, 12, 16):
        kept.save(a_state(mesh, step), step, {"step": step, "tokens": step})
    kept.wait()
    # The three newest.
    assert kept.steps == [8, 12, 16]

    def newest(least: int = 1, mesh=mesh) -> list[int]:
        return LocalCheckpoints(run_dir, checkpoint(tmp_path), mesh).look(least)

    # The log ends at 12.
    assert newest() == [12] and newest(13) == []
    # Another division of the state.
    assert newest(mesh=make_mesh(Mesh(slice=2, fsdp=4), jax.devices())) == []
    # More replicas of the same.
    assert newest(mesh=make_mesh(Mesh(fsdp=2, tensor=2), jax.devices()[:4])) == [12]
    [folder] = (tmp_path / "ram").glob("run-*/0")
    with (folder / "12" / "shards.bin").open("r+b") as file:
        file.seek(40)
        file.write(b"\xff\x00\xff")
    assert newest() == [8]
    assert (
        "12: a local checkpoint is damaged and isn't used (shards.bin: other bytes"
        in capsys.readouterr().err
    )
    # Of a kill in a save.
    (folder / "8").rename(folder / "8.partial")
    assert newest() == [] and not (folder / "8.partial").exists()
    kept.save(a_state(mesh, 12), 12, {"step": 12, "tokens": 12})
    kept.wait()
    assert newest() == [12]
    # What followed the step that a run went back to, and another run of the same name.
    ledger.append(run_dir, "roll_back", 6)
    assert newest() == []
    kept.begin(6)
    assert kept.steps == []
    assert LocalCheckpoints(tmp_path / "other" / "run", checkpoint(tmp_path), mesh).steps == []


def test_a_full_ram_disk_is_said_once_and_ends_nothing(mesh, tmp_path, capsys):
    run_dir = tmp_path / "run"
    begin(run_dir)
    kept = LocalCheckpoints(run_dir, checkpoint(tmp_path), mesh)
    kept.begin(0)
    [folder] = (tmp_path / "ram").glob("run-*/0")
    shutil.rmtree(folder)
    folder.write_text("no folder")
    for step in (4, 8):
        kept.save(a_state(mesh), step, {"step": step, "tokens": 1})
    kept.wait()
    said = capsys.readouterr().err
    assert said.count("a local checkpoint could not be saved") == 1
    assert kept.steps == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"local_every": 4, "local_directory": None}, r"local_every \(4\) .* need each other"),
        ({"local_every": None}, r"local_directory \('.*ram'\) need each other"),
        ({"local_every": 0}, r"local_every \(0\) must be at least 1 and less than .*every \(100\)"),
        ({"local_every": 100}, r"local_every \(100\) must be at least 1 and less than"),
        ({"local_directory": "ram"}, r"local_directory \('ram'\) must be an absolute path"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=rf"Checkpoint\.{message}"):
        checkpoint(tmp_path, **settings)


def test_a_folder_that_cant_be_made_is_named(mesh, tmp_path):
    (tmp_path / "ram").write_text("no folder")
    with pytest.raises(ConfigError, match=r"Checkpoint\.local_directory \('.*ram'\): can't be wri"):
        LocalCheckpoints(tmp_path / "run", checkpoint(tmp_path), mesh)


def test_a_run_without_it_keeps_none(mesh, tmp_path):
    kept = LocalCheckpoints(tmp_path / "run", Checkpoint(every=4), mesh)
    assert kept.look(1) == [] and kept.restore({}) is None and not kept.due(4)
    kept.begin(0)
    kept.remove()
    assert kept.record() == {} and not list(tmp_path.iterdir())


# Four hosts of one device each, two slices of two.
FOUR = """
import json, pathlib, shutil, sys
from twjax.parallel import distributed
distributed.initialize()
import jax
from tests import test_training_emergency as side
from twjax.config import Mesh
from twjax.parallel.mesh import make_mesh
from twjax.training.emergency import LocalCheckpoints

folder = pathlib.Path(sys.argv[1])
mesh = make_mesh(Mesh(slice=2, fsdp=2))
me = jax.process_index()

def opened():
    return LocalCheckpoints(folder / "run", side.checkpoint(folder), mesh)

def tell(name):
    kept = opened()
    steps = kept.look(1)
    found = kept.restore(side.abstract(side.four(mesh, 0)))
    same = None
    if found is not None:
        wanted = side.four(mesh, found[1]["step"])
        same = all(
            side.shards(found[0][leaf]) == side.shards(wanted[leaf]) for leaf in wanted
        )
    line = {"what": name, "process": me, "steps": steps, "same": same, **kept.record()}
    print(json.dumps(line), flush=True)

kept = opened()
kept.begin(0)
for step in (4, 8, 12, 16):
    kept.save(side.four(mesh, step), step, {"step": step, "tokens": step})
kept.wait()
[mine] = (folder / "ram").glob(f"run-*/{me}")
tell("all")
if me in (1, 2):
    shutil.rmtree(mine)
tell("one of each place")
if me == 3:
    shutil.rmtree(mine / "16")
tell("another newest step")
if me == 0:
    (mine / "12" / "shards.bin").write_bytes(b"")
tell("a damaged one")
if me == 3:
    shutil.rmtree(mine)
tell("a place that nobody has")
"""


def four(mesh, shift: int):
    wide = (np.tile(ODD, (4, 4)) + np.uint32(shift)).view(np.float32)
    tree = {"divided": (wide, ("fsdp",)), "whole": (wide[0], ()), "step": (np.int32(shift), ())}
    return {
        name: jax.make_array_from_callback(
            value.shape,
            NamedSharding(mesh, PartitionSpec(*spec)),
            lambda index, value=value: value[index],
        )
        for name, (value, spec) in tree.items()
    }


def shards(x) -> list[bytes]:
    return [np.asarray(shard.data).tobytes() for shard in x.addressable_shards]


@pytest.mark.slow
def test_four_hosts_take_the_newest_step_that_each_place_of_the_mesh_has(tmp_path):
    begin(tmp_path / "run")
    launched = (
        "import sys; from launch import local\n"
        "environments = local.environments(4, 1)\n"
        "sys.exit(local.together([sys.executable, '-c', sys.argv[1], sys.argv[2]], environments))"
    )
    done = subprocess.run(
        [sys.executable, "-c", launched, FOUR, tmp_path],
        env=tiny.environment(),
        cwd=tiny.REPO,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.partition("] ")[2] for line in done.stdout.splitlines()]
    told = [json.loads(line) for line in lines if line.startswith("{")]
    found = {}
    for line in told:
        key = line.pop("what")
        line.pop("process")
        found.setdefault(key, []).append(line)

    def all_say(steps, peers):
        if not steps:
            return [{"steps": [], "same": None}] * 4
        return [{"steps": steps, "same": True, "local": {"peers": peers}}] * 4

    assert found == {
        "all": all_say([16], []),
        "one of each place": all_say([16], [1, 2]),
        "another newest step": all_say([12], [1, 2]),
        "a damaged one": all_say([8], [1, 2]),
        "a place that nobody has": all_say([], []),
    }


LOCAL = ["Checkpoint.local_every = 4", "Checkpoint.local_directory = '{ram}'"]
# A run that is gone at its 8th step, when what it keeps of the 4th one is written.
GONE = """
import os, sys, time
from twjax.training import program
from twjax.cli import main

batches = program.batches

def some(*arguments, **options):
    for number, batch in enumerate(batches(*arguments, **options)):
        if number == 7:
            time.sleep(2)
            os._exit(9)
        yield batch

program.batches = some
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_run_that_has_only_these_goes_back_to_its_beginning(tmp_path):
    path = faulty.write_config(tmp_path)
    short = ["Run.steps = 14", "Checkpoint.every = 12"]
    alone, run_dir = tmp_path / "alone", tmp_path / "run"
    faulty.train(path, alone, *short)
    local = [*short, *(binding.format(ram=tmp_path / "ram") for binding in LOCAL)]
    done = subprocess.run(
        [sys.executable, "-c", GONE, *faulty.command(path, run_dir, local)],
        env=tiny.environment(),
        cwd=tiny.REPO,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    faulty.train(path, run_dir, *local)
    events = faulty.events(run_dir, "start", "resume", "roll_back", "finish")
    assert [(event["event"], event["step"]) for event in events] == [
        ("start", 0), ("resume", 4), ("roll_back", 0), ("finish", 14),
    ]  # fmt: skip
    assert faulty.events(alone, "roll_back")[0]["skip"] == events[2]["skip"]
    assert tiny.losses(run_dir) == tiny.losses(alone)


# A run that is gone at its 5th step, with a checkpoint of the 4th one that isn't whole.
CUT_OFF = (
    GONE.replace("number == 7", "number == 4")
    .replace("os._exit(9)", "shutil.rmtree(sys.argv[4] + '/checkpoints/4'); os._exit(9)")
    .replace("import os,", "import os, shutil,")
)


@pytest.mark.slow
def test_a_checkpoint_that_was_cut_off_is_written_from_what_is_kept(config, tmp_path):
    run_dir = tmp_path / "run"
    local = ["Checkpoint.every = 4", "Checkpoint.local_every = 2", LOCAL[1]]
    words = ["train", str(config), "--run-dir", str(run_dir)]
    for binding in (*local, "Run.log_every = 1"):
        words += ["--set", binding.format(ram=tmp_path / "ram")]
    done = subprocess.run(
        [sys.executable, "-c", CUT_OFF, *words],
        env=tiny.environment(),
        cwd=tiny.REPO,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    done = tiny.twjax(*words)
    assert done.returncode == 0, done.stderr
    [event] = faulty.events(run_dir, "resume")
    assert event["step"] == 4 and event["local"] == {"peers": []}
    assert sorted(int(p.name) for p in (run_dir / "checkpoints").iterdir()) == [4, 8, 12]


SLICES = ["Run.steps = 60", "Run.log_every = 1", "Checkpoint.every = 24", "Mesh.slice = 2"]


def start(config, run_dir: pathlib.Path, bindings) -> subprocess.Popen[str]:
    sets = [part for binding in bindings for part in ("--set", binding)]
    return subprocess.Popen(
        [sys.executable, "-m", "launch.local", "--hosts", "2", "--devices-per-host", "2",
         "--restarts", "4", "--", "train", config, "--run-dir", run_dir, *sets],
        env=tiny.environment(),
        cwd=tiny.REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_slice_that_lost_its_state_takes_it_from_its_peer(config, tmp_path):
    alone = start(config, tmp_path / "alone", SLICES)
    output, _ = alone.communicate(timeout=240)
    assert alone.returncode == 0, output
    ram, run_dir = tmp_path / "ram", tmp_path / "run"
    local = [binding.format(ram=ram) for binding in LOCAL]
    launched = start(config, run_dir, SLICES + local)

    def steps(number: int) -> list[int]:
        return [int(p.name) for p in ram.glob(f"run-*/{number}/*") if p.name.isdigit()]

    def lose(reached: int, numbers) -> tuple[int, int]:
        """Kills a host, and loses what some have kept; returns (newest step kept, reached)."""
        tiny.wait_for_step(run_dir, reached, launched)
        children = [host(launched.pid, number) for number in (0, 1)]
        for child in children:
            os.kill(child, signal.SIGSTOP)
        newest = max(steps(0) + steps(1))
        for number in numbers:
            [folder] = ram.glob(f"run-*/{number}")
            shutil.rmtree(folder)
        logged = max(tiny.losses(run_dir))
        # The launcher ends the other one.
        os.kill(children[1], signal.SIGKILL)
        return newest, logged

    def resumed(count: int) -> dict:
        while launched.poll() is None:
            events = storage.read_json_lines(run_dir / "ledger.jsonl")
            found = [event for event in events if event["event"] == "resume"]
            if len(found) >= count:
                return found[count - 1]
            time.sleep(0.05)
        raise AssertionError(launched.communicate()[0])

    newest, logged = lose(14, [1])
    assert newest >= 12
    event = resumed(1)
    # No step of the whole run's checkpoints was there yet.
    assert event["step"] == min(newest, logged // 4 * 4) and event["local"] == {"peers": [1]}
    newest, logged = lose(34, [0])
    event = resumed(2)
    assert event["step"] == min(newest, logged // 4 * 4) > 24
    assert event["local"] == {"peers": [0]}
    lose(42, [0, 1])
    event = resumed(3)
    assert event["step"] == 24 and "local" not in event
    output, _ = launched.communicate(timeout=240)
    assert launched.returncode == 0, output
    assert tiny.losses(run_dir) == tiny.losses(tmp_path / "alone")
    bits = [
        [(r["step"], r["task"], r["bits_per_byte"]) for r in tiny.records(d, "eval")]
        for d in (run_dir, tmp_path / "alone")
    ]
    assert bits[0] == bits[1]
    end = storage.read_json_lines(run_dir / "ledger.jsonl")[-1]
    assert end["event"] == "finish" and end["goodput"]["seconds"]["restoring"] > 0
    # Nothing is left in the memory of the hosts.
    assert not list(ram.iterdir())
