"""T5, T5 v1.1, mT5 and umT5 equal transformers': logits, gradients, sizes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import hf_models
import hf_t5
import torch
import transformers
from data_side import REPO

from twjax.config import Model, load
from twjax.huggingface.registry import FAMILIES, family_of
from twjax.models.network import network as declare
from twjax.models.spec import count_weights

TOLERANCE = 2e-4


@functools.cache
def both(case: str) -> tuple[Any, Any, Any]:
    model = hf_t5.torch_model(case)
    return model, *hf_models.ours(model)


def torch_logits(model: Any, inputs_BS: Any, lengths: list[int], targets_BT: Any) -> np.ndarray:
    mask_BS = np.arange(inputs_BS.shape[1])[None] < np.array(lengths)[:, None]
    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(inputs_BS),
            attention_mask=torch.from_numpy(mask_BS).long(),
            labels=torch.from_numpy(targets_BT),
        )
    return out.logits.numpy()


@functools.partial(jax.jit, static_argnums=0)
def our_logits(network: Any, params: Any, *rows: jax.Array) -> jax.Array:
    hidden = network.hidden(params, *rows, dtype=jnp.float32)
    return network.logits(params, hidden)


def same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert 5 < np.abs(theirs).max() < 40, "logits of a scale at which the tolerance means something"
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.mark.parametrize("case", hf_t5.CASES)
def test_logits_equal_transformers(case: str) -> None:
    """One batch holds a row with padded inputs, a full one, and one of three packed pairs."""
    model, network, params = both(case)
    draw = np.random.default_rng(1)
    S, T, lengths = 40, 24, [17, 40]
    inputs_BS, targets_BT = draw.integers(3, 97, (3, S)), draw.integers(3, 97, (3, T))
    inputs_BS[0, 17:] = 0
    seen_BS, said_BT = np.ones((3, S), np.int32), np.ones((3, T), np.int32)
    seen_BS[0, 17:] = 0
    pairs = [((0, 9), (0, 4)), ((9, 31), (4, 13)), ((31, 38), (13, 23))]
    seen_BS[2], said_BT[2] = 0, 0
    for number, ((a, b), (c, d)) in enumerate(pairs):
        seen_BS[2, a:b], said_BT[2, c:d] = number + 1, number + 1
    rows = (inputs_BS, seen_BS, targets_BT, said_BT)
    ours_BTV = np.asarray(our_logits(network, params, *map(jnp.asarray, rows)))

    theirs_BTV = torch_logits(model, inputs_BS[:2], lengths, targets_BT[:2])
    same(ours_BTV[:2], theirs_BTV)
    for (a, b), (c, d) in pairs:
        alone = torch_logits(model, inputs_BS[2:, a:b], [b - a], targets_BT[2:, c:d])
        same(ours_BTV[2, c:d], alone[0])


@pytest.mark.parametrize("case", ["t5", "mt5", "umt5"])
def test_gradients_equal_torchs(case: str) -> None:
    model, network, params = both(case)
    draw = np.random.default_rng(2)
    inputs, targets = draw.integers(3, 97, (2, 30)), draw.integers(3, 97, (2, 20))
    model.zero_grad()
    model(input_ids=torch.from_numpy(inputs), labels=torch.from_numpy(targets)).loss.backward()
    rows = (inputs, np.ones_like(inputs), targets, np.ones_like(targets))

    def loss(params: Any) -> jax.Array:
        logs = jax.nn.log_softmax(our_logits(network, params, *map(jnp.asarray, rows)))
        return -jnp.mean(jnp.take_along_axis(logs, jnp.asarray(targets)[..., None], axis=-1))

    ours = jax.jit(jax.grad(loss))(params)
    # Torch's gradients as if they were weights, in our layout.
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.grad)
    _, theirs = hf_models.ours(model)
    both.cache_clear()

    def close(a: Any, b: Any) -> None:
        assert np.linalg.norm(a - b) < 1e-3 * np.linalg.norm(b)

    jax.tree.map(close, ours, theirs)


PUBLISHED = {
    # Elements in the released files, each weight once.
    "t5_small": 60_506_624,
    "t5_base": 222_903_552,
    "t5_large": 737_668_096,
    "t5_3b": 2_851_598_336,
    "t5_11b": 11_307_321_344,
    "t5.1.1_small": 76_961_152,
    "t5.1.1_base": 247_577_856,
    "t5.1.1_large": 783_150_080,
    "t5.1.1_xl": 2_849_757_184,
    "t5.1.1_xxl": 11_135_332_352,
    "mt5_small": 300_176_768,
    "mt5_base": 582_401_280,
    "mt5_large": 1_229_581_312,
    "mt5_xl": 3_742_619_648,
    "mt5_xxl": 12_921_057_280,
    "umt5_small": 306_601_984,
    "umt5_base": 592_043_520,
    "umt5_xl": 3_768_356_864,
    "umt5_xxl": 12_972_531_712,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name: str) -> None:
    model = load(Model, [REPO / "configs" / "models" / f"{name}.gin"]).value
    assert count_weights(declare(model).specs) == PUBLISHED[name]
    family = {f.name: f for f in FAMILIES}[name.partition("_")[0].partition(".")[0]]
    config = family.write_config(model, None)
    assert family.read_config(config) == model
    kind = config["architectures"][0]
    with torch.device("meta"):
        theirs = getattr(transformers, kind)(
            getattr(transformers, kind.replace("ForConditionalGeneration", "Config"))(**config)
        )
    count = sum(weight.numel() for weight in theirs.parameters())
    # transformers 5 ties them in memory until it loads a file that doesn't.
    count += 0 if model.tie_embeddings else theirs.lm_head.weight.numel()
    assert count == PUBLISHED[name]


def test_every_size_has_its_number() -> None:
    found = {path.stem for path in (REPO / "configs" / "models").glob("*t5*.gin")}
    assert found == set(PUBLISHED)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"feed_forward_proj": "gated-swish"}, "feed_forward_proj = 'gated-swish'"),
        ({"dense_act_fn": "silu"}, "dense_act_fn = 'silu'"),
        ({"decoder_start_token_id": 2}, "decoder_start_token_id = 2"),
        ({"tie_word_embeddings": False, "scale_decoder_outputs": True}, "scale_decoder_outputs"),
        ({"encoder_no_rope": 7}, "encoder_no_rope = 7"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder = False"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    config = hf_t5.torch_model("t5").config.to_dict() | change
    config["architectures"] = ["T5ForConditionalGeneration"]
    with pytest.raises(ValueError, match=said):
        family_of(config).read_config(config)
