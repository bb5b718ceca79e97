"""Trains a SentencePiece vocabulary from corpus folders; the same input gives the same model."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pathlib
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow.parquet as pq
import sentencepiece
import xxhash

from twjax import storage
from twjax.config import Vocabulary
from twjax.progress import Progress, say

FORMAT = 1
PAD_ID, EOS_ID, UNK_ID, BOS_ID = range(4)

# SentencePiece's own default (max_sentence_length = 4192 bytes); longer lines would be skipped.
_LINE_BYTES = 4192
# The trainer splits at line ends, and skips lines with the characters that it keeps for itself:
# tab (its boundary mark) and ▅ (its unknown mark); ▁ is its space. All three become bytes.
_BREAKS = re.compile("[\n\r\0\t\u2581\u2585]+")
_SENTENCE_END = re.compile("[。！？；!?;]+[」』”’）)]*|[.] ")
_CLAUSE_END = re.compile("[，、：,:]|[ \u3000]")
# Sums over threads are rounded in their order: a fixed number keeps the model the same anywhere.
_THREADS = 4
# Unigram training starts from this many candidates a piece. SentencePiece's million is meant for
# large vocabularies; for 6,144 pieces 122,880 gave the same compression in half the time.
_SEEDS_A_PIECE = 20


@dataclasses.dataclass(frozen=True)
class Trained:
    """A vocabulary file and what made it; `fresh` is False when it was up to date."""

    path: pathlib.Path
    provenance: dict[str, Any]
    fresh: bool


def _record(output: pathlib.Path) -> pathlib.Path:
    """Returns where a vocabulary's record is: `tokenizer.json` would be read as a tokenizer."""
    record = output.with_suffix(".json")
    return record if record.name != "tokenizer.json" else record.with_name("vocabulary.json")


def train(vocabulary: Vocabulary, *, fresh: bool = False) -> Trained:
    """Writes `vocabulary.output` and a `.json` beside it, or finds both up to date."""
    output = pathlib.Path(vocabulary.output)
    record = _record(output)
    corpora = [_corpus(folder) for folder in vocabulary.inputs]
    ingredients = _ingredients(vocabulary, corpora)
    key = storage.sha256_json(ingredients)
    if not fresh and (known := _finished(output, record, key)) is not None:
        return Trained(output, known, False)
    _check_symbols(vocabulary.symbols)
    start = time.monotonic()
    lines, total = _sample(vocabulary, corpora)
    if not lines:
        raise ValueError(f"Vocabulary.inputs ({', '.join(vocabulary.inputs)}) hold no text.")
    say(f"vocabulary: {vocabulary.size:,} pieces from {len(lines):,} of {total:,} lines …")
    model = _train(vocabulary, lines)
    provenance = {
        "format": FORMAT,
        "sha256": hashlib.sha256(model).hexdigest(),
        "ingredients_sha256": key,
        "ingredients": ingredients,
        "inputs": list(vocabulary.inputs),
        "lines": total,
        "lines_used": len(lines),
        "bytes_used": sum(len(line.encode()) for line in lines),
        "wall_seconds": round(time.monotonic() - start, 3),
    }
    with storage.atomic_writer(output, "wb") as file:
        file.write(model)
    storage.write_json(record, provenance)
    return Trained(output, provenance, True)


def _finished(output: pathlib.Path, record: pathlib.Path, key: str) -> dict[str, Any] | None:
    if not output.is_file() or not record.is_file():
        return None
    known = storage.read_json(record)
    same = known.get("ingredients_sha256") == key
    return known if same and known.get("sha256") == storage.sha256_file(output) else None


@dataclasses.dataclass(frozen=True)
class _Corpus:
    fingerprint: str
    shards: tuple[pathlib.Path, ...]

    def texts(self) -> Iterator[str]:
        for shard in self.shards:
            with pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(batch_size=256, columns=["text"]):
                    yield from batch.column(0).to_pylist()


