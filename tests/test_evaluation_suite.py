"""A suite in the loop, and the same one beside the run."""

from __future__ import annotations

import json

import pytest

from tests import data_side, tiny
from twjax.cli import main
from twjax.config import ConfigError, Run, Suite, load
from twjax.evaluation.records import key_of
from twjax.evaluation.suite import SuiteScores
from twjax.evaluation.watch import open_scores
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
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

    # Before it scores, a suite says what its records will measure.
    run = load(Run, [run_dir / "config.gin"]).value
    network, mesh = declare(run.model), make_mesh(run.mesh)
    model = load_vocabulary(data_side.vocabulary())
    assert run.evaluation.suite is not None
    suite = SuiteScores(run, network, mesh, run.evaluation.suite, model)
    held_out, _ = open_scores(run, network, mesh)
    assert suite.keys | held_out.keys == {key_of(record) for record in recorded}

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


@pytest.mark.parametrize(
    ("bindings", "told"),
    [
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
    assert len(scores.keys) == 5 and all(key.size for key in scores.keys)
    assert {key[:2] for key in scores.keys} == {
        ("choice", "civil_exam"),
        ("pairs", "terms"),
        ("pairs", "scripts"),
        ("probes", "identity"),
        ("writing", "openings"),
    }
