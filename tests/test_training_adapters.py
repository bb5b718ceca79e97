"""Runs that train adapters: what moves, what is kept, and what other commands make of them."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from tests import tiny
from tests.keeping_side import arrays_of, train, with_optimizer
from twjax import config
from twjax.cli import main
from twjax.config import Mesh, Run
from twjax.config.keeping import Adapter
from twjax.models import adapters, parts
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.training.checkpoint import FOLDER
from twjax.training.source import Source

ADAPTER = Adapter(kind="dora", rank=4, alpha=8.0, targets=("layers/*",), train=("embedding",))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("adapters") / "run.gin"
    path.write_text(tiny.CONFIG.format(cache="none"))
    return config.load(
        Run, [path], ["Run.steps = 20", "Run.init = 'run:base'", "Schedule.peak = 1e-1"]
    ).value


@pytest.fixture(scope="module")
def alone(run):
    return train(dataclasses.replace(run, adapter=ADAPTER), Mesh(fsdp=1), 1, 6)


@pytest.mark.slow
def test_only_adapters_and_what_was_named_move_and_have_moments(alone):
    (first, *_, last), seen = alone
    before, after = parts.flat(first.params), parts.flat(last.params)
    moved = {name for name in before if (before[name] != after[name]).any()}
    learnt = {name for name in before if adapters.is_adapter(name)} | {"embedding"}
    assert moved == learnt and len(learnt) == 3 * 7 + 1
    for tree in (last.optimizer[1].mu, last.optimizer[1].nu):
        assert parts.names_of(tree) == learnt
    assert seen[-1]["loss"] < seen[0]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "devices", "step"),
    [
        (Mesh(data=2, fsdp=2, tensor=2), 8, {"remat": "dots"}),
        (Mesh(fsdp=2), 2, {"accumulation": 2}),
    ],
    ids=["data2-fsdp2-tensor2", "accumulate2"],
)
def test_one_result_however_the_work_is_divided(run, alone, mesh, devices, step):
    divided = dataclasses.replace(run, adapter=ADAPTER, step=dataclasses.replace(run.step, **step))
    (*_, other), also = train(divided, mesh, devices, 6)
    for a, b in zip(alone[1], also, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)
        np.testing.assert_allclose(a["grad_norm"], b["grad_norm"], rtol=1e-3)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3)  # noqa: E731
    jax.tree.map(close, other.params, alone[0][-1].params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": None}, "Run.adapter needs Run.init"),
        ({"moments": "kept"}, "adapters begin with no moments"),
        ({"adapter": dataclasses.replace(ADAPTER, train=("layers/q",))}, "and has an adapter too"),
        ({"adapter": dataclasses.replace(ADAPTER, train=("hat",))}, "Adapter.train: 'hat' matches"),
    ],
)
def test_what_is_refused(run, change, message):
    with pytest.raises(ValueError, match=message):
        train(dataclasses.replace(run, **({"adapter": ADAPTER} | change)), Mesh(fsdp=1), 1, 1)


def test_freezing_beside_an_adapter_does_nothing(run):
    with pytest.raises(ValueError, match=r"Optimizer.freeze .* does nothing here"):
        dataclasses.replace(with_optimizer(run, freeze=("head",)), adapter=ADAPTER)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base run, and one that trains adapters on it with an average."""
    folder = tmp_path_factory.mktemp("place")
    tiny.write_config(folder)
    assert main(command(folder, "base", "Run.steps = 2")) == 0
    assert main(command(folder, "learnt", *SETTINGS)) == 0
    return folder


SETTINGS = (
    "Run.init = 'run:{place}/base'",
    "Run.adapter = @Adapter()",
    "Adapter.kind = 'dora'",
    "Adapter.rank = 4",
    "Adapter.alpha = 8.0",
    "Adapter.targets = ('layers/*',)",
    "Adapter.train = ('head',)",
    "Optimizer.ema = 0.5",
    "Schedule.peak = 3e-1",
    "Evaluation.tasks = ('a',)",
)


def command(place, name, *bindings):
    settings = ["Run.steps = 6", "Run.log_every = 1", "Evaluation.tasks = ()", *bindings]
    sets = [part for text in settings for part in ("--set", text.format(place=place))]
    return ["train", str(place / "tiny.gin"), "--run-dir", str(place / name), *sets]


@pytest.mark.slow
def test_the_run_begins_as_its_base_and_keeps_it(place):
    base, learnt = arrays_of(place / "base", 2), arrays_of(place / "learnt", 6)
    for name in base.keys() - {"head"}:
        np.testing.assert_array_equal(base[name], learnt[name])
    assert (base["head"] != learnt["head"]).any()
    assert len(learnt) == len(base) + 3 * 7
    one, two = (tiny.records(place / name, "train") for name in ("base", "learnt"))
    assert one[0]["loss"] > two[0]["loss"]


@pytest.mark.slow
def test_resuming_gives_the_same_bits_without_the_base(place):
    again = place / "again"
    shutil.copytree(place / "learnt", again)
    shutil.rmtree(again / FOLDER / "6")
    (place / "base").rename(place / "away")
    try:
        assert main(command(place, "again", *SETTINGS)) == 0
    finally:
        (place / "away").rename(place / "base")
    for average in (False, True):
        one = arrays_of(place / "learnt", 6, average)
        other = arrays_of(again, 6, average)
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["last", "ema"])
def test_every_command_takes_merged_weights(place, tmp_path, weights, capsys):
    learnt, choice = place / "learnt", ["--weights", weights]
    scores = tmp_path / "scores.json"
    assert main(["eval", str(learnt), "--json", str(scores), *choice]) == 0
    loss = json.loads(scores.read_text())["scores"][0]["loss"]
    logged = tiny.records(learnt, "eval")[-1]
    assert (logged["loss"] == pytest.approx(loss, rel=1e-5)) == (weights == "last")
    source = Source.open(learnt)
    network, mesh = declare(source.run.model), make_mesh(Mesh(), jax.devices()[:1])
    params = parts.flat(source.params(network, mesh, weights))
    with source.arrays(weights) as arrays:
        assert arrays.keys() == params.keys()
        for name, array in arrays.items():
            whole = array.read(tuple(slice(0, n) for n in array.shape))
            np.testing.assert_allclose(whole, params[name], rtol=1e-5, atol=1e-6)
            # A box that cuts inputs and outputs alike.
            box = tuple(slice(n // 4, n - n // 4) for n in array.shape)
            np.testing.assert_array_equal(array.read(box), whole[box])
    out, back = tmp_path / "hf", tmp_path / "back"
    assert main(["convert", "to-hf", str(learnt), str(out), "--family", "llama", *choice]) == 0
    assert main(["convert", "from-hf", str(out), str(back), "--no-probe"]) == 0
    imported = arrays_of(back, 0)
    for name in params.keys() - {"embedding", "head"}:
        np.testing.assert_allclose(imported[name], params[name], rtol=1e-5, atol=1e-6)
    capsys.readouterr()


@pytest.mark.slow
def test_a_run_can_start_from_one_with_adapters(place):
    bindings = ("Run.init = 'run:{place}/learnt'", "Run.steps = 2", "Schedule.peak = 1e-9")
    assert main(command(place, "next", *bindings)) == 0
    source, run = Source.open(place / "learnt"), Source.open(place / "next").run
    mesh = make_mesh(Mesh(), jax.devices()[:1])
    merged = parts.flat(source.params(declare(run.model), mesh))
    for name, values in arrays_of(place / "next", 2).items():
        np.testing.assert_allclose(values, merged[name], atol=1e-6)
