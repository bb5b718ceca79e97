"""A twjax checkpoint as a model of EleutherAI's `lm_eval`, so that its tasks drive it.

`lm_eval` is an extra: `pip install 'twjax[harness]'`. Nothing else here imports it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import jax
from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]
from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
from lm_eval.utils import (  # pyright: ignore[reportMissingImports]
    get_rolling_token_windows,
    make_disjoint_window,
)

from twjax.config import Run
from twjax.evaluation.batching import Request
from twjax.evaluation.choice import text_request
from twjax.evaluation.continuation import continue_prompts, prompt_ids
from twjax.evaluation.sampling import Sampling
from twjax.evaluation.scoring import Scorer
from twjax.models.encdec import EncoderDecoder
from twjax.models.network import AnyNetwork
from twjax.vocab.tokenizer import Tokenizer

# Of `lm_eval`'s own models, where a task doesn't say.
_NEW_TOKENS = 256
# Prompts continued together; they are sorted by length.
_TOGETHER = 64


class Harnessed(LM):
    """Answers `lm_eval`'s requests with a network's parameters.

    `max_length` is how many ids the model reads: what comes before is cut off, as `lm_eval`'s own
    models do. Texts begin as documents do in training: with BOS where the vocabulary adds it.
    """

    def __init__(
        self,
        run: Run,
        network: AnyNetwork,
        mesh: jax.sharding.Mesh,
        params: Any,
        model: Tokenizer,
        *,
        max_length: int,
        end_ids: Collection[int] = (),
    ):
        super().__init__()
        self._run, self._network, self._mesh, self._params = run, network, mesh, params
        self._model, self._ends = model, tuple(end_ids)
        self._scorer = Scorer(run, network, mesh)
        self._both = isinstance(network, EncoderDecoder)
        self.max_length = max_length
        # How many requests were cut at their left.
        self.shortened = 0

    @property
    def tokenizer_name(self) -> str:
        """The vocabulary's hash, by which `lm_eval` keeps what it caches apart."""
        return self._model.sha256

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        raise NotImplementedError("twjax has no chat templates yet; leave --apply_chat_template.")

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Returns (ln P(continuation | context), whether it is greedy) for pairs of texts."""
        asked = []
        for context, continuation in (instance.args for instance in requests):
            # The space before a word belongs to the word.
            text = context.rstrip()
            continuation = context[len(text) :] + continuation
            asked.append(
                self._fitting(text_request(self._model, text, continuation, both=self._both))
            )
        scores = self._scorer(self._params, asked, "lm_eval")
        return [(score.log_likelihood, score.greedy) for score in scores]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Returns ln P of whole texts, in windows that predict each id once."""
        prefix = self._model.bos_id if self._model.bos_id >= 0 else self._model.eos_id
        asked: list[Request] = []
        owners: list[int] = []
        for number, (text,) in enumerate(instance.args for instance in requests):
            windows = get_rolling_token_windows(
                self._model.encode(text), prefix, self.max_length, 1
            )
            for context, predicted in map(make_disjoint_window, windows):
                asked.append(Request(tuple(context), tuple(predicted)))
                owners.append(number)
        totals = [0.0] * len(requests)
        scores = self._scorer(self._params, asked, "lm_eval")
        for number, score in zip(owners, scores, strict=True):
            totals[number] += score.log_likelihood
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Returns what the model writes after each text, up to a stop string or its end."""
        texts = [""] * len(requests)
        prompts = [
            prompt_ids(self._model, instance.args[0], both=self._both) for instance in requests
        ]
        wanted: dict[str, list[int]] = {}
        for number, instance in enumerate(requests):
            wanted.setdefault(json.dumps(instance.args[1], sort_keys=True), []).append(number)
        for text, numbers in wanted.items():
            how = json.loads(text)
            # Prompts of one call are padded to the longest.
            numbers.sort(key=lambda n: -len(prompts[n]))
            for first in range(0, len(numbers), _TOGETHER):
                some = numbers[first : first + _TOGETHER]
                said = self._continue([prompts[n] for n in some], some, how)
                for number, words in zip(some, said, strict=True):
                    texts[number] = words
        return texts

    def _continue(
        self, prompts: Sequence[list[int]], numbers: Sequence[int], how: dict[str, Any]
    ) -> list[str]:
        until = how.get("until") or []
        sample = bool(how.get("do_sample")) and float(how.get("temperature") or 0) > 0
        sampling = Sampling(
            temperature=float(how.get("temperature") or 0) if sample else 0.0,
            top_k=int(how["top_k"]) if sample and how.get("top_k") else None,
            top_p=float(how["top_p"]) if sample and how.get("top_p") else None,
        )
        tokens = int(how.get("max_gen_toks") or how.get("max_new_tokens") or _NEW_TOKENS)
        # A decoder's new tokens are in the same row.
        room = self.max_length - (0 if self._both else tokens)
        if room < 1:
            raise ValueError(
                f"a task asks for {tokens} new tokens, but the model reads {self.max_length} ids "
                "at once (--max-length); lower its max_gen_toks."
            )
        self.shortened += sum(len(prompt) > room for prompt in prompts)
        return continue_prompts(
            self._run,
            self._network,
            self._params,
            [prompt[-room:] for prompt in prompts],
            self._model,
            mesh=self._mesh,
            tokens=tokens,
            sampling=sampling,
            stop=[until] if isinstance(until, str) else list(until),
            end_ids=self._ends,
            numbers=numbers,
        )

    def _fitting(self, request: Request) -> Request:
        """Returns the request without what is too far left for the model."""
        context, continuation = request
        # A decoder reads both in one row, but for the last id; an encoder the context alone.
        room = self.max_length if self._both else self.max_length + 1 - len(continuation)
        if len(context) <= room:
            return request
        self.shortened += 1
        if room < 1:
            continuation = continuation[-self.max_length :]
        return Request(context[-max(1, room) :], continuation)
