"""The ledger: every decision that affects what a run computes, one JSON line each."""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import Any

from twjax.storage import atomic_writer, read_json_lines

FILE = "ledger.jsonl"


def append(run_dir: pathlib.Path, event: str, step: int, **details: Any) -> None:
    """Adds one event, on disk when this returns."""
    record = {"event": event, "step": step, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    path = run_dir / FILE
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            # A kill in mid-write left a line without its end: it goes, the whole ones stay.
            whole = read_json_lines(path)
            with atomic_writer(path) as file:
                file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in whole)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record | details, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(f"{path}: can't be written ({error.strerror or error}).") from error


def read(run_dir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns all events, oldest first."""
    return read_json_lines(run_dir / FILE)