def _corpus(folder: str) -> _Corpus:
    manifest = pathlib.Path(folder) / "manifest.json"
    if not manifest.is_file():
        raise ValueError(
            f"Vocabulary.inputs: {folder} is no corpus (manifest.json is missing); build it with "
            "`twjax corpus build CONFIG`."
        )
    content = storage.read_json(manifest)
    shards = tuple(pathlib.Path(folder) / shard["file"] for shard in content["shards"])
    return _Corpus(content["fingerprint"], shards)


def _ingredients(vocabulary: Vocabulary, corpora: list[_Corpus]) -> dict[str, Any]:
    settings = dataclasses.asdict(vocabulary)
    del settings["output"], settings["inputs"]
    return {
        "corpora": [corpus.fingerprint for corpus in corpora],
        "settings": {**settings, "symbols": list(vocabulary.symbols)},
        "code": storage.sha256_file(__file__),
        "sentencepiece": sentencepiece.__version__,
    }


def _check_symbols(symbols: tuple[str, ...]) -> None:
    for symbol in symbols:
        if not symbol or "\0" in symbol or "\u2581" in symbol:
            raise ValueError(
                f"Vocabulary.symbols: {symbol!r} must have characters, but no NUL and no ▁."
            )
    if len(set(symbols)) < len(symbols):
        raise ValueError("Vocabulary.symbols names a symbol twice.")


def _sample(vocabulary: Vocabulary, corpora: list[_Corpus]) -> tuple[list[str], int]:
    """Returns about `max_sentences` lines, chosen by a hash of their number, and their total.

    Two passes over the text, so that only the chosen lines are in memory.
    """
    with Progress(None, "vocabulary: count lines", "lines") as progress:
        total = 0
        for _ in _all_lines(corpora):
            total += 1
            progress.update(1)
    share = min(1.0, vocabulary.max_sentences / max(1, total))
    bound = int(share * 2**64)
    chosen = []
    for number, line in enumerate(_all_lines(corpora)):
        key = number.to_bytes(8, "little")
        if xxhash.xxh3_64_intdigest(key, seed=vocabulary.seed) < bound:
            chosen.append(line)
    return chosen, total


def _all_lines(corpora: list[_Corpus]) -> Iterator[str]:
    for corpus in corpora:
        for text in corpus.texts():
            yield from lines_of(text)


def lines_of(text: str) -> Iterator[str]:
    """Yields a text in lines that the trainer accepts: no reserved character, at most 4,192 bytes.

    Long lines are cut behind a sentence, else behind a comma or space, else anywhere.
    """
    for line in _BREAKS.split(text):
        while len(line.encode()) > _LINE_BYTES:
            window = line.encode()[:_LINE_BYTES].decode(errors="ignore")
            cut = len(window)
            for pattern in (_SENTENCE_END, _CLAUSE_END):
                ends = [match.end() for match in pattern.finditer(window)]
                # A cut near the beginning would leave crumbs.
                if ends and ends[-1] > len(window) // 2:
                    cut = ends[-1]
                    break
            yield line[:cut]
            line = line[cut:]
        if line:
            yield line


def _train(vocabulary: Vocabulary, lines: Iterable[str]) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=vocabulary.kind,
            vocab_size=vocabulary.size,
            character_coverage=vocabulary.character_coverage,
            normalization_rule_name=vocabulary.normalization,
            # SentencePiece matches symbols behind its own escaping of spaces.
            user_defined_symbols=[s.replace(" ", "\u2581") for s in vocabulary.symbols],
            split_digits=vocabulary.split_digits,
            byte_fallback=True,
            # Nothing is added or removed, so that text comes back as it went in.
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            max_sentence_length=_LINE_BYTES,
            seed_sentencepiece_size=min(1_000_000, max(100_000, _SEEDS_A_PIECE * vocabulary.size)),
            # The lines are a sample already.
            input_sentence_size=0,
            shuffle_input_sentence=False,
            pad_id=PAD_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            bos_id=BOS_ID,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"Vocabulary.size ({vocabulary.size}) or another setting doesn't suit this text; "
            f"SentencePiece says: {str(error).strip().splitlines()[-1]}"
        ) from error
    return model.getvalue()
