"""Attention over rows that several devices share equals attention over whole rows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from twjax.config import ConfigError, Mesh, Model, Run, load
from twjax.models import attention
from twjax.models.attention import Form
from twjax.models.balanced import balance, balanced_order, devices_a_row, natural
from twjax.models.decoder import Network
from twjax.models.spec import init_weights
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding, weight_shardings
from twjax.parallel.tpu import Tiles
from twjax.training.loss import next_token_loss
from twjax.training.preflight import check_batch

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "embed_dim": 16,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "mlp_dim": 32,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma": {"query_scale": 0.5, "attention_softcap": 5.0, "window": 20, "qk_norm": True,
              "window_pattern": ("local", "global"), "logits_softcap": 10.0},
    "alibi": {"positions": "alibi", "num_kv_heads": 4},
    "learned": {"positions": "learned", "max_positions": 128},
}  # fmt: skip


def packed(rng: np.random.Generator, count: int, length: int) -> dict[str, np.ndarray]:
    """Returns rows of four documents, cut anywhere, and padding."""
    cuts = np.sort(rng.integers(1, length - 8, (count, 3)), axis=1)
    place = np.arange(length)[None, :, None]
    segment_ids = 1 + (place >= cuts[:, None, :]).sum(-1)
    segment_ids[:, length - 7 :] = 0
    return {
        "tokens": rng.integers(0, 64, (count, length)).astype(np.int32),
        "segment_ids": segment_ids.astype(np.int32),
        "loss_weights": (segment_ids > 0).astype(np.uint8),
    }


def loss_and_gradients(model: dict[str, Any], mesh: Mesh, devices: int, length: int, kind: Any):
    """Returns the loss of two packed rows and its gradients, with all weights drawn alike."""
    network = Network.create(Model(**model))
    params = init_weights(network.specs, jax.random.key(0))
    # Attention that isn't flat.
    params["layers"]["q"] *= 20.0
    batch = packed(np.random.default_rng(1), 2, length)
    over = make_mesh(mesh, jax.devices()[:devices])

    def total(params, batch):
        hidden = network.hidden(
            params, batch["tokens"], batch["segment_ids"], dtype=jnp.float32, kind=kind, saved=()
        )
        head = network.head(params, jnp.float32)
        return next_token_loss(
            hidden, head, batch["tokens"], batch["loss_weights"], vocab_size=64, chunks=4
        )

    with jax.set_mesh(over):
        where = weight_shardings(network.specs, over)
        params = jax.device_put(params, where)
        batch = jax.device_put(batch, batch_sharding(over))
        function = jax.jit(jax.value_and_grad(total, has_aux=True), out_shardings=(None, where))
        (loss, sums), grads = function(params, batch)
        return float(loss), jax.device_get(sums), jax.device_get(grads)


def agree(found: Any, expected: Any, tolerance: float) -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    for a, b in zip(jax.tree.leaves(found[2]), jax.tree.leaves(expected[2]), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


@functools.cache
def alone(family: str):
    return loss_and_gradients(SMALL | MODELS[family], Mesh(fsdp=1), 1, 128, "reference")


@pytest.mark.parametrize(
    ("family", "mesh", "devices"),
    [
        pytest.param("llama", Mesh(fsdp=1, context=2), 2, marks=pytest.mark.slow),
        ("llama", Mesh(fsdp=2, context=4), 8),
        ("gemma", Mesh(data=2, fsdp=1, context=2, tensor=2), 8),
        pytest.param("gemma", Mesh(fsdp=1, context=8), 8, marks=pytest.mark.slow),
        pytest.param("alibi", Mesh(fsdp=1, context=4, tensor=2), 8, marks=pytest.mark.slow),
        pytest.param("learned", Mesh(slice=2, fsdp=1, context=4), 8, marks=pytest.mark.slow),
    ],
    ids=lambda x: x if isinstance(x, str) else None,
)
def test_loss_and_gradients_are_those_of_one_device(family, mesh, devices):
    found = loss_and_gradients(SMALL | MODELS[family], mesh, devices, 128, "reference")
    agree(found, alone(family), 1e-5)


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 8])
def test_rows_come_into_balanced_order_and_back(parts):
    length = 48
    order = balanced_order(length, parts)
    assert sorted(order) == list(range(length))
    width = length // (2 * parts)
    held = order.reshape(parts, 2, width)
    for device, (early, late) in enumerate(held):
        assert early[0] == device * width and late[0] == length - (device + 1) * width
        assert (np.diff(early) == 1).all() and (np.diff(late) == 1).all()
    with jax.set_mesh(make_mesh(Mesh(fsdp=1, context=parts), jax.devices()[:parts])):
        x = np.arange(2 * length * 3).reshape(2, length, 3)
        moved = jax.jit(lambda x: balance(x, parts))(x)
        np.testing.assert_array_equal(moved, x[:, order])
        np.testing.assert_array_equal(jax.jit(lambda x: natural(x, parts))(moved), x)
        assert devices_a_row(length) == parts
        assert devices_a_row(length + 1) == 1


FORMS = {
    "plain": Form(0.3),
    "window": Form(0.3, window=50),
    "softcap": Form(0.3, softcap=2.0, window=300),
    "alibi": Form(0.3, alibi=True),
}


@pytest.mark.slow
@pytest.mark.parametrize(("form", "parts"), [*[(form, 2) for form in FORMS], ("window", 4)])
def test_the_kernel_and_its_gradients_equal_the_reference(form, parts):
    """Documents end within chunks; tiles of queries are smaller than a chunk in one pass."""
    S, N, K, H = 256 * parts, 2, 1 if form != "alibi" else 2, 128
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, out = (
        jax.random.normal(key, (1, S, heads, H))
        for key, heads in zip(keys, (N, K, K, N), strict=True)
    )
    segments = jnp.asarray(np.repeat([1, 2, 3, 0], [100, S - 150, 40, 10])[None])
    out = jnp.where(segments[..., None, None] > 0, out, 0.0)
    order = balanced_order(S, parts)

    def results(attend: Callable[..., jax.Array], q, k, v, out):
        function = jax.value_and_grad(lambda *qkv: jnp.sum(attend(*qkv) * out), argnums=(0, 1, 2))
        return jax.jit(function)(q, k, v)

    expected, slopes = results(
        lambda q, k, v: attention.attend(q, k, v, segments, "reference", FORMS[form]),
        *(q, k, v, out),
    )
    tiles = Tiles(forward=256, queries=128, keys=256, compute=128)
    attend = functools.partial(attention._splash, tiles=tiles, interpret=True, parts=parts)
    mesh = make_mesh(Mesh(fsdp=1, context=parts, tensor=K), jax.devices()[: parts * K])
    with jax.set_mesh(mesh):
        found, balanced = results(
            lambda q, k, v: attend(q, k, v, segments, FORMS[form]),
            *(x[:, order] for x in (q, k, v, out)),
        )
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for a, b in zip(balanced, slopes, strict=True):
        np.testing.assert_allclose(a, b[:, order], atol=3e-4, rtol=1e-3)


def refused(run: Run, mesh: Mesh, devices: int, **changes: Any) -> str:
    run = dataclasses.replace(run, **changes)
    with pytest.raises(ConfigError) as error:
        check_batch(run, make_mesh(mesh, jax.devices()[:devices]))
    return str(error.value)


def test_lengths_that_can_not_be_shared_are_refused_before_any_work(tmp_path):
    run = load(Run, [tiny.write_config(tmp_path)]).value
    check_batch(run, make_mesh(Mesh(fsdp=2, context=4)))
    message = refused(
        run, Mesh(fsdp=1, context=4), 4, step=dataclasses.replace(run.step, loss_chunks=16)
    )
    assert "Data.seq_len (32 from step 0 on) must be a multiple of 64" in message
    assert "Mesh.context = 4" in message and "(Step.loss_chunks)" in message
    assert "Take 64" in message
    data = dataclasses.replace(run.data, seq_len_stages=((6, 36),))
    message = refused(run, Mesh(fsdp=1, context=8), 8, data=data)
    assert "Data.seq_len_stages (36 from step 6 on) must be a multiple of 16" in message
    # Two lengths of an encoder-decoder's rows: attention has them whole.
    model = dataclasses.replace(run.model, encoder_layers=1, positions="relative", num_kv_heads=4)
    data = dataclasses.replace(run.data, seq_len=(36, 32))
    both = dataclasses.replace(run, model=model, data=data)
    check_batch(both, make_mesh(Mesh(fsdp=2, context=4)))
    assert "must be a multiple of 8" in refused(both, Mesh(fsdp=1, context=8), 8)


def tiles_of(info: Any, parts: int) -> np.ndarray:
    """Returns how many tiles each device computes, of what the kernel knows of its mask."""
    return (np.asarray(info.block_mask) > 0).reshape(parts, -1).sum(axis=1)


@pytest.mark.parametrize("parts", [2, 4, 8])
@pytest.mark.parametrize("window", [None, 4096])
def test_every_device_computes_as_many_tiles(parts, window):
    length, form = 131_072, Form(1.0, window=window)
    kernel = attention._kernel(length, 4, 128, form, Tiles(2048, 1024, 8192, 1024), True, parts)
    for info, rows in ((kernel.fwd_mask_info, 2048), (kernel.dkv_mask_info, 1024)):
        found = tiles_of(info, parts)
        # A row's first positions have less of a window behind them than all others.
        assert found.max() - found.min() <= (1 if window is None else 4)
        if window is None:
            # Of tiles as large as this, half and the diagonal.
            keys = 2048 if rows == 2048 else 8192
            first = np.arange(length // rows) * rows
            assert found.sum() == ((first + rows - 1) // keys + 1).sum()


@pytest.mark.parametrize("window", [None, 300, 1000])
def test_tiles_told_by_distances_are_those_of_the_whole_mask(window):
    """Two chunks of one device are in natural order: JAX's own masks look at every position."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask_info as info

    from twjax.models.balanced_mask import BalancedMask

    whole = splash.CausalMask((1024, 1024))
    if window is not None:
        whole = splash.LocalMask((1024, 1024), window_size=(window - 1, 0), offset=0)

    for process in (info.process_mask, info.process_mask_dkv):
        for shape in ((128, 256), (256, 128)):
            expected, _ = process(splash.MultiHeadMask([whole]), shape)
            found, _ = process(splash.MultiHeadMask([BalancedMask(1024, 1, window)]), shape)
            for name in ("data_next", "block_mask", "q_sequence"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_keys_and_values_are_gathered_once_and_their_slopes_summed_once():
    mesh = make_mesh(Mesh(fsdp=1, context=4, tensor=2))
    x = jax.ShapeDtypeStruct((1, 1024, 4, 128), jnp.float32)
    kv = jax.ShapeDtypeStruct((1, 1024, 2, 128), jnp.float32)
    segments = jax.ShapeDtypeStruct((1, 1024), jnp.int32)

    def attend(q, k, v, segments):
        tiles = Tiles(128, 128, 1024, 128)
        out = attention._splash(q, k, v, segments, Form(0.3), tiles, interpret=True, parts=4)
        return jnp.sum(jnp.square(out))

    def collectives(function):
        with jax.set_mesh(mesh):
            text = jax.jit(function).lower(x, kv, kv, segments).as_text()
        names = ("all_gather", "reduce_scatter", "collective_permute", "all_reduce", "all_to_all")
        return [text.count(f'"stablehlo.{name}"') for name in names]

    assert collectives(attend) == [1, 0, 0, 0, 0]
    assert collectives(jax.grad(attend, argnums=(0, 1, 2))) == [1, 1, 0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma", "alibi"])
def test_what_a_tpu_computes_of_shared_rows_is_what_one_device_does(family, monkeypatch):
    """The whole decoder with the kernel in its interpreter: loss and gradients of packed rows."""
    monkeypatch.setattr(attention, "_splash", functools.partial(attention._splash, interpret=True))
    model = SMALL | MODELS[family] | {"head_dim": 128, "num_layers": 2}
    expected = loss_and_gradients(model, Mesh(fsdp=1), 1, 512, "reference")
    tiles = Tiles(forward=128, queries=128, keys=256, compute=128)
    found = loss_and_gradients(model, Mesh(fsdp=2, context=2, tensor=2), 8, 512, tiles)
    agree(found, expected, 2e-3)
