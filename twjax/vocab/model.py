"""A SentencePiece model as exact text ⇄ ids, without TensorFlow."""

from __future__ import annotations

import codecs
import functools
import hashlib
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

# SentencePiece writes a space as this character, and so can't tell the two apart in its input.
_SPACE_MARK = "\u2581"


class SentencePieceModel:
    """Encodes and decodes text; for a model that doesn't normalise, decode(encode(x)) == x.

    SentencePiece itself would give a literal ▁ (U+2581) back as a space; here its UTF-8 bytes are
    encoded as byte pieces instead. Lone surrogates are no text and raise UnicodeEncodeError.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        if not self.path.is_file():
            raise ValueError(
                f"{self.path}: no such vocabulary; train it with `twjax vocab train CONFIG`."
            )
        proto = self.path.read_bytes()
        self.sha256: str = hashlib.sha256(proto).hexdigest()
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=proto)  # type: ignore
        except RuntimeError as error:
            raise ValueError(f"{self.path}: not a SentencePiece model ({error}).") from error
        self.vocab_size: int = self._processor.vocab_size()
        self.pad_id: int = self._processor.pad_id()
        self.eos_id: int = self._processor.eos_id()
        self.unk_id: int = self._processor.unk_id()
        self.bos_id: int = self._processor.bos_id()

    def __reduce__(self):
        return SentencePieceModel, (self.path,)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without BOS or EOS."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str], threads: int = 1) -> list[list[int]]:
        """Returns the ids of each text, on `threads` threads."""
        parts: list[str] = []
        counts: list[int] = []
        for text in texts:
            pieces = text.split(_SPACE_MARK)
            parts += pieces
            counts.append(len(pieces))
        encoded = iter(self._processor.encode(parts, out_type=int, num_threads=threads))
        ids: list[list[int]] = []
        for count in counts:
            row = list(next(encoded))
            for _ in range(count - 1):
                row += self._space_mark_ids
                row += next(encoded)
            ids.append(row)
        return ids

    @functools.cached_property
    def _space_mark_ids(self) -> list[int]:
        ids = [self._processor.piece_to_id(f"<0x{b:02X}>") for b in _SPACE_MARK.encode()]
        # Without byte fallback there is nothing better than SentencePiece's own choice.
        return ids if self.unk_id not in ids else self._processor.encode(_SPACE_MARK)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids; control ids are nothing, bytes that are no UTF-8 are U+FFFD."""
        table = self.bytes_of_ids
        return b"".join(table[id] for id in _checked(ids, len(table))).decode(errors="replace")

    def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
        """Returns the text of each row of ids."""
        return [self.decode(ids) for ids in batch]

    def stream(self) -> Stream:
        """Returns a decoder that takes ids one by one and never gives half a character."""
        return Stream(self.bytes_of_ids)

    def id_to_piece(self, id: int) -> str:
        """Returns SentencePiece's name of an id, with ▁ for a space."""
        return self._processor.id_to_piece(int(id))

    @functools.cached_property
    def bytes_of_ids(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes that each id stands for; nothing for control ids and `unk_id`."""
        processor, table = self._processor, []
        for id in range(self.vocab_size):
            piece = processor.id_to_piece(id)
            if processor.is_control(id) or processor.is_unknown(id) or processor.is_unused(id):
                table.append(b"")
            elif processor.is_byte(id):
                table.append(bytes([int(piece[3:5], 16)]))
            else:
                table.append(piece.replace(_SPACE_MARK, " ").encode())
        return tuple(table)

    def token_bytes(self) -> np.ndarray:
        """Returns int32 [vocab_size]: how many UTF-8 bytes of text each id stands for.

        Over the ids of any text they sum to its length in bytes (with byte fallback and without
        normalisation, as `twjax vocab train` makes models).
        """
        return np.array([len(piece) for piece in self.bytes_of_ids], np.int32)


class Stream:
    """Decodes ids as they come: `push` returns the text that is complete by now."""

    def __init__(self, bytes_of_ids: Sequence[bytes]):
        self._bytes_of_ids = bytes_of_ids
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, id: int) -> str:
        """Returns the characters that `id` completes, often none or several."""
        (id,) = _checked([id], len(self._bytes_of_ids))
        return self._decoder.decode(self._bytes_of_ids[id])

    def end(self) -> str:
        """Returns what is left: U+FFFD for a character that never became whole."""
        return self._decoder.decode(b"", final=True)


def _checked(ids: Iterable[int], size: int) -> list[int]:
    checked = [int(id) for id in ids]
    for id in checked:
        if not 0 <= id < size:
            raise ValueError(f"id {id} is outside the vocabulary (0 to {size - 1}).")
    return checked
