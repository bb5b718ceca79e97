"""The Model configuration: what fits together, and what is refused in one clear line."""

from __future__ import annotations

import pytest

from twjax import config
from twjax.config import Model, RopeScaling

SIZES = {
    **{"vocab_size": 50, "num_layers": 4, "embed_dim": 16, "num_heads": 4, "num_kv_heads": 2},
    **{"head_dim": 8, "mlp_dim": 32},
}
T5 = {"positions": "relative", "encoder_layers": 2, "num_kv_heads": 4}
LEARNED = {"positions": "learned", "max_positions": 64}
MIXED = ("local", "global")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_heads": 3}, "Model.num_heads (3) must be a multiple of Model.num_kv_heads (2)."),
        ({"mlp_dim": 0}, "Model.mlp_dim (0) must be at least 1."),
        ({"head_dim": 7}, "Model.head_dim (7) must be even"),
        ({"logits_softcap": 0.0}, "Model.logits_softcap (0.0) must be positive."),
        ({"query_scale": float("inf")}, "Model.query_scale (inf) must be positive."),
        ({"norm": "layer", "norm_offset": True}, "Model.norm_offset (True) does nothing here"),
        ({"max_positions": 8}, "Model.max_positions (8) does nothing here: it belongs to posi"),
        ({"positions": "learned"}, "Model.max_positions (None) must be the number of learned"),
        ({**LEARNED, "rope_theta": 5.0}, "Model.rope_theta (5.0) does nothing here"),
        (
            {"positions": "alibi", "rope_scaling": RopeScaling(kind="linear", factor=2.0)},
            "does nothing here: it belongs to positions 'rotary'.",
        ),
        ({"positions": "alibi", "attention_softcap": 5.0}, "with Model.positions 'alibi'"),
        ({"window_pattern": MIXED}, "Model.window_pattern (('local', 'global')) does nothing"),
        ({"window": 0}, "Model.window (0) must be at least 1"),
        ({"window": 8, "window_pattern": ("global",)}, "layers of Model.window_pattern"),
        (
            {"window": 8, "window_pattern": (*["global"] * 4, "local")},
            "none of the 4 layers of Model.window_pattern",
        ),
        ({"rope_local_theta": 1e4}, "Model.rope_local_theta (10000.0) does nothing here"),
        ({"window": 8, "rope_local_theta": 1e4}, "so bind Model.rope_theta"),
        ({"encoder_layers": 2}, "Model.positions ('rotary') with Model.encoder_layers (2)"),
        ({"positions": "relative"}, "Model.positions ('relative') with Model.encoder_layers (0)"),
        ({"relative_buckets": 16}, "Model.relative_buckets (16) does nothing here"),
        ({**T5, "qk_norm": True}, "Model.qk_norm (True) does nothing here: it belongs to decoders"),
        ({**T5, "relative_buckets": 31}, "Model.relative_buckets (31) must be even"),
        ({**T5, "relative_distance": 16}, "Model.relative_distance (16) must be more than half"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        Model(**SIZES | fields)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"factor": 0.5}, "RopeScaling.factor (0.5) must be at least 1."),
        ({"low_frequency": 2.0}, "RopeScaling.low_frequency (2.0) does nothing here"),
        ({"original_length": 64}, "RopeScaling.original_length (64) does nothing here"),
        (
            {"kind": "llama3", "low_frequency": 4.0},
            "RopeScaling.low_frequency (4.0) must be below RopeScaling.high_frequency (4.0).",
        ),
        ({"kind": "yarn", "high_frequency": 8.0}, "it belongs to kind 'llama3'."),
    ],
)
def test_scaling_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        RopeScaling(**{"kind": "linear", "factor": 2.0} | fields)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({}, "gggg"),
        ({"window": 8}, "llll"),
        ({"window": 8, "window_pattern": MIXED}, "lglg"),
        ({"window": 8, "window_pattern": ("local", "local", "global")}, "llgl"),
        ({"window": 8, "window_pattern": (*["local"] * 5, "global")}, "llll"),
    ],
)
def test_the_pattern_repeats_over_the_layers(fields, kinds):
    assert "".join(kind[0] for kind in Model(**SIZES | fields).layer_kinds) == kinds


QUICKSTART = "configs/runs/quickstart_base.gin"


def test_gin_builds_every_field():
    bindings = [
        *("Model.norm_offset = True", "Model.norm_position = 'both'", "Model.window = 16"),
        *("Model.window_pattern = ('local', 'global')", "Model.rope_local_theta = 10_000"),
        *("Model.rope_scaling = @RopeScaling()", "RopeScaling.kind = 'llama3'"),
        "RopeScaling.factor = 8",
    ]
    loaded = config.load(config.Run, [QUICKSTART], bindings)
    model = loaded.value.model
    assert model.rope_scaling == RopeScaling(kind="llama3", factor=8)
    assert model.window_pattern == MIXED


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["Model.window_pattern = ('near',)", "Model.window = 4"], "Model.window_pattern"),
        (["Model.norm = 'batch'"], "Model.norm ('batch', a str) must be Literal['rms', 'layer']."),
        (
            ["Model.rope_scaling = @RopeScaling()", "RopeScaling.kind = 'dynamic'"],
            "RopeScaling.kind ('dynamic', a str) must be",
        ),
        (["Model.rope_scaling = 8.0"], "must be RopeScaling | None."),
        (
            ["Model.positions = 'learned'", "Model.max_positions = 64"],
            "is more than Model.max_positions (64), the number of learned positions.",
        ),
    ],
)
def test_gin_refuses_what_does_not_fit(bindings, message):
    if any("RopeScaling.kind" in binding for binding in bindings):
        bindings = [*bindings, "RopeScaling.factor = 2.0"]
    with pytest.raises(config.ConfigError, match=r"^[^\n]*$") as error:
        config.load(config.Run, [QUICKSTART], bindings)
    assert message in str(error.value)
