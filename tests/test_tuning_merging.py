"""Merged weights beside formulas in float64, whatever the blocks; folders in and out."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests import hub
from twjax.cli import main
from twjax.huggingface import merging as folders
from twjax.tuning import merging

NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Every tensor of the tiny model is cut into several blocks, and these into parts."""
    monkeypatch.setattr(folders, "BLOCK", 100)
    monkeypatch.setattr(folders, "PART", 30)


@pytest.fixture
def models(tmp_path) -> list[pathlib.Path]:
    """A base and three models near it; all in float32, the last in other shards."""
    base = hub.tensors()
    paths = [hub.write(tmp_path / "base", base, 2)]
    for number in (1, 2, 3):
        other = hub.tensors(seed=number)
        near = {name: base[name] + np.float32(0.1) * other[name] for name in base}
        paths.append(hub.write(tmp_path / f"model{number}", near, 3 if number == 3 else 1))
    return paths


def weights(folder: pathlib.Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def float64(folder: pathlib.Path) -> dict[str, np.ndarray]:
    return {name: values.astype(np.float64) for name, values in weights(folder).items()}


def merge(*arguments: object) -> None:
    assert main(["merge", *map(str, arguments)]) == 0


def assert_close(folder: pathlib.Path, expected: dict[str, np.ndarray]) -> None:
    found = weights(folder)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-7, err_msg=name)


def test_an_average_is_the_weighted_mean(models, tmp_path):
    merge("average", tmp_path / "out", *models, "--weights", 1, 2, 3, 0.5)
    all_weights = [float64(path) for path in models]
    expected = {
        name: np.average([w[name] for w in all_weights], axis=0, weights=[1, 2, 3, 0.5])
        for name in all_weights[0]
    }
    assert_close(tmp_path / "out", expected)
    # Laid out as the first, with its files.
    out, first = hub.contents(tmp_path / "out"), hub.contents(models[0])
    assert out.keys() - {"twjax_merge.json"} == first.keys()
    assert all(out[name] == first[name] for name in first if not name.endswith("safetensors"))
    record = json.loads(out["twjax_merge.json"])
    assert record["method"] == "average" and record["weights"] == [1, 2, 3, 0.5]


def test_one_model_alone_comes_out_as_it_went_in(models, tmp_path):
    merge("average", tmp_path / "out", models[1])
    merge("task", tmp_path / "none", models[1], models[2], "--weights", 0)
    for folder in ("out", "none"):
        found = hub.contents(tmp_path / folder)
        found.pop("twjax_merge.json")
        assert found == hub.contents(models[1])


def test_task_vectors_are_added_to_the_base(models, tmp_path):
    merge("task", tmp_path / "out", *models, "--weights", 0.7, -0.3, 1)
    base, *others = [float64(path) for path in models]
    expected = {
        name: base[name]
        + sum(w * (o[name] - base[name]) for w, o in zip((0.7, -0.3, 1), others, strict=True))
        for name in base
    }
    assert_close(tmp_path / "out", expected)


def test_ties_trims_over_all_weights_and_agrees_on_signs(models, tmp_path):
    density, scale = 0.3, 0.8
    merge("ties", tmp_path / "out", *models, "--density", density, "--scale", scale)
    base, *others = [weights(path) for path in models]
    names = sorted(base)
    flat = np.concatenate([base[n].reshape(-1) for n in names])
    trimmed = []
    for other in others:
        vector = np.concatenate([other[n].reshape(-1) for n in names]) - flat
        least = np.sort(np.abs(vector))[::-1][round(density * vector.size) - 1]
        trimmed.append(np.where(np.abs(vector) >= least, vector.astype(np.float64), 0))
        assert np.mean(trimmed[-1] != 0) == pytest.approx(density, abs=1e-3)
    merged = np.zeros(flat.size)
    total = sum(trimmed)
    for place in range(flat.size):
        agreeing = [v[place] for v in trimmed if v[place] * total[place] > 0]
        merged[place] = flat[place] + (scale * np.mean(agreeing) if agreeing else 0)
    cuts = np.cumsum([base[n].size for n in names])[:-1]
    parts = zip(names, np.split(merged, cuts), strict=True)
    assert_close(tmp_path / "out", {n: part.reshape(base[n].shape) for n, part in parts})


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=60
    ),
    st.floats(0.01, 1),
    st.integers(1, 70),
)
def test_a_threshold_is_the_size_of_that_rank(values, density, step):
    vector = np.array(values, np.float32)

    def scan():
        for first in range(0, vector.size, step):
            block = vector[first : first + step]
            yield np.zeros_like(block), block

    (limit,) = merging.trim_thresholds(scan, 1, density)
    rank = max(1, round(density * vector.size))
    assert limit == np.sort(np.abs(vector))[::-1][rank - 1]


