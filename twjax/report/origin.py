"""Where a run's weights came from: a model, or an export of twjax and what that was trained on."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from twjax.huggingface.carry import FOLDER
from twjax.huggingface.exporting import EXPORT_FILE
from twjax.huggingface.merging import MERGE_FILE
from twjax.report.settings import read_settings, source_folder
from twjax.storage import read_json, sha256_file
from twjax.training.checkpoint import IMPORT_FILE

HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
# Runs that began with the weights of runs: further back than this nobody looks.
_FURTHEST = 20
# What a card has where the licence isn't recorded.
UNKNOWN_LICENSE = "unknown"


@dataclasses.dataclass(frozen=True)
class License:
    """A licence by the hub's id; `name` and `link` say which one "other" is."""

    id: str = ""
    name: str = ""
    link: str = ""


@dataclasses.dataclass(frozen=True)
class Text:
    """What was read of one corpus, and what its manifest says; None where that isn't recorded.

    `same` says whether the manifest is that of what was read; False where it was built anew since.
    """

    name: str
    rows: int
    share: float
    tokens: int | None = None
    documents: int | None = None
    bytes: int | None = None
    licenses: Mapping[str, tuple[int, int]] | None = None
    sources: Mapping[str, tuple[int, int]] | None = None
    languages: tuple[str, ...] = ()
    contaminated: int | None = None
    same: bool | None = None


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What twjax trained an export on: its name, its texts, and runs of others in between."""

    name: str
    steps: int
    tokens: float | None
    texts: tuple[Text, ...]
    through: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Lineage:
    """What an export says of itself: the model that was trained (None: random weights), and how.

    `runs` are the oldest first; without any the weights are the origin's own.
    """

    origin: Base | None
    runs: tuple[Earlier, ...]


@dataclasses.dataclass(frozen=True)
class Base:
    """What the weights were before: a model's name, its id on the hub, and its licence.

    Each is empty where it isn't recorded. `through` are the runs in between, the nearest first.
    `exported` says that twjax has written the model; then `lineage` is what is recorded of it.
    """

    name: str = ""
    hub_id: str = ""
    license: License = License()
    through: tuple[str, ...] = ()
    exported: bool = False
    lineage: Lineage | None = None

    @property
    def runs(self) -> tuple[Earlier, ...]:
        """What is recorded of how twjax trained the model."""
        return self.lineage.runs if self.lineage else ()


def base_of(run_dir: pathlib.Path, stated: str = "") -> Base | None:
    """Follows `Run.init` back to a model; None where training began with random weights.

    `stated` is the model's id on the hub, if its user says so.
    """
    through: list[str] = []
    folder: pathlib.Path | None = run_dir
    name = ""
    for _ in range(_FURTHEST):
        config = read_settings(folder).run
        following = None if config is None else source_folder(config)
        if following is None:
            # Random weights, or nothing more is known.
            if config is None:
                break
            if not through:
                return None
            return Base(through[-1], stated, through=tuple(through[:-1]))
        folder, name = following, following.name
        if (folder / IMPORT_FILE).is_file():
            break
        if (folder / "config.gin").is_file():
            through.append(name)
    return _described(_source_of(folder), run_dir / FOLDER, stated, tuple(through))


def base_of_import(folder: pathlib.Path, stated: str = "") -> Base:
    """Returns what an imported model is."""
    return _described(_source_of(folder), folder / FOLDER, stated, ())


def _described(
    source: pathlib.Path, carried: pathlib.Path, stated: str, through: tuple[str, ...]
) -> Base:
    """Returns what is known of a model's folder, by its place and the files that came along."""
    hub_id = stated or hub_id_of(source)
    base = Base(source.name, hub_id, _license(carried), through)
    exported, lineage = _export(carried)
    if lineage is not None and not lineage.runs and lineage.origin is not None:
        # An export of weights that nobody trained: they are the origin's own.
        origin = dataclasses.replace(lineage.origin, through=through)
        return dataclasses.replace(origin, hub_id=stated or origin.hub_id)
    origin = None if lineage is None else lineage.origin
    if origin is not None and not base.license.id:
        base = dataclasses.replace(base, license=origin.license)
    return dataclasses.replace(base, exported=exported, lineage=lineage)


