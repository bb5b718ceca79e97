"""Trackers are views of the log: whole, without repetition, and never in the trainer's way."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from tests.tracking_side import Desk, Log, logged
from twjax.cli import main
from twjax.config import ConfigError, Tracking
from twjax.evaluation.records import Records
from twjax.report import sending
from twjax.report.sending import Sender, points
from twjax.report.trackers import open_tracker
from twjax.storage import is_locked
from twjax.training.board import Board
from twjax.training.metrics import cut

needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="needs twjax[wandb]"
)
needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="needs twjax[mlflow]"
)
needs_server = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("flask") is None,
    reason="needs mlflow with its server",
)


MOVES = st.lists(
    st.sampled_from(["train", "send", "restart", "fail", "kill", "kill early", "tear"]), max_size=25
)


@settings(max_examples=30, deadline=None)
@given(moves=MOVES)
def test_whatever_is_killed_each_value_of_the_log_is_there_once(tmp_path_factory, moves):
    log = Log(tmp_path_factory.mktemp("log") / "run")
    desk = Desk(log.run_dir)
    torn = b""
    for move in [*moves, "restart"]:
        path = log.run_dir / "metrics.jsonl"
        if torn:
            path.write_bytes(path.read_bytes().removesuffix(torn))
            torn = b""
        if move == "train":
            log.train(7)
        elif move == "send":
            desk.send()
        elif move == "restart":
            desk.restart()
        elif move == "fail":
            desk.down = 1
            desk.restart()
            desk.send()
        elif move == "tear" and path.exists():
            torn = b'{"kind": "train", "st'
            path.write_bytes(path.read_bytes() + torn)
            desk.send()
        elif move.startswith("kill") and path.exists():
            done = log.step
            log.go_back(done // 2 if move == "kill early" else max(done - 3, 0))
            if move == "kill early":
                desk.send()
            log.train(done - log.step)
    log.train(1)
    # The first may still meet a server that is down.
    desk.send()
    desk.send()
    assert {key: [value] for key, value in log.points().items()} == desk.measured()
    assert len(desk.runs) == 1


def test_steps_that_are_trained_otherwise_go_to_a_run_of_their_own(tmp_path):
    log = Log(tmp_path / "run")
    desk = Desk(log.run_dir)
    log.train(20)
    desk.send()
    first = log.points()
    beside = log.run_dir / "evaluations.jsonl"
    late = {"kind": "pairs", "step": 5, "task": "usage", "preferred": 0.75}
    beside.write_text(json.dumps(late) + "\n")
    desk.send()
    log.roll_back(10)
    log.factor = 2.0
    desk.send()
    log.train(15)
    desk.send()
    assert len(desk.runs) == 2
    assert desk.measured(0) == {key: [value] for key, value in first.items()}
    assert desk.measured(1) == {key: [value] for key, value in log.points().items()}
    for values, _ in desk.runs.values():
        assert values["pairs/usage/preferred", 5] == [0.75]
    # Another configuration, from a step before what was sent: also while no sender ran.
    log.go_back(20, factor=3.0)
    log.train(10)
    desk.restart()
    desk.send()
    assert [id.partition("-")[2] for id in desk.runs] == ["", "2", "3"]
    assert desk.measured(2) == {key: [value] for key, value in log.points().items()}
    # One that goes on where it was doesn't begin anew, whatever changed.
    log.factor = 1.0
    log.begin("resume")
    log.train(5)
    desk.send()
    assert len(desk.runs) == 3


@pytest.mark.parametrize("meanwhile", ["send", "restart", "restart and send"])
def test_a_rollback_is_seen_whenever_it_is_looked_at(meanwhile, tmp_path):
    log = Log(tmp_path / "run")
    desk = Desk(log.run_dir)
    log.train(20)
    desk.send()
    first = log.points()
    # What follows is sent while the way is left that it belongs to, or never.
    log.train(2)

    def look() -> None:
        if "restart" in meanwhile:
            desk.restart()
        if "send" in meanwhile:
            desk.send()

    log.roll_back(10, look)
    log.factor = 2.0
    look()
    log.train(3)
    desk.send()
    log.train(12)
    desk.send()
    desk.restart()
    desk.send()
    assert len(desk.runs) == 2
    assert first.items() <= {key: value for key, (value,) in desk.measured(0).items()}.items()
    assert desk.measured(1) == {key: [value] for key, value in log.points().items()}


@pytest.mark.parametrize("between", [False, True])
def test_a_configuration_may_be_written_after_its_event(between, tmp_path):
    log = Log(tmp_path / "run")
    desk = Desk(log.run_dir)
    log.train(20)
    desk.send()
    log.step, log.factor = 10, 2.0
    cut(log.run_dir, 10)
    log.event("resume")

    def opener(*about, **more):
        log.configure()
        return desk.open(*about, **more)

    if between:
        # Of one look, what comes after the opening sees another one than what came before.
        desk.sender = Sender(log.run_dir, "memory", Tracking(to=("wandb",)), opener)
        desk.send()
    else:
        desk.send()
        log.configure()
    log.train(15)
    desk.send()
    assert len(desk.runs) == 2
    assert desk.measured(1) == {key: [value] for key, value in log.points().items()}


def test_a_run_after_a_rollback_has_nothing_of_the_way_that_was_left(tmp_path):
    log = Log(tmp_path / "run")
    desk = Desk(log.run_dir)
    beside = Records(log.run_dir)

    def evaluate(step: int, right: float) -> None:
        beside.leave_abandoned()
        beside.append([{"kind": "pairs", "step": step, "task": "usage", "preferred": right}])

    def budget(used: float) -> None:
        answer = {"action": "steer", "rate": 1.0, "beyond": 0, "shares": {"b": 0.3}}
        log.event("budget", used={"網頁": used}, **answer)

    log.train(10)
    log.sample(10, "ten")
    budget(0.5)
    log.train(10)
    log.sample(20, "left")
    budget(0.9)
    evaluate(5, 0.5)
    evaluate(20, 0.6)
    desk.send()
    log.roll_back(10, desk.send)
    log.factor = 2.0
    log.train(5)
    desk.send()
    log.sample(20, "stays")
    log.train(5)
    budget(0.4)
    desk.send()
    desk.restart()
    desk.send()
    before, (values, texts) = desk.runs.values()
    assert before[0]["pairs/usage/preferred", 20] == [0.6]
    assert before[1]["samples", 20] == ["p:left"]
    assert {step: text for (name, step), text in texts.items() if name == "samples"} == {
        10: ["p:ten"],
        20: ["p:stays"],
    }
    assert {step: v for (name, step), v in values.items() if name == "budget/網頁"} == {
        10: [2.0],
        20: [0.4],
    }
    # Those of beside the run wait until who evaluates there has set the old ones aside.
    pairs = {key: v for key, v in values.items() if key[0] == "pairs/usage/preferred"}
    assert pairs == {("pairs/usage/preferred", 5): [0.5]}
    evaluate(20, 0.7)
    desk.send()
    assert values["pairs/usage/preferred", 20] == [0.7]
    assert len(desk.runs) == 2


@pytest.mark.parametrize("failures", [0, 6])
def test_the_end_of_a_run_is_worth_three_attempts(failures, tmp_path, monkeypatch):
    monkeypatch.setattr(sending, "RETRY_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(sending, "POLL_SECONDS", 0.01)
    log = Log(tmp_path / "run")
    log.train(5)
    tried, told = [], []

    def opener(*about, **more):
        tried.append(about)
        raise ConnectionError("the server is down")

    def ended(seconds: float) -> bool:
        return len(tried) >= failures

    sender = Sender(log.run_dir, "memory", Tracking(to=("wandb",)), opener)
    assert not sending.send_until(sender, "memory", ended, told.append)
    assert len(tried) == failures + 3 and len(told) == 1


def test_decisions_and_evaluations_from_beside_the_run_are_sent_too(tmp_path):
    log = Log(tmp_path / "run")
    desk = Desk(log.run_dir)
    log.train(10)
    beside = log.run_dir / "evaluations.jsonl"
    late = {"kind": "choice", "step": 5, "task": "tmmlu", "accuracy": 0.5, "subjects": {"law": [1]}}
    # A step that the run itself has evaluated, and one out of order.
    again = {"kind": "eval", "step": 10, "task": "網頁", "bits_per_byte": 9.0}
    beside.write_text("".join(json.dumps(r) + "\n" for r in (again, late)))
    log.event("budget", used={"網頁": 0.4}, shares={"b": 0.3}, action="steer", rate=1.0, beyond=0)
    desk.send()
    values, texts = next(iter(desk.runs.values()))
    assert values["choice/tmmlu/accuracy", 5] == [0.5]
    assert values["budget/網頁", 10] == [0.4] and values["replay/b", 10] == [0.3]
    assert len(values["eval/網頁/bits_per_byte", 10]) == 1
    assert "used of what may be forgotten: 網頁 40%; replay b 30.0%" in texts["decisions", 10][0]


def test_what_was_measured_otherwise_has_a_name_of_its_own(tmp_path):
    log = Log(tmp_path / "run")
    desk = Desk(log.run_dir)
    log.train(5)
    own = log.run_dir / "metrics.jsonl"
    own.write_text(own.read_text().replace('"bits_per_byte"', '"bytes": 200, "bits_per_byte"'))
    desk.send()
    exam = {"kind": "choice", "step": 5, "task": "exam"}
    bits = {"kind": "eval", "task": "網頁"}
    records = [
        exam | {"shots": 0, "accuracy": 0.2},
        exam | {"shots": 5, "accuracy": 0.4},
        exam | {"shots": 5, "style": "texts", "accuracy": 0.6},
        bits | {"step": 3, "bits_per_byte": 4.0, "bytes": 200},
        bits | {"step": 5, "bits_per_byte": 1.0, "bytes": 77},
    ]
    beside = log.run_dir / "evaluations.jsonl"
    for number in range(len(records)):
        beside.write_text("".join(json.dumps(r) + "\n" for r in records[: number + 1]))
        if number == 3:
            desk.restart()
        desk.send()
    desk.restart()
    desk.send()
    values = next(iter(desk.runs.values()))[0]
    assert values["choice/exam/accuracy", 5] == [0.2]
    assert values["choice/exam, 5-shot/accuracy", 5] == [0.4]
    assert values["choice/exam, 5-shot, texts/accuracy", 5] == [0.6]
    assert values["eval/網頁/bits_per_byte", 3] == [4.0]
    assert values["eval/網頁/bits_per_byte", 5] == [pytest.approx(4.95)]
    assert values["eval/網頁 (twjax eval, 77 bytes)/bits_per_byte", 5] == [1.0]


def test_what_is_measured_has_a_name_and_what_is_no_number_has_none():
    record = {"kind": "train", "step": 3, "loss": 2, "grad_norm": None, "rows": {"a": 5, "b": 6}}
    # When a line was written isn't measured: a step that is trained again has another time.
    record["time"] = 1.8e9
    assert dict(points(record)) == {"train/loss": 2.0, "train/rows/a": 5.0, "train/rows/b": 6.0}
    record = {"kind": "generation", "step": 3, "task": "t", "examples": 4, "metrics": {"bleu": 1.5}}
    assert dict(points(record)) == {"generation/t/examples": 4.0, "generation/t/bleu": 1.5}


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_an_absent_package_is_named_before_anything_starts(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, kind, None)
    path = tiny.write_config(tmp_path)
    binding = f"\nRun.tracking = @Tracking()\nTracking.to = ('{kind}',)\n"
    path.write_text(path.read_text() + binding)
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert f"pip install 'twjax[{kind}]'" in error
    assert not (tmp_path / "run" / "ledger.jsonl").exists()
    with pytest.raises(ConfigError, match="twjax"):
        open_tracker(kind, Tracking(to=(kind,)), tmp_path, id="x", name="x", rows=0)


def test_passwords_have_no_place_in_a_configuration():
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_PASSWORD"):
        Tracking(to=("mlflow",), mlflow_uri="https://me:secret@example.org")


@pytest.mark.slow
def test_tensorboard_is_a_tracker_too(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    board = Board(tmp_path, 1)
    board.config({"run.steps": 7})
    board.text("decisions", "**rolled back**", 4)
    board.scalar("train/loss", 2.5, 3)
    board.flush()
    board.close()
    events = accumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(3, 2.5)]
    texts = {tag: events.Tensors(tag)[0] for tag in events.Tags()["tensors"]}
    told = {tag.split("/")[0]: (e.step, e.tensor_proto.string_val[0]) for tag, e in texts.items()}
    assert told["decisions"] == (4, b"**rolled back**")
    assert b"| run.steps | `7` |" in told["config"][1]


def written_by_wandb(path: pathlib.Path) -> Iterator[bytes]:
    """Yields the records of a .wandb file: LevelDB's log format behind a header of seven bytes."""
    data, record, place = path.read_bytes(), b"", 7
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            # A block's last bytes are filled up where no header fits.
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        # Full, or the last part.
        if kind in (1, 4):
            yield record
            record = b""


