"""What a run trains of its weights, and what it leaves bit for bit as it was."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from twjax.config import ConfigError, Run
from twjax.config.keeping import Adapter
from twjax.models import parts
from twjax.models.adapters import is_adapter, is_target
from twjax.models.spec import WeightSpec, is_spec


@dataclasses.dataclass(frozen=True)
class Trained:
    """The specs of the weights that a run trains; only these have gradients and moments.

    `frozen_layers` are layers that stay in weights whose other layers are trained. `ema` is the
    decay of the average that the state keeps of what is trained, None for no average.
    """

    specs: Any
    frozen_layers: dict[str, frozenset[int]] = dataclasses.field(default_factory=dict)
    ema: float | None = None

    @classmethod
    def of(cls, run: Run, specs: Any) -> Trained:
        """Returns what `run` trains of a network with these weights."""
        named = parts.by_name(specs)
        frozen = parts.choose(run.optimizer.freeze, named, "Optimizer.freeze")
        if run.adapter is not None:
            frozen = _beside_adapters(run.adapter, named)
        names = {name for name in named if frozen.get(name, frozenset()) is not None}
        if not names:
            raise ConfigError(
                f"Optimizer.freeze {run.optimizer.freeze} leaves no weight to train; the weights "
                f"are {', '.join(named)}."
            )
        if run.optimizer.new_rows_steps and not any("vocab" in named[n].axes for n in names):
            raise ConfigError(
                f"Optimizer.new_rows_steps ({run.optimizer.new_rows_steps}) trains rows of "
                "weights that are all frozen; let the embedding or the output matrix be trained "
                "(Optimizer.freeze, Adapter.train)."
            )
        layers = {name: held for name, held in frozen.items() if held is not None}
        return cls(parts.take(specs, names), layers, run.optimizer.ema)

    @property
    def size(self) -> int:
        """How many parameters are trained."""
        return sum(
            spec.size - spec.size // spec.shape[0] * len(self.frozen_layers.get(name, ()))
            for name, spec in parts.by_name(self.specs).items()
        )

    def take(self, tree: Any) -> Any:
        """Returns what is trained of a tree over all weights."""
        return parts.take(tree, parts.names_of(self.specs))

    def hold(self, tree: Any, value: float) -> Any:
        """Puts `value` in place of the frozen layers of a tree of trained weights' shapes."""
        if not self.frozen_layers:
            return tree

        def one(spec: WeightSpec, x: jax.Array) -> jax.Array:
            held = self.frozen_layers.get(spec.name)
            if held is None:
                return x
            frozen_L = np.isin(np.arange(spec.shape[0]), list(held))
            return jnp.where(frozen_L.reshape(-1, *[1] * (x.ndim - 1)), value, x)

        return jax.tree.map(one, self.specs, tree, is_leaf=is_spec)

    def averaged(self, average: Any, params: Any) -> Any:
        """Returns the average after a step to `params`: ema · average + (1 - ema) · params."""
        if self.ema is None:
            return None
        share = 1.0 - self.ema
        # In this form a weight that stays has an average that stays, to the last bit.
        return jax.tree.map(lambda a, p: a + share * (p - a), average, self.take(params))


def _beside_adapters(
    adapter: Adapter, named: dict[str, WeightSpec]
) -> dict[str, frozenset[int] | None]:
    """Returns what is frozen where adapters are trained: all but these and `Adapter.train`."""
    base = {name: spec for name, spec in named.items() if not is_adapter(name)}
    wanted = parts.choose(adapter.train, base, "Adapter.train")
    twice = sorted(name for name in wanted if is_target(name, named))
    if twice:
        raise ConfigError(
            f"Adapter.train: {', '.join(twice)} is trained in full and has an adapter too; take it "
            "out of Adapter.train or of Adapter.targets."
        )
    frozen: dict[str, frozenset[int] | None] = {name: None for name in base if name not in wanted}
    for name, layers in wanted.items():
        if layers is not None:
            frozen[name] = frozenset(range(named[name].shape[0])) - layers
    return frozen
