"""A run's own kernels and options must give a small network's gradients, or nothing is trained."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from tests import tiny
from twjax.config import Run, load
from twjax.evaluation.watch import Watch
from twjax.models import attention
from twjax.models.network import network as declare
from twjax.models.spec import is_spec
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding, batch_shards, weight_shardings
from twjax.parallel.tpu import OptionValue, Tiles, compiler_options
from twjax.planning.topology import parse_topology, set_environment
from twjax.training import self_test
from twjax.training.program import train
from twjax.training.self_test import SelfTestError
from twjax.training.step import attention_of

ASKED = "Step.self_test = True"


def forgets_documents(q, k, v, segment_ids, form):
    return attention.attend(q, k, v, jnp.ones_like(segment_ids), "reference", form)


def sees_one_more(q, k, v, segment_ids, form):
    """Lets the last quarter of a row's queries see one key too many, as a wrong tile would."""
    S = q.shape[1]
    at = jnp.arange(S)
    late = (at >= S - S // 4).astype(at.dtype)
    distance = at[:, None] - at[None, :]
    seen = (distance >= -late[:, None]) & (segment_ids[:, :, None] == segment_ids[:, None, :])
    return attention.attend_masked(q, k, v, seen, form, distance)


@jax.custom_vjp
def without_a_tile(x):
    return x


def _backward(_, slope):
    """Leaves the last quarter of a sum over the row out."""
    S = slope.shape[1]
    return (jnp.where(jnp.arange(S)[:, None, None] < S - S // 4, slope, 0.0),)


without_a_tile.defvjp(lambda x: (x, None), _backward)


def drops_gradients(q, k, v, segment_ids, form):
    return attention.attend(q, without_a_tile(k), v, segment_ids, "reference", form)


def gives_no_number(q, k, v, segment_ids, form):
    mixed = attention.attend(q, k, v, segment_ids, "reference", form)
    return mixed * jnp.where(jnp.arange(q.shape[1])[:, None, None] == 3, jnp.nan, 1.0)


BROKEN = [forgets_documents, sees_one_more, drops_gradients, gives_no_number]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tiny.write_config(tmp_path_factory.mktemp("tiny"))


def run_of(config, *bindings: str) -> Run:
    return load(Run, [config], bindings).value


def test_a_run_with_a_wrong_kernel_ends_before_its_first_step(config, tmp_path):
    run_dir = tmp_path / "bad"
    loaded = load(Run, [config], [ASKED, "Run.steps = 3"])

    def watch(*parts):
        return Watch(*parts, run_dir=run_dir, config=str(config), end_ids=set)

    with pytest.raises(SelfTestError) as error:
        train(loaded, run_dir, watch, attends=forgets_documents)
    message = str(error.value)
    assert "Nothing was trained" in message and "forgets_documents" in message
    assert "Step.attention = 'reference'" in message and "Step.self_test = False" in message
    assert not (run_dir / "metrics.jsonl").exists()
    assert not list(run_dir.glob("checkpoints/*"))


@pytest.mark.slow
def test_a_run_that_asks_is_told_and_trains(config, tmp_path):
    done = tiny.twjax(
        "train", config, "--run-dir", tmp_path, "--set", ASKED, "--set", "Run.steps = 3", devices=2
    )
    assert done.returncode == 0, done.stderr
    assert "self-test: gradients of a small network are within" in done.stdout + done.stderr
    assert (tmp_path / "metrics.jsonl").exists()


@pytest.mark.slow
def test_two_hosts_test_themselves(config, tmp_path):
    sets = ("--set", ASKED, "--set", "Run.steps = 3")
    tiny.twjax_pair("train", config, "--run-dir", tmp_path, *sets)
    assert (tmp_path / "metrics.jsonl").exists()


def test_a_run_on_a_cpu_has_nothing_to_test(config):
    mesh = make_mesh(run_of(config).mesh)
    self_test.self_test(run_of(config), mesh, forgets_documents)
    with pytest.raises(SelfTestError):
        self_test.self_test(run_of(config, ASKED), mesh, forgets_documents)
    self_test.self_test(run_of(config, "Step.self_test = False"), mesh, forgets_documents)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_what_is_wrong_is_seen_above_the_rounding(config, broken):
    run = run_of(config, "Step.dtype = 'bfloat16'")
    mesh = make_mesh(run.mesh, jax.devices()[:2])
    found = self_test.difference(run, mesh, broken, {})
    assert not found.passes, found


RIGHT = {
    "plain": ("Step.dtype = 'bfloat16'", "Step.remat = 'dots'"),
    "capped": ("Model.attention_softcap = 5.0", "Model.window = 20", "Model.qk_norm = True"),
    "tied": (
        *("Model.tie_embeddings = True", "Model.embedding_scale = True", "Step.accumulation = 2"),
        *("Step.loss_chunks = 4", "Step.z_loss = 1e-3"),
    ),
    # The gradient of its keys' bias is zero but for rounding.
    "alibi": (
        *("Model.positions = 'alibi'", "Model.qkv_bias = True", "Model.norm = 'layer'"),
        "Step.dtype = 'bfloat16'",
    ),
    "mixed": ("Model.window = 20", "Model.window_pattern = ('local', 'local', 'global')"),
}


@pytest.mark.parametrize("model", RIGHT)
def test_what_is_right_passes(config, model):
    """Errors are well below what is allowed, which the wrong ones above are not."""
    run = run_of(config, *RIGHT[model], "Mesh.fsdp = 2", "Mesh.tensor = 2")
    found = self_test.difference(run, make_mesh(run.mesh, jax.devices()[:4]), "reference", {})
    assert found.error < found.tolerance / 2, found


def test_options_reach_the_compiler(config):
    mesh = make_mesh(run_of(config).mesh)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_none_such"):
        self_test.difference(run_of(config), mesh, "reference", {"xla_none_such": True})


# XLA:CPU hands some sums to YNNPACK. In jaxlib 0.10.2 and 0.12.0 a sum of products of bfloat16
# values that are converted to float32 and reshaped then holds what was in its memory before. Under
# jit the sum of output times slope that splash's backward pass begins with, outside of the kernel
# itself, is such a one. With nothing but matrix products left to YNNPACK all is right.
WITHOUT_ITS_SUMS: dict[str, OptionValue] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"
}
TILES = Tiles(forward=128, queries=128, keys=128, compute=128)


def splash(q, k, v, segment_ids, form):
    return attention._splash(q, k, v, segment_ids, form, TILES, interpret=True)


def splash_forgets_a_tile(q, k, v, segment_ids, form):
    """Hides the second tile of keys, as a wrong bound of the loop would."""
    hidden = jnp.where(jnp.arange(256) >= 128, segment_ids + 100, segment_ids)
    return splash(q, k, v, hidden, form)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_kernel_passes_in_its_interpreter(config, dtype):
    """It rounds to bfloat16 where its source does, and uses under a third of what is allowed."""
    run = run_of(config, "Data.seq_len = 256", "Model.head_dim = 128", f"Step.dtype = '{dtype}'")
    mesh = make_mesh(run.mesh, jax.devices()[:2])
    found = self_test.difference(run, mesh, splash, WITHOUT_ITS_SUMS)
    assert found.error < found.tolerance / 3, found
    broken = self_test.difference(run, mesh, splash_forgets_a_tile, WITHOUT_ITS_SUMS)
    assert not broken.passes, broken


def test_rows_longer_than_the_tests_have_as_many_tiles_of_keys(config):
    run = run_of(config, "Data.seq_len = 32768")
    given = Tiles(keys=8192)
    assert self_test._kind(given, run, 4096) == dataclasses.replace(given, keys=1024)
    assert self_test._kind(given, run_of(config, "Data.seq_len = 8192"), 4096) == given


@pytest.mark.slow
def test_a_tpu_compiles_it_with_its_own_tiles_and_options():
    set_environment()
    bindings = ("Step.accumulation = 2", "Step.remat = 'dots'", "Data.seq_len = 4096")
    run = load(Run, ["runs/llama3_8b.gin"], bindings).value
    mesh = make_mesh(run.mesh, parse_topology("v5e-4").devices())
    device = mesh.devices.flat[0]
    network = declare(self_test.small_model(run.model, mesh, 4096))
    shardings = weight_shardings(network.specs, mesh)
    params = jax.tree.map(
        lambda spec, sharding: jax.ShapeDtypeStruct(spec.shape, jnp.float32, sharding=sharding),
        network.specs,
        shardings,
        is_leaf=is_spec,
    )
    rows = self_test._rows(network, 4096, batch_shards(mesh), run)
    batch = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=batch_sharding(mesh))
        for name, value in rows.items()
    }
    options = compiler_options(device, {})
    assert options
    with jax.set_mesh(mesh):
        step = self_test.gradient_step(network, run, mesh, attention_of(run, device), options)
        text = step.lower(params, batch).compile().as_text()
    assert "tpu_custom_call" in text
