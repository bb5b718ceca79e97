"""Adds Taiwanese pieces to somebody's tokenizer: every old id keeps its meaning."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterable

from twjax import storage
from twjax.vocab import tokenizer_files
from twjax.vocab.extend_json import extend_json
from twjax.vocab.extend_pieces import find_pieces
from twjax.vocab.extend_sentencepiece import extend_sentencepiece
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

RECORD = "vocab_extension.json"
# Some candidates are pieces already, or are never reached.
_MARGIN = 2


@dataclasses.dataclass(frozen=True)
class Extended:
    """The new folder; `parts[i]` are the old ids of the text of new id `old_size + i`."""

    folder: pathlib.Path
    old_size: int
    parts: tuple[tuple[int, ...], ...]


def extend(
    base: str | pathlib.Path, texts: Iterable[str], size: int, output: str | pathlib.Path
) -> Extended:
    """Writes a folder with the tokenizer of `base` and up to `size` more pieces.

    `base` is a SentencePiece model, a `tokenizer.json`, or a Hugging Face folder, whose other
    tokenizer files are copied. Where it has both kinds of file, both are extended alike, and the
    SentencePiece model decides what is added.
    """
    if size < 1:
        raise ValueError(f"--size ({size}) must be at least 1.")
    file = tokenizer_files.locate(base)
    old = load_vocabulary(file)
    pieces = find_pieces(texts, _MARGIN * size)
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    if pathlib.Path(base).is_dir():
        for path in tokenizer_files.tokenizer_side_files(pathlib.Path(base)):
            shutil.copy(path, output / path.name)
    if file.suffix == ".json":
        content, names = extend_json(file, pieces, size)
        with storage.atomic_writer(output / "tokenizer.json") as out:
            out.write(json.dumps(content, ensure_ascii=False))
        new = load_vocabulary(output)
    else:
        proto, names = extend_sentencepiece(file, pieces, size)
        with storage.atomic_writer(output / file.name, "wb") as out:
            out.write(proto)
        new = load_vocabulary(output / file.name)
    parts = _parts(old, new, len(names))
    record = {"base_sha256": old.sha256, "sha256": new.sha256, "old_size": old.vocab_size,
              "new": names, "parts": parts}  # fmt: skip
    storage.write_json(output / RECORD, record)
    return Extended(output, old.vocab_size, tuple(map(tuple, parts)))


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
