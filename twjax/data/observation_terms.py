"""Names of classes as annotations have them, and how Taiwan says and counts them."""

from __future__ import annotations

import functools
import pathlib
import re
from typing import Any, NamedTuple

from twjax.data.observations import BadField

_SEPARATORS = re.compile(r"[\s_-]+")


class Term(NamedTuple):
    """What a class is called, and the word it is counted with."""

    word: str
    counter: str


def term(name: str) -> Term:
    """Returns a class in Taiwan's words; one that the table doesn't have keeps its name."""
    return _tables()[0].get(_SEPARATORS.sub(" ", name).lower(), Term(name, "個"))


def xview_class(code: Any) -> str:
    """Returns the name of one of xView's classes."""
    if not isinstance(code, int) or str(code) not in _tables()[1]:
        raise BadField("unknown class", "properties.type_id", code)
    return _tables()[1][str(code)]


def ship_type(code: str) -> str:
    """Returns the name of an AIS type of ship."""
    if not re.fullmatch(r"[0-9]{1,2}", code) or int(code) not in _tables()[2]:
        raise BadField("unknown type of ship", "type", code)
    return _tables()[2][int(code)]


@functools.cache
def _tables() -> tuple[dict[str, Term], dict[str, str], dict[int, str]]:
    path = pathlib.Path(__file__).parent / "tables" / "observation_terms.tsv"
    terms: dict[str, Term] = {}
    xview: dict[str, str] = {}
    ais: dict[int, str] = {}
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    for line in lines[1:]:
        name, word, counter, code, types = line.split("\t")
        terms[name] = Term(word, counter)
        if code != "-":
            xview[code] = name
        if types != "-":
            first, last = map(int, types.split("-"))
            ais |= dict.fromkeys(range(first, last + 1), name)
    return terms, xview, ais
