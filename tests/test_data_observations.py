"""Observations: the record's checks, words, the readers of each form."""

from __future__ import annotations

import datetime
import gzip
import json
import math
import pathlib
import re
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.data import observation_text as words
from twjax.data.observation_files import elements
from twjax.data.observation_forms import FORMS, observations
from twjax.data.observation_stated import Stated
from twjax.data.observations import (
    BadField,
    Label,
    Observation,
    Place,
    Rejected,
    moment,
    number,
    place,
    text,
)

SAMPLES = pathlib.Path(__file__).resolve().parent / "data" / "observations"


def stated(form, **more):
    given_fields = json.loads((SAMPLES / form / "collection.json").read_text(encoding="utf-8"))
    return Stated(**given_fields | more)


def files(form):
    return sorted(p for p in (SAMPLES / form).iterdir() if p.name != "collection.json")


def read(path, form, **more):
    """Returns what is kept by id, and (reason, record, field, value) of what isn't."""
    found = [record for _, record in observations(path, form, stated(form, **more))]
    kept = {r.id: r for r in found if isinstance(r, Observation)}
    lost = [r[:1] + r[2:] for r in found if isinstance(r, Rejected)]
    assert len(kept) + len(lost) == len(found)
    assert all(r.file == str(path) for r in found if isinstance(r, Rejected))
    return kept, lost


def one(**fields):
    given_fields = {"id": "x", "modality": "aerial_image", "licence": "CC0-1.0", "source": "s"}
    return Observation(**given_fields | {"labels": (Label("ship"),)} | fields)


# --- values


@settings(deadline=None)
@given(
    time=st.datetimes(datetime.datetime(1801, 1, 1), datetime.datetime(2199, 1, 1)),
    minutes=st.integers(-14 * 60, 14 * 60),
)
def test_times_of_rfc_3339_become_utc(time, minutes):
    zone = datetime.timezone(datetime.timedelta(minutes=minutes))
    shown = time.replace(tzinfo=zone).isoformat()
    found = moment(shown, "t")
    assert found == datetime.datetime.fromisoformat(shown)
    assert found.utcoffset() == datetime.timedelta(0)
    with pytest.raises(BadField, match="time without zone"):
        moment(time.isoformat(), "t")
    assert moment(time.isoformat(), "t", zone) == found


@pytest.mark.parametrize(
    "wrong",
    ["2024-02-30T00:00:00Z", "2024-13-01T00:00:00Z", "2024-01-01", "20240101T000000Z", "now", "",
     "2024-01-01T24:00:00Z", "2024-01-01T00:00:61Z", "２０２４-01-01T00:00:00Z", None, 1704067200,
     "2024-01-01T00:00:00+25:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"],
)  # fmt: skip
def test_what_is_no_time(wrong):
    with pytest.raises(BadField) as caught:
        moment(wrong, "properties.datetime")
    assert caught.value.field == "properties.datetime"


def test_leap_seconds_and_fractions():
    assert moment("2016-12-31T23:59:60Z", "t") == moment("2017-01-01T00:00:00Z", "t")
    assert moment("2020-09-23T03:25:47.008329599-00:00", "t").microsecond == 8329


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [([121, 91], "coordinate out of range"), ([181, 0], "coordinate out of range"),
     ([-180.0001, 0], "coordinate out of range"), ([0, 0, 0, 90.1], "coordinate out of range"),
     ([math.nan, 0], "not a finite number"), ([0, math.inf], "not a finite number"),
     (["a", 0], "not a number"), ([True, 0], "not a number"), ([None, 0], "not a number"),
     ([0, 2, 1, 1], "box upside down"), ([1], "neither a point nor a box"),
     ([1, 2, 3, 4, 5], "neither a point nor a box"), ("12", "neither a point nor a box"),
     ([10**400, 0], "not a finite number")],
)  # fmt: skip
def test_what_is_no_place(wrong, reason):
    with pytest.raises(BadField, match=reason):
        place(wrong, "bbox")


