"""A Hugging Face `tokenizer.json` as text ⇄ ids: byte-level BPE, byte fallback, unigram."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from twjax.vocab import tokenizer_files
from twjax.vocab.tokenizer import Tokenizer

_ALONE: dict[str, Any] = {"named": {}, "extra": [], "added": {}, "adds_bos": None}
# What ends a document where no file says it, by what the families call it.
_ENDS = ("</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>")
_SPACE_MARK = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# Stands before the name of a control token that text must not reach; no text has noncharacters.
_UNREACHABLE = "\ufdd0\ufdd1"


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json`, with the files beside it if it has that name.

    Ids are those of `transformers`' fast tokenizers, which run the same library on the same file;
    with `special` those of its default, without it those of `split_special_tokens=True`. In one
    thing text is safer here: where the pieces of a vocabulary hold the names of control tokens
    (unigram: T5), `</s>` in a web page is not EOS.

    The file's post-processor decides whether BOS is added; a `tokenizer_config.json` that
    contradicts it is refused.
    """

    def __init__(self, path: str | pathlib.Path):
        from tokenizers import Tokenizer as Backend

        self.path = pathlib.Path(path)
        try:
            text = self.path.read_text(encoding="utf-8")
            content = json.loads(text)
            self._special = Backend.from_str(text)
        except Exception as error:
            # The library raises plain Exception.
            raise ValueError(f"{self.path}: not a tokenizer.json ({error}).") from error
        settings = tokenizer_files.settings(self.path) or _ALONE
        self.kind = _kind(self.path, content)
        self._space_behind = self.kind == "suffix"
        self._suffix = content["model"].get("end_of_word_suffix") or ""
        if content["model"].get("dropout"):
            raise ValueError(f"{self.path}: BPE dropout makes its ids random; set it to null.")
        self._special.no_truncation()
        self._special.no_padding()
        _add(self.path, self._special, settings)
        self._added = self._special.get_added_tokens_decoder()
        names = self._special.get_vocab(with_added_tokens=True)
        self.vocab_size = max(names.values()) + 1
        self._names = {id: name for name, id in names.items()}
        self._assign_roles(settings, names)
        self.sha256 = tokenizer_files.vocabulary_sha256(self.path)
        self._text = _without_control(self._special, content["model"], self._added)

    def _assign_roles(self, settings: dict[str, Any], names: dict[str, int]) -> None:
        named = settings["named"]
        first = _first_added(self._special)
        if "eos" not in named:
            found = [name for name in _ENDS if name in names]
            if len(found) != 1:
                raise ValueError(
                    f"{self.path}: which token ends a document is not said, and it has "
                    f"{' and '.join(found) or 'none that is known'}; name it as eos_token in "
                    "tokenizer_config.json beside a tokenizer.json."
                )
            named = {**named, "eos": found[0]}
        self.eos_id, self.pad_id, self.unk_id = (
            names.get(named.get(role, ""), -1) for role in ("eos", "pad", "unk")
        )
        self.bos_id = names[named["bos"]] if "bos" in named else -1 if first is None else first
        self.adds_bos = first is not None
        said = settings["adds_bos"]
        if (said is not None and said != self.adds_bos and self.bos_id >= 0) or (
            first not in (None, self.bos_id)
        ):
            begins = "nothing" if first is None else self._names[first]
            raise ValueError(
                f"{self.path}: its post-processor puts {begins} before a text, but "
                f"tokenizer_config.json has add_bos_token={said} and bos_token="
                f"{named.get('bos')!r}; make the two agree, as the model was trained."
            )

    def __reduce__(self):
        return HuggingFaceTokenizer, (self.path,)

    def encode_batch(
        self, texts: Sequence[str], threads: int = 1, *, special: bool = False
    ) -> list[list[int]]:
        backend = self._special if special else self._text
        texts = list(texts)
        for text in texts:
            # The library's own error doesn't say what is wrong.
            text.encode()
        with _parallel(threads > 1):
            # Set for each batch: the backend for special tokens may be the one for text.
            backend.encode_special_tokens = not special
            return [e.ids for e in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def id_to_piece(self, id: int) -> str:
        """Returns the file's name of an id: byte-level pieces are in GPT-2's letters for bytes."""
        return self._names.get(int(id), "")

    @functools.cached_property
    def bytes_of_ids(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes that each id stands for; nothing for control ids and `unk_id`."""
        return tuple(self._bytes(id) for id in range(self.vocab_size))

    def _bytes(self, id: int) -> bytes:
        piece = self._names.get(id)
        if piece is None or id == self.unk_id:
            return b""
        if id in self._added:
            if self._added[id].special:
                return b""
            return piece.replace(_SPACE_MARK, " ").encode() if self.kind == "mark" else (
                piece.encode()
            )  # fmt: skip
        if self.kind == "bytes":
            if all(letter in letters() for letter in piece):
                return bytes(letters()[letter] for letter in piece)
            return piece.encode()
        if self.kind == "suffix":
            cut = piece.removesuffix(self._suffix)
            return (cut + " " * (cut != piece)).encode()
        if match := _BYTE.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return piece.replace(_SPACE_MARK, " ").encode()

    @functools.cached_property
    def partial(self) -> np.ndarray:
        """bool [vocab_size]: byte pieces, and parts of characters."""
        return np.array([self._is_partial(id) for id in range(self.vocab_size)])

    def _is_partial(self, id: int) -> bool:
        if self.kind == "mark" and _BYTE.fullmatch(self.id_to_piece(id)):
            return True
        try:
            self.bytes_of_ids[id].decode()
        except UnicodeDecodeError:
            return True
        return False


def _kind(path: pathlib.Path, content: dict[str, Any]) -> str:
    """Returns how pieces spell text: "bytes", "mark" (▁ is a space) or "suffix" (a word's end)."""
    model = content["model"].get("type")
    stages = [s for key in ("normalizer", "pre_tokenizer", "decoder") for s in _flat(content[key])]
    types = {stage["type"] for stage in stages}
    if model in ("BPE", "Unigram"):
        if "ByteLevel" in types:
            return "bytes"
        marks = {stage["replacement"] for stage in stages if stage["type"] == "Metaspace"}
        marks |= {
            stage["pattern"].get("String")
            for stage in _flat(content["decoder"])
            if stage["type"] == "Replace" and stage["content"] == " "
        }
        if marks == {_SPACE_MARK}:
            return "mark"
        if model == "BPE" and content["model"].get("end_of_word_suffix"):
            return "suffix"
    raise ValueError(
        f"{path}: a {model} model with {', '.join(sorted(types)) or 'nothing'} around it isn't "
        "supported; byte-level BPE, BPE and unigram with ▁ for a space, and BPE with a suffix are."
    )


def _flat(stage: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yields the parts of a normalizer, pre-tokenizer or decoder."""
    if stage is None:
        return
    if stage["type"] != "Sequence":
        yield stage
        return
    for part in stage.get("normalizers") or stage.get("pretokenizers") or stage["decoders"]:
        yield from _flat(part)


def _add(path: pathlib.Path, backend: Any, settings: dict[str, Any]) -> None:
    """Adds the tokens that only the files beside name, as `transformers` does on loading."""
    from tokenizers import AddedToken

    for id, token in settings["added"].items():
        flags = {key: value for key, value in token.items() if key != "content"}
        wanted = AddedToken(token["content"], **flags)
        if repr(backend.get_added_tokens_decoder().get(id)) != repr(wanted):
            backend.add_tokens([wanted])
        if (found := backend.token_to_id(token["content"])) != id:
            raise ValueError(
                f"{path}: the files beside it give {token['content']!r} the id {id}, but it is "
                f"{found} here; one of the files belongs to another model."
            )
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    for name in (*settings["named"].values(), *settings["extra"]):
        if name not in known:
            backend.add_special_tokens([name])


def _first_added(backend: Any) -> int | None:
    """Returns the id that the post-processor puts before a text, if it does."""
    alone = backend.encode("a", add_special_tokens=False).ids
    whole = backend.encode("a").ids
    for shift in range(len(whole) - len(alone) + 1):
        if whole[shift : shift + len(alone)] == alone:
            return whole[0] if shift else None
    return None


def _without_control(backend: Any, model: dict[str, Any], added: dict[int, Any]) -> Any:
    """Returns a backend in which no text leads to a special token.

    The library can take special tokens for text, but then still finds them among the pieces
    of the model: a unigram's always, a BPE's where merges lead there.
    """
    from tokenizers import Tokenizer as Backend

    special = {token.content for token in added.values() if token.special}
    if model["type"] == "Unigram":
        inside = special & {piece for piece, _ in model["vocab"]}
    else:
        inside = special & model["vocab"].keys()
        if inside and not model.get("ignore_merges"):
            ends = {name for name in inside if len(name) == 1}
            inside = ends | (inside & {"".join(_pair(merge)) for merge in model["merges"]})
    if not inside:
        return backend
    content = json.loads(backend.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] not in inside]
    changed = content["model"]
    if changed["type"] == "Unigram":
        changed["vocab"] = [[_hidden(piece, inside), score] for piece, score in changed["vocab"]]
    else:
        changed["vocab"] = {_hidden(piece, inside): id for piece, id in changed["vocab"].items()}
        changed["merges"] = [
            pair
            for pair in map(_pair, changed["merges"])
            if not {*pair, "".join(pair)} & inside
        ]  # fmt: skip
        if changed.get("unk_token"):
            changed["unk_token"] = _hidden(changed["unk_token"], inside)
    # Its template names tokens that are hidden now.
    content["post_processor"] = None
    return Backend.from_str(json.dumps(content))


def _hidden(piece: str, names: set[str]) -> str:
    return _UNREACHABLE + piece if piece in names else piece


def _pair(merge: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)


@functools.cache
def letters() -> dict[str, int]:
    """Returns the byte that each letter of a byte-level vocabulary stands for.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", as published:
    Latin-1's printable characters stand for themselves, other bytes are moved up from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + n): byte for n, byte in enumerate(moved)}


@contextlib.contextmanager
def _parallel(on: bool) -> Iterator[None]:
    """The library works on all cores or on one; it looks at this variable in every call."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "true" if on else "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
