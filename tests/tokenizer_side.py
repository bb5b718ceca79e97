"""Tokenizers in the style of each family, trained here on real text and saved by transformers."""

from __future__ import annotations

import functools
import gzip
import json
import pathlib
import tempfile

import sentencepiece
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

REPO = pathlib.Path(__file__).resolve().parent.parent
TEXTS = REPO / "configs" / "corpora" / "texts"
SIZE = 2500

# The published pre-tokenizers (Llama 3's and Qwen2's tokenizer.json).
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace("{1,3}", "")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


@functools.cache
def texts(every: int = 40, longest: int = 3000) -> tuple[str, ...]:
    """Returns parts of documents of every corpus in the repository."""
    found = []
    for path in sorted(TEXTS.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            found += [json.loads(line)["text"][:longest] for line in list(file)[::every]]
    return tuple(found)


@functools.cache
def folder(family: str) -> pathlib.Path:
    """Returns a folder with the family's kind of tokenizer, as `save_pretrained` leaves it."""
    path = pathlib.Path(tempfile.mkdtemp(prefix=f"twjax-test-{family}-"))
    _MAKE[family](path)
    return path


def pieces(kind: str, **settings) -> bytes:
    """Returns a SentencePiece model trained on the texts."""
    import io

    model = io.BytesIO()
    lines = [line for text in texts() for line in text.splitlines() if line.strip()]
    sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
        sentence_iterator=iter(lines[:4000]),
        model_writer=model,
        model_type=kind,
        vocab_size=SIZE,
        character_coverage=0.99,
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    return model.getvalue()


def _byte_level(path, pre, normalizer=None, *, special, other=(), config, first=None, **bpe):
    backend = Tokenizer(models.BPE(**bpe))
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre
    backend.decoder = decoders.ByteLevel()
    inside = config.get("unk_token")
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[inside] if inside in special and first is None else [],
        show_progress=False,
    )
    backend.train_from_iterator(texts(), trainer)
    backend.add_special_tokens(list(special))
    backend.add_tokens([AddedToken(name, normalized=False) for name in other])
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    if first:
        backend.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{first} $A",
                pair=f"{first} $A {first}:1 $B:1",
                special_tokens=[(first, backend.token_to_id(first))],
            ),
        ])  # fmt: skip
    _save(path, backend, **config)


def _save(path, backend, **config):
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=backend, **config).save_pretrained(path)


def _split(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip


def _llama3(path):
    reserved = [f"<|reserved_special_token_{n}|>" for n in range(8)]
    special = ["<|begin_of_text|>", "<|end_of_text|>", *reserved, "<|eot_id|>"]
    config = {"bos_token": special[0], "eos_token": special[1]}
    _byte_level(
        path, _split(LLAMA3), special=special, config=config, first=special[0], ignore_merges=True
    )


def _qwen(path):
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    config = {"eos_token": special[0], "pad_token": special[0], "add_bos_token": False}
    other = ["<tool_call>", "</tool_call>", "<|fim_prefix|>"]
    _byte_level(
        path, _split(QWEN), normalizers.NFC(), special=special, other=other, config=config
    )  # fmt: skip


def _gpt2(path):
    end = "<|endoftext|>"
    config = {"bos_token": end, "eos_token": end, "unk_token": end}
    pre = pre_tokenizers.ByteLevel(add_prefix_space=False)
    _byte_level(path, pre, special=[end], config=config)


def _bloom(path):
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    config = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), special, strict=True))
    _byte_level(path, _split(BLOOM), special=special, config=config)


def _from_pieces(proto: bytes, **bpe):
    """Returns the pieces of a SentencePiece BPE model as the library's model."""
    from transformers.convert_slow_tokenizer import SentencePieceExtractor

    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        file.write(proto)
        file.flush()
        found = SentencePieceExtractor(file.name).extract(models.BPE)
    return models.BPE(
        vocab=found["vocab"], merges=found["merges"], fuse_unk=True, byte_fallback=True, **bpe
    )


def _llama2(path):
    """As Meta's files were converted: the space in front comes from the normalizer."""
    proto = pieces(
        "bpe", byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
    )  # fmt: skip
    (path / "tokenizer.model").write_bytes(proto)
    backend = Tokenizer(_from_pieces(proto, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([
        normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"),
    ])  # fmt: skip
    backend.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    _save(path, backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True)


def _gemma(path):
    proto = pieces(
        "bpe", byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, add_dummy_prefix=False,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>",
        bos_piece="<bos>", user_defined_symbols=["\n\n", "▁▁▁", "<table>"],
    )  # fmt: skip
    (path / "tokenizer.model").write_bytes(proto)
    backend = Tokenizer(_from_pieces(proto, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
    ])  # fmt: skip
    backend.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>"])
    backend.add_tokens([AddedToken(n, normalized=False) for n in ("\n\n", "▁▁▁", "<table>")])
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", 2)]
    )
    _save(path, backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
          unk_token="<unk>", add_bos_token=True)  # fmt: skip


def _t5(path):
    from transformers import T5Tokenizer

    proto = pieces("unigram", normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2,
                   bos_id=-1, pad_piece="<pad>")  # fmt: skip
    (path / "spiece.model").write_bytes(proto)
    T5Tokenizer.from_pretrained(path).save_pretrained(path)


def _gpt1(path):
    backend = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=["<unk>", "</s>"], end_of_word_suffix="</w>",
        show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator(texts(), trainer)
    _save(path, backend, unk_token="<unk>", eos_token="</s>")


_MAKE = {
    "llama3": _llama3,
    "qwen": _qwen,
    "gpt2": _gpt2,
    "bloom": _bloom,
    "llama2": _llama2,
    "gemma": _gemma,
    "t5": _t5,
    "gpt1": _gpt1,
}
FAMILIES = tuple(_MAKE)