def test_places():
    assert place([-180, 90], "p").is_point and place([180, -90, 12], "p").is_point
    assert place([1, 2, 0, 3, 4, 50], "p") == place([1, 2, 3, 4], "p")
    # RFC 7946, section 5.2: Fiji.
    assert place([177, -20, -178, -16], "p") == Place(177, -20, -178, -16)


@pytest.mark.parametrize("wrong", ["1_000", "nan", "0x1", "1e999", "１", "--1", "", "inf"])
def test_what_is_no_number(wrong):
    with pytest.raises(BadField):
        number(wrong, "n")


def test_text_is_tidied_and_checked():
    assert text(" 漁船\n\u3000港 ", "t") == "漁船 港"
    for wrong in ("\x00", "a\ud800", "\x1b[0m", "\x9b", 3, None, " "):
        with pytest.raises(BadField):
            text(wrong, "t")


def test_records_must_make_sense():
    begin = moment("2024-01-01T00:00:01Z", "t")
    with pytest.raises(BadField, match="end before start"):
        one(start=begin, end=begin - datetime.timedelta(seconds=1))
    with pytest.raises(BadField, match="no labels"):
        one(labels=())
    with pytest.raises(BadField, match="unknown modality"):
        one(modality="photo")
    with pytest.raises(BadField, match="end before start: labels frequency"):
        Label("whale", low=20, high=10)
    assert one(labels=(), captions=("圖說",), start=begin, end=begin)


# --- words


@pytest.mark.parametrize(
    ("time", "date", "clock"),
    [("1911-12-31T16:00:00Z", "民國1年1月1日", "上午0時0分0秒"),
     ("1911-12-31T15:59:59Z", "民國前1年12月31日", "下午11時59分59秒"),
     ("1895-06-01T04:00:00Z", "民國前17年6月1日", "中午12時0分0秒"),
     ("2024-02-29T05:07:09Z", "民國113年2月29日", "下午1時7分9秒"),
     ("2024-02-29T03:59:59.9Z", "民國113年2月29日", "上午11時59分59秒")],
)  # fmt: skip
def test_times_in_taiwan(time, date, clock):
    found = moment(time, "t")
    assert (words.roc_date(found), words.clock(found)) == (date, clock)


@settings(deadline=None)
@given(st.floats(-180, 180), st.floats(-90, 90))
def test_coordinates_in_words_read_back(x, y):
    east, north = words.longitude(x), words.latitude(y)
    found = [float(shown[2:-1]) for shown in (east, north)]
    signs = [{"東經": 1, "西經": -1, "北緯": 1, "南緯": -1}.get(s[:2], 1) for s in (east, north)]
    assert abs(found[0] * signs[0] - (abs(x) if abs(x) == 180 else x)) <= 1e-7
    assert abs(found[1] * signs[1] - y) <= 1e-7
    assert "e" not in east + north and "-" not in east + north
    shown = words.fields(one(place=Place(x, y, x, y)))["sexagesimal"]
    numbers = [float(n) for n in re.findall(r"[\d.]+", shown)]
    for degrees, (d, m, s) in zip((x, y), (numbers[:3], numbers[3:]), strict=True):
        assert 0 <= m < 60 and 0 <= s < 60
        assert abs(d + m / 60 + s / 3600 - abs(degrees)) <= 0.0051 / 3600


def test_lengths_and_sizes():
    assert [words.length(s) for s in (0.5, 59, 60, 458, 3600, 90061)] == [
        "0.5秒", "59秒", "1分", "7分38秒", "1小時", "1天1小時1分1秒",
    ]  # fmt: skip
    # A minute of latitude is a nautical mile, up to the earth's flattening.
    width, height = words.extent(Place(121, -0.5, 122, 0.5))
    assert abs(height / 1.852 - 60) < 0.1 and abs(width - height) < 0.01
    fiji = words.extent(Place(177.5, -19.25, -179, -16))
    assert fiji == pytest.approx(words.extent(Place(0, -19.25, 3.5, -16)))
    assert words.extent(Place(-180, 60, 180, 60))[0] == pytest.approx(math.pi * 6371.0088)


