"""Supervised tasks: sources of records, worded examples, and the rows that they become."""

from __future__ import annotations

import functools
import gzip
import json
import pathlib
import subprocess
import sys
import textwrap

import data_side
import numpy as np
import pytest

from twjax.data import readers
from twjax.data.templates import Template, choose, render

SAMPLES = pathlib.Path(__file__).resolve().parent / "data" / "supervised"


def sample(name):
    lines = (SAMPLES / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


PAIRS = functools.partial(readers.translations, source="en", target="zh_tw")


@pytest.fixture(scope="module")
def records_source():
    """The class; importing it loads TensorFlow."""
    from twjax.data.records import RecordSource

    return RecordSource


def test_records_stay_together_and_each_is_in_one_split(records_source):
    source = records_source(str(SAMPLES / "pydocs_pairs.jsonl"), PAIRS, validation=0.3)
    owners = {s: {e.id.rpartition("#")[0] for e in source.examples(s)} for s in source.splits}
    everything = {r["id"] for r in sample("pydocs_pairs.jsonl")}
    assert owners["train"] | owners["validation"] == everything
    assert not owners["train"] & owners["validation"] and len(owners["validation"]) >= 2
    held_out = records_source(str(SAMPLES / "pydocs_pairs.jsonl"), PAIRS, validation=1.0)
    assert held_out.splits == ("validation",) or list(held_out.splits) == ["validation"]
    with pytest.raises(ValueError, match="have no split 'train'; they have validation"):
        held_out.fingerprint("train")


def test_all_forms_of_a_file_give_the_same(records_source, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = sample("pydocs_pairs.jsonl")
    text = "".join(json.dumps(record) + "\n\n" for record in records)
    (tmp_path / "a.jsonl").write_text(text)
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(text)
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "c.parquet")
    found = [
        list(records_source(str(tmp_path / name), PAIRS).examples("train"))
        for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")
    ]
    assert found[0] == found[1] == found[2] and len(found[0]) > 50
    whole = records_source(str(tmp_path), PAIRS)
    assert len(whole.list_shards("train")) == 3
    assert list(whole.examples("train")) == found[0] * 3


def test_a_changed_file_or_reader_is_another_fingerprint(records_source, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "x", "en": "a", "zh_tw": "甲"}\n')
    source = records_source(str(path), PAIRS)
    first = source.fingerprint("train")
    assert json.loads(json.dumps(first)) == first and source.fingerprint("train") == first
    other = functools.partial(PAIRS, longest=10)
    assert records_source(str(path), other).fingerprint("train") != first
    path.write_text('{"id": "x", "en": "b", "zh_tw": "乙"}\n')
    assert source.fingerprint("train") != first


def test_bad_files_are_one_clear_line(records_source, tmp_path, monkeypatch):
    def reading(text, name="bad.jsonl"):
        (tmp_path / name).write_bytes(text)
        return list(records_source(str(tmp_path / name), PAIRS, 0.0).examples("train"))

    with pytest.raises(ValueError, match=r"bad.jsonl, line 2: not JSON"):
        reading(b'{"id": "x", "pairs": []}\n{"id": ')
    with pytest.raises(ValueError, match=r"line 1: a record is a JSON object, not list"):
        reading(b"[]\n")
    with pytest.raises(ValueError, match=r"record 1 has no id"):
        reading(b'{"en": "a"}\n')
    with pytest.raises(ValueError, match=r"record x isn't what translations reads \(Attribute"):
        reading(b'{"id": "x", "pairs": ["a"]}\n')
    with pytest.raises(ValueError, match=r"damaged"):
        reading(gzip.compress(b'{"id": "x", "pairs": []}\n' * 9)[:-9], "bad.jsonl.gz")
    with pytest.raises(ValueError, match=r"not a readable Parquet file"):
        reading(b"PAR1", "bad.parquet")
    with pytest.raises(ValueError, match=r"records are \.jsonl, "):
        reading(b"", "bad.csv")
    monkeypatch.setenv("TWJAX_RECORDS_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"elsewhere/a.jsonl: no file .*TWJAX_RECORDS_DIR"):
        records_source("a.jsonl", PAIRS).list_shards("train")
    with pytest.raises(ValueError, match=r"is a share: 0 to 1"):
        records_source("a.jsonl", PAIRS, 2.0)


@pytest.fixture
def registered():
    """Registers tasks for one test, and takes them out again."""
    import seqio

    from twjax.data.preprocessors_supervised import add_records

    before = set(seqio.TaskRegistry.names())
    yield add_records
    for name in set(seqio.TaskRegistry.names()) - before:
        seqio.TaskRegistry.remove(name)


WORDINGS = (
    Template("翻譯：{source}\n", "{target}"),
    Template("英：{source}\n中：", "{target}", 2),
)


def test_registering_twice(registered):
    first = registered("tw_again", "/nowhere/a", PAIRS, WORDINGS, [])
    assert registered("tw_again", "/nowhere/a", PAIRS, WORDINGS, []) is first
    for path, templates in (("/nowhere/b", WORDINGS), ("/nowhere/a", WORDINGS[:1])):
        with pytest.raises(ValueError, match=r"tw_again is registered already.*another name"):
            registered("tw_again", path, PAIRS, templates, [])
    with pytest.raises(ValueError, match="at least one template"):
        registered("tw_none", "/nowhere/a", PAIRS, (), [])
    with pytest.raises(ValueError, match="names no field"):
        registered("tw_brace", "/nowhere/a", PAIRS, [Template("{", "")], [])


def bound(registered, name="tw_words", path="pydocs_pairs.jsonl"):
    from twjax.data.vocabulary import PieceVocabulary, with_vocabulary

    task = registered(name, str(SAMPLES / path), PAIRS, WORDINGS, [], 0.3)
    return with_vocabulary(task, PieceVocabulary(data_side.vocabulary()))


def test_examples_are_worded_by_their_id(registered):
    task = bound(registered)
    vocabulary = task.output_features["targets"].vocabulary
    lengths = {"inputs": 512, "targets": 512}
    found = list(task.get_dataset(lengths, "train", shuffle=False).as_numpy_iterator())
    labelled = list(task.source.examples("train"))
    assert len(found) == len(labelled) > 30
    shown = 0
    for example, given_fields in zip(found, labelled, strict=True):
        template = choose(WORDINGS, given_fields.id)
        inputs = example["inputs_pretokenized"].decode()
        assert inputs.endswith(render(template, given_fields.fields)[0])
        # Solved examples are of other records.
        owner = given_fields.id.rpartition("#")[0]
        own = [e.fields["source"] for e in labelled if e.id.startswith(f"{owner}#")]
        solved = inputs.split("\n\n")[:-1]
        shown += len(solved)
        assert not any(f"英：{text}\n" in shot + "\n" for shot in solved for text in own)
        assert example["inputs"].tolist() == [3, *vocabulary.encode(inputs)]
        answer = given_fields.fields["target"]
        assert example["targets"].tolist() == [*vocabulary.encode(answer), 1]
        assert [a.decode() for a in example["answers"]] == [answer]
    assert shown > 20


def test_solved_examples_give_way_to_the_question(registered):
    task = bound(registered)
    long, short = (
        list(task.get_dataset({"inputs": n, "targets": n}, "train", shuffle=False, **KEEP))
        for n in (4096, 100)
    )
    fewer = 0
    for a, b in zip(long, short, strict=True):
        more, less = (e["inputs_pretokenized"].numpy().decode().split("\n\n") for e in (a, b))
        assert more[-1] == less[-1]
        assert len(less) == 1 or len(b["inputs"]) + len(b["targets"]) <= 100
        fewer += len(less) < len(more)
    assert fewer > 5


KEEP = {"trim_output_features": False}


@pytest.mark.parametrize(("row_format", "targets"), [("decoder", None), ("encoder_decoder", 128)])
def test_rows_have_the_loss_on_answers_alone(registered, tmp_path, row_format, targets):
    from twjax.data import cache, rows
    from twjax.data.examples import find_task
    from twjax.data.request import Request

    task = bound(registered, "tw_rows")
    vocabulary = task.output_features["targets"].vocabulary
    request = Request(
        find_task("tw_rows", {}), "train", 256, data_side.vocabulary(), row_format, targets
    )
    built = cache.build(request, tmp_path)
    assert not cache.build(request, tmp_path).fresh
    reader = rows.RowReader(tmp_path, "tw_rows", "train", request.row_length)
    found = reader.read(range(len(reader)))
    side = "tokens" if row_format == "decoder" else "targets"
    owner = "segment_ids" if row_format == "decoder" else "targets_segment_ids"
    answers = []
    for row in range(len(reader)):
        for segment in range(1, found[owner][row].max() + 1):
            mask = (found[owner][row] == segment) & (found["loss_weights"][row] == 1)
            answers.append(vocabulary.decode(found[side][row][mask].tolist()))
            assert found[side][row][mask][-1] == 1
    wanted = [e.fields["target"] for e in task.source.examples("train")]
    assert built.info.documents + built.left_out == len(wanted)
    assert len(answers) == built.info.documents >= 0.9 * len(wanted)
    assert set(answers) <= set(wanted)


def test_all_right_answers_reach_the_metrics(registered, tmp_path):
    """As seqio's evaluator calls them: the postprocessor on both sides, then the metrics."""
    from twjax.data.text_metrics import character_f1, exact_match
    from twjax.data.vocabulary import PieceVocabulary, with_vocabulary

    record = {"id": "1", "title": "臺灣", "text": "臺北在臺灣北部。"}
    answers = [{"id": "1", "text": "臺灣北部"}, {"id": "2", "text": "北部"}]
    record["qas"] = [{"id": "1-1", "question": "臺北在哪裡？", "answers": answers}]
    (tmp_path / "qa.jsonl").write_text(json.dumps(record))
    templates, path = [Template("{context}{question}", "{answer}")], str(tmp_path / "qa.jsonl")
    metrics = [exact_match, character_f1]
    declared = registered("tw_qa", path, readers.questions, templates, metrics, 1.0)
    task = with_vocabulary(declared, PieceVocabulary(data_side.vocabulary()))
    lengths = {"inputs": 128, "targets": 128}
    (example,) = task.get_dataset(lengths, "validation", shuffle=False).as_numpy_iterator()
    text = example["targets_pretokenized"].decode()
    target = task.postprocess_fn(text, example=example, is_target=True)
    prediction = task.postprocess_fn("北部！", example=example, is_target=False)
    assert target == ["臺灣北部", "北部"] and prediction == "北部！"
    scores = [metric([target], [prediction]) for metric in task.predict_metric_fns]
    assert scores == [{"exact_match": 100.0}, {"character_f1": 100.0}]


@pytest.mark.slow
def test_declared_tasks_read_nothing_and_keep_benchmarks_out_of_training():
    program = """
        import sys
        import seqio
        import twjax.data.preprocessors_supervised, twjax.data.translation_metrics
        seen = []
        def watch(event, arguments):
            if event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
                seen.append(f"open {arguments[0]}")
        sys.addaudithook(watch)
        import tasks.supervised
        assert not seen, seen
        benchmarks = ("drcd", "ntrex", "exam", "_moe_")
        named = {n: seqio.TaskRegistry.get(n) for n in seqio.TaskRegistry.names()}
        assert len(named) == 25, len(named)
        for name, task in named.items():
            only = any(part in name for part in benchmarks)
            assert list(task.splits) == (["validation"] if only else ["train", "validation"]), name
            assert (name in tasks.supervised.TRAINING) != only, name
            assert len(task.preprocessors[0].keywords["templates"]) >= 4
            assert task.metric_fns
        # Fields that every wording names are there.
        mixture = seqio.MixtureRegistry.get("tw_supervised")
        assert sorted(t.name for t in mixture.tasks) == sorted(tasks.supervised.TRAINING)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, cwd=data_side.REPO)


def test_arrays_are_int32(registered):
    task = bound(registered, "tw_types")
    lengths = {"inputs": 512, "targets": 512}
    example = next(iter(task.get_dataset(lengths, "validation", shuffle=False)))
    assert example["inputs"].numpy().dtype == example["targets"].numpy().dtype == np.int32
