"""`twjax tasks rates`: weights that follow from what is cached, ready for `Mixture.stages`."""

from __future__ import annotations

import ast

import pytest

from tests import tiny
from twjax.__main__ import main


@pytest.fixture
def rates(tmp_path, capsys):
    path = tiny.write_config(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["tasks", "rates", str(path), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {"a": 60, "b": 67}),
        (("--maximum", 60), {"a": 1, "b": 1}),
        (("--temperature", 2), {"a": 60**0.5, "b": 67**0.5}),
        (("--maximum", 64, "--temperature", 2), {"a": 60**0.5, "b": 64**0.5}),
        (("--by", "examples", "--maximum", 190), {"a": 180, "b": 190}),
        (("--task", "b"), {"b": 1}),
    ],
)
def test_weights_follow_from_sizes(rates, arguments, expected):
    code, out, _ = rates(*arguments)
    assert code == 0
    found = ast.literal_eval("{" + out + "}")
    total = sum(expected.values())
    assert found == pytest.approx({t: value / total for t, value in expected.items()}, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--temperature", 0), "temperature (0.0) must be positive"),
        (("--maximum", 0), "--maximum (0) must be at least 1"),
        (("--task", "c"), "--task c: the run trains on a, b"),
        (("--cache", "/nowhere"), "no cached rows of task a"),
    ],
)
def test_what_is_wrong_is_one_line(rates, arguments, message):
    code, out, error = rates(*arguments)
    assert code == 1
    assert out == ""
    assert message in error and error.count("\n") == 1
