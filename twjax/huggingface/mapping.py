"""What a family's table says: which of their tensors holds which of our weights.

A family (Llama, GPT-2 …) is one `Family`: a reader and a writer of `config.json`, and `Rule`s.
`bind` spells the rules out for one configuration and checks that they name every weight once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from twjax.config import Model
from twjax.huggingface.transforms import TRANSFORMS, Layout
from twjax.models.spec import WeightSpec, is_spec

# How many names an error lists before it only counts.
_LISTED = 8


@dataclasses.dataclass(frozen=True)
class Rule:
    """One of our weights and the tensor, or the tensors of all layers, that hold it.

    `theirs` has "{layer}" for a weight that we stack over layers. `transform` names an entry of
    `TRANSFORMS`; `part` says which part of a fused tensor the weight is. An `alias` is a second
    tensor that some checkpoints hold with the same values (`lm_head.weight` beside a tied
    embedding): it is compared when it is there, and written again where it was.
    """

    ours: str
    theirs: str
    transform: str = "copy"
    part: str | None = None
    alias: bool = False


@dataclasses.dataclass(frozen=True)
class Family:
    """How one family of networks is written in a Hugging Face folder.

    `read_config` takes the parsed `config.json` and refuses by name whatever it doesn't
    implement (`config_fields.Fields` does the bookkeeping). `write_config` takes a `Model` and
    the original `config.json` (None: there is none) and returns one that reads back as the same
    `Model`. `ignored` are regular expressions of whole tensor names that carry no weights
    (buffers). `prefix` is a beginning of `theirs` that some checkpoints leave out
    ("transformer."), and `spellings` are (beginning in some checkpoints, beginning of `theirs`).
    `own_output` says that an output weight which differs from the embedding counts, whatever
    `tie_word_embeddings` says; in the other families such a folder is refused.
    `vocab_size` is that of its published checkpoints, where another family writes the same network.
    """

    name: str
    architectures: tuple[str, ...]
    read_config: Callable[[dict[str, Any]], Model]
    write_config: Callable[[Model, dict[str, Any] | None], dict[str, Any]]
    rules: Callable[[Model], tuple[Rule, ...]]
    ignored: tuple[str, ...] = ()
    prefix: str = ""
    spellings: tuple[tuple[str, str], ...] = ()
    own_output: bool = False
    vocab_size: int | None = None

    def candidates(self, name: str) -> list[str]:
        """Returns what a checkpoint's tensor may be called in the rules."""
        found = [name, self.prefix + name]
        found += [
            ours + name.removeprefix(theirs)
            for theirs, ours in self.spellings
            if name.startswith(theirs)
        ]
        return found


@dataclasses.dataclass(frozen=True)
class Piece:
    """One of their tensors as (a part of) one of our weights.

    `layer` is the place on our leading axis, None for a weight that isn't stacked. `shape` is
    theirs; `axis` maps letters of the layout to sizes, in which the vocabulary has its true size.
    """

    weight: str
    layer: int | None
    tensor: str
    shape: tuple[int, ...]
    layout: Layout
    part: int | None
    sizes: tuple[int, ...]
    alias: bool = False


