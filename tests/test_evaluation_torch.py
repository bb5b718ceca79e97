"""Greedy text, and what sampling leaves out, equal transformers' for one network of each kind."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import hf_models
import torch

from twjax.config import Mesh
from twjax.evaluation.generate import generate
from twjax.evaluation.sampling import Sampling, likeliest
from twjax.parallel.mesh import make_mesh


@pytest.mark.parametrize(
    ("case", "penalty"),
    [*((case, 1.0) for case in hf_models.PLAIN), ("llama", 1.4), ("gemma2", 1.4)],
)
def test_greedy_text_equals_transformers(case: str, penalty: float) -> None:
    """Prompts of different lengths in one batch; windows are shorter than the text."""
    model = hf_models.torch_model(case)
    network, params = hf_models.ours(model)
    draw = np.random.default_rng(3)
    prompts = [draw.integers(3, 97, length).tolist() for length in (3, 9, 1)]
    ours = generate(
        network,
        jax.tree.map(jnp.asarray, params),
        prompts,
        tokens=16,
        mesh=make_mesh(Mesh()),
        sampling=Sampling(repetition_penalty=penalty),
    )
    for prompt, new in zip(prompts, ours, strict=True):
        text = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=16,
            do_sample=False,
            repetition_penalty=penalty,
            eos_token_id=None,
            pad_token_id=0,
        )[0].tolist()
        assert new == text[len(prompt) :]


@pytest.mark.parametrize(("top_k", "top_p"), [(5, None), (None, 0.6), (12, 0.4)])
def test_what_is_left_out_equals_transformers(top_k: int | None, top_p: float | None) -> None:
    from transformers.generation import logits_process

    scores = np.random.default_rng(4).normal(size=(6, 50)).astype(np.float32) * 2
    theirs = torch.from_numpy(scores)
    if top_k is not None:
        theirs = logits_process.TopKLogitsWarper(top_k)(None, theirs)
    if top_p is not None:
        theirs = logits_process.TopPLogitsWarper(top_p)(None, theirs)
    np.testing.assert_array_equal(likeliest(jnp.asarray(scores), top_k, top_p), theirs.numpy())
