"""Everything that a `Suite` names, opened and checked at once, then scored with parameters."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import jax

from twjax.config import Run, Suite
from twjax.config import resolve as find
from twjax.evaluation import localisation, pairs
from twjax.evaluation.batching import Request
from twjax.evaluation.choice import Choice, Form
from twjax.evaluation.continuation import continue_prompts
from twjax.evaluation.items import read_items
from twjax.evaluation.records import Key
from twjax.evaluation.sampling import Sampling
from twjax.evaluation.scoring import Scored, Scorer
from twjax.models.encdec import EncoderDecoder
from twjax.models.network import AnyNetwork
from twjax.storage import atomic_writer
from twjax.vocab.tokenizer import Tokenizer

# Prompts continued together.
_TOGETHER = 32

T = TypeVar("T")
Record = dict[str, Any]
# A part's requests, and its record and what was found item by item from their scores.
_Scored = tuple[list[Request], Callable[[list[Scored], int], tuple[Record, list[Record]]]]


class SuiteScores:
    """Scores parameters on all parts of a suite.

    `model` is the vocabulary that the run is trained with. With `details` each question's, pair's
    and probe's log-likelihoods are written to `details`/<step>/<kind>-<name>.jsonl, and texts as
    well. Everything that is wrong is raised in one ValueError, before any device work.
    """

    def __init__(
        self,
        run: Run,
        network: AnyNetwork,
        mesh: jax.sharding.Mesh,
        suite: Suite,
        model: Tokenizer,
        *,
        end_ids: Collection[int] = (),
        details: pathlib.Path | None = None,
    ):
        self._run, self._network, self._mesh, self._suite = run, network, mesh, suite
        self._model, self._ends, self._details = model, tuple(end_ids), details
        self._scorer = Scorer(run, network, mesh)
        self._both = isinstance(network, EncoderDecoder)
        self._scored: dict[tuple[str, str], _Scored] = {}
        self._prompts: dict[str, list[str]] = {}
        self._keys: set[Key] = set()
        problems: list[str] = []
        for kind, sets, open_one in (
            ("choice", suite.choice, self._choice),
            ("pairs", suite.pairs, self._pairs),
            ("probes", suite.probes, self._probes),
            ("writing", suite.prompts, self._texts),
        ):
            for name, path in sets.items():
                try:
                    open_one(name, path)
                except (OSError, ValueError) as error:
                    field = "prompts" if kind == "writing" else kind
                    text = str(error)
                    known = text.startswith("Suite.")
                    problems.append(text if known else f"Suite.{field} of {name}: {text}")
        if problems:
            raise ValueError(" | ".join(problems))

    @property
    def keys(self) -> frozenset[Key]:
        """What every record that a call returns measures."""
        written = {Key("writing", name, size=len(some)) for name, some in self._prompts.items()}
        return frozenset({*self._keys, *written})

    def __call__(self, params: Any, step: int) -> list[Record]:
        """Returns one record a part, in the suite's order."""
        records = []
        for (kind, name), (requests, make) in self._scored.items():
            record, found = make(self._scorer(params, requests, f"{kind} {name}"), step)
            records.append({**record, "step": step})
            self._write(step, f"{kind}-{name}", found)
        for name, prompts in self._prompts.items():
            texts = self._continued(params, prompts)
            records.append(localisation.measure(texts).record(step, name))
            lines = [{"prompt": p, "text": t} for p, t in zip(prompts, texts, strict=True)]
            self._write(step, f"writing-{name}", lines)
        return records

    def _continued(self, params: Any, prompts: list[str]) -> list[str]:
        texts: dict[int, str] = {}
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
        for first in range(0, len(order), _TOGETHER):
            some = order[first : first + _TOGETHER]
            said = continue_prompts(
                self._run,
                self._network,
                params,
                [prompts[n] for n in some],
                self._model,
                mesh=self._mesh,
                tokens=self._suite.prompt_tokens,
                sampling=Sampling(
                    temperature=self._run.evaluation.temperature, seed=self._run.seed
                ),
                end_ids=self._ends,
            )
            texts.update(zip(some, said, strict=True))
        return [texts[n] for n in range(len(prompts))]

    def _choice(self, name: str, path: str) -> None:
        suite = self._suite
        shots = suite.shots_of(name)
        examples = None
        if name in suite.examples:
            field = f"Suite.examples of {name}"
            examples = read_items(suite.examples[name], field, examples=True)
        choice = Choice.prepare(
            name,
            read_items(path, f"Suite.choice of {name}"),
            self._model,
            Form(suite.style_of(name), suite.wording_of(name)),
            shots=shots,
            examples=examples,
            limit=suite.limit,
            most=self._run.model.max_positions,
            both=self._both,
        )

        def make(scores: list[Scored], step: int) -> tuple[Record, list[Record]]:
            return choice.record(scores), choice.answers(scores)

        self._scored["choice", name] = choice.flat(), make
        form = choice.form
        self._keys.add(Key("choice", name, shots, form.style, form.wording, len(choice.items)))

    def _pairs(self, name: str, path: str) -> None:
        some = _spread(pairs.read_pairs(find(path)), self._suite.limit)

        def make(scores: list[Scored], step: int) -> tuple[Record, list[Record]]:
            found = [
                {"id": p.id, "taiwan": a.log_likelihood, "mainland": b.log_likelihood}
                for p, a, b in zip(some, scores[::2], scores[1::2], strict=True)
            ]
            return pairs.pairs_record(some, scores, step, name), found

        self._scored["pairs", name] = pairs.pair_requests(some, self._model), make
        self._keys.add(Key("pairs", name, size=len(some)))

    def _probes(self, name: str, path: str) -> None:
        some = _spread(pairs.read_probes(find(path)), self._suite.limit)

        def make(scores: list[Scored], step: int) -> tuple[Record, list[Record]]:
            rest = iter(scores)
            found = [
                {"id": p.id, **{end: next(rest).log_likelihood for end in (*p.right, *p.wrong)}}
                for p in some
            ]
            return pairs.probes_record(some, scores, step, name), found

        self._scored["probes", name] = pairs.probe_requests(some, self._model), make
        self._keys.add(Key("probes", name, size=len(some)))

    def _texts(self, name: str, path: str) -> None:
        lines = find(path).read_text(encoding="utf-8").splitlines()
        prompts = [line for line in lines if line.strip()]
        if not prompts:
            raise ValueError(f"{path} has no prompts; write one a line.")
        self._prompts[name] = _spread(prompts, self._suite.limit)

    def _write(self, step: int, name: str, lines: Iterable[Record]) -> None:
        if self._details is None or jax.process_index() != 0:
            return
        folder = self._details / str(step)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_writer(folder / f"{name}.jsonl") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _spread(items: list[T], limit: int | None) -> list[T]:
    """Returns at most `limit` items, evenly spaced."""
    if limit is None or limit >= len(items):
        return items
    return [items[i * len(items) // limit] for i in range(limit)]
