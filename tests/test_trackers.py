"""Trackers are views of the log: whole, without repetition, and never in the trainer's way."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
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
from twjax.cli import main
from twjax.config import ConfigError, Tracking
from twjax.report.sending import Sender, points
from twjax.report.trackers import open_tracker
from twjax.storage import is_locked
from twjax.training.board import Board

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


class Log:
    """A run's folder as a trainer writes it: step `s` has loss f(s), an evaluation each 5 steps."""

    def __init__(self, run_dir: pathlib.Path):
        self.run_dir, self.step, self.factor = run_dir, 0, 1.0
        run_dir.mkdir(parents=True, exist_ok=True)
        self.begin("start")

    def event(self, event: str, **details) -> None:
        line = json.dumps({"event": event, "step": self.step, **details})
        with (self.run_dir / "ledger.jsonl").open("a") as file:
            file.write(line + "\n")

    def records(self, steps: range) -> list[dict]:
        found = []
        for step in steps:
            loss = self.factor * (5 - 0.01 * step)
            found.append({"kind": "train", "step": step, "loss": loss, "tokens": 64 * step})
            if step % 5 == 0:
                found.append({"kind": "eval", "step": step, "task": "網頁", "bits_per_byte": loss})
        return found

    def train(self, steps: int) -> None:
        lines = [json.dumps(r) for r in self.records(range(self.step + 1, self.step + steps + 1))]
        self.step += steps
        with (self.run_dir / "metrics.jsonl").open("a") as file:
            file.writelines(line + "\n" for line in lines)

    def begin(self, event: str) -> None:
        (self.run_dir / "config.gin").write_text(CONFIG.replace("1e-2", f"{self.factor * 1e-2}"))
        self.event(event)

    def go_back(self, step: int, event: str = "resume", factor: float | None = None) -> None:
        """The run goes on from an earlier step, as after a kill."""
        log = self.run_dir / "metrics.jsonl"
        kept = [r for r in map(json.loads, log.read_text().splitlines()) if r["step"] <= step]
        self.step, self.factor = step, factor or self.factor
        if event == "resume":
            self.begin(event)
        else:
            self.event(event, look={"used": {"網頁": 2.0}, "shares": {"b": 0.5}})
        temporary = self.run_dir / "new"
        temporary.write_text("".join(json.dumps(r) + "\n" for r in kept))
        os.replace(temporary, log)

    def points(self) -> dict[tuple[str, int], float]:
        lines = (self.run_dir / "metrics.jsonl").read_text().splitlines()
        return {
            (name, r["step"]): value for r in map(json.loads, lines) for name, value in points(r)
        }


CONFIG = tiny.CONFIG.format(cache="nowhere")


class Memory:
    """A tracker that keeps what was flushed, and fails when it is told to."""

    def __init__(self, runs: dict, id: str):
        self.values, self.texts = runs.setdefault(id, ({}, {}))
        self.kept: list[tuple] = []
        self.fails = 0

    def config(self, values) -> None:
        assert values["model.vocab_size"] == 96

    def scalar(self, name, value, step) -> None:
        self.kept.append((self.values, name, value, step))

    def text(self, name, value, step) -> None:
        self.kept.append((self.texts, name, value, step))

    def flush(self) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the server is down")
        for where, name, value, step in self.kept:
            where.setdefault((name, step), []).append(value)
        self.kept = []

    def close(self) -> None:
        assert not self.kept


class Desk:
    """A sender that can be killed and started again; `runs` is what its tracker has."""

    def __init__(self, log: Log):
        self.log, self.runs, self.down = log, {}, 0
        self.restart()

    def restart(self) -> None:
        self.sender = Sender(self.log.run_dir, "memory", Tracking(to=("wandb",)), self.open)

    def open(self, kind, tracking, folder, *, id, name, rows) -> Memory:
        tracker = Memory(self.runs, id)
        tracker.fails, self.down = self.down, 0
        return tracker

    def send(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.sender.send()

    def measured(self, number: int = -1) -> dict[tuple[str, int], list[float]]:
        values = list(self.runs.values())[number][0]
        return {k: v for k, v in values.items() if k[0].split("/")[0] in ("train", "eval")}


MOVES = st.lists(
    st.sampled_from(["train", "send", "restart", "fail", "kill", "kill early", "tear"]), max_size=25
)


@settings(max_examples=30, deadline=None)
@given(moves=MOVES)
def test_whatever_is_killed_each_value_of_the_log_is_there_once(tmp_path_factory, moves):
    log = Log(tmp_path_factory.mktemp("log") / "run")
    desk = Desk(log)
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
    desk = Desk(log)
    log.train(20)
    desk.send()
    first = log.points()
    beside = log.run_dir / "evaluations.jsonl"
    late = {"kind": "pairs", "step": 5, "task": "usage", "preferred": 0.75}
    beside.write_text(json.dumps(late) + "\n")
    desk.send()
    log.go_back(10, "roll_back")
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


def test_decisions_and_evaluations_from_beside_the_run_are_sent_too(tmp_path):
    log = Log(tmp_path / "run")
    desk = Desk(log)
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
    desk = Desk(log)
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
