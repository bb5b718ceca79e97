"""A SentencePiece model as text ⇄ ids, without TensorFlow."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import sentencepiece

from twjax.vocab import tokenizer_files
from twjax.vocab.tokenizer import Tokenizer

# SentencePiece writes a space as this character, and so can't tell the two apart in its input.
_SPACE_MARK = "\u2581"
# pad, EOS, unk, BOS of `twjax vocab train`, by which its models are told from others.
_OURS = (0, 1, 2, 3)


class SentencePieceModel(Tokenizer):
    """A `.model` file; for a model of `twjax vocab train`, decode(encode(x)) == x for any text.

    SentencePiece itself would give a literal ▁ (U+2581) back as a space; a model of ours encodes
    its UTF-8 bytes as byte pieces instead. Other models do what they did when their network was
    trained. Lone surrogates are no text and raise UnicodeEncodeError.

    Documents begin with BOS if the model has one, unless a `tokenizer_config.json` beside a
    `tokenizer.model` says that they don't.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        if not self.path.is_file():
            raise ValueError(
                f"{self.path}: no such vocabulary; train it with `twjax vocab train CONFIG`."
            )
        proto = self.path.read_bytes()
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=proto)  # type: ignore
        except RuntimeError as error:
            raise ValueError(f"{self.path}: not a SentencePiece model ({error}).") from error
        pieces = self._processor
        ids = (pieces.pad_id(), pieces.eos_id(), pieces.unk_id(), pieces.bos_id())
        self._ours = ids == _OURS
        self.pad_id, self.eos_id, self.unk_id, self.bos_id = ids
        self.adds_bos: bool = self.bos_id >= 0
        self.sha256: str = tokenizer_files.vocabulary_sha256(self.path)
        self._more: dict[int, str] = {}
        if (settings := tokenizer_files.settings(self.path)) is not None:
            self._apply(settings)
        self.vocab_size: int = max([pieces.vocab_size() - 1, *self._more]) + 1

    def _apply(self, settings: dict[str, Any]) -> None:
        """Takes special tokens from a folder; those behind the pieces get ids of their own."""
        size = self._processor.vocab_size()
        for id, token in settings["added"].items():
            if id < size and self._processor.id_to_piece(id) == token["content"]:
                continue
            if id < size or not token["special"]:
                raise ValueError(
                    f"{self.path}: the token {token['content']!r} (id {id}) that the files beside "
                    "it add would be cut out of text before SentencePiece sees it; use the "
                    "tokenizer.json that transformers' save_pretrained writes."
                )
            self._more[id] = token["content"]
        known = {name: id for id, name in self._more.items()}
        for role, name in settings["named"].items():
            if role in ("bos", "eos", "pad", "unk"):
                id = known.get(name, self._processor.piece_to_id(name))
                if id != self._processor.unk_id() or role == "unk":
                    setattr(self, f"{role}_id", id)
        self.adds_bos = self.bos_id >= 0 and settings["adds_bos"] is not False

    def __reduce__(self):
        return SentencePieceModel, (self.path,)

    def encode_batch(
        self, texts: Sequence[str], threads: int = 1, *, special: bool = False
    ) -> list[list[int]]:
        if special:
            raise ValueError(
                f"{self.path}: SentencePiece has no rule for special tokens in a text; use a "
                "tokenizer.json, or put their ids between those of the text."
            )
        if not self._ours:
            return self._processor.encode(list(texts), out_type=int, num_threads=threads)
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

    def id_to_piece(self, id: int) -> str:
        """Returns SentencePiece's name of an id, with ▁ for a space."""
        id = int(id)
        if id < self._processor.vocab_size():
            return self._processor.id_to_piece(id)
        return self._more.get(id, "")

    @functools.cached_property
    def bytes_of_ids(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes that each id stands for; nothing for control ids and `unk_id`."""
        processor, table = self._processor, []
        for id in range(processor.vocab_size()):
            piece = processor.id_to_piece(id)
            if processor.is_control(id) or processor.is_unknown(id) or processor.is_unused(id):
                table.append(b"")
            elif processor.is_byte(id):
                table.append(bytes([int(piece[3:5], 16)]))
            else:
                table.append(piece.replace(_SPACE_MARK, " ").encode())
        return (*table, *[b""] * (self.vocab_size - len(table)))

    @functools.cached_property
    def partial(self) -> np.ndarray:
        """bool [vocab_size]: byte pieces."""
        found = np.zeros(self.vocab_size, bool)
        for id in range(self._processor.vocab_size()):
            found[id] = self._processor.is_byte(id)
        return found
