"""What a model card may say of a run: only what the run's own files have recorded."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import TypeVar

from twjax.report import measures, mixing
from twjax.report.provenance import Consumed, Corpus, consumed, corpora_of
from twjax.report.read import RunLog, read_run
from twjax.report.settings import read_settings, source_folder
from twjax.report.summary import Change, compare
from twjax.storage import read_json
from twjax.training.checkpoint import IMPORT_FILE

T = TypeVar("T")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# Runs that began with the weights of runs: further back than this nobody looks.
_FURTHEST = 20


@dataclasses.dataclass(frozen=True)
class Base:
    """What the weights were before: a model's name, its id on the hub, and its licence.

    Each is empty where it isn't recorded. `through` are the runs in between, the nearest first.
    """

    name: str = ""
    hub_id: str = ""
    license: str = ""
    through: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Facts:
    """All of a card's facts, at the exported step; `run` has no evaluation after it.

    `measured` are (measure, task, first value, last value) of other evaluations, `used` the part
    of its allowance that each protected domain has used.
    """

    name: str
    run: RunLog
    step: int
    average: bool
    base: Base | None
    corpora: dict[str, Corpus]
    read: dict[str, Consumed]
    changes: list[Change]
    measured: list[tuple[measures.Measure, str, float, float]]
    used: dict[str, float]

    @property
    def languages(self) -> list[str]:
        """The hub's codes of the languages that were read, the most read first."""
        order = sorted(self.read, key=lambda task: -self.read[task].rows)
        tags = [tag for name in order if name in self.corpora
                for tag in self.corpora[name].languages]  # fmt: skip
        return list(dict.fromkeys(tag.split("-")[0].lower() for tag in tags))


def gather(run_dir: pathlib.Path, name: str, step: int, *, average: bool) -> Facts:
    """Reads a run's directory; `average` says that it isn't the last weights that are exported.

    Raises ValueError for a folder that is no run directory.
    """
    whole = read_run(run_dir)
    run = dataclasses.replace(
        whole,
        bits_per_byte={
            task: kept
            for task, points in whole.bits_per_byte.items()
            if (kept := _until(points, step))
        },
        results={
            kind: {t: kept for t, p in of.items() if (kept := _until(p, step))}
            for kind, of in whole.results.items()
        },
    )
    measured = []
    for measure in measures.measures_of([run]):
        for task in measures.tasks([run], measure):
            points = measures.points(run, measure, task)
            measured.append((measure, task, points[min(points)], points[max(points)]))
    return Facts(
        name=name,
        run=run,
        step=step,
        average=average,
        base=base_of(run_dir),
        corpora={corpus.name: corpus for corpus in corpora_of(run)},
        read={task: of for task, of in consumed(run, step).items() if of.rows},
        changes=compare([run]).changes(run),
        measured=measured,
        used={task: points[max(points)] for task, points in mixing.budget_used(run).items()},
    )


def base_of(run_dir: pathlib.Path) -> Base | None:
    """Follows `Run.init` back to a model; None where training began with random weights."""
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
            return Base(through[-1], through=tuple(through[:-1])) if through else None
        folder, name = following, following.name
        if (folder / IMPORT_FILE).is_file():
            break
        if (folder / "config.gin").is_file():
            through.append(name)
    carried = run_dir / "hf"
    return Base(_imported_name(folder) or name, *_original(carried), tuple(through))


def _imported_name(folder: pathlib.Path) -> str:
    """Returns the name of the folder that a model was imported from."""
    try:
        return pathlib.Path(str(read_json(folder / IMPORT_FILE)["source"])).name
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _original(carried: pathlib.Path) -> tuple[str, str]:
    """Returns the hub's id and the licence of the original, by the files that came along."""
    try:
        path = str(read_json(carried / "config.json").get("_name_or_path", ""))
    except (OSError, ValueError, AttributeError):
        path = ""
    hub_id = path if _HUB_ID.fullmatch(path) and not path.startswith((".", "/")) else ""
    try:
        card = (carried / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        card = ""
    return hub_id, front_matter(card, "license")


def front_matter(card: str, field: str) -> str:
    """Returns a plain field of a card's metadata; empty where it has none."""
    parts = re.split(r"^---\s*$", card, maxsplit=2, flags=re.M)
    if len(parts) < 3 or parts[0].strip():
        return ""
    found = re.search(rf"^{field}:[ \t]*(\S.*?)\s*$", parts[1], re.M)
    return found[1].strip("\"'") if found else ""


def _until(points: dict[int, T], step: int) -> dict[int, T]:
    return {at: value for at, value in points.items() if at <= step}
