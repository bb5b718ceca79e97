"""Continued text: prompts to ids and back, stopped at strings, printed as it comes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax

from twjax.config import Run
from twjax.evaluation.generate import TOKENS_A_CALL, stream
from twjax.evaluation.sampling import GREEDY, Sampling
from twjax.models.decoder import Network
from twjax.models.encdec import EncoderDecoder
from twjax.vocab.tokenizer import Tokenizer


class Writer:
    """Text from ids, one at a time, up to EOS, one of `end_ids` or one of the strings of `stop`.

    `write` takes what is certain: whole characters that can't be the beginning of a stop string.
    """

    def __init__(
        self,
        model: Tokenizer,
        stop: Sequence[str] = (),
        write: Callable[[str], None] | None = None,
        *,
        end_ids: Collection[int] = (),
        continued: bool = True,
    ):
        if "" in stop:
            raise ValueError("a stop string is empty; every text contains it.")
        self._model, self._stop, self._write = model, tuple(stop), write
        self._ends = {model.eos_id, *end_ids}
        self._stream = model.stream(continued=continued)
        self._text, self._written = "", 0
        self.done = False

    @property
    def text(self) -> str:
        """What has been said, without the stop string."""
        return self._text

    def push(self, id: int) -> None:
        """Takes one more id."""
        if self.done:
            return
        if id in self._ends:
            self.end()
        elif id < self._model.vocab_size:
            # Rows of the model beyond the vocabulary stand for no text.
            self._add(self._stream.push(id))

    def end(self) -> None:
        """Says that no id follows."""
        if not self.done:
            self._add(self._stream.end())
            self.done = True
            self._flush(len(self._text))

    def _add(self, text: str) -> None:
        searched = len(self._text)
        self._text += text
        longest = max(map(len, self._stop), default=0)
        found = [self._text.find(stop, max(0, searched - longest + 1)) for stop in self._stop]
        if places := [place for place in found if place >= 0]:
            self._text, self.done = self._text[: min(places)], True
        self._flush(len(self._text) - (0 if self.done else self._held()))

    def _held(self) -> int:
        """Returns how many of the last characters may begin a stop string."""
        longest = max(map(len, self._stop), default=0)
        for size in range(min(longest - 1, len(self._text)), 0, -1):
            if any(stop.startswith(self._text[-size:]) for stop in self._stop):
                return size
        return 0

    def _flush(self, end: int) -> None:
        if self._write is not None and end > self._written:
            self._write(self._text[self._written : end])
            self._written = end


def prompt_ids(model: Tokenizer, prompt: str, *, both: bool) -> list[int]:
    """Returns a prompt's ids as a document begins; `both` for an encoder-decoder.

    Something must begin, so EOS begins an empty one. An encoder's input ends as in training.
    """
    ids = [*model.start, *model.encode(prompt)]
    return [*ids, model.eos_id] if both or not ids else ids


def continue_prompts(
    run: Run,
    network: Network | EncoderDecoder,
    params: Any,
    prompts: Sequence[str | Sequence[int]],
    model: Tokenizer,
    *,
    mesh: jax.sharding.Mesh,
    tokens: int,
    sampling: Sampling = GREEDY,
    stop: Sequence[str] = (),
    end_ids: Collection[int] = (),
    write: Callable[[str], None] | None = None,
    numbers: Sequence[int] | None = None,
) -> list[str]:
    """Returns the text that the network adds to each prompt, a text or its ids, up to its end.

    EOS, an id of `end_ids` or a string of `stop` ends it; none of them is in the text. Who
    continues prompts in several calls gives their `numbers` among all: draws follow from them.

    `write` gets the text of a single prompt as it comes.
    """
    if write is not None and len(prompts) != 1:
        raise ValueError(f"only one prompt's text can be written as it comes, not {len(prompts)}.")
    both = isinstance(network, EncoderDecoder)
    # A decoder's text goes on from the prompt; an encoder-decoder's begins.
    writers = [Writer(model, stop, write, end_ids=end_ids, continued=not both) for _ in prompts]
    for columns in stream(
        network,
        params,
        [prompt_ids(model, p, both=both) if isinstance(p, str) else p for p in prompts],
        tokens=tokens,
        mesh=mesh,
        sampling=sampling,
        dtype=run.step.dtype,
        attention=run.step.attention,
        at_once=TOKENS_A_CALL if write is None else 1,
        numbers=numbers,
    ):
        for writer, ids in zip(writers, columns.tolist(), strict=True):
            for id in ids:
                writer.push(id)
        if all(writer.done for writer in writers):
            break
    for writer in writers:
        writer.end()
    return [writer.text for writer in writers]
