"""A whole run by the prediction of one step: tokens, days and cost."""

from __future__ import annotations

import dataclasses

from twjax.config import Run
from twjax.models.network import network as declare
from twjax.planning.compile import Plan, shapes
from twjax.planning.flops import model_flops_per_row
from twjax.planning.prices import Cost, offers


@dataclasses.dataclass(frozen=True)
class Whole:
    """What a run's steps process, take and cost.

    `tokens` are those of all rows, padding included, over all shapes that the batches have.
    `seconds` is None without a prediction; a shape that wasn't compiled is taken to use the chips
    as well as the one that was. Start-up, evaluation, checkpoints and pauses aren't in it. `costs`
    has each price that is known.
    """

    steps: int
    tokens: int
    seconds: float | None
    costs: tuple[Cost, ...]

    @property
    def hours(self) -> float | None:
        return None if self.seconds is None else self.seconds / 3600

    @property
    def days(self) -> float | None:
        return None if self.seconds is None else self.seconds / 86400


def whole_run(run: Run, plan: Plan, price: float | None = None) -> Whole:
    """Returns what `run` takes, of which `plan` is; `price` is the user's, a chip-hour."""
    specs = declare(run.model).specs
    starts = [start for start, *_ in run.reading.shapes(run.steps)]
    tokens, flops = 0, 0.0
    for start, end, shape in zip(starts, [*starts[1:], run.steps], shapes(run), strict=True):
        rows, lengths = (end - start) * shape.data.batch_size, shape.data.lengths
        tokens += rows * sum(lengths)
        flops += rows * model_flops_per_row(run.model, specs, lengths)
    seconds = None
    if plan.prediction is not None:
        seconds = plan.prediction.seconds * flops / plan.model_flops
    return Whole(run.steps, tokens, seconds, tuple(offers(plan.topology, price)))
