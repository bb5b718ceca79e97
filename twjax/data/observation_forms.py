"""Forms of annotation files by name, and reading one as observations, record by record.

A form yields where in the file a record is, and a call that makes the observation; the call raises
`BadField` for a record that can't be used, and reading goes on behind it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from twjax.data.observation_images import captions, dota, skyscript, xview
from twjax.data.observation_items import stac
from twjax.data.observation_sounds import raven, ships, whale_calls
from twjax.data.observation_stated import Found, Stated
from twjax.data.observations import BadField, Observation, Rejected


class Form(NamedTuple):
    """A form of files: the ends of their names (.gz behind them is read too), and its reader."""

    suffixes: tuple[str, ...]
    read: Callable[[pathlib.Path, Stated], Found]


def observations(
    path: pathlib.Path, form: str, stated: Stated
) -> Iterator[tuple[str, Observation | Rejected]]:
    """Yields the records of a file with where they stand; those that can't be used as `Rejected`.

    Of records with the same id the first is kept. Behind damage the rest of a file can't be read.
    """
    seen: set[str] = set()
    entries = FORMS[form].read(path, stated)
    while True:
        try:
            where, make = next(entries)
        except StopIteration:
            return
        except BadField as error:
            where = error.where or "file"
            yield where, Rejected(error.reason, str(path), where, error.field, error.value)
            return
        try:
            found = make()
            if found.id in seen:
                raise BadField("id seen before", "id", found.id)
            seen.add(found.id)
            yield where, found
        except BadField as error:
            at = error.where or where
            yield where, Rejected(error.reason, str(path), at, error.field, error.value)


FORMS = {
    "stac": Form((".jsonl", ".ndjson", ".json", ".geojson"), stac),
    "whale_calls": Form((".csv", ".jsonl"), whale_calls),
    "ships": Form(("-metafile", "-metafile.csv"), ships),
    "raven": Form((".txt",), raven),
    "dota": Form((".txt",), dota),
    "xview": Form((".geojson",), xview),
    "captions": Form((".json",), captions),
    "skyscript": Form((".jsonl",), skyscript),
}