def test_blurred_places_say_so():
    found = words.fields(one(place=Place(119.6, 23.3, 119.6, 23.3, 0.1)))
    note = "（位置敏感，座標已模糊化，只準到0.1度）"
    assert found["place"] == f"東經119.6度、北緯23.3度附近{note}"
    assert "sexagesimal" not in found and "approximate_to: 0.1 degrees" in found["record"]


# --- forms


def test_stac_items():
    kept, lost = read(SAMPLES / "stac" / "items.jsonl", "stac")
    assert len(kept) == 24 + 5 + 3
    assert kept["box-fiji"].place == Place(177.5, -19.25, -179.0, -16.0)
    assert kept["box-fiji"].start == datetime.datetime(2023, 12, 31, 12, tzinfo=datetime.UTC)
    assert kept["interval"].end - kept["interval"].start == datetime.timedelta(minutes=11.5)
    assert kept["hydrophone"].labels[0] == Label(
        "humpback whale", begin=3.25, end=11.5, low=120, high=900, confidence=0.75
    )
    assert lost == [
        ("coordinate out of range", "line 30", "geometry.coordinates latitude",
         "91 in [121.5, 91]"),
        ("time without zone", "line 31", "properties.datetime", "2024-05-06T02:10:33"),
        ("end before start", "line 32", "end", "2024-05-06T02:10:33Z to 2024-05-06T02:10:32Z"),
        ("no labels", "line 33", "labels", ""),
        ("id seen before", "line 37", "id", "scene-3"),
        ("not a finite number", "line 38", "", "NaN"),
        ("not JSON", "line 39", "",
         "Unterminated string starting at: line 1 column 34 (char 33)"),
    ]  # fmt: skip


def test_stac_in_collections_and_single_files(tmp_path):
    lines = (SAMPLES / "stac" / "items.jsonl").read_text(encoding="utf-8").splitlines()
    items = [json.loads(line) for line in lines[:3]]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}, indent=1))
    (tmp_path / "b.json").write_text(lines[1])
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[:3]).encode()))
    whole = read(SAMPLES / "stac" / "items.jsonl", "stac")[0]
    for name in ("a.geojson", "c.jsonl.gz"):
        kept, lost = read(tmp_path / name, "stac")
        assert kept == {f"scene-{n}": whole[f"scene-{n}"] for n in range(3)} and not lost
    assert read(tmp_path / "b.json", "stac") == ({"scene-1": whole["scene-1"]}, [])


@pytest.mark.parametrize("odd", ["9" * 5000, "[" * 900 + "]" * 900, "[" * 9999, '"\\ud800"', "{}"])
def test_odd_json_is_a_rejection(odd, tmp_path):
    line = (SAMPLES / "stac" / "items.jsonl").read_text(encoding="utf-8").splitlines()[0]
    for old in ("[120.0, 22.0]", '"2024-05-01T00:10:33Z"', '"scene-0"', "0.9"):
        assert old in line
        (tmp_path / "odd.jsonl").write_text(f"{line.replace(old, odd)}\n{line}\n")
        kept, lost = read(tmp_path / "odd.jsonl", "stac")
        assert list(kept) == ["scene-0"] and len(lost) == 1
        assert len(lost[0][3]) <= 200


