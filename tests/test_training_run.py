"""Whole runs in processes of their own: killed, stopped, resumed, refused."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import data_side, tiny
from twjax import storage
from twjax.vocab.model import SentencePieceModel

STEPS, LONG = tiny.LONG_STEPS, tiny.LONG


def start(config, run_dir, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "twjax", "train", config, "--run-dir", run_dir, *arguments],
        env=tiny.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_the_trainer_loads_neither_tensorflow_nor_seqio(unbroken):
    loaded = {name.partition(".")[0] for name in unbroken[1]}
    assert "jax" in loaded
    assert not loaded & {"tensorflow", "tensorflow_text", "seqio", "tensorflow_datasets"}


@pytest.mark.slow
def test_kill_dash_nine_again_and_again_changes_no_loss(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    chance = random.Random(0)
    kills = 0
    for _ in range(3):
        process = start(config, run_dir, *LONG)
        logged = storage.read_json_lines(run_dir / "metrics.jsonl")
        reached = max((record["step"] for record in logged), default=0)
        tiny.wait_for_step(run_dir, reached + chance.randint(5, 35), process)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    done = tiny.twjax("train", config, "--run-dir", run_dir, *LONG)
    assert done.returncode == 0, done.stderr
    assert kills >= 2
    assert tiny.losses(run_dir) == tiny.losses(unbroken[0])
    evaluations = [
        [(r["step"], r["task"], r["bits_per_byte"]) for r in tiny.records(d, "eval")]
        for d in (run_dir, unbroken[0])
    ]
    assert evaluations[0] == evaluations[1]
    tokens = [tiny.records(d, "train")[-1]["tokens"] for d in (run_dir, unbroken[0])]
    assert tokens[0] == tokens[1]


@pytest.mark.slow
def test_sigterm_saves_and_exits_zero_and_the_run_goes_on(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    process = start(config, run_dir, *LONG)
    tiny.wait_for_step(run_dir, 20, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "Asked to stop" in output
    ledger = storage.read_json_lines(run_dir / "ledger.jsonl")
    assert ledger[-1]["event"] == "stop"
    stopped = ledger[-1]["step"]
    assert 20 <= stopped < STEPS
    assert (run_dir / "checkpoints" / str(stopped)).is_dir()
    assert tiny.twjax("train", config, "--run-dir", run_dir, *LONG).returncode == 0
    assert tiny.losses(run_dir) == tiny.losses(unbroken[0])
    again = tiny.twjax("train", config, "--run-dir", run_dir, *LONG)
    assert again.returncode == 0 and f"all {STEPS} steps are done" in again.stderr


@pytest.mark.slow
def test_a_changed_setting_is_shown_and_a_changed_identity_refused(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(unbroken[0], run_dir)
    longer = [*LONG, "--set", f"Run.steps = {STEPS + 1}"]
    other = [*longer, "--set", "Data.batch_size = 16"]
    refused = tiny.twjax("train", config, "--run-dir", run_dir, *other)
    assert refused.returncode == 1
    assert "data.batch_size 8 -> 16" in refused.stderr and "--allow-change" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    allowed = tiny.twjax("train", config, "--run-dir", run_dir, "--allow-change", *other)
    assert allowed.returncode == 0, allowed.stderr
    assert "+ data.batch_size = 16  (fixed)" in allowed.stderr
    last = storage.read_json_lines(run_dir / "ledger.jsonl")[-2]
    assert last["event"] == "resume" and any("batch_size" in c for c in last["changes"])


@pytest.mark.slow
def test_a_run_does_not_go_on_in_another_order_of_rows(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(unbroken[0], run_dir)
    ledger = run_dir / "ledger.jsonl"
    events = [event | {"order": 1} for event in storage.read_json_lines(ledger)]
    ledger.write_text("".join(json.dumps(event) + "\n" for event in events))
    longer = [*LONG, "--set", f"Run.steps = {STEPS + 1}"]
    refused = tiny.twjax("train", config, "--run-dir", run_dir, *longer)
    assert refused.returncode == 1
    assert "began with order 1 of a mixture's rows" in refused.stderr.splitlines()[-1]
    allowed = tiny.twjax("train", config, "--run-dir", run_dir, "--allow-change", *longer)
    assert allowed.returncode == 0, allowed.stderr


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    """Mounts a small tmpfs on `folder`; where that isn't allowed the size of a file is bounded."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        limit = (8 * 1024, 8 * 1024)
        yield {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)}
        return
    try:
        yield {}
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_keeps_what_was_saved(config, tmp_path):
    with small_disk(tmp_path / "disk", 900) as options:
        run_dir = tmp_path / "disk" / "run"
        command = ["train", config, "--run-dir", run_dir, "--set", "Run.steps = 60"]
        command += ["--set", "Checkpoint.every = 1", "--set", "Checkpoint.keep = 100"]
        done = tiny.twjax(*command, **options)
        assert done.returncode == 1, done.stderr
        error = [line for line in done.stderr.splitlines() if "error:" in line]
        assert len(error) == 1 and "Traceback" not in done.stderr, done.stderr
        folder = run_dir / "checkpoints"
        whole = sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())
        kept = tmp_path / "kept"
        shutil.copytree(run_dir, kept)
    assert whole
    done = tiny.twjax("train", config, "--run-dir", kept, "--set", "Run.steps = 60")
    assert done.returncode == 0, done.stderr
    assert f"going on from step {whole[-1]} of 60" in done.stderr
    steps = [record["step"] for record in tiny.records(kept, "train")]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_a_run_starts_from_another_ones_weights(config, unbroken, tmp_path):
    run_dir = tmp_path / "child"
    sets = [
        f"Run.init = 'run:{unbroken[0]}'",
        "Schedule.start = 'source'",
        "Schedule.warmup_steps = 4",
        "Run.log_every = 1",
    ]
    arguments = [part for binding in sets for part in ("--set", binding)]
    done = tiny.twjax("train", config, "--run-dir", run_dir, *arguments)
    assert done.returncode == 0, done.stderr
    parent = {r["task"]: r for r in tiny.records(unbroken[0], "eval") if r["step"] == STEPS}
    child = {r["task"]: r for r in tiny.records(run_dir, "eval") if r["step"] == 0}
    for task, record in parent.items():
        assert child[task]["bits_per_byte"] == record["bits_per_byte"]
    final = tiny.records(unbroken[0], "train")[-1]["learning_rate"]
    first = tiny.records(run_dir, "train")[0]["learning_rate"]
    assert first == pytest.approx(final + (1e-2 - final) / 5, rel=1e-5)
    other = tiny.twjax(
        "train", config, "--run-dir", tmp_path / "no", *arguments, "--set", "Model.mlp_dim = 64"
    )
    assert other.returncode == 1 and "Model.mlp_dim 32 there, 64 here" in other.stderr
    for info in config.parent.glob("cache/*/train/*/f0/info.json"):
        target = tmp_path / "cache" / info.relative_to(config.parent / "cache")
        shutil.copytree(info.parent.parent, target.parent.parent)
        target.write_text(info.read_text().replace('"sha256": "0"', '"sha256": "1"'))
    arguments += ["--set", f"Data.cache = '{tmp_path / 'cache'}'", "--set", "Evaluation.tasks = ()"]
    other = tiny.twjax("train", config, "--run-dir", tmp_path / "no", *arguments)
    assert other.returncode == 1 and "trained with another vocabulary" in other.stderr


