"""The report as Chromium shows it: on a phone and on a desk, light and dark, without a network."""

from __future__ import annotations

import io
import json

import browser
import numpy as np
import pytest
from PIL import Image

from tests.report_side import (
    Roles,
    make_branch,
    make_run,
    make_steered,
    records,
    write_records,
)
from twjax.report import write_report

WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of a run with all that a run can have, of three, and of what is less than that.

    The last has a branch without its trunk, and a run whose end is no number.
    """
    folder = tmp_path_factory.mktemp("pages")
    base = make_run(folder / "base")
    steered = make_steered(folder / "steered", device="TPU v5p")
    other = make_steered(folder / "with a rather long name", seed=5, peak=2e-3)
    roles = Roles(baseline=base, without_replay=other, with_replay=steered)
    branch = make_branch(steered, folder / "branch")
    events = records(branch, "ledger")
    write_records(branch, "ledger", [events[0] | {"from": "/nowhere/trunk"}, *events[1:]])
    broken = make_steered(folder / "broken", seed=3)
    lines = records(broken, "metrics")
    spoilt = [r | ({"bits_per_byte": None} if r["step"] == 600 else {}) for r in lines]
    write_records(broken, "metrics", [r for r in spoilt if r.get("task") != "tw_laws"])
    return {
        "one": write_report([steered], folder / "one.html"),
        "less": write_report([branch, broken], folder / "less.html"),
        "three": write_report([base, steered, other], folder / "three.html", roles=roles),
    }


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.Tab(tmp_path_factory.mktemp("user")) as tab:
        yield tab


@browser.needed
@pytest.mark.parametrize("name", ["one", "three", "less"])
def test_nothing_overflows_is_cut_off_asks_or_complains(pages, tab, name):
    for width in WIDTHS:
        for dark in (False, True):
            tab.open(pages[name], width=width, dark=dark)
            assert tab.run("innerWidth") == width
            assert tab.run("document.documentElement.scrollWidth") <= width
            assert tab.run("matchMedia('(prefers-color-scheme: dark)').matches") == dark
            assert tab.run(browser.FAULTS) == []
            # Everything that is folded must fit as well.
            tab.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
            assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.said == [] and tab.asked == []


@browser.needed
def test_many_runs_side_by_side_lie_on_nothing(tab, tmp_path):
    runs = [make_run(tmp_path / f"run {n}", seed=n, evaluations=2) for n in range(17)]
    for count in (14, 17):
        page = write_report(runs[:count], tmp_path / f"{count}.html")
        for width in WIDTHS:
            tab.open(page, width=width, dark=False)
            assert tab.run(browser.FAULTS) == []
            assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.said == [] and tab.asked == []


@browser.needed
def test_every_chart_has_ink_and_follows_light_and_dark(pages, tab):
    seen = {}
    for dark in (False, True):
        tab.open(pages["one"], width=390, dark=dark)
        count = tab.run("document.querySelectorAll('figure').length")
        assert count > 14
        for place in range(count):
            title = tab.run(f"document.querySelectorAll('figcaption')[{place}].textContent")
            picture = Image.open(io.BytesIO(tab.picture("figure", place))).convert("RGB")
            pixels = np.asarray(picture, np.float32)
            seen[title, dark] = pixels
            paper = np.median(pixels.reshape(-1, 3), axis=0)
            # A median that is paper: white, or nearly black.
            assert (paper.mean() < 60) if dark else (paper.mean() > 245), (title, paper)
            ink = np.abs(pixels - paper).max(axis=2) > 40
            assert 0.005 < ink.mean() < 0.75, (title, dark, ink.mean())
            # Lines and areas have a hue; text and axes hardly.
            hue = pixels.max(axis=2) - pixels.min(axis=2)
            assert (hue > 60).mean() > 0.0008, (title, dark)
    for title, dark in seen:
        if not dark:
            light, other = seen[title, False], seen[title, True]
            assert light.shape == other.shape, title


@browser.needed
def test_the_pointer_shows_values_and_what_happened(pages, tab):
    tab.open(pages["one"], width=390, dark=False)
    told = tab.run(
        """(() => {
          const svg = document.querySelector("svg[aria-label='Mixture consumed']");
          const box = svg.getBoundingClientRect(), unit = box.width / svg.dataset.wide;
          const [x, text] = JSON.parse(svg.dataset.marks)[0];
          svg.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + x * unit}));
          const tip = svg.parentNode.querySelector(".tip");
          return [tip.hidden, tip.textContent, text];
        })()"""
    )
    hidden, shown, text = told
    assert not hidden and text in shown and "tw_laws" in shown and "tokens" in shown


@browser.needed
def test_a_page_that_asks_or_complains_is_caught(pages, tab, tmp_path):
    """The checks above have teeth: the policy of the page refuses, and the refusal is seen."""
    text = pages["one"].read_text("utf-8")
    bad = tmp_path / "bad.html"
    bad.write_text(
        text.replace("</main>", '<img src="http://evil.example/x"><p style="width:2000px">a</p>'
                     "</main>"), "utf-8",
    )  # fmt: skip
    before = len(tab.said)
    tab.open(bad, width=390, dark=False)
    assert any("evil.example" in line for line in tab.said[before:])
    assert any("leaves the page" in fault for fault in tab.run(browser.FAULTS))
    assert "Content Security Policy" in json.dumps(tab.said[before:])
    tab.run(
        "(() => { const one = document.querySelector('svg text'), two = one.cloneNode(true);"
        "one.after(two); const three = one.cloneNode(true); three.setAttribute('x', -90);"
        "one.after(three) })()"
    )
    faults = " ".join(tab.run(browser.FAULTS))
    assert "lies on" in faults and "is cut off" in faults
    tab.said.clear()
    tab.asked.clear()
