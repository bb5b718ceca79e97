"""Generation tasks: what a checkpoint writes scores as `seqio.Evaluator` scores it directly."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import data_side
import pytest
import tiny

from twjax.cli import main
from twjax.data import readers
from twjax.data.task_process import TaskProcess
from twjax.data.text_metrics import letter
from twjax.evaluation.answers import ROWS_A_DEVICE, TOKENS_A_DEVICE, batches

SAMPLES = pathlib.Path(__file__).parent / "data" / "supervised"
TASKS = ("tw_civil_exam", "tw_pydocs_from_cn")
ORDER = {
    "split": "validation",
    "vocabulary": data_side.vocabulary(),
    "imports": ["tasks.supervised"],
    "sequence_length": {"inputs": 512, "targets": 512},
    "count": None,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records under the names that `tasks.supervised` declares."""
    folder = tmp_path_factory.mktemp("generation")
    for source, name in (
        ("civil_exam.jsonl", "tw_civil_exam_mcq.jsonl.gz"),
        ("pydocs_pairs.jsonl", "pydocs_pairs_en_zhTW_zhCN.jsonl.gz"),
    ):
        with gzip.open(folder / name, "wb") as file:
            file.write((SAMPLES / source).read_bytes())
    return folder


@pytest.fixture(scope="module")
def run_dir(folder):
    """A run of a few steps with a real vocabulary."""
    data_side.make_corpus(folder / "a", data_side.texts()[:30], shards=1)
    text = tiny.CONFIG.format(cache=folder / "cache")
    for field, value in (
        ("Data.vocabulary", repr(data_side.vocabulary())),
        ("Mixture.stages", "((0, {'a': 1.0}),)"),
        ("Data.seq_len", "256"),
        ("Model.vocab_size", "704"),
        ("Evaluation.tasks", "()"),
        ("Checkpoint.every", "3"),
        ("Run.steps", "3"),
    ):
        text = re.sub(rf"{field} = .*", lambda _, f=field, v=value: f"{f} = {v}", text)
    text += f"Data.corpora = {{'a': '{folder / 'a'}'}}\nModel.init_std = 0.3\n"
    config = folder / "run.gin"
    config.write_text(text)
    assert main(["tasks", "cache", str(config), "--workers", "1"]) == 0
    done = tiny.twjax("train", config, "--run-dir", folder / "run", devices=1)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def python(program, folder, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=tiny.environment(2, TWJAX_RECORDS_DIR=str(folder)),
        cwd=tiny.REPO,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.slow
def test_scores_are_the_evaluators_own(run_dir, folder, monkeypatch):
    arguments = ["eval", str(run_dir), "--generate", ",".join(TASKS), "--examples", "7"]
    arguments += ["--record"]
    arguments += ["--tokens", "16", "--json", str(folder / "scores.json")]
    arguments += ["--answers", str(folder / "answers.jsonl")]
    done = python(
        f"""
        import sys
        from twjax.cli import main
        code = main({arguments!r})
        loaded = {{name.partition(".")[0] for name in sys.modules}}
        assert not loaded & {{"seqio", "tensorflow", "tensorflow_text"}}, loaded
        sys.exit(code)
        """,
        folder,
    )
    assert done.returncode == 0, done.stderr
    records = json.loads((folder / "scores.json").read_text())["scores"]
    lines = (run_dir / "evaluations.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines]
    assert [{k: line[k] for k in record} for line, record in zip(kept, records, strict=True)] == (
        records
    )
    assert [(r["kind"], r["step"], r["task"]) for r in records] == [
        ("generation", 3, task) for task in TASKS
    ]
    assert records[0]["examples"] == 7 and set(records[0]["metrics"]) == {"accuracy"}
    assert set(records[1]["metrics"]) == {"bleu", "bleu_sacrebleu_zh", "chrf"}
    assert all(f"{r['task']} at step 3: {r['examples']} examples" in done.stdout for r in records)
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]

    monkeypatch.setenv("TWJAX_RECORDS_DIR", str(folder))
    for record in records:
        own = [line for line in answers if line["task"] == record["task"]]
        metrics, said = directly(record["task"], run_dir)
        assert [line["said"] for line in own] == said
        assert metrics == pytest.approx(record["metrics"], abs=1e-9)
        assert any(said) and len(own) == record["examples"]


@pytest.mark.slow
def test_several_processes_record_their_answers_once(run_dir, folder, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy, ignore=shutil.ignore_patterns("evaluations*"))
    command = ["-m", "launch.local", "--hosts", "2", "--", "eval", copy, "--record"]
    done = subprocess.run(
        [sys.executable, *map(str, command), "--generate", TASKS[0], "--examples", "3"],
        env=tiny.environment(TWJAX_RECORDS_DIR=str(folder)),
        cwd=tiny.REPO,
        capture_output=True,
        text=True,
        # A process that waits for one that is gone does so for five minutes.
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (copy / "evaluations.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["kind"], record["step"], record["task"]) == ("generation", 3, TASKS[0])
    assert record["examples"] == 3


def directly(name, run_dir):
    """SeqIO's evaluator in this process; each prompt is answered alone."""
    import jax
    import seqio

    import tasks.supervised  # noqa: F401
    from twjax.data.vocabulary import PieceVocabulary, with_vocabulary
    from twjax.evaluation.generate import generate
    from twjax.models.network import network
    from twjax.parallel.mesh import make_mesh
    from twjax.training.source import Source

    source = Source.open(run_dir)
    net, mesh = network(source.run.model), make_mesh(source.run.mesh)
    vocabulary = PieceVocabulary(data_side.vocabulary())
    declared = seqio.TaskRegistry.get(name)
    seqio.TaskRegistry.remove(name)
    try:
        seqio.TaskRegistry.add_provider(name, with_vocabulary(declared, vocabulary))
        evaluator = seqio.Evaluator(
            name, seqio.EncDecFeatureConverter(pack=False), "validation",
            sequence_length={"inputs": 256, "targets": 256}, async_compute_metrics=False,
            num_examples=7,
        )  # fmt: skip
    finally:
        seqio.TaskRegistry.remove(name)
        seqio.TaskRegistry.add_provider(name, declared)
    said = []
    with jax.set_mesh(mesh):
        params = source.params(net, mesh)

        def predict(dataset, *_):
            found = []
            for number, example in dataset.as_numpy_iterator():
                prompt = [id for id in example["encoder_input_tokens"].tolist() if id]
                (ids,) = generate(net, params, [prompt], tokens=16, mesh=mesh, eos_ids=[1])
                ids = [id for id in ids if id < 700]
                said.append(vocabulary.decode(ids))
                found.append((number, [*ids, *[1] * (17 - len(ids))]))
            # The order in which they come back doesn't matter.
            return found[::-1]

        future, _ = evaluator.evaluate(compute_metrics=True, predict_fn=predict)
    return future.result()[name], said


@pytest.mark.slow
def test_examples_and_metrics_of_the_process(folder, monkeypatch):
    monkeypatch.setenv("TWJAX_RECORDS_DIR", str(folder))
    lines = (SAMPLES / "civil_exam.jsonl").read_text(encoding="utf-8").splitlines()
    wanted = [e.answers[0] for line in lines for e in readers.choices(json.loads(line))]
    with TaskProcess() as process:
        examples, cut_short = process.examples("tw_civil_exam", **ORDER)
        assert [letter(e["answer"]) for e in examples] == wanted and len(wanted) == 13
        assert cut_short == 0 and all(e["inputs"][0] == 3 for e in examples)
        # Right answers score 100, and one wrong letter counts.
        right = [[id for id in e["targets"] if id != 1] for e in examples]
        metrics, said = process.metrics(right)
        assert metrics == {"accuracy": 100.0} and said == [e["answer"] for e in examples]
        # The same process goes on; predictions of several lengths, and of none.
        examples, _ = process.examples("tw_civil_exam", **{**ORDER, "count": 4})
        metrics, said = process.metrics([right[0], [], right[2], []])
        assert metrics == {"accuracy": 50.0} and said[1] == ""
        # Mistakes are its words, and don't end it.
        for task, changes, message in (
            ("tw_absent", {}, "No task tw_absent is registered by tasks.supervised"),
            ("tw_civil_exam", {"split": "train"}, r"has no split 'train'; it has \['validation'\]"),
            ("tw_ntrex_from_en", {}, "ntrex_news_pairs.jsonl.gz: no file of records here"),
            ("tw_civil_exam", {"imports": ["tasks.none"]}, "No module named 'tasks.none'"),
        ):
            with pytest.raises(ValueError, match=message):
                process.examples(task, **{**ORDER, **changes})
        short = {"inputs": 40, "targets": 40}
        examples, cut_short = process.examples(
            "tw_civil_exam", **{**ORDER, "sequence_length": short}
        )
        assert cut_short == sum(len(e["inputs"]) == 40 for e in examples) > 0
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="the process of SeqIO's evaluator ended"):
            process.metrics(right)


def alive(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_killed_parent_leaves_no_process(folder):
    program = """
        import time
        from twjax.data.task_process import TaskProcess
        with TaskProcess() as process:
            print(process.pid, flush=True)
            time.sleep(600)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=tiny.environment(), cwd=tiny.REPO, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)
    parent.stdout.close()


def test_wrong_settings_fail_before_anything_starts(tmp_path, capsys):
    for arguments, message in (
        (["--generate", ","], "--generate names no task."),
        (["--generate", "a", "--examples", "0"], "--examples (0) must be a number, at least 1."),
        (["--generate", "a", "--tokens", "-1"], "--tokens (-1) must be a number, at least 1."),
        (["--generate", "a", "--follow"], "--generate stands alone"),
        (["--generate", "a"], "not a run directory"),
    ):
        assert main(["eval", str(tmp_path), *arguments]) == 1
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1 and message in errors[0], errors


@pytest.mark.parametrize("shards", [1, 4])
def test_batches_hold_each_prompt_once_in_few_shapes(shards):
    lengths = [(97 * n) % 1500 + 1 for n in range(300)]
    found = batches(lengths, 64, shards)
    assert sorted(n for numbers, _ in found for n in numbers) == list(range(300))
    shapes = set()
    for numbers, rows in found:
        padded = {-(-lengths[n] // 128) * 128 for n in numbers}
        assert len(padded) == 1 and 0 < len(numbers) <= rows and rows % shards == 0
        (length,) = padded
        assert rows // shards <= ROWS_A_DEVICE
        assert rows == shards or rows // shards * (length + 64) <= TOKENS_A_DEVICE
        shapes.add((length, rows))
    assert len(shapes) == 12
    longest = [max(lengths[n] for n in numbers) for numbers, _ in found]
    assert longest == sorted(longest, reverse=True)
    assert batches([5], 8, shards) == [((0,), shards)] and batches([], 8, shards) == []
