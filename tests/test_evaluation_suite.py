"""A suite in the loop, and the same one beside the run."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import jax
import numpy as np
import pytest

from tests import data_side, tiny
from twjax.cli import main
from twjax.cli.evaluate_table import table
from twjax.config import ConfigError, Run, Suite, load
from twjax.evaluation.batching import NotANumber
from twjax.evaluation.scoring import Scored
from twjax.evaluation.suite import SuiteScores
from twjax.evaluation.watch import Watch
from twjax.models.network import network as declare
from twjax.models.spec import init_weights
from twjax.parallel.mesh import make_mesh
from twjax.training.metrics import MetricsLog
from twjax.vocab.tokenizer_load import load_vocabulary

QUESTION = {"question": "第一條？", "options": {"A": "本法", "B": "施行"}, "answer": "A"}
PAIR = {
    "id": "p1",
    "kind": "term",
    "taiwan": "請更新軟體。",
    "mainland": "請更新軟件。",
    "term": ["軟體", "軟件"],
    "source": "test",
    "license": "CC0-1.0",
}
PROBE = {
    "id": "q1",
    "group": "days",
    "lang": "zh-TW",
    "prompt": "我國的國慶日是",
    "right": ["十月十日"],
    "wrong": ["十月一日", "七月四日"],
}
SHORT = [
    "Run.steps = 4",
    "Evaluation.every = 4",
    "Checkpoint.every = 4",
    "Schedule.warmup_steps = 1",
]


def lines(path, *records) -> str:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run's configuration with a real vocabulary, and a suite of one item of each kind."""
    path = tmp_path_factory.mktemp("suite")
    model = load_vocabulary(data_side.vocabulary())
    tiny.write_cache(path / "cache", vocab=model.vocab_size, sha256=model.sha256)
    config = tiny.CONFIG.format(cache=path / "cache")
    config = config.replace(f"'{path}/cache/none.model'", f"'{data_side.vocabulary()}'")
    config = config.replace("vocab_size = 96", f"vocab_size = {model.vocab_size}")
    suite = f"""
Suite.choice = {{'exam': '{lines(path / "exam.jsonl", *[QUESTION] * 3)}'}}
Suite.style = 'texts'
Suite.pairs = {{'terms': '{lines(path / "pairs.jsonl", PAIR)}'}}
Suite.probes = {{'identity': '{lines(path / "probes.jsonl", PROBE)}'}}
Suite.prompts = {{'openings': '{path}/openings.txt'}}
Suite.prompt_tokens = 5
"""
    (path / "openings.txt").write_text("第一條\n\n本法\n")
    (path / "suite.gin").write_text(suite)
    extra = "Evaluation.suite = @Suite()\nEvaluation.prompts = ('第一條',)\n"
    (path / "run.gin").write_text(config + extra + "Evaluation.sample_tokens = 4\n" + suite)
    return path


def without_step(records):
    names = ("train_tokens", "step")
    return [{k: v for k, v in r.items() if k not in names} for r in records]


