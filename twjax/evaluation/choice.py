"""Multiple choice by likelihood: which option does the model hold likeliest?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from twjax.config.suite import Style, Wording
from twjax.evaluation.batching import NotANumber, Request
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

    They are those of the whole text, as a document begins, cut as `lm_eval` does: behind as many
    ids as the context alone has. A vocabulary that joins the context's end with what follows makes
    one id of both; the context is then read as it is alone, and what the joined id holds of the
    continuation is neither read nor scored. An encoder-decoder reads the two apart.
    """
    if both:
        read, said = model.encode_batch([context, continuation])
        return Request((*model.start, *read, model.eos_id), tuple(said))
    alone, whole = model.encode_batch([context, context + continuation])
    alone, whole = [*model.start, *alone], [*model.start, *whole]
    if alone and len(whole) > len(alone):
        return Request(tuple(alone), tuple(whole[len(alone) :]))
    # Nothing would be left to score.
    size = min(len(alone), len(whole) - 1)
    alike = next((i for i in range(size) if alone[i] != whole[i]), size)
    if alike == 0:
        # Nothing is there to begin with: a document's end stands before the next one's beginning.
        return Request((model.eos_id,), tuple(whole))
    return Request(tuple(whole[:alike]), tuple(whole[alike:]))


@dataclasses.dataclass(frozen=True)
class Choice:
    """A set of questions as requests: one for each answer of each question.

    `unusable` counts by reason the questions that aren't asked, `fewer` those behind fewer than
    `shots` examples.
    """

    name: str
    form: Form
    shots: int
    items: tuple[Item, ...]
    requests: tuple[tuple[Request, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    unusable: dict[str, int]
    fewer: int = 0

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
        """Puts the questions; `most` is how many ids one may have with its answer, None for any.

        An encoder-decoder's answer isn't counted. The first `shots` examples of a question's
        subject come before it, without a copy of itself, and fewer where they don't fit. Without a
        set of `examples` they are the set's own first ones of each subject, which aren't asked.
        Raises ValueError for a subject with too few examples, or of which no question is left, and
        where no question fits.
        """
        shown = _examples(items if examples is None else examples, shots + 1)
        own = [item for some in shown.values() for item in some[:shots]] if examples is None else []
        asked_not = set(map(id, own))
        left = Items(tuple(i for i in items.items if id(i) not in asked_not), items.unusable)
        subjects = {item.subject for item in left.items}
        if lost := sorted({item.subject for item in own} - subjects):
            raise ValueError(
                f"Suite.choice of {name}: with {shots} examples a subject no question is left of "
                f"{', '.join(map(repr, lost))}; lower Suite.shots or name Suite.examples."
            )
        unusable, fewer = dict(items.unusable), 0
        kept, requests, sizes = [], [], []
        for item in left.spread(limit).items:
            some = shown.get(item.subject, shown.get("", []))
            if len(some) < shots:
                raise ValueError(
                    f"Suite.shots of {name} ({shots}): subject {item.subject!r} has {len(some)} "
                    "examples."
                )
            some = [example for example in some if example.content != item.content][:shots]
            for count in range(len(some), -1, -1):
                context, answers = form.ask(item, some[len(some) - count :])
                asked = tuple(text_request(model, context, a, both=both) for a in answers)
                if most is None or max(_size(request, both) for request in asked) <= most:
                    kept.append(item)
                    requests.append(asked)
                    sizes.append(tuple(len(a.strip()) for a in answers))
                    fewer += count < shots
                    break
            else:
                reason = f"longer than {most} ids"
                unusable[reason] = unusable.get(reason, 0) + 1
        if not kept:
            raise ValueError(
                f"Suite.choice of {name}: none of its {len(left.items):,} questions fits into "
                f"{most} ids; raise Suite.max_length, if the model can read more."
            )
        return cls(name, form, shots, tuple(kept), tuple(requests), tuple(sizes), unusable, fewer)

    def flat(self) -> list[Request]:
        """Returns all requests, a question's answers after each other."""
        return [request for some in self.requests for request in some]

    def answers(self, scores: Sequence[Scored]) -> list[dict[str, Any]]:
        """Returns for each question what was found, `scores` being of `flat`.

        Raises NotANumber for a question of which a log-likelihood is none.
        """
        found, first = [], 0
        for item, sizes in zip(self.items, self.sizes, strict=True):
            logs = [s.log_likelihood for s in scores[first : first + len(sizes)]]
            first += len(sizes)
            if any(map(math.isnan, logs)):
                raise NotANumber(
                    f"{self.name}: the log-likelihoods of question {item.id} are {logs}."
                )
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
        accuracy = float(right.mean())
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
            "fewer_shots": self.fewer,
        }


def _examples(items: Items, count: int) -> dict[str, list[Item]]:
    """Returns the first `count` different questions of each subject."""
    shown: dict[str, list[Item]] = {}
    for item in items.items:
        some = shown.setdefault(item.subject, [])
        if len(some) < count and all(item.content != other.content for other in some):
            some.append(item)
    return shown


def _size(request: Request, both: bool) -> int:
    """Returns how many ids the model reads and predicts in one row."""
    return len(request.context) + (0 if both else len(request.continuation))
