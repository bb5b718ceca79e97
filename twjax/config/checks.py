"""What every configuration class checks with when it is made."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


def require(condition: bool, message: str) -> None:
    """Raises ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def require_at_least(config: Any, least: int, *names: str) -> None:
    """Raises ValueError that names the first of the fields below `least`."""
    for name in names:
        value = getattr(config, name)
        require(
            value >= least, f"{type(config).__name__}.{name} ({value}) must be at least {least}."
        )


def require_positive(config: Any, *names: str) -> None:
    """Raises ValueError that names the first of the fields that is no positive, finite number.

    None stands for "not set" and passes.
    """
    for name in names:
        value = getattr(config, name)
        require(
            value is None or (math.isfinite(value) and value > 0),
            f"{type(config).__name__}.{name} ({value}) must be positive.",
        )


def refuse_idle(config: Any, names: tuple[str, ...], used: bool, by: str) -> None:
    """Refuses a setting that would do nothing: only its default may stand there."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in names:
        value = getattr(config, name)
        require(
            used or value == defaults[name],
            f"{type(config).__name__}.{name} ({value!r}) does nothing here: it belongs to {by}.",
        )
