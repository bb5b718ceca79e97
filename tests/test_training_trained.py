"""Weights that a run leaves alone, and the average that it keeps of the others."""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from tests.keeping_side import arrays_of, train, with_optimizer
from twjax import config
from twjax.cli import main
from twjax.config import Mesh, Optimizer, Run
from twjax.models import parts
from twjax.models.network import network as declare
from twjax.models.spec import WeightSpec, ones
from twjax.training.checkpoint import FOLDER
from twjax.training.optimizer import make_optimizer
from twjax.training.step import forward
from twjax.training.trained import Trained

LAYERS = ("q", "k", "v", "o", "gate", "up", "down", "attention_norm", "mlp_norm")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("trained") / "run.gin"
    path.write_text(tiny.CONFIG.format(cache="none"))
    return config.load(Run, [path], ["Run.steps = 20"]).value


@pytest.fixture(scope="module")
def specs(run):
    return parts.by_name(declare(run.model).specs)


def test_patterns_choose_weights_and_layers(specs):
    def choose(*patterns):
        return parts.choose(patterns, specs, "Here")

    assert choose("embedding", "head") == {"embedding": None, "head": None}
    assert choose("layers/[qkv]").keys() == {"layers/q", "layers/k", "layers/v"}
    assert choose("*norm").keys() == {"final_norm", "layers/attention_norm", "layers/mlp_norm"}
    assert choose("layers/1/q", "layers/0/k") == {
        "layers/q": frozenset({1}), "layers/k": frozenset({0}),
    }  # fmt: skip
    # Layers add up; all of them are the whole weight.
    assert choose("layers/0/q", "layers/1/q") == choose("layers/0-1/q") == {"layers/q": None}
    assert choose("layers/0/q", "layers/*")["layers/q"] is None
    assert choose("layers/*", "layers/0/q")["layers/q"] is None
    assert len(choose("layers/0/*")) == len(LAYERS)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("embeding", r"Here: 'embeding' matches no weight; the nearest are embedding"),
        ("layer/q", r"matches no weight; the nearest are .*layers/q"),
        ("layers/0/quq", r"matches no weight; the nearest are .*layers/q"),
        ("layers/0-2/q", r"'layers/0-2/q' names layer 2, but layers/q has layers 0 to 1"),
        ("layers/1-0/q", r"matches no weight"),
    ],
)
def test_a_pattern_that_fits_nothing_names_what_is_near(specs, pattern, message):
    with pytest.raises(ValueError, match=message):
        parts.choose([pattern], specs, "Here")


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_frozen_weights_stay_bit_for_bit_and_have_no_moments(run, name):
    frozen = with_optimizer(
        run, name=name, freeze=("embedding", "layers/[qkvo]", "layers/1/*", "*_norm")
    )
    (first, *_, last), _ = train(frozen, Mesh(fsdp=1), 1, 4)
    for weight in ("embedding", "final_norm"):
        np.testing.assert_array_equal(first.params[weight], last.params[weight])
    for weight in LAYERS:
        before, after = first.params["layers"][weight], last.params["layers"][weight]
        np.testing.assert_array_equal(before[1], after[1])
        assert (before[0] != after[0]).any() == (weight in ("gate", "up", "down"))
    assert (first.params["head"] != last.params["head"]).any()
    trained = Trained.of(frozen, declare(run.model).specs)
    # The head's 128 columns with padding, and three matrices of one layer.
    assert trained.size == 16 * 128 + 3 * 16 * 32
    moments = {
        str(getattr(path[-1], "key", ""))
        for path, leaf in jax.tree_util.tree_leaves_with_path(last.optimizer)
        if leaf.ndim
    }
    assert moments == {"head", "gate", "up", "down"}


def test_a_weight_of_minus_zero_stays_one():
    specs = {"w": WeightSpec("w", (2, 3), ("layers", None), ones(), decay=True, matmul=True)}
    trained = Trained(specs, {"w": frozenset({0})})
    optimizer = make_optimizer(Optimizer(weight_decay=0.5), lambda _: 1.0, specs)
    params = {"w": jnp.full((2, 3), -0.0)}
    grads = trained.hold({"w": jnp.ones((2, 3))}, 0.0)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    after: Any = optax.apply_updates(params, trained.hold(updates, -0.0))
    after = np.asarray(after["w"])
    assert np.signbit(after[0]).all() and (after[0] == 0).all() and (after[1] < -0.5).all()


