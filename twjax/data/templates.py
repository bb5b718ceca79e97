"""Wordings of a supervised task: templates with named fields, one chosen for each example."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twjax.data.chance import Chance

Fields = Mapping[str, str]

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Template(NamedTuple):
    """One wording: `{name}` stands for a field, `{{` and `}}` for braces.

    The model reads `inputs` and writes `targets`. `shots` solved examples in the same wording come
    first, a blank line behind each, and `lead` before them.
    """

    inputs: str
    targets: str
    shots: int = 0
    lead: str = ""


def field_names(text: str) -> tuple[str, ...]:
    """Returns the fields that a text names; ValueError for a lone brace or an empty name."""
    names = []
    for match in _TOKEN.finditer(text):
        if match[0] in ("{{", "}}"):
            continue
        if not match[1]:
            raise ValueError(
                f"Template {text!r}: {match[0]!r} at character {match.start()} names no field; "
                "write {{ and }} for braces."
            )
        names.append(match[1])
    return tuple(names)


def fill(text: str, fields: Fields) -> str:
    """Returns the text with its fields filled in; what a field holds isn't read as a template."""
    if missing := [name for name in field_names(text) if name not in fields]:
        raise ValueError(
            f"Template {text!r}: there is no field {missing[0]!r}; the examples have "
            f"{', '.join(sorted(fields))}."
        )
    return _TOKEN.sub(lambda match: fields[match[1]] if match[1] else match[0][0], text)


def render(template: Template, fields: Fields, shots: Sequence[Fields] = ()) -> tuple[str, str]:
    """Returns (inputs, targets) of an example, behind those of `shots` that the template asks."""
    shown = [
        fill(template.inputs, shot) + fill(template.targets, shot) + "\n\n"
        for shot in shots[: template.shots]
    ]
    lead = fill(template.lead, fields) if shown else ""
    return "".join([lead, *shown, fill(template.inputs, fields)]), fill(template.targets, fields)


def choose(templates: Sequence[Template], key: str | bytes, seed: int = 0) -> Template:
    """Returns the template of an example: each as often, and always the same for a key and seed."""
    return templates[Chance(key, seed, "template").below(len(templates))]