@pytest.mark.slow
def test_a_suite_scores_alike_in_the_loop_and_beside_it(folder, capsys):
    sets = [part for binding in SHORT for part in ("--set", binding)]
    run_dir = folder / "run"
    assert main(["train", str(folder / "run.gin"), "--run-dir", str(run_dir), *sets]) == 0
    kinds = ("choice", "pairs", "probes", "writing")
    in_loop = {kind: tiny.records(run_dir, kind) for kind in kinds}
    assert [r["step"] for r in in_loop["choice"]] == [0, 4]
    assert [(r["task"], r["texts"]) for r in in_loop["writing"][:2]] == [
        ("samples", 1), ("openings", 2)
    ]  # fmt: skip
    # What is written last says that an evaluation is whole.
    order = [json.loads(line)["kind"] for line in (run_dir / "metrics.jsonl").open()]
    assert order.index("eval") == order.count("writing") // 2 + 3

    capsys.readouterr()
    arguments = ["eval", run_dir, "--suite", folder / "suite.gin", "--record", "--details"]
    assert main([str(a) for a in [*arguments, folder / "details"]]) == 0
    out = capsys.readouterr().out
    for told in ("bits/byte", "mean of tasks", "all text", "multiple choice", "Taiwan likelier"):
        assert told in out
    recorded = [json.loads(line) for line in (run_dir / "evaluations.jsonl").open()]
    for kind in kinds:
        beside = [r for r in recorded if r["kind"] == kind]
        last = [r for r in in_loop[kind] if r["step"] == 4 and r["task"] != "samples"]
        assert without_step(beside) == without_step(last)
    found = [json.loads(line) for line in (folder / "details/4/choice-exam.jsonl").open()]
    right = sum(f["chosen"] == f["answer"] for f in found) / len(found)
    assert in_loop["choice"][1]["accuracy"] == right and len(found) == 3
    (pair,) = (json.loads(line) for line in (folder / "details/4/pairs-terms.jsonl").open())
    sizes = len(PAIR["taiwan"].encode()), len(PAIR["mainland"].encode())
    likelier = pair["taiwan"] / sizes[0] > pair["mainland"] / sizes[1]
    assert in_loop["pairs"][1]["preferred"] == float(likelier)

    # A suite alone, of an unusual setting; and what can't be.
    assert (
        main([str(a) for a in [*arguments[:4], "--task", "none", "--set", "Suite.limit = 1"]]) == 0
    )
    assert "bits/byte" not in capsys.readouterr().out
    assert main(["eval", str(run_dir), "--set", "Suite.limit = 1"]) == 1
    assert "--set changes the suite that --suite names" in capsys.readouterr().err


def test_all_that_is_wrong_with_a_suite_is_said_at_once(folder):
    run = load(Run, [folder / "run.gin"]).value
    bad = folder / "bad"
    bad.mkdir()
    suite = Suite(
        choice={"none": str(bad / "none.csv")},
        pairs={"same": lines(bad / "same.jsonl", {**PAIR, "mainland": PAIR["taiwan"]})},
        probes={"empty": lines(bad / "empty.jsonl", {**PROBE, "wrong": []})},
        prompts={"blank": lines(bad / "blank.txt")},
    )
    model = load_vocabulary(data_side.vocabulary())
    with pytest.raises(ValueError) as found:
        SuiteScores(run, declare(run.model), make_mesh(run.mesh), suite, model)
    for told in (
        f"Suite.choice of none: no file or folder {bad}/none.csv",
        f"Suite.pairs of same: {bad}/same.jsonl:1 (p1): taiwan and mainland are the same text",
        "Suite.probes of empty: ",
        f"Suite.prompts of blank: {bad}/blank.txt has no prompts",
    ):
        assert told in str(found.value)


def test_what_learned_positions_cannot_hold_is_refused_when_it_is_opened(folder):
    run = load(Run, [folder / "run.gin"]).value
    network = declare(dataclasses.replace(run.model, positions="learned", max_positions=8))
    model, mesh = load_vocabulary(data_side.vocabulary()), make_mesh(run.mesh)
    assert run.evaluation.suite is not None
    suite = dataclasses.replace(run.evaluation.suite, choice={}, prompt_tokens=8)
    with pytest.raises(ValueError) as found:
        SuiteScores(run, network, mesh, suite, model)
    for told in (
        r"Suite.pairs of terms: p1 needs \d+ positions, but the model has learned 8",
        r"Suite.probes of identity: q1 needs \d+ positions, but the model has learned 8",
        r"Suite.prompts of openings: a prompt with its 8 new tokens has \d+ positions",
    ):
        assert re.search(told, str(found.value))
    evaluation = dataclasses.replace(
        run.evaluation, tasks=(), suite=None, prompts=("第一條",), sample_tokens=8
    )
    run = dataclasses.replace(run, evaluation=evaluation)
    with pytest.raises(ValueError, match="a prompt with its 8 new tokens has"):
        Watch(run, network, mesh, model.sha256, run_dir=folder / "none", config="run.gin")


