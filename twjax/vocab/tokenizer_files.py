"""The files of a vocabulary, without the libraries that run them: which, what they say, their hash.

Beside a tokenizer `transformers` writes `tokenizer_config.json`, and formerly
`special_tokens_map.json` and `added_tokens.json`, which count where the first doesn't list the
added tokens itself.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
from typing import Any

from twjax import storage

_JSON = "tokenizer.json"
# What models of Llama, Gemma, Mistral; T5; XLM-R call their SentencePiece file.
_PIECES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_SAID = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# The parts of a tokenizer.json that decide ids; the rest is decoding, padding, truncation.
_DECISIVE = ("added_tokens", "normalizer", "pre_tokenizer", "model", "post_processor")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def locate(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the file to read: the one named, or that of a folder, `tokenizer.json` first."""
    path = pathlib.Path(path)
    if not path.is_dir():
        return path
    for name in (_JSON, *_PIECES):
        if (path / name).is_file():
            return path / name
    raise ValueError(f"{path}: has no vocabulary; looked for {', '.join((_JSON, *_PIECES))}.")


def located(path: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Returns the file of `locate`, then the SentencePiece model that a folder has beside it."""
    first = locate(path)
    if not pathlib.Path(path).is_dir() or first.name != _JSON:
        return [first]
    others = [first.parent / name for name in _PIECES if (first.parent / name).is_file()]
    return [first, *others[:1]]


def present(folder: pathlib.Path) -> bool:
    """Whether a folder has a vocabulary file."""
    return any((folder / name).is_file() for name in (_JSON, *_PIECES))


def tokenizer_side_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns what belongs to a folder's tokenizer beside the file that has its pieces."""
    names = (*_SAID, "chat_template.jinja", "chat_template.json")
    return [folder / name for name in names if (folder / name).is_file()]


def vocabulary_sha256(path: str | os.PathLike[str]) -> str:
    """Returns the hash of everything that decides ids in a vocabulary file or folder.

    Of a SentencePiece model alone it is the hash of the file; of a `tokenizer.json` it doesn't
    change with the file's layout, nor with what doesn't decide ids.
    """
    file = locate(path)
    said = settings(file)
    whole = storage.sha256_file(file)
    if file.suffix == ".json":
        return storage.sha256_json([_decisive_sha256(str(file), whole), said])
    return whole if said is None else storage.sha256_json([whole, said])


@functools.lru_cache(maxsize=8)
def _decisive_sha256(file: str, whole: str) -> str:
    content = _json(pathlib.Path(file))
    return storage.sha256_json({key: content.get(key) for key in _DECISIVE})


def settings(file: pathlib.Path) -> dict[str, Any] | None:
    """Returns what the files beside a vocabulary file say, as plain values.

    They are read where the file has the name that `transformers` gives it; else, or without such
    files, None.

    "named": {role: content}. "extra": contents of further special tokens. "added": {id: token},
    a token being {"content": …, "special": …, "lstrip": … …}. "adds_bos": bool, or None where
    nothing is said.
    """
    folder = file.parent
    if file.name not in (_JSON, *_PIECES) or not any((folder / n).is_file() for n in _SAID):
        return None
    config = _json(folder / "tokenizer_config.json")
    added: dict[int, dict[str, Any]] = {}
    if "added_tokens_decoder" in config:
        for id, token in config["added_tokens_decoder"].items():
            added[int(id)] = _token(token)
    else:
        config |= _json(folder / "special_tokens_map.json")
    special = {
        _content(value)
        for name, value in config.items()
        if name.endswith("_token") and _content(value)
    }
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    extra = [_content(value) for value in (extra.values() if isinstance(extra, dict) else extra)]
    if "added_tokens_decoder" not in config:
        for content, id in _json(folder / "added_tokens.json").items():
            known = content in special or content in extra
            added[id] = _token({"content": content, "special": known, "normalized": not known})
    named = {
        name.removesuffix("_token"): _content(value)
        for name, value in config.items()
        if name.endswith("_token") and _content(value)
    }
    adds_bos = config.get("add_bos_token")
    if adds_bos is not None and not isinstance(adds_bos, bool):
        raise ValueError(
            f"{folder / 'tokenizer_config.json'}: add_bos_token ({adds_bos!r}) must be true or "
            "false."
        )
    return {
        "named": named,
        "extra": extra,
        "added": dict(sorted(added.items())),
        "adds_bos": adds_bos,
    }


def _json(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}).") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds a {type(found).__name__}, not an object.")
    return found


def _content(value: Any) -> str:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else ""


def _token(value: dict[str, Any]) -> dict[str, Any]:
    return {"content": value["content"], **{flag: bool(value.get(flag)) for flag in _FLAGS}}
