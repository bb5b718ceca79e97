"""One HTML file that shows a corpus: counts by step, and examples of each decision, searchable."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twjax import storage
from twjax.report import corpus_samples, shell
from twjax.report.frame import clean

_TEXT = 1_200
_SHOWN = 400


def write_corpus_page(folder: pathlib.Path, output: pathlib.Path, samples: int = 12) -> None:
    """Writes the page of a corpus folder, with up to `samples` examples of each decision.

    Raises ValueError where there is no finished corpus. The file is whole or absent.
    """
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        raise ValueError(
            f"{folder}: no corpus here (manifest.json is missing); build it with "
            "`twjax corpus build CONFIG`."
        )
    manifest = storage.read_json(manifest_path)
    kept = corpus_samples.kept(folder, 3 * samples)
    dropped = corpus_samples.dropped(folder, samples)
    changed = corpus_samples.changed(folder, samples)
    number = len(kept) + sum(map(len, dropped.values())) + sum(map(len, changed.values()))
    body = "".join(
        [
            _tiles(manifest),
            "<h2>Steps</h2>",
            _steps(manifest),
            "<h2>What is in it</h2>",
            f'<div class="charts">{_contents(manifest)}</div>',
            _frequent(manifest),
            "<h2>Examples</h2>",
            '<div class="find"><input id="find" type="search" placeholder="Find in the examples '
            f'(words, reasons, ids)"><span id="found" class="soft" data-of="{number}">'
            f"{number} examples</span></div>",
            '<div class="columns">',
            f"<div><h3>Dropped</h3>{_groups(_dropped(dropped, manifest))}</div>",
            f"<div><h3>Changed</h3>{_groups(_changed(changed))}</div>",
            f"<div><h3>Kept</h3>{_groups([('kept', len(kept), map(_document, kept))])}</div>",
            "</div>",
        ]
    )
    note = (
        "Examples are drawn evenly by a hash of the documents' ids; long ones are cut. Dropped "
        "documents are shown as they were when the rule saw them."
    )
    title = f"Corpus {manifest['name']}"
    with storage.atomic_writer(output) as file:
        file.write(shell.document(title, body, note, "corpus.js"))


def _tiles(manifest: Mapping[str, Any]) -> str:
    counts = manifest["counts"]
    rejected = sum(counts["rejected"].values())
    edits = sum(sum(_edits(step).values()) for step in manifest["steps"])
    tiles = {
        "records read": f"{counts['records']:,}",
        "documents kept": f"{counts['documents']:,}",
        "text kept": f"{counts['bytes'] / 1e6:,.2f} MB",
        "of the text read": f"{counts['bytes'] / max(1, counts['bytes_in']):.1%}",
        "documents rejected": f"{rejected:,}",
        "edits listed": f"{edits:,}",
        "fingerprint": manifest["fingerprint"][:12],
    }
    items = "".join(f"<li><b>{clean(v)}</b>{clean(k)}</li>" for k, v in tiles.items())
    return f'<ul class="tiles">{items}</ul>'


def _edits(step: Mapping[str, Any]) -> dict[str, int]:
    return {kind: of["count"] for kind, of in step.get("edits", {}).items()}


def _table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Returns a table; numbers are right-aligned, the first column heads its line."""

    def cell(value: object, first: bool) -> str:
        if first:
            return f'<th scope="row">{clean(value)}</th>'
        if isinstance(value, int):
            return f'<td class="n">{value:,}</td>'
        return f"<td>{clean(value)}</td>"

    lines = list(lines)
    numeric = [bool(lines) and isinstance(value, int) for value in (lines[0] if lines else header)]
    heads = "".join(
        f"<th{' class=n' if number else ''}>{clean(name)}</th>"
        for name, number in zip(header, numeric, strict=True)
    )
    rows = "".join(
        "<tr>" + "".join(cell(value, i == 0) for i, value in enumerate(line)) + "</tr>"
        for line in lines
    )
    return (
        f'<div class="card"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _pairs(counts: Mapping[str, int], most: int = 12) -> str:
    """Returns the largest counts in one line."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{name} {number:,}" for name, number in ordered[:most])
    return text + (f", and {len(ordered) - most} more" if len(ordered) > most else "")


def reading_rejects(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Returns what was rejected before any step: all rejections less those of the steps."""
    rejected = dict(manifest["counts"]["rejected"])
    for step in manifest["steps"]:
        for reason, number in step["rejected"].items():
            rejected[reason] -= number
    return {reason: number for reason, number in rejected.items() if number}


def _steps(manifest: Mapping[str, Any]) -> str:
    counts = manifest["counts"]
    rejects = reading_rejects(manifest)
    lines = [("read", counts["records"], counts["documents_in"], _pairs(rejects), "", "")]
    lines += [
        (
            step["name"],
            step["in"],
            step["out"],
            _pairs(step["rejected"]),
            _pairs(step["changed"]),
            _pairs(_edits(step)),
        )
        for step in manifest["steps"]
    ]
    return _table(("step", "in", "out", "rejected", "changed", "edits"), lines)


def _contents(manifest: Mapping[str, Any]) -> str:
    parts = []
    for title, key in (("Licence", "licenses"), ("Source", "sources")):
        groups = sorted(manifest.get(key, {}).items(), key=lambda item: -item[1]["bytes"])
        if groups:
            lines = [(name, of["documents"], of["bytes"]) for name, of in groups[:60]]
            parts.append(f"<div>{_table((title, 'documents', 'bytes'), lines)}</div>")
    for title, key in (("Language", "languages"), ("Region", "regions")):
        if manifest.get(key):
            ordered = sorted(manifest[key].items(), key=lambda item: -item[1])
            parts.append(f"<div>{_table((title, 'documents'), ordered)}</div>")
    return "".join(parts)


def _frequent(manifest: Mapping[str, Any]) -> str:
    """Returns the replacements that were made most often, by step."""
    lines = sorted(
        (
            (before, after, step["name"], number)
            for step in manifest["steps"]
            for of in step.get("edits", {}).values()
            for before, after, number in of["frequent"]
        ),
        key=lambda line: -line[3],
    )
    if not lines:
        return ""
    table = _table(("before", "after", "step", "times"), lines[:80])
    return f"<h2>Most frequent replacements</h2>{table}"


def _example(head: str, body: str) -> str:
    return (
        f'<div class="example" data-example><div class="soft">{head}</div>'
        f'<div class="text">{body}</div></div>'
    )


def _document(row: Mapping[str, Any]) -> str:
    meta = dict(row["meta"])
    labels = [f"{key} {meta[key]}" for key in ("region", "quality", "harm") if key in meta]
    head = " · ".join([row["id"], row["lang"], row["license"], *labels])
    return _example(clean(head), _cut(row["text"]))


def _cut(text: str) -> str:
    """Returns the beginning of a text, and its end where it is long."""
    if len(text) <= _TEXT:
        return clean(text)
    middle = f"[… {len(text) - 2 * _SHOWN:,} characters …]"
    return f'{clean(text[:_SHOWN])} <span class="soft">{middle}</span> {clean(text[-_SHOWN:])}'


def _dropped(
    examples: Mapping[str, list[dict[str, Any]]], manifest: Mapping[str, Any]
) -> list[tuple[str, int, Iterable[str]]]:
    totals = manifest["counts"]["rejected"]

    def line(row: Mapping[str, Any]) -> str:
        head = f"{row['id']} · {row['lang']} · saw: {row['value'][:200] or '–'}"
        return _example(clean(head), _cut(row["text"]))

    ordered = sorted(examples, key=lambda reason: -totals.get(reason, 0))
    return [(r, totals.get(r, len(examples[r])), map(line, examples[r])) for r in ordered]


def _changed(
    examples: Mapping[tuple[str, str], list[corpus_samples.Change]],
) -> list[tuple[str, int, Iterable[str]]]:
    def line(change: corpus_samples.Change) -> str:
        body = (
            f"{clean(change.left)}<del>{clean(change.before[:_SHOWN])}</del>"
            f"<ins>{clean(change.after[:_SHOWN])}</ins>{clean(change.right)}"
        )
        return _example(clean(change.id), body)

    return [
        (f"{step}: {kind}", len(changes), map(line, changes))
        for (step, kind), changes in examples.items()
    ]


def _groups(groups: Iterable[tuple[str, int, Iterable[str]]]) -> str:
    parts = [
        f'<details class="group" data-group open><summary>{clean(name)} '
        f'<span class="soft">{number:,}</span></summary>{"".join(examples)}</details>'
        for name, number, examples in groups
    ]
    return "".join(parts) or '<p class="none">None.</p>'
