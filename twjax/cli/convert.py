"""Takes a model from a Hugging Face folder, or gives a run's weights back as one.

  twjax convert from-hf Llama-3.2-1B models/llama1b       # a folder with config.json and weights
  twjax convert to-hf runs/taiwan exported/taiwan         # what transformers, vLLM … can load

From the first on, `Run.init = 'run:models/llama1b'` starts a run from it, and `twjax generate
models/llama1b` continues prompts. (`Run.init = 'hf:Llama-3.2-1B'` needs no conversion, but then
nothing says what its loss should be.) Weights keep their dtype on the disk and are read as float32;
tokenizer, chat template and generation settings travel along unread, and come out of `to-hf` as
they were. What differs from the original is listed in twjax_export.json. A run's export gets a
model card in English and in Traditional Chinese: data, licences, training, evaluation, limits.

Whatever doesn't fit is refused by name before anything is written: a weight that is missing or
that nothing asks for, a setting of config.json that twjax doesn't compute, a file cut short. Memory
stays below 2 GiB whatever the size of the model, except with --check and for the loss that is
recorded.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

from twjax.cli.options import add_weights

HELP = "take a Hugging Face model in, give a run's weights back as one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="convert_command", metavar="from-hf|to-hf", required=True)
    take = commands.add_parser(
        "from-hf",
        help="a folder of safetensors becomes an imported model",
        description="Reads a Hugging Face folder (config.json, safetensors, tokenizer) and writes "
        "an imported model: an Orbax checkpoint, model.gin for a run to include, and all other "
        "files as they are.",
    )
    take.add_argument("folder", metavar="DIR", type=pathlib.Path, help="the Hugging Face folder")
    take.add_argument("out", metavar="OUT", type=pathlib.Path, help="the folder to make")
    take.add_argument(
        "--no-probe",
        action="store_true",
        help="don't record the loss on fixed tokens that a run compares its own with",
    )
    give = commands.add_parser(
        "to-hf",
        help="a run's checkpoint becomes a Hugging Face folder",
        description="Writes a run's or an imported model's weights as a folder that transformers "
        "loads. With what came along from the original, files are cut as they were, and untrained "
        "weights give the same bytes.",
    )
    give.add_argument("run_dir", metavar="RUN", type=pathlib.Path, help="a run, or a model")
    give.add_argument("out", metavar="OUT", type=pathlib.Path, help="the folder to make")
    give.add_argument("--step", type=int, help="checkpoint to take (default: the newest)")
    add_weights(give)
    give.add_argument(
        "--dtype",
        choices=("source", "bfloat16", "float16", "float32"),
        default="source",
        help="of the tensors (default: each as in the original, float32 without one)",
    )
    give.add_argument(
        "--tokenizer", metavar="DIR", type=pathlib.Path,
        help="folder with the tokenizer files to ship, if not the original's",
    )  # fmt: skip
    give.add_argument("--family", help="format of config.json (default: the original's)")
    give.add_argument(
        "--shard-gb", type=float, default=5.0, metavar="GB",
        help="size of a weight file where there is no original (default: 5)",
    )  # fmt: skip
    give.add_argument(
        "--no-card",
        action="store_true",
        help="write no model card; otherwise a run's is README.md and README.zh-TW.md, or "
        "MODEL_CARD.md where the original came with a README.md",
    )
    give.add_argument(
        "--base-model",
        default="",
        metavar="ID",
        help="the base model's id on the Hugging Face Hub, for the card (default: that of the "
        "folder in the hub's cache that it came from, if it did)",
    )
    for command in (take, give):
        command.add_argument(
            "--check",
            action="store_true",
            help="compare logits with transformers' on sentences; needs torch, and the whole "
            "model in memory twice",
        )
        command.add_argument("--force", action="store_true", help="replace OUT if it exists")


def run(args: argparse.Namespace) -> int:
    from twjax.parallel import distributed

    distributed.initialize()
    import jax

    if jax.process_count() > 1:
        raise ValueError("convert runs in one process; Run.init = 'hf:DIR' reads on every host.")
    if args.check:
        from twjax.huggingface.check import require_reference

        require_reference()
    return _from_hf(args) if args.convert_command == "from-hf" else _to_hf(args)


def _from_hf(args: argparse.Namespace) -> int:
    from twjax.huggingface.importing import import_folder

    def check(hub: Any, network: Any, params: Any) -> None:
        _check(hub.path, hub.model, network, params)

    record = import_folder(
        args.folder,
        args.out,
        probe=not args.no_probe,
        check=check if args.check else None,
        force=args.force,
    )
    probe = record["probe"]
    print(
        f"{args.out}: {record['family']}, {record['parameters']:,} parameters"
        + (f", loss on fixed tokens {probe['loss']:.4f}" if probe else "")
    )
    print(f"  to start a run:  include '{args.out}/model.gin'  and  Run.init = 'run:{args.out}'")
    return 0


def _to_hf(args: argparse.Namespace) -> int:
    from twjax.huggingface.carry import Carried
    from twjax.huggingface.exporting import export
    from twjax.models.network import network
    from twjax.parallel.mesh import mesh_here
    from twjax.training.source import Source

    if args.shard_gb <= 0:
        raise ValueError(f"--shard-gb ({args.shard_gb}) must be positive.")
    source = Source.open(args.run_dir, args.step)
    if args.weights == "ema":
        source.require_average()
    _check_tokenizer(source, args.tokenizer)
    model = source.run.model
    facts, lineage = _facts(source, args)

    def check(folder: pathlib.Path) -> None:
        net = network(model)
        mesh = mesh_here(source.run.mesh)
        _check(folder, model, net, source.params(net, mesh, args.weights))

    with source.arrays(args.weights) as arrays:
        export(
            arrays,
            model,
            args.out,
            carried=Carried.open(source.directory),
            source={
                "directory": str(source.directory.resolve()),
                "step": source.step,
                "weights": args.weights,
                "lineage": lineage,
            },
            dtype=args.dtype,
            tokenizer=args.tokenizer,
            family=args.family,
            shard_bytes=int(args.shard_gb * 1e9),
            max_positions=None if source.imported else max(source.run.data.lengths),
            card=None if source.imported else _card(None if args.no_card else facts),
            check=check if args.check else None,
            force=args.force,
        )
    return 0


def _facts(source: Any, args: argparse.Namespace) -> tuple[Any, dict[str, Any] | None]:
    """Returns what a card may say (a text: why there is none), and what the export records of it.

    Raises ValueError for a base model that the weights can't have.
    """
    from twjax.report.card_facts import gather
    from twjax.report.origin import HUB_ID, Lineage, base_of, base_of_import, record_of

    stated = args.base_model
    if stated and not HUB_ID.fullmatch(stated):
        raise ValueError(f"--base-model {stated}: an id on the hub is ORGANIZATION/NAME.")
    if source.imported:
        base = base_of_import(source.directory, stated)
        return None, record_of(base.lineage or Lineage(base, ()))
    if stated and base_of(source.directory) is None:
        raise ValueError(
            f"--base-model {stated}: {source.directory} began with random weights and has no base "
            "model; leave it out."
        )
    name, average = args.out.absolute().name, args.weights == "ema"
    try:
        facts = gather(source.directory, name, source.step, average=average, base_model=stated)
    except ValueError as error:
        return f"no model card: {error}", None
    return facts, facts.lineage()


def _card(facts: Any) -> Callable[[pathlib.Path], list[str]]:
    from twjax.report.model_card import drop_cards, write_cards

    def write(folder: pathlib.Path) -> list[str]:
        if facts is None or isinstance(facts, str):
            return [*drop_cards(folder), *filter(None, [facts])]
        try:
            return write_cards(facts, folder)
        except FileExistsError as error:
            return [*drop_cards(folder), f"no model card: {error}"]

    return write


def _check_tokenizer(source: Any, chosen: pathlib.Path | None) -> None:
    """Refuses to ship another tokenizer than the weights were trained with."""
    from twjax.huggingface.carry import FOLDER
    from twjax.vocab.tokenizer_files import located, vocabulary_sha256

    folder = chosen or source.directory / FOLDER
    if chosen is None and not folder.is_dir():
        # Nothing came along: the weights began at random.
        return
    try:
        shipped = {vocabulary_sha256(file) for file in located(folder)}
    except ValueError:
        # Without a tokenizer in it there is nothing to compare.
        return
    if source.vocabulary is not None and source.vocabulary not in shipped:
        raise ValueError(
            f"{source.directory} was trained with another vocabulary than "
            f"{'that of' if chosen else 'the one that came along in'} {folder}; name the folder "
            f"that has it (--tokenizer; Data.vocabulary was {source.run.data.vocabulary})."
        )


def _check(folder: pathlib.Path, model: Any, network: Any, params: Any) -> None:
    from twjax.huggingface import check

    rows = check.compare(folder, model, network, params)
    print(check.table(rows), flush=True)
    check.require(rows, folder)
