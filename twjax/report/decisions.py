"""An event of the ledger in words, and the sign that a chart has for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from twjax.report.frame import Sign
from twjax.report.scale import fixed, percent
from twjax.training.budget import Look

# Events that change nothing that a reader would see, and what only a program needs of others.
_SILENT = ("rolled_back",)
_QUIET = ("event", "step", "time", "caches", "order", "versions", "vocabulary", "reading")
_LONGEST = 200


def telling(
    ledger: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[Mapping[str, Any], str, Sign | None]]:
    """Yields (event, its words without the step, its sign), in the ledger's order.

    The sign is None for what changed nothing. Events without a kind or a step are left out, as are
    those that keep the books and change nothing that a reader would see.
    """
    looks: list[Look] = []
    fresh = False
    for record in ledger:
        kind, step = record.get("event"), record.get("step")
        if not isinstance(kind, str) or not isinstance(step, int) or kind in _SILENT:
            continue
        looks = _holding(looks, record)
        if kind == "resume" and "time" not in record:
            # Of what a branch took over, it isn't known whether anybody had stopped the trunk.
            continue
        if kind != "budget":
            # A branch that begins notes that it goes on: nobody has stopped it.
            yield record, *(_begun(record) if fresh and kind == "resume" else _told(kind, record))
            fresh = kind == "branch"
            continue
        try:
            look = Look.parse(record)
            text, sign = _answer(look, looks[-1] if looks else None)
        except (AttributeError, KeyError, TypeError, ValueError):
            yield record, "a decision of the budget that can't be read", None
        else:
            looks.append(look)
            yield record, text, sign


def _holding(looks: list[Look], record: Mapping[str, Any]) -> list[Look]:
    """Returns which of a budget's looks hold at an event: a rollback's own is the last of its."""
    kind, step = record.get("event"), record.get("step")
    if not isinstance(step, int):
        return looks
    if kind == "start":
        return []
    if kind == "resume":
        return [look for look in looks if look.step <= step]
    if kind == "branch":
        return _inherited(record)
    if kind not in ("budget", "roll_back"):
        return looks
    if kind == "roll_back" and "skip" in record:
        return [look for look in looks if look.step <= step]
    looks = [look for look in looks if look.step < step]
    if kind == "roll_back":
        looks += _parsed(record.get("look"))
    return looks


def _inherited(branch: Mapping[str, Any]) -> list[Look]:
    """Returns the looks of the trunk that a branch begins with."""
    looks: list[Look] = []
    for record in unfolded([branch]):
        if record is not branch:
            looks = _holding(looks, record)
            looks += _parsed(record) if record.get("event") == "budget" else []
    return looks


def _parsed(record: Any) -> list[Look]:
    try:
        look = Look.parse(record)
    except (AttributeError, KeyError, TypeError, ValueError):
        return []
    whole = isinstance(look.step, int) and isinstance(look.shares, dict)
    return [look] if whole else []


def unfolded(ledger: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yields events, those that a branch has from its trunk in front of the branch's beginning."""
    for record in ledger:
        inherited = record.get("events")
        if record.get("event") == "branch" and isinstance(inherited, list):
            yield from unfolded(other for other in inherited if isinstance(other, dict))
        yield record


