"""What is true of all records of a folder of annotations, and what readers of such files share."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twjax.data.observations import (
    BadField,
    Observation,
    Place,
    fixed_zone,
    mapping,
    number,
    place,
    text,
)

# Where in the file, and a call that makes the observation or raises `BadField`.
Found = Iterator[tuple[str, Callable[[], Observation]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stated:
    """What is true of all records of a folder; `collection.json` in it has these fields.

    What a record says itself goes before it. `license` is an SPDX name; `zone` ("UTC", "+08:00")
    that of times without one; `label` what is annotated where the form names no class; `place` a
    point or box of all records, `stations` a point for each name.
    """

    license: str = ""
    source: str = ""
    modality: str = ""
    platform: str = ""
    sensor: str = ""
    calibration: str = ""
    zone: str = ""
    label: str = ""
    place: list[float] | tuple[float, ...] = ()
    stations: Mapping[str, list[float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self)[:8]:
            if (value := getattr(self, entry.name)) != "":
                text(value, entry.name)
        fixed_zone(self.zone, "zone")
        if self.place:
            place(self.place, "place")
        for name, point in mapping(self.stations, "stations").items():
            place(point, f"stations {name}")

    @property
    def offset(self) -> datetime.timezone | None:
        return fixed_zone(self.zone, "zone")

    def at(self, station: str = "") -> Place | None:
        if station in self.stations:
            return place(self.stations[station], f"stations {station}")
        return place(self.place, "place") if self.place else None

    def common(self, modality: str) -> dict[str, Any]:
        """Returns the fields of an observation that its form doesn't have."""
        return {
            "modality": self.modality or modality,
            "licence": self.license,
            "source": self.source,
            "platform": self.platform,
            "sensor": self.sensor,
            "calibration": self.calibration,
            "place": self.at(),
        }


def pixels(corners: Any, field: str) -> tuple[float, float, float, float]:
    """Returns [left, top, right, bottom]."""
    if not isinstance(corners, list) or len(corners) != 4:
        raise BadField("not four numbers", field, corners)
    left, top, right, bottom = (number(value, field) for value in corners)
    if left > right or top > bottom:
        raise BadField("box upside down", field, corners)
    return left, top, right, bottom


def bare(path: pathlib.Path) -> str:
    """Returns a file's name without .gz."""
    return path.name.removesuffix(".gz")


def stem(path: pathlib.Path) -> str:
    """Returns a file's name without its endings."""
    return bare(path).rpartition(".")[0] or bare(path)
