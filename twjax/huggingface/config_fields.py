"""A `config.json` read field by field, so that none is left over that would change the network."""

from __future__ import annotations

import dataclasses
from typing import Any

from twjax.config import Model

_MISSING: Any = object()

# Fields that every family's config.json may have and that change no logits: names of ids, what
# wrote the file, how to run it. `dtype` is that of the file, which tensors state themselves.
HARMLESS = frozenset({
    "_name_or_path", "architectures", "auto_map", "bos_token_id", "chunk_size_feed_forward",
    "decoder_start_token_id", "dtype", "eos_token_id", "finetuning_task", "id2label",
    "initializer_factor", "initializer_range", "is_decoder", "label2id", "model_type",
    "output_attentions", "output_hidden_states", "output_past", "pad_token_id", "prefix",
    "pretraining_tp", "problem_type", "return_dict", "sep_token_id", "task_specific_params",
    "torch_dtype", "torchscript", "transformers_version", "use_bfloat16", "use_cache",
    # Dropouts: for training by its authors; nothing is dropped here.
    "attention_dropout", "attn_pdrop", "dropout", "dropout_rate", "embd_pdrop", "hidden_dropout",
    "resid_pdrop", "classifier_dropout", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj",
})  # fmt: skip


class Fields:
    """The fields of one `config.json`; `finish` refuses by name those that nobody asked for."""

    def __init__(self, config: dict[str, Any], family: str):
        self._config, self._family = config, family
        self._seen: set[str] = set()

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """Returns a field; raises ValueError when it is missing and has no default.

        A field that is null counts as missing when there is a default.
        """
        self._seen.add(name)
        value = self._config.get(name, _MISSING)
        if value is None and default is not _MISSING:
            return default
        if value is _MISSING:
            if default is _MISSING:
                raise ValueError(f"config.json ({self._family}): {name} is missing.")
            return default
        return value

    def nullable(self, name: str, default: Any) -> Any:
        """Returns a number, or None where null means something else than the default."""
        self._seen.add(name)
        value = self._config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
            raise self.refusal(name, value, "it must be a number or null")
        return value

    def nullable_integer(self, name: str, default: Any) -> int | None:
        """Returns a whole number from 0, or None where null means something else."""
        value = self.nullable(name, default)
        if value is not None and (not isinstance(value, int) or value < 0):
            raise self.refusal(name, value, "it must be a whole number or null")
        return value

    def integer(self, name: str, default: Any = _MISSING) -> int:
        """Returns a field that must be a positive whole number."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.refusal(name, value, "it must be a positive whole number")
        return value

    def number(self, name: str, default: Any = _MISSING) -> float:
        """Returns a field that must be a number."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refusal(name, value, "it must be a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Returns a field that must be true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.refusal(name, value, "it must be true or false")
        return value

    def choose(self, name: str, choices: dict[Any, Any], default: Any = _MISSING) -> Any:
        """Returns what `choices` has for a field's value; refuses any other value by name."""
        value = self.take(name, default)
        try:
            return choices[value]
        except (KeyError, TypeError):
            raise self.refusal(name, value, f"it knows {_listed(choices)}") from None

    def expect(self, name: str, *values: Any) -> None:
        """Refuses a field that is there with another value than these."""
        self._seen.add(name)
        value = self._config.get(name, _MISSING)
        if value is not _MISSING and value not in values:
            raise self.refusal(name, value, f"it knows {_listed(values)}")

    def idle(self, *names: str) -> None:
        """Names fields that may have any value: they change nothing in this family."""
        self._seen |= set(names)

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._config.get(name) is not None

    def refusal(self, name: str, value: Any, why: str = "") -> ValueError:
        """Returns the error for a field whose value is not implemented."""
        return ValueError(
            f"config.json ({self._family}): {name} = {value!r} is not implemented"
            + (f"; {why}." if why else ".")
        )

    def finish(self) -> None:
        """Raises ValueError that lists fields which nobody read and which aren't harmless."""
        unknown = [
            f"{name} = {value!r}"
            for name, value in self._config.items()
            if name not in self._seen
            and name not in HARMLESS
            # Absent by another name.
            and value is not None
            and value is not False
        ]
        if unknown:
            raise ValueError(
                f"config.json ({self._family}): fields that are not implemented: "
                f"{', '.join(unknown)[:400]}."
            )


def _listed(values: Any) -> str:
    return " or ".join(repr(value) for value in values)


def same_network(one: Model, other: Model) -> bool:
    """Whether two configurations compute the same: initial values and padding aside."""
    return _settled(one) == _settled(other)


def _settled(model: Model) -> Model:
    return dataclasses.replace(model, init_std=0.02, vocab_multiple=1)
