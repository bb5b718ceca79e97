"""What is evaluated beyond held-out rows: multiple choice, minimal pairs, probes, written text."""

from __future__ import annotations

import dataclasses
from typing import Literal

from twjax.config.checks import require, require_at_least

Style = Literal["letters", "texts"]
Wording = Literal["zh-TW", "en"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """Sets of questions, pairs, probes and prompts, each {name: file}.

    `choice` names multiple-choice sets: CSV, JSON or JSON lines (also .gz), or a folder with a
    file a subject. In style "letters" the options stand in the prompt and their letters are
    compared, as MMLU does; in style "texts" the options' own texts behind the question, which small
    models need. `wording` is the language of the words around them. `shots` questions with their
    answers come first, from the set's file in `examples`, or the first ones of each subject, which
    then don't count. Each of the three is one value for all sets, or a value a set. A question has
    at most `max_length` ids with its examples and an answer, None being the run's longest rows:
    examples that don't fit are left out, and where the question alone doesn't, it isn't asked.

    `pairs` are files of minimal pairs, `probes` of questions with right and wrong answers.
    `prompts` are files of text, a prompt a line, that are continued by `prompt_tokens` tokens to
    count Simplified characters and mainland words in what was written.

    `limit` takes so many questions, pairs or probes of each set, evenly spaced; None takes all.
    """

    choice: dict[str, str] = dataclasses.field(default_factory=dict)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)
    shots: int | dict[str, int] = 0
    style: Style | dict[str, Style] = "letters"
    wording: Wording | dict[str, Wording] = "zh-TW"
    pairs: dict[str, str] = dataclasses.field(default_factory=dict)
    probes: dict[str, str] = dataclasses.field(default_factory=dict)
    prompts: dict[str, str] = dataclasses.field(default_factory=dict)
    prompt_tokens: int = 128
    max_length: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        require(
            any((self.choice, self.pairs, self.probes, self.prompts)),
            "Suite is empty; name a set in Suite.choice, pairs, probes or prompts.",
        )
        require_at_least(self, 1, "prompt_tokens")
        for field in ("limit", "max_length"):
            if getattr(self, field) is not None:
                require_at_least(self, 1, field)
        for field in ("examples", "shots", "style", "wording"):
            value = getattr(self, field)
            unknown = sorted(set(value) - set(self.choice)) if isinstance(value, dict) else []
            require(
                not unknown,
                f"Suite.{field} names {', '.join(unknown)}, which Suite.choice doesn't "
                f"({', '.join(sorted(self.choice)) or 'nothing'}).",
            )
        for name in self.choice:
            shots = self.shots_of(name)
            require(shots >= 0, f"Suite.shots of {name} ({shots}) must not be negative.")
            require(
                shots > 0 or name not in self.examples,
                f"Suite.examples of {name} does nothing here: Suite.shots of it is 0.",
            )

    def shots_of(self, name: str) -> int:
        """Returns how many examples come before a question of this set."""
        return self.shots.get(name, 0) if isinstance(self.shots, dict) else self.shots

    def style_of(self, name: str) -> Style:
        """Returns how a set's options are compared."""
        return self.style.get(name, "letters") if isinstance(self.style, dict) else self.style

    def wording_of(self, name: str) -> Wording:
        """Returns the language of the words around a set's questions."""
        return self.wording.get(name, "zh-TW") if isinstance(self.wording, dict) else self.wording
