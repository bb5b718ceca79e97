"""Every model file builds, and has as many parameters as its authors say."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

from twjax.config import Model, Run, load
from twjax.models.decoder import Network
from twjax.models.spec import count_weights, is_spec
from twjax.planning.compile import check
from twjax.planning.topology import parse_topology

FOLDER = pathlib.Path(__file__).parent.parent / "configs" / "models"
FILES = sorted(path.stem for path in FOLDER.glob("*.gin"))

# All weights, each once (a tied embedding too), without padding: numbers of elements in the
# released safetensors (BF16 counts on the models' Hugging Face pages) unless another source is
# named.
EXACT = {
    "gpt1": 116_534_784,  # openai-community/openai-gpt
    "gpt2_124m": 124_439_808,  # openai-community/gpt2, -medium, -large, -xl
    "gpt2_355m": 354_823_168,
    "gpt2_774m": 774_030_080,
    "gpt2_1.5b": 1_557_611_200,
    "bloomberggpt_50b": 50_558_868_480,  # Wu et al. 2023, appendix A.5
    "llama2_7b": 6_738_415_616,
    "llama2_13b": 13_015_864_320,  # the page's 13,015,866,880 has 40 rotary buffers of 64
    "llama2_70b": 68_976_648_192,  # the page's 68,976,653,312 has 80 rotary buffers of 64
    "llama3_8b": 8_030_261_248,
    "llama3_70b": 70_553_706_496,
    "llama3.1_8b": 8_030_261_248,
    "llama3.1_70b": 70_553_706_496,
    "llama3.1_405b": 405_853_388_800,
    "llama3.2_1b": 1_235_814_400,
    "llama3.2_3b": 3_212_749_824,
    "mistral_7b_v0.1": 7_241_732_096,
    "mistral_7b_v0.3": 7_248_023_552,
    "qwen2.5_0.5b": 494_032_768,
    "qwen2.5_1.5b": 1_543_714_304,
    "qwen2.5_3b": 3_085_938_688,
    "qwen2.5_7b": 7_615_616_512,
    "qwen2.5_14b": 14_770_033_664,
    # Qwen3-0.6B's and 1.7B's files hold the tied embedding twice; here it counts once.
    "qwen3_0.6b": 751_632_384 - 151_936 * 1024,
    "qwen3_1.7b": 2_031_739_904 - 151_936 * 2048,
    "qwen3_4b": 4_022_468_096,
    "qwen3_8b": 8_190_735_360,
    "qwen3_14b": 14_768_307_200,
    "qwen3_32b": 32_762_123_264,
    "gemma3_270m": 268_098_176,
    "gemma3_1b": 999_885_952,
}

# GPT-3's table 2.1 (Brown et al. 2020) prints rounded counts with embeddings; 350M, the roughest,
# is 356M by its own shape.
GPT3 = {
    "gpt3_125m": 125e6,
    "gpt3_350m": 350e6,
    "gpt3_760m": 760e6,
    "gpt3_1.3b": 1.3e9,
    "gpt3_2.7b": 2.7e9,
    "gpt3_6.7b": 6.7e9,
    "gpt3_13b": 13.0e9,
    "gpt3_175b": 175.0e9,
}

# Without the embedding and, untied, the output weight: (count, unit to which it is printed).
WITHOUT_EMBEDDING = {
    # Gemma Team 2024, table 2.
    "gemma2_2b": (2_024_517_888, 1),
    "gemma2_9b": (8_324_201_984, 1),
    "gemma2_27b": (26_047_480_320, 1),
    # Gemma Team 2025, table 1.
    "gemma3_1b": (698e6, 1e6),
    "gemma3_4b": (3209e6, 1e6),
    "gemma3_12b": (10_759e6, 1e6),
    "gemma3_27b": (25_600e6, 1e6),
    # The models' Hugging Face pages.
    "qwen2.5_0.5b": (0.36e9, 0.01e9),
    "qwen2.5_1.5b": (1.31e9, 0.01e9),
    "qwen2.5_3b": (2.77e9, 0.01e9),
    "qwen2.5_7b": (6.53e9, 0.01e9),
    "qwen2.5_14b": (13.1e9, 0.3e9),  # 13.2 by its own files
    "qwen3_0.6b": (0.44e9, 0.01e9),
    "qwen3_1.7b": (1.4e9, 0.1e9),
    "qwen3_4b": (3.6e9, 0.1e9),
    "qwen3_8b": (6.95e9, 0.01e9),
    "qwen3_14b": (13.2e9, 0.1e9),
    "qwen3_32b": (31.2e9, 0.1e9),
}


def model_of(name: str) -> Model:
    """Loads a model file; one row of embedding a piece, as the authors count."""
    model = load(Model, [FOLDER / f"{name}.gin"]).value
    return dataclasses.replace(model, vocab_multiple=1)


def count(model: Model) -> int:
    return count_weights(Network.create(model).specs)


@pytest.mark.parametrize("name", FILES)
def test_file_builds(name: str) -> None:
    model = load(Model, [FOLDER / f"{name}.gin"]).value
    assert model.padded_vocab_size % 128 == 0
    assert (FOLDER / f"{name}.gin").read_text().startswith("# "), "name the source"


@pytest.mark.parametrize("name", EXACT)
def test_count_is_the_published_one(name: str) -> None:
    assert count(model_of(name)) == EXACT[name]


@pytest.mark.parametrize("name", GPT3)
def test_count_rounds_to_gpt3s(name: str) -> None:
    assert count(model_of(name)) == pytest.approx(GPT3[name], rel=0.02)


def test_gpt3s_printed_heads_do_not_give_its_printed_count() -> None:
    printed = dataclasses.replace(model_of("gpt3_1.3b"), num_heads=24, num_kv_heads=24)
    assert count(printed) > 1.5e9


@pytest.mark.parametrize("name", WITHOUT_EMBEDDING)
def test_count_without_embedding_is_the_published_one(name: str) -> None:
    model = model_of(name)
    published, unit = WITHOUT_EMBEDDING[name]
    tables = model.vocab_size * model.embed_dim * (1 if model.tie_embeddings else 2)
    assert abs(count(model) - tables - published) <= unit / 2


def test_gemma2s_printed_embedding_has_256128_rows() -> None:
    for name, rows in (("2b", 590_118_912), ("9b", 917_962_752), ("27b", 1_180_237_824)):
        assert 256_128 * model_of(f"gemma2_{name}").embed_dim == rows


def test_padding_is_not_the_vocabulary() -> None:
    """GPT-2 has 50,257 pieces in 50,304 rows; the padding is not among the published count."""
    model = load(Model, [FOLDER / "gpt2_124m.gin"]).value
    assert (model.vocab_size, model.padded_vocab_size) == (50_257, 50_304)
    assert count(model) == EXACT["gpt2_124m"] + (50_304 - 50_257) * 768


def test_every_size_is_counted() -> None:
    counted = EXACT.keys() | GPT3.keys() | WITHOUT_EMBEDDING.keys()
    decoders = {name for name in FILES if "t5" not in name}
    assert decoders - counted == {"quickstart"}
    assert all(is_spec(spec) for spec in Network.create(model_of("gpt1")).specs["layers"].values())


PLANS = sorted(path.name for path in (FOLDER.parent / "runs" / "plans").glob("[!_]*.gin"))


@pytest.mark.parametrize("file", PLANS)
def test_plans_divide_over_the_slice_that_they_name(file: str) -> None:
    path = FOLDER.parent / "runs" / "plans" / file
    (topology,) = re.findall(r"--topology (\S+)", path.read_text())
    check(load(Run, [path]).value, parse_topology(topology))
