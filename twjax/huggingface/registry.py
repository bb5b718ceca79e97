"""All families, and which one a `config.json` is of."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import same_network
from twjax.huggingface.mapping import Family

# Files of `twjax.huggingface.families`; the first that can write a network is its family.
_FILES = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "gemma3_images",
    "gpt2",
    "gpt1",
    "bloom",
    "t5",
    "mt5",
    "umt5",
)

FAMILIES: tuple[Family, ...] = tuple(
    importlib.import_module(f"twjax.huggingface.families.{name}").FAMILY for name in _FILES
)


def family_of(config: dict[str, Any], where: str = "config.json") -> Family:
    """Returns the family that a parsed `config.json` names as its architecture.

    Raises ValueError for one that twjax doesn't know, and for quantised weights.
    """
    named = config.get("architectures") or []
    if not isinstance(named, list):
        raise ValueError(f"{where}: architectures = {named!r} must be a list.")
    known = {name: family for family in FAMILIES for name in family.architectures}
    if config.get("quantization_config") is not None:
        method = config["quantization_config"]
        method = method.get("quant_method") if isinstance(method, dict) else method
        raise ValueError(
            f"{where}: quantization_config ({method}) is not implemented; take the "
            "checkpoint in bfloat16, float16 or float32."
        )
    for name in named:
        if name in known:
            return known[name]
    raise ValueError(
        f"{where}: unknown architecture {', '.join(map(str, named)) or '(none named)'}; twjax "
        f"knows {', '.join(sorted(known))}."
    )


def family_for(model: Model, name: str | None = None) -> Family:
    """Returns the family (the named one, or the first) whose `config.json` can say all of a model.

    Of several the one whose published checkpoints have its vocabulary's size: mT5's network is
    T5's. Raises ValueError when none can.
    """
    tried = [family for family in FAMILIES if name in (None, family.name)]
    if not tried:
        raise ValueError(f"unknown family {name!r}; there are {[f.name for f in FAMILIES]}.")
    found = []
    for family in tried:
        try:
            if same_network(family.read_config(family.write_config(model, None)), model):
                found.append(family)
        except (ValueError, ZeroDivisionError):
            continue
    if found:
        return next((f for f in found if f.vocab_size == model.vocab_size), found[0])
    other = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.default is not dataclasses.MISSING and getattr(model, field.name) != field.default
    }
    raise ValueError(
        f"no family of Hugging Face's can hold this model (tried {[f.name for f in tried]}); what "
        f"it has beyond Llama's defaults: {other}."
    )
