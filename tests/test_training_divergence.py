"""The KL to the frozen base against float64 NumPy, in steps and in whole runs."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.keeping_side import arrays_of
from tests.test_training_encdec_step import CONFIG as ENCDEC
from tests.test_training_encdec_step import rows as encdec_rows
from tests.test_training_loss import REAL, B, D, S, V
from tests.test_vocab_extend_rows import NEW, OLD, record
from tests.test_vocab_extend_runs import cache
from twjax import config
from twjax.cli import main
from twjax.config import Mesh, Run
from twjax.config.keeping import Adapter, Distillation
from twjax.models import adapters, parts
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding, rows_sharding
from twjax.training.base import FrozenBase, base_of
from twjax.training.checkpoint import FOLDER
from twjax.training.divergence import Base, Comparison
from twjax.training.loss import NO_BEND, Bend, distilled_loss, next_token_loss
from twjax.training.optimizer import make_optimizer
from twjax.training.schedule import make_schedule
from twjax.training.source import Source
from twjax.training.state import init_state
from twjax.training.step import make_train_step
from twjax.training.trained import Trained

KEPT = Distillation(weight=2.0, tasks=("a",), temperature=1.5)


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "hidden": rng.normal(size=(B, S, D)),
        "head": rng.normal(size=(D, V)),
        "tokens": rng.integers(0, REAL, (B, S)),
        "weights": rng.integers(0, 2, (B, S)),
        "base_hidden": rng.normal(size=(B, S, D)),
        "base_head": rng.normal(size=(D, V)),
        "rows": np.array([1, 0, 1]),
    }


def divergence64(case, temperature: float, known: int, bend: Bend) -> float:
    """The sum of KL(base ‖ model), token by token in float64."""

    def logs(hidden, head):
        scores = (hidden @ head) * (bend.scale or 1.0)
        if bend.softcap:
            scores = np.tanh(scores / bend.softcap) * bend.softcap
        scores = scores[:known] / temperature
        return scores - np.log(np.exp(scores).sum())

    total = 0.0
    for b in range(B):
        for s in range(S - 1):
            if case["weights"][b, s + 1] and case["rows"][b]:
                base = logs(case["base_hidden"][b, s], case["base_head"])
                model = logs(case["hidden"][b, s], case["head"])
                total += (np.exp(base) * (base - model)).sum()
    return total


def arrays(case):
    single = {name: jnp.asarray(x, jnp.float32) for name, x in case.items()}
    tokens, weights = jnp.asarray(case["tokens"]), jnp.asarray(case["weights"], jnp.uint8)
    base = Base(single["base_hidden"], single["base_head"], single["rows"], jnp.float32(0.7))
    return single["hidden"], single["head"], tokens, weights, base


CASES = [
    (1, 1.0, REAL, NO_BEND),
    (3, 2.0, REAL, Bend(scale=1.5, softcap=4.0)),
    (4, 0.8, 20, Bend(softcap=3.0)),
]


@pytest.mark.parametrize(("chunks", "temperature", "known", "bend"), CASES)
def test_it_equals_float64_and_its_slope_finite_differences(case, chunks, temperature, known, bend):
    how = Comparison(temperature, known, bend.scale, bend.softcap)
    settings: dict[str, Any] = {"vocab_size": REAL, "chunks": chunks, "bend": bend, "z_loss": 0.1}
    hidden, head, tokens, weights, base = arrays(case)
    here = (hidden, head, tokens, weights, base, how)
    objective, (sums, kl) = distilled_loss(*here, **settings)
    plain, same = next_token_loss(hidden, head, tokens, weights, **settings)
    np.testing.assert_array_equal(np.stack(sums), np.stack(same))
    expected = divergence64(case, temperature, known, bend)
    np.testing.assert_allclose(kl, expected, rtol=1e-5)
    np.testing.assert_allclose(objective, plain + 0.7 * temperature**2 * expected, rtol=1e-5)

    def added(hidden, head):
        with_base, _ = distilled_loss(hidden, head, tokens, weights, base, how, **settings)
        return with_base - next_token_loss(hidden, head, tokens, weights, **settings)[0]

    # A factor behind the loss: the saved slope must be scaled by what flows back.
    grads = jax.grad(lambda x, y: 3.0 * added(x, y), argnums=(0, 1))(hidden, head)
    for name, grad in zip(("hidden", "head"), grads, strict=True):
        direction = np.random.default_rng(1).normal(size=case[name].shape)
        step = 1e-5
        ends = [
            divergence64(case | {name: case[name] + sign * step * direction}, temperature, known,
                         bend) for sign in (1, -1)
        ]  # fmt: skip
        slope = 3.0 * 0.7 * temperature**2 * (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(float(jnp.sum(grad * direction)), slope, rtol=1e-3)


def test_the_base_itself_is_no_distance_away(case):
    same = case | {"base_hidden": case["hidden"], "base_head": case["head"]}
    how = Comparison(1.0, REAL, None, None)
    here = arrays(same)
    _, (_, kl) = distilled_loss(*here, how, vocab_size=REAL, chunks=2)
    assert kl == 0.0


def test_whole_logits_are_never_in_memory():
    """The most that the compiled gradient holds is a few chunks of logits, not all of them."""
    B, S, V, chunks = 4, 256, 4096, 16

    def loss(hidden, head, base_hidden, base_head):
        tokens, ones = jnp.zeros((B, S), jnp.int32), jnp.ones((B, S), jnp.uint8)
        base = Base(base_hidden, base_head, jnp.ones(B), jnp.float32(1.0))
        how = Comparison(1.0, V, None, None)
        settings: dict[str, Any] = {"vocab_size": V, "chunks": chunks}
        return distilled_loss(hidden, head, tokens, ones, base, how, **settings)[0]

    shapes = jax.ShapeDtypeStruct((B, S, 8), jnp.float32), jax.ShapeDtypeStruct((8, V), jnp.float32)
    compiled: Any = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes, *shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < B * S * V * 4 / 2


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("divergence") / "run.gin"
    path.write_text(tiny.CONFIG.format(cache="none"))
    return config.load(Run, [path], ["Run.steps = 20", "Run.init = 'run:base'"]).value


def train(run: Run, mesh: Mesh, devices: int, steps: int):
    """Returns the metrics of `steps` steps whose even rows count, the last params, and the base."""
    made = make_mesh(mesh, jax.devices()[:devices])
    network = declare(run.model)
    learner = adapters.adapted(network, run.adapter)
    schedule = make_schedule(run.schedule, run.steps, 0.0)
    trained = Trained.of(run, learner.specs)
    optimizer = make_optimizer(run.optimizer, schedule, trained.specs)
    base = base_of(run, network, trained, made)
    assert isinstance(base, FrozenBase)
    seen = []
    with jax.set_mesh(made):
        state = init_state(learner, optimizer, made, run.seed, trained)
        kept = base.keep(state.params)
        step_fn = make_train_step(learner, run, optimizer, schedule, made, trained, base)
        for index in range(steps):
            pairs = run.model.encoder_layers > 0
            rows = encdec_rows if pairs else lambda s, n: tiny.rows(np.random.default_rng(s), n)
            batch = jax.device_put(rows(index, run.data.batch_size), batch_sharding(made))
            replay = (np.arange(run.data.batch_size) % 2 == 0).astype(np.uint8)
            batch["replay"] = jax.device_put(replay, rows_sharding(made))
            state, metrics = step_fn(state, batch, kept)
            seen.append([float(metrics[name]) for name in ("loss", "kl", "grad_norm")])
    return np.array(seen), jax.device_get(state.params), kept


@pytest.fixture(scope="module")
def alone(run):
    return train(dataclasses.replace(run, distillation=KEPT), Mesh(fsdp=1), 1, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "devices", "step"),
    [(Mesh(data=2, fsdp=2, tensor=2), 8, {}), (Mesh(fsdp=2, context=2), 4, {"accumulation": 2})],
    ids=["data2-fsdp2-tensor2", "context2-accumulate2"],
)
def test_one_result_however_the_work_is_divided(run, alone, mesh, devices, step):
    step = dataclasses.replace(run.step, **step)
    divided = dataclasses.replace(run, distillation=KEPT, step=step)
    seen, params, _ = train(divided, mesh, devices, 8)
    np.testing.assert_allclose(seen, alone[0], rtol=1e-3, atol=1e-6)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4)  # noqa: E731
    jax.tree.map(close, params, alone[1])


@pytest.mark.slow
def test_it_begins_at_nothing_and_holds_the_model_back(run, alone):
    seen = alone[0]
    assert seen[0, 1] == 0.0 and (seen[2:, 1] > 0).all()
    weak = dataclasses.replace(KEPT, weight=1e-6)
    free, *_ = train(dataclasses.replace(run, distillation=weak), Mesh(fsdp=1), 1, 8)
    strong = dataclasses.replace(KEPT, weight=50.0)
    held, *_ = train(dataclasses.replace(run, distillation=strong), Mesh(fsdp=1), 1, 8)
    assert held[-1, 1] < 0.5 * seen[-1, 1] < 0.5 * free[-1, 1]


def test_beside_adapters_the_base_needs_no_memory_of_its_own(run):
    learnt = Adapter(rank=2, alpha=4.0, targets=("layers/[qv]",), train=("final_norm",))
    both = dataclasses.replace(run, distillation=KEPT, adapter=learnt)
    seen, _, kept = train(both, Mesh(fsdp=1), 1, 4)
    assert parts.names_of(kept) == {"final_norm"}
    assert seen[0, 1] == 0.0 and seen[-1, 1] > 0


@pytest.mark.slow
def test_an_encoder_decoder_is_held_back_too(tmp_path):
    path = tmp_path / "run.gin"
    path.write_text(ENCDEC.format(cache="none"))
    run = config.load(Run, [path], ["Run.init = 'run:base'"]).value
    learnt = Adapter(rank=2, alpha=4.0, targets=("*/layers/*",), train=("embedding",), kind="dora")
    for adapter in (None, learnt):
        seen, *_ = train(
            dataclasses.replace(run, distillation=KEPT, adapter=adapter), Mesh(fsdp=1), 1, 3
        )
        assert seen[0, 1] == 0.0 and seen[-1, 1] > 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    tiny.write_config(folder)
    assert main(command(folder, "base", "Run.steps = 2")) == 0
    assert main(command(folder, "held", *SETTINGS)) == 0
    return folder


SETTINGS = (
    "Run.init = 'run:{place}/base'",
    "Run.distillation = @Distillation()",
    "Distillation.weight = 3.0",
    "Distillation.tasks = ('a',)",
)


def command(place, name, *bindings):
    settings = ["Run.steps = 6", "Run.log_every = 1", "Evaluation.tasks = ()", *bindings]
    sets = [part for text in settings for part in ("--set", text.format(place=place))]
    return ["train", str(place / "tiny.gin"), "--run-dir", str(place / name), *sets]


@pytest.mark.slow
def test_a_run_logs_it_and_keeps_no_base_in_its_checkpoints(place):
    logged = [record["kl"] for record in tiny.records(place / "held", "train")]
    assert logged[0] == 0.0 and logged[-1] > 0
    assert arrays_of(place / "held", 6).keys() == arrays_of(place / "base", 2).keys()


@pytest.mark.slow
def test_resuming_reads_the_base_again_or_says_that_it_is_gone(place, capsys):
    again = place / "again"
    shutil.copytree(place / "held", again)
    shutil.rmtree(again / FOLDER / "6")
    (place / "base").rename(place / "away")
    try:
        assert main(command(place, "again", *SETTINGS)) == 1
    finally:
        (place / "away").rename(place / "base")
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Run.distillation compares with the weights that this run began with" in error
    assert "not a run directory" in error
    assert main(command(place, "again", *SETTINGS)) == 0
    one, other = arrays_of(place / "held", 6), arrays_of(again, 6)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])
    kl = [[r["kl"] for r in tiny.records(place / run, "train")] for run in ("held", "again")]
    assert kl[0] == kl[1]


@pytest.mark.slow
def test_with_an_extended_vocabulary_the_old_ids_are_compared(place, capsys):
    """The base gets the same new rows as the run, on a resume as well."""
    cache(place / "new", "1", OLD + NEW)
    (place / "extended").mkdir()
    record(place / "extended")
    bindings = (
        *SETTINGS,
        "Data.cache = '{place}/new'",
        "Data.vocabulary = '{place}/extended/none.model'",
        f"Model.vocab_size = {OLD + NEW}",
    )
    assert main(command(place, "grown", *bindings)) == 0
    logged = [r["kl"] for r in tiny.records(place / "grown", "train")]
    assert logged[0] == 0.0 and logged[-1] > 0
    whole = arrays_of(place / "grown", 6)
    shutil.rmtree(place / "grown" / FOLDER / "6")
    assert main(command(place, "grown", *bindings)) == 0
    assert logged == [r["kl"] for r in tiny.records(place / "grown", "train")]
    for name, values in arrays_of(place / "grown", 6).items():
        np.testing.assert_array_equal(values, whole[name])
    run = Source.open(place / "grown").run
    kind = {"new_rows": {"first": OLD, "stop": OLD + NEW, "kind": "mean"}}
    network = declare(run.model)
    made = make_mesh(Mesh(), jax.devices()[:1])
    base = base_of(run, network, Trained(network.specs), made, kind)
    assert base is not None and base.known == OLD
    capsys.readouterr()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 0.0}, r"Distillation.weight \(0.0\) must be positive"),
        ({"temperature": -1.0}, r"Distillation.temperature \(-1.0\) must be positive"),
        ({"tasks": ()}, "Distillation.tasks is empty"),
        ({"tasks": ("c",)}, r"Distillation.tasks: 'c' is never read; .* a, b"),
        ({"init": None}, "Run.distillation needs Run.init"),
    ],
)
def test_what_is_refused(run, change, message):
    init = {"init": change.pop("init")} if "init" in change else {}
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(run, distillation=dataclasses.replace(KEPT, **change), **init)