def offline(folder: pathlib.Path) -> list[tuple[list[dict], dict]]:
    """Returns what the files of offline runs hold: (rows, configuration) of each, in time."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        rows, about = [], {}
        for data in written_by_wandb(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("history"):
                items = record.history.item
                rows.append(
                    {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                )
            for update in [*record.config.update, *record.run.config.update]:
                about[update.key or "/".join(update.nested_key)] = json.loads(update.value_json)
            if record.HasField("run"):
                about |= {"id": record.run.run_id, "project": record.run.project}
        found.append((rows, about))
    return found


@needs_wandb
@pytest.mark.slow
def test_wandb_offline_has_the_whole_log_in_one_run_of_two_lives(tmp_path):
    log = Log(tmp_path / "run")
    command = ["track", log.run_dir, "--to", "wandb", "--project", "zh-tw", "--offline"]
    for life in range(2):
        log.train(12)
        if life:
            log.event("finish")
        done = tiny.twjax(*command)
        assert done.returncode == 0, done.stderr
    lives = offline(log.run_dir / "tracking")
    assert len(lives) == 2 and len({about["id"] for _, about in lives}) == 1
    assert lives[0][1]["project"] == "zh-tw" and lives[0][1]["model.vocab_size"] == 96
    found: dict = {}
    for rows, _ in lives:
        for row in rows:
            for name, value in row.items():
                found.setdefault((name, row["step"]), []).append(value)
    measured = {k: v for k, v in found.items() if k[0].startswith(("train/", "eval/"))}
    assert measured == {key: [value] for key, value in log.points().items()}
    numbers = [row["_step"] for rows, _ in lives for row in rows]
    assert numbers == list(range(len(numbers)))


def logged_there(uri: str, project: str) -> dict[tuple[str, int], list[float]]:
    """Returns what MLflow has of the only run of an experiment."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(project)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    found: dict = {}
    for name in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, name):
            found.setdefault((name, metric.step), []).append(metric.value)
    assert run.info.status == "FINISHED" and run.data.params["model.vocab_size"] == "96"
    return found


