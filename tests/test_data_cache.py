"""Caching: the seqio task's own examples, whole or absent, the same bytes always, never stale."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import data_side
import numpy as np
import pytest

from twjax import storage
from twjax.data import cache, documents, rows
from twjax.data.documents import Corpus
from twjax.data.examples import CorpusTask, Job, RegisteredTask, encode, find_task
from twjax.data.request import Request
from twjax.vocab.model import SentencePieceModel

DOCUMENTS = (*data_side.texts(), *data_side.ODD_TEXTS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    return data_side.make_corpus(tmp_path_factory.mktemp("corpora") / "laws", DOCUMENTS)


def request(corpus: str, split: str = "train", **changes) -> Request:
    task = CorpusTask("laws", Corpus(corpus))
    wanted = Request(task, split, 256, data_side.vocabulary())
    return dataclasses.replace(wanted, **changes)


def texts_of(corpus: Corpus, split: str) -> list[str]:
    return [
        text
        for shard in range(len(corpus.shards))
        for batch in corpus.batches(shard, split, ["text"])
        for text in batch.column("text").to_pylist()
    ]


def files(folder: pathlib.Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_splits_are_of_documents_and_keyed_by_id(tmp_path):
    many = [f"文{n}" for n in range(4000)]
    corpus = Corpus(data_side.make_corpus(tmp_path / "a", many, shards=2))
    train, held_out = (texts_of(corpus, split) for split in ("train", "validation"))
    assert sorted(train + held_out) == sorted(many)
    assert 0.012 < len(held_out) / 4000 < 0.028
    # How documents lie in shards doesn't matter.
    other = Corpus(data_side.make_corpus(tmp_path / "b", many, shards=5))
    assert sorted(texts_of(other, "validation")) == sorted(held_out)
    everything = Corpus(corpus.directory, 1.0)
    assert everything.splits == ("validation",)
    assert sorted(texts_of(everything, "validation")) == sorted(many)
    with pytest.raises(ValueError, match="no split 'train'"):
        everything.fingerprint("train")


@pytest.mark.parametrize("count", [20, 25, 60])
def test_small_corpora_hold_out_one_document_at_least(tmp_path, count):
    corpus = Corpus(data_side.make_corpus(tmp_path / "a", [f"文{n}" for n in range(count)]), 0.001)
    assert len(texts_of(corpus, "validation")) == 1
    assert len(texts_of(corpus, "train")) == count - 1


def test_corpora_that_are_missing_or_changed_are_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"absent/manifest.json: no such corpus.*corpus build"
    ):
        Corpus(str(tmp_path / "absent")).fingerprint("train")
    corpus = Corpus(data_side.make_corpus(tmp_path / "a", DOCUMENTS))
    with open(corpus.shards[1], "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"part-00001.*sha256 isn't the manifest's"):
        list(corpus.batches(1, "train", ["text"]))
    corpus.shards[2].unlink()
    with pytest.raises(FileNotFoundError, match=r"part-00002.*missing"):
        list(corpus.batches(2, "train", ["text"]))


def test_rows_hold_every_document_once(corpus, tmp_path):
    built = cache.build(request(corpus), tmp_path)
    model = SentencePieceModel(data_side.vocabulary())
    expected = sorted(
        (model.bos_id, *model.encode(text), model.eos_id)
        for text in texts_of(Corpus(corpus), "train")
    )
    reader = rows.RowReader(tmp_path, "laws", "train", 256)
    found = reader.read(range(len(reader)))
    pieces = []
    for ids, owners, weights in zip(*found.values(), strict=True):
        assert not weights[owners == 0].any()
        for segment in range(1, owners.max() + 1):
            assert weights[owners == segment].tolist() == [0] + [1] * int(
                (owners == segment).sum() - 1
            )
            pieces.append(tuple(ids[owners == segment].tolist()))
    # Documents of one row stand there as they are; longer ones go on, one token repeated.
    short = [ids for ids in expected if len(ids) <= 256]
    assert all(pieces.count(ids) == expected.count(ids) for ids in short)
    long = [ids for ids in expected if len(ids) > 256]
    assert long
    for ids in long:
        for start in range(0, len(ids) - 1, 255):
            assert ids[start : start + 256] in pieces
    cuts = sum(1 + max(0, -(-(len(ids) - 256) // 255)) for ids in expected)
    assert len(pieces) == cuts
    info = built.info
    assert info.documents == len(expected)
    assert info.text_bytes == sum(len(t.encode()) for t in texts_of(Corpus(corpus), "train"))
    assert info.loss_tokens == sum(len(ids) - 1 for ids in expected)
    assert info.loss_tokens == sum(int(w.sum()) for w in found["loss_weights"])
    predicted = found["tokens"][found["loss_weights"] == 1]
    assert reader.token_bytes[predicted].sum() == info.text_bytes


def test_padding_of_laws_is_under_two_percent(tmp_path):
    corpus = data_side.make_corpus(tmp_path / "all", data_side.texts(count=693))
    info = cache.build(request(corpus, seq_len=2048), tmp_path / "cache").info
    assert info.rows > 50
    assert info.pad_fraction < 0.02


def test_the_fast_way_gives_what_the_seqio_task_gives(corpus, tmp_path):
    from twjax.data.sources import add_corpus

    add_corpus("laws_declared", corpus)
    fast = find_task("laws_declared", {})
    assert fast == CorpusTask("laws_declared", Corpus(corpus))
    slow = RegisteredTask("laws_declared")
    assert fast.ingredients("train") == slow.ingredients("train")
    for split in ("train", "validation"):
        for shard in range(fast.shards(split)):
            results = []
            for task in (fast, slow):
                output = tmp_path / type(task).__name__
                job = Job(task, split, shard, data_side.vocabulary(), {"targets": 256}, output)
                encoded = encode(job)
                results.append((output.read_bytes(), encoded.lengths.tolist()))
                assert encoded.text_bytes.sum() >= 0
            assert results[0] == results[1]
    built = [
        cache.build(request(corpus, task=task), tmp_path / name)
        for name, task in (("fast", fast), ("slow", slow))
    ]
    assert built[0].info == built[1].info
    assert files(tmp_path / "fast") == files(tmp_path / "slow")


def test_other_preprocessors_take_the_seqio_way(corpus):
    import functools

    from twjax.data.preprocessors import language_model
    from twjax.data.sources import add_corpus

    add_corpus("laws_partial", corpus, [functools.partial(language_model, field="text")])
    assert isinstance(find_task("laws_partial", {}), RegisteredTask)


def test_workers_dont_change_a_byte(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("twjax.data.examples._WORKER_BYTES", 1)
    one, two = (cache.build(request(corpus), tmp_path / str(n), workers=n) for n in (1, 2))
    assert one.info == two.info
    assert files(tmp_path / "1") == files(tmp_path / "2")


@pytest.mark.slow
def test_objectives_with_inputs_in_both_row_formats(corpus, tmp_path):
    from twjax.data.preprocessors import prefix_lm, span_corruption
    from twjax.data.sources import add_corpus
    from twjax.data.vocabulary import features

    both = features("inputs", "targets")
    add_corpus("laws_prefix", corpus, [prefix_lm], output_features=both)
    sentinels = features("inputs", "targets", extra_ids=64)
    add_corpus("laws_spans", corpus, [span_corruption], output_features=sentinels)
    prefix = cache.build(request(corpus, task=find_task("laws_prefix", {})), tmp_path)
    found = rows.RowReader(tmp_path, "laws_prefix", "train", 256).read(range(prefix.info.rows))
    for owners, weights in zip(found["segment_ids"], found["loss_weights"], strict=True):
        for segment in range(1, owners.max() + 1):
            mine = weights[owners == segment]
            # First what is given, then what is predicted; some of each.
            assert (np.diff(mine.astype(int)) >= 0).all() and mine[0] == 0 and mine[-1] == 1
    assert prefix.left_out == 0

    wanted = request(corpus, task=find_task("laws_spans", {}), row_format="encoder_decoder")
    assert wanted.row_length == (256, 58)
    spans = cache.build(wanted, tmp_path)
    reader = rows.RowReader(tmp_path, "laws_spans", "train", (256, 58))
    found = reader.read(range(len(reader)))
    assert found["inputs"].max() == spans.info.vocabulary["size"] - 1
    assert ((found["targets_segment_ids"] > 0) == (found["loss_weights"] == 1)).all()
    decoder = dataclasses.replace(wanted, row_format="decoder")
    lengths = decoder.sequence_length
    assert lengths["inputs"] + lengths["targets"] <= 256
    assert cache.build(decoder, tmp_path).left_out == 0


def test_examples_without_anything_to_predict_are_counted_and_listed(tmp_path, capsys):
    from twjax.data.preprocessors import prefix_lm
    from twjax.data.sources import add_corpus
    from twjax.data.vocabulary import features

    corpus = data_side.make_corpus(tmp_path / "long", ["甲乙丙丁" * 40, "短"], shards=1)
    both = features("inputs", "targets")
    add_corpus("too_long", corpus, [prefix_lm], output_features=both, validation=0.0)
    # The objective is told of 64 tokens and the rows have 16.
    task = find_task("too_long", {})
    wanted = Request(task, "train", 16, data_side.vocabulary())
    narrow = dataclasses.make_dataclass(
        "Narrow", [], bases=(Request,), frozen=True,
        namespace={"sequence_length": {"inputs": 64, "targets": 64}},
    )(**{f.name: getattr(wanted, f.name) for f in dataclasses.fields(wanted)})  # fmt: skip
    built = cache.build(narrow, tmp_path / "cache")
    assert built.left_out > 0 and built.info.documents == 1
    (listed,) = (tmp_path / "cache").rglob("left_out-*.jsonl")
    entries = [json.loads(line) for line in listed.read_text().splitlines()]
    assert len(entries) == built.left_out
    assert {entry["reason"] for entry in entries} == {"longer than a row"}
    assert f"{built.left_out} examples were left out" in capsys.readouterr().err


def test_rows_are_made_once_and_checked_without_reading_documents(corpus, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    assert cache.find(request(str(copy)), tmp_path) is None
    first = cache.build(request(str(copy)), tmp_path)
    shutil.rmtree(copy / "shards")
    again = cache.build(request(str(copy)), tmp_path)
    assert (first.fresh, again.fresh) == (True, False)
    assert again.info == first.info == cache.find(request(str(copy)), tmp_path)


def test_damaged_rows_are_made_again(corpus, tmp_path):
    built = cache.build(request(corpus), tmp_path)
    before = files(tmp_path)
    with open(built.path / built.info.files[0]["file"], "r+b") as file:
        file.truncate(1000)
    assert cache.build(request(corpus), tmp_path).fresh
    assert files(tmp_path) == before


def test_the_fingerprint_is_of_everything_that_decides_the_rows(corpus, tmp_path, monkeypatch):
    def fingerprint(**changes) -> str:
        return storage.sha256_json(request(corpus, **changes).ingredients())

    other = tmp_path / "other.model"
    shutil.copy(data_side.vocabulary(720), other)
    grown = data_side.make_corpus(tmp_path / "grown", [*DOCUMENTS, "新"])
    seen = [
        fingerprint(),
        fingerprint(split="validation"),
        fingerprint(seq_len=128),
        fingerprint(vocabulary=str(other)),
        fingerprint(task=CorpusTask("laws", Corpus(corpus, 0.5))),
        fingerprint(task=CorpusTask("laws", Corpus(grown))),
        fingerprint(task=CorpusTask("laws", Corpus(corpus), extra_ids=4)),
    ]
    monkeypatch.setattr("twjax.data.packing.VERSION", 999)
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen)
    monkeypatch.undo()
    moved = tmp_path / "moved"
    shutil.copytree(corpus, moved)
    assert storage.sha256_json(request(str(moved)).ingredients()) == seen[0], "not of the path"
    monkeypatch.setattr(documents, "VALIDATION", 0.3)
    assert fingerprint() == seen[0]


PREPROCESSORS = """
    import tensorflow as tf

    SUFFIX = {suffix!r}

    def shout(dataset):
        return dataset.map(lambda e: e | {{"text": tf.strings.join([e["text"], SUFFIX])}})
