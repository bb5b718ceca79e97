"""One HTML file that tells what runs did: it holds all it needs and asks no network."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

from twjax.progress import track
from twjax.report import balance, curves, measures, samples, several, shell, single
from twjax.report.frame import clean
from twjax.report.summary import Comparison, Roles, caveats, compare, headline, replay_sentence
from twjax.report.trunk import whole_run
from twjax.storage import atomic_writer

Path = str | os.PathLike[str]
# Logs of so many bytes take seconds to read.
LARGE = 50_000_000

_NOTE = (
    "Bits-per-byte: the model's loss on held-out text in bits, per UTF-8 byte of it; lower is "
    "better."
)


def write_report(
    runs: Sequence[Path] | Mapping[str, Path],
    output: Path,
    title: str = "",
    roles: Roles | None = None,
) -> pathlib.Path:
    """Writes the report of one run, or of several side by side, and returns its path.

    `runs` are run directories; a mapping names them. Of several runs the comparison comes first.
    Raises ValueError for a folder that is no run directory, or for a run or domain in `roles`
    that these runs don't have. The file is whole or absent.
    """
    named = runs if isinstance(runs, Mapping) else None
    paths = list(named.values()) if named is not None else list(runs)
    if not paths:
        raise ValueError("a report needs at least one run directory.")
    names = list(named) if named is not None else _names(paths)
    pairs = list(zip(paths, names, strict=True))
    shown = track(pairs, len(pairs), "read", "run") if sum(map(_size, paths)) > LARGE else pairs
    logs = [whole_run(path, name) for path, name in shown]
    comparison = compare(logs, roles)
    title = title or (f"Run {names[0]}" if len(logs) == 1 else f"{len(logs)} runs compared")
    body = _one(comparison) if len(logs) == 1 else _many(comparison)
    with atomic_writer(output) as file:
        file.write(shell.document(title, body, _NOTE))
    return pathlib.Path(output)


def _size(run: Path) -> int:
    log = pathlib.Path(run) / "metrics.jsonl"
    return log.stat().st_size if log.is_file() else 0


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' names, with as many parents as tell them apart."""
    parts = [pathlib.Path(path).resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"{paths[0]}: a run is given twice; name each run once.")


def _one(comparison: Comparison) -> str:
    run = comparison.runs[0]
    lead = f'<p class="lead">{clean(headline(comparison, run))}</p>'
    return lead + single.run_section(comparison, run)


def _many(comparison: Comparison) -> str:
    parts = []
    replay = replay_sentence(comparison)
    if replay:
        parts.append(f'<p class="lead">{clean(replay)}</p>')
    pictures = [balance.of_runs(comparison), several.plane(comparison)]
    parts.append(single.charts([picture for picture in pictures if picture]))
    told = " ".join(caveats(comparison))
    parts.append(f'<p class="note">{clean(told)}</p>' if told else "")
    lines = several.run_lines(comparison)
    if lines:
        items = "".join(f"<li><b>{clean(run.name)}</b>: {clean(text)}.</li>" for run, text in lines)
        parts.append(f"<ul>{items}</ul>")
    links = "".join(
        f'<a href="#run-{i}">{clean(run.name)}</a>' for i, run in enumerate(comparison.runs)
    )
    parts.append(f"<nav>Each run: {links}</nav>")
    parts.append("<h2>Comparison: bits-per-byte by domain</h2>")
    parts.append(several.comparison_table(comparison))
    parts.append(single.charts(several.domain_charts(comparison)))
    measured = several.measure_charts(comparison)
    if measured:
        parts.append("<h3>Beyond bits-per-byte</h3>")
        parts += [measures.changes_table(comparison.continued), single.charts(measured)]
    parts.append(
        f"<h3>Training</h3>{single.charts(curves.comparison_charts(several.coloured(comparison)))}"
    )
    parts.append(samples.across_runs(comparison))
    parts.append(several.differences(comparison))
    for i, run in enumerate(comparison.runs):
        parts.append(
            f'<section id="run-{i}"><h2>Run: {clean(run.name)}</h2>'
            f'<p class="lead">{clean(headline(comparison, run))}</p>'
        )
        parts.append(single.run_section(comparison, run) + "</section>")
    return "".join(parts)
