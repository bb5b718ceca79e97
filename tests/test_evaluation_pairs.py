"""Pairs and probes: the files that come with twjax, how they are made, and how they are decided."""

from __future__ import annotations

import dataclasses
import gzip
import json
import pathlib
import random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tokenizer_side
from twjax.cli import main
from twjax.config import Mesh, Model
from twjax.corpus.document import Document, write_jsonl
from twjax.corpus.variety import script, usage
from twjax.evaluation import minimal_pairs, pairs
from twjax.evaluation.choice import text_request
from twjax.evaluation.minimal_pairs import Passage
from twjax.evaluation.pairs import Pair, Probe
from twjax.evaluation.scoring import Scorer
from twjax.models.network import network
from twjax.models.spec import init_weights
from twjax.parallel.mesh import make_mesh
from twjax.training.source import plain_run
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = ROOT / "configs/evaluations"
PROBE = {"id": "a", "group": "g", "lang": "en", "prompt": "p", "right": ["r"], "wrong": ["w"]}
PAIR = {
    "id": "a", "kind": "term", "taiwan": "請更新軟體。", "mainland": "請更新軟件。",
    "term": ["軟體", "軟件"], "source": "s", "license": "CC0-1.0",
}  # fmt: skip


class Scored(NamedTuple):
    log_likelihood: float
    greedy: bool = False


class Merging(Tokenizer):
    """Characters as ids, but 是 and 十 together are one; BOS is 1, EOS 2."""

    path = pathlib.Path("merging")
    bos_id, eos_id, pad_id, unk_id = 1, 2, 0, -1
    adds_bos = True
    vocab_size = 1 << 17

    def encode_batch(self, texts, threads=1, *, special=False):
        return [[ord(c) for c in text.replace("是十", "\ue000")] for text in texts]

    def id_to_piece(self, id):
        return chr(id)

    @property
    def bytes_of_ids(self):
        raise NotImplementedError

    @property
    def partial(self):
        raise NotImplementedError


def text_of(ids) -> str:
    return "".join(map(chr, ids)).replace("\ue000", "是十")


# --- The files that come with twjax.


def test_terms_differ_in_the_term_alone():
    found = pairs.read_pairs(FILES / "terms.jsonl")
    lexicon = usage.load()
    ours = lexicon.find([pair.taiwan for pair in found])
    theirs = lexicon.find([pair.mainland for pair in found])
    assert 300 <= len(found) <= 1500 and len({pair.term for pair in found}) > 100
    for pair, none, one in zip(found, ours, theirs, strict=True):
        assert pair.kind == "term"
        first, second = pair.term
        before, _, after = pair.taiwan.partition(first)
        assert pair.mainland == before + second + after, pair.id
        assert not none and len(one) == 1, pair.id
        assert (one[0].start, one[0].word) == (len(before), second), pair.id
        for side in (pair.taiwan, pair.mainland):
            assert script.count(side).simplified == 0, pair.id


def test_scripts_are_the_same_sentence():
    found = pairs.read_pairs(FILES / "scripts.jsonl")
    assert len(found) >= 100
    for pair in found:
        assert pair.kind == "script" and usage.fold(pair.taiwan) == usage.fold(pair.mainland)
        assert script.count(pair.taiwan).script(0.8) == "traditional", pair.id
        assert script.count(pair.mainland).script(0.8) == "simplified", pair.id
        assert len(pair.taiwan.encode()) == len(pair.mainland.encode())


