"""Adds pieces behind those of a SentencePiece model: every old id stays what it was."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import Any

from twjax.vocab.extend_pieces import Pieces

# `ModelProto.SentencePiece.Type` of SentencePiece's own format: no text leads to either.
_CONTROL, _UNUSED = 3, 5


def extend_sentencepiece(
    base: pathlib.Path, pieces: Pieces, size: int, between: Sequence[str] = ()
) -> tuple[bytes, dict[str, float]]:
    """Returns a model with up to `size` more pieces, and their scores, in the order of their ids.

    BPE: the new scores are below all old ones, so old merges come first. Unigram: a new piece is
    scored a little above what its characters cost together, so that it is preferred to them.
    `between` are the names of the ids behind the model's own, which files beside it add: they
    become pieces that no text leads to, so that the new ids begin behind them.
    """
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(base.read_bytes())
    old = {piece.piece: piece.score for piece in proto.pieces}
    for number, name in enumerate(between, start=len(proto.pieces)):
        unnamed = f"<unused_id_{number}>"
        proto.pieces.add(piece=name or unnamed, score=0.0, type=_CONTROL if name else _UNUSED)
    taken = old.keys() | set(between)
    wanted = [c for c in pieces.characters if c not in taken]
    wanted += [a + b for a, b in pieces.words if a + b not in taken]
    if proto.trainer_spec.model_type == 2:
        scores = _falling(min(old.values()), wanted)
    elif proto.trainer_spec.model_type == 1:
        scores = _beside(old, wanted)
    else:
        raise ValueError(f"{base}: is neither a BPE nor a unigram model; it can't be extended.")

    def built(chosen: list[str]) -> bytes:
        changed = type(proto)()
        changed.CopyFrom(proto)
        for piece in chosen:
            changed.pieces.add(piece=piece, score=scores[piece])
        changed.trainer_spec.vocab_size = len(changed.pieces)
        return changed.SerializeToString()

    def reached(chosen: list[str]) -> list[str]:
        processor = sentencepiece.SentencePieceProcessor(model_proto=built(chosen))  # type: ignore
        first = len(proto.pieces)
        ids = processor.encode(chosen, out_type=int, num_threads=4)
        return [w for n, (w, row) in enumerate(zip(chosen, ids, strict=True)) if first + n in row]

    # A piece that its own text doesn't lead to would be a row that is never trained, and a merge
    # through one that was dropped leads nowhere itself.
    while wanted != (left := reached(wanted)):
        wanted = left
    # What leads to a piece comes before it, so the first ones stand without the rest.
    chosen = wanted[:size]
    return built(chosen), {piece: scores[piece] for piece in chosen}


def _falling(lowest: float, wanted: list[str]) -> dict[str, float]:
    return {piece: lowest - 1 - n for n, piece in enumerate(wanted)}


def _beside(old: dict[str, float], wanted: list[str]) -> dict[str, float]:
    """Returns log probabilities: Zipf's for the rank, never below what unknown text is scored by.

    Zipf 1949: the frequency of the r-th is proportional to 1/r. The lowest old score stays the
    lowest, since SentencePiece scores unknown characters relative to it.
    """
    lowest = min(old.values())
    total = math.log(len(wanted) + 1) + 1
    return {
        piece: max(lowest, -math.log((n + 1) * total))
        for n, piece in enumerate(wanted)
    }  # fmt: skip
