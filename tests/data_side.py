"""Real documents as small corpus folders, and a small vocabulary, for tests of the data side."""

from __future__ import annotations

import functools
import gzip
import json
import pathlib
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece

from twjax import storage
from twjax.corpus.document import SCHEMA

REPO = pathlib.Path(__file__).resolve().parent.parent

# What tokenizers trip over: nothing, one character, literal ▁, runs that segment in several ways,
# spaces at the ends, characters outside of any vocabulary, line ends of three kinds.
ODD_TEXTS = (
    "甲",
    "▁",
    "一▁二▁▁三 ▁",
    "┌─────────────────────────────────┬────────────────┐",
    "  兩邊有空白  ",
    "𠮷野家 🧋\t\r\n\n末行",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
)


@functools.cache
def texts(name: str = "tw_laws", count: int = 60) -> tuple[str, ...]:
    """Returns the shortest `count` documents of an embedded corpus."""
    path = REPO / "configs" / "corpora" / "texts" / f"{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        found = [json.loads(line)["text"] for line in file]
    return tuple(sorted(found, key=len)[:count])


@functools.cache
def vocabulary(size: int = 700) -> str:
    """Returns the path of a model with the special ids of `twjax vocab train`."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="twjax-test-vocabulary-"))
    lines = [line for text in texts() for line in text.splitlines() if line]
    sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
        sentence_iterator=iter(lines[:3000]),
        model_prefix=str(folder / "small"),
        vocab_size=size,
        byte_fallback=True,
        split_digits=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=3,
        num_threads=1,
        minloglevel=2,
    )
    return str(folder / "small.model")


def make_corpus(folder: pathlib.Path, documents: list[str] | tuple[str, ...], shards: int = 3):
    """Writes a corpus folder: Parquet shards and the parts of a manifest that readers use."""
    (folder / "shards").mkdir(parents=True)
    entries = []
    for shard in range(shards):
        some = list(enumerate(documents))[shard::shards]
        record = {"source": "test", "license": "CC0-1.0", "lang": "zh-TW", "url": None}
        record |= {"created": None, "meta": []}
        table = pa.Table.from_pylist(
            [{"id": f"doc-{number}", "text": text, **record} for number, text in some], SCHEMA
        )
        path = folder / "shards" / f"part-{shard:05d}-of-{shards:05d}.parquet"
        pq.write_table(table, path)
        entries.append(
            {
                "file": str(path.relative_to(folder)),
                "sha256": storage.sha256_file(path),
                "documents": len(some),
                "bytes": sum(len(text.encode()) for _, text in some),
            }
        )
    storage.write_json(
        folder / "manifest.json",
        {
            "format": 1,
            "name": folder.name,
            "fingerprint": storage.sha256_json([entry["sha256"] for entry in entries]),
            "shards": entries,
        },
    )
    return str(folder)
