"""Measures the repair of hard-wrapped text on real files, and on texts that it wraps itself.

The second part takes texts whose paragraphs are one line each (those of the files, repaired),
breaks them at a width as the Ministry of Justice does, and counts which breaks come out again.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import pathlib
import re
import time

from twjax.corpus.document import Document
from twjax.corpus.text.columns import display_columns
from twjax.corpus.text.wraps import RepairWraps, unwrap

FILES = (
    "tw_laws_zh", "tw_transcripts_cc0", "taiwan_md_zh", "rustbook_zhTW", "pydocs_zhTW",
    "nuget_zhTW", "react_zhTW", "cofacts_replies", "cofacts_user_comments", "moztw_cc0_zhTW",
    "moztw_cc0_nanTW", "gutenberg_pp_en", "gutenberg_sh_en", "rustbook_en",
)  # fmt: skip
ITEM = re.compile(r"(?:[一二三四五六七八九十]+、|（[一二三四五六七八九十]+）|\d+\. )")


def read(folder: pathlib.Path, name: str, limit: int) -> list[Document]:
    """Returns the documents of one file of the data folder."""
    documents = []
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            documents.append(
                Document(id=record["id"], text=record["text"], source=name, license="", lang="")
            )
            if len(documents) == limit:
                break
    return documents


def wrap(line: str, columns: int) -> list[str]:
    """Breaks one line where the next character doesn't fit; items have a hanging indent."""
    indent = "    " if ITEM.match(line) else ""
    lines, current, used = [], "", 0
    for character, width in zip(line, display_columns(line).tolist(), strict=True):
        if used + width > columns:
            lines.append(current.rstrip())
            current, used = indent, len(indent)
            if character == " ":
                continue
        current, used = current + character, used + width
    return [*lines, current]


def breaks(text: str) -> set[int]:
    """Returns the line breaks of a text, each by how many visible characters are before it."""
    found, count = set(), 0
    for character in text:
        if character == "\n":
            found.add(count)
        count += not character.isspace()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--limit", type=int, default=0, help="documents a file, 0 for all")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    results: dict[str, dict[str, object]] = {"files": {}, "wrapped": {}}
    RepairWraps().apply(read(arguments.data, "tw_laws_zh", 20))
    for name in FILES:
        documents = read(arguments.data, name, arguments.limit)
        size = sum(len(d.text.encode()) for d in documents)
        start = time.process_time()
        outcome = RepairWraps().apply(documents)
        seconds = time.process_time() - start
        widths = collections.Counter(d.meta.get("wrap_columns", "") for d in outcome.kept)
        results["files"][name] = {
            "documents": len(documents),
            "repaired": outcome.changed["documents"],
            "joins": outcome.changed["wraps"],
            "megabytes_per_cpu_second": round(size / 1e6 / seconds, 1),
            "widths": dict(widths.most_common(4)),
        }
        print(name, results["files"][name], flush=True)
    for name in ("tw_laws_zh", "tw_transcripts_cc0", "taiwan_md_zh"):
        some = read(arguments.data, name, min(arguments.limit or 300, 300))
        whole = [text.replace("\r\n", "\n") for text, _, _ in unwrap([d.text for d in some])]
        for columns in (64, 72, 80):
            broken = ["\n".join(b for a in t.split("\n") for b in wrap(a, columns)) for t in whole]
            made = back = wrong = 0
            for truth, text, (result, _, _) in zip(whole, broken, unwrap(broken), strict=True):
                before, after, now = breaks(truth), breaks(text), breaks(result)
                made += len(after - before)
                back += len((after - before) - now)
                wrong += len((after & before) - now)
            results["wrapped"][f"{name} at {columns}"] = {
                "breaks": made,
                "recall": round(back / made, 4),
                "precision": round(back / (back + wrong), 5),
            }
            print(name, columns, results["wrapped"][f"{name} at {columns}"], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
