"""Adds pieces and merges to a tokenizer.json: every old id stays, and so do the old merges."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from twjax.vocab.extend_pieces import Pieces
from twjax.vocab.tokenizer_json import HuggingFaceTokenizer, letters

_Merge = tuple[str, str]


def extend_json(base: pathlib.Path, pieces: Pieces, size: int) -> tuple[dict[str, Any], list[str]]:
    """Returns the file with up to `size` more pieces, and their names in the order of their ids.

    The new merges come behind all old ones. Byte-level pieces are built byte by byte from the
    left; a new piece that isn't whole characters only begins Han (UTF-8 beginning with E4 to E9,
    or F0 A0 to F0 B3), so text without what was added keeps its ids.
    """
    model = HuggingFaceTokenizer(base)
    content = json.loads(base.read_text(encoding="utf-8"))
    if content["model"]["type"] != "BPE":
        raise ValueError(f"{base}: is no BPE model; extend the SentencePiece model that made it.")
    # Added tokens get their ids from the number of pieces unless they are pieces themselves.
    vocab: dict[str, int] = content["model"]["vocab"]
    vocab |= {token["content"]: token["id"] for token in content["added_tokens"]}
    merges = [
        tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in content["model"]["merges"]
    ]
    if model.kind == "bytes":
        new = _byte_level(model, pieces, vocab, size)
    elif model.kind == "mark":
        new = _characters(pieces, vocab, size)
    else:
        raise ValueError(f"{base}: a BPE model that marks the ends of words can't be extended.")
    names: list[str] = []
    known = set(merges)
    for name, ways in new:
        names.append(name)
        vocab[name] = model.vocab_size + len(names) - 1
        merges += [way for way in ways if way not in known]
    content["model"]["merges"] = [list(merge) for merge in merges]
    return content, names


def _byte_level(
    model: HuggingFaceTokenizer, pieces: Pieces, vocab: dict[str, int], size: int
) -> list[tuple[str, list[_Merge]]]:
    to_letter = {byte: letter for letter, byte in letters().items()}

    def named(text: str) -> str:
        return "".join(to_letter[byte] for byte in text.encode())

    new: dict[str, list[_Merge]] = {}
    parts = model.encode_batch([*pieces.characters], threads=2)
    for character, ids in zip(pieces.characters, parts, strict=True):
        names = [model.id_to_piece(id) for id in ids]
        chain: dict[str, list[_Merge]] = {}
        left = names[0]
        for right in names[1:]:
            if left + right not in vocab and left + right not in new:
                chain[left + right] = [(left, right)]
            left += right
        whole = named(character)
        begun = [bytes(letters()[c] for c in name) for name in chain if name != whole]
        if left == whole and all(map(_begins_han, begun)) and len(new) + len(chain) <= size:
            new |= chain
    for left, right in pieces.words:
        a, b = named(left), named(right)
        if a + b in vocab or a + b in new or len(new) >= size:
            continue
        if (a in vocab or a in new) and (b in vocab or b in new):
            new[a + b] = [(a, b)]
    return list(new.items())


def _begins_han(data: bytes) -> bool:
    return 0xE4 <= data[0] <= 0xE9 or (data[0] == 0xF0 and 0xA0 <= data[1] <= 0xB3)


def _characters(pieces: Pieces, vocab: dict[str, int], size: int) -> list[tuple[str, list[_Merge]]]:
    """As SentencePiece merges: any two pieces that make a third."""
    known = set(vocab)
    new: list[tuple[str, list[_Merge]]] = []
    for piece in (*pieces.characters, *(a + b for a, b in pieces.words)):
        if piece in known or len(new) >= size:
            continue
        cuts = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        ways = [way for way in cuts if known.issuperset(way)]
        if ways or len(piece) == 1:
            known.add(piece)
            new.append((piece, ways))
    return new
