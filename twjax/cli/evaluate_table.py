"""Evaluations as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(records: Sequence[dict[str, Any]]) -> str:
    """Returns the records' numbers, a table a kind."""
    kinds = {record.get("kind", "eval"): None for record in records}
    tables = []
    for kind in kinds:
        some = [record for record in records if record.get("kind", "eval") == kind]
        head, rows = _KINDS[kind](some)
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [head, *rows]
        ]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _held_out(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            r["task"],
            f"{r['bits_per_byte']:.4f}",
            f"{r['loss']:.4f}",
            f"{r['perplexity']:.2f}",
            f"{r['accuracy']:.2%}",
            f"{r['bytes']:,}",
        ]
        for r in records
    ]
    total = sum(r["bytes"] for r in records)
    macro = sum(r["bits_per_byte"] for r in records) / len(records)
    micro = sum(r["bits_per_byte"] * r["bytes"] for r in records) / total
    # A small domain can't hide behind a large one in the first, and does in the second.
    rows.append(["mean of tasks", f"{macro:.4f}", "", "", "", ""])
    rows.append(["all text", f"{micro:.4f}", "", "", "", f"{total:,}"])
    return ["task", "bits/byte", "nats/token", "perplexity", "accuracy", "bytes"], rows


def _choice(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            r["task"],
            f"{r['accuracy']:.1%} ±{r['stderr']:.1%}",
            f"{r['accuracy_macro']:.1%}",
            f"{r['accuracy_norm']:.1%}",
            f"{r['chance']:.1%}",
            f"{r['items']:,}",
            f"{sum(r['unusable'].values()):,}",
        ]
        for r in records
    ]
    head = ["multiple choice", "accuracy", "by subject", "by character", "chance", "questions"]
    head.append("unusable")
    if any(r["fewer_shots"] for r in records):
        head.append("with fewer examples")
        for row, r in zip(rows, records, strict=True):
            row.append(f"{r['fewer_shots']:,}")
    return head, rows


def _pairs(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [[r["task"], f"{r['preferred']:.1%}", f"{r['pairs']:,}"] for r in records]
    return ["minimal pairs", "Taiwan likelier", "pairs"], rows


def _probes(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [[r["task"], f"{r['right']:.1%}", f"{r['probes']:,}"] for r in records]
    return ["identity", "right", "probes"], rows


def _writing(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            r["task"],
            f"{r['simplified_per_1000']:.1f}",
            f"{r['texts_with_simplified']:.1%}",
            f"{r['mainland_per_1000']:.1f}",
            f"{r['texts_with_mainland']:.1%}",
            f"{r['texts']:,}",
        ]
        for r in records
    ]
    head = ["writing, per 1,000 Han", "Simplified", "texts with", "mainland words", "texts with"]
    return [*head, "texts"], rows


_KINDS = {
    "eval": _held_out,
    "choice": _choice,
    "pairs": _pairs,
    "probes": _probes,
    "writing": _writing,
}
