"""Configuration: frozen dataclasses (`schema`) that gin files describe (`loader`)."""

from twjax.config.identity import Change, compare, flatten, other_results
from twjax.config.loader import ConfigError, Loaded, load, resolve
from twjax.config.reading import Reading
from twjax.config.schema import (
    Budget,
    Checkpoint,
    Data,
    Evaluation,
    Faults,
    Mesh,
    Mixture,
    Model,
    Optimizer,
    RopeScaling,
    Run,
    Schedule,
    Screening,
    Step,
    Suite,
    Tracking,
    Vocabulary,
)

__all__ = [
    "Budget",
    "Change",
    "Checkpoint",
    "ConfigError",
    "Data",
    "Evaluation",
    "Faults",
    "Loaded",
    "Mesh",
    "Mixture",
    "Model",
    "Optimizer",
    "Reading",
    "RopeScaling",
    "Run",
    "Schedule",
    "Screening",
    "Step",
    "Suite",
    "Tracking",
    "Vocabulary",
    "compare",
    "flatten",
    "load",
    "other_results",
    "resolve",
]