def test_ships():
    kept, lost = read(SAMPLES / "ships" / "cargo-metafile", "ships")
    first = kept["cargo-metafile-1-20310104T200023"]
    assert first.end - first.start == datetime.timedelta(seconds=400)
    assert first.labels == (Label("cargo ship", notes=(("船名", "EXAMPLE STAR 0"),)),)
    assert (
        first.place == Place(120.125, 22.5, 120.125, 22.5)
        and first.group == kept["cargo-metafile-5-20310504T200423"].group
    )
    names = [label.name for record in kept.values() for label in record.labels]
    assert names[:5] == ["cargo ship", "cargo ship", "tanker", "passenger ship", "tugboat"]
    assert [entry[:3] for entry in lost] == [
        ("not a pair", "line 13", "pair"),
        ("unknown type of ship", "line 14", "type"),
        ("not a time", "line 15", "time"),
        ("wrong number of columns", "line 16", ""),
    ]
    # Without a zone none of the times can be used.
    kept, lost = read(SAMPLES / "ships" / "cargo-metafile", "ships", zone="")
    assert not kept and sum(entry[0] == "time without zone" for entry in lost) == 13


def test_selections_of_raven():
    found = [read(path, "raven") for path in files("raven")]
    (first,), (third,) = found[0][0].values(), found[2][0].values()
    # Both views of a selection are one label.
    assert [label.name for label in first.labels] == ["blue whale", "fin whale"]
    assert first.start == datetime.datetime(2031, 9, 23, 3, 24, tzinfo=datetime.UTC)
    assert third.start == datetime.datetime(2031, 9, 24, 19, 24, tzinfo=datetime.UTC)
    assert found[1] == ({}, [("end before start", "line 3", "labels time", "9.0 to 8.0")])


def test_whale_calls(tmp_path):
    kept, lost = read(SAMPLES / "whale_calls" / "calls.csv", "whale_calls")
    assert len(kept) == 20 and kept["calls-2"].place == Place(-68.5, 48.25, -68.5, 48.25)
    assert kept["calls-3"].place is None and kept["calls-3"].platform == "示範海岸BX測站"
    assert [entry[:3] for entry in lost] == [
        ("not a time", "line 22", "datetime"),
        ("not a number", "line 23", "R"),
    ]
    row = {"datetime": "2031-09-01 03:25:00.5", "station_name": "AX", "R": "3", "SNR": "1"}
    line = {"id": "w-1", "annotation": row, "license": "MIT", "source": "elsewhere"}
    path = tmp_path / "calls.jsonl"
    path.write_text(json.dumps(line) + '\n{"id": "w-2"}\n[]\n')
    kept, lost = read(path, "whale_calls")
    assert kept["w-1"].licence == "MIT" and kept["w-1"].source == "elsewhere"
    assert [entry[0] for entry in lost] == ["missing", "not a JSON object"]
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert read(tmp_path / "other.csv", "whale_calls")[1] == [
        ("column missing", "line 1", "datetime", "a,b")
    ]


def test_labels_of_dota():
    found = {path.stem: read(path, "dota") for path in files("dota")}
    record = found["P9001"][0]["P9001"]
    assert record.resolution == 0.25 and found["P9002"][0]["P9002"].resolution is None
    assert words.fields(record)["labels"] == "小型車1輛、飛機2架"
    assert record.labels[2].box == (323, 478, 410, 535) and record.labels[2].notes
    assert found["P9003"][1] == [("no labels", "file", "labels", "")]
    assert found["P9004"][1] == [("not a number", "line 2", "corner", "ship")]


def test_features_of_xview():
    kept, lost = read(SAMPLES / "xview" / "sample.geojson", "xview")
    assert list(kept) == ["9001.tif", "9002.tif", "9001.tif#2", "9005.tif"]
    assert kept["9001.tif#2"].group == kept["9001.tif"].group == "9001.tif"
    assert [label.name for label in kept["9001.tif"].labels] == [
        "maritime vessel",
        "fishing vessel",
    ]
    box = kept["9001.tif"].place
    assert (box.west, box.south, box.east, box.north) == pytest.approx(
        (120.1, 22.1, 120.111, 22.121)
    )
    assert [entry[:3] for entry in lost] == [
        ("unknown class", "line 6", "properties.type_id"),
        ("coordinate out of range", "line 8", "geometry latitude"),
    ]