def test_a_question_and_its_examples_fit_into_the_runs_longest_rows(folder):
    run = load(Run, [folder / "run.gin"]).value
    model, mesh = load_vocabulary(data_side.vocabulary()), make_mesh(run.mesh)
    questions = [QUESTION | {"question": f"第{n}條？" + "施行" * (n % 2)} for n in range(12)]
    suite = Suite(choice={"exam": lines(folder / "long.jsonl", *questions)}, shots=5)

    def opened(run, suite):
        scores = SuiteScores(run, declare(run.model), mesh, suite, model)
        requests, make = scores._scored["choice", "exam"]
        record, _ = make([Scored(-1.0, False)] * len(requests), 0)
        return max(len(r.context) + len(r.continuation) for r in requests), record

    def rows(**settings):
        return dataclasses.replace(run, data=dataclasses.replace(run.data, **settings))

    longest, record = opened(rows(seq_len=64), suite)
    assert longest <= 64 and record["items"] == record["fewer_shots"] == 7
    head, row = table([record]).splitlines()
    assert head.endswith("unusable  with fewer examples") and row.split()[-2:] == ["0", "7"]
    # Whatever step has the longest rows.
    assert opened(rows(seq_len_stages=((6, 64),)), suite) == (longest, record)
    whole, record = opened(run, dataclasses.replace(suite, max_length=512))
    assert 64 < whole <= 512 and (record["items"], record["fewer_shots"]) == (7, 0)
    assert "fewer" not in table([record])


@pytest.mark.slow
def test_where_a_model_has_diverged_the_rest_of_an_evaluation_is_kept(folder, capsys):
    run = load(Run, [folder / "run.gin"]).value
    network, mesh = declare(run.model), make_mesh(run.mesh)
    model = load_vocabulary(data_side.vocabulary())
    params = init_weights(network.specs, jax.random.key(0))
    params["final_norm"] = params["final_norm"] * np.nan
    with jax.set_mesh(mesh):
        watch = Watch(run, network, mesh, model.sha256, run_dir=folder / "nan", config="run.gin")
        records = watch(params, 4)
    tasks = ["a", "b", "samples", "exam", "terms", "identity", "openings"]
    assert [r["task"] for r in records] == tasks
    assert math.isnan(records[0]["bits_per_byte"])
    assert "step 4: exam: the log-likelihoods of question" in capsys.readouterr().err
    (folder / "nan").mkdir(exist_ok=True)
    log = MetricsLog(folder / "nan", step=0, tokens=0, rows=lambda step: {})
    log.evaluation(4, records)
    log.close()
    assert [r["bits_per_byte"] for r in tiny.records(folder / "nan", "eval")] == [None, None]
    for kind, figure in (("choice", "accuracy"), ("pairs", "preferred"), ("probes", "right")):
        (record,) = tiny.records(folder / "nan", kind)
        assert record[figure] is None and record["step"] == 4
    suite = SuiteScores(run, network, mesh, run.evaluation.suite, model)
    with pytest.raises(NotANumber, match=r"exam: the log-likelihoods of question exam:1 are \[nan"):
        suite(params, 4)


@pytest.mark.parametrize(
    ("bindings", "told"),
    [
        (["Suite.pairs = {'a': 'x'}", "Suite.max_length = 0"], "Suite.max_length"),
        (["Suite.limit = 3"], "Suite is empty"),
        (["Suite.choice = {'a': 'x'}", "Suite.shots = {'b': 2}"], "Suite.shots names b, which"),
        (["Suite.choice = {'a': 'x'}", "Suite.style = 'letter'"], "Suite.style"),
        (["Suite.choice = {'a': 'x'}", "Suite.examples = {'a': 'y'}"], "Suite.shots of it is 0"),
        (["Suite.pairs = {'a': 'x'}", "Suite.prompt_tokens = 0"], "Suite.prompt_tokens"),
    ],
)
def test_a_wrong_suite_is_refused_by_field(bindings, told):
    with pytest.raises(ConfigError, match=told):
        load(Suite, [], bindings)


def test_taiwans_suite_opens():
    model = load_vocabulary(data_side.vocabulary())
    run = load(Run, [tiny.REPO / "configs/runs/quickstart_taiwan.gin"]).value
    suite = load(Suite, [tiny.REPO / "configs/evaluations/taiwan.gin"]).value
    scores = SuiteScores(run, declare(run.model), make_mesh(run.mesh), suite, model)
    assert scores.keys == {
        ("choice", "civil_exam"),
        ("pairs", "terms"),
        ("pairs", "scripts"),
        ("probes", "identity"),
        ("writing", "openings"),
    }
