"""A config.json made from a `Model`, or an old one in which only what differs is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import same_network

# One setting in several spellings: where one changes, all are replaced.
_ROPE = frozenset({"rope_parameters", "rope_theta", "rope_scaling", "rope_local_base_freq"})


def write(
    model: Model,
    original: dict[str, Any] | None,
    *,
    read: Callable[[dict[str, Any]], Model],
    fresh: Callable[[Model], dict[str, Any]],
) -> dict[str, Any]:
    """Returns the config.json of `model`: `original` with only what differs changed.

    `fresh` makes all fields from nothing. What changes is what it makes otherwise for the
    original's network. Raises ValueError when the result would not read as `model`: the family
    has no field for something that the model has.
    """
    fields = fresh(model)
    if original is None:
        result = fields
    else:
        before = fresh(read(original))
        changed = {name for name in fields if fields[name] != before.get(name)}
        changed -= {"architectures", "model_type", "initializer_range"}
        result = dict(original)
        if changed & _ROPE:
            changed |= _ROPE
        for name in changed:
            if name in fields:
                result[name] = fields[name]
            else:
                result.pop(name, None)
    back = read(result)
    if not same_network(back, model):
        lost = [
            f"Model.{name} = {value!r}"
            for name, value in vars(model).items()
            if value != getattr(back, name) and name not in ("init_std", "vocab_multiple")
        ]
        raise ValueError(f"{fields['model_type']} can't be written with {', '.join(lost)}.")
    return result
