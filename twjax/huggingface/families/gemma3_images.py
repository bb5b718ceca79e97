"""Gemma 3 that also reads images (4B, 12B, 27B): its text half; the other travels unread."""

from __future__ import annotations

from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families import gemma3, rotary
from twjax.huggingface.mapping import Family, Rule

_TEXT = "model.language_model."


def read(config: dict[str, Any]) -> Model:
    """Returns the model that the text half of a Gemma 3 config.json describes."""
    fields = Fields(config, "gemma3_images")
    text = fields.take("text_config")
    if not isinstance(text, dict):
        raise fields.refusal("text_config", text, "it must be an object")
    # The image half, how many tokens an image takes, and which ids frame it.
    fields.idle("vision_config", "mm_tokens_per_image", "image_token_index", "image_token_id")
    fields.idle("boi_token_index", "eoi_token_index", "boi_token_id", "eoi_token_id")
    tied = fields.flag("tie_word_embeddings", True)
    if tied != text.get("tie_word_embeddings", True):
        raise fields.refusal("tie_word_embeddings", tied, "text_config says otherwise")
    fields.idle(*rotary.IDLE)
    fields.finish()
    return gemma3.read(text)


def write(model: Model, original: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the original's config.json with the text half changed to `model`."""
    if original is None:
        raise ValueError(
            "gemma3_images needs the original's config.json and image half; without them export "
            "family gemma3."
        )
    return {
        **original,
        "text_config": gemma3.FAMILY.write_config(model, original["text_config"]),
    }


def rules(model: Model) -> tuple[Rule, ...]:
    """Returns which tensor holds which weight of the text half."""
    return rotary.tensor_rules(model, _TEXT)


FAMILY = Family(
    name="gemma3_images",
    architectures=("Gemma3ForConditionalGeneration",),
    read_config=read,
    write_config=write,
    rules=rules,
    ignored=(r"(model\.)?(vision_tower|multi_modal_projector)\..*", *rotary.ROTARY_BUFFERS),
    spellings=(("language_model.model.", _TEXT), ("language_model.lm_head.", "lm_head.")),
)
