"""config.json of every family: read as the published shape, written back, refused by name."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest

from twjax.config import Model, load
from twjax.huggingface.registry import FAMILIES, family_for, family_of

FOLDER = pathlib.Path(__file__).parent.parent / "configs" / "models"

_LLAMA3 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
_SUMMARY = {
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
}

# The config.json files of the models' Hugging Face pages: the model file of configs/models and
# what the page has, in the spelling of the transformers version that wrote it.
PUBLISHED: dict[str, dict[str, Any]] = {
    "llama2_7b": {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.31.0.dev0",
        "use_cache": True,
        "vocab_size": 32000,
    },
    "llama3.1_8b": {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": _LLAMA3,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.43.0.dev0",
        "use_cache": True,
        "vocab_size": 128256,
    },
    "llama3.2_1b": {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "initializer_range": 0.02,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {**_LLAMA3, "factor": 32.0},
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "vocab_size": 128256,
    },
    "mistral_7b_v0.1": {
        "architectures": ["MistralForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
    "mistral_7b_v0.3": {
        "architectures": ["MistralForCausalLM"],
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "vocab_size": 32768,
    },
    "qwen2.5_7b": {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": 3584,
        "initializer_range": 0.02,
        "intermediate_size": 18944,
        "max_position_embeddings": 131072,
        "max_window_layers": 28,
        "model_type": "qwen2",
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "tie_word_embeddings": False,
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": 152064,
    },
    "qwen3_0.6b": {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "max_position_embeddings": 40960,
        "max_window_layers": 28,
        "model_type": "qwen3",
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "gemma2_27b": {
        "architectures": ["Gemma2ForCausalLM"],
        "attention_bias": False,
        "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0,
        "head_dim": 128,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 4608,
        "intermediate_size": 36864,
        "max_position_embeddings": 8192,
        "model_type": "gemma2",
        "num_attention_heads": 32,
        "num_hidden_layers": 46,
        "num_key_value_heads": 16,
        "query_pre_attn_scalar": 144,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "sliding_window_size": 4096,
        "vocab_size": 256000,
    },
    "gemma3_1b": {
        "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "cache_implementation": "hybrid",
        "eos_token_id": [1, 106],
        "final_logit_softcapping": None,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "max_position_embeddings": 32768,
        "model_type": "gemma3_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
        "vocab_size": 262144,
    },
    "gpt1": {
        **{"afn": "gelu", "architectures": ["OpenAIGPTLMHeadModel"], "attn_pdrop": 0.1},
        **{"embd_pdrop": 0.1, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05},
        **{"model_type": "openai-gpt", "n_ctx": 512, "n_embd": 768, "n_head": 12, "n_layer": 12},
        **{"n_positions": 512, "n_special": 0, "predict_special_tokens": True},
        **{"resid_pdrop": 0.1, "vocab_size": 40478},
        **_SUMMARY,
    },
    "gpt2_124m": {
        **{"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"]},
        **{"attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256},
        **{"initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2"},
        **{"n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024},
        **{"resid_pdrop": 0.1, "vocab_size": 50257},
        **{"task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}},
        **_SUMMARY,
    },
}
# BLOOM 560M's, with the names of its first release; BloombergGPT has no page.
BLOOM = {
    **{"apply_residual_connection_post_layernorm": False, "architectures": ["BloomForCausalLM"]},
    **{"attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "hidden_dropout": 0.0},
    **{"layer_norm_epsilon": 1e-05, "masked_softmax_fusion": True, "model_type": "bloom"},
    **{"n_embed": 1024, "n_inner": None, "n_layer": 24, "num_attention_heads": 16},
    **{"offset_alibi": 100, "pretraining_tp": 1, "seq_length": 2048, "skip_bias_add": True},
    **{"skip_bias_add_qkv": False, "use_cache": True, "vocab_size": 250880},
}


def _file(name: str) -> Model:
    return load(Model, [FOLDER / f"{name}.gin"]).value


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_config_is_our_file(name: str) -> None:
    config = PUBLISHED[name]
    assert family_of(config).read_config(config) == _file(name)


def test_text_half_of_a_gemma_3_with_images() -> None:
    """Its page has only what differs from transformers' defaults."""
    text = {
        **{"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text"},
        **{"num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
        "sliding_window": 1024,
    }
    config = {
        **{"architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999},
        **{"eoi_token_index": 256000, "eos_token_id": [1, 106], "image_token_index": 262144},
        **{"initializer_range": 0.02, "mm_tokens_per_image": 256, "model_type": "gemma3"},
        **{"text_config": text, "torch_dtype": "bfloat16", "vision_config": {"image_size": 896}},
    }
    family = family_of(config)
    model = family.read_config(config)
    assert model == _file("gemma3_4b")
    assert family.write_config(model, config) == config
    longer = dataclasses.replace(model, vocab_size=270_000)
    written = family.write_config(longer, config)
    assert written == {**config, "text_config": {**text, "vocab_size": 270_000}}
    with pytest.raises(ValueError, match="original"):
        family.write_config(model, None)


def test_blooms_first_release() -> None:
    model = family_of(BLOOM).read_config(BLOOM)
    assert (model.embed_dim, model.num_heads, model.head_dim, model.mlp_dim) == (1024, 16, 64, 4096)
    assert (model.num_layers, model.positions, model.embedding_norm) == (24, "alibi", True)


@pytest.mark.parametrize("name", PUBLISHED)
def test_unchanged_model_is_written_unchanged(name: str) -> None:
    config = PUBLISHED[name]
    family = family_of(config)
    written = family.write_config(family.read_config(config), config)
    assert list(written.items()) == list(config.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_larger_vocabulary_changes_one_field(name: str) -> None:
    config = PUBLISHED[name]
    family = family_of(config)
    model = dataclasses.replace(family.read_config(config), vocab_size=300_000)
    assert family.write_config(model, config) == {**config, "vocab_size": 300_000}


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.gin") if "t5" not in p.stem))
def test_every_file_has_a_family_that_reads_it_back(name: str) -> None:
    model = _file(name)
    family = family_for(model)
    back = family.read_config(family.write_config(model, None))
    assert dataclasses.replace(back, vocab_multiple=model.vocab_multiple) == model


def test_changed_rope_replaces_both_spellings() -> None:
    old = PUBLISHED["llama3.1_8b"]
    new = {k: v for k, v in old.items() if not k.startswith("rope")}
    new["rope_parameters"] = {**_LLAMA3, "rope_theta": 500_000.0}
    family = family_of(old)
    assert family.read_config(new) == family.read_config(old)
    model = dataclasses.replace(family.read_config(new), rope_theta=1e6, rope_scaling=None)
    for original in (old, new):
        written = family.write_config(model, original)
        assert written["rope_theta"] == 1e6
        assert not written.get("rope_scaling") and "rope_parameters" not in written


REFUSED = [
    ("llama2_7b", "hidden_act", "quick_gelu"),
    ("llama2_7b", "rope_scaling", {"rope_type": "dynamic", "factor": 2.0}),
    ("llama2_7b", "rope_scaling", {"rope_type": "longrope", "factor": 2.0}),
    ("llama3.1_8b", "rope_scaling", {**_LLAMA3, "partial_rotary_factor": 0.5}),
    ("llama3.1_8b", "rope_scaling", {"rope_type": "yarn", "factor": 2.0, "beta_fast": 16}),
    ("llama2_7b", "partial_rotary_factor", 0.5),
    ("llama2_7b", "num_local_experts", 8),
    ("llama2_7b", "sliding_window", 4096),
    ("llama2_7b", "vocab_size", "many"),
    ("llama2_7b", "tie_word_embeddings", "no"),
    ("mistral_7b_v0.1", "attention_bias", True),
    ("qwen2.5_7b", "layer_types", ["full_attention"] * 27),
    ("qwen2.5_7b", "layer_types", ["linear_attention"] * 28),
    ("qwen2.5_7b", "layer_types", ["full_attention"] * 27 + ["sliding_attention"]),
    ("qwen3_0.6b", "num_experts", 128),
    ("gemma2_27b", "use_bidirectional_attention", True),
    ("gemma2_27b", "hidden_activation", "gelu_fast"),
    ("gemma3_1b", "rope_parameters", {"other_attention": {"rope_type": "default"}}),
    ("gemma3_1b", "attn_logit_softcapping", 50.0),
    ("gpt1", "n_ctx", 1024),
    ("gpt1", "afn", "tanh"),
    ("gpt2_124m", "scale_attn_by_inverse_layer_idx", True),
    ("gpt2_124m", "add_cross_attention", True),
    ("gpt2_124m", "n_head", 7),
]


@pytest.mark.parametrize(("name", "field", "value"), REFUSED)
def test_what_is_not_implemented_is_refused_by_name(name: str, field: str, value: Any) -> None:
    config = {**PUBLISHED[name], field: value}
    named = "n_embd" if field == "n_head" else field
    with pytest.raises(ValueError, match=named) as error:
        family_of(config).read_config(config)
    assert "\n" not in str(error.value)


def test_late_windows_of_qwen2_that_do_not_repeat_are_refused() -> None:
    config = {**PUBLISHED["qwen2.5_7b"], "use_sliding_window": True, "max_window_layers": 20}
    with pytest.raises(ValueError, match="layer_types"):
        family_of(config).read_config(config)


def test_blooms_other_residual_is_refused() -> None:
    config = {**BLOOM, "apply_residual_connection_post_layernorm": True}
    with pytest.raises(ValueError, match="apply_residual_connection_post_layernorm"):
        family_of(config).read_config(config)


def test_a_family_refuses_what_it_can_not_say() -> None:
    families = {family.name: family for family in FAMILIES}
    for name, setting in (
        ("llama", "window"),
        ("mistral", "qkv_bias"),
        ("qwen2", "qkv_bias"),
        ("gpt2", "norm_position"),
        ("gemma2", "qk_norm"),
    ):
        model = _file({"llama": "mistral_7b_v0.1", "mistral": "qwen2.5_7b", "qwen2": "llama2_7b",
                       "gpt2": "gpt1", "gemma2": "gemma3_1b"}[name])  # fmt: skip
        with pytest.raises(ValueError, match=setting):
            families[name].write_config(model, None)


@pytest.mark.parametrize("name", [*PUBLISHED, "gemma3_4b", "bloomberggpt_50b"])
def test_written_config_is_read_by_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = _file(name)
    family = family_for(model)
    written = family.write_config(model, None)
    kind = written.pop("model_type")
    config = transformers.AutoConfig.for_model(kind, **written)
    assert family.read_config(config.to_dict()) == model
