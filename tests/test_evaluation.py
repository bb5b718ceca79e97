"""Held-out scores against float64 NumPy, and generated text against a plain loop."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from twjax import config
from twjax.config import Mesh, Model, Run
from twjax.data.rows import RowReader
from twjax.evaluation.generate import generate
from twjax.evaluation.sampling import Sampling
from twjax.evaluation.watch import open_scores
from twjax.models.decoder import Network
from twjax.models.spec import init_weights
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import weight_shardings


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    path = tiny.write_config(tmp_path_factory.mktemp("evaluation"))
    run = config.load(Run, [path], ["Model.init_std = 0.3"]).value
    network = Network.create(run.model)
    return run, network, init_weights(network.specs, jax.random.key(0))


def forward(network, params, tokens, segment_ids):
    hidden = network.hidden(
        params,
        jnp.asarray(tokens),
        jnp.asarray(segment_ids),
        dtype=jnp.float32,
        kind="reference",
    )
    return np.asarray(network.logits(params, hidden), np.float64)


def test_bits_per_byte_of_held_out_rows(case):
    run, network, params = case
    mesh = make_mesh(run.mesh)
    with jax.set_mesh(mesh):
        records = open_scores(run, network, mesh)[0](params, 0)
    assert [record["task"] for record in records] == ["a", "b"]
    for record in records:
        reader = RowReader(run.data.cache, record["task"], "validation", run.data.seq_len)
        rows = reader.read(range(10))
        scores = forward(network, params, rows["tokens"], rows["segment_ids"])
        log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        nll = tokens = size = 0
        for b in range(10):
            for s in range(1, run.data.seq_len):
                if rows["loss_weights"][b, s]:
                    token = rows["tokens"][b, s]
                    nll -= log_p[b, s - 1, token]
                    tokens += 1
                    size += token % 4  # tiny.write_cache's bytes of a token
        assert record["tokens"] == tokens and record["bytes"] == size and record["rows"] == 10
        assert record["loss"] == pytest.approx(nll / tokens, rel=1e-5)
        assert record["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-4)
        assert record["bits_per_byte"] == pytest.approx(nll / math.log(2) / size, rel=1e-5)


def test_greedy_text_equals_one_forward_a_token(case):
    run, network, params = case
    prompts = [[3, 9, 17], [5], [8, 8, 8, 8, 8, 8]]
    texts = generate(network, params, prompts, tokens=9, mesh=make_mesh(run.mesh))
    for prompt, text in zip(prompts, texts, strict=True):
        ids = list(prompt)
        for _ in range(9):
            # Of one length, so that it is compiled once.
            padding = [0] * (16 - len(ids))
            segments = np.array([[1] * len(ids) + padding], np.int32)
            scores = forward(network, params, [ids + padding], segments)
            ids.append(int(scores[0, len(ids) - 1].argmax()))
        assert text == ids[len(prompt) :]
    stop = texts[0][4]
    cut = generate(network, params, prompts[:1], tokens=9, mesh=make_mesh(run.mesh), eos_ids=[stop])
    assert cut[0] == texts[0][: texts[0].index(stop)]


def test_drawn_text_follows_the_seed_and_not_the_neighbours(case):
    run, network, params = case
    mesh = make_mesh(run.mesh)

    def draw(prompts, seed):
        return generate(
            network,
            params,
            prompts,
            tokens=12,
            mesh=mesh,
            sampling=Sampling(temperature=1.0, seed=seed),
        )

    one = draw([[3, 9]], 0)
    assert draw([[3, 9], [7]], 0)[0] == one[0]
    assert draw([[3, 9]], 1) != one


@pytest.mark.slow
def test_draws_have_the_softmax_frequencies(case):
    run, network, params = case
    count = 512
    sampling = Sampling(temperature=2.0)
    draws = generate(
        network, params, [[3]] * count, tokens=1, mesh=make_mesh(run.mesh), sampling=sampling
    )
    scores = forward(network, params, [[3]], np.ones((1, 1), np.int32))[0, 0] / 2.0
    p = np.exp(scores) / np.exp(scores).sum()
    top = int(p.argmax())
    hits = sum(draw[0] == top for draw in draws)
    # Five standard deviations of a binomial.
    assert abs(hits - count * p[top]) < 5 * math.sqrt(count * p[top] * (1 - p[top])) + 1


@pytest.mark.slow
def test_text_does_not_depend_on_how_the_network_is_divided():
    model = Model(
        **{"vocab_size": 61, "num_layers": 5, "embed_dim": 16, "num_heads": 4, "num_kv_heads": 2},
        **{"head_dim": 8, "mlp_dim": 32, "window": 6, "window_pattern": ("local", "global")},
        **{"init_std": 0.3, "qk_norm": True, "qkv_bias": True},
    )
    network = Network.create(model)
    prompts = [[3, 9, 17], [5], [8] * 12]
    sampling = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.3, seed=5)

    def text(mesh):
        mesh = make_mesh(mesh)
        shardings = weight_shardings(network.specs, mesh)
        weights = jax.device_put(init_weights(network.specs, jax.random.key(0)), shardings)
        return generate(network, weights, prompts, tokens=20, mesh=mesh, sampling=sampling)

    rows, parts = text(Mesh()), text(Mesh(fsdp=2, tensor=2, context=2))
    assert rows == parts and [len(row) for row in rows] == [20, 20, 20]


def test_more_text_than_learned_positions_is_refused():
    model = Model(
        **{"vocab_size": 61, "num_layers": 1, "embed_dim": 16, "num_heads": 2, "num_kv_heads": 2},
        **{"head_dim": 8, "mlp_dim": 32, "positions": "learned", "max_positions": 16},
    )
    network = Network.create(model)
    weights = init_weights(network.specs, jax.random.key(0))
    with pytest.raises(ValueError, match="17 positions, but the model has learned 16"):
        generate(network, weights, [[1, 2, 3]], tokens=14, mesh=make_mesh(Mesh()))


def test_an_empty_prompt_is_refused(case):
    run, network, params = case
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        generate(network, params, [[1], []], tokens=1, mesh=make_mesh(run.mesh))
