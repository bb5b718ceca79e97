"""What an extended vocabulary brings: shorter text, old ids, new rows, and a better model.

    python benchmarks/extension.py --data DIR [--work DIR] [--json FILE]

DIR holds `.jsonl.gz` files with "text" and "lang" (English and Taiwan's texts are told apart by
"lang"). A SentencePiece BPE model as Llama 2's is trained on the English texts and extended on the
Taiwanese ones; every 20th document is held out. A small base is trained on English and Chinese of
China, and starts a run with each kind of new rows. Then the Taiwanese documents continue it with
the old vocabulary and with the extended one, until both have read as many bytes. WORK keeps what
is made, and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
import time
from typing import Any

import prepare
import regex

from twjax import storage
from twjax.config.extension import Extension
from twjax.corpus.document import read_corpus
from twjax.data.rows import RowReader
from twjax.vocab.extend import extend
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

ENGLISH = ("gutenberg_pp_en", "gutenberg_sh_en", "pydocs_en", "react_en", "rustbook_en",
           "tw_transcripts_en_cc0")  # fmt: skip
TAIWAN = ("cofacts_replies", "moztw_cc0_nanTW", "moztw_cc0_zhTW", "pydocs_zhTW", "react_zhTW",
          "rustbook_zhTW", "taiwan_md_zh", "tw_laws_zh", "tw_transcripts_cc0")  # fmt: skip
CHINA = ("pydocs_zhCN", "tidb_zhCN")
# Neither: what must keep its old ids.
OTHERS = ("taiwan_md_other_langs",)
SEQ, ROWS = 256, 4

RUN = (
    """
include '{model}'
"""
    + prepare.RUN
    + """
Run.steps = {steps}
Run.init = {init!r}
Run.new_rows = {new_rows!r}
Model.vocab_size = {ids}
Data.cache = '{cache}'
Data.vocabulary = '{vocabulary}'
Data.corpora = {corpora!r}
Data.held_out = ('tw_test', 'en_test')
Data.validation = 0.0
Data.mixture = @Mixture()
Data.seq_len = {seq}
Data.batch_size = {rows}
Mixture.stages = ((0, {shares!r}),)
Schedule.kind = 'wsd'
Schedule.peak = 2e-3
Schedule.warmup_steps = {warmup}
Schedule.decay_fraction = 0.2
Step.loss_chunks = 4
Evaluation.tasks = ('tw_test', 'en_test')
Evaluation.rows = 64
Evaluation.every = {every}
Checkpoint.every = 10_000
"""
)
# Published bases have seen Chinese, and know Han in bytes.
BASE = {"en": 0.5, "cn": 0.5}
# As large as the quickstart's, its two matrices apart.
MODEL = """
Model.num_layers = 4
Model.embed_dim = 128
Model.num_heads = 4
Model.num_kv_heads = 2
Model.head_dim = 32
Model.mlp_dim = 384
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, help="default: a folder that is deleted")
    parser.add_argument("--base-pieces", type=int, default=8_000)
    parser.add_argument("--pieces", type=int, default=8_000, help="new ones")
    parser.add_argument("--base-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200, help="with the extended vocabulary")
    parser.add_argument("--no-model", action="store_true", help="only what needs no training")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="twjax-extension-") as temporary:
        work = (args.work or pathlib.Path(temporary)).absolute()
        figures = measure(args, work)
    prepare.save(figures, args.json)
    return 0


def measure(args: argparse.Namespace, work: pathlib.Path) -> dict[str, Any]:
    corpora = {
        name: prepare.write_corpus(work / "corpora" / name, args.data, files, test)
        for name, files, test in (
            ("en", ENGLISH, False),
            ("en_test", ENGLISH, True),
            ("tw", TAIWAN, False),
            ("tw_test", TAIWAN, True),
            ("cn", CHINA, False),
            ("others", OTHERS, None),
        )
    }
    base, extended = work / "base", work / "extended"
    if not base.exists():
        train_tokenizer(corpora["en"], base, args.base_pieces)
    extension = Extension.find(extended)
    began = time.perf_counter()
    if extension is None:
        texts = (document.text for document in read_corpus(corpora["tw"]))
        extension = extend(base, texts, args.pieces, extended)
    old, new = load_vocabulary(base), load_vocabulary(extended)
    figures: dict[str, Any] = {
        "old_ids": old.vocab_size,
        "new_ids": len(extension.parts),
        "extend_seconds": time.perf_counter() - began,
        "fertility": fertility(corpora["tw_test"], old, new),
        "old_text": [
            old_text(corpora[name], old, new, extension) for name in ("en_test", "others")
        ],
    }
    print(json.dumps(figures, ensure_ascii=False, indent=1), flush=True)
    if not args.no_model:
        figures |= models(args, work, corpora, extension)
    return figures


