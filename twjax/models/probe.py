"""A network's loss on a few fixed tokens: the same number before and after its weights move."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from twjax.models.attention import Kind
from twjax.models.encdec import EncoderDecoder
from twjax.parallel.sharding import batch_shards, replicated

# Kernels take rows in multiples of 128.
ROWS, LENGTH = 2, 128


def probe_loss(
    network: Any,
    params: Any,
    tokens: Sequence[Sequence[int]],
    mesh: jax.sharding.Mesh,
    *,
    dtype: Any = np.float32,
    kind: Kind = "reference",
) -> float:
    """Returns the mean loss in nats per token of predicting each token from those before it.

    `tokens` are rows of one length, which a mesh with a context axis must divide. An
    encoder-decoder reads each row and predicts it.
    """
    rows = np.asarray(tokens, np.int32)
    count = -(-len(rows) // batch_shards(mesh)) * batch_shards(mesh)
    # Rows beyond the given ones only fill the devices.
    filled = np.resize(rows, (count, rows.shape[1]))
    with jax.set_mesh(mesh):
        losses = _losses(network, params, filled, jnp.dtype(dtype), kind, replicated(mesh))
    return float(np.asarray(losses, np.float64)[: len(rows)].mean())


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5))
def _losses(
    network: Any, params: Any, tokens_BS: jax.Array, dtype: Any, kind: Any, out: Any
) -> jax.Array:
    """Returns the mean loss of each row, float32 [B]."""
    segments_BS = jnp.ones_like(tokens_BS)
    if isinstance(network, EncoderDecoder):
        rows = (tokens_BS, segments_BS, tokens_BS, segments_BS)
        hidden_BSD = network.hidden(params, *rows, dtype=dtype, kind=kind)
        targets_BS = tokens_BS
    else:
        hidden_BSD = network.hidden(params, tokens_BS, segments_BS, dtype=dtype, kind=kind)
        hidden_BSD, targets_BS = hidden_BSD[:, :-1], tokens_BS[:, 1:]
    logs_BSV = jax.nn.log_softmax(network.logits(params, hidden_BSD))
    picked_BS = jnp.take_along_axis(logs_BSV, targets_BS[..., None], axis=-1)[..., 0]
    return jax.lax.with_sharding_constraint(-picked_BS.mean(axis=1), out)
