"""Writes down what a run's base finds likely, once, for runs that are kept close to it.

For a configuration with Distillation.top_k: every row of Distillation.tasks goes through the base
(Run.init), and its likeliest ids with their probabilities go to Distillation.logits. `twjax train`
then needs no base in memory and no second forward pass. A call that is stopped goes on where it
was.

  twjax teach CONFIG --set 'Distillation.top_k = 32'
"""

from __future__ import annotations

import argparse

from twjax.cli.options import add_config

HELP = "write down what a run's base finds likely (for Distillation.top_k)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, "run configuration (a .gin file)")


def run(args: argparse.Namespace) -> int:
    from twjax import config

    loaded = config.load(config.Run, [args.config], args.set)

    from twjax.parallel import distributed

    distributed.initialize()
    from twjax.huggingface.source import HubSource
    from twjax.training.teach import teach

    teach(loaded, config_name=args.config, open_folder=HubSource)
    return 0