def test_no_pair_stands_in_what_the_quickstart_trains_on():
    found = [
        pair for name in ("terms", "scripts") for pair in pairs.read_pairs(FILES / f"{name}.jsonl")
    ]
    for path in sorted((ROOT / "configs/corpora/texts").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            records = [json.loads(line) for line in file]
        text = usage.fold("\n".join(record["text"] for record in records))
        assert not [pair.id for pair in found if usage.fold(pair.taiwan) in text], path.name
        ids = {record["id"] for record in records}
        assert not [pair.id for pair in found if pair.source.split(" ", 1)[1] in ids], path.name


def test_pairs_may_be_passed_on():
    for name in ("terms", "scripts"):
        for pair in pairs.read_pairs(FILES / f"{name}.jsonl"):
            assert pair.license.startswith(("CC0-1.0", "Public domain", "MIT")), pair.id


def test_probes_are_well_formed():
    found = pairs.read_probes(FILES / "identity.jsonl")
    languages = {probe.lang for probe in found}
    assert len(found) >= 100 and languages == {"zh-TW", "zh-CN", "en"}
    for probe in found:
        assert not set(probe.right) & set(probe.wrong)
        texts = [probe.prompt, *probe.right, *probe.wrong]
        counts = script.count("".join(texts))
        assert probe.id == f"{probe.lang}/{probe.id.split('/')[1]}"
        if probe.lang == "zh-TW":
            assert counts.simplified == 0, probe.id
        elif probe.lang == "zh-CN":
            assert counts.traditional == 0, probe.id
        else:
            assert counts.han == 0, probe.id
            # An end follows the prompt as it is, so it brings its space.
            assert all(text.startswith(" ") for text in texts[1:]), probe.id
            assert not probe.prompt.endswith(" ")
        for text in texts:
            assert text == text.rstrip()


# --- Reading.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "id must be a text, not None"),
        ({"taiwan": ""}, "taiwan is empty"),
        ({"kind": "word"}, "kind ('word') must be one of term, script"),
        ({"term": ["軟體"]}, "term (['軟體']) must have two words"),
        ({"term": "軟體"}, "term must be a list of texts, not '軟體'"),
        ({"term": ["軟體", 1]}, "term must be a list of texts"),
        ({"mainland": "請更新軟件！"}, "nothing else may differ"),
        ({"taiwan": "軟體和軟體", "mainland": "軟件和軟件"}, "must have '軟體' once"),
        ({"kind": "script"}, "term: a pair of kind 'script' has none"),
        ({"mainland": "請更新軟體。"}, "same text"),
        ({"extra": "x"}, "'extra' is unknown"),
        ({"license": ...}, "'license' is missing"),
    ],
)
def test_a_bad_pair_is_refused_with_its_line(tmp_path, change, message):
    record = {k: v for k, v in {**PAIR, **change}.items() if v is not ...}
    path = tmp_path / "pairs.jsonl"
    lines = [json.dumps({**PAIR, "id": "first"}), "", json.dumps(record)]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        pairs.read_pairs(path)
    assert str(caught.value).startswith(f"{path}:3") and message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"right": []}, "right is empty"),
        ({"wrong": ["r"]}, "'r' stands twice"),
        ({"wrong": [""]}, "one of them is empty"),
        ({"prompt": 3}, "prompt must be a text, not 3"),
        ({"group": ...}, "'group' is missing"),
    ],
)
def test_a_bad_probe_is_refused_with_its_line(tmp_path, change, message):
    record = {k: v for k, v in {**PROBE, **change}.items() if v is not ...}
    path = tmp_path / "probes.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        pairs.read_probes(path)
    assert str(caught.value).startswith(f"{path}:1") and message in str(caught.value)