@pytest.mark.slow
def test_norm_and_clipping_are_of_what_is_trained(run):
    """The gradient of the trained weights alone, by another way than the step's."""
    frozen = with_optimizer(run, freeze=("embedding", "layers/0/*", "head"))
    (first, *_), (seen, *_) = train(frozen, Mesh(fsdp=1), 1, 1)
    network = declare(run.model)
    batch = jax.tree.map(jnp.asarray, tiny.rows(np.random.default_rng(0), run.data.batch_size))

    def loss(params):
        hidden, head, tokens, weights, _ = forward(network, run, params, batch, "reference")
        logits = jnp.einsum("BSD,DV->BSV", hidden, head[:, : run.model.vocab_size])
        logs = jax.nn.log_softmax(logits)[:, :-1]
        picked = jnp.take_along_axis(logs, tokens[:, 1:, None], axis=-1)[..., 0]
        return -jnp.sum(picked * weights[:, 1:]) / weights[:, 1:].sum()

    grads = jax.grad(loss)(first.params)
    squares = [float(jnp.sum(grads["final_norm"] ** 2))]
    squares += [float(jnp.sum(g[1] ** 2)) for g in grads["layers"].values()]
    np.testing.assert_allclose(seen["grad_norm"], np.sqrt(sum(squares)), rtol=1e-5)
    np.testing.assert_allclose(seen["loss"], loss(first.params), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "devices", "step"),
    [(Mesh(data=2, fsdp=2, tensor=2), 8, {}), (Mesh(fsdp=2), 2, {"accumulation": 2})],
    ids=["data2-fsdp2-tensor2", "accumulate2"],
)
def test_one_result_however_the_work_is_divided(run, mesh, devices, step):
    frozen = with_optimizer(run, freeze=("embedding", "layers/0/*"), ema=0.9)
    divided = dataclasses.replace(frozen, step=dataclasses.replace(run.step, **step))
    (*_, one), seen = train(frozen, Mesh(fsdp=1), 1, 8)
    (*_, other), also = train(divided, mesh, devices, 8)
    for a, b in zip(seen, also, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4)  # noqa: E731
    jax.tree.map(close, (one.params, one.average), (other.params, other.average))


@pytest.mark.slow
def test_new_rows_are_trained_first_with_frozen_layers(run):
    run = dataclasses.replace(run, init="run:somewhere")
    early = with_optimizer(run, freeze=("layers/*",), new_rows_steps=2)
    states, _ = train(early, Mesh(fsdp=1), 1, 4, new_rows=(80, 96))
    for state in states[1:]:
        for name, value in state.params["layers"].items():
            np.testing.assert_array_equal(value, states[0].params["layers"][name])
    start, second, last = (states[i].params["embedding"] for i in (0, 2, 4))
    np.testing.assert_array_equal(start[:80], second[:80])
    assert (start[80:96] != second[80:96]).any() and (second[:80] != last[:80]).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ("*",)}, r"Optimizer.freeze \('\*',\) leaves no weight to train"),
        ({"freeze": ("embedding", "head"), "new_rows_steps": 2}, "weights that are all frozen"),
        ({"freeze": ("embd",)}, r"Optimizer.freeze: 'embd' matches no weight.* embedding"),
    ],
)
def test_what_cannot_be_frozen(run, settings, message):
    run = dataclasses.replace(run, init="run:somewhere")
    with pytest.raises(ValueError, match=message):
        Trained.of(with_optimizer(run, **settings), declare(run.model).specs)


@pytest.mark.parametrize("ema", [0.0, 1.0, -0.5])
def test_a_decay_outside_its_bounds_is_refused(ema):
    with pytest.raises(ValueError, match=r"Optimizer.ema \(.*\) must be above 0 and below 1"):
        Optimizer(ema=ema)


