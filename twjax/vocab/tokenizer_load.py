"""Opens a vocabulary, whatever its form."""

from __future__ import annotations

import os

from twjax.vocab import tokenizer_files
from twjax.vocab.model import SentencePieceModel
from twjax.vocab.tokenizer import Tokenizer


def load_vocabulary(path: str | os.PathLike[str]) -> Tokenizer:
    """Opens a SentencePiece model, a `tokenizer.json`, or a folder as `transformers` saves it.

    In a folder, `tokenizer.json` goes before a SentencePiece model, as in `transformers`. A file
    of the name that it has in such a folder is read with the files beside it.
    """
    file = tokenizer_files.locate(path)
    if file.suffix == ".json":
        from twjax.vocab.tokenizer_json import HuggingFaceTokenizer

        return HuggingFaceTokenizer(file)
    return SentencePieceModel(file)
