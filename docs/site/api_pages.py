"""The pages of the Python API: a page a package, its modules by mkdocstrings."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What Python code outside of twjax uses; the others are the commands' own.
PACKAGES = (
    "config", "corpus", "vocab", "data", "models", "parallel", "training", "tuning",
    "evaluation", "huggingface", "planning", "sweeps",
)  # fmt: skip


def page(package: str) -> str:
    """Returns the place of a package's page."""
    return f"reference/api/{package}.md"


def modules(package: str) -> Iterator[tuple[str, str]]:
    """Yields (dotted name, first sentence) of a package's modules that have public names."""
    for path in sorted((ROOT / "twjax" / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = [
            node.name
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        ]
        if public and path.name != "__init__.py":
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name, (ast.get_docstring(tree) or "").split("\n\n")[0]


def render(package: str) -> str:
    """Returns a package's page: an overview, then each module's functions and classes."""
    found = list(modules(package))
    lines = [f"# `twjax.{package}`", "", "| module | |", "|---|---|"]
    for name, told in found:
        cell = " ".join(told.split()).replace("|", "\\|")
        lines.append(f"| [`{name.removeprefix(f'twjax.{package}.')}`](#{name}) | {cell} |")
    for name, _ in found:
        lines += ["", f"::: {name}"]
    return "\n".join(lines)