@pytest.mark.slow
def test_dare_drops_at_random_and_keeps_the_expectation(models, tmp_path):
    base, other = float64(models[0]), float64(models[1])
    total = {name: np.zeros_like(values) for name, values in base.items()}
    for seed in range(40):
        out = tmp_path / f"out{seed}"
        merge("dare", out, *models[:2], "--density", 0.4, "--seed", seed)
        found = float64(out)
        for name, values in found.items():
            vector = (values - base[name]) / (other[name] - base[name])
            dropped = np.abs(vector) < 1e-2
            assert np.abs(vector[~dropped] - 2.5).max() < 1e-2
            total[name] += values - base[name]
    flat = np.concatenate([(total[n] / 40).reshape(-1) for n in base])
    expected = np.concatenate([(other[n] - base[n]).reshape(-1) for n in base])
    # A mean of 40: its deviation is sqrt(0.6 / 0.4 / 40) = 0.19 of a difference.
    assert np.std(flat / expected - 1) == pytest.approx(0.194, abs=0.01)
    assert np.mean(flat / expected - 1) == pytest.approx(0, abs=0.01)


def test_dare_of_two_models_drops_different_weights(models, tmp_path):
    merge("dare", tmp_path / "out", models[0], models[1], models[1], "--weights", 1, -1)
    found, base = weights(tmp_path / "out"), weights(models[0])
    assert any(np.abs(found[name] - base[name]).max() > 1e-3 for name in base)


