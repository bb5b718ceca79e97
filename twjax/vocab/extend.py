"""Adds Taiwanese pieces to somebody's tokenizer: every old id keeps its meaning."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any

from twjax import storage
from twjax.config.extension import RECORD, Extension
from twjax.vocab import tokenizer_files
from twjax.vocab.extend_json import extend_json
from twjax.vocab.extend_pieces import Pieces, find_pieces
from twjax.vocab.extend_sentencepiece import extend_sentencepiece
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

# Some candidates are pieces already, or are never reached.
_MARGIN = 2


def extend(
    base: str | pathlib.Path,
    texts: Iterable[str],
    size: int,
    output: str | pathlib.Path,
    *,
    characters: str = "",
) -> Extension:
    """Writes a folder with the tokenizer of `base` and up to `size` more pieces.

    `base` is a SentencePiece model, a `tokenizer.json`, or a Hugging Face folder, whose other
    tokenizer files are copied. Where it has both kinds of file, both get the same pieces with the
    same ids; the SentencePiece model decides which. `characters` get a piece whether they occur
    or not. Less than `size` are added where the texts hold no more. The record of what was done
    is written last.
    """
    if size < 1:
        raise ValueError(f"--size ({size}) must be at least 1.")
    base, output = pathlib.Path(base), pathlib.Path(output)
    files = tokenizer_files.located(base)
    readers = {file.name: load_vocabulary(file) for file in files}
    old = readers[files[0].name]
    _check_base(base, readers)
    _check_output(base, output)
    pieces = find_pieces(texts, _MARGIN * size, always=characters)
    output.mkdir(parents=True, exist_ok=True)
    (output / RECORD).unlink(missing_ok=True)
    if base.is_dir():
        for path in tokenizer_files.tokenizer_side_files(base):
            shutil.copy(path, output / path.name)
    names = _write(files, old, pieces, size, output)
    made = {file.name: load_vocabulary(output / file.name) for file in files}
    new = made[files[0].name]
    _check_alike(made, old.vocab_size, len(names))
    extension = Extension(
        output / RECORD,
        {name: reader.sha256 for name, reader in readers.items()},
        {name: reader.sha256 for name, reader in made.items()},
        old.vocab_size,
        tuple(names),
        tuple(map(tuple, _parts(old, new, len(names)))),
    )
    extension.write()
    return extension


def _write(
    files: list[pathlib.Path], old: Tokenizer, pieces: Pieces, size: int, output: pathlib.Path
) -> list[str]:
    """Writes each file with the new pieces; returns these, in the order of their ids."""
    scores: dict[str, float] | None = None
    names: list[str] = []
    for file in reversed(files):
        if file.suffix == ".json":
            content, names = extend_json(file, pieces, size, scores)
            with storage.atomic_writer(output / file.name) as out:
                out.write(json.dumps(content, ensure_ascii=False))
            _write_lists(file.parent, content, output)
        else:
            between = [
                old.id_to_piece(id) for id in range(pieces_in(file), old.vocab_size)
            ]  # fmt: skip
            proto, scores = extend_sentencepiece(file, pieces, size, between)
            names = list(scores)
            with storage.atomic_writer(output / file.name, "wb") as out:
                out.write(proto)
    return names


def pieces_in(file: pathlib.Path) -> int:
    """Returns the number of pieces of a SentencePiece model, added tokens not among them."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(file)).vocab_size()  # type: ignore


def _write_lists(base: pathlib.Path, content: dict[str, Any], output: pathlib.Path) -> None:
    """Writes the older form of byte-level BPE, where the base has it beside `tokenizer.json`."""
    if (base / "vocab.json").is_file() and (base / "merges.txt").is_file():
        storage.write_json(output / "vocab.json", content["model"]["vocab"])
        with storage.atomic_writer(output / "merges.txt") as out:
            out.write("#version: 0.2\n")
            out.writelines(f"{left} {right}\n" for left, right in content["model"]["merges"])


def _check_base(base: pathlib.Path, readers: dict[str, Tokenizer]) -> None:
    for name, reader in readers.items():
        if reader.sentinels:
            raise ValueError(
                f"{base}: {name} ends with T5's {reader.sentinels} sentinels, which are counted "
                "from the end of the vocabulary: pieces behind them would take their place."
            )
    if len(readers) < 2:
        return
    one, other = readers.values()
    # Tokens that only tokenizer.json adds are behind the pieces and have no name in the other.
    differ = [
        id
        for id in range(min(one.vocab_size, other.vocab_size))
        if one.id_to_piece(id) != other.id_to_piece(id)
    ]
    if differ:
        raise ValueError(
            f"{base}: {' and '.join(readers)} name {len(differ)} ids differently, the first is "
            f"{differ[0]} ({one.id_to_piece(differ[0])!r} and {other.id_to_piece(differ[0])!r}); "
            "one of them belongs to another model. Name the right file instead of the folder."
        )


def _check_output(base: pathlib.Path, output: pathlib.Path) -> None:
    """Refuses a folder that holds a tokenizer that wasn't made here, the base's above all."""
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"--output {output}: is a file; name a folder.")
    home = base if base.is_dir() else base.parent
    same = output.exists() and output.resolve() == home.resolve()
    if same or (tokenizer_files.present(output) and not (output / RECORD).is_file()):
        raise FileExistsError(
            f"--output {output}: holds {'the base itself' if same else 'another tokenizer'}; name "
            "a new folder."
        )


def _check_alike(made: dict[str, Tokenizer], first: int, count: int) -> None:
    """Both files of a pair must write the new pieces with the same ids."""
    if len(made) < 2:
        return
    one, other = made.values()
    texts = [data.decode() for data in one.bytes_of_ids[first : first + count]]
    differ = [
        text
        for text, a, b in zip(
            texts, one.encode_batch(texts), other.encode_batch(texts), strict=True
        )
        if a != b
    ]
    if differ:
        raise ValueError(
            f"{' and '.join(made)} write {len(differ)} new pieces differently, {differ[0]!r} for "
            "one: the two files of the base don't work alike. Extend one of them by naming it."
        )


def _parts(old: Tokenizer, new: Tokenizer, count: int) -> list[list[int]]:
    """Returns the old ids of the bytes of each new id."""
    single = {data: id for id, data in enumerate(old.bytes_of_ids) if len(data) == 1}
    found = []
    for data in new.bytes_of_ids[old.vocab_size : old.vocab_size + count]:
        try:
            found.append(_ids_of(old, data))
        except UnicodeDecodeError:
            found.append([single[bytes([byte])] for byte in data])
    return found


def _ids_of(old: Tokenizer, data: bytes) -> list[int]:
    # At its beginning, a text may be joined with the space that is put in front of it.
    for before in ("", "\n", "a"):
        ids = old.encode(before + data.decode())
        for start in range(len(ids)):
            if b"".join(old.bytes_of_ids[id] for id in ids[start:]) == data:
                return ids[start:]
    # Something is unknown.
    ids = old.encode(data.decode())
    return ids[1:] if old.bytes_of_ids[ids[0]] == b" " else ids
