"""The frozen base of `Run.distillation`: the weights that a run started from.

Only what the run trains is kept beside the state, in the dtype of the computation; all else is in
the state already, bit for bit as it was.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from twjax.config import ConfigError, Run
from twjax.models import parts
from twjax.models.network import AnyNetwork
from twjax.models.network import network as declare
from twjax.models.spec import abstract_weights
from twjax.parallel.sharding import weight_shardings
from twjax.training.new_rows import find_new_rows
from twjax.training.source import Origin, Source
from twjax.training.trained import Trained


@dataclasses.dataclass(frozen=True)
class FrozenBase:
    """The base of a run with `network` (without adapters); its first `known` ids are compared."""

    network: AnyNetwork
    trained: Trained
    dtype: str
    mesh: jax.sharding.Mesh
    known: int

    @property
    def shardings(self) -> Any:
        """The shardings of what `keep` returns: those of the weights."""
        return self._own(weight_shardings(self.network.specs, self.mesh))

    def abstract(self) -> Any:
        """Returns the shapes, dtypes and shardings of what `keep` returns."""
        cast = lambda params: self.network.cast(params, jnp.dtype(self.dtype))  # noqa: E731
        shapes = self._own(jax.eval_shape(cast, abstract_weights(self.network.specs)))
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            self.shardings,
        )

    def begin(
        self,
        run: Run,
        params: Any,
        record: dict[str, Any],
        vocabulary: str,
        open_folder: Any,
    ) -> Any:
        """Keeps a run's first weights: `params`, or those of its source where that is None."""
        if params is None:
            params = read_again(run, record, self.network, self.mesh, vocabulary, open_folder)
        return self.keep(params)

    def keep(self, params: Any) -> Any:
        """Copies from the initial weights what the run will change."""
        cast = jax.jit(
            # A copy: the step writes into the weights themselves.
            lambda params: jax.tree.map(
                jnp.copy, self._own(self.network.cast(params, jnp.dtype(self.dtype)))
            ),
            out_shardings=self.shardings,
        )
        return cast(parts.take(params, parts.names_of(self.network.specs)))

    def whole(self, kept: Any, params: Any) -> Any:
        """Returns all weights of the base, from what was kept and a state's parameters."""
        return parts.put(parts.take(params, parts.names_of(self.network.specs)), kept)

    def _own(self, tree: Any) -> Any:
        names = parts.names_of(self.trained.specs) & parts.names_of(self.network.specs)
        return parts.take(tree, names)


@dataclasses.dataclass(frozen=True)
class Taught:
    """A base of whose first `known` ids `twjax teach` has written down the likeliest."""

    known: int


def base_of(
    run: Run,
    network: AnyNetwork,
    trained: Trained,
    mesh: jax.sharding.Mesh,
    record: dict[str, Any] | None = None,
) -> FrozenBase | Taught | None:
    """Returns the base of a run with `network`, None where it is compared with none.

    `record` is the run's source as its ledger keeps it.
    """
    if run.distillation is None:
        return None
    known = known_ids(run, record)
    if run.distillation.top_k is not None:
        return Taught(known)
    return FrozenBase(network, trained, run.step.dtype, mesh, known)


def known_ids(run: Run, record: dict[str, Any] | None) -> int:
    """Returns how many ids the weights of a run's source have learnt."""
    new = (record or {}).get("new_rows") or {}
    return run.model.vocab_size if new.get("kind") is None else new["first"]


def read_again(
    run: Run,
    record: dict[str, Any],
    network: AnyNetwork,
    mesh: jax.sharding.Mesh,
    vocabulary: str,
    open_folder: Any,
) -> Any:
    """Reads the weights that a run began with, as its ledger's `record` says, new rows and all."""
    assert run.init is not None
    try:
        source: Origin | Source
        if run.init.startswith("hf:"):
            source = open_folder(run.init)
        else:
            source = Source.open(pathlib.Path(record["directory"]), record["step"])
        kind = (record.get("new_rows") or {}).get("kind")
        if kind is None:
            return source.params(network, mesh)
        _, new = find_new_rows(
            run, vocabulary, str(source.directory), source.model, source.vocabulary
        )
        if new is None:
            raise ValueError(f"{source.directory} has rows for all ids now.")
        old = declare(dataclasses.replace(run.model, vocab_size=new.old_rows))
        return new.add(source.params(old, mesh), network.specs, mesh)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Run.distillation compares with the weights that this run began with, and they can't "
            f"be read again: {error} Bring them back, or go on without Run.distillation "
            "(--allow-change)."
        ) from error
