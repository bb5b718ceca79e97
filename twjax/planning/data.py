"""What a run would read of its cached rows, for the plan."""

from __future__ import annotations

import dataclasses
from typing import Any

from twjax.config import Run
from twjax.data import effective
from twjax.data.loader import open_course


def plan_data(run: Run, config: str) -> tuple[list[str], list[dict[str, Any]] | None]:
    """Returns the table of what a run reads, by task, and its figures.

    Without the cached rows there are no figures, and the lines say what is missing; so they do
    where tasks with `Mixture.max_epochs` don't suffice. `config` is the file named in advice.
    """
    reading = run.reading
    try:
        readers, course = open_course(
            run.data, ((0, reading),), split="train", steps=run.steps, config=config
        )
    except (OSError, ValueError) as error:
        problems = str(error).split(" | ")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return [f"what the run reads is not known: {problems[0]}{more}"], None
    found = effective.uses(course, reading, run.steps, effective.held(readers))
    figures = [
        dataclasses.asdict(use) | {"read": use.read, "effective": use.effective} for use in found
    ]
    return effective.table(found, reading, run.steps), figures
