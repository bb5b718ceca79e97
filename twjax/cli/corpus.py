"""Builds a corpus folder from raw documents, or shows what one holds.

  twjax corpus build configs/corpora/tw_laws.gin
  twjax corpus inspect build/quickstart/corpora/tw_laws
  twjax corpus diff build/quickstart/corpora/cn_general

A build continues where an interrupted one stopped, and does nothing when inputs, configuration
and versions are those of the corpus that is there.

Apache Beam gives the same bytes; it is an extra with an environment of its own
(constraints/beam-py3.11.txt, then `pip install --no-deps twjax`). --beam takes the options of the
pipeline; without them it runs on this machine, in --workers processes:

  twjax corpus build CONFIG --runner beam --workers 2
  twjax corpus build CONFIG --runner beam --beam='--runner=FlinkRunner --flink_master=HOST:8081'

Workers elsewhere need twjax in their image, inputs that are URLs, and --work, a URL for the files
between stages, unless they share this machine's folders. On Dataflow:

  twjax corpus build CONFIG --runner beam --work gs://BUCKET/work \\
    --beam='--runner=DataflowRunner --project=PROJECT --region=asia-east1
            --temp_location=gs://BUCKET/tmp --sdk_container_image=IMAGE
            --max_num_workers=64 --disk_size_gb=200 --number_of_worker_harness_threads=1'
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

from twjax.cli import corpus_classifier, corpus_look, options

HELP = "build a corpus from raw documents; look into one; train a quality classifier"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(
        dest="corpus_command", metavar="build|inspect|diff|sample|train-classifier", required=True
    )
    build = commands.add_parser("build", help="read, clean and write documents")
    options.add_config(build, "a file below configs/corpora/, or any gin file with a Corpus")
    build.add_argument("--output", metavar="DIR", help="instead of Corpus.output")
    build.add_argument("--workers", type=_positive, metavar="N", help="processes (default: cores)")
    build.add_argument("--fresh", action="store_true", help="start over; reuse nothing")
    build.add_argument("--runner", choices=("local", "beam"), default="local", help="who does it")
    build.add_argument("--beam", metavar="OPTIONS", default="", help="of the Beam pipeline, quoted")
    build.add_argument(
        "--work", metavar="URL", default="", help="for Beam's workers that share no folder with us"
    )
    build.add_argument(
        "--memory", type=_positive, metavar="MIB", default=1024,
        help="what bringing together all documents' records may hold (default: 1024)",
    )  # fmt: skip
    corpus_look.add_commands(commands)
    corpus_classifier.add_train_classifier(commands)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def run(args: argparse.Namespace) -> int:
    if args.corpus_command == "build":
        return _build(args)
    if args.corpus_command == "train-classifier":
        return corpus_classifier.run_train_classifier(args)
    return corpus_look.run(args)


def _build(args: argparse.Namespace) -> int:
    import dataclasses

    from twjax import config
    from twjax.corpus import pipeline, registry
    from twjax.corpus.sources import formats, places

    classes = (*registry.STEPS, formats.Source)
    corpus = config.load(pipeline.Corpus, [args.config], args.set, classes=classes).value
    inputs = tuple(name for pattern in corpus.inputs for name in places.expand(pattern))
    sources = tuple(
        dataclasses.replace(source, path=name)
        for source in corpus.sources
        for name in places.expand(source.path)
    )
    corpus = dataclasses.replace(
        corpus, inputs=inputs, sources=sources, output=args.output or corpus.output
    )
    built = pipeline.build(
        corpus,
        locate=_locate,
        workers=args.workers,
        fresh=args.fresh,
        budget_bytes=args.memory << 20,
        runner=_runner(args),
    )
    if not built.fresh:
        print(f"{built.folder}: up to date ({built.manifest['counts']['documents']:,} documents).")
        return 0
    manifest = built.manifest
    counts = manifest["counts"]
    rejected = sum(counts["rejected"].values())
    print(
        f"{built.folder}: {counts['documents']:,} documents, {counts['bytes'] / 1e6:.2f} MB in "
        f"{len(manifest['shards'])} shards; {rejected:,} rejected; "
        f"{manifest['run']['wall_seconds']:.1f} s, "
        f"{manifest['run']['megabytes_per_second']:.1f} MB/s."
    )
    for reason, number in counts["rejected"].items():
        print(f"  rejected: {reason}: {number:,}")
    return 0


def _runner(args: argparse.Namespace) -> Callable[..., Any] | None:
    """Returns what does the work instead of this machine's cores."""
    if args.runner == "local":
        if args.beam or args.work:
            raise ValueError("--beam and --work are for --runner beam.")
        return None
    import functools
    import importlib.util
    import shlex

    if importlib.util.find_spec("apache_beam") is None:
        raise ValueError(
            "--runner beam needs apache_beam: make an environment with constraints/beam-py3.11.txt."
        )
    from twjax.corpus.running import beam

    options = shlex.split(args.beam)
    if args.workers and not options:
        options = [
            "--direct_running_mode=multi_processing", f"--direct_num_workers={args.workers}"
        ]  # fmt: skip
    return functools.partial(beam.run, options=options, work=args.work)


def _locate(name: str) -> pathlib.Path | str:
    """Finds an input from the working directory, else beside the configs that ship with twjax."""
    from twjax.config.loader import CONFIG_ROOTS
    from twjax.corpus.sources import places

    if places.is_url(name):
        return name
    path = pathlib.Path(name)
    if path.exists() or path.is_absolute():
        return path
    tail = pathlib.Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    for root in CONFIG_ROOTS:
        if (root / tail).exists():
            return root / tail
    return path