def test_broken_files_are_refused(tmp_path):
    path = tmp_path / "x.jsonl"
    for text, message in (
        ("", "has no lines"),
        ("[1]", ":1: a line must be an object"),
        ("{", ":1: not valid JSON"),
        (f"{json.dumps(PAIR)}\n{json.dumps(PAIR)}", ":2: id 'a' is line 1's, too"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            pairs.read_pairs(path)


def test_pairs_are_read_as_they_were_written(tmp_path):
    script = Pair(id="s", kind="script", taiwan="軟體", mainland="软体", source="s", license="l")
    found = [*pairs.read_pairs(FILES / "terms.jsonl")[:20], script]
    pairs.write_pairs(tmp_path / "x.jsonl", found)
    assert pairs.read_pairs(tmp_path / "x.jsonl") == found


# --- Deciding.

TEXTS = st.text("a軟體é😀", min_size=1, max_size=8)
SCORES = st.floats(-500, 0) | st.sampled_from([-6.0, -12.0, -24.0])


@given(st.lists(st.tuples(TEXTS, TEXTS, SCORES, SCORES), min_size=1, max_size=12))
def test_pairs_are_decided_by_the_likelihood_to_a_byte(rows):
    rows = [row for row in rows if row[0] != row[1]]
    found = [
        Pair(id=str(n), kind="script", taiwan=a, mainland=b, source="s", license="l")
        for n, (a, b, _, _) in enumerate(rows)
    ]
    scores = [Scored(x) for row in rows for x in row[2:]]
    record = pairs.pairs_record(found, scores, 3, "scripts")
    values = np.array([row[2:] for row in rows], np.float64).reshape(-1, 2)
    sizes = np.array([[len(t.encode("utf-8")) for t in row[:2]] for row in rows]).reshape(-1, 2)
    gaps = values[:, 0] * sizes[:, 1] - values[:, 1] * sizes[:, 0]
    clear = np.abs(gaps) > 1e-9 * np.abs(values).max(initial=1) * sizes.max(initial=1)
    least = np.sum((gaps > 0) & clear)
    assert record["kind"] == "pairs" and record["pairs"] == len(rows) and record["step"] == 3
    assert least <= record["preferred"] * max(1, len(rows)) + 1e-9
    assert record["preferred"] * len(rows) <= least + np.sum(~clear) + 1e-9


def test_equal_likelihoods_count_half():
    found = [
        Pair(id=str(n), kind="script", taiwan="軟體", mainland="软体", source="s", license="l")
        for n in range(4)
    ]
    scores = [Scored(x) for x in (-3.0, -3.0, -2.0, -3.0, -4.0, -3.0, -np.inf, -3.0)]
    assert pairs.pairs_record(found, scores, 0, "x")["preferred"] == (0.5 + 1) / 4
    with pytest.raises(ValueError, match="8 scores, not 7"):
        pairs.pairs_record(found, scores[1:], 0, "x")
    with pytest.raises(ValueError, match="2: the log-likelihood of '软体' is not a number"):
        pairs.pairs_record(found, [*scores[:5], Scored(np.nan), *scores[6:]], 0, "x")


@given(
    st.lists(
        st.tuples(
            st.sampled_from("xyz"),
            st.lists(st.tuples(TEXTS, SCORES), min_size=1, max_size=3),
            st.lists(st.tuples(TEXTS, SCORES), min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_probe_is_right_if_its_likeliest_end_is(rows):
    # What makes ends of one probe different, and the same number of bytes longer.
    found, scores, groups = [], [], {}
    for n, (group, right, wrong) in enumerate(rows):
        right = [(f"{k}{text}", x) for k, (text, x) in enumerate(right)]
        wrong = [(f"{k + 5}{text}", x) for k, (text, x) in enumerate(wrong)]
        found.append(
            Probe(
                id=str(n), group=group, lang="en", prompt="p",
                right=tuple(text for text, _ in right), wrong=tuple(text for text, _ in wrong),
            )
        )  # fmt: skip
        scores += [Scored(x) for _, x in (*right, *wrong)]
        rates = [np.float64(x) / len(text.encode("utf-8")) for text, x in (*right, *wrong)]
        best, other = np.max(rates[: len(right)]), np.max(rates[len(right) :])
        value = 0.5 if best == other else float(best > other)
        had = groups.setdefault(group, [0.0, 0])
        had[0], had[1] = had[0] + value, had[1] + 1
    record = pairs.probes_record(found, scores, 5, "identity")
    assert record["groups"] == groups and record["probes"] == len(rows)
    assert record["right"] == pytest.approx(sum(right for right, _ in groups.values()) / len(rows))
    with pytest.raises(ValueError, match="ends, not"):
        pairs.probes_record(found, scores[1:], 0, "x")


# --- What is asked of a model.


def test_a_pair_asks_for_both_sentences_behind_the_documents_start():
    pair = Pair(**{**PAIR, "term": tuple(PAIR["term"])})
    first, second = pairs.pair_requests([pair], Merging())
    assert first.context == second.context == (1,)
    assert (text_of(first.continuation), text_of(second.continuation)) == (
        pair.taiwan,
        pair.mainland,
    )


def test_where_documents_have_no_bos_eos_stands_before_them():
    tokenizer = Merging()
    tokenizer.adds_bos = False
    pair = Pair(**{**PAIR, "term": tuple(PAIR["term"])})
    assert pairs.pair_requests([pair], tokenizer)[0].context == (2,)
    tokenizer.eos_id = -1
    with pytest.raises(ValueError, match="neither BOS nor EOS"):
        pairs.pair_requests([pair], tokenizer)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["國慶日是", "是", "國慶日"]),
            st.sampled_from([["十月", "一月"], ["一日", "日"], ["十", "十一", "是十"]]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_all_ends_of_a_probe_are_asked_for_behind_the_same_ids(rows):
    found = [
        Probe(id=str(n), group="g", lang="zh-TW", prompt=prompt, right=tuple(ends[:1]),
              wrong=tuple(ends[1:]))
        for n, (prompt, ends) in enumerate(rows)
    ]  # fmt: skip
    requests = iter(pairs.probe_requests(found, Merging()))
    for prompt, ends in rows:
        mine = [next(requests) for _ in ends]
        assert len({request.context for request in mine}) == 1
        for end, (context, continuation) in zip(ends, mine, strict=True):
            assert context[0] == 1 and continuation
            assert text_of((*context[1:], *continuation)) == prompt + end
        # As much of the prompt as its own ids and all ends' ids agree on.
        agreed = text_of(mine[0].context[1:])
        assert prompt.startswith(agreed)
        assert agreed == prompt or any((prompt + end).count("是十") for end in ends)
    assert next(requests, None) is None


@pytest.mark.parametrize("family", ["t5", "llama3"])
def test_an_encoder_decoder_reads_the_prompt_and_says_an_end(family):
    tokenizer = load_vocabulary(tokenizer_side.folder(family))
    probes = pairs.read_probes(FILES / "identity.jsonl")[::40]
    requests = iter(pairs.probe_requests(probes, tokenizer, both=True))
    for probe in probes:
        for end in (*probe.right, *probe.wrong):
            request = next(requests)
            # As it reads and answers a question.
            assert request == text_request(tokenizer, probe.prompt, end, both=True)
            assert request.context[-1] == tokenizer.eos_id
            assert request.context.count(tokenizer.eos_id) == 1
            assert tokenizer.eos_id not in request.continuation
    assert next(requests, None) is None
    pair = Pair(**{**PAIR, "term": tuple(PAIR["term"])})
    asked = [text_request(tokenizer, "", t, both=True) for t in (pair.taiwan, pair.mainland)]
    assert pairs.pair_requests([pair], tokenizer, both=True) == asked


def test_an_encoder_decoder_needs_an_eos():
    tokenizer = Merging()
    tokenizer.eos_id = -1
    pair = Pair(**{**PAIR, "term": tuple(PAIR["term"])})
    with pytest.raises(ValueError, match="has no EOS, which ends what an encoder reads"):
        pairs.pair_requests([pair], tokenizer, both=True)


class Bytes(Merging):
    """Bytes as ids, from 3 on."""

    vocab_size = 259

    def encode_batch(self, texts, threads=1, *, special=False):
        return [[3 + byte for byte in text.encode()] for text in texts]


@pytest.mark.slow
def test_a_network_decides_as_its_forward_pass_does():
    model = Model(
        vocab_size=259, num_layers=1, embed_dim=8, num_heads=1, num_kv_heads=1, head_dim=8,
        mlp_dim=16, init_std=0.5,
    )  # fmt: skip
    net = network(model)
    params = init_weights(net.specs, jax.random.key(0))
    scorer = Scorer(plain_run(model, "none"), net, make_mesh(Mesh()))
    some = pairs.read_pairs(FILES / "terms.jsonl")[::60]
    probes = pairs.read_probes(FILES / "identity.jsonl")[::20]

    @jax.jit
    def logits(tokens):
        hidden = net.hidden(params, tokens, jnp.ones_like(tokens), dtype=jnp.float32,
                            kind="reference")  # fmt: skip
        return net.logits(params, hidden)

    def likelihood(text: str, behind: str = "") -> float:
        ids = [1, *(3 + byte for byte in (behind + text).encode())]
        tokens = np.zeros((1, 256), np.int32)
        tokens[0, : len(ids)] = ids
        values = np.asarray(logits(tokens), np.float64)[0, : len(ids) - 1]
        logs = values - np.log(np.exp(values).sum(-1, keepdims=True))
        each = logs[np.arange(len(ids) - 1), ids[1:]]
        return each[len(behind.encode()) :].sum()

    scores = scorer(params, pairs.pair_requests(some, Bytes()))
    sides = [text for pair in some for text in (pair.taiwan, pair.mainland)]
    np.testing.assert_allclose(
        [score.log_likelihood for score in scores], list(map(likelihood, sides)), rtol=1e-5
    )
    rates = np.array([likelihood(text) / len(text.encode()) for text in sides]).reshape(-1, 2)
    share = pairs.pairs_record(some, scores, 0, "terms")["preferred"]
    assert share == pytest.approx(np.mean(rates[:, 0] > rates[:, 1])) and 0 < share < 1
    scores = scorer(params, pairs.probe_requests(probes, Bytes()))
    right = [
        max(likelihood(end, probe.prompt) / len(end.encode()) for end in probe.right)
        > max(likelihood(end, probe.prompt) / len(end.encode()) for end in probe.wrong)
        for probe in probes
    ]
    share = pairs.probes_record(probes, scores, 0, "identity")["right"]
    assert share == pytest.approx(np.mean(right)) and 0 < share < 1


# --- Making pairs.

SENTENCES = [
    "這一套軟體在我們公司裡面用了很久。",
    "我們的伺服器昨天晚上又停了一次。",
    "空氣品質不好的時候請不要出門運動。",
    "他說這件產品的品質一直都非常穩定。",
    "質量守恆定律說明了物質不會消失。",
    "請把投資訊息和相關的說明寄給我們。",
    "這個軟件和那個網路服務都要更新了。",
    "软体和网路都要更新了，请大家注意。",
    "今天的會議就到這裡，謝謝各位的參與。",
]


def passages(texts=SENTENCES, edition=""):
    return [Passage(text, edition, f"d{n}", "someone", "CC0-1.0") for n, text in enumerate(texts)]


def test_pairs_are_made_of_sentences_in_which_the_table_finds_the_word():
    built = minimal_pairs.build(passages(), scripts=0)
    made = {pair.taiwan: pair.term for pair in built.pairs}
    assert made == {
        SENTENCES[0]: ("軟體", "軟件"),
        SENTENCES[1]: ("伺服器", "服務器"),
        SENTENCES[2]: ("空氣品質", "空氣質量"),
        SENTENCES[3]: ("品質", "質量"),
    }
    assert built.left_out["has a mainland word"] == 1 and built.left_out["not Traditional"] == 1


def test_an_edition_has_the_last_word():
    text = ["我們要用更有智慧的方法更新這個系統。"]
    assert not minimal_pairs.build(passages(text), scripts=0).pairs
    with_word = passages(text, "我们要用更智能的方法更新这个系统。")
    (pair,) = minimal_pairs.build(with_word, scripts=0).pairs
    assert pair.term == ("智慧", "智能") and pair.edition == with_word[0].edition
    other = passages(SENTENCES[:1], "这一套程序在公司里用了很久。")
    built = minimal_pairs.build(other, scripts=0)
    assert not built.pairs and built.left_out["the mainland edition says it otherwise"] == 1


def test_what_is_trained_on_makes_no_pair():
    held = [Passage("別的句子", "", "d0", "x", "y"), Passage(SENTENCES[1], "", "z", "x", "y")]
    built = minimal_pairs.build(passages(), without=held)
    assert not {SENTENCES[0], SENTENCES[1]} & {pair.taiwan for pair in built.pairs}
    assert built.left_out["in a text to do without"] == 2


def test_the_order_of_texts_does_not_matter_and_no_word_has_too_many():
    texts = [f"第{n}間公司買了{n}套軟體{n}次，還會繼續開發新東西。" for n in range(40)] + SENTENCES
    built = minimal_pairs.build(passages(texts), most=3, scripts=5)
    shuffled = passages(texts)
    random.Random(0).shuffle(shuffled)
    again = minimal_pairs.build(shuffled, most=3, scripts=5)
    assert sorted(built.pairs, key=str) == sorted(again.pairs, key=str)
    terms = [pair.term for pair in built.pairs]
    assert terms.count(("軟體", "軟件")) == 3 and terms.count(()) == 5
    assert len({pair.id for pair in built.pairs}) == len(built.pairs)
    assert len({pair.taiwan for pair in built.pairs}) == len(built.pairs)


def test_variants_of_one_sentence_make_one_pair():
    texts = [f"{name}公司自己設計的軟體都放在這裡給人用。" for name in ("大大", "小小", "高高")]
    built = minimal_pairs.build(passages(texts), scripts=0)
    assert len(built.pairs) == 1 and built.left_out["enough of the word"] == 2


def test_a_part_of_a_sentence_to_do_without_makes_no_pair():
    held = [Passage(f"他說過：「{SENTENCES[0]}」大家都笑了。", "", "other", "x", "y")]
    built = minimal_pairs.build(passages(), without=held)
    assert built.pairs and SENTENCES[0] not in {pair.taiwan for pair in built.pairs}


def test_the_command_makes_files_that_it_accepts(tmp_path, capsys):
    text = "\r\n".join(f"王小明：{sentence}" for sentence in SENTENCES)
    document = Document(id="a", text=text, source="s", license="CC0-1.0", lang="zh-TW")
    write_jsonl(tmp_path / "a.jsonl.gz", [document])
    build = ["pairs", "build", str(tmp_path / "a.jsonl.gz"), "--output", str(tmp_path / "out")]
    assert main(build) == 0
    assert "4 pairs of 4 words" in capsys.readouterr().out
    files = [str(tmp_path / "out" / name) for name in ("terms.jsonl", "scripts.jsonl")]
    assert main(["pairs", "check", *files, str(FILES / "identity.jsonl")]) == 0
    assert "probes" in capsys.readouterr().out
    # What is trained on is done without, whatever language it is said to be in.
    trained = dataclasses.replace(document, id="b", lang="und")
    write_jsonl(tmp_path / "b.jsonl.gz", [trained])
    assert main([*build, "--without", str(tmp_path / "b.jsonl.gz")]) == 1
    assert "no sentence makes a pair" in capsys.readouterr().err
    assert main(["pairs", "build", str(tmp_path / "b.jsonl.gz"), *build[3:]]) == 1
    assert "document in another language 1" in capsys.readouterr().err
