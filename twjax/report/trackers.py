"""Trackers: places outside a run's folder that show its log, through one small interface."""

from __future__ import annotations

import html
import logging
import os
import pathlib
import re
import time
from collections.abc import Mapping
from typing import Any, Protocol

from twjax.config import ConfigError, Tracking

# The most values that MLflow takes in one request.
_MLFLOW_VALUES, _MLFLOW_PARAMS, _MLFLOW_LENGTH = 1000, 100, 500


class Tracker(Protocol):
    """Somewhere to send a run's values; `training.board.Board` is one too.

    Values are kept until `flush`, which raises whatever keeps them from being sent.
    """

    def config(self, values: Mapping[str, Any]) -> None: ...
    def scalar(self, name: str, value: float, step: int) -> None: ...
    def text(self, name: str, value: str, step: int) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


def open_tracker(
    kind: str, tracking: Tracking, folder: pathlib.Path, *, id: str, name: str, rows: int
) -> Tracker:
    """Opens a new run of a tracker, or the one of this `id` again.

    `folder` is for files of the tracker's own. `rows` counts what the run of this `id` has been
    given: the different steps of each flush.
    """
    try:
        return _KINDS[kind](tracking, folder, id=id, name=name, rows=rows)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != kind:
            raise
        raise ConfigError(
            f"Tracking.to names {kind!r}, which isn't installed: pip install 'twjax[{kind}]'."
        ) from error


class Wandb:
    """A Weights & Biases run, online or in files that `wandb sync` sends.

    Each row is a step of a series of its own ("step"), as evaluations may come late; W&B's own
    counter goes on from `rows`, and W&B ignores rows that it has.
    """

    def __init__(self, tracking: Tracking, folder: pathlib.Path, *, id: str, name: str, rows: int):
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb  # pyright: ignore[reportMissingImports]

        self._rows = rows
        self._html = wandb.Html
        self._pending: dict[int, dict[str, Any]] = {}
        self._run = wandb.init(
            project=tracking.project,
            id=id,
            name=name,
            dir=str(folder),
            mode=tracking.wandb_mode,
            resume="allow",
            save_code=False,
            # What is measured there would be this process, which does nothing.
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
        )
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def config(self, values: Mapping[str, Any]) -> None:
        """Shows settings beside the run."""
        self._run.config.update(dict(values), allow_val_change=True)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds one point."""
        self._pending.setdefault(step, {})[name] = value

    def text(self, name: str, value: str, step: int) -> None:
        """Adds a text, shown as it is."""
        shown = self._html(f"<pre>{html.escape(value)}</pre>", inject=False)
        self._pending.setdefault(step, {})[name] = shown

    def flush(self) -> None:
        """Hands all to W&B's own process, which sends or writes it."""
        while self._pending:
            step = next(iter(self._pending))
            self._run.log(self._pending[step] | {"step": step}, step=self._rows)
            del self._pending[step]
            self._rows += 1

    def close(self) -> None:
        """Returns when W&B's process has sent or written all."""
        self._run.finish()


class Mlflow:
    """A run of an MLflow server or store; found by the tag "twjax.id" if it is there already."""

    def __init__(self, tracking: Tracking, folder: pathlib.Path, *, id: str, name: str, rows: int):
        # A server that is down is tried again by whoever sends, not for minutes inside one call.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        import mlflow  # pyright: ignore[reportMissingImports]
        import mlflow.entities  # pyright: ignore[reportMissingImports]

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._make = mlflow.entities
        self._client = mlflow.MlflowClient(tracking_uri=tracking.mlflow_uri)
        self._metrics: list[Any] = []
        self._texts: list[tuple[str, str]] = []
        self._params: dict[str, str] = {}
        found = self._client.get_experiment_by_name(tracking.project)
        experiment = (
            self._client.create_experiment(tracking.project)
            if found is None
            else found.experiment_id
        )
        runs = self._client.search_runs([experiment], f"tags.`twjax.id` = '{id}'", max_results=1)
        if runs:
            self._id = runs[0].info.run_id
            self._known = set(runs[0].data.params)
            self._client.update_run(self._id, status="RUNNING")
        else:
            made = self._client.create_run(experiment, run_name=name, tags={"twjax.id": id})
            self._id, self._known = made.info.run_id, set()

    def config(self, values: Mapping[str, Any]) -> None:
        """Shows settings beside the run; MLflow keeps the first value of each."""
        for name, value in values.items():
            if _mlflow_name(name) not in self._known:
                self._params[_mlflow_name(name)] = str(value)[:_MLFLOW_LENGTH]

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds one point, at the present time."""
        now = int(time.time() * 1000)
        self._metrics.append(self._make.Metric(_mlflow_name(name), value, now, step))

    def text(self, name: str, value: str, step: int) -> None:
        """Adds a text as an artifact, name/step.txt."""
        self._texts.append((f"{_mlflow_name(name)}/{step}.txt", value))

    def flush(self) -> None:
        """Returns when the server has all."""
        while self._params:
            some = list(self._params.items())[:_MLFLOW_PARAMS]
            made = [self._make.Param(name, value) for name, value in some]
            self._client.log_batch(self._id, params=made)
            self._known |= {name for name, _ in some}
            self._params = dict(list(self._params.items())[_MLFLOW_PARAMS:])
        while self._metrics:
            self._client.log_batch(self._id, metrics=self._metrics[:_MLFLOW_VALUES])
            del self._metrics[:_MLFLOW_VALUES]
        while self._texts:
            path, value = self._texts[0]
            self._client.log_text(self._id, value, path)
            del self._texts[0]

    def close(self) -> None:
        """Marks the run as ended; it can be opened again."""
        self._client.set_terminated(self._id)


def _mlflow_name(name: str) -> str:
    """MLflow takes letters, digits and a few signs in names."""
    return re.sub(r"[^\w./ -]", "_", name)


_KINDS = {"wandb": Wandb, "mlflow": Mlflow}