@given(st.integers(1, 200), st.integers(0, 300), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_what_stays_does_not_depend_on_blocks(count, first, density):
    whole = merging.keep(density, 7, "name", 0, first + count)
    np.testing.assert_array_equal(merging.keep(density, 7, "name", first, count), whole[first:])


def test_a_chat_vector_is_added_and_the_chat_model_s_manners_come_along(models, tmp_path):
    base, chat, continued = models[0], models[1], models[2]
    (chat / "chat_template.jinja").write_text("of the chat model")
    (chat / "generation_config.json").write_text('{"eos_token_id": 9}')
    merge("chat", tmp_path / "out", continued, "--base", base, "--chat", chat, "--scale", 0.5)
    one, two, three = float64(continued), float64(base), float64(chat)
    assert_close(tmp_path / "out", {n: one[n] + 0.5 * (three[n] - two[n]) for n in one})
    assert (tmp_path / "out/chat_template.jinja").read_text() == "of the chat model"
    assert json.loads((tmp_path / "out/generation_config.json").read_text()) == {"eos_token_id": 9}


def test_with_a_grown_vocabulary_its_rows_stay_but_for_those_named(models, tmp_path):
    grown = hub.tensors(vocab=hub.VOCAB + 10, seed=5)
    continued = hub.write(tmp_path / "grown", grown, vocab_size=hub.VOCAB + 10)
    (continued / "chat_template.jinja").unlink()
    (continued / "tokenizer.json").write_text("the grown one")
    base, chat = models[:2]
    (chat / "tokenizer.json").write_text("the old one")
    merge(
        "chat", tmp_path / "out", continued, "--base", base, "--chat", chat, "--copy-rows", 7, 90
    )  # fmt: skip
    found, two, three = weights(tmp_path / "out"), float64(base), float64(chat)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        expected = grown[name].copy()
        expected[[7, 90]] = weights(chat)[name][[7, 90]]
        np.testing.assert_array_equal(found[name], expected)
    np.testing.assert_allclose(found[NAME], grown[NAME] + (three[NAME] - two[NAME]), rtol=1e-5)
    assert (tmp_path / "out/tokenizer.json").read_text() == "the grown one"
    assert (tmp_path / "out/chat_template.jinja").read_text() == "{{ messages }}\n台灣"
    record = json.loads((tmp_path / "out/twjax_merge.json").read_text())
    assert record["not_merged"] == ["lm_head.weight", "model.embed_tokens.weight"]


def test_half_precision_is_rounded_once(tmp_path):
    made = [hub.tensors("bfloat16", seed=seed) for seed in range(3)]
    paths = [hub.write(tmp_path / str(n), w, torch_dtype="bfloat16") for n, w in enumerate(made)]
    merge("average", tmp_path / "out", *paths)
    merge("average", tmp_path / "wide", *paths, "--dtype", "float32")
    for name, found in weights(tmp_path / "out").items():
        mean = sum(w[name].astype(np.float64) for w in made) / 3
        np.testing.assert_array_equal(found, mean.astype(np.float32).astype(found.dtype))
        np.testing.assert_allclose(weights(tmp_path / "wide")[name], mean, rtol=1e-6, atol=1e-8)
    assert json.loads((tmp_path / "wide/config.json").read_text())["torch_dtype"] == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["average", "{out}", "{0}", "{gone}"], "no such folder"),
        (["average", "{out}", "{0}", "{1}", "--weights", "1"], "--weights has 1 for 2 models"),
        (["average", "{out}", "{0}", "{1}", "--weights", "1", "-1"], "add up to more than 0"),
        (["average", "{out}", "{0}", "{grown}"], "different vocabularies"),
        (["average", "{out}", "{0}", "{deeper}"], "another network"),
        (["average", "{out}", "{0}", "{fewer}"], "self_attn.k_proj.weight (8, 16), not (16, 16)"),
        (["average", "{out}", "{fewer}", "{0}"], "self_attn.k_proj.weight (16, 16), not (8, 16)"),
        (["average", "{0}", "{0}", "{1}", "--force"], "is one of the models to merge"),
        (["average", "{parent}", "{0}", "{1}", "--force"], "one of the models to merge"),
        (["average", "{nan}", "{0}", "{1}"], "exists; name another folder"),
        (["average", "{out}", "{0}", "{1}", "--weights", "nan", "1"], "must be finite"),
        (["chat", "{out}", "{0}", "--base", "{0}", "--chat", "{1}", "--scale", "inf"], "finite"),
        (["ties", "{out}", "{0}", "{1}", "{2}", "--weights", "1", "-1"], "must not be negative"),
        (["average", "{out}", "{0}", "{nan}"], "NaN or infinite"),
        (["ties", "{out}", "{0}", "{1}", "--density", "0"], "density (0.0) must be above 0"),
        (["task", "{out}", "{0}", "{1}", "--weights", "1e6", "--dtype", "float16"], "beyond float"),
        (
            ["chat", "{out}", "{0}", "--base", "{0}", "--chat", "{1}", "--copy-rows", "96"],
            "the vocabularies have ids 0 to 95",
        ),
    ],
)
def test_what_can_not_be_merged_is_one_line_and_leaves_nothing(
    models, tmp_path, arguments, message, capsys
):
    broken = weights(models[1])
    broken[NAME] = broken[NAME].copy()
    broken[NAME][3, 5] = np.nan
    # One head of keys and values instead of two.
    fewer = {
        name: values[: hub.HEAD] if "k_proj" in name or "v_proj" in name else values
        for name, values in hub.tensors().items()
    }
    places = {
        "out": tmp_path / "out",
        "fewer": hub.write(tmp_path / "fewer", fewer, num_key_value_heads=1),
        "parent": tmp_path,
        "gone": tmp_path / "gone",
        "grown": hub.write(tmp_path / "grown", hub.tensors(vocab=100), vocab_size=100),
        "deeper": hub.write(tmp_path / "deep", hub.tensors(layers=3), num_hidden_layers=3),
        "nan": hub.write(tmp_path / "nan", broken),
    }
    assert main(["merge", *(a.format(*models, **places) for a in arguments)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("twjax merge: error: ") and message in error
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*partial"))