def test_the_log_holds_the_mixture_that_was_read(unbroken):
    last = tiny.records(unbroken[0], "train")[-1]
    assert sum(last["rows"].values()) == STEPS * 8
    # 6 steps at 70/30, the rest at 20/80.
    assert last["rows"]["a"] == pytest.approx(6 * 8 * 0.7 + (STEPS - 6) * 8 * 0.2, abs=1)


@pytest.mark.slow
def test_tensorboard_reads_what_was_written(unbroken):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(unbroken[0] / "tb"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"train/loss", "eval/a/bits_per_byte"} <= set(tags)
    written = {event.step: event.value for event in events.Scalars("train/loss")}
    logged = tiny.losses(unbroken[0])
    assert written and all(written[s] == pytest.approx(logged[s][0]) for s in written)


@pytest.mark.slow
def test_a_broken_cache_is_one_line(config, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(config.parent, folder)
    text = config.read_text().replace(str(config.parent), str(folder))
    (folder / "tiny.gin").write_text(text)

    def refused(*sets):
        arguments = [part for binding in sets for part in ("--set", binding)]
        done = tiny.twjax("train", folder / "tiny.gin", "--run-dir", tmp_path / "no", *arguments)
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (tmp_path / "no" / "config.gin").exists()
        return done.stderr

    assert "Model.vocab_size (95) is less than the 96 ids" in refused("Model.vocab_size = 95")
    missing = refused("Mixture.stages = ((0, {'zh': 1.0}),)")
    assert "no cached rows of task zh" in missing and "twjax tasks cache" in missing
    assert "must be a multiple of Step.accumulation (3)" in refused("Step.accumulation = 3")
    assert "splash" in refused("Step.attention = 'splash'")
    held_out = refused("Evaluation.tasks = ('a', 'zh')")
    assert "no cached rows of task zh, split validation" in held_out
    assert (
        "mount the bucket"
        in tiny.twjax("train", folder / "tiny.gin", "--run-dir", "gs://bucket/run").stderr
    )
    info = next(folder.glob("cache/a/train/*/f0/info.json"))
    file = info.parent / json.loads(info.read_text())["files"][0]["file"]
    os.truncate(file, file.stat().st_size // 2)
    assert str(file) in refused()


@pytest.mark.slow
def test_a_second_writer_is_kept_out(config, tmp_path):
    run_dir = tmp_path / "run"
    process = start(config, run_dir, *LONG, "--set", "Run.steps = 100_000")
    tiny.wait_for_step(run_dir, 1, process)
    second = tiny.twjax("train", config, "--run-dir", run_dir, *LONG)
    process.kill()
    process.communicate()
    assert second.returncode == 1 and "another process is training this run" in second.stderr


@pytest.mark.slow
def test_the_end_is_noted_even_when_a_kill_came_before_the_note(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(unbroken[0], run_dir)
    ledger = run_dir / "ledger.jsonl"
    lines = ledger.read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "finish"
    ledger.write_text("\n".join(lines[:-1]) + "\n")
    for _ in range(2):
        assert tiny.twjax("train", config, "--run-dir", run_dir, *LONG).returncode == 0
    events = [record["event"] for record in storage.read_json_lines(ledger)]
    assert events == [json.loads(line)["event"] for line in lines]


@pytest.mark.slow
def test_an_evaluation_that_was_cut_off_is_done_again(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(unbroken[0], run_dir)
    log = run_dir / "metrics.jsonl"
    lines = log.read_text().splitlines()
    assert json.loads(lines[-1])["task"] == "b"
    log.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    assert tiny.twjax("train", config, "--run-dir", run_dir, *LONG).returncode == 0
    ends = [
        [(r["task"], r["bits_per_byte"]) for r in tiny.records(d, "eval") if r["step"] == STEPS]
        for d in (run_dir, unbroken[0])
    ]
    assert ends[0] == ends[1] and len(ends[0]) == 2


@pytest.mark.slow
def test_a_child_goes_on_when_its_source_is_gone(config, unbroken, tmp_path):
    source, run_dir = tmp_path / "source", tmp_path / "child"
    shutil.copytree(unbroken[0], source)
    sets = [f"Run.init = 'run:{source}'", "Schedule.start = 'source'", "Schedule.warmup_steps = 9"]
    arguments = [part for binding in sets for part in ("--set", binding)]
    done = tiny.twjax("train", config, "--run-dir", run_dir, *arguments)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    arguments += ["--set", "Run.steps = 14"]
    done = tiny.twjax("train", config, "--run-dir", run_dir, *arguments)
    assert done.returncode == 0 and "going on from step 12 of 14" in done.stderr, done.stderr


@pytest.mark.slow
def test_text_is_not_generated_with_another_vocabulary(unbroken, tmp_path):
    model = tmp_path / "other.model"
    with open(data_side.vocabulary(), "rb") as file:
        model.write_bytes(file.read())
    done = tiny.twjax("generate", unbroken[0], "--vocabulary", model, "--prompt", "臺灣")
    assert done.returncode == 1
    assert "is not the vocabulary that the model was trained with" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    # A model of as many ids, but trained on something else, is told by its hash.
    same_size = tmp_path / "run"
    shutil.copytree(unbroken[0], same_size)
    size = SentencePieceModel(model).vocab_size
    frozen = same_size / "config.gin"
    text = frozen.read_text()
    assert "vocab_size = 96" in text
    frozen.write_text(text.replace("vocab_size = 96", f"vocab_size = {size}"))
    done = tiny.twjax("generate", same_size, "--vocabulary", model, "--prompt", "臺灣")
    assert done.returncode == 1 and "trained with" in done.stderr and "sha256 0…" in done.stderr
