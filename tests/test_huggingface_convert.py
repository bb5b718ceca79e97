"""Hugging Face folders in and out: the same bytes back, and whole or not at all."""

from __future__ import annotations

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests import hub, tiny
from twjax.cli import main
from twjax.config import Mesh, Model, load
from twjax.huggingface import folder as folder_module
from twjax.huggingface.carry import Carried, end_ids
from twjax.huggingface.exporting import export
from twjax.huggingface.folder import HubFolder
from twjax.huggingface.importing import import_folder
from twjax.huggingface.tensors import Reader
from twjax.huggingface.transforms import TRANSFORMS, copy_into
from twjax.parallel.mesh import make_mesh
from twjax.training.checkpoint import Checkpoints
from twjax.training.source import Source


def round_trip(original: pathlib.Path, tmp_path: pathlib.Path, **options) -> pathlib.Path:
    import_folder(original, tmp_path / "model")
    give(tmp_path / "model", tmp_path / "back", **options)
    return tmp_path / "back"


def give(model: pathlib.Path, out: pathlib.Path, **options) -> dict:
    source = Source.open(model)
    with Checkpoints(model) as checkpoints:
        return export(
            checkpoints.arrays(source.step),
            source.run.model,
            out,
            carried=Carried.open(model),
            source={},
            **options,
        )


@pytest.mark.parametrize("dtype", list(hub.DTYPES))
@pytest.mark.parametrize("shards", [1, 3])
def test_untrained_weights_give_the_same_bytes_in_every_file(tmp_path, dtype, shards):
    original = hub.write(tmp_path / "original", hub.tensors(dtype), shards)
    back = hub.contents(round_trip(original, tmp_path))
    record = json.loads(back.pop("twjax_export.json"))
    assert back == hub.contents(original)
    assert record["changes"] == []


def test_pieces_of_any_size_and_mixed_dtypes_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "BLOCK_BYTES", 200)
    weights = hub.tensors("bfloat16", vocab=130)
    for name in weights:
        if "norm" in name or "layers.1" in name:
            weights[name] = weights[name].astype(np.float32) * np.float32(1.0009765625)
    original = hub.write(tmp_path / "original", weights, 2, vocab_size=130)
    back = hub.contents(round_trip(original, tmp_path))
    back.pop("twjax_export.json")
    assert back == hub.contents(original)


def test_each_weight_lands_where_the_formula_says(tmp_path):
    weights = hub.tensors()
    hub.write(tmp_path / "original", weights)
    import_folder(tmp_path / "original", tmp_path / "model", probe=False)
    with Checkpoints(tmp_path / "model") as checkpoints:
        arrays = checkpoints.arrays(0)

    def ours(name):
        return arrays[name].read(tuple(slice(0, n) for n in arrays[name].shape))

    theirs = weights["model.layers.1.self_attn.k_proj.weight"]
    # y = W x: key k, place h of its head, from input d.
    expected = theirs.reshape(hub.KV, hub.HEAD, hub.EMBED).transpose(2, 0, 1)
    np.testing.assert_array_equal(ours("layers/k")[1], expected)
    theirs = weights["model.layers.0.self_attn.o_proj.weight"]
    expected = theirs.T.reshape(hub.HEADS, hub.HEAD, hub.EMBED)
    np.testing.assert_array_equal(ours("layers/o")[0], expected)
    np.testing.assert_array_equal(
        ours("layers/down")[1], weights["model.layers.1.mlp.down_proj.weight"].T
    )
    head = ours("head")
    assert head.shape == (hub.EMBED, 128)
    np.testing.assert_array_equal(head[:, : hub.VOCAB], weights["lm_head.weight"].T)
    assert not head[:, hub.VOCAB :].any() and not ours("embedding")[hub.VOCAB :].any()


@pytest.mark.parametrize("name", sorted(n for n, layout in TRANSFORMS.items() if layout.theirs))
def test_a_box_of_a_layout_is_the_box_of_the_whole_and_writes_back(name):
    layout = TRANSFORMS[name]
    rng = np.random.default_rng(0)
    shape = tuple(
        {"d": 6, "n": 4, "h": 5, "a": 6, "b": 7}[letter] for letter in layout.ours.split()
    )
    whole = tuple(slice(0, size) for size in shape)
    theirs = rng.integers(0, 60_000, layout.their_shape(shape)).astype(np.uint16)
    for part in layout.parts or (None,):
        index = layout.part_index(part)
        ours = layout.read(theirs[layout.box(shape, whole, index)], shape, whole, index)
        assert ours.shape == shape
        for _ in range(50):
            edges = [sorted(rng.choice(size + 1, 2, replace=False)) for size in shape]
            box = tuple(slice(int(a), int(b)) for a, b in edges)
            place = layout.box(shape, box, index)
            found = layout.read(theirs[place], shape, box, index)
            np.testing.assert_array_equal(found, ours[box])
            back = np.zeros_like(theirs, np.uint16)
            layout.write(back[place], found + np.uint16(1), shape, box, index)
            assert np.count_nonzero(back) == found.size
            np.testing.assert_array_equal(back[back > 0], theirs[back > 0] + 1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (2, 0, 1), (1, 2, 0), (0, 2, 1), (2, 1, 0)])
