"""A run whose card is written, and cards as a reader gets them."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import yaml

from tests.report_side import make_steered

CACHED = "/root/.cache/huggingface/hub/models--meta--Llama-3.2-1B/snapshots/4e20de36"


def make_continued(folder: pathlib.Path) -> pathlib.Path:
    """Writes a steered run that began with a model of the hub's cache, whose card came along."""
    run = make_steered(folder / "run")
    base = folder / "base"
    base.mkdir()
    (base / "twjax_import.json").write_text(json.dumps({"source": CACHED}))
    (run / "hf").mkdir()
    (run / "hf" / "config.json").write_text(json.dumps({"_name_or_path": "someone/else"}))
    (run / "hf" / "README.md").write_text("---\nlicense: llama3.2\ntags: [a]\n---\n# Base\n")
    return run


def parts(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns a card's metadata and its sections by heading."""
    _, metadata, body = text.split("---\n", 2)
    sections = re.split(r"^## (.+)$", body, flags=re.M)
    return yaml.safe_load(metadata), dict(zip(sections[1::2], sections[2::2], strict=True))


def table(section: str) -> list[list[str]]:
    """Returns the rows of a section's first table."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
