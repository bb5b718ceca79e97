"""Bad folders are refused in one line that names what is wrong, before anything is written."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests import hub
from twjax.cli import main
from twjax.config import Mesh
from twjax.huggingface.folder import HubFolder
from twjax.huggingface.importing import import_folder
from twjax.parallel.mesh import make_mesh


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def truncated_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])


def empty(folder):
    (folder / "model.safetensors").write_bytes(b"")


def missing_shard(folder):
    hub.write(folder, shards=3)
    (folder / "model.safetensors").unlink()
    (folder / "model-00002-of-00003.safetensors").unlink()


def index_names_more(folder):
    hub.write(folder, shards=3)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_tail.weight"] = "model-00001-of-00003.safetensors"
    path.write_text(json.dumps(index))


def rewritten(change):
    def spoil(folder):
        weights = hub.tensors()
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return spoil


def wrong_dtype(weights):
    weights["lm_head.weight"] = weights["lm_head.weight"].astype(np.int8)


def settings(**config):
    return lambda folder: hub.write(folder, **config)


BAD = {
    "truncated": (truncated, r"model.safetensors: truncated: .* bytes instead of"),
    "truncated header": (truncated_header, r"model.safetensors: truncated: 200 bytes"),
    "empty": (empty, r"model.safetensors: not a safetensors file"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"neither model.safetensors nor"),
    "missing shard": (missing_shard, r"1 of 3 shards missing: model-00002-of-00003"),
    "dtype": (rewritten(wrong_dtype), r"lm_head.weight has dtype I8, which is not implemented"),
    "missing": (
        rewritten(lambda w: w.pop("model.layers.1.mlp.up_proj.weight")),
        r"1 tensor missing: model.layers.1.mlp.up_proj.weight",
    ),
    "surplus": (
        rewritten(lambda w: w.update({"model.layers.0.self_attn.q_norm.weight": np.ones(8)})),
        r"1 tensor that map to nothing: model.layers.0.self_attn.q_norm.weight",
    ),
    "shape": (
        rewritten(lambda w: w.update({"model.norm.weight": np.ones(9, np.float32)})),
        r"model.norm.weight \(9,\) instead of \(16,\)",
    ),
    "architecture": (
        settings(architectures=["NovelForCausalLM"]),
        r"unknown architecture NovelForCausalLM; twjax knows .*LlamaForCausalLM",
    ),
    "rope": (settings(rope_scaling={"rope_type": "longrope", "factor": 2.0}), r"longrope"),
    "activation": (settings(hidden_act="mish"), r"hidden_act = 'mish' is not implemented"),
    "rope factor": (
        settings(rope_scaling={"rope_type": "linear", "factor": "two"}),
        r"rope_scaling = .*; factor must be a number",
    ),
    "field": (settings(sliding_tango=3), r"sliding_tango"),
    "kind of field": (
        settings(num_key_value_heads="2"),
        r"num_key_value_heads = '2' is not implemented; it must be a number",
    ),
    "no list": (settings(architectures="LlamaForCausalLM"), r"architectures = 'L.*must be a list"),
    "no object": (lambda f: (f / "config.json").write_text("[1]"), r"is not a JSON object"),
    "index": (index_names_more, r"index.json: lists tensors that are in no shard: lm_tail.weight"),
    "quantised": (settings(quantization_config={"quant_method": "awq"}), r"awq.* not implemented"),
    "config": (lambda f: (f / "config.json").write_text("{"), r"config.json: not valid JSON"),
    "no config": (lambda f: (f / "config.json").unlink(), r"not a model folder"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_a_bad_folder_is_refused_in_one_line_before_anything_is_written(tmp_path, capsys, case):
    spoil, message = BAD[case]
    original = hub.write(tmp_path / "original")
    spoil(original)
    before = sorted(tmp_path.iterdir())
    assert main(["convert", "from-hf", str(original), str(tmp_path / "model")]) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    with pytest.raises((ValueError, OSError), match=message):
        HubFolder.open(original)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("dtype", list(hub.DTYPES))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, dtype, value):
    weights = hub.tensors(dtype)
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    hub.write(tmp_path / "original", weights)
    with pytest.raises(ValueError, match=r"layers.1.mlp.up_proj.weight has values that are NaN"):
        import_folder(tmp_path / "original", tmp_path / "model", probe=False)
    with (
        pytest.raises(ValueError, match=r"layers.1.mlp.up_proj.weight has values that are NaN"),
        HubFolder.open(tmp_path / "original") as folder,
    ):
        folder.load(make_mesh(Mesh()))
    assert [path.name for path in tmp_path.iterdir()] == ["original"]
    largest = np.finfo(np.float32) if dtype == "float32" else ml_dtypes.finfo(hub.DTYPES[dtype])
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = -largest.max
    hub.write(tmp_path / "original", weights)
    import_folder(tmp_path / "original", tmp_path / "model", probe=False)
