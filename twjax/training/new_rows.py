"""Rows of the embedding and the output matrix for ids that the starting weights don't have.

Shapes: V rows of the old matrix, N new rows, D embed, K the most old ids that a new one stands for.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from twjax.config import ConfigError, Model, Run
from twjax.config.extension import Extension
from twjax.models.spec import WeightSpec, is_spec
from twjax.parallel.sharding import weight_sharding

# Of the root mean square of the old values.
_NOISE = 0.01
# New rows that are drawn at once: a draw needs a number for each old row.
_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class NewRows:
    """What a run adds to weights with `old_rows` rows: one row for each new id of `extension`."""

    extension: Extension
    old_rows: int
    kind: Literal["mean", "gaussian", "zero"]
    seed: int

    def add(self, params: dict[str, Any], specs: Any, mesh: jax.sharding.Mesh) -> Any:
        """Returns `params` with the new rows, for the network of `specs`.

        Every weight with a vocabulary axis gets its own: rows of the output matrix come from the
        output matrix. Old rows keep their values, padding is zero, and other weights are passed on
        as they are. Nothing leaves the devices: each new matrix is made in its sharding.
        """

        def grow(spec: WeightSpec, old: jax.Array) -> jax.Array:
            if "vocab" not in spec.axes:
                return old
            make = jax.jit(
                functools.partial(_grow, spec, self),
                out_shardings=weight_sharding(spec, mesh),
            )
            return make(old, *_table(self.extension.parts))

        return jax.tree.map(grow, specs, params, is_leaf=is_spec)


def find_new_rows(
    run: Run, vocabulary: str, source: str, model: Model, known: str | None
) -> tuple[Extension | None, NewRows | None]:
    """Returns the extension that made the run's vocabulary, and the rows to add, if there are any.

    `vocabulary` is the hash of the one that made the run's rows; `model` and `known` are those of
    the weights in the directory `source`, None for a vocabulary that isn't known.
    """
    extension = Extension.find(run.data.vocabulary)
    if extension is not None and vocabulary not in extension.made.values():
        # The record is of another vocabulary in the same folder.
        extension = None
    if extension is None and run.optimizer.new_rows_steps:
        raise ConfigError(
            f"Optimizer.new_rows_steps ({run.optimizer.new_rows_steps}) does nothing here: "
            f"Data.vocabulary ({run.data.vocabulary}) is none that `twjax vocab extend` made, so "
            "no rows are new."
        )
    same = known in extension.made.values() if extension is not None else True
    if extension is None or same or (known is None and model.vocab_size == run.model.vocab_size):
        if run.new_rows != "mean":
            raise ConfigError(
                f"Run.new_rows ({run.new_rows!r}) does nothing here: {source} has a row for each "
                f"id of Data.vocabulary ({run.data.vocabulary}) already, or that isn't one that "
                "`twjax vocab extend` made. Leave it out."
            )
        return extension, None
    if known is not None and known not in extension.base.values():
        raise ConfigError(
            f"Data.vocabulary ({run.data.vocabulary}): was extended from another vocabulary than "
            f"that of {source} (sha256 {known[:12]}…): its old ids mean other text there. Extend "
            "the tokenizer in that folder."
        )
    if model.vocab_size < extension.old_size:
        raise ConfigError(
            f"Data.vocabulary ({run.data.vocabulary}): the vocabulary that was extended has "
            f"{extension.old_size} ids, but {source} has only {model.vocab_size} rows. Extend the "
            "tokenizer of that model."
        )
    wanted = max(model.vocab_size, extension.size)
    if run.model.vocab_size != wanted:
        raise ConfigError(
            f"Model.vocab_size ({run.model.vocab_size}) must be {wanted}: {source} has "
            f"{model.vocab_size} rows, and Data.vocabulary ({run.data.vocabulary}) has "
            f"{extension.size} ids, {len(extension.parts)} of them new."
        )
    return extension, NewRows(extension, model.vocab_size, run.new_rows, run.seed)


def _table(parts: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the old ids of each new one, int32 [N, K], and which of them count, bool [N, K]."""
    counts = np.array([len(ids) for ids in parts])
    used_NK = np.arange(counts.max()) < counts[:, None]
    ids_NK = np.zeros(used_NK.shape, np.int32)
    ids_NK[used_NK] = [id for ids in parts for id in ids]
    return ids_NK, used_NK


