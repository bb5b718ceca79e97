"""Folders of T5, mT5 and umT5: in and out with the same bytes, logits and greedy text."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("torch")

import hf_t5
import torch
import transformers

from twjax.config import Mesh, Model, load
from twjax.evaluation.generate import generate
from twjax.huggingface.carry import Carried
from twjax.huggingface.exporting import export
from twjax.huggingface.importing import import_folder, load_params
from twjax.huggingface.registry import family_for
from twjax.models.encdec import START_ID
from twjax.models.network import network
from twjax.parallel.mesh import make_mesh
from twjax.training.checkpoint import MODEL_FILE, Checkpoints

FAMILIES = {"t5": "t5", "t5 v1.1": "t5", "mt5": "mt5", "umt5": "umt5"}


def imported(folder: pathlib.Path, out: pathlib.Path) -> tuple[Model, Any]:
    import_folder(folder, out, probe=False)
    model = load(Model, [out / MODEL_FILE]).value
    return model, load_params(out, 0, network(model), make_mesh(Mesh(), jax.devices()[:1]))


def exported(
    model_dir: pathlib.Path, model: Model, out: pathlib.Path, carried: bool, family: str | None
) -> dict[str, Any]:
    kept = Carried.open(model_dir) if carried else None
    with Checkpoints(model_dir) as checkpoints:
        return export(checkpoints.arrays(0), model, out, carried=kept, source={}, family=family)


@pytest.mark.parametrize("case", FAMILIES)
def test_there_and_back_and_the_same_greedy_text(case: str, tmp_path: pathlib.Path) -> None:
    theirs = hf_t5.torch_model(case)
    theirs.save_pretrained(tmp_path / "theirs")
    model, params = imported(tmp_path / "theirs", tmp_path / "ours")
    record = exported(tmp_path / "ours", model, tmp_path / "same", True, None)
    assert record["changes"] == []
    for file in (tmp_path / "theirs").iterdir():
        assert (tmp_path / "same" / file.name).read_bytes() == file.read_bytes(), file.name

    exported(tmp_path / "ours", model, tmp_path / "alone", False, FAMILIES[case])
    config = json.loads((tmp_path / "alone" / "config.json").read_text())
    assert config["architectures"] == [type(theirs).__name__]
    assert config["model_type"] == theirs.config.model_type
    loaded = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "alone").eval()
    draw = np.random.default_rng(3)
    prompts = [draw.integers(3, 97, length).tolist() for length in (5, 21, 13)]
    ours = generate(
        network(model), params, prompts, tokens=20, mesh=make_mesh(Mesh(), jax.devices()[:1]),
        eos_ids=(1,),
    )  # fmt: skip
    for prompt, mine in zip(prompts, ours, strict=True):
        with torch.no_grad():
            # Its cache has a layer for each of the encoder's, which here are fewer.
            out = loaded.generate(
                torch.tensor([prompt]), max_new_tokens=20, do_sample=False, use_cache=False
            )
        assert out[0, 0] == START_ID
        text = out[0, 1:].tolist()
        assert mine == (text[: text.index(1)] if 1 in text else text)


@pytest.mark.parametrize("case", ["mt5", "umt5"])
def test_an_output_weight_of_its_own_counts_whatever_the_config_says(
    case: str, tmp_path: pathlib.Path
) -> None:
    """What transformers saves of a folder that it loaded: tied by its word, not by its bytes."""
    theirs = hf_t5.torch_model(case)
    theirs.save_pretrained(tmp_path / "first")
    again = type(theirs).from_pretrained(tmp_path / "first")
    again.save_pretrained(tmp_path / "again")
    fields = json.loads((tmp_path / "again" / "config.json").read_text())
    assert fields["tie_word_embeddings"] is True
    model, params = imported(tmp_path / "first", tmp_path / "a")
    other, same = imported(tmp_path / "again", tmp_path / "b")
    assert other == model and not model.tie_embeddings
    jax.tree.map(np.testing.assert_array_equal, params, same)
    record = exported(tmp_path / "b", other, tmp_path / "back", True, None)
    assert record["changes"] == ["config.json: tie_word_embeddings was True, is False"]
    name = "model.safetensors"
    assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_run_without_an_original_is_of_the_family_whose_vocabulary_it_has() -> None:
    def shape(vocab_size: int, **changes: Any) -> Model:
        return Model(
            vocab_size=vocab_size, num_layers=2, encoder_layers=2, embed_dim=32, num_heads=2,
            num_kv_heads=2, head_dim=16, mlp_dim=32, norm_eps=1e-6, activation="gelu_tanh",
            positions="relative", query_scale=1.0, **changes,
        )  # fmt: skip

    assert family_for(shape(250_112)).name == "mt5"
    assert family_for(shape(32_128)).name == "t5"
    assert family_for(shape(5_000)).name == "t5"
    assert family_for(shape(5_000), "mt5").name == "mt5"
    assert family_for(shape(250_112, relative_shared=False)).name == "umt5"
    with pytest.raises(ValueError, match=r"tried \['umt5'\]"):
        family_for(shape(5_000), "umt5")
