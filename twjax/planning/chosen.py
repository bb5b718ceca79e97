"""What a search chose, as a gin file on top of the one that was given."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence

from twjax import config, storage
from twjax.config.loader import CONFIG_ROOTS, resolve
from twjax.planning.candidates import Point
from twjax.planning.search import Outcome
from twjax.planning.topology import GIB, Topology


def write_chosen(
    path: str | pathlib.Path,
    outcome: Outcome,
    file: str,
    bindings: Sequence[str],
    topology: Topology,
) -> str:
    """Writes a gin file that includes `file` and sets what differs; returns its text.

    `bindings` are the user's own beside the file. What is written is loaded again before it is
    there: raises `ConfigError` where it wouldn't give the chosen run (a file that makes its parts
    under other names, say).
    """
    run = config.load(config.Run, [file], bindings).value
    point = outcome.candidate.point
    text = chosen_text(outcome, file, [*bindings, *point.bindings(run, topology.num_devices)],
                       topology)  # fmt: skip
    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory(prefix="twjax-search-") as folder:
        draft = pathlib.Path(folder, "chosen.gin")
        draft.write_text(text, encoding="utf-8")
        try:
            loaded = config.load(config.Run, [draft]).value
        except config.ConfigError:
            # Settings under a scope's name aren't reached without it.
            loaded = None
    if loaded is None or not _same(loaded, point.apply(run), topology):
        raise config.ConfigError(
            f"{file}: what was found can't be set from outside of it. Set it there: "
            f"{'; '.join(point.bindings(run, topology.num_devices))}."
        )
    with storage.atomic_writer(path) as output:
        output.write(text)
    return text


def chosen_text(outcome: Outcome, file: str, bindings: Sequence[str], topology: Topology) -> str:
    """Returns the file's text, which says what was predicted of it."""
    plan = outcome.plan
    assert plan is not None
    told = f"{plan.memory.total / GIB:.1f} of {plan.memory.usable / GIB:.1f} GiB"
    if plan.prediction is not None:
        told = f"{plan.prediction.seconds:.3f} s a step, {told}"
    name = _name(file)
    lines = [
        f"# {name} as twjax plan --search chose it for {topology.name}: {told} predicted.",
        "#",
        f"#   twjax plan {name} --topology {topology.name} --search",
        "",
        f"include '{name}'",
        "",
        *bindings,
    ]
    return "\n".join(lines) + "\n"


def _name(file: str) -> str:
    """Returns a name under which the file is found from anywhere."""
    found = resolve(file).resolve()
    for root in CONFIG_ROOTS:
        if found.is_relative_to(root.resolve()):
            return f"configs/{found.relative_to(root.resolve()).as_posix()}"
    return str(found)


def _same(loaded: config.Run, chosen: config.Run, topology: Topology) -> bool:
    """Whether two runs are equal but for how their meshes are written."""
    points = [Point.of(run, topology.num_devices) for run in (loaded, chosen)]
    return points[0] == points[1] and dataclasses.replace(loaded, mesh=chosen.mesh) == chosen