def _grow(spec: WeightSpec, new: NewRows, weight: Any, ids_NK: Any, used_NK: Any) -> jax.Array:
    tag = int.from_bytes(hashlib.sha256(spec.name.encode()).digest()[:4], "little")
    key = jax.random.fold_in(jax.random.key(new.seed), tag)
    axis = spec.axes.index("vocab")
    # Both matrices have two dims: rows first from here on.
    all_VD = jnp.moveaxis(weight, axis, 0).astype(jnp.float32)
    first, stop = new.extension.old_size, new.extension.size
    old_VD = all_VD[:first]
    if new.kind == "mean":
        # An output row alone isn't stretched: measured, that made new ids too sure of themselves.
        rows_ND = _means(old_VD, ids_NK, used_NK, stretch=spec.name != "head")
    elif new.kind == "gaussian":
        rows_ND = _gaussian(old_VD, len(ids_NK), key)
    else:
        scale = _NOISE * jnp.sqrt(jnp.mean(old_VD**2))
        rows_ND = scale * jax.random.normal(key, (len(ids_NK), old_VD.shape[1]))
    # Published models have rows beyond their ids; those that no new id takes stay.
    rest = all_VD[stop : new.old_rows]
    padding = spec.shape[axis] - max(stop, new.old_rows)
    empty = jnp.zeros((padding, old_VD.shape[1]))
    return jnp.moveaxis(jnp.concatenate([old_VD, rows_ND, rest, empty]), 0, axis)


def _means(old_VD: jax.Array, ids_NK: jax.Array, used_NK: jax.Array, *, stretch: bool) -> jax.Array:
    """Returns the mean of the rows of each new id's parts; stretched, as long as those on average.

    A mean of several directions is shorter than they are, and would be a fainter input than any
    row that was trained.
    """

    def add(sums: tuple[jax.Array, jax.Array], column: tuple[jax.Array, jax.Array]):
        ids_N, used_N = column
        rows_ND = jnp.where(used_N[:, None], old_VD[ids_N], 0.0)
        return (sums[0] + rows_ND, sums[1] + jnp.linalg.norm(rows_ND, axis=-1)), None

    zero = (jnp.zeros((len(ids_NK), old_VD.shape[1])), jnp.zeros(len(ids_NK)))
    (total_ND, norms_N), _ = jax.lax.scan(add, zero, (ids_NK.T, used_NK.T))
    mean_ND = total_ND / used_NK.sum(axis=1, keepdims=True)
    if not stretch:
        return mean_ND
    length_N = jnp.linalg.norm(mean_ND, axis=-1)
    wanted_N = norms_N / used_NK.sum(axis=1)
    factor_N = jnp.where(length_N > 0, wanted_N / jnp.maximum(length_N, 1e-30), 0.0)
    return factor_N[:, None] * mean_ND


def _gaussian(old_VD: jax.Array, count: int, key: jax.Array) -> jax.Array:
    """Draws rows from the normal distribution with the mean and covariance of the old rows.

    Weighting the centred rows with V standard normal numbers over sqrt(V) gives exactly their
    covariance without forming it (Hewitt 2021, "Initializing new word embeddings").
    """
    mean_D = old_VD.mean(axis=0)
    centred_VD = (old_VD - mean_D) / len(old_VD) ** 0.5

    def draw(block: jax.Array) -> jax.Array:
        weights = jax.random.normal(jax.random.fold_in(key, block), (_BLOCK, len(old_VD)))
        return mean_D + jnp.matmul(weights, centred_VD, precision=jax.lax.Precision.HIGHEST)

    blocks = -(-count // _BLOCK)
    return jax.lax.map(draw, jnp.arange(blocks)).reshape(-1, old_VD.shape[1])[:count]


def new_rows_of(record: dict[str, Any] | None) -> tuple[int, int] | None:
    """Returns the first new row and the one behind the last, as a run's ledger keeps them."""
    found = (record or {}).get("new_rows")
    return None if found is None else (found["first"], found["stop"])
