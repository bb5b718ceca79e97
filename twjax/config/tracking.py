"""Where a run's log is shown beside its own folder: Weights & Biases, MLflow."""

from __future__ import annotations

import dataclasses
import urllib.parse
from typing import Literal

from twjax.config.checks import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracking:
    """The trackers that a run's log is sent to while it trains, by processes of their own.

    `project` is Weights & Biases' project and MLflow's experiment, `name` the run's name there
    (None: its folder's). `wandb_mode` "offline" writes files below RUN/tracking that `wandb sync`
    sends later; `mlflow_uri` is a server (http://…) or a store (sqlite:///…). None leaves each to
    the environment (WANDB_MODE, MLFLOW_TRACKING_URI), as keys and passwords always are.
    """

    to: tuple[Literal["wandb", "mlflow"], ...]
    project: str = "twjax"
    name: str | None = None
    wandb_mode: Literal["online", "offline"] | None = None
    mlflow_uri: str | None = None

    def __post_init__(self) -> None:
        require(
            len(self.to) > 0, "Tracking.to is empty; name 'wandb' or 'mlflow', or leave it out."
        )
        require(len(set(self.to)) == len(self.to), f"Tracking.to {self.to} names one twice.")
        require(self.project.strip() != "", "Tracking.project is empty; give the project a name.")
        require(self.name is None or self.name.strip() != "", "Tracking.name is empty.")
        parts = urllib.parse.urlsplit(self.mlflow_uri or "")
        require(
            "@" not in parts.netloc,
            "Tracking.mlflow_uri holds a name or a password, which would be written into the run's "
            "folder: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead.",
        )
