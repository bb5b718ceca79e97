"""Folders of transformers' own making: in and out with the same bytes, logits and greedy text."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("torch")

import hf_models
import safetensors.torch
import torch
import transformers

from twjax.config import Mesh, load
from twjax.config.model import Model
from twjax.evaluation.generate import generate
from twjax.huggingface.carry import Carried
from twjax.huggingface.exporting import export
from twjax.huggingface.importing import import_folder, load_params
from twjax.models.network import network
from twjax.parallel.mesh import make_mesh
from twjax.training.checkpoint import MODEL_FILE, Checkpoints

CASES = (*hf_models.PLAIN, "gemma3 images")


def _files(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.name != "twjax_export.json"
    }


def _import(folder: pathlib.Path, out: pathlib.Path) -> tuple[Model, Any]:
    import_folder(folder, out, probe=False)
    model = load(Model, [out / MODEL_FILE]).value
    return model, load_params(out, 0, network(model), make_mesh(Mesh()))


def _export(
    imported: pathlib.Path, model: Model, out: pathlib.Path, carried: Carried | None
) -> dict[str, Any]:
    with Checkpoints(imported) as checkpoints:
        return export(checkpoints.arrays(0), model, out, carried=carried, source={})


@pytest.mark.parametrize("case", CASES)
def test_there_and_back(case: str, tmp_path: pathlib.Path) -> None:
    theirs = hf_models.torch_model(case)
    theirs.save_pretrained(tmp_path / "theirs")
    model, params = _import(tmp_path / "theirs", tmp_path / "ours")

    # With what came along, all files are as they were.
    record = _export(tmp_path / "ours", model, tmp_path / "same", Carried.open(tmp_path / "ours"))
    assert record["changes"] == []
    assert _files(tmp_path / "same") == _files(tmp_path / "theirs")

    # Without, the folder is ours alone, and transformers computes the same from it.
    prompts_BS = np.random.default_rng(3).integers(3, 97, (2, 9))
    if case == "gemma3 images":
        expected = torch.from_numpy(hf_models.torch_logits(theirs, prompts_BS, [9, 9]))
        model_type = "gemma3_text"
    else:
        with torch.no_grad():
            expected = theirs(input_ids=torch.from_numpy(prompts_BS)).logits
        model_type = theirs.config.model_type
    _export(tmp_path / "ours", model, tmp_path / "alone", None)
    config = json.loads((tmp_path / "alone" / "config.json").read_text())
    assert config["model_type"] == model_type
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "alone", attn_implementation="eager"
    ).eval()
    assert loaded.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(input_ids=torch.from_numpy(prompts_BS)).logits, expected, rtol=0, atol=1e-6
        )

    # What was read is what the networks of the other parity tests compute with.
    if case != "gemma3 images":
        jax.tree.map(np.testing.assert_array_equal, params, hf_models.ours(theirs)[1])

    # Greedy text: prompts of a length, so that transformers pads nothing.
    with torch.no_grad():
        wanted = loaded.generate(
            torch.from_numpy(prompts_BS), do_sample=False, max_new_tokens=16, min_new_tokens=16,
            eos_token_id=None, pad_token_id=0,
        )[:, 9:]  # fmt: skip
    found = generate(network(model), params, prompts_BS.tolist(), tokens=16, mesh=make_mesh(Mesh()))
    assert found == wanted.tolist()


@pytest.mark.parametrize("case", ["gpt1", "gpt2", "bloom"])
def test_names_without_the_first_part(case: str, tmp_path: pathlib.Path) -> None:
    """The families' first checkpoints were saved without "transformer."; so are they again."""
    theirs = hf_models.torch_model(case)
    theirs.save_pretrained(tmp_path / "new")
    _rename(tmp_path, lambda name: name.removeprefix("transformer."))
    _import(tmp_path / "theirs", tmp_path / "ours")
    model, params = _import(tmp_path / "new", tmp_path / "reference")
    again, same = _import(tmp_path / "theirs", tmp_path / "second")
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, params, same)
    _export(tmp_path / "ours", model, tmp_path / "same", Carried.open(tmp_path / "ours"))
    assert _files(tmp_path / "same") == _files(tmp_path / "theirs")


def test_both_spellings_of_gemma_3_with_images(tmp_path: pathlib.Path) -> None:
    hf_models.torch_model("gemma3 images").save_pretrained(tmp_path / "new")
    tensors = safetensors.torch.load_file(tmp_path / "new" / "model.safetensors")
    text = "model.language_model." if any("model.language" in n for n in tensors) else None
    old = "language_model.model."

    def other(name: str) -> str:
        if text is None:
            return name.replace(old, "model.language_model.", 1)
        return name.replace(text, old, 1).removeprefix("model.")

    _rename(tmp_path, other)
    model, params = _import(tmp_path / "new", tmp_path / "reference")
    again, same = _import(tmp_path / "theirs", tmp_path / "second")
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, params, same)


def _rename(folder: pathlib.Path, rename: Any) -> None:
    """Copies `new` to `theirs` with other names of tensors."""
    (folder / "theirs").mkdir()
    tensors = safetensors.torch.load_file(folder / "new" / "model.safetensors")
    renamed = {rename(name): value for name, value in tensors.items()}
    assert renamed.keys() != tensors.keys()
    safetensors.torch.save_file(renamed, folder / "theirs" / "model.safetensors", {"format": "pt"})
    for file in (folder / "new").glob("*.json"):
        (folder / "theirs" / file.name).write_bytes(file.read_bytes())


def test_a_tensor_too_few_or_too_many_is_named(tmp_path: pathlib.Path) -> None:
    hf_models.torch_model("qwen2 tied").save_pretrained(tmp_path / "new")
    name = "model.layers.1.self_attn.k_proj.bias"
    _rename(tmp_path, lambda old: old.replace(name, "model.layers.1.self_attn.kk.bias"))
    with pytest.raises(ValueError, match=name) as error:
        import_folder(tmp_path / "theirs", tmp_path / "ours", probe=False)
    assert "model.layers.1.self_attn.kk.bias" in str(error.value)
