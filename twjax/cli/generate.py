"""Continues prompts with a run's newest (or a given) checkpoint, or an imported model.

  twjax generate build/quickstart/replay --prompt '中華民國' --tokens 80 --temperature 0.8
  twjax generate models/llama1b --stop '。' < prompts.txt

One prompt's text appears as it comes. An encoder-decoder (T5) reads the prompt and its own text is
printed alone, a prompt's after the other's. A text ends at EOS, and where the model was imported
at the ids that its generation_config.json names.
"""

from __future__ import annotations

import argparse
import sys

from twjax.cli.options import add_weights

HELP = "continue prompts with a run's checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="a run, or an imported model")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        help="text to continue; may be repeated (default: one prompt a line from standard input)",
    )
    parser.add_argument("--step", type=int, help="checkpoint to use (default: the newest)")
    add_weights(parser)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens (default: 64)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the likeliest token (default)"
    )
    parser.add_argument("--top-k", type=int, help="draw from this many likeliest tokens")
    parser.add_argument(
        "--top-p", type=float, help="draw from the fewest tokens that hold this probability"
    )
    parser.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        help="above 1 makes tokens that were there before less likely (default: 1)",
    )
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end a text before this; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    parser.add_argument(
        "--vocabulary", help="file or folder (default: the one the run was trained with)"
    )


def run(args: argparse.Namespace) -> int:
    if args.tokens < 1:
        raise ValueError(f"--tokens ({args.tokens}) must be at least 1.")
    from twjax.parallel import distributed

    distributed.initialize()
    import jax

    from twjax.evaluation.continuation import continue_prompts
    from twjax.evaluation.sampling import Sampling
    from twjax.evaluation.watch import open_vocabulary
    from twjax.huggingface.carry import end_ids
    from twjax.models.encdec import EncoderDecoder
    from twjax.models.network import network as declare
    from twjax.parallel.mesh import mesh_here
    from twjax.training.source import Source

    sampling = Sampling(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        repetition_penalty=args.repetition_penalty,
        seed=args.seed,
    )
    source = Source.open(args.run_dir, args.step)
    if args.weights == "ema":
        source.require_average()
    network = declare(source.run.model)
    mesh = mesh_here(source.run.mesh)
    model = open_vocabulary(
        args.vocabulary or source.run.data.vocabulary, source.run, source.vocabulary
    )
    prompts = args.prompt or [line.rstrip("\n") for line in sys.stdin]
    first = jax.process_index() == 0

    def write(text: str) -> None:
        if first:
            print(text, end="", flush=True)

    if not prompts:
        raise ValueError("no prompt: give --prompt, or lines on standard input.")
    one = len(prompts) == 1
    said = [""] * len(prompts) if isinstance(network, EncoderDecoder) else prompts
    if one:
        write(said[0])
    with jax.set_mesh(mesh):
        texts = continue_prompts(
            source.run,
            network,
            source.params(network, mesh, args.weights),
            prompts,
            model,
            mesh=mesh,
            tokens=args.tokens,
            sampling=sampling,
            stop=args.stop,
            end_ids=end_ids(source.directory),
            write=write if one else None,
        )
    if one:
        write("\n")
    else:
        for prompt, text in zip(said, texts, strict=True):
            write(f"{prompt}{text}\n")
    return 0