"""


def test_a_changed_preprocessor_makes_rows_stale(corpus, tmp_path, monkeypatch):
    import importlib

    from twjax.data.preprocessors import language_model
    from twjax.data.sources import add_corpus

    module = tmp_path / "shouting.py"
    module.write_text(textwrap.dedent(PREPROCESSORS).format(suffix="!"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    shouting = importlib.import_module("shouting")
    add_corpus("laws_shouted", corpus, [shouting.shout, language_model])
    wanted = request(corpus, task=find_task("laws_shouted", {}))
    first = cache.build(wanted, tmp_path / "cache")
    reader = rows.RowReader(tmp_path / "cache", "laws_shouted", "train", 256, config="x.gin")
    reader.verify(data_side.vocabulary())
    # The constant that the function names is part of its code.
    module.write_text(textwrap.dedent(PREPROCESSORS).format(suffix="?"))
    with pytest.raises(ValueError, match=r"shouting.shout has changed.*tasks cache x.gin"):
        reader.verify(data_side.vocabulary())
    second = cache.build(wanted, tmp_path / "cache")
    assert second.fresh and second.info.fingerprint != first.info.fingerprint
    with pytest.raises(ValueError, match="another vocabulary"):
        reader.verify(data_side.vocabulary(720))


def test_preprocessors_that_cant_be_stated_are_refused(corpus):
    import functools

    from twjax.data.preprocessors import language_model
    from twjax.data.sources import add_corpus

    bad = {
        "laws_lambda": (lambda dataset: dataset, "named function"),
        "laws_object": (functools.partial(language_model, field=object()), "plain values"),
        "laws_position": (functools.partial(language_model, None), "by name"),
    }
    for name, (step, message) in bad.items():
        add_corpus(name, corpus, [step])
        with pytest.raises(ValueError, match=message):
            find_task(name, {}).ingredients("train")


def test_sources_must_say_what_they_depend_on():
    import seqio

    from twjax.data.preprocessors import language_model
    from twjax.data.sources import add_task
    from twjax.data.vocabulary import features

    def nothing(split, shuffle_files):
        raise AssertionError

    source = seqio.FunctionDataSource(nothing, splits=["train"])
    add_task("unstated", source, [language_model], features("targets"))
    with pytest.raises(ValueError, match=r"FunctionDataSource can't say.*fingerprint"):
        find_task("unstated", {}).ingredients("train")


def test_unknown_tasks_are_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"No task absent: .*registered: "):
        find_task("absent", {})


KILLED = """
import sys
sys.path[:0] = {path!r}
import data_side
from twjax.data import cache, packing
from twjax.data.documents import Corpus
from twjax.data.examples import CorpusTask
from twjax.data.request import Request

