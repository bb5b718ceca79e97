"""A part of a network's weights: chosen by patterns over their names, taken out, put back."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Collection, Mapping
from typing import Any

import jax

from twjax.models.spec import WeightSpec, is_spec

# "layers/0-7/q" and "decoder/layers/3/*": layers of weights that are stacked over layers.
_LAYERS = re.compile(r"(?P<before>(?:.*/)?layers)/(?P<first>\d+)(?:-(?P<last>\d+))?/(?P<after>.+)")


def by_name(specs: Any) -> dict[str, WeightSpec]:
    """Returns a tree of weight specs as {name: spec}."""
    return {spec.name: spec for spec in jax.tree.leaves(specs, is_leaf=is_spec)}


def choose(
    patterns: Collection[str], specs: Mapping[str, WeightSpec], field: str
) -> dict[str, frozenset[int] | None]:
    """Returns the weights that any pattern matches: all of a weight (None), or some of its layers.

    Patterns are those of a shell over names as in `specs`; * also stands for a slash. A number or
    a range behind "layers/" takes those layers alone. Raises ValueError, with the nearest names,
    for a pattern that matches nothing; `field` is the setting that the message names.
    """
    chosen: dict[str, frozenset[int] | None] = {}
    for pattern in patterns:
        found, layers = pattern, None
        if match := _LAYERS.fullmatch(pattern):
            found = f"{match['before']}/{match['after']}"
            first = int(match["first"])
            layers = frozenset(range(first, int(match["last"] or first) + 1))
        names = [name for name in specs if fnmatch.fnmatchcase(name, found)]
        if not names or layers == frozenset():
            raise ValueError(
                f"{field}: {pattern!r} matches no weight; the nearest are "
                f"{', '.join(_nearest(found, specs))}."
            )
        for name in names:
            count = specs[name].shape[0]
            if layers is not None and max(layers) >= count:
                raise ValueError(
                    f"{field}: {pattern!r} names layer {max(layers)}, but {name} has layers 0 to "
                    f"{count - 1}."
                )
            before = chosen.get(name, frozenset())
            one = None if layers is None or before is None else before | layers
            chosen[name] = None if one is not None and len(one) == count else one
    return chosen


def _nearest(pattern: str, names: Collection[str]) -> list[str]:
    close = difflib.get_close_matches(pattern, names, n=4, cutoff=0.3)
    return close or sorted(names)[:8]


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested dicts by name ("layers/q")."""
    leaves = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        leaves |= flat(value, f"{name}/") if isinstance(value, dict) else {name: value}
    return leaves


def nest(leaves: Mapping[str, Any]) -> Any:
    """Returns the nested dicts whose leaves have these names."""
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return tree


def names_of(tree: Any) -> set[str]:
    """Returns the names of all leaves of nested dicts."""
    return set(flat(tree))


def take(tree: Any, names: Collection[str]) -> Any:
    """Returns the leaves of these names alone, in the nested dicts that they were in."""
    return nest({name: value for name, value in flat(tree).items() if name in names})


def put(tree: Any, part: Any) -> Any:
    """Returns `tree` with the leaves of `part` in their places, whether these were taken or not."""
    return nest(flat(tree) | flat(part))
