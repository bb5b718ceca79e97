"""Time of a token: reading it into a cache, against running the whole sequence again.

python benchmarks/decoding.py --json build/decoding.json
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from twjax import config
from twjax.config import Model
from twjax.models.decoder import Network
from twjax.models.spec import count_weights, init_weights

LLAMA = Model(
    vocab_size=32_000,
    num_layers=8,
    embed_dim=512,
    num_heads=8,
    num_kv_heads=2,
    head_dim=64,
    mlp_dim=1408,
)
# Smaller than anybody's, but shaped like them.
MODELS = {
    "llama": LLAMA,
    "gemma": dataclasses.replace(
        LLAMA,
        window=128,
        window_pattern=("local", "global"),
        norm_position="both",
        norm_offset=True,
        activation="gelu_tanh",
        logits_softcap=30.0,
        tie_embeddings=True,
    ),
}


@functools.partial(jax.jit, static_argnums=0)
def whole(network: Network, params: Any, tokens_BS: jax.Array) -> jax.Array:
    """Returns the next tokens by running all of the sequence."""
    hidden_BSD = network.hidden(
        params, tokens_BS, jnp.ones_like(tokens_BS), dtype=jnp.float32, kind="reference"
    )
    return jnp.argmax(network.logits(params, hidden_BSD[:, -1:]), axis=-1)


@functools.partial(jax.jit, static_argnums=(0, 3))
def start(network: Network, params: Any, tokens_BS: jax.Array, length: int) -> Any:
    """Returns the cache of a prompt."""
    ones_BS = jnp.ones_like(tokens_BS)
    return network.start(
        params, tokens_BS, ones_BS, length=length, dtype=jnp.float32, kind="reference"
    )[1]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def one(network: Network, params: Any, token_B1: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
    """Returns the next tokens by reading one token more."""
    hidden_B1D, cache = network.extend(params, token_B1, cache)
    return jnp.argmax(network.logits(params, hidden_B1D), axis=-1), cache


def measure(model: Model, rows: int, length: int, repeats: int) -> dict[str, float]:
    """Returns the medians in milliseconds of a whole forward and of a token from the cache."""
    network = Network.create(model)
    params = init_weights(network.specs, jax.random.key(0))
    tokens_BS = np.random.default_rng(0).integers(0, model.vocab_size, (rows, length))
    tokens_BS = jnp.asarray(tokens_BS, jnp.int32)
    full = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(whole(network, params, tokens_BS))
        full.append(time.perf_counter() - began)
    cache = start(network, params, tokens_BS[:, : length - 1], length + 8 * repeats)
    token_B1, steps = tokens_BS[:, -1:], []
    for _ in range(8 * repeats):
        began = time.perf_counter()
        token_B1, cache = one(network, params, token_B1, cache)
        jax.block_until_ready(token_B1)
        steps.append(time.perf_counter() - began)
    # The first of each compiles.
    forward, step = statistics.median(full[1:]), statistics.median(steps[1:])
    return {
        "parameters": count_weights(network.specs),
        "forward_ms": forward * 1e3,
        "token_ms": step * 1e3,
        "ratio": forward / step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", help="measure the Model of this gin file instead")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    models = MODELS
    if args.config:
        models = {args.config: config.load(config.Model, [args.config]).value}
    results = {}
    print(f"{args.rows} rows at {args.length} tokens on {jax.devices()[0].device_kind}, float32")
    print(f"{'model':10}  {'parameters':>12}  {'forward':>10}  {'token':>9}  ratio")
    for name, model in models.items():
        result = measure(model, args.rows, args.length, args.repeats)
        results[name] = result
        print(
            f"{name:10}  {result['parameters']:12,}  {result['forward_ms']:7.1f} ms  "
            f"{result['token_ms']:6.2f} ms  {result['ratio']:5.0f}"
        )
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
