"""Ids beside those of transformers on every text of a folder, and how fast each encodes.

    python benchmarks/tokenizers_equal.py --data DIR [--tokenizer FOLDER …] [--json FILE]

DIR holds `.jsonl.gz` files; all strings in them are texts but names, sources and licences. Each
FOLDER is one that `save_pretrained` wrote; without any, one in the style of each family is trained
on the texts in the repository (as the tests do). Compared are text as text (transformers'
`split_special_tokens=True`) and, where a text has the name of a special token in it, also its
default. MB/s are of UTF-8, all cores, for ours, for transformers, and (on every tenth batch) for
the library below both: `tokenizers`, or SentencePiece for a `tokenizer.model` alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import prepare

from twjax.vocab.model import SentencePieceModel
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

_NO_TEXT = {"id", "source", "url_or_path", "license", "lang", "label", "upos", "ner"}
_BATCH = 2_000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizer", type=pathlib.Path, nargs="+", default=[])
    parser.add_argument("--families", nargs="+", help="of those trained here (default: all)")
    parser.add_argument("--every", type=int, default=1, help="take every Nth text (default: all)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    folders = {path.name: path for path in args.tokenizer}
    if not folders:
        sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))
        import tokenizer_side  # pyright: ignore

        folders = {n: tokenizer_side.folder(n) for n in args.families or tokenizer_side.FAMILIES}
    paths = sorted(args.data.glob("*.jsonl.gz"))
    texts = list(dict.fromkeys(text for path in paths for text in strings(path)))[:: args.every]
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(texts):,} different texts, {size / 1e6:.1f} MB", flush=True)
    figures: dict[str, Any] = {"texts": len(texts), "bytes": size}
    for name, folder in folders.items():
        figures[name] = beside_transformers(folder, texts, size, args.threads)
        print(name, json.dumps(figures[name]), flush=True)
        if (folder / "tokenizer.model").is_file():
            found = beside_sentencepiece(folder / "tokenizer.model", texts, args.threads)
            figures[f"{name} tokenizer.model"] = found
            print(name, "tokenizer.model", json.dumps(found), flush=True)
    prepare.save(figures, args.json)
    return 0 if not any(f["differ"] for f in figures.values() if isinstance(f, dict)) else 1


def strings(path: pathlib.Path) -> Iterator[str]:
    """Yields the texts of a file, wherever they are in its records."""

    def inside(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for key, part in value.items():
                if key not in _NO_TEXT:
                    yield from inside(part)
        elif isinstance(value, list):
            for part in value:
                yield from inside(part)

    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield from filter(None, inside(json.loads(line)))


def beside_transformers(
    folder: pathlib.Path, texts: list[str], size: int, threads: int
) -> dict[str, Any]:
    """Returns counts of texts that differ, and rates."""
    from tokenizers import Tokenizer as Backend
    from transformers import AutoTokenizer

    model, reference = load_vocabulary(folder), AutoTokenizer.from_pretrained(folder)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.no_truncation()
    backend.encode_special_tokens = True
    names = [name for name in reference.all_special_tokens if name]

    def theirs(batch: list[str], special: bool = False) -> list[list[int]]:
        return reference(
            batch,
            add_special_tokens=False,
            split_special_tokens=not special,
            return_attention_mask=False,
        ).input_ids

    def below(batch: list[str]) -> list[list[int]]:
        return [e.ids for e in backend.encode_batch_fast(batch, add_special_tokens=False)]

    clock = _Clock()
    tokens, differ, named, named_differ, roundtrip = 0, [], 0, 0, 0
    sizes = model.token_bytes()
    spelt = 0
    for number, batch in enumerate(_batches(texts)):
        ours = clock("ours", lambda b: model.encode_batch(b, threads), batch)
        found = clock("transformers", theirs, batch)
        if number % 10 == 0:
            clock("tokenizers", below, batch)
        for text, mine, other in zip(batch, ours, found, strict=True):
            tokens += len(mine)
            spelt += int(sizes[mine].sum())
            has_name = any(name in text for name in names)
            named += has_name
            if has_name:
                named_differ += model.encode(text, special=True) != theirs([text], True)[0]
            if mine != other and not _safer(has_name, model, reference, mine):
                differ.append(text[:80])
            roundtrip += model.decode(mine) == text
    return {
        "differ": len(differ) + named_differ,
        "examples": differ[:5],
        "texts_with_special_names": named,
        "decode_to_the_text": roundtrip,
        "tokens": tokens,
        "bytes_of_tokens_over_bytes": round(spelt / size, 6),
        **clock.rates(),
    }


def _safer(has_name: bool, model: Tokenizer, reference: Any, ids: list[int]) -> bool:
    """Whether ids differ since transformers took a name in the text for the special token."""
    return has_name and not set(ids) & (set(reference.all_special_ids) - {model.unk_id})


def beside_sentencepiece(path: pathlib.Path, texts: list[str], threads: int) -> dict[str, Any]:
    """Returns the same figures for a SentencePiece model alone."""
    import sentencepiece

    model = SentencePieceModel(path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))  # type: ignore
    clock, differ = _Clock(), 0
    for batch in _batches(texts):
        ours = clock("ours", lambda b: model.encode_batch(b, threads), batch)
        found = clock(
            "sentencepiece", lambda b: processor.encode(b, num_threads=threads), batch
        )  # fmt: skip
        differ += sum(mine != other for mine, other in zip(ours, found, strict=True))
    return {"differ": differ, **clock.rates()}


def _batches(texts: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(texts), _BATCH):
        yield texts[first : first + _BATCH]


class _Clock:
    """Adds up the seconds of each way of encoding."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._bytes: dict[str, int] = {}

    def __call__(self, name: str, encode: Callable[[list[str]], Any], batch: list[str]) -> Any:
        start = time.perf_counter()
        found = encode(batch)
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start
        size = sum(len(text.encode()) for text in batch)
        self._bytes[name] = self._bytes.get(name, 0) + size
        return found

    def rates(self) -> dict[str, float]:
        return {
            f"{name}_MB_s": round(self._bytes[name] / 1e6 / seconds, 2)
            for name, seconds in self._seconds.items()
        }


if __name__ == "__main__":
    sys.exit(main())
