"""lm_eval on a checkpoint of ours equals lm_eval with transformers on the same weights."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lm_eval")

import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from tests import tokenizer_side
from twjax.cli import main
from twjax.evaluation.choice import Choice, Form
from twjax.evaluation.continuation import continue_prompts
from twjax.evaluation.harness import Harnessed
from twjax.evaluation.items import Items, read_items
from twjax.evaluation.scoring import Scorer
from twjax.models.network import network as declare
from twjax.parallel.mesh import mesh_here
from twjax.training.source import Source
from twjax.vocab.tokenizer_load import load_vocabulary

EXAM = "configs/evaluations/civil_exam.jsonl.gz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder: a small random Llama with a tokenizer that adds BOS."""
    path = tmp_path_factory.mktemp("hub") / "model"
    shutil.copytree(tokenizer_side.folder("llama3"), path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def source(folder):
    assert main(["convert", "from-hf", str(folder), str(folder.parent / "ours")]) == 0
    return Source.open(folder.parent / "ours")


@pytest.fixture(scope="module")
def theirs(folder):
    return HFLM(
        pretrained=str(folder), device="cpu", dtype="float32", batch_size=8, add_bos_token=True
    )


@pytest.fixture(scope="module")
def parts(folder, source):
    network = declare(source.run.model)
    mesh = mesh_here(source.run.mesh)
    with jax.set_mesh(mesh):
        params = source.params(network, mesh)
    return source.run, network, mesh, params, load_vocabulary(folder)


def instances(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(kind, {}, args, n) for n, args in enumerate(arguments)]


@pytest.mark.parametrize(("style", "shots"), [("letters", 0), ("letters", 2), ("texts", 0)])
def test_a_set_scores_as_with_lm_eval_item_by_item(parts, theirs, style, shots):
    run, network, mesh, params, model = parts
    items = read_items(EXAM, "Suite.choice of exam")
    form = Form(style, "zh-TW")
    choice = Choice.prepare("exam", items, model, form, shots=shots, limit=24)
    found = Scorer(run, network, mesh)(params, choice.flat())
    shown = {}
    for item in items.items:
        shown.setdefault(item.subject, []).append(item)
    pairs = []
    for item in choice.items:
        context, answers = form.ask(item, shown[item.subject][:shots])
        pairs += [(context, answer) for answer in answers]
    expected = theirs.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
    np.testing.assert_allclose([s.log_likelihood for s in found], [e[0] for e in expected],
                               rtol=2e-5, atol=2e-5)  # fmt: skip
    assert [s.greedy for s in found] == [e[1] for e in expected]


def test_an_id_of_prompt_and_answer_together_is_cut_as_lm_eval_does(parts, theirs):
    run, network, mesh, params, model = parts
    form, joined = Form("texts", "zh-TW"), []
    for item in read_items(EXAM, "Suite.choice of exam").items:
        context, answers = form.ask(item, [])
        ids = model.encode(context)
        if any(model.encode(context + a)[: len(ids)] != ids for a in answers):
            joined.append(item)
    # A colon and what follows it.
    assert len(joined) == 13
    choice = Choice.prepare("exam", Items(tuple(joined), {}), model, form)
    found = Scorer(run, network, mesh)(params, choice.flat())
    pairs = [(form.ask(item, [])[0], a) for item in joined for a in form.ask(item, [])[1]]
    expected = theirs.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
    np.testing.assert_allclose([s.log_likelihood for s in found], [e[0] for e in expected],
                               rtol=2e-5, atol=2e-5)  # fmt: skip


def test_the_adapter_answers_as_lm_evals_own_model(parts, theirs):
    ours = Harnessed(*parts, max_length=2048)
    pairs = [
        ("The prime minister of Japan", " lives in Tokyo."),
        ("中華民國憲法第一條", "中華民國基於三民主義"),
        ("a space behind ", "belongs to the next word"),
        ("", "中華民國"),
    ]
    args = instances("loglikelihood", pairs)
    for (a, greedy), (b, also) in zip(
        ours.loglikelihood(args), theirs.loglikelihood(args, disable_tqdm=True), strict=True
    ):
        assert a == pytest.approx(b, abs=2e-4) and greedy == also
    short = Harnessed(*parts, max_length=24)
    long, without = (
        HFLM(pretrained=theirs.model, tokenizer=theirs.tokenizer, max_length=24, add_bos_token=add)
        for add in (True, False)
    )
    texts = instances("loglikelihood_rolling", [("中華民國" * 30,), ("short",)])
    # With add_bos_token theirs predicts a second BOS behind the first one.
    np.testing.assert_allclose(
        short.loglikelihood_rolling(texts),
        without.loglikelihood_rolling(texts, disable_tqdm=True),
        rtol=2e-5,
    )
    args = instances("loglikelihood", [("中華民國憲法" * 20, "第一條")])
    assert short.loglikelihood(args)[0][0] == pytest.approx(
        long.loglikelihood(args, disable_tqdm=True)[0][0], abs=2e-4
    )
    assert short.shortened == 1


def test_greedy_text_equals_that_of_lm_evals_own_model(parts, theirs):
    ours = Harnessed(*parts, max_length=2048)
    wanted = [
        ("中華民國", {"until": ["\n\n"], "max_gen_toks": 12}),
        ("The end", {"until": [], "max_gen_toks": 7, "do_sample": False}),
        ("題目：臺灣最高的山是？\n答案：", {"until": ["。", "A"], "max_gen_toks": 12}),
    ]
    args = instances("generate_until", wanted)
    assert ours.generate_until(args) == theirs.generate_until(args, disable_tqdm=True)


def test_a_prompt_is_cut_at_its_left_to_leave_room_for_its_text(parts, theirs):
    ours = Harnessed(*parts, max_length=24)
    model = parts[-1]
    how = {"until": [], "max_gen_toks": 8}
    long = "".join(f"第{n}條" for n in range(1, 30))
    short = "中華民國"
    args = instances("generate_until", [(long, how), (short, how)])
    said = ours.generate_until(args)
    assert ours.shortened == 1
    other = HFLM(
        pretrained=theirs.model, tokenizer=theirs.tokenizer, max_length=24, add_bos_token=True
    )
    assert said == other.generate_until(args, disable_tqdm=True)
    run, network, mesh, params, _ = parts
    cut = [*model.start, *model.encode(long)][-16:]
    assert said[:1] == continue_prompts(
        run, network, params, [cut], model, mesh=mesh, tokens=8, end_ids=()
    )
    with pytest.raises(ValueError, match=r"asks for 24 new tokens, but the model reads 24 ids"):
        ours.generate_until(instances("generate_until", [(short, how | {"max_gen_toks": 24})]))


def test_repeats_of_a_request_are_drawn_apart(parts):
    ours = Harnessed(*parts, max_length=2048)
    how = {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    args = instances("generate_until", [("中華民國", how)] * 72)
    said = ours.generate_until(args)
    # More than are continued together.
    assert len(set(said)) > 64
    assert ours.generate_until(args) == said


@pytest.mark.slow
def test_the_command_runs_a_task_file(source, tmp_path, capsys):
    lines = [
        {"prompt": f"第{n}題：一加一是？\n答案：", "answers": ["二", "三三", "四"], "gold": n % 3}
        for n in range(6)
    ]
    data = tmp_path / "items.jsonl"
    data.write_text("\n".join(json.dumps(line) for line in lines))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "sums.yaml").write_text(
        "task: twjax_sums\ndataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {data}\n"
        "test_split: test\noutput_type: multiple_choice\ntarget_delimiter: ''\n"
        "doc_to_text: '{{prompt}}'\ndoc_to_choice: '{{answers}}'\ndoc_to_target: gold\n"
        "metric_list:\n  - metric: acc\n  - metric: acc_norm\n"
    )
    arguments = ["harness", source.directory, "--include", tmp_path / "tasks"]
    arguments += ["--tasks", "twjax_sums", "--json", tmp_path / "out.json"]
    assert main([str(a) for a in arguments]) == 0
    assert "twjax_sums" in capsys.readouterr().out
    out = json.loads((tmp_path / "out.json").read_text())
    assert 0 <= out["results"]["twjax_sums"]["acc,none"] <= 1
    assert len(out["samples"]["twjax_sums"]) == 6
    assert main(["harness", str(source.directory), "--tasks", "no_such_task"]) == 1
    assert "lm_eval knows no no_such_task" in capsys.readouterr().err
