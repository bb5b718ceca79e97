"""Conversions beside transformers: the same logits; one that isn't exact is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests import hub
from twjax.cli import main
from twjax.config import Mesh
from twjax.huggingface import check
from twjax.huggingface.folder import HubFolder
from twjax.models.network import network
from twjax.parallel.mesh import make_mesh

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder as transformers saves it: bfloat16, in shards, with a tokenizer."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("check") / "original"
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, initializer_range=0.2,
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5},
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="100KB")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["台灣 the station beside the shop"] * 3, trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = "{{ messages[0]['content'] }} 好"
    fast.save_pretrained(folder)
    return folder


def test_the_command_prints_equal_logits_both_ways_and_gives_back_the_bytes(
    original, tmp_path, capsys
):
    model, back = str(tmp_path / "model"), str(tmp_path / "back")
    assert main(["convert", "from-hf", str(original), model, "--check"]) == 0
    printed = capsys.readouterr().out
    for kind in ("zh-TW", "zh-CN", "en", "code"):
        (line,) = [line for line in printed.splitlines() if line.startswith(kind)]
        _, _, error, scale, divergence, agreement = line.split()
        assert float(scale) > 5 and float(error) < 2e-4 * float(scale) / 10
        assert float(divergence) < 1e-8 and agreement == "100.00%"
    assert main(["convert", "to-hf", model, back, "--check"]) == 0
    after = hub.contents(tmp_path / "back")
    after.pop("twjax_export.json")
    assert after == hub.contents(original)


def test_weights_that_are_not_exact_are_refused_and_nothing_stays(original, tmp_path, monkeypatch):
    with HubFolder.open(original) as folder:
        params = folder.load(make_mesh(Mesh()))
        net = network(folder.model)
        rows = check.compare(original, folder.model, net, params)
        check.require(rows, original)
        swapped = params | {"layers": params["layers"] | {"up": params["layers"]["gate"]}}
        with pytest.raises(ValueError, match="the conversion is not exact"):
            check.require(check.compare(original, folder.model, net, swapped), original)
    fields = vars(check)
    monkeypatch.setitem(fields, "ERROR", 1e-12)
    assert main(["convert", "from-hf", str(original), str(tmp_path / "model"), "--check"]) == 1
    assert not list(tmp_path.iterdir())


def test_the_folder_generates_in_transformers_what_the_model_generates_here(
    original, tmp_path, capsys
):
    model = str(tmp_path / "model")
    assert main(["convert", "from-hf", str(original), model, "--no-probe"]) == 0
    capsys.readouterr()
    prompt = "the station"
    assert main(["generate", model, "--prompt", prompt, "--tokens", "12"]) == 0
    ours = capsys.readouterr().out
    theirs = transformers.AutoModelForCausalLM.from_pretrained(original, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(original)
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        new = theirs.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None)
    expected = tokenizer.decode(new[0], clean_up_tokenization_spaces=False)
    assert ours.rstrip("\n") == expected.rstrip("\n")


def test_probes_are_real_sentences_of_four_kinds():
    from twjax.huggingface.probe import SENTENCES, probe_tokens, sentence_tokens

    assert set(SENTENCES) == {"zh-TW", "zh-CN", "en", "code"}
    with_ids = sentence_tokens(None, _small())
    assert all(0 <= i < 300 for texts in with_ids.values() for ids in texts for i in ids)
    rows = np.asarray(probe_tokens(None, _small()))
    assert rows.shape == (2, 128) and len(np.unique(rows)) > 100


def _small():
    from twjax.config import Model

    return Model(
        vocab_size=300,
        num_layers=1,
        embed_dim=8,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        mlp_dim=8,
    )
