"""The policy of sensitive places: what touches an area, blurring, wrong policies."""

from __future__ import annotations

import itertools
import json
import math
import pathlib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twjax.data import observation_places as places
from twjax.data import observation_text as words
from twjax.data.observations import BadField, Label, Observation, Place, moment

SAMPLES = pathlib.Path(__file__).resolve().parent / "data" / "observations"


def one(**fields):
    given_fields = {"id": "x", "modality": "aerial_image", "licence": "CC0-1.0", "source": "s"}
    return Observation(**given_fields | {"labels": (Label("ship"),)} | fields)


def orient(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def on_segment(a, b, p):
    inside = all(min(a[i], b[i]) <= p[i] <= max(a[i], b[i]) for i in (0, 1))
    return orient(a, b, p) == 0 and inside


def segments_meet(a, b, c, d):
    ab = orient(a, b, c) * orient(a, b, d) < 0
    cd = orient(c, d, a) * orient(c, d, b) < 0
    ends = on_segment(a, b, c) or on_segment(a, b, d) or on_segment(c, d, a) or on_segment(c, d, b)
    return (ab and cd) or ends


def winding(point, rings):
    """Returns how often the rings go around a point that lies on none: the sum of angles."""
    total = 0.0
    for ring in rings:
        for a, b in itertools.pairwise(ring):
            u, v = [(p[0] - point[0], p[1] - point[1]) for p in (a, b)]
            total += math.atan2(u[0] * v[1] - u[1] * v[0], u[0] * v[0] + u[1] * v[1])
    return round(total / (2 * math.pi))


def meets(box, rings):
    """Another implementation, exact for whole numbers."""
    west, south, east, north = box
    corners = [(west, south), (east, south), (east, north), (west, north)]
    sides = list(itertools.pairwise([*corners, corners[0]]))
    edges = [edge for ring in rings for edge in itertools.pairwise(ring)]
    if any(segments_meet(*edge, *side) for edge in edges for side in sides):
        return True
    if any(west <= x <= east and south <= y <= north for ring in rings for x, y in ring):
        return True
    return winding(corners[0], rings) % 2 == 1


POINTS = st.tuples(st.integers(-12, 12), st.integers(-9, 9))
RINGS = st.lists(POINTS, min_size=3, max_size=8).map(lambda ring: (*ring, ring[0]))


@settings(deadline=None)
@given(
    rings=st.lists(RINGS, min_size=1, max_size=3),
    corner=POINTS,
    size=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_areas_touch_what_another_implementation_says(rings, corner, size):
    (x, y), (w, h) = corner, size
    box = (x, y, x + w, y + h)
    assert places.touches(tuple(map(float, box)), rings) == meets(box, rings)


@settings(deadline=None)
@given(ring=RINGS, shift=st.integers(-180, 180), corner=POINTS, size=st.integers(0, 40))
def test_boxes_over_the_antimeridian(ring, shift, corner, size):
    """Turning the globe changes nothing, wherever the box crosses the edge of the map."""
    area = places.Area("a", "reject", 0.0, (), ((ring,),))
    assume(max(abs(corner[1]), abs(corner[1] + size)) < 90)

    def turned(x):
        return (x + shift + 180) % 360 - 180

    ring2 = [(x + shift, y) for x, y in ring]
    assume(all(-180 < x < 180 for x, _ in ring2))
    (x, y), north = corner, corner[1] + 3
    still = Place(x, y, x + size, north)
    moved = Place(turned(x), y, turned(x + size), north)
    other = places.Area("b", "reject", 0.0, (), ((ring2,),))
    assert area.touches(still) == other.touches(moved)


def test_points_on_the_antimeridian_and_the_poles():
    def area(*ring):
        return places.Area("a", "reject", 0.0, (), ((ring,),))

    east = area((175, -5), (180, -5), (180, 5), (175, 5), (175, -5))
    for x in (180.0, -180.0):
        assert east.touches(Place(x, 0, x, 0))
    assert not east.touches(Place(-179, 0, -179, 0))
    assert east.touches(Place(-180, 0, -179, 1))
    pole = area((10, 80), (20, 80), (20, 90), (10, 90), (10, 80))
    assert pole.touches(Place(-120, 90, -120, 90))
    assert not pole.touches(Place(-120, 89, -120, 89))


@settings(deadline=None)
@given(
    x=st.floats(-180, 180), y=st.floats(-90, 90),
    width=st.floats(0, 30), height=st.floats(0, 30),
    grid=st.sampled_from([0.01, 0.1, 0.25, 1.0, 5.0]),
)  # fmt: skip
def test_blurring(x, y, width, height, grid):
    point = places.blurred(Place(x, y, x, y), grid)
    assert point.is_point and point.grid == grid
    for old, new in ((x, point.west), (y, point.south)):
        assert abs(old - new) <= grid / 2 + 1e-6
        assert abs(new / grid - round(new / grid)) < 1e-6
    east, north = min(180.0, x + width), min(90.0, y + height)
    assume((x, y) != (east, north))
    box = places.blurred(Place(x, y, east, north), grid)
    assert box.west <= x + 1e-6 and box.east >= east - 1e-6
    assert box.south <= y + 1e-6 and box.north >= north - 1e-6
    assert box.east - box.west >= grid - 1e-6 and box.north - box.south >= grid - 1e-6
    # What is told depends on nothing but the cell.
    assert places.blurred(box, grid) == box


def test_a_policy_blurs_hides_and_rejects():
    areas = places.areas(SAMPLES / "places.geojson")
    turtle = one(place=Place(119.6123, 23.3321, 119.6123, 23.3321), id="turtle")
    found, name = places.guarded(turtle, areas)
    assert name == "海龜產卵沙灘" and found.place == Place(119.6, 23.3, 119.6, 23.3, 0.1)
    assert "turtle" not in str(words.fields(found))
    # A box that only touches a border counts.
    with pytest.raises(BadField, match="sensitive place: place 管制海域"):
        places.guarded(one(place=Place(120, 25, 121, 25.5)), areas)
    with pytest.raises(BadField, match="sensitive place"):
        places.guarded(one(place=Place(119, 23, 122, 26)), areas)
    far = one(place=Place(100, 0, 100, 0))
    assert places.guarded(far, areas) == (far, "") and places.guarded(one(), areas) == (one(), "")


def test_areas_that_overlap(tmp_path):
    square = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]
    hole = [[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]
    features = [
        {"properties": {"name": "fine", "action": "blur", "grid": 0.5, "hide": ["platform"]},
         "geometry": {"type": "Polygon", "coordinates": [square]}},
        {"properties": {"name": "coarse", "action": "blur", "grid": 2, "hide": ["time"]},
         "geometry": {"type": "MultiPolygon", "coordinates": [[square, hole]]}},
    ]  # fmt: skip
    path = tmp_path / "places.geojson"
    path.write_text(json.dumps({"features": features}))
    areas = places.areas(path)
    begin = moment("2024-01-01T00:00:01Z", "t")
    record = one(place=Place(0.6, 0.6, 0.6, 0.6), platform="p", start=begin)
    found, name = places.guarded(record, areas)
    assert (name, found.place.grid, found.platform, found.start) == ("coarse", 2, "", None)
    inside = one(place=Place(2.2, 2.2, 2.2, 2.2), platform="p", start=begin)
    found, name = places.guarded(inside, areas)
    assert (name, found.place.grid, found.platform, found.start) == ("fine", 0.5, "", begin)


@pytest.mark.parametrize(
    ("properties", "ring", "message"),
    [({"name": "a", "action": "hide"}, None, 'neither "blur" nor "reject": action'),
     ({"name": "a", "action": "blur"}, None, "feature 1: missing: grid"),
     ({"name": "a", "action": "blur", "grid": 0}, None, "out of range: grid 0"),
     ({"name": "a", "action": "reject", "grid": 1}, None, "would do nothing with reject: grid"),
     ({"action": "reject"}, None, "missing: properties.name"),
     ({"name": "a", "action": "blur", "grid": 1, "hide": ["x"]}, None, "not a list of id, pl"),
     ({"name": "a", "action": "reject", "gird": 1}, None, "unknown field .*: gird"),
     ({"name": "a", "action": "reject"}, [[0, 0], [1, 1], [0, 0]], "not a closed ring"),
     ({"name": "a", "action": "reject"}, [[0, 0], [0, 91], [1, 1], [0, 0]], "out of range")],
)  # fmt: skip
def test_wrong_policies_are_one_clear_line(properties, ring, message, tmp_path):
    path = tmp_path / "places.geojson"
    ring = ring or [[0, 0], [1, 0], [1, 1], [0, 0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    path.write_text(json.dumps({"features": [{"properties": properties, "geometry": geometry}]}))
    with pytest.raises(ValueError, match=message) as caught:
        places.areas(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_missing_or_unreadable_policy_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no policy of sensitive places; write one"):
        places.areas(tmp_path / "none.geojson")
    (tmp_path / "bad.geojson").write_bytes(b"\xff{")
    with pytest.raises(ValueError, match="not a policy of places in GeoJSON"):
        places.areas(tmp_path / "bad.geojson")
    (tmp_path / "empty.geojson").write_text('{"features": []}')
    assert places.areas(tmp_path / "empty.geojson") == ()
