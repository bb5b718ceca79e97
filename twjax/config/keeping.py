"""What keeps a model close to the one that a run starts from."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from twjax.config.checks import require, require_at_least, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
    """Trains a product of two thin matrices beside a weight instead of the weight.

    A weight W becomes W + alpha / rank · A·B, B being zero at the start (Hu et al. 2021, "LoRA",
    §4.1); "dora" learns the length of each output's weights apart from their direction (Liu et al.
    2024, "DoRA", eq. 5). `targets` are patterns over the names of matrices in layers ('layers/q',
    'layers/*', '*/cross_?'); weights that a pattern of `train` matches are trained in full
    ('embedding' and 'head', where a vocabulary was extended). All others stay as they are.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    train: tuple[str, ...] = ()
    kind: Literal["lora", "dora"] = "lora"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "rank")
        require_positive(self, "alpha")
        require(
            len(self.targets) > 0,
            "Adapter.targets is empty; name at least one matrix, e.g. ('layers/*',).",
        )

    @property
    def scale(self) -> float:
        """What A·B is multiplied by."""
        return self.alpha / self.rank

    def check(self, run: Any) -> None:
        """Raises ValueError where other settings of the run don't go with an adapter."""
        require(
            run.init is not None,
            "Run.adapter needs Run.init: adapters are learnt beside weights that know something.",
        )
        require(
            not run.optimizer.freeze,
            f"Optimizer.freeze {run.optimizer.freeze} does nothing here: with Run.adapter all "
            "weights are frozen but the adapters and those of Adapter.train.",
        )
        require(
            run.moments == "fresh",
            f"Run.moments ({run.moments!r}): adapters begin with no moments, beside what Run.init "
            "names with its own adapters merged; leave it out.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation:
    """Keeps predictions on some tasks' rows close to those of the weights that a run starts from.

    The loss gets `weight` · T² · KL(base ‖ model), the mean over the predicted tokens of the rows
    of `tasks`, at `temperature` T. Whole distributions are compared, computed in every step by
    the frozen base. With `top_k`, only the base's likeliest ids are compared, and all others as
    one: they are read from `logits`, a folder that `twjax teach` fills once. Ids that a vocabulary
    was extended with take no part.
    """

    weight: float
    tasks: tuple[str, ...]
    temperature: float = 1.0
    top_k: int | None = None
    logits: str | None = None

    def __post_init__(self) -> None:
        require_positive(self, "weight", "temperature")
        require(
            len(self.tasks) > 0,
            "Distillation.tasks is empty; name the tasks whose rows stand for what is to be kept.",
        )
        require(
            (self.top_k is None) == (not self.logits),
            f"Distillation.top_k ({self.top_k}) and Distillation.logits ({self.logits!r}) go "
            "together: how many ids a place, and the folder that `twjax teach` writes them to.",
        )
        if self.top_k is not None:
            require_at_least(self, 1, "top_k")

    def check(self, run: Any) -> None:
        """Raises ValueError where the run has no base, or never reads one of the tasks."""
        require(
            run.init is not None,
            "Run.distillation needs Run.init: the weights that a run starts from are the base.",
        )
        require(
            self.top_k is None or self.top_k < run.model.vocab_size,
            f"Distillation.top_k ({self.top_k}) must be less than Model.vocab_size "
            f"({run.model.vocab_size}); leave it out to compare whole distributions.",
        )
        known = run.data.mixture.tasks
        for task in self.tasks:
            require(
                task in known,
                f"Distillation.tasks: {task!r} is never read; Mixture.stages has "
                f"{', '.join(known)}.",
            )
