"""What vocabularies make of texts, as plain values, as lines for a terminal, and as a page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from twjax.config import Model
from twjax.report import shell
from twjax.report.bars import bar_chart
from twjax.report.embedding import ModelRows
from twjax.report.frame import clean
from twjax.storage import atomic_writer
from twjax.vocab.report import Fit, Survey
from twjax.vocab.rows import NEAR_ZERO
from twjax.vocab.tokenizer import Tokenizer

Lines = list[tuple[str, ...]]


def as_values(
    vocabularies: Mapping[str, Tokenizer],
    survey: Survey,
    rows: Mapping[str, ModelRows],
    cost: Callable[[Model], float],
) -> dict[str, Any]:
    """Returns the report as JSON values.

    "speed_up" is of each vocabulary against the first one, on Taiwan's texts: "tokens" is how
    many times fewer tokens they take, and "time" how many times less arithmetic, where a decoder
    is given: `cost` is that of one of its tokens, when its output matrix has a row for each id.
    """
    first = next(iter(vocabularies))
    model = next(iter(rows.values())).model if rows else None
    speed_up = {}
    for name, vocabulary in vocabularies.items():
        fewer = survey.taiwan[first].tokens / max(1, survey.taiwan[name].tokens)
        speed_up[name] = {"tokens": fewer, "time": None}
        if model is not None and not model.encoder_layers:
            sizes = (vocabularies[first].vocab_size, vocabulary.vocab_size)
            models = [dataclasses.replace(model, vocab_size=size) for size in sizes]
            one, other = map(cost, models)
            speed_up[name]["time"] = fewer * one / other
    return {
        "vocabularies": {
            name: {"path": str(v.path), "sha256": v.sha256, "ids": v.vocab_size}
            for name, v in vocabularies.items()
        },
        "fits": {
            name: {domain: _fit(fit) for domain, fit in fits.items()}
            for name, fits in survey.fits.items()
        },
        "taiwan": {name: _fit(fit) for name, fit in survey.taiwan.items()},
        "speed_up": speed_up if survey.taiwan[first].documents else {},
        "coverage": {
            name: {script: dataclasses.asdict(c) for script, c in scripts.items() if c.seen}
            for name, scripts in survey.coverage.items()
        },
        "rows": {
            name: {
                matrix: {script: dataclasses.asdict(c) for script, c in found.items()}
                for matrix, found in model_rows.matrices.items()
            }
            for name, model_rows in rows.items()
        },
    }


def _fit(fit: Fit) -> dict[str, Any]:
    return dataclasses.asdict(fit) | {
        "tokens_per_character": fit.tokens_per_character,
        "tokens_per_byte": fit.tokens_per_byte,
        "byte_share": fit.byte_share,
    }


def tables(report: Mapping[str, Any]) -> list[tuple[str, Lines]]:
    """Returns (heading, lines) of each table; the first line of each is its header."""
    names = list(report["vocabularies"])
    found = [("Tokens by domain", _domains(report, names))]
    if report["speed_up"]:
        found.append((f"Taiwan's texts, against {names[0]}", _speeds(report, names)))
    found.append(("Characters with an id of their own, by script", _coverage(report, names)))
    for model, matrices in report["rows"].items():
        for matrix, scripts in matrices.items():
            found.append((f"Rows of {model}: {matrix}", _rows(scripts)))
    return found


def _domains(report: Mapping[str, Any], names: list[str]) -> Lines:
    lines: Lines = [
        ("domain", "vocabulary", "documents", "characters", "tokens", "tokens/character",
         "tokens/byte", "byte tokens")
    ]  # fmt: skip
    for domain in report["fits"][names[0]]:
        for name in names:
            fit = report["fits"][name][domain]
            lines.append((
                domain if name == names[0] else "",
                name,
                f"{fit['documents']:,}",
                f"{fit['characters']:,}",
                f"{fit['tokens']:,}",
                f"{fit['tokens_per_character']:.3f}",
                f"{fit['tokens_per_byte']:.3f}",
                f"{fit['byte_share']:.2%}",
            ))  # fmt: skip
    return lines


def _speeds(report: Mapping[str, Any], names: list[str]) -> Lines:
    lines: Lines = [("vocabulary", "ids", "tokens/character", "times fewer tokens", "times faster")]
    for name in names:
        speed = report["speed_up"][name]
        lines.append((
            name,
            f"{report['vocabularies'][name]['ids']:,}",
            f"{report['taiwan'][name]['tokens_per_character']:.3f}",
            f"{speed['tokens']:.2f}",
            "–" if speed["time"] is None else f"{speed['time']:.2f}",
        ))  # fmt: skip
    return lines


def _coverage(report: Mapping[str, Any], names: list[str]) -> Lines:
    lines: Lines = [
        (
            "script",
            "characters",
            "different",
            *(f"{name}" for name in names),
            "most frequent without",
        )
    ]
    for script, first in report["coverage"][names[0]].items():
        shares = [
            f"{c['seen_whole'] / c['seen']:.2%} ({c['distinct_whole'] / c['distinct']:.0%})"
            for name in names
            if (c := report["coverage"][name][script])
        ]
        # Of the last vocabulary: with an extended one behind its base, what is still missing.
        missing = report["coverage"][names[-1]][script]["missing"]
        lines.append(
            (script, f"{first['seen']:,}", f"{first['distinct']:,}", *shares, " ".join(missing[:8]))
        )
    return lines


def _rows(scripts: Mapping[str, Any]) -> Lines:
    lines: Lines = [("script", "rows", "near zero", "duplicates", "median length")]
    for script, counts in scripts.items():
        lines.append((
            script,
            f"{counts['rows']:,}",
            f"{counts['near_zero']:,}",
            f"{counts['duplicates']:,}",
            f"{counts['length']:.3g}",
        ))  # fmt: skip
    return lines


def notes(report: Mapping[str, Any]) -> list[str]:
    """Returns what a reader must know of the figures."""
    found = [
        "Byte tokens stand for parts of characters. Coverage: share of the characters' occurrences "
        "(in brackets: of different characters) that the vocabulary has an id for."
    ]
    if any(speed["time"] for speed in report["speed_up"].values()):
        found.append(
            "Times faster: the same text in fewer tokens, each of which costs a larger output "
            "matrix; counted in arithmetic, for training and for reading a prompt."
        )
    if report["rows"]:
        found.append(
            f"Near zero: shorter than {NEAR_ZERO:g} of the median row. Duplicates: bit for bit the "
            "same as another row. Either is a row that was hardly trained."
        )
    return found


def write_page(report: Mapping[str, Any], output: str | os.PathLike[str]) -> None:
    """Writes the report as one HTML file; it is whole or absent."""
    names = list(report["vocabularies"])
    body = [f'<p class="lead">{clean(_lead(report, names))}</p>', '<div class="charts">']
    domains = list(report["fits"][names[0]])
    fits = {
        name: [report["fits"][name][d]["tokens_per_character"] for d in domains] for name in names
    }
    body.append(
        bar_chart("Tokens per character", domains, fits, lambda v: f"{v:.2f}", "less is better")
    )
    scripts = list(report["coverage"][names[0]])
    covered = {
        name: [c["seen_whole"] / c["seen"] for c in report["coverage"][name].values()]
        for name in names
    }
    body.append(
        bar_chart(
            "Characters with an id of their own", scripts, covered, lambda v: f"{v:.0%}",
            "of those in the texts",
        )
    )  # fmt: skip
    for model, matrices in report["rows"].items():
        for matrix, found in matrices.items():
            shares = {
                "near zero": [c["near_zero"] / c["rows"] for c in found.values()],
                "duplicates": [c["duplicates"] / c["rows"] for c in found.values()],
            }
            if any(map(any, shares.values())):
                title, of = f"Rows of {model}: {matrix}", "of each script's rows"
                body.append(
                    bar_chart(title, list(found), shares, lambda v: f"{v:.1%}", of, least=0.05)
                )
    body.append("</div>")
    for heading, lines in tables(report):
        body.append(f"<h2>{clean(heading)}</h2>{_table(lines)}")
    with atomic_writer(output) as file:
        heading = f"{'Vocabulary' if len(names) == 1 else 'Vocabularies'} {', '.join(names)}"
        file.write(shell.document(heading, "".join(body), clean(" ".join(notes(report)))))


def _lead(report: Mapping[str, Any], names: list[str]) -> str:
    if not report["speed_up"]:
        return "None of these texts is in one of Taiwan's languages."
    first = report["taiwan"][names[0]]["tokens_per_character"]
    said = f"On Taiwan's texts {names[0]} takes {first:.2f} tokens per character."
    for name in names[1:]:
        here, speed = report["taiwan"][name], report["speed_up"][name]
        said += (
            f" {name} takes {here['tokens_per_character']:.2f}: the same text is "
            f"{1 - 1 / max(speed['tokens'], 1e-9):.0%} shorter"
        )
        said += "." if speed["time"] is None else f", and {speed['time']:.2f} times as fast."
    return said


def _table(lines: Lines) -> str:
    # Numbers stand in every column but those of words.
    words = {"vocabulary", "domain", "script", "most frequent without"}
    kinds = ["" if name in words else " class=n" for name in lines[0]]

    def row(cells: tuple[str, ...]) -> str:
        rest = "".join(
            f"<td{kind}>{clean(cell)}</td>" for cell, kind in zip(cells[1:], kinds[1:], strict=True)
        )
        return f'<tr><th scope="row">{clean(cells[0])}</th>{rest}</tr>'

    head = "".join(f"<th{k}>{clean(cell)}</th>" for cell, k in zip(lines[0], kinds, strict=True))
    body = "".join(map(row, lines[1:]))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="card">{table}</div>'
