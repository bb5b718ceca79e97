"""Configuration: frozen dataclasses (`schema`) that gin files describe (`loader`)."""

from twjax.config.identity import Change, compare, flatten
from twjax.config.loader import ConfigError, Loaded, load, resolve
from twjax.config.schema import (
    Checkpoint,
    Data,
    Evaluation,
    Mesh,
    Mixture,
    Model,
    Optimizer,
    RopeScaling,
    Run,
    Schedule,
    Step,
    Vocabulary,
)

__all__ = [
    "Change",
    "Checkpoint",
    "ConfigError",
    "Data",
    "Evaluation",
    "Loaded",
    "Mesh",
    "Mixture",
    "Model",
    "Optimizer",
    "RopeScaling",
    "Run",
    "Schedule",
    "Step",
    "Vocabulary",
    "compare",
    "flatten",
    "load",
    "resolve",
]
