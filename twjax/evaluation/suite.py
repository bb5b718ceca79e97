"""Everything that a `Suite` names, opened and checked at once, then scored with parameters."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import jax

from twjax.config import Run, Suite
from twjax.config import resolve as find
from twjax.evaluation import localisation, pairs
from twjax.evaluation.batching import NotANumber, Request
from twjax.evaluation.choice import Choice, Form
from twjax.evaluation.continuation import continue_prompts, prompt_ids
from twjax.evaluation.generate import require_positions
from twjax.evaluation.items import read_items
from twjax.evaluation.sampling import Sampling
from twjax.evaluation.scoring import Scored, Scorer
from twjax.models.encdec import EncoderDecoder
from twjax.models.network import AnyNetwork
from twjax.storage import atomic_writer
from twjax.vocab.tokenizer import Tokenizer

# Prompts continued together.
_TOGETHER = 32
# What each kind of record is about.
_FIGURES = {"choice": "accuracy", "pairs": "preferred", "probes": "right"}

T = TypeVar("T")
Record = dict[str, Any]
# A part's requests, and its record and what was found item by item from their scores.
_Scored = tuple[list[Request], Callable[[list[Scored], int], tuple[Record, list[Record]]]]


class SuiteScores:
    """Scores parameters on all parts of a suite.

    `model` is the vocabulary that the run is trained with; `end_ids` tells which ids end a text
    beside its EOS, and is asked when texts are written. With `details` each question's, pair's
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
        end_ids: Callable[[], Collection[int]] = tuple,
        details: pathlib.Path | None = None,
    ):
        self._run, self._network, self._mesh, self._suite = run, network, mesh, suite
        self._model, self._end_ids, self._details = model, end_ids, details
        self._scorer = Scorer(run, network, mesh)
        most = suite.max_length or run.data.longest
        self._most = min(most, run.model.max_positions or most)
        self._both = isinstance(network, EncoderDecoder)
        self._scored: dict[tuple[str, str], _Scored] = {}
        self._prompts: dict[str, list[str]] = {}
        # What the record of each (kind, task) will say of what is asked.
        self.settings: dict[tuple[str, str], dict[str, Any]] = {}
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
    def keys(self) -> frozenset[tuple[str, str]]:
        """(kind, task) of every record that a call returns."""
        return frozenset({*self._scored, *(("writing", name) for name in self._prompts)})

    def __call__(self, params: Any, step: int) -> list[Record]:
        """Returns one record a part, in the suite's order.

        Raises NotANumber, which has these records, where a log-likelihood is none.
        """
        records, problem = [], None
        for (kind, name), (requests, make) in self._scored.items():
            try:
                record, found = make(self._scorer(params, requests, f"{kind} {name}"), step)
            except NotANumber as error:
                problem, shots = problem or error, self._suite.shots_of(name)
                more = {"shots": shots} if kind == "choice" else {}
                records.append(
                    {"kind": kind, "task": name, **more, "step": step, _FIGURES[kind]: math.nan}
                )
                continue
            records.append({**record, "step": step})
            self._write(step, f"{kind}-{name}", found)
        for name, prompts in self._prompts.items():
            texts = self._continued(params, prompts)
            records.append(localisation.measure(texts).record(step, name))
            lines = [{"prompt": p, "text": t} for p, t in zip(prompts, texts, strict=True)]
            self._write(step, f"writing-{name}", lines)
        if problem is not None:
            raise NotANumber(str(problem), records)
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
                end_ids=self._end_ids(),
                numbers=some,
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
            most=self._most,
            both=self._both,
        )

        def make(scores: list[Scored], step: int) -> tuple[Record, list[Record]]:
            return choice.record(scores), choice.answers(scores)

        self._scored["choice", name] = choice.flat(), make
        self.settings["choice", name] = {
            "style": choice.form.style,
            "wording": choice.form.wording,
            "shots": choice.shots,
            "items": len(choice.items),
        }

    def _pairs(self, name: str, path: str) -> None:
        some = _spread(pairs.read_pairs(find(path)), self._suite.limit)

        def make(scores: list[Scored], step: int) -> tuple[Record, list[Record]]:
            found = [
                {"id": p.id, "taiwan": a.log_likelihood, "mainland": b.log_likelihood}
                for p, a, b in zip(some, scores[::2], scores[1::2], strict=True)
            ]
            return pairs.pairs_record(some, scores, step, name), found

        requests = pairs.pair_requests(some, self._model, both=self._both)
        self._scorer.check(requests, [p.id for p in some for _ in range(2)])
        self._scored["pairs", name] = requests, make
        self.settings["pairs", name] = {"pairs": len(some)}

    def _probes(self, name: str, path: str) -> None:
        some = _spread(pairs.read_probes(find(path)), self._suite.limit)

        def make(scores: list[Scored], step: int) -> tuple[Record, list[Record]]:
            rest = iter(scores)
            found = [
                {"id": p.id, **{end: next(rest).log_likelihood for end in (*p.right, *p.wrong)}}
                for p in some
            ]
            return pairs.probes_record(some, scores, step, name), found

        requests = pairs.probe_requests(some, self._model, both=self._both)
        self._scorer.check(requests, [p.id for p in some for _ in (*p.right, *p.wrong)])
        self._scored["probes", name] = requests, make
        self.settings["probes", name] = {"probes": len(some)}

    def _texts(self, name: str, path: str) -> None:
        lines = find(path).read_text(encoding="utf-8").splitlines()
        prompts = [line for line in lines if line.strip()]
        if not prompts:
            raise ValueError(f"{path} has no prompts; write one a line.")
        prompts = _spread(prompts, self._suite.limit)
        rows = [prompt_ids(self._model, prompt, both=self._both) for prompt in prompts]
        require_positions(self._network, rows, self._suite.prompt_tokens)
        self._prompts[name] = prompts
        self.settings["writing", name] = {"texts": len(prompts)}

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
