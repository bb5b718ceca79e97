"""What benchmarks read: corpora built from the repository's texts, a vocabulary, cached rows."""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from twjax.data.rows import RowReader


def arguments(description: str | None, corpora: str, seq_len: int) -> argparse.ArgumentParser:
    """Returns the arguments that the data benchmarks share; `corpora` is "?" or "*"."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "corpora", metavar="CORPUS", nargs=corpora, type=pathlib.Path, help="default: built here"
    )
    parser.add_argument("--vocabulary", type=pathlib.Path, help="default: trained on the corpora")
    parser.add_argument("--seq-len", type=int, default=seq_len)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there as well")
    return parser


def save(figures: dict[str, Any], path: pathlib.Path | None) -> None:
    """Writes the figures as JSON, if a path was given."""
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def build_corpus(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Builds configs/corpora/NAME.gin into `folder`."""
    output = folder / name
    if not (output / "manifest.json").exists():
        _twjax(
            *("corpus", "build", f"configs/corpora/{name}.gin"),
            *("--set", f"Corpus.output = {str(output)!r}"),
        )
    return output


def train_vocabulary(corpora: Sequence[pathlib.Path], folder: pathlib.Path) -> pathlib.Path:
    """Trains the quickstart's kind of vocabulary on these corpora."""
    output = folder / "benchmark.model"
    if not output.exists():
        _twjax(
            *("vocab", "train", "configs/corpora/quickstart_vocab.gin"),
            *("--set", f"Vocabulary.inputs = {tuple(map(str, corpora))!r}"),
            *("--set", f"Vocabulary.output = {str(output)!r}"),
        )
    return output


def cache_rows(
    task: str,
    corpus: pathlib.Path,
    vocabulary: pathlib.Path,
    seq_len: int,
    folder: pathlib.Path,
) -> RowReader:
    """Caches all of a corpus as rows of `seq_len` tokens."""
    from twjax.data.cache import Request, build
    from twjax.data.documents import Corpus
    from twjax.data.examples import CorpusTask

    request = Request(CorpusTask(task, Corpus(str(corpus), 0.0)), "train", seq_len, str(vocabulary))
    build(request, folder)
    return RowReader(folder, task, "train", seq_len)


def _twjax(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "twjax", *arguments], check=True)
