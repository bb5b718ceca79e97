"""Continues prompts with a run's newest (or a given) checkpoint.

twjax generate build/quickstart/replay --prompt '中華民國' --tokens 80 --temperature 0.8
"""

from __future__ import annotations

import argparse
import sys

HELP = "continue prompts with a run's checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="a run directory")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        help="text to continue; may be repeated (default: one prompt a line from standard input)",
    )
    parser.add_argument("--step", type=int, help="checkpoint to use (default: the newest)")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens (default: 64)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the likeliest token (default)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    parser.add_argument(
        "--vocabulary", help="SentencePiece model (default: the one the run was trained with)"
    )


def run(args: argparse.Namespace) -> int:
    if args.tokens < 1:
        raise ValueError(f"--tokens ({args.tokens}) must be at least 1.")
    if args.temperature < 0:
        raise ValueError(f"--temperature ({args.temperature}) must not be negative.")
    from twjax.parallel import distributed

    distributed.initialize()
    import jax

    from twjax.evaluation.watch import continue_prompts, open_vocabulary
    from twjax.models.decoder import Network
    from twjax.parallel.mesh import mesh_here
    from twjax.training.source import Source

    source = Source.open(args.run_dir, args.step)
    network = Network.create(source.run.model)
    mesh = mesh_here(source.run.mesh)
    model = open_vocabulary(
        args.vocabulary or source.run.data.vocabulary, source.run, source.vocabulary
    )
    prompts = args.prompt or [line.rstrip("\n") for line in sys.stdin]
    with jax.set_mesh(mesh):
        texts = continue_prompts(
            source.run,
            network,
            source.params(network, mesh),
            prompts,
            model,
            mesh=mesh,
            tokens=args.tokens,
            temperature=args.temperature,
            seed=args.seed,
        )
    for prompt, text in zip(prompts, texts, strict=True) if jax.process_index() == 0 else ():
        print(f"{prompt}{text}")
    return 0
