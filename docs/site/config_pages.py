"""The page of all files below `configs/`: what each says of itself, and what it holds."""

from __future__ import annotations

import html
import pathlib
from collections.abc import Iterator

PAGE = "reference/configs.md"
ROOT = pathlib.Path(__file__).resolve().parents[2]
_FOLDERS = {
    "configs/tutorial": "What the tutorial uses.",
    "configs/runs": "Runs: the quickstart, our default, and others.",
    "configs/runs/systems": "Recipes of published systems ([Systems of the field](../systems.md)).",
    "configs/runs/plans": "Large models on TPU slices, for `twjax plan`.",
    "configs/models": "Models ([Models](../models.md)); a run includes one of them.",
    "configs/corpora": "Corpora and vocabularies ([The corpus](../corpus.md)).",
    "configs/evaluations": "What is evaluated.",
}


def anchor(path: str) -> str:
    """Returns a file's anchor on the page: "configs/runs/a.gin" is "configs-runs-a"."""
    return path.removesuffix(".gin").replace("/", "-")


def files() -> Iterator[str]:
    """Yields the gin files below `configs/`, by folder."""
    found = sorted((ROOT / "configs").rglob("*.gin"))
    paths = [path.relative_to(ROOT).as_posix() for path in found]
    folders = list(dict.fromkeys([*_FOLDERS, *(path.rpartition("/")[0] for path in paths)]))
    for folder in folders:
        yield from (path for path in paths if path.rpartition("/")[0] == folder)


def header(text: str) -> str:
    """Returns the comment that a file begins with, without its signs."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[1:].removeprefix(" "))
    return "\n".join(lines).strip("\n")


def render() -> str:
    """Returns the page; a file's anchor is what `anchor` gives."""
    lines = ["# Configuration files", "", "All gin files that come with twjax. A file below "]
    lines[-1] += "`configs/` is found from any folder; copy one to change it."
    last = ""
    for path in files():
        folder = path.rpartition("/")[0]
        if folder != last:
            lines += ["", f"## `{folder}/`", "", _FOLDERS.get(folder, "")]
            last = folder
        text = (ROOT / path).read_text(encoding="utf-8")
        lines += ["", f"### `{path}` {{ #{anchor(path)} }}", "", *_told(header(text))]
        lines += ['??? note "The file"', ""]
        lines += [f"    {line}" for line in ("```gin", *text.rstrip("\n").split("\n"), "```")]
    return "\n".join(lines)


def _told(text: str) -> list[str]:
    """Returns a header as a paragraph, and what it has behind that, or in columns, as it is."""
    first, _, rest = text.partition("\n\n")
    if "  " in first:
        first, rest = "", text
    # As HTML, so that no sign in it is taken for Markdown.
    lines = [f"<p>{html.escape(first)}</p>", ""] if first else []
    return lines + (["```text", rest.strip("\n"), "```", ""] if rest else [])
