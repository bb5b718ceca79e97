"""Plans are kept by what was compiled: hits, misses, and files that can't be read."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from tests import plan_side
from twjax.planning.cache import PlanCache, default_folder, key_of, restore
from twjax.planning.compile import Plan, lower_step
from twjax.planning.compile import plan as compile_plan
from twjax.planning.topology import parse_topology, set_environment


def key(program="module", topology="v5e-4", options=None, quick=False):
    return key_of(program, parse_topology(topology), options or {}, quick)


def test_a_plan_comes_back_equal(tmp_path):
    for made in (plan_side.plan(0.5, 3), plan_side.plan(0.5, 30, fits=False)):
        cache = PlanCache(tmp_path)
        cache.save(key(), made)
        assert cache.load(key(), Plan) == made
        assert cache.load(key("other"), Plan) is None


def test_whatever_changes_the_program_or_the_compiler_is_another_plan(monkeypatch):
    keys = [
        key(),
        key("other"),
        key(topology="v5e-8"),
        key(topology="2xv5e-4"),
        key(topology="v6e-4"),
        key(options={"xla_tpu_scoped_vmem_limit_kib": 65536}),
        key(quick=True),
    ]
    assert len(set(keys)) == len(keys)
    assert key(topology="v5litepod-4") == key()
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_something")
    assert key() not in keys
    monkeypatch.delenv("LIBTPU_INIT_ARGS")
    monkeypatch.setattr("twjax.planning.cache.importlib.metadata.version", lambda package: "0.0.1")
    assert key() not in keys


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"tokens"', '"jetons"'),
        lambda text: text.replace('"seconds": 0.5', '"seconds": "fast"'),
        lambda text: text.replace('"fits": true', '"fits": 1'),
        lambda text: text.replace('"key": "', '"key": "0'),
        lambda text: text.replace('"num_slices": 1', '"num_slices": null'),
    ],
)
def test_a_spoilt_file_is_named_and_passed_over(tmp_path, capsys, spoil):
    cache = PlanCache(tmp_path)
    cache.save(key(), plan_side.plan(0.5, 3))
    (file,) = tmp_path.rglob("*.json")
    text = file.read_text()
    assert spoil(text) != text
    file.write_text(spoil(text))
    assert cache.load(key(), Plan) is None
    said = capsys.readouterr().err
    assert str(file) in said and "passed over" in said and said.count("\n") == 1
    cache.save(key(), plan_side.plan(0.5, 3))
    assert cache.load(key(), Plan) == plan_side.plan(0.5, 3)


def test_bytes_that_are_no_text_are_passed_over(tmp_path, capsys):
    cache = PlanCache(tmp_path)
    cache.save(key(), plan_side.plan(0.5, 3))
    (file,) = tmp_path.rglob("*.json")
    file.write_bytes(b"\xff\xfe\x00")
    assert cache.load(key(), Plan) is None
    assert "passed over" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_costs_only_the_keeping(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    cache = PlanCache(tmp_path / "file" / "plans")
    cache.save(key(), plan_side.plan(0.5, 3))
    assert "isn't kept" in capsys.readouterr().err
    assert cache.load(key(), Plan) is None


def test_types_are_held():
    assert restore(tuple[int, ...], [1, 2]) == (1, 2)
    assert restore(float, 1) == 1.0 and restore(dict[str, int], {"a": 1}) == {"a": 1}
    for hint, value in ((int, 1.5), (int, True), (float, "1"), (str, None), (bool, 1)):
        with pytest.raises(ValueError):
            restore(hint, value)


def test_the_folder_is_the_users(monkeypatch):
    monkeypatch.setenv("TWJAX_CACHE", "~/mine")
    assert default_folder() == pathlib.Path.home() / "mine" / "plans"
    monkeypatch.delenv("TWJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == pathlib.Path("/somewhere/twjax/plans")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == pathlib.Path.home() / ".cache/twjax/plans"


PROGRAM = """
import sys
from twjax.planning.topology import set_environment
set_environment()
from twjax import config
from tests import plan_side
from twjax.planning.compile import lower_step
run = config.load(config.Run, [sys.argv[1]]).value
print(lower_step(run, plan_side.V5E).key(plan_side.V5E, False))
"""


@pytest.mark.slow
def test_the_same_step_has_the_same_key_in_every_process(tmp_path):
    pytest.importorskip("libtpu")
    file = plan_side.gin(tmp_path)
    told = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, file],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] != ""


@pytest.mark.slow
def test_what_was_compiled_is_not_compiled_again(tmp_path):
    pytest.importorskip("libtpu")
    set_environment()

    run, cache = plan_side.small(tmp_path), PlanCache(tmp_path / "plans")
    said = []
    first = compile_plan(run, plan_side.V5E, cache=cache, tell=said.append)
    assert not said and len(list(cache.folder.rglob("*.json"))) == 1
    begin = time.monotonic()
    second = compile_plan(run, plan_side.V5E, cache=cache, tell=said.append)
    assert time.monotonic() - begin < max(10, first.compile_seconds)
    # The seconds are those of the one compilation that there was.
    assert second == first and "compiled before" in said[0]
    (file,) = cache.folder.rglob("*.json")
    kept = json.loads(file.read_text())
    kept["figures"]["tokens"] = 7
    file.write_text(json.dumps(kept))
    assert compile_plan(run, plan_side.V5E, cache=cache).tokens == 7
    assert compile_plan(run, plan_side.V5E).tokens == first.tokens
    step = dataclasses.replace(run.step, remat="dots")
    other = dataclasses.replace(run, step=step)
    assert lower_step(other, plan_side.V5E).key(plan_side.V5E, False) != file.stem
