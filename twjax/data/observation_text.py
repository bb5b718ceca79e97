"""Observations in Taiwan's words: times, places, labels as fields that wordings name.

A field is absent where the record doesn't have what it says. Coordinates have the record's
digits, up to seven decimals; where they were blurred, the text says to which grid.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import math

from twjax.data.observation_terms import term
from twjax.data.observations import Label, Observation, Place, utc

# Mean radius of WGS84 (IUGG) in km; the international nautical mile.
_RADIUS, _MILE = 6371.0088, 1.852
_TAIWAN = datetime.timezone(datetime.timedelta(hours=8))
_KINDS = {
    "underwater_acoustics": ("水下聲學紀錄", "段"),
    "seismic_acoustics": ("地震儀聲學紀錄", "段"),
    "satellite_image": ("衛星影像", "張"),
    "aerial_image": ("空拍影像", "張"),
}
# Labels that a text lists one by one.
_LISTED = 12


def fields(observation: Observation) -> dict[str, str]:
    """Returns what wordings may name."""
    kind, counter = _KINDS[observation.modality]
    found = {"kind": kind, "counter": counter, "record": as_record(observation)}
    if not observation.secret:
        found["id"] = observation.id
    for name in ("platform", "sensor", "calibration", "source", "licence"):
        if value := getattr(observation, name):
            found[name] = value
    if observation.start:
        found |= _times(observation.start, observation.end)
    if observation.place:
        found |= _places(observation.place)
    if observation.resolution is not None:
        found["resolution"] = f"{plain(observation.resolution)}公尺"
    if observation.captions:
        found["captions"] = "\n".join(observation.captions)
    if observation.labels:
        counts = count_labels(observation)
        found["labels"] = "、".join(
            # "school1個" would run together.
            f"{name}{' ' if name[-1:].isascii() else ''}{n}{word}"
            for (name, word), n in counts.items()
        )
        found["classes"] = "、".join(name for name, _ in counts)
        found["total"] = str(len(observation.labels))
        if lines := [line for line in map(_detail, observation.labels) if line]:
            more = len(lines) - _LISTED
            rest = [f"（其餘{more}筆從略）"] if more > 0 else []
            found["details"] = "\n".join(lines[:_LISTED] + rest)
    return found


def as_record(observation: Observation) -> str:
    """Returns the record as lines of names and values: UTC, signed decimal degrees.

    Classes keep the names of their source, each with how often it was annotated; sounds are listed
    with seconds and hertz.
    """
    place = observation.place
    lines = {"type": observation.modality, "id": "" if observation.secret else observation.id}
    if observation.start and observation.end:
        lines |= {"start_datetime": utc(observation.start), "end_datetime": utc(observation.end)}
    elif observation.start:
        lines["datetime"] = utc(observation.start)
    if place:
        corners = [place.west, place.south, place.east, place.north]
        name = "point" if place.is_point else "bbox"
        lines[name] = ", ".join(map(_degrees, corners[:2] if place.is_point else corners))
        lines["approximate_to"] = f"{plain(place.grid)} degrees" if place.grid else ""
    for name in ("platform", "sensor", "calibration"):
        lines[name] = getattr(observation, name)
    lines["gsd"] = "" if observation.resolution is None else plain(observation.resolution)
    counts = collections.Counter(label.name for label in observation.labels)
    lines["labels"] = ", ".join(f"{name} ({n})" for name, n in counts.items())
    for number, label in enumerate(observation.labels[:_LISTED], 1):
        if label.begin is not None and label.end is not None:
            hertz = (
                f", {plain(label.low)}-{plain(label.high)} Hz"
                if label.low is not None and label.high is not None
                else ""
            )
            lines[f"label_{number}"] = (
                f"{label.name}, {plain(label.begin)}-{plain(label.end)} s{hertz}"
            )
    lines |= {"license": observation.licence, "source": observation.source}
    return "\n".join(f"{name}: {value}" for name, value in lines.items() if value)


def count_labels(observation: Observation) -> dict[tuple[str, str], int]:
    """Returns how often each class was annotated, by (name, word it is counted with)."""
    words = (term(label.name) for label in observation.labels)
    return dict(collections.Counter((word.word, word.counter) for word in words))


def date(time: datetime.datetime) -> str:
    """Returns the day in Taiwan as 2020年9月23日."""
    local = time.astimezone(_TAIWAN)
    return f"{local.year}年{local.month}月{local.day}日"


def roc_date(time: datetime.datetime) -> str:
    """Returns the day in Taiwan as 民國109年9月23日; the year before 民國1年 is 民國前1年."""
    local = time.astimezone(_TAIWAN)
    year = local.year - 1911
    shown = f"民國{year}年" if year > 0 else f"民國前{1 - year}年"
    return f"{shown}{local.month}月{local.day}日"


def clock(time: datetime.datetime) -> str:
    """Returns the time of day in Taiwan as 上午11時25分47秒; noon is 中午12時, midnight 上午0時."""
    local = time.astimezone(_TAIWAN)
    part = "上午" if local.hour < 12 else "中午" if local.hour == 12 else "下午"
    hour = local.hour if local.hour <= 12 else local.hour - 12
    return f"{part}{hour}時{local.minute}分{local.second}秒"


def length(seconds: float) -> str:
    """Returns a duration as 458秒, and from a minute on as 7分38秒."""
    whole = round(seconds)
    if seconds < 60 or whole != seconds:
        return f"{plain(seconds)}秒"
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((days, "天"), (hours, "小時"), (minutes, "分"), (rest, "秒"))
    return "".join(f"{n}{unit}" for n, unit in parts if n)


def longitude(degrees: float) -> str:
    """Returns 東經121.5度; on the meridians of 0 and 180 degrees there is neither east nor west."""
    side = "經度" if degrees in (0, 180, -180) else "東經" if degrees > 0 else "西經"
    return f"{side}{_degrees(abs(degrees))}度"


def latitude(degrees: float) -> str:
    """Returns 北緯25.1度; the equator is 緯度0度."""
    side = "緯度" if degrees == 0 else "北緯" if degrees > 0 else "南緯"
    return f"{side}{_degrees(abs(degrees))}度"


def _degrees(value: float) -> str:
    # Seven decimals are a centimetre; what follows comes from arithmetic.
    return plain(round(value, 7))


def plain(value: float) -> str:
    """Returns the shortest digits that are the number, never with an exponent."""
    # Adding 0.0 makes -0.0 a plain 0.
    shown = format(decimal.Decimal(repr(float(value) + 0.0)), "f")
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _times(start: datetime.datetime, end: datetime.datetime | None) -> dict[str, str]:
    found = {
        "date": f"西元{date(start)}（{roc_date(start)}）",
        "clock": clock(start),
        "utc": utc(start),
    }
    if end:
        if date(end) == date(start):
            found["until"] = clock(end)
        else:
            found["until"] = f"西元{date(end)}（{roc_date(end)}）{clock(end)}"
        found["duration"] = length((end - start).total_seconds())
    return found


def _places(place: Place) -> dict[str, str]:
    note = ""
    if place.grid:
        note = f"（位置敏感，座標已模糊化，只準到{plain(place.grid)}度）"
    if place.is_point:
        shown = f"{longitude(place.west)}、{latitude(place.south)}"
        if note:
            return {"place": f"{shown}附近{note}"}
        return {"place": shown, "sexagesimal": _sexagesimal(place)}
    over = "往東越過180度經線到" if place.west > place.east else "到"
    shown = f"{longitude(place.west)}{over}{longitude(place.east)}"
    shown = f"{shown}、{latitude(place.south)}到{latitude(place.north)}之間{note}"
    if note:
        return {"place": shown}
    width, height = extent(place)
    size = f"東西寬約{_distance(width)}，南北長約{_distance(height)}"
    return {"place": shown, "extent": size}


def extent(place: Place) -> tuple[float, float]:
    """Returns width at the middle latitude and height of a box in km, on a sphere."""
    degrees = (place.east - place.west) % 360
    if place.east > place.west and degrees == 0:
        degrees = 360.0
    middle = math.radians((place.south + place.north) / 2)
    per_degree = _RADIUS * math.pi / 180
    return degrees * per_degree * math.cos(middle), (place.north - place.south) * per_degree


def _distance(kilometres: float) -> str:
    """Returns three digits in km and nautical miles, or metres below one km."""
    if kilometres < 1:
        return f"{_three(kilometres * 1000)}公尺"
    return f"{_three(kilometres)}公里（{_three(kilometres / _MILE)}海里）"


def _three(value: float) -> str:
    return plain(float(f"{value:.3g}"))


def _sexagesimal(place: Place) -> str:
    """Returns degrees, minutes and seconds, rounded to a hundredth of a second."""

    def shown(name: str, degrees: float) -> str:
        hundredths = round(abs(degrees) * 360000)
        minutes, seconds = divmod(hundredths, 6000)
        whole, minutes = divmod(minutes, 60)
        return f"{name[:2]}{whole}度{minutes}分{plain(seconds / 100)}秒"

    east, north = longitude(place.west), latitude(place.south)
    return f"{shown(east, place.west)}、{shown(north, place.south)}"


def _detail(label: Label) -> str:
    """Returns one label's times, frequencies, box, confidence and notes; "" if it has none."""
    parts = []
    if label.begin is not None and label.end is not None:
        parts.append(f"第{plain(label.begin)}秒到第{plain(label.end)}秒")
    if label.low is not None and label.high is not None:
        parts.append(f"頻率{plain(label.low)}到{plain(label.high)}赫茲")
    if label.box is not None:
        left, top, right, bottom = map(plain, label.box)
        parts.append(f"像素框左上({left}, {top})、右下({right}, {bottom})")
    if label.confidence is not None:
        parts.append(f"信心值{plain(label.confidence)}")
    parts += [f"{name}{_between(name, value)}" for name, value in label.notes]
    return f"{term(label.name).word}：{'，'.join(parts)}" if parts else ""


def _between(name: str, value: str) -> str:
    # 船名SEASPAN would run together.
    return f"：{value}" if value[:1].isascii() and name[-1:].isalpha() else value
