"""What goes through twjax unread: tokenizer, chat template, generation config, file layout.

A run or an imported model keeps them beside its checkpoints: `hf/` holds the files of the original
folder as they were, `hf_layout.json` how its weights were cut into files, and
`hf_extras.safetensors` the tensors that carry no weights. With these an export gives back the
same bytes, wherever the original is by then.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from typing import Any

import numpy as np
import safetensors.numpy

from twjax.huggingface.folder import CONFIG, HubFolder
from twjax.huggingface.tensors import INDEX
from twjax.storage import read_json, write_json

FOLDER, LAYOUT, EXTRAS = "hf", "hf_layout.json", "hf_extras.safetensors"

# Weights, in whatever form.
_WEIGHTS = (
    ".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".pt", ".pth", ".safetensors",
)  # fmt: skip
# Folders of small files that belong to a tokenizer.
_FOLDERS = ("additional_chat_templates",)
TOKENIZER = (
    "tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json",
    "vocab.txt", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Carried:
    """The original's files and layout, as a run or an imported model keeps them."""

    root: pathlib.Path
    config: dict[str, Any]
    # Header bytes of each weight file, in the index's order of files.
    headers: dict[str, bytes]

    @classmethod
    def open(cls, root: pathlib.Path) -> Carried | None:
        """Opens what is kept below a run's folder; None when nothing is."""
        if not (root / LAYOUT).is_file():
            return None
        headers = {
            name: text.encode() for name, text in read_json(root / LAYOUT)["headers"].items()
        }
        return cls(root, read_json(root / FOLDER / CONFIG), headers)

    @property
    def folder(self) -> pathlib.Path:
        return self.root / FOLDER

    def extras(self) -> dict[str, bytes]:
        """Returns the bytes of the tensors that carry no weights."""
        path = self.root / EXTRAS
        if not path.is_file():
            return {}
        return {name: array.tobytes() for name, array in safetensors.numpy.load_file(path).items()}


def end_ids(root: pathlib.Path) -> frozenset[int]:
    """Returns the ids that end a text by the original's generation_config.json or config.json.

    A model that talks in turns has several. Empty where nothing came along.
    """
    for name in ("generation_config.json", CONFIG):
        path = root / FOLDER / name
        found = read_json(path).get("eos_token_id") if path.is_file() else None
        if found is not None:
            return frozenset(found if isinstance(found, list) else [found])
    return frozenset()


def carried_files(folder: pathlib.Path) -> list[str]:
    """Returns the names of a folder's files that aren't weights, below it, sorted."""
    found = []
    for item in sorted(folder.iterdir()):
        if item.name.startswith(".") or item.name == INDEX or item.name.endswith(".bin.index.json"):
            continue
        if item.is_dir() and item.name in _FOLDERS:
            found += [f"{item.name}/{f.name}" for f in sorted(item.iterdir()) if f.is_file()]
        elif item.is_file() and item.suffix not in _WEIGHTS:
            found.append(item.name)
    return found


def keep(hub: HubFolder, root: pathlib.Path) -> None:
    """Keeps a folder's files and layout below `root`."""
    for name in carried_files(hub.path):
        copy_file(hub.path / name, root / FOLDER / name)
    if hub.reader.index is not None:
        copy_file(hub.path / INDEX, root / FOLDER / INDEX)
    if hub.ignored:
        _keep_extras(hub, root / EXTRAS)
    headers = {name: shard.header.decode() for name, shard in hub.reader.shards.items()}
    write_json(root / LAYOUT, {"headers": headers})


def copy_file(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a file's bytes; a link becomes the file that it names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _keep_extras(hub: HubFolder, path: pathlib.Path) -> None:
    """Writes the ignored tensors as bytes: their dtype is that of the original's header."""
    tensors = {name: np.frombuffer(hub.reader.raw(name), np.uint8) for name in hub.ignored}
    safetensors.numpy.save_file(tensors, path)