def expected(values: dict[tuple[str, int], float]) -> dict[tuple[str, int], list[float]]:
    return {(name, step): [value] for (name, step), value in values.items()}


@needs_mlflow
@pytest.mark.slow
@pytest.mark.parametrize("store", ["file", "sqlite"])
def test_mlflow_has_the_whole_log_in_a_store_of_this_machine(store, tmp_path, monkeypatch):
    if store == "sqlite":
        pytest.importorskip("sqlalchemy", reason="a database needs mlflow as a whole")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    log = Log(tmp_path / "run")
    uri = f"sqlite:///{tmp_path}/mlflow.db" if store == "sqlite" else f"file://{tmp_path}/mlruns"
    monkeypatch.chdir(tmp_path)
    tracking = Tracking(to=("mlflow",), project="zh-tw", mlflow_uri=uri)
    for _ in range(2):
        log.train(12)
        sender = Sender(log.run_dir, "mlflow", tracking)
        assert sender.send() > 12
        sender.close()
    assert logged_there(uri, "zh-tw") == expected(log.points())


def tracked(uri: str) -> list[str]:
    """Returns the arguments of a run that is sent to both."""
    sets = ["Run.tracking = @Tracking()", "Tracking.to = ('wandb', 'mlflow')"]
    sets += ["Tracking.wandb_mode = 'offline'", "Tracking.project = 'tiny'"]
    sets += [f"Tracking.mlflow_uri = '{uri}'"]
    return [*tiny.LONG, *(part for binding in sets for part in ("--set", binding))]


