"""Pages of plans and of searches, as a browser shows them."""

from __future__ import annotations

import browser
import pytest

from tests import plan_side
from tests.test_planning_search import a_search, found
from twjax.report.plan_page import write_plan_page
from twjax.report.search_page import write_search_page


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of plans that fit and don't, and of searches that found much and nothing."""
    folder = tmp_path_factory.mktemp("pages")
    run = plan_side.small(folder)
    nothing = found(plan_side.considered(), lambda one, seconds: "never")
    made = {name: folder / f"{name}.html" for name in ("fits", "large", "search", "nothing")}
    write_plan_page(plan_side.plan(0.5, 4.2), "a & <b>.gin", made["fits"])
    write_plan_page(plan_side.plan(0.5, 19, fits=False), "small.gin", made["large"])
    write_search_page(a_search(), run, plan_side.V5E, "a & <b>.gin", made["search"])
    write_search_page(nothing, run, plan_side.V5E, "small.gin", made["nothing"])
    return made


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.Tab(tmp_path_factory.mktemp("user")) as tab:
        yield tab


def test_the_pages_hold_the_figures(pages):
    fits, large = pages["fits"].read_text(), pages["large"].read_text()
    for text in ("0.500 s", "attention kernels", "all-gather", "27%", "a &amp; &lt;b&gt;.gin"):
        assert text in fits
    assert "The step is bound by: matrix unit." in fits and "[&#x27;" not in fits
    assert "too much" in large and "3.25 GiB" in large
    search = pages["search"].read_text()
    assert "fsdp 4; 8 rows; save dots" in search and "about 40.0 GiB by the memory model" in search
    assert "step: &lt;b&gt;no&lt;/b&gt;" in search and "<b>no</b>" not in search
    assert "Nothing" in pages["nothing"].read_text()


@browser.needed
@pytest.mark.parametrize("name", ["fits", "large", "search", "nothing"])
def test_nothing_overflows_is_cut_off_asks_or_complains(pages, tab, name):
    for width in (390, 1280):
        for dark in (False, True):
            tab.open(pages[name], width=width, dark=dark)
            assert tab.run("document.documentElement.scrollWidth") <= width
            assert tab.run(browser.FAULTS) == []
    assert tab.said == [] and tab.asked == []


@browser.needed
def test_each_point_of_the_search_is_drawn(pages, tab):
    tab.open(pages["search"], width=1280, dark=False)
    first = "document.querySelectorAll('svg')[0].querySelectorAll('circle.dot').length"
    assert tab.run(first) == 2 + 1 + 1
    told = tab.run("document.querySelector('svg').dataset.hover")
    assert "save dots" in told and "4.20 GiB" in told