def test_captions_and_tags():
    kept, lost = read(SAMPLES / "captions" / "dataset_invented.json", "captions")
    assert [r.split for r in kept.values()] == ["", "test", "", ""] * 2
    assert kept["port_0.jpg"].captions == ("many ships are in a port .",
                                           "2 boats near a long pier .")  # fmt: skip
    assert lost == [("no labels", "line 139", "labels", "")]
    kept, lost = read(SAMPLES / "skyscript" / "meta.jsonl", "skyscript")
    record = kept["images/a0_CH_31.jpg"]
    assert record.place == Place(120, 23, 120.01, 23.012) and not lost
    assert [label.name for label in record.labels][:2] == ["building=school", "leisure=pitch"]


def test_what_a_folder_states_is_checked():
    for wrong, message in (
        ({"zone": "Taipei"}, "neither UTC nor an offset"),
        ({"place": [121, 91]}, "out of range"),
        ({"license": None}, "not text: license"),
        ({"stations": {"A": [1]}}, "neither a point nor a box: stations A"),
    ):
        with pytest.raises(ValueError, match=message):
            Stated(**wrong)


EVERY = [(form, path) for form in FORMS for path in files(form)]


@pytest.mark.parametrize(("form", "path"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_truncated_files_lose_no_more_than_their_end(form, path, tmp_path):
    data = path.read_bytes()
    whole = list(read(path, form)[0].values())
    target = tmp_path / path.name
    for cut in range(0, len(data), max(1, len(data) // 40)):
        target.write_bytes(data[:cut])
        kept = list(read(target, form)[0].values())
        assert [r.id for r in kept[:-1]] == [r.id for r in whole[: len(kept)][:-1]]
        assert kept[:-1] == whole[: len(kept)][:-1]
    packed = gzip.compress(data)
    name = f"{path.name}.gz"
    (tmp_path / name).write_bytes(packed)
    assert list(read(tmp_path / name, form)[0].values()) == whole
    (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    assert any(entry[0] == "damaged file" for entry in read(tmp_path / name, form)[1])


@pytest.mark.parametrize(("form", "path"), EVERY, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
def test_other_encodings_are_said(form, path, encoding, tmp_path):
    target = tmp_path / path.name
    target.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    kept, lost = read(target, form)
    if encoding == "utf-8-sig":
        assert (kept, lost) == read(path, form)
    else:
        assert not kept and lost


@settings(deadline=None)
@given(data=st.data())
def test_damage_is_never_more_than_a_rejection(data, tmp_path_factory):
    form, path = data.draw(st.sampled_from(EVERY))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(
            st.sampled_from([b"\x00", b"\xff", b'"', b"[", b"]", b"{", b"}", b",", b":", b"NaN",
                             b"1e999", b"null", b"\xa4\xa4", b"\\ud800", b"-", b"\n", b"\t", b""])
        )  # fmt: skip
        content[at : at + data.draw(st.integers(0, 3))] = piece
    target = tmp_path_factory.mktemp("damage") / path.name
    target.write_bytes(content)
    for record in read(target, form)[0].values():
        assert words.fields(record)["record"].encode()
    shutil.rmtree(target.parent)


def test_lists_of_large_files_are_streamed(tmp_path):
    path = tmp_path / "large.json"
    entries = [{"n": n, "text": "文" * (n % 7), "list": [n, {"a": "]}"}]} for n in range(8000)]
    document = {"before": {"images": [1, 2]}, "images": entries, "after": 12}
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
    lines = path.read_text(encoding="utf-8").splitlines()
    for (where, found), wanted in zip(elements(path, "images"), entries, strict=True):
        assert found == wanted
        assert lines[int(where.removeprefix("line ")) - 1].strip() == "{"
    path.write_text('{"images": {"a": 1}}')
    with pytest.raises(BadField, match="no list of that name"):
        list(elements(path, "images"))
    path.write_text('{"images": ' + "[" * 100000)
    with pytest.raises(BadField, match="not JSON"):
        list(elements(path, "images"))