@dataclasses.dataclass(frozen=True)
class Binding:
    """The rules of a family, spelt out for one configuration.

    `pieces` are by weight name, in layer order; an alias stands in `aliases`.
    """

    family: Family
    model: Model
    specs: dict[str, WeightSpec]
    pieces: dict[str, tuple[Piece, ...]]
    aliases: tuple[Piece, ...]

    def tensors(self) -> dict[str, tuple[Piece, ...]]:
        """Returns the pieces that make up each of their tensors, aliases left out."""
        found: dict[str, list[Piece]] = {}
        for pieces in self.pieces.values():
            for piece in pieces:
                found.setdefault(piece.tensor, []).append(piece)
        return {name: tuple(pieces) for name, pieces in found.items()}

    def resolve(self, names: Iterable[str], where: str) -> dict[str, str]:
        """Returns {our tables' name: the name that the checkpoint uses} for all that it holds.

        Raises ValueError that lists tensors which map to nothing and those that are missing.
        """
        needed = set(self.tensors())
        optional = {piece.tensor for piece in self.aliases}
        known = needed | optional
        found: dict[str, str] = {}
        surplus = []
        for name in names:
            canonical = next((n for n in self.family.candidates(name) if n in known), None)
            if canonical is not None and canonical not in found:
                found[canonical] = name
            elif not any(re.fullmatch(pattern, name) for pattern in self.family.ignored):
                surplus.append(name)
        problems = []
        if missing := sorted(needed - found.keys(), key=_natural):
            problems.append(f"{_count(missing, 'tensor')} missing: {_list(missing)}")
        if surplus:
            surplus.sort(key=_natural)
            problems.append(f"{_count(surplus, 'tensor')} that map to nothing: {_list(surplus)}")
        if problems:
            raise ValueError(
                f"{where}: the weights are not those of {self.family.name} with this "
                f"config.json: {'; '.join(problems)}."
            )
        return found


def bind(family: Family, model: Model, specs: Any) -> Binding:
    """Spells out a family's rules for one configuration's tree of `WeightSpec`s.

    Raises ValueError when a rule names no weight, or a weight has no rule: a fault of the table.
    """
    flat = flat_specs(specs)
    pieces: dict[str, tuple[Piece, ...]] = {}
    aliases: list[Piece] = []
    for rule in family.rules(model):
        spec = flat.get(rule.ours)
        if spec is None:
            raise ValueError(
                f"{family.name}: its table maps {rule.theirs} to {rule.ours}, which the model "
                "doesn't have."
            )
        found = tuple(_pieces(rule, spec, model))
        if rule.alias:
            aliases += found
        elif rule.ours in pieces:
            raise ValueError(f"{family.name}: its table has two rules for {rule.ours}.")
        else:
            pieces[rule.ours] = found
    if missing := sorted(flat.keys() - pieces.keys()):
        raise ValueError(f"{family.name}: its table has no rule for {_list(missing)}.")
    return Binding(family, model, flat, pieces, tuple(aliases))


def flat_specs(specs: Any) -> dict[str, WeightSpec]:
    """Returns a tree's weight specs by name, in the tree's order."""
    return {spec.name: spec for spec in jax.tree.leaves(specs, is_leaf=is_spec)}


def unflatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dicts of values whose names are paths ("layers/q")."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = value
    return tree


def true_shape(spec: WeightSpec, model: Model) -> tuple[int, ...]:
    """Returns a weight's shape with the vocabulary's true size instead of the padded one."""
    return tuple(
        model.vocab_size if axis == "vocab" else size
        for size, axis in zip(spec.shape, spec.axes, strict=True)
    )


def _pieces(rule: Rule, spec: WeightSpec, model: Model) -> Iterable[Piece]:
    if rule.transform not in TRANSFORMS:
        raise ValueError(
            f"{rule.ours}: unknown transform {rule.transform!r}; there are {sorted(TRANSFORMS)}."
        )
    layout = TRANSFORMS[rule.transform]
    shape = true_shape(spec, model)
    stacked = "{layer}" in rule.theirs
    one = shape[1:] if stacked else shape
    part = layout.part_index(rule.part)
    for layer in range(shape[0]) if stacked else (None,):
        yield Piece(
            weight=rule.ours,
            layer=layer,
            tensor=rule.theirs.format(layer=layer),
            shape=layout.their_shape(one),
            layout=layout,
            part=part,
            sizes=one,
            alias=rule.alias,
        )


def _list(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _count(names: list[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''}"


def _natural(name: str) -> list[Any]:
    """Sorts layers.2 before layers.10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in re.split(r"(\d+)", name) if part]  # fmt: skip
