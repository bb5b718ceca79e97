"""Attention in tiles, in plain JAX and as the GPU's kernels in the interpreter: the reference's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from twjax.config import Mesh, Model
from twjax.models import attention
from twjax.models.attention import Form
from twjax.models.attention_chunked import attend_chunked
from twjax.models.attention_gpu import Tile, Tiling, attend_gpu, takes
from twjax.models.decoder import Network
from twjax.models.spec import init_weights
from twjax.models.tiles import meetings
from twjax.parallel.mesh import make_mesh

FORMS = {
    "plain": Form(0.3),
    "window": Form(0.3, window=50),
    "softcap": Form(0.3, softcap=2.0, window=100),
    "alibi": Form(0.3, alibi=True),
    "all": Form(0.7, softcap=3.0, window=70, alibi=True),
}


def arrays(B: int, S: int, N: int, K: int, H: int, seed: int = 0) -> list[jax.Array]:
    """Returns queries, keys, values and a gradient of the output, in float32."""
    keys = jax.random.split(jax.random.key(seed), 4)
    heads = (N, K, K, N)
    return [
        jax.random.normal(key, (B, S, count, H)) for key, count in zip(keys, heads, strict=True)
    ]


def both(attend: Any, q: jax.Array, k: jax.Array, v: jax.Array, d_out: jax.Array) -> Any:
    """Returns the output and the gradients of queries, keys and values."""
    out, pull = jax.vjp(attend, q, k, v)
    return (out, *pull(d_out.astype(out.dtype)))


def compare(found: Any, expected: Any, tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, atol=tolerance * max(float(np.abs(b).max()), 1.0))


def reference(ids: jax.Array, form: Form) -> Any:
    return lambda q, k, v: attention.attend(q, k, v, ids, "reference", form)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_tiles_of_any_rows_give_the_reference(data):
    """Outputs and gradients, whatever the shape, the segments and the form."""
    B, S = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 40))
    K, G = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    ids = data.draw(st.lists(st.integers(0, 3), min_size=B * S, max_size=B * S))
    if data.draw(st.booleans()):
        # As packing leaves them.
        ids = sorted(ids)
    ids = jnp.asarray(np.reshape(ids, (B, S)), jnp.int32)
    form = Form(
        data.draw(st.sampled_from([0.1, 1.0])),
        softcap=data.draw(st.none() | st.floats(1.0, 20.0)),
        window=data.draw(st.none() | st.integers(1, 45)),
        alibi=data.draw(st.booleans()),
    )
    rows = data.draw(st.integers(1, 48))
    given_arrays = arrays(B, S, K * G, K, 4, seed=S)
    expected = both(reference(ids, form), *given_arrays)
    found = both(lambda q, k, v: attend_chunked(q, k, v, ids, form, rows), *given_arrays)
    compare(found, expected, 2e-5)


# Three documents and padding; a short document and a long one.
IDS = np.stack([np.repeat([1, 2, 3, 0], [100, 90, 50, 16]), np.repeat([1, 2], [5, 251])])


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_gpu_kernels_give_the_reference(form):
    """Outputs and gradients in the interpreter; tiles of queries and keys of different sizes."""
    ids, tiling = (
        jnp.asarray(IDS, jnp.int32),
        Tiling(Tile(64, 32, 4), Tile(32, 64, 4), Tile(32, 64, 4)),
    )
    given_arrays = arrays(2, 256, 4, 2, 32)
    expected = both(reference(ids, FORMS[form]), *given_arrays)

    def attend(q, k, v):
        return attend_gpu(q, k, v, ids, FORMS[form], tiling, interpret=True)

    compare(both(attend, *given_arrays), expected, 2e-5)


def test_the_gpu_kernels_are_near_the_reference_in_bfloat16():
    ids, form = jnp.asarray(IDS, jnp.int32), FORMS["plain"]
    given_arrays = [x.astype(jnp.bfloat16) for x in arrays(2, 256, 2, 1, 32)]
    assert takes(given_arrays[0])
    expected = both(reference(ids, form), *(x.astype(jnp.float32) for x in given_arrays))
    for attend in (attend_gpu, attend_chunked):
        extra: Any = {"interpret": True} if attend is attend_gpu else {"rows": 64}
        found = both(lambda q, k, v, a=attend, e=extra: a(q, k, v, ids, form, **e), *given_arrays)
        assert [x.dtype for x in found] == [jnp.bfloat16] * 4
        compare(found, expected, 2e-2)


def lowered(function: Any, *shapes: Any) -> str:
    """Returns what is given to a GPU's compiler; no GPU is asked."""
    device = AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
    mesh = AbstractMesh((1,), ("x",), (AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.jit(function).trace(*shapes).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("form", FORMS)
def test_the_gpu_kernels_become_triton_programs(form, head_dim):
    """Nothing in them is what Triton has no words for, though neither rows nor heads are a power
    of two."""
    ids = jnp.zeros((1, 384), jnp.int32)

    def total(q, k, v):
        return jnp.sum(attend_gpu(q, k, v, ids, FORMS[form]).astype(jnp.float32))

    given_arrays = [x.astype(jnp.bfloat16) for x in arrays(1, 384, 6, 2, head_dim)[:3]]
    text = lowered(jax.grad(total, argnums=(0, 1, 2)), *given_arrays)
    names = ("attention", "attention_d_queries", "attention_d_keys")
    assert text.count("triton") >= 3 and all(f'"{name}"' in text for name in names)


@pytest.mark.parametrize("kind", ["chunked", "pallas"])
def test_no_array_of_the_rows_by_the_rows_is_in_memory(kind):
    """A row four times as long takes four times the memory, not sixteen times; pallas stands for
    what it falls back to, in float32."""

    def temporaries(kind: attention.Kind, S: int) -> int:
        ids = jnp.zeros((1, S), jnp.int32)

        def total(q, k, v):
            return jnp.sum(attention.attend(q, k, v, ids, kind, Form(0.1)))

        shapes = [jax.ShapeDtypeStruct((1, S, heads, 16), jnp.float32) for heads in (4, 2, 2)]
        compiled = jax.jit(jax.grad(total, argnums=(0, 1, 2))).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, long = temporaries(kind, 2048), temporaries(kind, 8192)
    scores = 4 * 8192 * 8192 * 4
    assert long < 4.5 * short and long < scores / 10
    assert temporaries("reference", 2048) > 4 * 2048 * 2048 * 4


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_tiles_that_can_see_each_other_meet(data):
    queries, keys = (data.draw(st.sampled_from([1, 2, 4, 8])) for _ in range(2))
    ids = np.array([data.draw(st.lists(st.integers(0, 3), min_size=16, max_size=16))])
    window = data.draw(st.none() | st.integers(1, 20))
    first, behind = meetings(jnp.asarray(ids), queries, keys, window)
    distance = np.arange(16)[:, None] - np.arange(16)[None]
    seen = (distance >= 0) & (distance < (window or 17)) & (ids[0][:, None] == ids[0][None])
    met = seen.reshape(16 // queries, queries, 16 // keys, keys).any((1, 3))
    for i, j in zip(*np.nonzero(met), strict=True):
        assert first[0, i] <= j and i < behind[0, j]
    # Every position sees itself: no loop is empty.
    assert (np.asarray(first)[0] * keys <= np.arange(16 // queries) * queries + queries - 1).all()


def test_devices_of_a_mesh_each_attend_to_their_own_rows_and_heads():
    ids = jnp.asarray(np.tile(IDS[:1, :64], (4, 1)), jnp.int32)
    given_arrays = arrays(4, 64, 4, 2, 8)
    expected = both(reference(ids, FORMS["window"]), *given_arrays)
    with jax.set_mesh(make_mesh(Mesh(fsdp=2, tensor=2, data=2))):
        attend = jax.jit(
            lambda *given: both(
                lambda q, k, v: attention.attend(q, k, v, ids, "chunked", FORMS["window"]), *given
            )
        )
        compare(attend(*given_arrays), expected, 2e-5)


def test_what_is_saved_by_name_is_not_computed_again():
    """With "attention" saved the backward pass has no second forward pass."""
    ids, form = jnp.zeros((1, 128), jnp.int32), Form(0.3)
    given_arrays = arrays(1, 128, 2, 1, 32)[:3]

    def loops(*saved: str) -> int:
        policy = jax.checkpoint_policies.save_only_these_names(*saved)

        def total(q, k, v):
            attend = jax.checkpoint(lambda *x: attend_chunked(*x, ids, form, 32), policy=policy)
            return jnp.sum(jnp.sin(attend(q, k, v)))

        text = jax.jit(jax.grad(total)).lower(*given_arrays).compile().as_text()
        return text.count(" while(")

    # Each pass is a loop in a loop.
    assert loops("attention") == 4 and loops() == 6


def test_each_platform_gets_its_kernel_and_a_wrong_one_is_named():
    platforms = ("tpu", "gpu", "cpu")
    chosen = [attention.choose_attention("auto", platform) for platform in platforms]
    assert chosen == ["splash", "pallas", "reference"]
    for platform in platforms:
        assert attention.choose_attention("chunked", platform) == "chunked"
    with pytest.raises(ValueError, match="'pallas' is a GPU kernel, but this is cpu"):
        attention.choose_attention("pallas", "cpu")
    with pytest.raises(ValueError, match="'splash' is a TPU kernel, but this is gpu"):
        attention.choose_attention("splash", "gpu")


def test_what_the_kernels_do_not_take_goes_through_plain_tiles():
    ids = jnp.zeros((1, 100), jnp.int32)
    q, k, v, _ = arrays(1, 100, 2, 1, 32)
    assert not takes(q) and not takes(q.astype(jnp.bfloat16))
    found = attention.attend(q, k, v, ids, "pallas", FORMS["plain"])
    compare([found], [attention.attend(q, k, v, ids, "reference", FORMS["plain"])], 2e-5)


def test_a_decoder_attends_in_tiles_as_it_does_by_the_reference():
    """Local and global layers, capped scores, shared heads; activations and all gradients."""
    config = Model(
        vocab_size=64, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8,
        mlp_dim=48, query_scale=0.3, attention_softcap=5.0, window=40,
        window_pattern=("local", "global"),
    )  # fmt: skip
    network = Network.create(config)
    params = init_weights(network.specs, jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (2, 256), 0, 64)

    def run(kind: attention.Kind) -> Any:
        def total(params):
            hidden = network.hidden(params, tokens, jnp.asarray(IDS), dtype=jnp.float32, kind=kind)
            return jnp.sum(hidden * jnp.sin(jnp.arange(hidden.size).reshape(hidden.shape)))

        return jax.tree.leaves(jax.jit(jax.value_and_grad(total))(params))

    for a, b in zip(run("chunked"), run("reference"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 * float(jnp.abs(b).max()) + 1e-6)
