"""Gradients equal PyTorch's, weight by weight, for one network of each family."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import hf_models
import torch

CASES = (*hf_models.PLAIN, "llama llama3")


@pytest.mark.parametrize("case", CASES)
def test_gradients_equal_pytorch(case: str) -> None:
    model = hf_models.torch_model(case)
    network, params = hf_models.ours(model)
    tokens_BS = np.random.default_rng(2).integers(3, 97, (2, 16))

    logits = model(input_ids=torch.from_numpy(tokens_BS)).logits[:, :-1]
    torch.nn.functional.cross_entropy(
        logits.reshape(-1, 97), torch.from_numpy(tokens_BS)[:, 1:].reshape(-1)
    ).backward()
    theirs = hf_models.by_table(
        model, {name: value.grad.numpy() for name, value in model.named_parameters()}
    )[1]

    @jax.jit
    @jax.grad
    def gradients(params: Any) -> jax.Array:
        tokens = jnp.asarray(tokens_BS, jnp.int32)
        hidden_BSD = network.hidden(
            params, tokens, jnp.ones_like(tokens), dtype=jnp.float32, kind="reference"
        )
        picked = jax.nn.log_softmax(network.logits(params, hidden_BSD)[:, :-1])
        return -jnp.take_along_axis(picked, tokens[:, 1:, None], -1).mean()

    found, wanted = (
        {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
        for leaves in map(jax.tree.leaves_with_path, (gradients(params), theirs))
    )
    assert found.keys() == wanted.keys()
    largest = max(np.linalg.norm(value) for value in wanted.values())
    for name, value in wanted.items():
        if "k_bias" in name and network.config.positions != "rotary":
            # It shifts all scores of a softmax alike: the true gradient is 0, the rest is noise.
            assert np.linalg.norm(value) < 1e-6 * largest
            assert np.linalg.norm(found[name]) < 1e-6 * largest
        else:
            assert np.linalg.norm(found[name] - value) <= 1e-3 * np.linalg.norm(value), name
