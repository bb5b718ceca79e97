"""Inputs read whole, for tests of the reader."""

from __future__ import annotations

import pathlib

from twjax.corpus.sources import formats, reading


def read_source(path, piece_bytes: int = 1 << 20, **fields):
    """Returns documents and rejections of an input, as `formats.Source` describes it."""
    kept, rejected = [], []
    name = path.name if isinstance(path, pathlib.Path) else path
    for piece in reading.pieces(name, path, piece_bytes, formats.Source(**fields)):
        documents, rejections = reading.read(piece)
        kept += documents
        rejected += rejections
    return kept, rejected


def seen(rejected):
    return [(r.document.meta["file"], r.document.meta["line"], r.reason) for r in rejected]