def truth(run_dir: pathlib.Path) -> dict[tuple[str, int], float]:
    """Returns what a run has logged, but for how long it took, which no two lives share."""
    records = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    values = {(name, r["step"]): value for r in records for name, value in points(r)}
    return {key: value for key, value in values.items() if "second" not in key[0]}


def senders_end(run_dir: pathlib.Path) -> None:
    """Returns when nobody sends any more: the trainer leaves its senders alone after a while."""
    for kind in ("wandb", "mlflow"):
        for _ in range(900):
            if not is_locked(run_dir / "tracking" / f".{kind}.lock"):
                break
            time.sleep(0.1)


@needs_wandb
@needs_mlflow
@pytest.mark.slow
def test_a_killed_run_is_one_run_there_and_an_absent_server_changes_nothing(
    config, unbroken, tmp_path
):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
    run_dir = tmp_path / "run"
    command = ["train", str(config), "--run-dir", str(run_dir), *tracked(uri)]
    trainer = subprocess.Popen([sys.executable, "-m", "twjax", *command], env=tiny.environment())
    # Its senders live on, and send what it has logged.
    tiny.wait_for_step(run_dir, 40, trainer)
    trainer.kill()
    trainer.wait()
    assert trainer.returncode == -signal.SIGKILL
    done = tiny.twjax(*command)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("mlflow: nothing can be sent") <= 1
    assert f"`twjax track {run_dir} --to mlflow` sends what is missing" in done.stderr
    assert tiny.losses(run_dir) == tiny.losses(unbroken[0])
    senders_end(run_dir)
    environment = {"MLFLOW_ALLOW_FILE_STORE": "true"}
    store = f"file://{tmp_path}/mlruns"
    for arguments in (["--to", "wandb"], ["--to", "mlflow", "--mlflow-uri", store]):
        again = tiny.twjax("track", run_dir, *arguments, env=environment)
        assert again.returncode == 0, again.stderr
    lives = offline(run_dir / "tracking")
    assert len({about["id"] for _, about in lives}) == 1
    found: dict = {}
    for row in (row for rows, _ in lives for row in rows):
        for name, value in row.items():
            found.setdefault((name, row["step"]), []).append(value)
    logged = truth(run_dir)
    assert {key: found.get(key) for key in logged} == expected(logged)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        found = logged_there(store, "tiny")
    assert {key: found.get(key) for key in logged} == expected(logged)