@pytest.mark.slow
def test_the_average_equals_float64(run):
    averaged = with_optimizer(run, ema=0.7, freeze=("layers/0/*", "head"))
    states, _ = train(averaged, Mesh(fsdp=1), 1, 10)
    assert "head" not in states[0].average
    expected = jax.tree.map(np.float64, states[0].average)
    for state in states[1:]:
        now = parts.take(state.params, parts.names_of(state.average))
        expected = jax.tree.map(lambda a, p: 0.7 * a + 0.3 * np.float64(p), expected, now)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
            state.average,
            expected,
        )
    frozen = states[0].params["layers"]["q"][0]
    np.testing.assert_array_equal(states[-1].average["layers"]["q"][0], frozen)
    assert (states[-1].average["embedding"] != states[-1].params["embedding"]).any()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("average")
    tiny.write_config(folder)
    return folder


def command(place, run_dir, *bindings):
    settings = ["Run.steps = 6", "Run.log_every = 1", "Evaluation.tasks = ()", *bindings]
    sets = [part for binding in settings for part in ("--set", binding)]
    return ["train", str(place / "tiny.gin"), "--run-dir", str(run_dir), *sets]


AVERAGED = ("Optimizer.ema = 0.8", "Optimizer.freeze = ('embedding', 'layers/0/*')")


@pytest.fixture(scope="module")
def averaged(place):
    assert main(command(place, place / "averaged", *AVERAGED)) == 0
    return place / "averaged"


@pytest.mark.slow
def test_resuming_keeps_the_average_to_the_last_bit(place, averaged, tmp_path):
    run_dir = tmp_path / "again"
    shutil.copytree(averaged, run_dir)
    shutil.rmtree(run_dir / FOLDER / "6")
    assert main(command(place, run_dir, *AVERAGED)) == 0
    for average in (False, True):
        one, other = arrays_of(averaged, 6, average), arrays_of(run_dir, 6, average)
        assert one.keys() == other.keys()
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


@pytest.mark.slow
def test_commands_take_the_average(averaged, tmp_path, capsys):
    scores = {}
    for weights in ("last", "ema"):
        out = tmp_path / f"{weights}.json"
        assert (
            main(["eval", str(averaged), "--task", "a", "--weights", weights, "--json", str(out)])
            == 0
        )
        scores[weights] = [r["loss"] for r in json.loads(out.read_text())["scores"]]
    assert scores["last"] != scores["ema"]
    folder = tmp_path / "exported"
    give = ["convert", "to-hf", str(averaged), str(folder), "--family", "llama"]
    assert main([*give, "--weights", "ema"]) == 0
    assert json.loads((folder / "twjax_export.json").read_text())["source"]["weights"] == "ema"
    # What comes back is the average where there is one, and the frozen weights elsewhere.
    assert main(["convert", "from-hf", str(folder), str(tmp_path / "back"), "--no-probe"]) == 0
    back, average = arrays_of(tmp_path / "back", 0), arrays_of(averaged, 6, average=True)
    average["embedding"][tiny.VOCAB :], average["head"][:, tiny.VOCAB :] = 0, 0
    for name, values in average.items():
        np.testing.assert_array_equal(back[name], values)
    capsys.readouterr()


@pytest.mark.slow
def test_a_run_without_an_average_says_so(place, tmp_path, capsys):
    assert main(command(place, tmp_path / "plain", "Run.steps = 2")) == 0
    capsys.readouterr()
    for words in (["eval"], ["generate", "--prompt", "a"], ["convert", "to-hf", "OUT"]):
        words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
        name = 2 if words[0] == "convert" else 1
        words.insert(name, str(tmp_path / "plain"))
        assert main([*words, "--weights", "ema"]) == 1
        assert "there are no weights 'ema' here" in capsys.readouterr().err
    # Nor is there a model that it began with.
    give = ["convert", "to-hf", str(tmp_path / "plain"), str(tmp_path / "out")]
    assert main([*give, "--base-model", "org/name"]) == 1
    assert "began with random weights and has no base model" in capsys.readouterr().err