def _source_of(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder that a model was imported from, or itself."""
    try:
        return pathlib.Path(str(read_json(folder / IMPORT_FILE)["source"]))
    except (OSError, ValueError, KeyError, TypeError):
        return folder.resolve() if hub_id_of(folder.resolve()) else folder


def hub_id_of(folder: pathlib.Path) -> str:
    """Returns the id of a model in the hub's cache (…/models--org--name/snapshots/…), or empty."""
    for above, below in zip(folder.parts, folder.parts[1:], strict=False):
        if above.startswith("models--") and below == "snapshots":
            found = above.removeprefix("models--").replace("--", "/")
            return found if HUB_ID.fullmatch(found) else ""
    return ""


def _license(carried: pathlib.Path) -> License:
    """Returns the licence by the card that came along; a merged folder's is one of its models'."""
    try:
        card = (carried / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return License()
    found = License(*(front_matter(card, f"license{part}") for part in ("", "_name", "_link")))
    return License() if found.id == UNKNOWN_LICENSE or _is_merged(carried) else found


def _is_merged(carried: pathlib.Path) -> bool:
    """Whether a folder was made of several models, and not exported after that."""
    merged = carried / MERGE_FILE
    if not merged.is_file():
        return False
    try:
        return read_json(carried / EXPORT_FILE)["files"][MERGE_FILE] != sha256_file(merged)
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _export(carried: pathlib.Path) -> tuple[bool, Lineage | None]:
    """Returns whether a folder is an export of twjax, and what is recorded of it."""
    file = carried / EXPORT_FILE
    if not file.is_file() or _is_merged(carried):
        return False, None
    try:
        return True, lineage_of(read_json(file)["source"]["lineage"])
    except (AttributeError, OSError, ValueError, KeyError, TypeError):
        return True, None


def record_of(lineage: Lineage) -> dict[str, Any]:
    """Returns what JSON can hold of a lineage."""
    origin = lineage.origin
    kept = ("name", "hub_id", "license", "exported")
    fields = {} if origin is None else dataclasses.asdict(origin)
    return {
        "base": {name: fields[name] for name in kept} if fields else None,
        "runs": [dataclasses.asdict(run) for run in lineage.runs],
    }


def lineage_of(record: Mapping[str, Any]) -> Lineage:
    """Reads what `record_of` wrote; raises an error for what it can't have written."""
    origin = record["base"]
    return Lineage(
        None if origin is None else _origin(origin),
        tuple(
            Earlier(
                name=str(run["name"]),
                steps=int(run["steps"]),
                tokens=None if run["tokens"] is None else float(run["tokens"]),
                texts=tuple(_text(text) for text in run["texts"]),
                through=tuple(map(str, run["through"])),
            )
            for run in record["runs"]
        ),
    )


def _origin(record: Mapping[str, Any]) -> Base:
    license = [str(record["license"][name]) for name in ("id", "name", "link")]
    name, hub_id = str(record["name"]), str(record["hub_id"])
    return Base(name, hub_id, License(*license), exported=record["exported"] is True)


def _text(record: Mapping[str, Any]) -> Text:
    def whole(name: str) -> int | None:
        return None if record[name] is None else int(record[name])

    def groups(name: str) -> dict[str, tuple[int, int]] | None:
        found = record[name]
        if found is None:
            return None
        return {str(key): (int(count), int(size)) for key, (count, size) in found.items()}

    return Text(
        name=str(record["name"]),
        rows=int(record["rows"]),
        share=float(record["share"]),
        tokens=whole("tokens"),
        documents=whole("documents"),
        bytes=whole("bytes"),
        licenses=groups("licenses"),
        sources=groups("sources"),
        languages=tuple(map(str, record["languages"])),
        contaminated=whole("contaminated"),
        same=None if record["same"] is None else bool(record["same"]),
    )


def front_matter(card: str, field: str) -> str:
    """Returns a plain field of a card's metadata; empty where it has none."""
    parts = re.split(r"^---\s*$", card, maxsplit=2, flags=re.M)
    if len(parts) < 3 or parts[0].strip():
        return ""
    found = re.search(rf"^{field}:[ \t]*(\S.*?)\s*$", parts[1], re.M)
    return found[1].strip("\"'") if found else ""
