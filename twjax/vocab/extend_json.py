"""Adds pieces and merges to a tokenizer.json: every old id stays, and so do the old merges."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from twjax.vocab.extend_pieces import Pieces
from twjax.vocab.tokenizer_json import HuggingFaceTokenizer, letters

_Merge = tuple[str, str]
# Below the score of any piece: the log probability of what text never leads to.
_NEVER = -1e4


def extend_json(
    base: pathlib.Path, pieces: Pieces, size: int, chosen: Mapping[str, float] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Returns the file with up to `size` more pieces, and their names in the order of their ids.

    The new merges come behind all old ones. Byte-level pieces are built byte by byte from the
    left; a new piece that isn't whole characters only begins Han or full-width punctuation, so
    text without what was added keeps its ids. `chosen` are the pieces and
    scores of the SentencePiece model that is the file's other form.
    """
    model = HuggingFaceTokenizer(base)
    content = json.loads(base.read_text(encoding="utf-8"))
    kind = content["model"]["type"]
    if kind == "Unigram" and chosen is not None:
        return _unigram(model, content, chosen), list(chosen)
    if kind != "BPE":
        raise ValueError(f"{base}: is no BPE model; extend the SentencePiece model that made it.")
    # Added tokens get their ids from the number of pieces unless they are pieces themselves.
    vocab: dict[str, int] = content["model"]["vocab"]
    vocab |= {token["content"]: token["id"] for token in content["added_tokens"]}
    merges = [
        tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in content["model"]["merges"]
    ]
    if model.kind not in ("bytes", "mark"):
        raise ValueError(f"{base}: a BPE model that marks the ends of words can't be extended.")
    known, unreached = set(merges), set[str]()
    while True:
        if model.kind == "bytes":
            new = _byte_level(model, pieces, vocab, size, unreached)
        elif chosen is not None:
            new = _characters(chosen, vocab)
        else:
            wanted = (piece for piece in _candidates(pieces) if piece not in unreached)
            new = _characters(wanted, vocab)[:size]
        ids = {name: model.vocab_size + number for number, (name, _) in enumerate(new)}
        more = [list(way) for _, ways in new for way in ways if way not in known]
        content["model"]["vocab"] = vocab | ids
        content["model"]["merges"] = [*map(list, merges), *more]
        if chosen is not None or not (lost := _unreached(model.kind, content, ids)):
            return content, list(ids)
        unreached |= lost


def _unreached(kind: str, content: dict[str, Any], ids: Mapping[str, int]) -> set[str]:
    """Returns the new pieces whose own text doesn't lead to them: rows that nothing would train.

    A pre-tokenizer may cut a letter from its marks, and old merges may take a word's inner parts.
    """
    from tokenizers import Tokenizer

    texts: dict[str, str] = {}
    for name in ids:
        data = bytes(letters()[c] for c in name) if kind == "bytes" else name.encode()
        # What isn't whole characters is reached through those that it begins.
        with contextlib.suppress(UnicodeDecodeError):
            texts[name] = data.decode()
    backend = Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    rows = backend.encode_batch(list(texts.values()), add_special_tokens=False)
    return {name for name, row in zip(texts, rows, strict=True) if ids[name] not in row.ids}


def _unigram(
    model: HuggingFaceTokenizer, content: dict[str, Any], chosen: Mapping[str, float]
) -> dict[str, Any]:
    """A unigram's ids are places in its list; added tokens behind it become entries of it."""
    listed = content["model"]["vocab"]
    listed += [
        [model.id_to_piece(id) or f"<unused_id_{id}>", _NEVER]
        for id in range(len(listed), model.vocab_size)
    ]
    listed += [[name, score] for name, score in chosen.items()]
    return content


def _byte_level(
    model: HuggingFaceTokenizer,
    pieces: Pieces,
    vocab: dict[str, int],
    size: int,
    unreached: set[str],
) -> list[tuple[str, list[_Merge]]]:
    to_letter = {byte: letter for letter, byte in letters().items()}

    def named(text: str) -> str:
        return "".join(to_letter[byte] for byte in text.encode())

    new: dict[str, list[_Merge]] = {}

    def join(parts: list[str], chain: dict[str, list[_Merge]]) -> str:
        left = parts[0]
        for right in parts[1:]:
            if left + right not in vocab and left + right not in new:
                chain[left + right] = [(left, right)]
            left += right
        return left

    def names_of(texts: Iterable[str]) -> list[list[str]]:
        rows = model.encode_batch(list(texts), threads=2)
        return [[model.id_to_piece(id) for id in row] for row in rows]

    points = sorted({point for character in pieces.characters for point in character})
    parts_of = dict(zip(points, names_of(points), strict=True))
    for character, parts in zip(pieces.characters, names_of(pieces.characters), strict=True):
        chain: dict[str, list[_Merge]] = {}
        apart = [parts_of[point] for point in character]
        if parts == [name for names in apart for name in names]:
            # A letter and its marks: each from its bytes first.
            parts = [join(names, chain) for names in apart]
        whole = join(parts, chain)
        begun = (bytes(letters()[letter] for letter in name) for name in chain)
        # What a normalizer composes is never met in this form.
        if whole == named(character) and whole not in unreached and all(map(_may_begin, begun)):
            new |= chain if len(new) + len(chain) <= size else {}
    for left, right in pieces.words:
        a, b = named(left), named(right)
        if a + b in vocab or a + b in new or a + b in unreached or len(new) >= size:
            continue
        if (a in vocab or a in new) and (b in vocab or b in new):
            new[a + b] = [(a, b)]
    return list(new.items())


def _may_begin(data: bytes) -> bool:
    """Whether bytes are whole characters, or begin only Han or full-width punctuation in UTF-8."""
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        han = 0xE4 <= data[0] <= 0xE9 or (data[0] == 0xF0 and 0xA0 <= data[1] <= 0xB3)
        # U+3000 to U+303F, U+FF00 to U+FF3F.
        return han or data in (b"\xe3\x80", b"\xef\xbc")


def _candidates(pieces: Pieces) -> list[str]:
    return [*pieces.characters, *(a + b for a, b in pieces.words)]


def _characters(pieces: Iterable[str], vocab: dict[str, int]) -> list[tuple[str, list[_Merge]]]:
    """As SentencePiece merges: any two pieces that make a third."""
    known = set(vocab)
    new: list[tuple[str, list[_Merge]]] = []
    for piece in pieces:
        if piece in known:
            continue
        cuts = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        ways = [way for way in cuts if known.issuperset(way)]
        if ways or len(piece) == 1:
            known.add(piece)
            new.append((piece, ways))
    return new
