"""Compiled programs are kept for the next process, where and when they should be."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import zlib

import pytest

from tests import tiny
from twjax.parallel.compiled import drop_torn, prune

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# Compiles one program; prints the folder, and how many programs were looked for and found.
PROGRAM = """
import collections, json, os
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
import jax
from twjax.parallel import distributed
from twjax.parallel.compiled import keep_compiled
distributed.initialize()
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: counts.update([name.rpartition("/")[2]]))
jax.jit(lambda x: x * 3 + 1)(2.0).block_until_ready()
folder = keep_compiled()
print(json.dumps([str(folder) if folder else None, counts["cache_hits"], counts["cache_misses"]]))
"""


def environment(**extra: str) -> dict[str, str]:
    """Returns a process's environment without the tests' own folder."""
    return {k: v for k, v in tiny.environment().items() if k != VARIABLE} | extra


def compile_once(**extra: str) -> list:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment(**extra), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_a_second_process_finds_what_the_first_one_compiled(tmp_path):
    folder, hits, misses = compile_once(XDG_CACHE_HOME=str(tmp_path))
    assert folder.startswith(str(tmp_path / "twjax" / "compiled")) and hits == 0 and misses > 0
    assert os.stat(folder).st_mode & 0o077 == 0
    assert compile_once(XDG_CACHE_HOME=str(tmp_path)) == [folder, misses, 0]


def test_a_program_that_was_written_in_part_is_written_again(tmp_path):
    """As a process that is killed or whose disk is full leaves it; JAX never replaces it."""
    folder, _, misses = compile_once(XDG_CACHE_HOME=str(tmp_path))
    programs = sorted(pathlib.Path(folder).glob("*-cache"))
    sizes = [path.stat().st_size for path in programs]
    assert len(programs) == misses
    os.truncate(programs[0], sizes[0] // 2)
    programs[-1].write_bytes(b"")
    damaged = len({programs[0], programs[-1]})
    assert compile_once(XDG_CACHE_HOME=str(tmp_path)) == [folder, misses - damaged, damaged]
    assert [path.stat().st_size for path in programs] == pytest.approx(sizes, rel=0.1)
    assert compile_once(XDG_CACHE_HOME=str(tmp_path)) == [folder, misses, 0]


def test_each_program_is_looked_at_once(tmp_path):
    good, torn = tmp_path / "a-cache", tmp_path / "b-cache"
    good.write_bytes(zlib.compress(b"x" * 1000))
    torn.write_bytes(zlib.compress(b"x" * 1000)[:-3])
    drop_torn(tmp_path)
    assert good.exists() and not torn.exists()
    good.write_bytes(b"")
    os.utime(good, (1, 1))
    drop_torn(tmp_path)
    assert good.exists()


def test_the_variable_of_jax_names_another_folder_or_none(tmp_path):
    named = {"XDG_CACHE_HOME": str(tmp_path / "not"), VARIABLE: str(tmp_path / "mine")}
    folder, _, misses = compile_once(**named)
    assert folder == str(tmp_path / "mine") and misses > 0 and any((tmp_path / "mine").iterdir())
    assert compile_once(**{**named, VARIABLE: ""}) == [None, 0, 0]
    assert not (tmp_path / "not").exists()


def test_a_home_that_can_not_be_written_to_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    assert compile_once(XDG_CACHE_HOME=str(tmp_path / "file")) == [None, 0, 0]


def test_the_oldest_programs_go(tmp_path):
    for number in range(5):
        path = tmp_path / f"program-{number}"
        path.write_bytes(b"x" * 10)
        os.utime(path, (number, number))
    prune(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program-3", "program-4"]
    prune(tmp_path, 20)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_runs_that_start_together_share_a_folder(config, tmp_path):
    """Two runs compile the same at once; a third finds it all, and trains to the same losses."""
    words = ["--set", "Evaluation.tasks = ()", "--set", "Run.steps = 3"]
    words += ["--set", "Schedule.warmup_steps = 1"]

    def start(name: str) -> subprocess.Popen[str]:
        command = ["train", str(config), "--run-dir", str(tmp_path / name), *words]
        return subprocess.Popen(
            [sys.executable, "-m", "twjax", *command],
            env=environment(XDG_CACHE_HOME=str(tmp_path)),
            stderr=subprocess.PIPE,
            text=True,
        )

    for names in (("a", "b"), ("c",)):
        for process in [start(name) for name in names]:
            said = process.communicate(timeout=120)[1]
            assert process.returncode == 0, said
    assert tiny.losses(tmp_path / "a") == tiny.losses(tmp_path / "b") == tiny.losses(tmp_path / "c")
    (folder,) = (tmp_path / "twjax" / "compiled").iterdir()
    assert any("jit_step" in path.name for path in folder.iterdir())
