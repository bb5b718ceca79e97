"""The ledger's events in a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What only a program needs, or what is told by other words.
_QUIET = ("event", "step", "time", "caches", "order", "versions", "vocabulary", "reading")
_LONGEST = 200


def tell(event: Mapping[str, Any]) -> str:
    """Returns what an event of the ledger says, without its step."""
    kind = event.get("event")
    if kind == "budget":
        return f"budget: {_look(event)}"
    if kind == "roll_back":
        return f"rolled back to here: {_look(event.get('look') or {})}"
    if kind == "baseline":
        bits = event.get("bits") or {}
        return "baseline: " + ", ".join(f"{task} {value:.3f}" for task, value in bits.items())
    if kind in ("start", "resume"):
        return _begun(event)
    if kind == "branch":
        return f"branched from {event.get('from')}"
    if kind in _PLAIN:
        return _PLAIN[kind]
    details = ", ".join(
        f"{key} {value}"
        for key, value in event.items()
        if key not in _QUIET and isinstance(value, (str, int, float))
    )
    return f"{kind}{': ' if details else ''}{details}"[:_LONGEST]


_PLAIN = {
    "stop": "asked to stop, saved",
    "finish": "finished",
    "rolled_back": "later checkpoints removed",
}


def _look(look: Mapping[str, Any]) -> str:
    used = ", ".join(f"{task} {part:.0%}" for task, part in (look.get("used") or {}).items())
    shares = ", ".join(f"{task} {part:.1%}" for task, part in (look.get("shares") or {}).items())
    text = f"{look.get('action', '?')}; used {used or 'nothing'}; replay {shares or 'none'}"
    rate = look.get("rate", 1.0)
    return text if rate == 1.0 else f"{text}; rate × {rate:g}"


def _begun(event: Mapping[str, Any]) -> str:
    text = "started" if event.get("event") == "start" else "resumed"
    versions = event.get("versions") or {}
    if versions.get("device"):
        text += f" on {versions.get('devices', 1)} × {versions['device']}"
    source = event.get("source") or {}
    if source.get("directory"):
        text += f", weights from {source['directory']} at step {source.get('step')}"
    changes = [str(change).replace("\n", " ") for change in event.get("changes") or ()]
    return text + (f"; changed: {'; '.join(changes)}" if changes else "")