packing.WINDOW = 1
cache.GROUP = 1
cache._ROWS_AT_ONCE = 2
if __name__ == "__main__":
    request = Request(CorpusTask("laws", Corpus({corpus!r})), "train", 64, {model!r})
    print("start", flush=True)
    cache.build(request, {out!r}, workers={workers})
    print("end", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_leaves_nothing_that_reads_as_whole(tmp_path, workers):
    many = [text for text in data_side.texts(count=200) for _ in range(8)]
    corpus = data_side.make_corpus(tmp_path / "corpus", many, shards=8)
    program, out = tmp_path / "build.py", tmp_path / "cache"
    values = {
        "path": [str(data_side.REPO), str(data_side.REPO / "tests")],
        "corpus": corpus,
        "model": data_side.vocabulary(),
        "workers": workers,
    }
    program.write_text(KILLED.format(out=str(out), **values))
    for delay in (0.05, 0.5, 1.2):
        process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"start\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        if process.communicate()[0]:
            shutil.rmtree(out)  # It was done before the signal: nothing to learn.
            continue
        with pytest.raises(FileNotFoundError, match="no cached rows"):
            rows.RowReader(out, "laws", "train", 64)
        assert not list(out.rglob("info.json"))
    reference = tmp_path / "reference"
    program.write_text(KILLED.format(out=str(reference), **values))
    subprocess.run([sys.executable, program], check=True)
    program.write_text(KILLED.format(out=str(out), **values))
    subprocess.run([sys.executable, program], check=True)
    # Nothing of the killed builds is left either.
    assert files(out) == files(reference)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize(("size", "stage"), [("24k", "tokens"), ("120k", "rows")])
def test_a_full_disk_is_one_clear_line_and_no_half_cache(
    tmp_path, monkeypatch, capsys, size, stage
):
    # Token ids of one shard at a time, so that the larger disk fills up with rows.
    monkeypatch.setattr(cache, "GROUP", 1)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        corpus = data_side.make_corpus(tmp_path / "corpus", data_side.texts(count=150), 8)
        with pytest.raises(OSError, match="No space left on device while caching laws") as error:
            cache.build(request(corpus), disk)
        assert "\n" not in str(error.value)
        left = [path for path in disk.rglob("*") if path.is_file()]
        assert left == []
        assert ("rows" in capsys.readouterr().err) == (stage == "rows")
    finally:
        subprocess.run(["umount", disk], check=True)
