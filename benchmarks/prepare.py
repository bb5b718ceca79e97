"""What benchmarks read: corpora built from the repository's texts, a vocabulary, cached rows."""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from twjax import storage
from twjax.corpus.document import Document, write_parquet
from twjax.data.rows import RowReader

# What every training configuration begins with.
RUN = """
Run.model = @Model()
Run.data = @Data()
Run.mesh = @Mesh()
Run.optimizer = @Optimizer()
Run.schedule = @Schedule()
Run.step = @Step()
Run.checkpoint = @Checkpoint()
Run.evaluation = @Evaluation()
Step.dtype = 'float32'
Step.remat = 'none'
"""
# Every so many documents one is held out.
HELD_OUT = 20
# Of one source at most, so that none stands for all.
MOST_CHARACTERS, LONGEST = 1_500_000, 20_000


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
        twjax(
            *("corpus", "build", f"configs/corpora/{name}.gin"),
            *("--set", f"Corpus.output = {str(output)!r}"),
        )
    return output


def train_vocabulary(corpora: Sequence[pathlib.Path], folder: pathlib.Path) -> pathlib.Path:
    """Trains the quickstart's kind of vocabulary on these corpora."""
    output = folder / "benchmark.model"
    if not output.exists():
        twjax(
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
    from twjax.data.cache import build
    from twjax.data.documents import Corpus
    from twjax.data.examples import CorpusTask
    from twjax.data.request import Request

    request = Request(CorpusTask(task, Corpus(str(corpus), 0.0)), "train", seq_len, str(vocabulary))
    build(request, folder)
    return RowReader(folder, task, "train", seq_len)


def texts_of(path: pathlib.Path, test: bool | None) -> Iterator[Document]:
    """Yields the documents of one file that are held out, or the others; None: all."""
    used = 0
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file):
            record = json.loads(line)
            if test not in (None, number % HELD_OUT == 0) or not record.get("text"):
                continue
            text = record["text"].replace("\r\n", "\n").strip()[:LONGEST]
            used += len(text)
            if used > MOST_CHARACTERS // (HELD_OUT if test else 1):
                return
            yield Document(
                id=record["id"],
                text=text,
                source=path.name.removesuffix(".jsonl.gz"),
                license=record["license"],
                lang=record["lang"],
            )


def write_corpus(
    folder: pathlib.Path, data: pathlib.Path, files: tuple[str, ...], test: bool | None
) -> pathlib.Path:
    """Writes documents as a corpus of one shard, as they are."""
    if (folder / "manifest.json").is_file():
        return folder
    documents = [d for name in files for d in texts_of(data / f"{name}.jsonl.gz", test) if d.text]
    return write_documents(folder, documents)


def write_documents(folder: pathlib.Path, documents: Sequence[Document]) -> pathlib.Path:
    """Writes documents as a corpus of one shard."""
    shard = folder / "shards" / "part-00000-of-00001.parquet"
    shard.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(shard, documents)
    sha256 = storage.sha256_file(shard)
    size = sum(len(d.text.encode()) for d in documents)
    entry = {"file": f"shards/{shard.name}", "sha256": sha256, "documents": len(documents),
             "bytes": size}  # fmt: skip
    manifest = {"format": 1, "name": folder.name, "fingerprint": sha256, "shards": [entry]}
    storage.write_json(folder / "manifest.json", manifest)
    print(f"{folder.name}: {len(documents):,} documents, {size / 1e6:.1f} MB", flush=True)
    return folder


def twjax(*arguments: object, core: int | None = None) -> None:
    """Runs a command without its output, on one core if wanted; an error ends the benchmark."""
    command = [sys.executable, "-m", "twjax", *map(str, arguments)]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
