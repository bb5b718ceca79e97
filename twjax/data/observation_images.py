"""Readers of annotated images: DOTA's and xView's boxes, captions, SkyScript's tags."""

from __future__ import annotations

import collections
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

from twjax.data.observation_files import decoded, elements, lines, parsed
from twjax.data.observation_stated import Found, Stated, pixels, stem
from twjax.data.observation_terms import xview_class
from twjax.data.observations import (
    BadField,
    Label,
    Observation,
    Place,
    listed,
    mapping,
    member,
    moment,
    number,
    place,
    text,
)


def dota(path: pathlib.Path, stated: Stated) -> Found:
    """Reads the labels of one image: x1 y1 … x4 y4 category difficult (Xia et al. 2018, "DOTA").

    `imagesource:` and `gsd:` may come before them.
    """
    yield "file", functools.partial(_image, path, stated)


def xview(path: pathlib.Path, stated: Stated) -> Found:
    """Reads xView's GeoJSON (Lam et al. 2018): features that follow each other are one image's."""
    image, where, features = None, "", []
    runs: collections.Counter[str] = collections.Counter()
    for at, feature in elements(path, "features"):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        name = properties.get("image_id") if isinstance(properties, dict) else None
        if features and name != image:
            yield where, functools.partial(_chip, runs[str(image)], features, stated)
            features = []
        if not features:
            image, where = name, at
            runs[str(image)] += 1
        features.append((at, feature))
    if features:
        yield where, functools.partial(_chip, runs[str(image)], features, stated)


def captions(path: pathlib.Path, stated: Stated) -> Found:
    """Reads captions as in RSICD's JSON: `images` of `filename`, `split`, `sentences` of `raw`."""
    for where, image in elements(path, "images"):
        yield where, functools.partial(_captioned, image, stated)


def skyscript(path: pathlib.Path, stated: Stated) -> Found:
    """Reads SkyScript's meta data and captions as JSON lines (Wang et al. 2024, "SkyScript").

    `filepath`, `title` or `title_multi_objects`, `box` (W, S, E, N), `time` (year … minute, UTC as
    Earth Engine's), `center_tags`, `surrounding_tags`.
    """
    for count, line in lines(path):
        yield f"line {count}", lambda line=line: _tagged(parsed(line), stated)


def _image(path: pathlib.Path, stated: Stated) -> Observation:
    labels = []
    found = stated.common("aerial_image")
    for count, line in lines(path):
        where = f"line {count}"
        shown = decoded(line, where).strip()
        name, colon, value = shown.partition(":")
        try:
            if colon and not labels and name in ("imagesource", "gsd"):
                if name == "imagesource":
                    # A collection of pictures from many satellites and planes.
                    shown = text(value, name)
                    collected = shown.lower() == "googleearth"
                    found["platform"] = "Google Earth（彙整影像）" if collected else shown
                elif value.strip().lower() not in ("null", "none", ""):
                    found["resolution"] = number(value, name, 0)
                continue
            cells = shown.split()
            if len(cells) not in (9, 10) or cells[9:] not in ([], ["0"], ["1"]):
                raise BadField("not x1 y1 … x4 y4 category difficult", "", shown)
            x, y = ([number(cell, "corner") for cell in cells[at:8:2]] for at in (0, 1))
            notes = (("辨識難度", "高"),) if cells[9:] == ["1"] else ()
            box = (min(x), min(y), max(x), max(y))
            labels.append(Label(text(cells[8], "category"), box=box, notes=notes))
        except BadField as error:
            error.where = where
            raise
    return Observation(id=stem(path), labels=tuple(labels), **found)


def _chip(run: int, features: list[tuple[str, Any]], stated: Stated) -> Observation:
    labels, places, image = [], [], ""
    for at, feature in features:
        try:
            properties = member(feature, "properties")
            image = text(member(properties, "image_id", "properties"), "properties.image_id")
            code = member(properties, "type_id", "properties")
            corners = member(properties, "bounds_imcoords", "properties")
            box = pixels(text(corners, "bounds_imcoords").split(","), "bounds_imcoords")
            labels.append(Label(xview_class(code), box=box))
            geometry = member(feature, "geometry")
            if geometry is not None:
                rings = member(geometry, "coordinates", "geometry")
                places += [place(point, "geometry") for point in _points(rings)]
        except BadField as error:
            error.where = at
            raise
    found = stated.common("satellite_image")
    if places:
        west, east = min(p.west for p in places), max(p.east for p in places)
        if east - west > 180:
            west = min(p.west for p in places if p.west > 0)
            east = max(p.east for p in places if p.east <= 0)
        south, north = min(p.south for p in places), max(p.north for p in places)
        found["place"] = Place(west, south, east, north)
    # An image whose features don't all follow each other is several records, on one side.
    name = image if run == 1 else f"{image}#{run}"
    return Observation(id=name, labels=tuple(labels), group=image, **found)


def _points(rings: Any) -> Iterator[Any]:
    if not isinstance(rings, list) or not rings or not isinstance(rings[0], list):
        raise BadField("not a polygon", "geometry.coordinates", rings)
    for ring in rings:
        yield from ring if isinstance(ring, list) else [ring]


def _captioned(image: Any, stated: Stated) -> Observation:
    sentences = listed(member(image, "sentences"), "sentences")
    found = [text(member(entry, "raw", "sentences"), "sentences.raw") for entry in sentences]
    split = text(image.get("split"), "split", empty=True)
    return Observation(
        id=text(member(image, "filename"), "filename"),
        captions=tuple(dict.fromkeys(found)),
        split="" if split in ("", "train", "restval") else split,
        **stated.common("aerial_image"),
    )


def _tagged(record: Any, stated: Stated) -> Observation:
    name = text(member(record, "filepath"), "filepath")
    title = record.get("title_multi_objects") or member(record, "title")
    tags = [
        member(record, "center_tags"),
        *listed(record.get("surrounding_tags"), "surrounding_tags"),
    ]
    labels = []
    for entry in tags:
        pairs = mapping(entry, "center_tags").items()
        labels += [Label(f"{text(key, 'tags')}={text(value, 'tags')}") for key, value in pairs]
    found: dict[str, Any] = stated.common("aerial_image") | {
        "place": place(member(record, "box"), "box")
    }
    if (time := record.get("time")) is not None:
        if not isinstance(time, list) or len(time) != 5 or any(type(n) is not int for n in time):
            raise BadField("not year, month, day, hour, minute", "time", time)
        shown = "{:04}-{:02}-{:02}T{:02}:{:02}:00Z".format(*time)
        found["start"] = moment(shown, "time")
    return Observation(id=name, captions=(text(title, "title"),), labels=tuple(labels), **found)
