"""Places that must not be given away: polygons that blur coordinates or leave records out.

A policy is a GeoJSON FeatureCollection of Polygons and MultiPolygons (RFC 7946: longitude first,
WGS84, cut at the antimeridian). Properties of a feature: `name`; `action`, "blur" or "reject";
for "blur" `grid` in degrees, and `hide`, a list of fields that would give the place away.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from twjax.data.observations import BadField, Observation, Place, mapping, member, number, text
from twjax.data.observations import place as checked

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Rings = Sequence[Sequence[Point]]

# What `hide` may name, and what it does.
_HIDDEN: dict[str, dict[str, Any]] = {
    "id": {"secret": True},
    "platform": {"platform": ""},
    "sensor": {"sensor": ""},
    "source": {"source": ""},
    "captions": {"captions": ()},
    "time": {"start": None, "end": None},
}
# Closer than this to a border counts as inside: a tenth of a millimetre.
_NEAR = 1e-9


@dataclasses.dataclass(frozen=True)
class Area:
    """One feature of a policy: an outer ring and holes for each polygon."""

    name: str
    action: str
    grid: float
    hide: tuple[str, ...]
    polygons: tuple[Rings, ...]

    @functools.cached_property
    def bounds(self) -> tuple[Box, ...]:
        return tuple(
            (min(x for x, _ in rings[0]), min(y for _, y in rings[0]),
             max(x for x, _ in rings[0]), max(y for _, y in rings[0]))
            for rings in self.polygons
        )  # fmt: skip

    def touches(self, place: Place) -> bool:
        """Returns whether the place and the area have a point in common, borders included."""
        return any(
            _overlap(box, bound) and touches(box, rings)
            for box in boxes(place)
            for rings, bound in zip(self.polygons, self.bounds, strict=True)
        )


def guarded(observation: Observation, areas: Sequence[Area]) -> tuple[Observation, str]:
    """Returns the record as it may be given on, and the area that blurred it or "".

    `BadField` if it may not be given on. Of several areas one that rejects goes before, then the
    coarsest grid; all that they hide is hidden.
    """
    place = observation.place
    hit = [area for area in areas if area.touches(place)] if place else []
    for area in hit:
        if area.action == "reject":
            raise BadField("sensitive place", "place", area.name)
    if not hit or place is None:
        return observation, ""
    coarsest = max(hit, key=lambda area: area.grid)
    changes: dict[str, Any] = {"place": blurred(place, coarsest.grid)}
    for name in {name for area in hit for name in area.hide}:
        changes |= _HIDDEN[name]
    return dataclasses.replace(observation, **changes), coarsest.name


def blurred(place: Place, grid: float) -> Place:
    """Returns a point moved to the nearest crossing of the grid, a box grown to its lines.

    A box smaller than the grid becomes one cell at least, so its size says no more than the grid.
    """

    def at(value: float, limit: float, rounding: Any) -> float:
        # Rounded twice: neither is 0.3 / 0.1 3, nor 3 · 0.1 0.3.
        lines = rounding(round(value / grid, 9))
        return min(limit, max(-limit, round(lines * grid, 9))) + 0.0

    if place.is_point:
        x, y = at(place.west, 180, round), at(place.south, 90, round)
        return Place(x, y, x, y, grid)
    west, south = at(place.west, 180, math.floor), at(place.south, 90, math.floor)
    east, north = at(place.east, 180, math.ceil), at(place.north, 90, math.ceil)
    if west == east:
        west, east = (west, min(180.0, west + grid)) if west < 180 else (west - grid, east)
    if south == north:
        south, north = (south, min(90.0, south + grid)) if south < 90 else (south - grid, north)
    return Place(west, south, east, north, grid)


def boxes(place: Place) -> Iterator[Box]:
    """Yields boxes that don't cross the antimeridian; what lies on it, or a pole, is on all sides.

    (west, south, east, north) each.
    """
    west, south, east, north = place.west, place.south, place.east, place.north
    parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    if any(low == -180 for low, _ in parts):
        parts.append((180.0, 180.0))
    if any(high == 180 for _, high in parts):
        parts.append((-180.0, -180.0))
    for low, high in parts:
        yield low, south, high, north
    for pole in {south, north} & {-90.0, 90.0}:
        yield -180.0, pole, 180.0, pole


def touches(box: Box, rings: Rings) -> bool:
    """Returns whether a box and a polygon with holes have a point in common, borders included."""
    for ring in rings:
        for a, b in itertools.pairwise(ring):
            if _crosses(a, b, box):
                return True
    # No border meets the box, so it is all inside or all outside.
    return _inside((box[0], box[1]), rings)


def _inside(point: Point, rings: Rings) -> bool:
    """Returns whether a ray to the east meets the borders an odd number of times."""
    x, y = point
    odd = False
    for ring in rings:
        for (ax, ay), (bx, by) in itertools.pairwise(ring):
            if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
                odd = not odd
    return odd


def _crosses(a: Point, b: Point, box: Box) -> bool:
    """Returns whether a segment meets a box: Liang and Barsky 1984, "line clipping"."""
    (x, y), (dx, dy) = a, (b[0] - a[0], b[1] - a[1])
    west, south, east, north = box
    first, last = 0.0, 1.0
    for step, room in ((-dx, x - west), (dx, east - x), (-dy, y - south), (dy, north - y)):
        room += _NEAR
        if step == 0:
            if room < 0:
                return False
        elif step < 0:
            first = max(first, room / step)
        else:
            last = min(last, room / step)
    return first <= last


def _overlap(a: Box, b: Box) -> bool:
    return (
        a[0] <= b[2] + _NEAR and b[0] <= a[2] + _NEAR
        and a[1] <= b[3] + _NEAR and b[1] <= a[3] + _NEAR
    )  # fmt: skip


def areas(path: pathlib.Path) -> tuple[Area, ...]:
    """Reads a policy; ValueError names the feature and the field that is wrong."""
    at = "file"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no policy of sensitive places; write one (docs/tasks.md), or "
            '{"type": "FeatureCollection", "features": []} where no place is sensitive.'
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        features = member(data, "features")
        if not isinstance(features, list):
            raise BadField("not a list", "features", features)
        found = []
        for number_, feature in enumerate(features, 1):
            at = f"feature {number_}"
            found.append(_area(feature))
        return tuple(found)
    except BadField as error:
        raise ValueError(f"{path}, {at}: {error}.") from None
    except ValueError as error:
        raise ValueError(f"{path}: not a policy of places in GeoJSON ({error}).") from None


def _area(feature: Any) -> Area:
    properties = mapping(member(feature, "properties"), "properties")
    if unknown := sorted(set(properties) - {"name", "action", "grid", "hide"}):
        raise BadField("unknown field (name, action, grid, hide are known)", unknown[0], "")
    action = member(properties, "action", "properties")
    if action not in ("blur", "reject"):
        raise BadField('neither "blur" nor "reject"', "action", action)
    hide = properties.get("hide", [])
    if not isinstance(hide, list) or any(name not in _HIDDEN for name in hide):
        raise BadField(f"not a list of {', '.join(_HIDDEN)}", "hide", hide)
    if action == "reject" and ("grid" in properties or hide):
        raise BadField(
            "would do nothing with reject", "grid" if "grid" in properties else "hide", ""
        )
    grid = 0.0 if action == "reject" else number(member(properties, "grid"), "grid", 1e-6, 90)
    name = text(member(properties, "name", "properties"), "name")
    return Area(name, action, grid, tuple(hide), tuple(_polygons(member(feature, "geometry"))))


def _polygons(geometry: Any) -> Iterator[Rings]:
    kind = member(geometry, "type", "geometry")
    coordinates = member(geometry, "coordinates", "geometry")
    if kind not in ("Polygon", "MultiPolygon"):
        raise BadField("neither Polygon nor MultiPolygon", "geometry.type", kind)
    polygons = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(polygons, list) or not polygons:
        raise BadField("no polygon", "geometry.coordinates", polygons)
    for polygon in polygons:
        if not isinstance(polygon, list) or not polygon:
            raise BadField("no ring", "geometry.coordinates", polygon)
        rings = []
        for ring in polygon:
            if not isinstance(ring, list) or len(ring) < 4 or ring[0] != ring[-1]:
                raise BadField("not a closed ring of four positions", "geometry.coordinates", ring)
            points = [checked(position, "geometry.coordinates") for position in ring]
            if any(not point.is_point for point in points):
                raise BadField("not a position", "geometry.coordinates", ring)
            rings.append(tuple((point.west, point.south) for point in points))
        yield tuple(rings)
