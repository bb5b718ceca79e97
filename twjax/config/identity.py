"""A run's identity: which settings may change when it resumes, and which may not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

# Settings under these paths decide which rows are read, which shapes the state has, or what is
# minimised: a resumed run with another value is another run.
FIXED = (
    "init",
    "new_rows",
    "moments",
    "budget",
    "adapter",
    "distillation.weight",
    "distillation.tasks",
    "distillation.temperature",
    "distillation.top_k",
    "seed",
    "model",
    "data.mixture",
    "data.seq_len",
    "data.batch_size",
    "data.batch_ramp",
    "data.seq_len_stages",
    "data.vocabulary",
    "optimizer",
    # The state holds the norms of the last steps.
    "faults.spike",
    "faults.window",
    "step.z_loss",
)

# Settings under these paths change nothing that a run measures, but for rounding.
NEUTRAL = (
    "tracking",
    "log_every",
    "checkpoint",
    "mesh",
    "init_tolerance",
    "faults.timeout",
    "faults.pause_timeout",
)

# What of these no rollback goes by.
LOCAL = ("checkpoint.local_every", "checkpoint.local_directory")

# What a budget's baseline was measured on.
BASELINE = ("evaluation.rows", "evaluation.split")


@dataclasses.dataclass(frozen=True)
class Change:
    """One setting that differs; `fixed` ones need `--allow-change`."""

    path: str
    old: Any
    new: Any
    fixed: bool

    def __str__(self) -> str:
        mark = "  (fixed)" if self.fixed else ""
        return f"- {self.path} = {self.old!r}\n+ {self.path} = {self.new!r}{mark}"


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns {dotted path: value} for every leaf of a tree of dataclasses."""
    leaves: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        path = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            leaves.update(flatten(value, f"{path}."))
        else:
            leaves[path] = value
    return leaves


def compare(old: Any, new: Any) -> list[Change]:
    """Returns the settings in which two trees of the same class differ, in order of path."""
    before, after = flatten(old), flatten(new)
    steered = all(leaves.get("budget.mode", "off") != "off" for leaves in (before, after))
    return [
        Change(
            path,
            before.get(path),
            after.get(path),
            _is_under(path, FIXED) or (steered and path in BASELINE),
        )
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def other_results(old: Any, new: Any) -> list[Change]:
    """Returns the settings in which two runs differ that may change what they measure."""
    changes = [change for change in compare(old, new) if not _is_under(change.path, NEUTRAL)]
    budgets = [run.budget for run in (old, new) if run.budget is not None]
    if any(budget.mode == "steer" and budget.beyond == "roll_back" for budget in budgets):
        # A run goes back to its checkpoints.
        changes += [
            change
            for change in compare(old, new)
            if _is_under(change.path, ("checkpoint",)) and not _is_under(change.path, LOCAL)
        ]
    return changes


def _is_under(path: str, above: Sequence[str]) -> bool:
    return any(path == other or path.startswith(f"{other}.") for other in above)
