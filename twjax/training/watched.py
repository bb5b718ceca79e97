"""What a run looks at while it trains, as its loop knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax

from twjax.config import Run
from twjax.models.network import AnyNetwork
from twjax.training.metrics import Key


class Watch(Protocol):
    """What a run looks at while it trains.

    `caches` are the fingerprints of what it reads, `keys` (kind, task) of what a call returns.
    """

    caches: dict[str, str]
    keys: frozenset[Key]

    def __call__(self, params: Any, step: int) -> list[dict[str, Any]]: ...


# Makes a watch for a run, its network and mesh, and the sha256 of its rows' vocabulary.
MakeWatch = Callable[[Run, AnyNetwork, jax.sharding.Mesh, str], Watch]