def taken_back(ledger: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Returns {place of an event: place of the later one that took it back}.

    A rollback takes back what was decided from its step on and all that came after the step; a
    start or a resume what came after its step; a decision made again those from its step on.
    """
    found: dict[int, int] = {}
    # Steps of what stands, by place: the budget's decisions, and all else.
    decided: dict[int, int] = {}
    others: dict[int, int] = {}
    for place, record in enumerate(ledger):
        kind, step = record.get("event"), record.get("step")
        if not isinstance(step, int):
            continue
        gone: list[int] = []
        if kind in ("start", "resume", "roll_back"):
            gone += [other for other, at in (*decided.items(), *others.items()) if at > step]
        decides = kind == "budget" or (kind == "roll_back" and "skip" not in record)
        if decides and step <= max(decided.values(), default=-1):
            gone += [other for other, at in decided.items() if at >= step]
        for other in gone:
            found[other] = place
            decided.pop(other, None)
            others.pop(other, None)
        (decided if kind == "budget" else others)[place] = step
    return found


def _answer(look: Look, before: Look | None) -> tuple[str, Sign | None]:
    """Tells what a budget saw at an evaluation and did about it."""
    used = f"used of what may be forgotten: {listing(look.used, 0)}"
    old = before.shares if before else {}
    more = sum(look.shares.values()) - sum(old.values())
    changed = before is not None and look.shares != before.shares
    moves = [
        f"{task} {percent(old[task], 1)} → {percent(share, 1)}"
        for task, share in look.shares.items()
        if old.get(task, share) != share
    ]
    replay = f"replay {', '.join(moves) if moves else listing(look.shares)}"
    sign: Sign | None = None
    if look.action == "lower_rate":
        sign, text = "rate", f"{used}; the learning rate is {look.rate:g} of the schedule's"
    elif look.action == "go_on":
        sign, text = "beyond", f"{used}, beyond the budget with replay at its most; going on"
    elif look.action == "stop":
        sign, text = "beyond", f"{used}, beyond the budget: the run stops"
    elif look.action == "roll_back":
        sign, text = "beyond", f"{used}, beyond the budget: back to a checkpoint within it"
    elif look.action == "steer":
        if changed:
            # Shares have four digits.
            sign = "shift" if abs(more) < 1e-6 else "more" if more > 0 else "less"
        text = f"{used}; {replay}"
    elif look.action == "observe":
        text = f"{used}; only looked at"
    else:
        text = f"{used}; {replay}, unchanged"
    return text, sign


def _kept(record: Mapping[str, Any]) -> str:
    """Returns whose memory the state came from, where it wasn't the run's folder."""
    local = record.get("local")
    if not isinstance(local, dict):
        return ""
    peers = local.get("peers")
    lost = ", ".join(map(str, peers)) if isinstance(peers, list) else ""
    return " from what its hosts kept" + (f" (host {lost} from the others)" if lost else "")


def _told(kind: str, record: Mapping[str, Any]) -> tuple[str, Sign | None]:
    if kind == "start":
        return f"the run begins {_origin(record)}{_machine(record)}", None
    if kind == "resume":
        return f"the run goes on{_kept(record)}{_machine(record)}{_changes(record)}", "resume"
    if kind == "stop":
        return "asked to stop; the state is saved", None
    if kind == "finish":
        return "the run is finished", None
    if kind == "branch":
        return f"the run branches off from {record.get('from')}", None
    if kind == "baseline" and isinstance(record.get("bits"), dict):
        bits = ", ".join(
            f"{task} {fixed(value)}"
            for task, value in record["bits"].items()
            if isinstance(value, float)
        )
        return f"the budget counts from here, in bits per byte: {bits}", None
    if kind == "roll_back":
        skip = record.get("skip")
        if isinstance(skip, dict):
            return f"rolled back to this step, behind the rows of step {skip.get('until')}", "back"
        look = record.get("look")
        shares = look.get("shares") if isinstance(look, dict) else None
        replay = f", replay {listing(shares)}" if isinstance(shares, dict) else ""
        return f"rolled back to this step{replay}", "back"
    if kind == "bad_step":
        seen = f"loss {_short(record.get('loss'))}, gradient norm {_short(record.get('grad_norm'))}"
        return f"a bad step, skipped: {seen}", None
    details = ", ".join(
        f"{key} {value}"
        for key, value in record.items()
        if key not in _QUIET and isinstance(value, (str, int, float))
    )
    return f"{kind.replace('_', ' ')}{': ' if details else ''}{details}"[:_LONGEST], None


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _begun(record: Mapping[str, Any]) -> tuple[str, Sign | None]:
    return f"the branch begins{_machine(record)}{_changes(record)}", None


def _changes(record: Mapping[str, Any]) -> str:
    changes = record.get("changes")
    listed = changes if isinstance(changes, list) else []
    names = [str(change).split(" = ")[0].removeprefix("- ") for change in listed]
    return f", with other settings: {', '.join(names)}" if names else ""


def _origin(record: Mapping[str, Any]) -> str:
    source = record.get("source")
    if not isinstance(source, dict):
        return "with random weights"
    return f"with the weights of {source.get('directory')}, step {source.get('step')}"


def _machine(record: Mapping[str, Any]) -> str:
    versions = record.get("versions")
    if not isinstance(versions, dict) or "devices" not in versions:
        return ""
    return f", on {versions['devices']} × {versions.get('device', 'device')}"


def listing(shares: Mapping[str, Any], decimals: int = 1) -> str:
    """Returns shares in words, the largest first."""
    known = [(t, s) for t, s in shares.items() if isinstance(s, (int, float))]
    order = sorted(known, key=lambda pair: -pair[1])
    return ", ".join(f"{task} {percent(share, decimals)}" for task, share in order)
