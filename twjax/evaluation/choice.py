"""Multiple choice by likelihood: which option does the model hold likeliest?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from twjax.config.suite import Style, Wording
from twjax.evaluation.batching import Request
from twjax.evaluation.items import LETTERS, Item, Items
from twjax.evaluation.scoring import Scored
from twjax.vocab.tokenizer import Tokenizer

# What stands around a question: (of a subject, of none), before the question, before the answer.
_WORDS = {
    "zh-TW": (
        "以下是關於{subject}的單選題，請選出正確的答案。\n\n",
        "以下是單選題，請選出正確的答案。\n\n",
        "題目：",
        "答案：",
    ),
    "en": (
        "The following are multiple choice questions (with answers) about {subject}.\n\n",
        "The following are multiple choice questions (with answers).\n\n",
        "Question: ",
        "Answer: ",
    ),
}


@dataclasses.dataclass(frozen=True)
class Form:
    """How a set's questions are put: see `config.Suite`."""

    style: Style
    wording: Wording

    def ask(self, item: Item, examples: Sequence[Item]) -> tuple[str, tuple[str, ...]]:
        """Returns the prompt, and the text of each answer that may follow it."""
        about, plain, *_ = _WORDS[self.wording]
        start = about.format(subject=item.subject) if item.subject else plain
        if self.style == "texts":
            start = ""
        shown = "".join(
            self._question(e) + self._answers(e)[e.answer] + "\n\n" for e in examples
        )  # fmt: skip
        answers = self._answers(item)
        question = self._question(item)
        if self.wording == "en":
            # The space belongs to the answer: tokenizers join it to the word.
            question, answers = question[:-1], tuple(" " + answer for answer in answers)
        return start + shown + question, answers

    def _question(self, item: Item) -> str:
        *_, before, answer = _WORDS[self.wording]
        lines = [before + item.question]
        if self.style == "letters":
            lines += [
                f"{letter}. {text}" for letter, text in zip(LETTERS, item.options, strict=False)
            ]
        return "\n".join([*lines, answer])

    def _answers(self, item: Item) -> tuple[str, ...]:
        return item.options if self.style == "texts" else tuple(LETTERS[: len(item.options)])


def text_request(model: Tokenizer, context: str, continuation: str, *, both: bool) -> Request:
    """Returns the ids of a text cut into context and continuation; `both` for encoder-decoders.

    They are those of the whole text, as a document begins: what is to be scored starts with the
    first id that the context alone doesn't have. An encoder-decoder reads the two apart.
    """
    if both:
        read, said = model.encode_batch([context, continuation])
        return Request((*model.start, *read, model.eos_id), tuple(said))
    alone, whole = model.encode_batch([context, context + continuation])
    alone, whole = [*model.start, *alone], [*model.start, *whole]
    size = min(len(alone), len(whole) - 1)
    alike = next((i for i in range(size) if alone[i] != whole[i]), size)
    if alike == 0:
        # Nothing is there to begin with: a document's end stands before the next one's beginning.
        return Request((model.eos_id,), tuple(whole))
    return Request(tuple(whole[:alike]), tuple(whole[alike:]))


