"""What every tokenizer can do, whatever file it comes from: text ⇄ ids, and the ids' own bytes."""

from __future__ import annotations

import abc
import codecs
import functools
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np


class Tokenizer(abc.ABC):
    """Encodes text to ids and decodes ids to text; equal to `transformers` in every id.

    `vocab_size` is one more than the highest id. `bos_id`, `eos_id`, `pad_id` and `unk_id` are -1
    where there is none. `adds_bos` says whether a document begins with BOS: Gemma and Llama were
    trained so, Qwen, GPT-2 and T5 weren't. `sha256` covers all that decides ids.
    """

    path: pathlib.Path
    sha256: str
    vocab_size: int
    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int
    adds_bos: bool
    # GPT-1 writes the space behind a word into the word's last piece.
    _space_behind = False

    @abc.abstractmethod
    def encode_batch(
        self, texts: Sequence[str], threads: int = 1, *, special: bool = False
    ) -> list[list[int]]:
        """Returns the ids of each text, without BOS or EOS, on `threads` threads.

        Names of special tokens in a text are text like any other, unless `special`.
        """

    @abc.abstractmethod
    def id_to_piece(self, id: int) -> str:
        """Returns the tokenizer's own name of an id."""

    @property
    @abc.abstractmethod
    def bytes_of_ids(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes that each id stands for; nothing for control ids and `unk_id`."""

    @property
    @abc.abstractmethod
    def partial(self) -> np.ndarray:
        """bool [vocab_size]: ids that stand for bytes and not for whole characters."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Returns the ids of a text, without BOS or EOS."""
        return self.encode_batch([text], special=special)[0]

    @property
    def start(self) -> tuple[int, ...]:
        """The ids that a document begins with: BOS, or nothing."""
        return (self.bos_id,) if self.adds_bos else ()

    def decode(self, ids: Iterable[int], *, continued: bool = False) -> str:
        """Returns the text of ids; control ids are nothing, bytes that are no UTF-8 are U+FFFD.

        Where encoding puts a space before a text, decoding takes it off, unless the ids are
        `continued` from others.
        """
        table = self.bytes_of_ids
        data = b"".join(table[id] for id in _checked(ids, len(table)))
        if self._space_in_front and not continued:
            data = data.removeprefix(b" ")
        if self._space_behind:
            data = data.removesuffix(b" ")
        return data.decode(errors="replace")

    def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
        """Returns the text of each row of ids."""
        return [self.decode(ids) for ids in batch]

    def stream(self, *, continued: bool = False) -> Stream:
        """Returns a decoder that takes ids one by one and never gives half a character."""
        in_front = self._space_in_front and not continued
        return Stream(self.bytes_of_ids, in_front, self._space_behind)

    def token_bytes(self) -> np.ndarray:
        """Returns int32 [vocab_size]: how many UTF-8 bytes of text each id stands for.

        Over the ids of a text they sum to the length in bytes of the text that the ids spell:
        the text itself where nothing is normalised and no byte is unknown (byte-level BPE, byte
        fallback); else the normalised text (NFC for Qwen, NFKC for T5), with one byte more where a
        space is put in front of a document (Llama 2, T5), without what is unknown.
        """
        return np.array([len(piece) for piece in self.bytes_of_ids], np.int32)

    @functools.cached_property
    def _space_in_front(self) -> bool:
        table = self.bytes_of_ids
        return b"".join(table[id] for id in self.encode("a")).startswith(b" ")

    @functools.cached_property
    def sentinels(self) -> int:
        """How many ids at the end are T5's sentinels: `<extra_id_k>` is `vocab_size` - 1 - k."""
        count = 0
        while count < self.vocab_size:
            name = self.id_to_piece(self.vocab_size - 1 - count)
            # mT5's model has them as pieces, with its mark of a space.
            if name.removeprefix("\u2581") != f"<extra_id_{count}>":
                break
            count += 1
        return count


class Stream:
    """Decodes ids as they come: `push` returns the text that is complete by now."""

    def __init__(
        self, bytes_of_ids: Sequence[bytes], space_in_front: bool = False, behind: bool = False
    ):
        self._bytes_of_ids = bytes_of_ids
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._space_in_front, self._behind = space_in_front, behind
        self._held = b""

    def push(self, id: int) -> str:
        """Returns the characters that `id` completes, often none or several."""
        (id,) = _checked([id], len(self._bytes_of_ids))
        data = self._bytes_of_ids[id]
        if self._space_in_front and data:
            data, self._space_in_front = data.removeprefix(b" "), False
        if self._behind and data:
            data, self._held = self._held + data.removesuffix(b" "), data[len(data.rstrip(b" ")) :]
        return self._decoder.decode(data)

    def end(self) -> str:
        """Returns what is left: U+FFFD for a character that never became whole."""
        return self._decoder.decode(b"", final=True)


def _checked(ids: Iterable[int], size: int) -> list[int]:
    checked = [int(id) for id in ids]
    for id in checked:
        if not 0 <= id < size:
            raise ValueError(f"id {id} is outside the vocabulary (0 to {size - 1}).")
    return checked
