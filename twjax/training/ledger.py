"""The ledger: every decision that affects what a run computes, one JSON line each."""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import Any

from twjax.storage import read_json_lines

FILE = "ledger.jsonl"


def append(run_dir: pathlib.Path, event: str, step: int, **details: Any) -> None:
    """Adds one event, on disk when this returns."""
    record = {"event": event, "step": step, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    path = run_dir / FILE
    # A kill in mid-write leaves a line without its end: it is closed before the next one.
    torn = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
    if torn:
        whole = read_json_lines(path)
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in whole))
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record | details, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(run_dir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns all events, oldest first."""
    return read_json_lines(run_dir / FILE)