def test_copies_in_tiles_are_copies(order):
    rng = np.random.default_rng(1)
    values = rng.normal(size=[300, 270, 3][: len(order)]).astype(np.float32).transpose(order)
    for target in (np.empty(values.shape, np.float32), np.empty(values.T.shape, np.float32).T):
        copy_into(target, values)
        np.testing.assert_array_equal(target, values)
    strided = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), np.float32)[..., ::2]
    copy_into(strided, values)
    np.testing.assert_array_equal(strided, values)


def test_a_sharded_load_reads_each_byte_once_and_is_the_checkpoint(tmp_path):
    hub.write(tmp_path / "original", hub.tensors("bfloat16"), 2)
    mesh = make_mesh(Mesh(fsdp=4, tensor=2))
    with HubFolder.open(tmp_path / "original") as folder:
        loaded = folder.load(mesh)
        assert folder.reader.bytes_read == folder.reader.total_bytes
        import_folder(tmp_path / "original", tmp_path / "model", probe=False)
        from twjax.models.network import network

        read = Source.open(tmp_path / "model").params(network(folder.model), mesh)
    jax.tree.map(np.testing.assert_array_equal, loaded, read)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}
    assert loaded["layers"]["q"].sharding == read["layers"]["q"].sharding
    assert not loaded["layers"]["q"].sharding.is_fully_replicated


def test_model_gin_says_the_model(tmp_path):
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }  # fmt: skip
    hub.write(tmp_path / "original", rope_scaling=scaling)
    import_folder(tmp_path / "original", tmp_path / "model", probe=False)
    with HubFolder.open(tmp_path / "original") as folder:
        assert load(Model, [tmp_path / "model" / "model.gin"]).value == folder.model


def test_tensors_that_carry_no_weights_come_back_and_tied_copies_are_compared(tmp_path):
    weights = hub.tensors()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.arange(4, dtype=np.int64)
    original = hub.write(tmp_path / "original", weights, 2, tie_word_embeddings=True)
    back = hub.contents(round_trip(original, tmp_path))
    back.pop("twjax_export.json")
    assert back == hub.contents(original)
    weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    hub.write(tmp_path / "untied", weights, tie_word_embeddings=True)
    with pytest.raises(ValueError, match=r"lm_head.weight differs from model.embed_tokens.weight"):
        HubFolder.open(tmp_path / "untied")