def train_tokenizer(corpus: pathlib.Path, folder: pathlib.Path, size: int) -> None:
    """Trains a model with Llama 2's settings: BPE, byte fallback, split digits, no normalizing."""
    import sentencepiece

    folder.mkdir(parents=True)
    lines = (line for d in read_corpus(corpus) for line in d.text.splitlines() if line.strip())
    sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
        sentence_iterator=lines,
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=size,
        character_coverage=0.99995,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        input_sentence_size=100_000,
        shuffle_input_sentence=True,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
                "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False}  # fmt: skip
    storage.write_json(folder / "tokenizer_config.json", settings)


def fertility(corpus: pathlib.Path, old: Tokenizer, new: Tokenizer) -> dict[str, Any]:
    """Returns tokens per character of held-out text by source, before and after."""
    sizes: dict[str, list[int]] = {}
    for document in read_corpus(corpus):
        counts = (len(document.text), *(len(v.encode(document.text)) for v in (old, new)))
        for name in (document.source, "all"):
            sums = sizes.setdefault(name, [0, 0, 0])
            sums[:] = (a + b for a, b in zip(sums, counts, strict=True))
    return {
        name: {"old": a / characters, "new": b / characters, "falls_by": 1 - b / a}
        for name, (characters, a, b) in sorted(sizes.items())
    }


def old_text(
    corpus: pathlib.Path, old: Tokenizer, new: Tokenizer, extension: Extension
) -> dict[str, Any]:
    """Returns how many lines keep their ids, and why the others don't."""
    characters = {c for data in new.bytes_of_ids[extension.old_size :] for c in data.decode()}
    covered = regex.compile("[" + regex.escape("".join(sorted(characters))) + "]")
    lines = [line for d in read_corpus(corpus) for line in d.text.splitlines() if line.strip()]
    same = [a == b for a, b in zip(old.encode_batch(lines), new.encode_batch(lines), strict=True)]
    without = [s for line, s in zip(lines, same, strict=True) if not covered.search(line)]
    return {
        "corpus": corpus.name,
        "lines": len(lines),
        "same": sum(same),
        "without_new_characters": len(without),
        "of_these_same": sum(without),
    }


def models(
    args: argparse.Namespace,
    work: pathlib.Path,
    corpora: dict[str, pathlib.Path],
    extension: Extension,
) -> dict[str, Any]:
    named = {name: str(corpora[name]) for name in ("en", "cn", "tw", "en_test", "tw_test")}
    (work / "model.gin").write_text(MODEL)
    old, new = extension.old_size, extension.size
    taiwan = {"tw": 1.0}

    def cached(
        name: str, steps: int, vocabulary: str, shares: dict[str, float], **more: Any
    ) -> Any:
        settings = {"init": None, "new_rows": "mean", "every": 10_000, "rows": ROWS}
        path = work / f"{name}.gin"
        path.write_text(
            RUN.format(
                model=work / "model.gin", ids=old if vocabulary == "base" else new, seq=SEQ,
                corpora=named, steps=steps, shares=shares, warmup=min(10, steps),
                cache=work / f"cache_{vocabulary}",
                vocabulary=work / vocabulary, **(settings | more),
            )
        )  # fmt: skip
        prepare.twjax("tasks", "cache", path)
        return path

    def run(name: str, *about: Any, **more: Any) -> dict[int, dict[str, float]]:
        began = time.perf_counter()
        prepare.twjax("train", cached(name, *about, **more), "--run-dir", work / "runs" / name)
        scores: dict[int, dict[str, float]] = {}
        for record in storage.read_json_lines(work / "runs" / name / "metrics.jsonl"):
            if record["kind"] == "eval":
                scores.setdefault(record["step"], {})[record["task"]] = record["bits_per_byte"]
        print(f"{name}: {scores}, {time.perf_counter() - began:.0f} s", flush=True)
        return scores

    more: dict[str, Any] = {"init": f"run:{work}/runs/mixed", "every": 50}
    result: dict[str, Any] = {"base": run("mixed", args.base_steps, "base", BASE)}
    for kind in ("mean", "gaussian", "zero"):
        settings = more | {"new_rows": kind, "every": 1}
        result[kind] = run(f"mixed_{kind}", 1, "extended", taiwan, **settings)[0]
    result["extended"] = run("mixed_extended", args.steps, "extended", taiwan, **more)
    cached("mixed_old", args.steps, "base", taiwan, **more)
    density = {
        name: RowReader(work / f"cache_{name}", "tw", "train", SEQ).info.tokens_per_byte
        for name in ("base", "extended")
    }
    # As many bytes in rows of as many tokens: more steps.
    longer = result["longer"] = density["base"] / density["extended"]
    result["old"] = run("mixed_old", round(args.steps * longer), "base", taiwan, **more)
    return result


if __name__ == "__main__":
    sys.exit(main())
