"""A base model with an extended vocabulary: trained, given back, and read by transformers."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
import tokenizer_side
import torch
import transformers

from tests import tiny
from tests.test_vocab_extend import SIZE, TAIWAN
from tests.test_vocab_extend_runs import params_of
from twjax.cli import main
from twjax.data.rows import RowWriter
from twjax.evaluation.generate import generate
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.training.source import Source
from twjax.vocab.extend import extend
from twjax.vocab.tokenizer_load import load_vocabulary

ROWS = tokenizer_side.SIZE


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def place(request, tmp_path_factory):
    """A Hugging Face folder with a tokenizer, that extended, and rows made with the extension."""
    folder = tmp_path_factory.mktemp("export")
    shutil.copytree(tokenizer_side.folder("llama2"), folder / "base")
    settings = transformers.LlamaConfig(
        vocab_size=ROWS, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1,
        eos_token_id=2, tie_word_embeddings=request.param, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(settings)
    model.save_pretrained(folder / "base")
    extension = extend(folder / "base", TAIWAN, SIZE, folder / "extended")
    vocabulary = load_vocabulary(folder / "extended")
    ids = np.concatenate([np.array(row, np.int32) for row in vocabulary.encode_batch(TAIWAN)])
    tokens = np.resize(ids, (40, tiny.SEQ)).astype(np.int32)
    ones = np.ones_like(tokens)
    for task in ("a", "b"):
        for split in ("train", "validation"):
            with RowWriter(
                folder / "cache", task, split, tiny.SEQ, "f", token_bytes=vocabulary.token_bytes()
            ) as writer:
                rows = {
                    "tokens": tokens,
                    "segment_ids": ones,
                    "loss_weights": ones.astype(np.uint8),
                }
                writer.write(rows)
                about = {"sha256": vocabulary.sha256, "size": extension.size, "path": "none"}
                writer.finish(documents=1, text_bytes=1000, vocabulary=about, ingredients={})
    assert main(["convert", "from-hf", str(folder / "base"), str(folder / "imported")]) == 0
    return folder, extension


def train(folder, extension, name, init, *bindings):
    settings = [
        "Run.steps = 2",
        "Evaluation.every = 2",
        "Checkpoint.every = 1",
        "Schedule.peak = 1e-3",
    ]
    settings += ["Evaluation.tasks = ('a',)", f"Data.vocabulary = '{folder}/extended'"]
    settings += [f"Run.init = '{init}'", f"Model.vocab_size = {extension.size}", *bindings]
    text = (folder / "imported" / "model.gin").read_text()
    other = [line for line in tiny.CONFIG.splitlines() if not line.startswith("Model.")]
    (folder / "run.gin").write_text(f"{text}\n" + "\n".join(other).format(cache=folder / "cache"))
    sets = [part for binding in settings for part in ("--set", binding)]
    return main(["train", str(folder / "run.gin"), "--run-dir", str(folder / name), *sets])


def test_an_extended_model_goes_back_to_transformers(place, tmp_path, capsys):
    folder, extension = place
    for name, init in (("hf", f"hf:{folder}/base"), ("imported_run", f"run:{folder}/imported")):
        assert train(folder, extension, name, init) == 0, capsys.readouterr().err
    one, other = params_of(folder / "hf", 1), params_of(folder / "imported_run", 1)
    for weight in one:
        np.testing.assert_allclose(one[weight], other[weight], rtol=1e-4, atol=1e-5)
    run = str(folder / "hf")
    assert main(["convert", "to-hf", run, str(tmp_path / "out")]) == 1
    assert "--tokenizer; Data.vocabulary was" in capsys.readouterr().err
    extended = ["--tokenizer", str(folder / "extended")]
    assert main(["convert", "to-hf", run, str(tmp_path / "out"), *extended]) == 0
    changes = json.loads((tmp_path / "out" / "twjax_export.json").read_text())["changes"]
    assert f"config.json: vocab_size was {ROWS}, is {extension.size}" in changes
    assert any(line.startswith("tokenizer: tokenizer.json, tokenizer.model") for line in changes)

    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").float().eval()
    assert model.config.vocab_size == len(tokenizer) == extension.size
    texts = ("中華民國憲法總綱", "The law is", TAIWAN[0][:12])
    prompts = [tokenizer(text).input_ids for text in texts]
    assert max(map(max, prompts)) >= extension.old_size
    source = Source.open(run)
    network, mesh = declare(source.run.model), make_mesh(source.run.mesh)
    with jax.set_mesh(mesh):
        ours = generate(network, source.params(network, mesh), prompts, tokens=12, mesh=mesh)
    for prompt, ids in zip(prompts, ours, strict=True):
        with torch.no_grad():
            whole = model.generate(
                torch.tensor([prompt]), max_new_tokens=12, min_new_tokens=12, do_sample=False,
                eos_token_id=-1, pad_token_id=0,
            )  # fmt: skip
        theirs = whole[0, len(prompt) :].tolist()
        assert ids == theirs
        assert load_vocabulary(folder / "extended").decode(ids) == tokenizer.decode(
            [1, *theirs], skip_special_tokens=True
        )