def test_another_dtype_is_exported_rounded_and_said_so(tmp_path):
    original = hub.write(tmp_path / "original", hub.tensors("float32"), 2)
    back = round_trip(original, tmp_path, dtype="bfloat16")
    with Reader(back) as reader, Reader(original) as first:
        for name in first.tensors:
            expected = first.read(name).astype(hub.DTYPES["bfloat16"])
            np.testing.assert_array_equal(reader.read(name), expected)
    assert json.loads((back / "config.json").read_text())["torch_dtype"] == "bfloat16"
    index = json.loads((back / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(
        array.nbytes for file in back.glob("*.safetensors") for array in load_file(file).values()
    )
    changes = json.loads((back / "twjax_export.json").read_text())["changes"]
    assert any("21 tensors: dtype F32 became BF16" in change for change in changes), changes
    assert "config.json: torch_dtype was 'float32', is 'bfloat16'" in changes


def test_values_beyond_float16_are_refused(tmp_path):
    weights = hub.tensors("bfloat16")
    weights["model.norm.weight"][3] = 1e5
    hub.write(tmp_path / "original", weights)
    import_folder(tmp_path / "original", tmp_path / "model", probe=False)
    with pytest.raises(ValueError, match=r"model.norm.weight: has values beyond float16"):
        give(tmp_path / "model", tmp_path / "back", dtype="float16")
    assert not list(tmp_path.glob("*back*"))


def test_a_tokenizer_can_be_replaced(tmp_path):
    original = hub.write(tmp_path / "original")
    (original / "tokenizer.model").write_bytes(b"old")
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text("new")
    back = hub.contents(round_trip(original, tmp_path, tokenizer=other))
    assert back["tokenizer.json"] == b"new" and "tokenizer.model" not in back
    assert back["generation_config.json"] == hub.contents(original)["generation_config.json"]
    assert f"tokenizer: tokenizer.json from {other}" in str(back["twjax_export.json"])


def test_the_ids_that_end_a_text_come_along(tmp_path):
    hub.write(tmp_path / "original")
    import_folder(tmp_path / "original", tmp_path / "model", probe=False)
    assert end_ids(tmp_path / "model") == {2, 3}
    (tmp_path / "model" / "hf" / "generation_config.json").unlink()
    (tmp_path / "model" / "hf" / "config.json").write_text('{"eos_token_id": 7}')
    assert end_ids(tmp_path / "model") == {7}
    assert end_ids(tmp_path) == frozenset()


def test_an_imported_models_rows_are_as_long_as_it_was_made_for(tmp_path):
    hub.write(tmp_path / "original")
    model = tmp_path / "model"
    import_folder(tmp_path / "original", model, probe=False)
    assert Source.open(model).run.data.longest == 64
    for text, length in (
        ('{"text_config": {"max_position_embeddings": 96}}', 96),
        ('{"seq_length": 128}', 128),
        ("{}", 2048),
    ):
        (model / "hf" / "config.json").write_text(text)
        assert Source.open(model).run.data.longest == length


def test_a_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    original = hub.write(tmp_path / "original")
    read = Reader.read
    calls = []

    def dies(self, name, box=None):
        calls.append(name)
        if len(calls) > 9:
            raise OSError("No space left on device")
        return read(self, name, box)

    monkeypatch.setattr(Reader, "read", dies)
    with pytest.raises(OSError, match="No space left"):
        import_folder(original, tmp_path / "model", probe=False)
    assert [p.name for p in tmp_path.iterdir()] == ["original"]
    monkeypatch.setattr(Reader, "read", read)
    # What a killed process leaves.
    (tmp_path / ".model.partial" / "checkpoints" / "0").mkdir(parents=True)
    (tmp_path / ".model.partial" / "junk").write_text("x")
    import_folder(original, tmp_path / "model", probe=False)
    assert not (tmp_path / "model" / "junk").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "original"]
    with pytest.raises(FileExistsError, match="--force"):
        import_folder(original, tmp_path / "model", probe=False)
    hub.write(tmp_path / "other", hub.tensors(seed=5))
    import_folder(tmp_path / "other", tmp_path / "model", probe=False, force=True)
    give(tmp_path / "model", tmp_path / "back")
    name = "model.safetensors"
    assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


@pytest.mark.slow
def test_a_run_without_an_original_gets_a_folder_of_a_family_that_fits(tmp_path):
    config = tiny.write_config(tmp_path)
    run_dir = tmp_path / "run"
    short = ["--set", "Run.steps = 2", "--set", "Schedule.warmup_steps = 1"]
    assert main(["train", str(config), "--run-dir", str(run_dir), *short]) == 0
    record = give(run_dir, tmp_path / "out", shard_bytes=20_000, max_positions=32)
    assert record["family"] == "llama"
    fields = json.loads((tmp_path / "out" / "config.json").read_text())
    assert fields["max_position_embeddings"] == 32 and fields["vocab_size"] == tiny.VOCAB
    shutil.rmtree(run_dir / "samples", ignore_errors=True)
    with Checkpoints(run_dir) as checkpoints:
        chunks = {name: array.chunk for name, array in checkpoints.arrays(2).items()}
    # What is read together: a layer of stacked weights, many rows of a matrix.
    assert chunks["embedding"][0] * jax.device_count() >= 96
    assert chunks["layers/q"][0] == 1
    with HubFolder.open(tmp_path / "out") as folder:
        assert len(folder.reader.shards) > 1
        from twjax.models.network import network

        mesh = make_mesh(Mesh())
        net = network(Source.open(run_dir).run.model)
        jax.tree.map(
            np.testing.assert_array_equal,
            _true(folder.load(mesh)),
            _true(Source.open(run_dir).params(net, mesh)),
        )


def _true(params):
    """Returns parameters without the rows of padding."""
    cut = {"embedding": np.s_[: tiny.VOCAB], "head": np.s_[:, : tiny.VOCAB]}
    return {k: v[cut[k]] if k in cut else v for k, v in params.items()}
