"""STAC items as observations, with labels, captions and calibration as properties of our own."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

from twjax.data.observation_files import NO_LIST, elements, lines, opened, parsed
from twjax.data.observation_stated import Found, Stated, bare, pixels
from twjax.data.observations import (
    BadField,
    Label,
    Observation,
    listed,
    mapping,
    member,
    moment,
    number,
    place,
    text,
)


def stac(path: pathlib.Path, stated: Stated) -> Found:
    """Reads STAC items: one a line, one a file, or the `features` of an item collection."""
    if bare(path).endswith((".jsonl", ".ndjson")):
        for count, line in lines(path):
            yield f"line {count}", lambda line=line: _item(parsed(line), stated)
    else:
        try:
            for where, feature in elements(path, "features"):
                yield where, functools.partial(_item, feature, stated)
        except BadField as error:
            if error.reason != NO_LIST:
                raise
            with opened(path) as file:
                yield "file", functools.partial(_item, parsed(file.read()), stated)


def _item(item: Any, stated: Stated) -> Observation:
    properties = mapping(member(item, "properties"), "properties")
    zone = stated.offset
    found: dict[str, Any] = stated.common("satellite_image")
    for name, key in (("modality", "modality"), ("platform", "platform"), ("licence", "license"),
                      ("calibration", "calibration"), ("source", "source")):  # fmt: skip
        if properties.get(key) is not None:
            found[name] = text(properties[key], f"properties.{key}")
    if instruments := listed(properties.get("instruments"), "instruments"):
        found["sensor"] = "、".join(text(name, "properties.instruments") for name in instruments)
    if (time := member(properties, "datetime", "properties")) is not None:
        found["start"] = moment(time, "properties.datetime", zone)
    if time is None or "start_datetime" in properties:
        for name in ("start", "end"):
            value = member(properties, f"{name}_datetime", "properties")
            found[name] = moment(value, f"properties.{name}_datetime", zone)
    if (geometry := member(item, "geometry")) is not None:
        coordinates = member(geometry, "coordinates", "geometry")
        for position in _positions(coordinates):
            found["place"] = place(position, "geometry.coordinates")
        if member(geometry, "type", "geometry") != "Point":
            found["place"] = place(member(item, "bbox"), "bbox")
    if properties.get("gsd") is not None:
        found["resolution"] = number(properties["gsd"], "properties.gsd", 0)
    return Observation(
        id=text(member(item, "id"), "id"),
        labels=tuple(map(_label, listed(properties.get("labels"), "properties.labels"))),
        captions=tuple(
            text(caption, "properties.captions")
            for caption in listed(properties.get("captions"), "properties.captions")
        ),
        **found,
    )


def _positions(coordinates: Any, depth: int = 3) -> Iterator[list[Any]]:
    """Yields the positions of a geometry, which lie in three lists at most (MultiPolygon)."""
    if not isinstance(coordinates, list) or not coordinates or depth < 0:
        raise BadField("not a position", "geometry.coordinates", coordinates)
    if isinstance(coordinates[0], list):
        for inner in coordinates:
            yield from _positions(inner, depth - 1)
    elif len(coordinates) in (2, 3):
        yield coordinates
    else:
        raise BadField("not a position", "geometry.coordinates", coordinates)


def _label(label: Any) -> Label:
    """Returns a label of our own: class, bbox (pixels), t0, t1, f_lo, f_hi, score."""
    shown = text(member(label, "class", "labels"), "labels.class")
    values: dict[str, Any] = {}
    for name, key in (("begin", "t0"), ("end", "t1"), ("low", "f_lo"), ("high", "f_hi")):
        if label.get(key) is not None:
            values[name] = number(label[key], f"labels.{key}", 0)
    if label.get("score") is not None:
        values["confidence"] = number(label["score"], "labels.score", 0, 1)
    box = None
    if (corners := label.get("bbox")) is not None:
        box = pixels(corners, "labels.bbox")
    return Label(shown, box=box, **values)
