"""A run small enough to train in seconds: random cached rows of two tasks, and its gin file."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np

from twjax import storage
from twjax.data.rows import RowWriter

REPO = pathlib.Path(__file__).resolve().parent.parent
VOCAB, SEQ = 96, 32

LONG_STEPS = 120
LONG = [
    part
    for binding in (f"Run.steps = {LONG_STEPS}", "Run.log_every = 1", "Checkpoint.every = 7")
    for part in ("--set", binding)
]

CONFIG = """
Run.steps = 12
Run.log_every = 3
Run.model = @Model()
Run.data = @Data()
Run.mesh = @Mesh()
Run.optimizer = @Optimizer()
Run.schedule = @Schedule()
Run.step = @Step()
Run.checkpoint = @Checkpoint()
Run.evaluation = @Evaluation()
Model.vocab_size = 96
Model.num_layers = 2
Model.embed_dim = 16
Model.num_heads = 4
Model.num_kv_heads = 2
Model.head_dim = 8
Model.mlp_dim = 32
Data.cache = '{cache}'
Data.vocabulary = '{cache}/none.model'
Data.seq_len = 32
Data.batch_size = 8
Data.mixture = @Mixture()
Mixture.stages = ((0, {{'a': 0.7, 'b': 0.3}}), (6, {{'a': 0.2, 'b': 0.8}}))
Mixture.max_epochs = None
Mixture.block_rows = 16
Schedule.kind = 'cosine'
Schedule.peak = 1e-2
Schedule.warmup_steps = 2
Step.dtype = 'float32'
Step.loss_chunks = 2
Checkpoint.every = 3
Checkpoint.keep = 10
Evaluation.tasks = ('a', 'b')
Evaluation.every = 6
Evaluation.rows = 10
"""


def rows(rng: np.random.Generator, count: int, seq: int = SEQ) -> dict[str, np.ndarray]:
    """Returns packed rows of a bigram language: three documents a row, then padding."""
    step = rng.integers(1, 7)
    tokens = np.cumsum(rng.integers(1, 1 + step, (count, seq)), axis=1) % (VOCAB - 4) + 4
    cuts = np.sort(rng.integers(4, seq - 4, (count, 2)), axis=1)
    place = np.arange(seq)[None]
    segment_ids = 1 + (place >= cuts[:, :1]) + (place >= cuts[:, 1:])
    pad = place >= seq - rng.integers(0, 4, (count, 1))
    segment_ids = np.where(pad, 0, segment_ids)
    first = np.diff(segment_ids, axis=1, prepend=-1) != 0
    return {
        "tokens": np.where(pad, 0, tokens).astype(np.int32),
        "segment_ids": segment_ids.astype(np.int32),
        "loss_weights": (~first & ~pad).astype(np.uint8),
    }


def write_cache(cache: pathlib.Path, vocab: int = VOCAB, seq: int = SEQ, sha256: str = "0") -> None:
    """Writes train and validation rows of tasks a and b, as if of a vocabulary with this hash."""
    for number, task in enumerate(("a", "b")):
        for split, count in (("train", 60 + 7 * number), ("validation", 11)):
            seed = [number, split == "train"]
            token_bytes = np.arange(vocab, dtype=np.int32) % 4
            with RowWriter(cache, task, split, seq, "f0", token_bytes=token_bytes) as writer:
                writer.write(rows(np.random.default_rng(seed), count, seq))
                writer.finish(
                    documents=3 * count,
                    text_bytes=100 * count,
                    vocabulary={"sha256": sha256, "size": vocab, "path": f"{cache}/none.model"},
                    ingredients={},
                )


def write_config(folder: pathlib.Path) -> pathlib.Path:
    """Writes the cache and the gin file of the tiny run; returns the file."""
    write_cache(folder / "cache")
    path = folder / "tiny.gin"
    path.write_text(CONFIG.format(cache=folder / "cache"))
    return path


def environment(devices: int = 1, **extra: str) -> dict[str, str]:
    """Returns the environment of a twjax process with this many CPU devices."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("TWJAX")},
        "PYTHONPATH": str(REPO),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        **extra,
    }


def twjax(*arguments: object, devices: int = 1, **options) -> subprocess.CompletedProcess[str]:
    """Runs a twjax command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "twjax", *map(str, arguments)],
        env=environment(devices, **options.pop("env", {})),
        cwd=options.pop("cwd", REPO),
        capture_output=True,
        text=True,
        timeout=options.pop("timeout", 300),
        check=False,
        **options,
    )


def twjax_pair(*arguments: object) -> None:
    """Runs a twjax command in two processes of four devices each, which must both end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "twjax", *map(str, arguments)],
            env=environment(
                4,
                TWJAX_COORDINATOR=f"127.0.0.1:{port}",
                TWJAX_NUM_PROCESSES="2",
                TWJAX_PROCESS_ID=str(number),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=280)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs


def long_run(config: pathlib.Path, run_dir: pathlib.Path) -> list[str]:
    """Trains a run of `LONG_STEPS` undisturbed; returns the modules loaded at its end."""
    arguments = ["train", str(config), "--run-dir", str(run_dir), *LONG]
    program = (
        "import sys; from twjax.cli import main\n"
        f"code = main({arguments!r})\n"
        "print(' '.join(sys.modules)); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def wait_for_step(run_dir: pathlib.Path, step: int, process: subprocess.Popen[str]) -> None:
    """Returns when the log has this step, or the process has ended."""
    while process.poll() is None:
        done = storage.read_json_lines(run_dir / "metrics.jsonl") if run_dir.exists() else []
        if any(record["step"] >= step for record in done):
            return
        time.sleep(0.002)


def records(run_dir: pathlib.Path, kind: str) -> list[dict]:
    """Returns a run's logged records of one kind."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [record for line in lines if (record := json.loads(line))["kind"] == kind]


def losses(run_dir: pathlib.Path) -> dict[int, tuple[float, float]]:
    """Returns {step: (loss, gradient norm)} of a run."""
    return {r["step"]: (r["loss"], r["grad_norm"]) for r in records(run_dir, "train")}
