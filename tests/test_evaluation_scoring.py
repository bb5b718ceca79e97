"""Likelihoods of continuations against a plain forward pass of each request by itself."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from twjax.config import Mesh, Model
from twjax.evaluation import generate, scoring
from twjax.evaluation.batching import Request, families, room, rows_of
from twjax.evaluation.generate import prompt_columns
from twjax.evaluation.scoring import Scorer
from twjax.models.encdec import EncoderDecoder
from twjax.models.network import network as declare
from twjax.models.spec import abstract_weights, init_weights
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import replicated, weight_shardings
from twjax.planning.topology import parse_topology, set_environment
from twjax.training.source import plain_run

VOCAB = 61
LLAMA = Model(
    vocab_size=VOCAB,
    num_layers=2,
    embed_dim=16,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=32,
    init_std=0.3,
)
GEMMA = {"window": 4, "window_pattern": ("local", "global"), "logits_softcap": 8.0}
KINDS = {
    "llama": LLAMA,
    "windows": dataclasses.replace(LLAMA, **GEMMA),
    "learned": dataclasses.replace(LLAMA, positions="learned", max_positions=64),
    "encoder-decoder": Model(
        vocab_size=VOCAB,
        num_layers=2,
        encoder_layers=2,
        embed_dim=16,
        num_heads=4,
        num_kv_heads=4,
        head_dim=8,
        mlp_dim=32,
        positions="relative",
    ),
}


def some_requests(rng: np.random.Generator) -> list[Request]:
    """Returns few-shot letters, options of several ids, texts by themselves, and repetitions."""

    def ids(size: int) -> tuple[int, ...]:
        return tuple(rng.integers(1, VOCAB, size).tolist())

    examples = ids(21)
    requests = []
    for _ in range(5):
        question = ids(int(rng.integers(3, 9)))
        requests += [Request(examples + question, (letter,)) for letter in (7, 8, 9, 10)]
    question = ids(17)
    options = [ids(int(rng.integers(1, 12))) for _ in range(4)]
    requests += [Request(question, option) for option in options]
    requests += [Request(question[:9], question[9:] + options[0]), Request(question, options[0])]
    requests += [Request(ids(1), ids(int(rng.integers(1, 40)))) for _ in range(6)]
    return requests


def one_by_one(network, params, requests: list[Request]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns each request's ln P of every id at its places, float64, and its own ids.

    Each request is a row of its own, all as long as the longest.
    """
    both = isinstance(network, EncoderDecoder)

    def padded(rows: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
        arrays = np.zeros((2, len(rows), max(map(len, rows))), np.int32)
        for number, row in enumerate(rows):
            arrays[:, number, : len(row)] = row, [1] * len(row)
        return arrays[0], arrays[1]

    if both:
        parts = (
            *padded([r.context for r in requests]),
            *padded([r.continuation for r in requests]),
        )
    else:
        parts = padded([r.context + r.continuation for r in requests])

    @jax.jit
    def all_logits(params, *parts):
        hidden = network.hidden(params, *parts, dtype=jnp.float32, kind="reference")
        return network.logits(params, hidden)

    logits = np.asarray(all_logits(params, *parts), np.float64)
    logs = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    found = []
    for number, request in enumerate(requests):
        first = 0 if both else len(request.context) - 1
        ids = np.asarray(request.continuation)
        found.append((logs[number, first : first + len(ids)], ids))
    return found


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_scores_equal_those_of_requests_read_one_by_one(kind, monkeypatch):
    model = KINDS[kind]
    network = declare(model)
    params = init_weights(network.specs, jax.random.key(1))
    requests = some_requests(np.random.default_rng(2))
    expected = one_by_one(network, params, requests)
    # The likeliest ids of some, so that some answers are greedy.
    for request, (logs, _) in list(zip(requests, expected, strict=True))[:8]:
        requests.append(request._replace(continuation=(int(logs[0].argmax()),)))
        expected.append((logs, np.asarray(requests[-1].continuation)))
    sums = [logs[np.arange(len(ids)), ids].sum() for logs, ids in expected]
    greedy = [bool(np.all(logs.argmax(-1) == ids)) for logs, ids in expected]
    # Small calls: rows are cut into several, and a family's prefix serves more than one.
    monkeypatch.setattr(scoring, "TOKENS_A_DEVICE", 32)
    monkeypatch.setattr(scoring, "COLUMNS_A_DEVICE", 128)
    found = Scorer(plain_run(model, "none"), network, make_mesh(Mesh()))(params, requests)
    np.testing.assert_allclose([score.log_likelihood for score in found], sums, atol=2e-5)
    assert [score.greedy for score in found] == greedy and sum(greedy) >= 8


@pytest.mark.parametrize("kind", ["llama", "encoder-decoder"])
def test_rows_divided_over_devices_score_alike(kind):
    """18 ids fill 20 columns, which eight devices can't divide."""
    network = declare(KINDS[kind])
    params = init_weights(network.specs, jax.random.key(1))
    requests = [Request(tuple(range(1, 18)), (3, 4)), Request((5,) * 30, (6,)), Request((7,), (8,))]
    # What is read behind a prefix is whole on every device.
    requests += [Request((9,) * 20 + (n,), (3, 4)) for n in range(10, 14)]
    run = plain_run(KINDS[kind], "none")
    plain = Scorer(run, network, make_mesh(Mesh()))(params, requests)
    found = Scorer(run, network, make_mesh(Mesh(fsdp=1, context=8)))(params, requests)
    np.testing.assert_allclose(
        [score.log_likelihood for score in found],
        [score.log_likelihood for score in plain],
        atol=2e-5,
    )


def test_the_kernel_gets_rows_that_its_tiles_fit():
    network = declare(LLAMA)
    for mesh in (Mesh(), Mesh(fsdp=1, context=8), Mesh(data=1, fsdp=2, context=3)):
        devices = jax.devices()[: 6 if mesh.context == 3 else 8]
        scorer = Scorer(plain_run(LLAMA, "none"), network, make_mesh(mesh, devices))
        assert {scorer.kind(scorer.columns(size)) for size in (1, 5000)} == {"reference"}
        scorer._kind = "splash"
        for size in range(1, 5000):
            columns = scorer.columns(size)
            assert columns >= size and columns % max(mesh.context, 1) == 0
            if scorer.kind(columns) == "splash":
                assert columns % 128 == 0 and columns > 512
            else:
                assert columns < 1024


@pytest.fixture
def uncached():
    """What is compiled for devices that aren't there can't be read back from a cache."""
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", folder)
    reset_cache()


@pytest.mark.slow
@pytest.mark.parametrize("context", [1, 2])
def test_a_tpu_reads_rows_of_every_size(context, uncached):
    """All that the scorer calls, and the reading of a prompt, compiled for a v5e."""
    pytest.importorskip("libtpu")
    set_environment()
    mesh = make_mesh(Mesh(fsdp=4 // context, context=context), parse_topology("v5e-4").devices())
    model = dataclasses.replace(KINDS["windows"], vocab_size=512)
    network = declare(model)
    scorer = Scorer(plain_run(model, "none"), network, mesh)
    params = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract_weights(network.specs),
        weight_shardings(network.specs, mesh),
    )

    def ints(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    rows, out, asked = 4, replicated(mesh), (ints(16), ints(16), ints(16, 4))
    kinds = set()
    for size in (18, 150, 530):
        columns = scorer.columns(size)
        kind = scorer.kind(columns)
        kinds.add(kind)
        shape = ints(rows, columns)
        with jax.set_mesh(mesh):
            read = scoring._read.lower(
                network, "bfloat16", kind, out, params, shape, ints(rows), *asked
            )
            assert ("tpu_custom_call" in read.compile().as_text()) == (kind == "splash")
            start = scoring._start.lower(network, "bfloat16", kind, params, shape, shape)
            cache = jax.tree.map(
                lambda leaf, sharding: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=sharding
                ),
                start.out_info,
                start.compile().output_shardings,
            )
            behind = ints(2 * rows, scorer.columns(size // 3))
            scoring._extend.lower(
                network, out, params, cache, ints(2 * rows), behind, *asked
            ).compile()
    assert kinds == {"reference", "splash"}
    prompts, segments = prompt_columns([[1] * 18, [2] * 150], mesh)
    with jax.set_mesh(mesh):
        generate._begin.lower(
            network, params, prompts, segments, 300, "bfloat16", "splash", False
        ).compile()


def test_what_cannot_be_scored_is_refused_by_number():
    model = KINDS["learned"]
    network = declare(model)
    params = init_weights(network.specs, jax.random.key(0))
    scorer = Scorer(plain_run(model, "none"), network, make_mesh(Mesh()))
    good = Request((1, 2), (3,))
    for bad, told in (
        (Request((), (1,)), "request 1: its context has no ids"),
        (Request((1,), ()), "request 1: its continuation has no ids"),
        (Request((1,), (VOCAB,)), f"request 1: ids from 1 to {VOCAB}, but the model has {VOCAB}"),
        (Request((1,) * 60, (2,) * 6), "request 1 needs 65 positions, but the model has learned"),
    ):
        with pytest.raises(ValueError, match=told):
            scorer(params, [good, bad])
    assert scorer(params, []) == []


ids = st.lists(st.integers(1, 3), min_size=1, max_size=30).map(tuple)


@given(st.lists(st.builds(Request, ids, ids), max_size=30))
def test_every_question_is_behind_its_own_ids_and_nothing_is_read_twice_in_vain(requests):
    rows = rows_of(requests, both=False)
    answered = {}
    for row in rows:
        places = {number: place for place, number in row.asked.items()}
        for number, asked in row.requests:
            answered[number] = [
                (row.ids[: places[q][0] + 1], places[q][1]) for q in asked
            ]  # fmt: skip
    for number, (context, continuation) in enumerate(requests):
        expected = [(context + continuation[:i], id) for i, id in enumerate(continuation)]
        assert answered[number] == expected
    alone, shared = families(rows)
    together = [row for family in shared for row in family.rows]
    assert sorted(row.ids for row in alone + together) == sorted(row.ids for row in rows)
    for family in shared:
        assert len({row.ids[: family.prefix] for row in family.rows}) == 1
        assert all(family.prefix <= row.first for row in family.rows)
    read = sum(len(row.ids) for row in alone) + sum(
        family.prefix + sum(len(row.ids) - family.prefix for row in family.rows)
        for family in shared
    )
    assert read <= sum(len(row.ids) for row in rows)


def test_examples_in_front_of_all_questions_are_read_once():
    rng = np.random.default_rng(0)
    examples = tuple(rng.integers(1, 9, 200).tolist())
    requests = []
    for _ in range(20):
        question = tuple(rng.integers(1, 9, 12).tolist())
        requests += [Request(examples + question, (letter,)) for letter in (1, 2, 3, 4)]
    rows = rows_of(requests, both=False)
    assert len(rows) == 20
    alone, shared = families(rows)
    assert not alone
    (family,) = shared
    assert family.prefix >= 200 and len(family.rows) == 20


def test_columns_leave_little_empty_and_are_few():
    sizes = [room(n) for n in range(1, 4097)]
    assert all(n <= size for n, size in zip(range(1, 4097), sizes, strict=True))
    assert all(a <= b for a, b in itertools.pairwise(sizes))
    assert all(size <= 1.25 * n for n, size in zip(range(16, 4097), sizes[15:], strict=True))
    assert len(set(sizes)) < 40
    by_24 = [room(n, multiple=24) for n in range(1, 4097)]
    assert all(a <= b < a + 24 and b % 24 == 0 for a, b in zip(sizes, by_24, strict=True))
