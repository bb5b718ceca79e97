"""An observation: what was seen or heard, when, where and with what; STAC's terms where it has any.

SpatioTemporal Asset Catalog specification 1.0.0, items; time as in RFC 3339, places as in RFC 7946
(WGS84, longitude first, a box whose west is greater than its east crosses the antimeridian).
Nothing here is repaired: a value that can't be right is a `BadField`.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MODALITIES = ("underwater_acoustics", "seismic_acoustics", "satellite_image", "aerial_image")

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(?:\.(\d{1,12}))?\s*([Zz]|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
# Control characters, and halves of surrogate pairs.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SHOWN = 200
# Short for what is deep or long.
_REPR = reprlib.Repr()


class BadField(ValueError):
    """A field of a record that can't be used; `where` is a place in the file, if that is known."""

    def __init__(self, reason: str, field: str, value: object, where: str = ""):
        shown = value if isinstance(value, str) else _REPR.repr(value)
        self.reason, self.field, self.where = reason, field, where
        self.value = shown.encode("utf-8", "backslashreplace").decode()[:_SHOWN]
        super().__init__(f"{reason}: {field} {self.value}")


class Rejected(NamedTuple):
    """A record that is left out: why, and the file, record, field and value that say so."""

    reason: str
    file: str
    record: str
    field: str
    value: str


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A box in degrees, or a point where both corners are the same.

    `grid` is the width in degrees of the grid to which it was blurred, 0 where it wasn't.
    """

    west: float
    south: float
    east: float
    north: float
    grid: float = 0.0

    @property
    def is_point(self) -> bool:
        return (self.west, self.south) == (self.east, self.north)


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """One thing that was annotated.

    `box` is (left, top, right, bottom) in pixels; `begin` and `end` are seconds from the start of
    the recording, `low` and `high` hertz, `confidence` is 0 to 1. `notes` are names and values.
    """

    name: str
    box: tuple[float, float, float, float] | None = None
    begin: float | None = None
    end: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    notes: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for low, high, name in ((self.begin, self.end, "time"), (self.low, self.high, "frequency")):
            if low is not None and high is not None and high < low:
                raise BadField("end before start", f"labels {name}", f"{low} to {high}")


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """One recording or image and its annotation; "" and None are what its form doesn't say.

    `start` and `end` are in UTC, `resolution` is metres a pixel. `group` is what must not be
    divided between training and validation (the id, where it is ""); `split` is what the form
    itself says about that. `secret` ids aren't shown.
    """

    id: str
    modality: str
    licence: str
    source: str
    labels: tuple[Label, ...] = ()
    captions: tuple[str, ...] = ()
    start: datetime.datetime | None = None
    end: datetime.datetime | None = None
    place: Place | None = None
    platform: str = ""
    sensor: str = ""
    calibration: str = ""
    resolution: float | None = None
    group: str = ""
    split: str = ""
    secret: bool = False

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise BadField("unknown modality", "modality", self.modality)
        if not self.labels and not self.captions:
            raise BadField("no labels", "labels", "")
        if self.start and self.end and self.end < self.start:
            raise BadField("end before start", "end", f"{utc(self.start)} to {utc(self.end)}")


def text(value: Any, field: str, empty: bool = False) -> str:
    """Returns a string without white space at its ends and with single spaces inside."""
    if value is None and empty:
        return ""
    if not isinstance(value, str):
        raise BadField("not text", field, value)
    found = " ".join(value.split())
    if not found and not empty:
        raise BadField("empty", field, value)
    if _NO_TEXT.search(found):
        raise BadField("characters that are no text", field, value)
    return found


def number(value: Any, field: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Returns a finite number from `low` to `high`; of a string only if all of it is a number."""
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()):
            raise BadField("not a number", field, value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadField("not a number", field, value)
    try:
        found = float(value)
    except OverflowError:
        raise BadField("not a finite number", field, str(value)[:40]) from None
    if not math.isfinite(found):
        raise BadField("not a finite number", field, value)
    if not low <= found <= high:
        raise BadField("out of range", field, value)
    return found


def place(value: Any, field: str) -> Place:
    """Returns [longitude, latitude] or [west, south, east, north] as a place; heights are dropped.

    A longitude out of -180 … 180 or a latitude out of -90 … 90 is refused, not wrapped.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) not in (2, 3, 4, 6):
        raise BadField("neither a point nor a box", field, value)
    corners = (value[:2], value[:2]) if len(value) < 4 else _corners(value)
    found: list[float] = []
    for corner in corners:
        for degrees, limit, axis in zip(corner, (180, 90), ("longitude", "latitude"), strict=True):
            try:
                found.append(number(degrees, f"{field} {axis}", -limit, limit))
            except BadField as error:
                if error.reason != "out of range":
                    raise
                reason = "coordinate out of range"
                raise BadField(reason, error.field, f"{degrees} in {list(value)}") from None
    west, south, east, north = found
    if south > north:
        raise BadField("box upside down", field, value)
    return Place(west, south, east, north)


def moment(value: Any, field: str, zone: datetime.timezone | None = None) -> datetime.datetime:
    """Returns a time of RFC 3339 in UTC.

    One without a zone is refused, unless `zone` says which it is in. Parts of a microsecond are
    dropped; a leap second is the second that follows it.
    """
    if not isinstance(value, str):
        raise BadField("not a time", field, value)
    match = _TIME.fullmatch(value.strip())
    if not match:
        raise BadField("not a time", field, value)
    date, clock, second, fraction, offset = match.groups()
    if offset is None and zone is None:
        raise BadField("time without zone", field, value)
    leap = second == "60"
    shown = f"{date}T{clock}{'59' if leap else second}.{(fraction or '')[:6]:0<6}"
    try:
        if offset is None:
            found = datetime.datetime.fromisoformat(shown).replace(tzinfo=zone)
        else:
            found = datetime.datetime.fromisoformat(
                f"{shown}{offset.upper().replace('Z', '+00:00')}"
            )
        found = found.astimezone(datetime.UTC) + datetime.timedelta(seconds=leap)
    except (ValueError, OverflowError):
        raise BadField("not a time", field, value) from None
    if not 1800 <= found.year < 2200:
        raise BadField("year out of range (1800 to 2199)", field, value)
    return found


def utc(time: datetime.datetime) -> str:
    """Returns a time as RFC 3339 in UTC, with a fraction only where it has one."""
    return time.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")


def fixed_zone(name: str, field: str) -> datetime.timezone | None:
    """Returns the zone of "UTC" or of an offset such as "+08:00"; None for ""."""
    if name in ("", "UTC"):
        return datetime.UTC if name else None
    match = re.fullmatch(r"([+-])(\d\d):([0-5]\d)", name)
    if not match or int(match[2]) > 14:
        raise BadField("neither UTC nor an offset such as +08:00", field, name)
    offset = datetime.timedelta(hours=int(match[2]), minutes=int(match[3]))
    return datetime.timezone(-offset if match[1] == "-" else offset)


def mapping(value: Any, field: str) -> Mapping[str, Any]:
    """Returns a JSON object."""
    if not isinstance(value, Mapping):
        raise BadField("not a JSON object", field, value)
    return value


def listed(value: Any, field: str) -> list[Any]:
    """Returns a JSON list; none is an empty one."""
    if value is not None and not isinstance(value, list):
        raise BadField("not a list", field, value)
    return value or []


def member(record: Any, name: str, field: str = "") -> Any:
    """Returns `record[name]` of a JSON object that must have it."""
    if name not in mapping(record, field or name):
        raise BadField("missing", f"{field}.{name}" if field else name, "")
    return record[name]


def _corners(box: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    half = len(box) // 2
    return box[:2], box[half : half + 2]
