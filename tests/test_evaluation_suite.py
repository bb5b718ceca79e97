"""A suite in the loop, and the same one beside the run."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import jax
import numpy as np
import pytest

from tests import data_side, hub, tiny
from twjax.cli import main
from twjax.cli.evaluate_table import table
from twjax.config import ConfigError, Mesh, Run, Suite, load
from twjax.evaluation.batching import NotANumber
from twjax.evaluation.choice import text_request
from twjax.evaluation.generate import generate
from twjax.evaluation.records import key_of
from twjax.evaluation.scoring import Scored, Scorer
from twjax.evaluation.suite import SuiteScores
from twjax.evaluation.watch import Watch, open_scores
from twjax.models.network import network as declare
from twjax.models.spec import init_weights
from twjax.parallel.mesh import make_mesh
from twjax.training.metrics import MetricsLog
from twjax.training.source import Source, plain_run
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


@pytest.mark.slow
def test_a_run_of_a_suite_alone_goes_on_without_evaluating_again(folder, tmp_path, capsys):
    def train(*more):
        sets = [part for b in [*SHORT, "Evaluation.tasks = ()", *more] for part in ("--set", b)]
        assert main(["train", str(folder / "run.gin"), "--run-dir", str(tmp_path), *sets]) == 0
        done = capsys.readouterr().err
        kinds = ("choice", "pairs", "probes", "writing")
        return done.count("choice exam: "), {k: tiny.records(tmp_path, k) for k in kinds}

    looked, first = train()
    assert looked == 2 and [len(records) for records in first.values()] == [2, 2, 2, 4]
    # All is done; then more steps.
    assert train() == (0, first)
    looked, more = train("Run.steps = 6")
    assert looked == 1
    assert {k: [r for r in records if r["step"] <= 4] for k, records in more.items()} == first
    assert [r["step"] for r in more["choice"]] == [0, 4, 6]
    # A kill in the middle of the last evaluation.
    log = tmp_path / "metrics.jsonl"
    torn = [
        line for line in log.open() if json.loads(line)["kind"] != "probes" or '": 6' not in line
    ]
    log.write_text("".join(torn))
    assert train("Run.steps = 6") == (1, more)


@pytest.mark.slow
def test_all_that_ends_a_models_texts_ends_them_in_the_loop(folder, tmp_path):
    """A model that talks in turns has an id of its own at the end of each, beside EOS."""
    prompt, model = "第一條", load_vocabulary(data_side.vocabulary())
    weights = {name: 4 * w for name, w in hub.tensors(vocab=model.vocab_size).items()}
    original = hub.write(tmp_path / "hub", weights, vocab_size=model.vocab_size)
    source = Source.open(imported(original, tmp_path / "model"))
    network, mesh = declare(source.run.model), make_mesh(Mesh())
    begun = [[*model.start, *model.encode(prompt)]]
    said = generate(network, source.params(network, mesh), begun, tokens=4, mesh=mesh)[0]
    end = next(id for id in said if id != said[0])
    ends = json.dumps({"eos_token_id": [model.eos_id, end]})
    (original / "generation_config.json").write_text(ends)
    runs = {f"hf:{original}": "direct", f"run:{imported(original, tmp_path / 'chat')}": "imported"}
    for init, name in runs.items():
        sets = [*SHORT, f"Run.init = '{init}'", "Suite.prompt_tokens = 4"]
        sets = [part for binding in sets for part in ("--set", binding)]
        run_dir = tmp_path / name
        assert main(["train", str(folder / "run.gin"), "--run-dir", str(run_dir), *sets]) == 0
        first, last = (
            json.loads((run_dir / f"samples/{step}.jsonl").read_text())["text"] for step in (0, 4)
        )
        assert first == model.decode(said[: said.index(end)], continued=True)
        arguments = ["eval", run_dir, "--suite", folder / "suite.gin", "--set",
                     "Suite.prompt_tokens = 4", "--details", run_dir / "details",
                     "--json", run_dir / "scores.json"]  # fmt: skip
        assert main([str(a) for a in arguments]) == 0
        written = (run_dir / "details/4/writing-openings.jsonl").read_text().splitlines()
        assert json.loads(written[0]) == {"prompt": prompt, "text": last}
        (beside,) = (
            record
            for record in json.loads((run_dir / "scores.json").read_text())["scores"]
            if record.get("kind") == "writing"
        )
        in_loop = [r for r in tiny.records(run_dir, "writing") if r["task"] == "openings"]
        assert without_step([beside]) == without_step(in_loop[-1:])


def test_records_say_what_is_known_of_them_beforehand(folder):
    run, suite = (load(kind, [folder / f"{name}.gin"]).value
                  for kind, name in ((Run, "run"), (Suite, "suite")))  # fmt: skip
    model, network = load_vocabulary(data_side.vocabulary()), declare(run.model)
    params, mesh = init_weights(network.specs, jax.random.key(0)), make_mesh(run.mesh)
    suite = dataclasses.replace(suite, shots=1)
    scores = SuiteScores(run, network, mesh, suite, model)
    with jax.set_mesh(mesh):
        held_out, _ = open_scores(run, network, mesh)
        records = {(r["kind"], r["task"]): r for r in scores(params, 0)}
        records |= {("eval", r["task"]): r for r in held_out(params, 0)}
    settings = scores.settings | held_out.settings
    assert settings.keys() == records.keys() and ("eval", "b") in settings
    assert all(settings[key] and records[key] | settings[key] == records[key] for key in records)
    assert settings["choice", "exam"]["shots"] == 1
    # What a record measures is known before it is there.
    for (kind, task), record in records.items():
        about = {"kind": kind, "task": task}
        assert key_of(about | settings[kind, task]) == key_of(about | record)


def test_copies_of_a_prompt_are_continued_each_by_its_own_draws(folder, tmp_path):
    run = load(Run, [folder / "run.gin"], ["Evaluation.temperature = 1.0"]).value
    (tmp_path / "same.txt").write_text("第一條\n" * 40)
    suite = Suite(prompts={"same": str(tmp_path / "same.txt")}, prompt_tokens=8)
    model, network = load_vocabulary(data_side.vocabulary()), declare(run.model)
    params = init_weights(network.specs, jax.random.key(0))

    def texts(seed):
        seeded = dataclasses.replace(run, seed=seed)
        scores = SuiteScores(
            seeded, network, make_mesh(run.mesh), suite, model, details=tmp_path / str(seed)
        )
        scores(params, 0)
        lines = (tmp_path / str(seed) / "0/writing-same.jsonl").read_text().splitlines()
        return [json.loads(line)["text"] for line in lines]

    first = texts(1)
    # More than are continued together.
    assert len(first) == 40 and len(set(first)) > 32
    assert texts(1) == first and texts(2) != first


def test_an_encoder_decoder_answers_a_probe_as_it_does_a_question(folder, tmp_path):
    run, model = load(Run, [folder / "run.gin"]).value, load_vocabulary(data_side.vocabulary())
    shape = {"encoder_layers": 2, "positions": "relative", "num_kv_heads": run.model.num_heads}
    run = plain_run(dataclasses.replace(run.model, **shape), "none")
    suite = Suite(probes={"identity": str(folder / "probes.jsonl")})
    network, mesh = declare(run.model), make_mesh(run.mesh)
    params = init_weights(network.specs, jax.random.key(0))
    SuiteScores(run, network, mesh, suite, model, details=tmp_path)(params, 0)
    found = json.loads((tmp_path / "0/probes-identity.jsonl").read_text())
    ends = [*PROBE["right"], *PROBE["wrong"]]
    asked = [text_request(model, PROBE["prompt"], end, both=True) for end in ends]
    scores = [score.log_likelihood for score in Scorer(run, network, mesh)(params, asked)]
    assert found == {"id": PROBE["id"], **dict(zip(ends, scores, strict=True))}


def imported(original, folder):
    assert main(["convert", "from-hf", str(original), str(folder)]) == 0
    return folder


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
