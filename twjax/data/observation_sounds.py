"""Readers of annotated sound: detected whale calls, recordings of ships, Raven's tables."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import functools
import pathlib
import re
from typing import Any

from twjax.data.observation_files import decoded, lines, parsed
from twjax.data.observation_stated import Found, Stated, bare, stem
from twjax.data.observation_terms import ship_type
from twjax.data.observations import BadField, Label, Observation, member, moment, number, text

_RECORDED = re.compile(r"(?<!\d)(\d{8})[T_](\d{6})(Z?)(?!\d)")
_BEGIN, _END, _LOW, _HIGH = "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"
_CLASS_COLUMNS = ("Species", "Annotation", "Label", "Call Type", "Tags")


def whale_calls(path: pathlib.Path, stated: Stated) -> Found:
    """Reads detected calls: CSV with a header, or JSON lines whose `annotation` is such a row.

    Columns: datetime, station_name, R (call index), SNR, detection_id; others aren't used.
    """
    if bare(path).endswith(".jsonl"):
        for count, line in lines(path):
            yield f"line {count}", lambda line=line: _call_record(parsed(line), stated)
        return
    rows = lines(path)
    header = [name.strip() for name in _cells(next(rows, (0, b""))[1], "line 1")]
    if missing := [name for name in ("datetime", "station_name") if name not in header]:
        raise BadField("column missing", missing[0], ",".join(header), "line 1")
    for count, line in rows:
        name = f"{stem(path)}-{count}"
        yield (
            f"line {count}",
            lambda line=line, name=name: _call(
                dict(zip(header, _cells(line, columns=len(header)), strict=True)), name, stated
            ),
        )


def ships(path: pathlib.Path, stated: Stated) -> Found:
    """Reads ship recordings as in DeepShip's metafiles.

    Lines of number, AIS type of ship, name, YYYYMMDD, HHMMSS, duration in seconds, and a pair of
    numbers that its authors don't explain and that isn't used (Irfan et al. 2021, "DeepShip").
    """
    for count, line in lines(path):
        yield f"line {count}", lambda line=line: _ship(line, path, stated)


def raven(path: pathlib.Path, stated: Stated) -> Found:
    """Reads a selection table of Raven: one recording, tab-separated, a line a selection.

    The recording's begin is in the file's name (20200923T032400Z, or with _ for T); without Z,
    `Stated.zone` has its zone.
    """
    yield "file", functools.partial(_table, path, stated)


def _call_record(record: Any, stated: Stated) -> Observation:
    name = text(member(record, "id"), "id")
    own = {
        key: text(record[key], key) for key in ("license", "source") if record.get(key) is not None
    }
    return _call(member(record, "annotation"), name, dataclasses.replace(stated, **own))


def _call(row: Any, name: str, stated: Stated) -> Observation:
    station = text(member(row, "station_name"), "station_name")
    notes = []
    for key, shown in (("R", "偵測指標R"), ("SNR", "訊噪比")):
        if key in row:
            # What follows the fourth digit says nothing of the call.
            notes.append((shown, f"{number(row[key], key):.4g}"))
    found: dict[str, Any] = stated.common("seismic_acoustics") | {"place": stated.at(station)}
    found["platform"] = f"{stated.platform}{station}測站"
    label = Label(text(stated.label, "label"), notes=tuple(notes))
    start = moment(member(row, "datetime"), "datetime", stated.offset)
    group = f"{station} {start:%Y-%m-%d}"
    return Observation(id=name, start=start, labels=(label,), group=group, **found)


def _ship(line: bytes, path: pathlib.Path, stated: Stated) -> Observation:
    cells = _cells(line)
    if len(cells) == 8 and not cells[7].strip():
        cells.pop()
    if len(cells) != 7:
        raise BadField("wrong number of columns", "", decoded(line))
    count, code, name, date, clock, duration, pair = (cell.strip() for cell in cells)
    for field, value, form in (("number", count, r"\d+"), ("date", date, r"\d{8}"),
                               ("time", clock, r"\d{6}"), ("pair", pair, r"\d+-\d+")):  # fmt: skip
        if not re.fullmatch(form, value):
            raise BadField(f"not a {field}", field, value)
    label = Label(ship_type(code), notes=(("船名", text(name, "name")),))
    start = _stamp(date, clock, stated.offset)
    seconds = number(duration, "duration", 0, 1e7)
    return Observation(
        id=f"{stem(path)}-{count}-{date}T{clock}",
        labels=(label,),
        start=start,
        end=start + datetime.timedelta(seconds=seconds),
        # Recordings of one ship sound alike.
        group=f"ship {name}",
        **stated.common("underwater_acoustics"),
    )


def _stamp(date: str, clock: str, zone: datetime.timezone | None) -> datetime.datetime:
    shown = f"{date[:4]}-{date[4:6]}-{date[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}"
    return moment(shown, "time", zone)


def _table(path: pathlib.Path, stated: Stated) -> Observation:
    rows = ((count, decoded(line, f"line {count}").split("\t")) for count, line in lines(path))
    _, header = next(rows, (0, []))
    for name in (_BEGIN, _END):
        if name not in header:
            raise BadField("column missing", name, ", ".join(header), "line 1")
    named = next((name for name in _CLASS_COLUMNS if name in header), None)
    match = _RECORDED.search(path.name)
    zone = datetime.UTC if match and match[3] else stated.offset
    labels: dict[tuple[str, ...], Label] = {}
    for count, cells in rows:
        try:
            if len(cells) != len(header):
                raise BadField("wrong number of columns", "", "\t".join(cells))
            row = dict(zip(header, cells, strict=True))
            values: dict[str, Any] = {
                name: number(row[column], column, 0)
                for name, column in (
                    ("begin", _BEGIN), ("end", _END), ("low", _LOW), ("high", _HIGH),
                )
                if column in row
            }  # fmt: skip
            shown = text(row[named] if named else stated.label, named or "label")
            # Raven writes a line for each view of a selection.
            key = (row.get("Selection", str(count)), row.get("Channel", ""))
            labels.setdefault(key, Label(shown, **values))
        except BadField as error:
            error.where = f"line {count}"
            raise
    return Observation(
        id=stem(path),
        start=_stamp(match[1], match[2], zone) if match else None,
        labels=tuple(labels.values()),
        **stated.common("underwater_acoustics"),
    )


def _cells(line: bytes, where: str = "", columns: int = 0) -> list[str]:
    shown = decoded(line, where)
    try:
        cells = next(csv.reader([shown], strict=True), [])
    except csv.Error as error:
        raise BadField("not CSV", "", f"{error}: {shown}", where) from None
    if columns and len(cells) != columns:
        raise BadField("wrong number of columns", "", shown, where)
    return cells
