"""Prepared TensorFlow Datasets as inputs of a build: array_record, TFRecord, what is missing."""

from __future__ import annotations

import builtins
import json
import os
import shutil
import subprocess
import sys
import textwrap

import corpus_side
import pytest

from twjax.corpus import pipeline
from twjax.corpus.document import read_corpus
from twjax.corpus.sources import formats, places, reading, tfds

TEXTS = [f"第{i}篇：臺灣的軟體工程師在網路上分享影片。" * (1 + i % 3) for i in range(23)]

# TFDS's own builder writes the files, in a process of its own: it imports TensorFlow.
PREPARE = """
    import json, sys
    import numpy as np
    import tensorflow_datasets as tfds

    class Wiki(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("3.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="zh-tw")]

        def _info(self):
            features = {
                "text": tfds.features.Text(),
                "title": tfds.features.Text(),
                "number": tfds.features.Scalar(np.int64),
                "tags": tfds.features.Sequence(tfds.features.Text()),
                "picture": tfds.features.Tensor(shape=(2, 2), dtype=np.uint8),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples(), "test": self._generate_examples(3)}

        def _generate_examples(self, limit=None):
            for number, text in enumerate(json.loads(sys.argv[3])[:limit]):
                yield number, {
                    "text": text, "title": f"題{number}", "number": number, "tags": ["甲", "乙"],
                    "picture": np.zeros((2, 2), np.uint8),
                }

    builder = Wiki(data_dir=sys.argv[1], file_format=sys.argv[2], config="zh-tw")
    config = tfds.download.DownloadConfig(num_shards=3)
    builder.download_and_prepare(download_config=config)
"""


@pytest.fixture(scope="module", params=["array_record", "tfrecord"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    script = tmp_path_factory.mktemp("script") / "prepare.py"
    script.write_text(textwrap.dedent(PREPARE), "utf-8")
    subprocess.run(
        [sys.executable, script, path, request.param, json.dumps(TEXTS)],
        check=True, capture_output=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    return path


def place(folder, split="train", name="wiki/zh-tw:3.0.0"):
    return f"tfds:{name}#{split}?data_dir={folder}"


def read(path, piece_bytes=1 << 20, **settings):
    source = formats.Source(path=path, **settings)
    reading.check_format(path, source)
    kept, rejected, consumed = [], [], 0
    for piece in reading.pieces(path, path, piece_bytes, source):
        documents, rejections = reading.read(piece)
        kept += documents
        rejected += rejections
        consumed += piece.consumed
    assert consumed == places.size(path) > 0
    return kept, rejected


@pytest.mark.slow
def test_every_example_is_a_document_however_it_is_cut(folder):
    kept, rejected = read(place(folder))
    assert not rejected and sorted(d.text for d in kept) == sorted(TEXTS)
    assert [d.id for d in kept] == [f"tfds:wiki/zh-tw:3.0.0#train:{i + 1}" for i in range(23)]
    first = next(d for d in kept if d.text == TEXTS[4])
    assert first.meta == {"number": "4", "tags": '["甲", "乙"]', "title": "題4"}
    assert read(place(folder), piece_bytes=600)[0] == kept
    # Parts of a split, another field, and the newest version.
    assert [d.text for d in read(place(folder, "train[3:20]"), 600)[0]] == [
        d.text for d in kept[3:20]
    ]
    titles, _ = read(place(folder, "test", "wiki/zh-tw"), text="{title}：{number}", lang="zh-TW")
    assert (
        sorted(d.text for d in titles) == [f"題{i}：{i}" for i in range(3)]
        and titles[0].lang == "zh-TW"
    )


def test_a_build_reads_a_dataset_and_knows_when_it_changed(folder, tmp_path):
    def corpus():
        return pipeline.Corpus(
            name="wiki", inputs=(place(folder),), output=str(tmp_path / "out"),
            steps=(corpus_side.Replace(pairs=("影片=影像",)),),
        )  # fmt: skip

    built = pipeline.build(corpus(), workers=1)
    texts = [d.text for d in read_corpus(built.folder)]
    assert sorted(texts) == sorted(text.replace("影片", "影像") for text in TEXTS)
    assert built.manifest["counts"]["records"] == 23
    assert not pipeline.build(corpus(), workers=1).fresh
    before = places.sha256(place(folder))
    assert before != places.sha256(place(folder, "test"))
    assert places.expand(place(folder, "train[:50%]")) == [place(folder, "train[:50%]")]


@pytest.mark.slow
def test_array_record_needs_no_tensorflow(folder):
    script = (
        "import sys\nfrom twjax.corpus.sources import tfds\n"
        f"assert len(list(tfds.records({place(folder)!r}, 0, 5))) == 5\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(folder.name.startswith("tfrecord"))


def test_a_damaged_file_is_quarantined(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for path in copy.rglob("wiki-train*"):
        path.write_bytes(path.read_bytes()[:40])
    kept, rejected = read(place(copy))
    assert not kept and [r.reason for r in rejected] == ["damaged file"]
    assert rejected[0].document.id == "tfds:wiki/zh-tw:3.0.0#train:group 0"


@pytest.mark.parametrize(
    ("name", "split", "text", "message"),
    [
        ("wiki/zh-tw:3.0.0", "dev", "text", r"no split 'dev'; there are test, train"),
        ("wiki/zh-tw:9.0.0", "train", "text", r"not prepared in .*run `tfds build wiki/zh-tw:9"),
        ("nothing", "train", "text", r"tfds:nothing#train.*not prepared"),
        ("wiki/zh-tw", "train", "body", r"no field 'body'; set Source.text to .*text"),
        ("wiki/zh-tw", "train", "{title} {x}", r"no field 'x'"),
        ("wiki/zh-tw", "", "text", r"it must read tfds:NAME/CONFIG:VERSION#SPLIT"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(folder, name, split, text, message):
    with pytest.raises(ValueError, match=message) as told:
        read(place(folder, split, name), text=text)
    assert "\n" not in str(told.value)


def test_a_missing_package_is_named(folder, monkeypatch):
    load = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("tensorflow_datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, *arguments, **keywords)

    tfds.find.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"needs tensorflow-datasets; `pip install tensorflow-dat"):
        tfds.check(place(folder), "text")
