"""Rotary positions in a `config.json`: `rope_parameters`, or `rope_theta` and `rope_scaling`."""

from __future__ import annotations

from typing import Any

from twjax.config import RopeScaling
from twjax.huggingface.config_fields import Fields


def read_rope(fields: Fields, theta: float = 10_000.0) -> tuple[float, RopeScaling | None]:
    """Returns the base and the scaling; refuses a kind of scaling that isn't implemented.

    `theta` is the base when none is stated. Both spellings are read: `rope_parameters`
    (transformers 5) and `rope_theta` with `rope_scaling` (before).
    """
    theta = fields.number("rope_theta", theta)
    scaling = fields.take("rope_scaling", None)
    parameters = fields.take("rope_parameters", None)
    name = "rope_scaling" if parameters is None else "rope_parameters"
    values = scaling if parameters is None else parameters
    if values is None:
        return theta, None
    return read_scaling(fields, name, values, theta)


def read_scaling(
    fields: Fields, name: str, values: Any, theta: float
) -> tuple[float, RopeScaling | None]:
    """Returns base and scaling of one dict of rope parameters, the value of field `name`."""
    if not isinstance(values, dict):
        raise fields.refusal(name, values, "it must be an object")
    left = dict(values)

    def number(key: str) -> float:
        value = left.pop(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise fields.refusal(name, values, f"{key} must be a number")
        return float(value)

    if "rope_theta" in left:
        theta = number("rope_theta")
    kind = left.pop("rope_type", left.pop("type", "default"))
    left.pop("type", None)
    # All of the head is turned in the families here; another share is refused below.
    if left.get("partial_rotary_factor") == 1.0:
        left.pop("partial_rotary_factor")
    scaling = None
    try:
        if kind == "default":
            pass
        elif kind == "linear":
            scaling = RopeScaling(kind="linear", factor=number("factor"))
        elif kind == "llama3":
            scaling = RopeScaling(
                kind="llama3",
                factor=number("factor"),
                low_frequency=number("low_freq_factor"),
                high_frequency=number("high_freq_factor"),
                original_length=int(number("original_max_position_embeddings")),
            )
        elif kind == "yarn":
            if left.get("original_max_position_embeddings") is None:
                left["original_max_position_embeddings"] = fields.integer("max_position_embeddings")
            original = number("original_max_position_embeddings")
            # The defaults of these are what RopeScaling's yarn does.
            for key, default in (("beta_fast", 32), ("beta_slow", 1), ("truncate", True)):
                if left.get(key, default) in (default, None):
                    left.pop(key, None)
            scaling = RopeScaling(
                kind="yarn", factor=number("factor"), original_length=int(original)
            )
        else:
            raise fields.refusal(
                name, values, f"rope type {kind!r} is none of default, linear, llama3, yarn"
            )
    except KeyError as error:
        raise fields.refusal(name, values, f"{error.args[0]} is missing") from None
    if unknown := {key: value for key, value in left.items() if value is not None}:
        raise fields.refusal(name, values, f"{', '.join(unknown)} can't be used with {kind!r}")
    return theta, scaling


def write_rope(theta: float, scaling: RopeScaling | None) -> dict[str, Any]:
    """Returns `rope_theta` and `rope_scaling`, the spelling that most readers know."""
    if scaling is None:
        return {"rope_theta": theta, "rope_scaling": None}
    values: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        values |= {
            "low_freq_factor": scaling.low_frequency,
            "high_freq_factor": scaling.high_frequency,
        }
    if scaling.kind != "linear":
        values["original_max_position_embeddings"] = scaling.original_length
    return {"rope_theta": theta, "rope_scaling": values}
