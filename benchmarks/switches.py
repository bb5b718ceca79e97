"""What the ways to keep what was known cost a step: on a TPU by its compiler, here by the clock.

    python benchmarks/switches.py [--topology v6e-64] [--only lora kl] [--json FILE]
    python benchmarks/switches.py --here [--rounds 12]

Without --here each way is compiled ahead of time into the default run (Llama 3.1 8B, 2^21 tokens a
step, configs/runs/cpt_taiwan.gin), one after the other, and the table says what a device holds and
how much it computes. With --here a decoder of 23 M parameters takes real steps on this machine,
the ways in turn, and the table has the median time of a step. Figures of earlier calls that FILE
holds aren't computed again.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import prepare

GIB = 2**30
CONFIG = "configs/runs/cpt_taiwan.gin"
ADAPTER = (
    "Run.adapter = @Adapter()",
    "Adapter.rank = 16",
    "Adapter.alpha = 32.0",
    "Adapter.targets = ('layers/*',)",
)
KL = ("Run.distillation = @Distillation()", "Distillation.weight = 1.0")
REPLAYED = ("Distillation.tasks = ('en_c4', 'en_math', 'code', 'cn_mc4')",)
WAYS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "freeze": ("Optimizer.freeze = ('embedding', 'head')",),
    "ema": ("Optimizer.ema = 0.9999",),
    "lora": (*ADAPTER, "Adapter.kind = 'lora'"),
    "lora+rows": (*ADAPTER, "Adapter.kind = 'lora'", "Adapter.train = ('embedding', 'head')"),
    "dora": (*ADAPTER, "Adapter.kind = 'dora'"),
    "kl": KL,
    "top-64": (*KL, "Distillation.top_k = 64", "Distillation.logits = 'logits'"),
}

HERE = (
    prepare.RUN
    + """
Run.steps = 1_000
Model.vocab_size = 16_384
Model.num_layers = 6
Model.embed_dim = 384
Model.num_heads = 6
Model.num_kv_heads = 2
Model.head_dim = 64
Model.mlp_dim = 1_024
Data.cache = 'none'
Data.vocabulary = 'none'
Data.mixture = @Mixture()
Data.seq_len = 256
Data.batch_size = 2
Mixture.stages = ((0, {'new': 0.7, 'old': 0.3}),)
Schedule.kind = 'constant'
Schedule.peak = 1e-4
Step.loss_chunks = 4
Evaluation.tasks = ()
Evaluation.every = 1_000
Checkpoint.every = 1_000
"""
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="v6e-64")
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--here", action="store_true", help="take real steps on this machine")
    parser.add_argument("--rounds", type=int, default=12, help="of steps, with --here")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    if args.here:
        show_here(here(args.only, args.rounds), args.json)
        return 0
    known = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    for way in args.only:
        if way not in known:
            known[way] = plan(way, args.topology)
            prepare.save(known, args.json)
        print(row(way, known[way]), flush=True)
    return 0


def plan(way: str, topology: str) -> dict[str, Any]:
    """Compiles one way into the default run; returns what `twjax plan` writes."""
    settings = WAYS[way]
    if KL[0] in settings:
        settings += REPLAYED
    sets = [part for binding in settings for part in ("--set", binding)]
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "plan.json"
        command = [sys.executable, "-m", "twjax", "plan", CONFIG, "--topology", topology, *sets]
        done = subprocess.run(
            [*command, "--json", out], capture_output=True, text=True, check=False
        )
        if not out.exists():
            raise SystemExit(f"{way}: {done.stderr[-2000:]}")
        return json.loads(out.read_text())


def row(way: str, figures: dict[str, Any]) -> str:
    """Returns a line: GiB of a device by what holds them, and the work of a step."""
    memory, work = figures["memory_bytes"], figures["device_work"]
    device = figures["model_flops"] / figures["topology"]["devices"]
    executed = "–"
    if work is not None:
        executed = f"{(work['matmul_flops'] + work['kernel_flops']) / device:.2f}"
    held = ("parameters", "optimizer", "temporaries", "total")
    cells = [f"{memory[part] / GIB:.2f}" for part in held]
    return f"| {way:9} | " + " | ".join((*cells, executed)) + " |"


def here(ways: list[str], rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each step by way; all ways take a step in each round."""
    import jax

    steps = {way: stepper(way) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, step in steps.items():
            began = time.perf_counter()
            jax.block_until_ready(step())
            # The first round compiles.
            if number:
                seconds[way].append(time.perf_counter() - began)
    return seconds


def stepper(way: str) -> Any:
    """Returns a function that takes one training step of a way and returns its metrics."""
    import jax
    import numpy as np

    from twjax import config
    from twjax.data.rows import row_dtype
    from twjax.data.top_logits import top_dtype
    from twjax.models import adapters
    from twjax.models.network import network as declare
    from twjax.parallel.mesh import make_mesh
    from twjax.training.base import FrozenBase, base_of
    from twjax.training.optimizer import make_optimizer
    from twjax.training.source import run_schedule
    from twjax.training.state import init_state
    from twjax.training.step import make_train_step
    from twjax.training.trained import Trained

    settings = WAYS[way]
    if KL[0] in settings:
        settings += ("Distillation.tasks = ('old',)",)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "here.gin"
        file.write_text(HERE)
        sets = ("Run.init = 'run:none'", *settings)
        run = config.load(config.Run, [file], sets).value
    mesh = make_mesh(run.mesh, jax.devices()[:1])
    plain = declare(run.model)
    network = adapters.adapted(plain, run.adapter)
    trained = Trained.of(run, network.specs)
    schedule = run_schedule(run, 1e-4)
    optimizer = make_optimizer(run.optimizer, schedule, trained.specs)
    base = base_of(run, plain, trained, mesh)
    rng = np.random.default_rng(0)
    kinds = [row_dtype("decoder", run.data.seq_len)]
    if run.distillation is not None and run.distillation.top_k is not None:
        kinds.append(top_dtype(run.data.seq_len, run.distillation.top_k))
    batch: dict[str, Any] = {}
    for kind in kinds:
        for name, (field, *_) in (kind.fields or {}).items():
            shape = (run.data.batch_size, *field.shape)
            batch[name] = np.ones(shape, field.base)
            if name in ("tokens", "top_ids"):
                batch[name] = rng.integers(0, run.model.vocab_size, shape, np.int32)
            elif name == "top_logs":
                batch[name] = np.full(shape, -np.log(shape[-1]), field.base)
    if run.distillation is not None:
        batch["replay"] = np.ones(run.data.batch_size, np.uint8)
    with jax.set_mesh(mesh):
        state = init_state(network, optimizer, mesh, 0, trained)
        kept = (base.keep(state.params),) if isinstance(base, FrozenBase) else ()
        step = make_train_step(network, run, optimizer, schedule, mesh, trained, base)
        held = [state, jax.device_put(batch)]

    def take() -> Any:
        with jax.set_mesh(mesh):
            held[0], metrics = step(held[0], held[1], *kept)
        return metrics

    return take


def show_here(seconds: dict[str, list[float]], file: pathlib.Path | None) -> None:
    """Prints the median time of a step by way, and beside the plain one's."""
    medians = {way: statistics.median(found) for way, found in seconds.items()}
    for way, median in medians.items():
        beside = f"{median / medians['plain']:.2f}" if "plain" in medians else ""
        print(f"| {way:9} | {median * 1e3:.0f} ms | {beside} |")
    prepare.save({"seconds": seconds, "medians": medians}, file)


if __name__ == "__main__":
    sys.exit(main())
