"""Runs EleutherAI's lm_eval on a run's checkpoint, or on an imported model.

  twjax harness RUN --tasks tmmluplus,belebele_zho_Hant --shots 5
  twjax harness RUN --tasks my_exam --include my_tasks/     # task files (YAML) of your own

Needs `pip install 'twjax[harness]'`. The tasks' data come from the Hugging Face hub unless a task
file names local ones; lm_eval keeps them in its own cache.
"""

from __future__ import annotations

import argparse
import pathlib

from twjax.cli.options import add_weights

HELP = "run lm_eval's tasks on a run's checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="a run, or an imported model")
    parser.add_argument(
        "--tasks", required=True, metavar="NAME,…", help="names of lm_eval's tasks or groups"
    )
    parser.add_argument(
        "--shots", type=int, help="examples before a question (default: the task's)"
    )
    parser.add_argument(
        "--include", metavar="DIR", help="folder with task files (YAML) of your own"
    )
    parser.add_argument("--limit", type=int, help="questions of each task at most")
    parser.add_argument("--step", type=int, help="checkpoint to use (default: the newest)")
    add_weights(parser)
    parser.add_argument(
        "--max-length",
        type=int,
        help="ids that the model reads at once; what is further left is cut off (default: the "
        "length of the run's longest rows; of an imported model what its config.json says)",
    )
    parser.add_argument(
        "--vocabulary", help="file or folder (default: the one the run was trained with)"
    )
    parser.add_argument("--json", type=pathlib.Path, help="also write results and samples here")


def run(args: argparse.Namespace) -> int:
    try:
        import lm_eval  # pyright: ignore[reportMissingImports]
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
        from lm_eval.utils import make_table  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"lm_eval isn't installed ({error}): pip install 'twjax[harness]'."
        ) from error
    import jax

    from twjax.evaluation.harness import Harnessed
    from twjax.evaluation.watch import open_vocabulary
    from twjax.huggingface.carry import end_ids
    from twjax.models.network import network as declare
    from twjax.parallel.mesh import mesh_here
    from twjax.progress import say
    from twjax.storage import write_json
    from twjax.training.source import Source

    source = Source.open(args.run_dir, args.step)
    if args.weights == "ema":
        source.require_average()
    manager = TaskManager(include_path=args.include)
    tasks = [task.strip() for task in args.tasks.split(",") if task.strip()]
    unknown = [task for task in tasks if task not in manager.all_tasks]
    if unknown:
        raise ValueError(f"--tasks: lm_eval knows no {', '.join(unknown)}; --include adds files.")
    network = declare(source.run.model)
    mesh = mesh_here(source.run.mesh)
    model = open_vocabulary(
        args.vocabulary or source.run.data.vocabulary, source.run, source.vocabulary
    )
    length = args.max_length or source.run.data.longest
    with jax.set_mesh(mesh):
        harnessed = Harnessed(
            source.run,
            network,
            mesh,
            source.params(network, mesh, args.weights),
            model,
            max_length=min(length, source.run.model.max_positions or length),
            end_ids=end_ids(source.directory),
        )
        results = lm_eval.simple_evaluate(
            model=harnessed,
            tasks=tasks,
            num_fewshot=args.shots,
            limit=args.limit,
            task_manager=manager,
            bootstrap_iters=0,
        )
    assert results is not None
    print(f"{args.run_dir} at step {source.step}")
    print(make_table(results))
    if harnessed.shortened:
        say(f"{harnessed.shortened} requests were cut at their left to {harnessed.max_length} ids.")
    if args.json:
        keep = ("results", "groups", "versions", "n-shot", "n-samples", "samples")
        write_json(args.json, {name: results[name] for name in keep if name in results})
    return 0