@dataclasses.dataclass(frozen=True)
class Choice:
    """A set of questions as requests: one for each answer of each question.

    `unusable` counts by reason the questions that aren't asked.
    """

    name: str
    form: Form
    shots: int
    items: tuple[Item, ...]
    requests: tuple[tuple[Request, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    unusable: dict[str, int]

    @classmethod
    def prepare(
        cls,
        name: str,
        items: Items,
        model: Tokenizer,
        form: Form,
        *,
        shots: int = 0,
        examples: Items | None = None,
        limit: int | None = None,
        most: int | None = None,
        both: bool = False,
    ) -> Choice:
        """Puts the questions; `most` is how many positions the model has, None for any number.

        The first `shots` examples of a question's subject come before it, fewer where they don't
        fit. Without a set of `examples` they are the set's own first ones of each subject, which
        aren't asked. Raises ValueError for a subject with too few examples.
        """
        shown = _examples(items if examples is None else examples, shots)
        own = {id(item) for some in shown.values() for item in some} if examples is None else set()
        left = Items(tuple(i for i in items.items if id(i) not in own), items.unusable)
        if not left.items:
            raise ValueError(
                f"Suite.choice of {name}: with {shots} examples a subject no question is left; "
                "lower Suite.shots or name Suite.examples."
            )
        unusable = dict(items.unusable)
        kept, requests, sizes = [], [], []
        for item in left.spread(limit).items:
            some = shown.get(item.subject, shown.get("", []))
            if len(some) < shots:
                raise ValueError(
                    f"Suite.shots of {name} ({shots}): subject {item.subject!r} has {len(some)} "
                    "examples."
                )
            for count in range(len(some), -1, -1):
                context, answers = form.ask(item, some[len(some) - count :])
                asked = tuple(text_request(model, context, a, both=both) for a in answers)
                if most is None or max(len(r.context) + len(r.continuation) for r in asked) <= most:
                    kept.append(item)
                    requests.append(asked)
                    sizes.append(tuple(len(a.strip()) for a in answers))
                    break
            else:
                reason = f"longer than the model's {most} positions"
                unusable[reason] = unusable.get(reason, 0) + 1
        return cls(name, form, shots, tuple(kept), tuple(requests), tuple(sizes), unusable)

    def flat(self) -> list[Request]:
        """Returns all requests, a question's answers after each other."""
        return [request for some in self.requests for request in some]

    def answers(self, scores: Sequence[Scored]) -> list[dict[str, Any]]:
        """Returns for each question what was found, `scores` being of `flat`."""
        found, first = [], 0
        for item, sizes in zip(self.items, self.sizes, strict=True):
            logs = [s.log_likelihood for s in scores[first : first + len(sizes)]]
            first += len(sizes)
            chosen = int(np.argmax(logs))
            # By characters, as lm_eval's acc_norm.
            normed = int(np.argmax(np.asarray(logs) / np.maximum(1, sizes)))
            found.append(
                {
                    "id": item.id,
                    "subject": item.subject,
                    "answer": item.answer,
                    "chosen": chosen,
                    "chosen_norm": normed,
                    "log_likelihoods": logs,
                }
            )
        return found

    def record(self, scores: Sequence[Scored]) -> dict[str, Any]:
        """Returns the set's record: accuracy over questions, and its mean over subjects.

        `accuracy_norm` compares log-likelihoods per character of the answer. `stderr` is the
        standard error of `accuracy`, `chance` what guessing gives.
        """
        found = self.answers(scores)
        right = np.array([a["chosen"] == a["answer"] for a in found], float)
        normed = np.array([a["chosen_norm"] == a["answer"] for a in found], float)
        subjects = [a["subject"] for a in found]
        names = sorted(set(subjects))
        of = {name: np.array([s == name for s in subjects]) for name in names}
        count = len(found)
        accuracy = float(right.mean()) if count else math.nan
        return {
            "kind": "choice",
            "task": self.name,
            "style": self.form.style,
            "wording": self.form.wording,
            "shots": self.shots,
            "items": count,
            "accuracy": accuracy,
            "accuracy_macro": float(np.mean([right[of[n]].mean() for n in names])),
            "accuracy_norm": float(normed.mean()),
            "accuracy_norm_macro": float(np.mean([normed[of[n]].mean() for n in names])),
            "stderr": math.sqrt(accuracy * (1 - accuracy) / max(1, count - 1)),
            "chance": float(np.mean([1 / len(item.options) for item in self.items])),
            "subjects": {n: [int(right[of[n]].sum()), int(of[n].sum())] for n in names},
            "unusable": self.unusable,
        }


def _examples(items: Items, shots: int) -> dict[str, list[Item]]:
    """Returns the first `shots` questions of each subject."""
    shown: dict[str, list[Item]] = {}
    for item in items.items if shots else ():
        some = shown.setdefault(item.subject, [])
        if len(some) < shots:
            some.append(item)
    return shown