@pytest.mark.slow
def test_a_run_that_goes_on_otherwise_is_followed_into_another_one(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(unbroken[0], run_dir)
    for step in (path for path in (run_dir / "checkpoints").iterdir() if path.name.isdigit()):
        if int(step.name) > 60:
            shutil.rmtree(step)
    desk = Desk(run_dir)
    desk.send()
    first = desk.measured()
    changed = ["--set", "Schedule.peak = 5e-3", "--allow-change"]
    with desk.following():
        done = tiny.twjax("train", config, "--run-dir", run_dir, *tiny.LONG, *changed)
    assert done.returncode == 0, done.stderr
    assert len(desk.runs) == 2 and desk.measured(0) == first
    assert desk.measured(1) == expected(logged(run_dir)) != first


@contextlib.contextmanager
def server(folder: pathlib.Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """Runs MLflow's own server on this machine; yields its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    process = subprocess.Popen(
        [*command, "--artifacts-destination", str(folder / "artifacts")],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        start_new_session=True,
    )
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            assert process.poll() is None
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@needs_server
@needs_wandb
@pytest.mark.slow
def test_a_server_that_hangs_changes_no_loss_and_misses_nothing_in_the_end(
    config, unbroken, tmp_path
):
    run_dir = tmp_path / "run"
    sent = run_dir / "tracking" / "mlflow.json"
    with server(tmp_path) as (uri, process):
        command = ["train", str(config), "--run-dir", str(run_dir), *tracked(uri)]
        trainer = subprocess.Popen(
            [sys.executable, "-m", "twjax", *command],
            env=tiny.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while trainer.poll() is None and not (
            sent.exists() and json.loads(sent.read_text())["step"]
        ):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGSTOP)
        output, _ = trainer.communicate(timeout=120)
        assert trainer.returncode == 0, output
        assert tiny.losses(run_dir) == tiny.losses(unbroken[0])
        os.killpg(process.pid, signal.SIGCONT)
        senders_end(run_dir)
        done = tiny.twjax("track", run_dir, "--to", "mlflow")
        assert done.returncode == 0, done.stderr
        found = logged_there(uri, "tiny")
    logged = truth(run_dir)
    # A request that the server took while nobody heard it is sent again.
    assert {key: set(found.get(key, ())) for key in logged} == {
        key: {value} for key, value in logged.items()
    }
