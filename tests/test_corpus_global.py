"""Steps that need all documents: the same outcome for any cut, any worker, and any crash."""

import collections
import dataclasses
import importlib
import inspect
import itertools
import json
import os
import pathlib
import pkgutil
import random
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twjax.corpus
from tests.corpus_side import CRASH, STEPS, Replace, SeenLines, WrongCount, expected, pairs
from twjax.cli import main
from twjax.corpus import document, excerpts, pipeline
from twjax.corpus.document import Document
from twjax.corpus.running import parts, units
from twjax.corpus.sources import reading
from twjax.corpus.step import Records, Step
from twjax.corpus.text.length import MinLength

REPO = pathlib.Path(__file__).parent.parent


def texts(number: int, seed: int = 0) -> list[str]:
    """Documents of one to four lines out of few, so that many lines occur again."""
    draw = random.Random(seed)
    lines = [f"第{i}行" for i in range(number)]
    return ["\n".join(draw.choices(lines, k=draw.randint(1, 4))) for _ in range(number)]


def write(folder: pathlib.Path, values: list[str], files: int = 3) -> tuple[str, ...]:
    names = []
    size = -(-len(values) // files)
    for number, low in enumerate(range(0, len(values), size)):
        path = folder / f"in-{number}.jsonl"
        rows = [
            json.dumps({"id": f"d{i}", "text": t}, ensure_ascii=False)
            for i, t in enumerate(values[low : low + size], start=low)
        ]
        # A run of broken lines, so that some units have no document.
        path.write_text("\n".join([*rows, *["{"] * 40]), encoding="utf-8")
        names.append(str(path))
    return tuple(names)


def rows(folder: pathlib.Path, kind: str) -> list[dict]:
    return [
        r for path in sorted((folder / kind).glob("*")) for r in pq.read_table(path).to_pylist()
    ]


def contents(folder: pathlib.Path) -> dict[str, object]:
    found: dict[str, object] = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*.*")
        if path.suffix in (".parquet", ".md")
    }
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name in ("run", "ingredients", "ingredients_sha256"):
        del manifest[name]
    return {**found, "manifest": manifest}


def make(tmp_path, names, steps=STEPS, output="out", **settings) -> pipeline.Corpus:
    return pipeline.Corpus(
        name="t", inputs=names, output=str(tmp_path / output), steps=steps, **settings
    )


@pytest.mark.parametrize("piece_bytes", [60, 700, 1 << 20])
def test_all_rounds_see_all_documents(tmp_path, monkeypatch, piece_bytes):
    monkeypatch.setattr(reading, "PIECE_BYTES", piece_bytes)
    values = texts(150)
    documents = [Document(id=f"d{i}", text=t, source="", license="", lang="")
                 for i, t in enumerate(values)]  # fmt: skip
    kept, gone = expected(documents)
    built = pipeline.build(make(tmp_path, write(tmp_path, values), (SeenLines(),)), workers=1,
                           budget_bytes=1)  # fmt: skip
    assert [d.text for d in document.read_corpus(built.folder)] == kept
    found = {r["id"]: r["value"] for r in rows(built.folder, "rejected") if r["reason"] == "seen"}
    assert found == gone and len(gone) > 30
    alone = SeenLines().apply(documents)
    assert [d.text for d in alone.kept] == kept
    assert {r.document.id: r.value for r in alone.rejected} == gone
    (step,) = built.manifest["steps"]
    assert (step["in"], step["out"], step["rejected"]) == (150, len(kept), {"seen": len(gone)})
    assert step["edits"]["seen"]["count"] == sum(text[0] == "〃" for text in kept)


def test_workers_change_no_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", 1500)
    names = write(tmp_path, texts(200))
    settings = {"shard_bytes": 900}
    one = pipeline.build(make(tmp_path, names, output="one", **settings), workers=1)
    two = pipeline.build(make(tmp_path, names, output="two", **settings), workers=2)
    assert contents(one.folder) == contents(two.folder)
    assert all(len(one.manifest[kind]) > 1 for kind in parts.KINDS)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["one", "two"]


def test_edits_are_written_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", 500)
    built = pipeline.build(make(tmp_path, write(tmp_path, texts(80))), workers=1)
    edits = rows(built.folder, "changes")
    assert {e["step"] for e in edits} == {"replace", "seen_lines", "replace.2"}
    assert [field.name for field in units.CHANGES_SCHEMA] == list(edits[0])
    counted = pairs(edits)
    for label, step in zip(
        ["replace", "seen_lines", "replace.2"], built.manifest["steps"], strict=False
    ):
        for kind, entry in step["edits"].items():
            mine = {key[2:]: n for key, n in counted.items() if key[:2] == (label, kind)}
            assert entry["count"] == sum(mine.values())
            listed = [(tuple(row[:2]), row[2]) for row in entry["frequent"]]
            assert dict(listed).items() <= mine.items()
            assert [n for _, n in listed] == sorted(mine.values(), reverse=True)[:20]
    # What the first step did can be found in what it left.
    left = {
        d["id"]: d["text"] for d in [*rows(built.folder, "shards"), *rows(built.folder, "rejected")]
    }
    undone = [e for e in edits if e["step"] == "replace.2"]
    assert undone and all(left[e["id"]][e["start"]] == e["after"] for e in undone)
    assert sum(entry["edits"] for entry in built.manifest["changes"]) == len(edits)


def test_cards_show_what_was_left_out_of_any_shards(tmp_path):
    names = write(tmp_path, texts(80))
    seen = []
    for shard_bytes in (500, 1 << 20):
        corpus = make(tmp_path, names, output=f"out-{shard_bytes}", shard_bytes=shard_bytes)
        built = pipeline.build(corpus, workers=1)
        found = excerpts.draw(built.folder, built.manifest)
        gone = {r["id"]: r for r in rows(built.folder, "rejected")}
        assert all(
            (e.reason, e.value) == (gone[e.id]["reason"], gone[e.id]["value"]) for e in found
        )
        assert collections.Counter(e.reason for e in found) == {"seen": 3, "not JSON": 3}
        seen.append(found)
        for name in excerpts.NAMES.values():
            told = (built.folder / name).read_text(encoding="utf-8")
            assert "seen" in told and "not JSON" in told
    assert seen[0] == seen[1]


SCRIPT = """
import pathlib, sys
from tests.corpus_side import STEPS
from twjax.corpus import pipeline
from twjax.corpus.sources import reading

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    reading.PIECE_BYTES = 1500
    names = tuple(str(path) for path in sorted(folder.glob("*.jsonl")))
    output = str(folder / "out")
    pipeline.build(pipeline.Corpus(name="t", inputs=names, output=output, steps=STEPS), workers=1)
"""


def test_a_build_killed_anywhere_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", 1500)
    names = write(tmp_path, texts(200))
    (tmp_path / "build.py").write_text(SCRIPT)
    switch = tmp_path / "crash"
    environment = {**os.environ, "PYTHONPATH": str(REPO), CRASH: str(switch)}
    command = [sys.executable, str(tmp_path / "build.py"), str(tmp_path)]
    seen: set[str] = set()
    for point in ("map 0", "reduce 0", "map 1", "reduce 1", "decide"):
        switch.write_text(point)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        now = {path.name for path in tmp_path.glob(".out.building/*/*stage-[0-9].json")}
        now |= {path.name for path in tmp_path.glob(".out.building/*/*round-[0-9].json")}
        assert seen <= now
        seen = now
    assert {"stage-0-round-0.json", "stage-0-round-1.json"} <= seen
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fresh = pipeline.build(make(tmp_path, names, output="fresh"), workers=1)
    assert contents(tmp_path / "out") == contents(fresh.folder)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("more", [-1, 1])
def test_a_request_for_each_unit_is_due(tmp_path, monkeypatch, more):
    monkeypatch.setattr(reading, "PIECE_BYTES", 300)
    corpus = make(tmp_path, write(tmp_path, texts(30)), (WrongCount(more=more),))
    with pytest.raises(RuntimeError, match=r"wrong_count: reduce of round 0 gave \d+ requests"):
        pipeline.build(corpus, workers=1)


def test_a_failing_step_names_the_document(tmp_path):
    names = write(tmp_path, ["一", "二", "炸"], files=1)
    with pytest.raises(RuntimeError, match=r"replace\.2 failed on document d2: AssertionError"):
        steps = (Replace(pairs=("一=二",)), Replace(pairs=("炸=",)))
        pipeline.build(make(tmp_path, names, steps), workers=1)


def test_the_command_builds_inputs_and_sources_and_refuses_other_runners_options(tmp_path, capsys):
    config = tmp_path / "x.gin"
    config.write_text(
        f"Corpus.name = 't'\nCorpus.inputs = {write(tmp_path, ['一'], 1)}\n"
        f"Corpus.sources = (@other/Source(),)\nother/Source.path = '{tmp_path}/*.txt'\n"
        "other/Source.license = 'CC-BY-NC-4.0'\n"
        f"Corpus.output = '{tmp_path / 'out'}'\nCorpus.steps = (@LicensePolicy(),)\n"
    )
    (tmp_path / "a.txt").write_text("文", encoding="utf-8")
    assert main(["corpus", "build", str(config), "--beam=--runner=FlinkRunner"]) == 1
    assert "--runner beam" in capsys.readouterr().err
    assert main(["corpus", "build", str(config), "--work", "gs://x"]) == 1
    assert "--runner beam" in capsys.readouterr().err
    assert main(["corpus", "build", str(config), "--memory", "1"]) == 0
    assert "1 documents" in (told := capsys.readouterr().out) and "licence refused: 1" in told
    inputs = json.loads((tmp_path / "out" / "manifest.json").read_text())["inputs"]
    assert [(each["records"], each.get("settings")) for each in inputs] == [
        (41, None), (1, {"license": "CC-BY-NC-4.0"}),
    ]  # fmt: skip


def test_nothing_is_left_for_a_global_step(tmp_path):
    corpus = make(tmp_path, write(tmp_path, ["一", "二"]), (MinLength(characters=9), SeenLines()))
    with pytest.raises(ValueError, match=r"no document is left.*too short.*2"):
        pipeline.build(corpus, workers=1)
    assert SeenLines().apply([]).kept == []


def test_processor_time_is_told_by_step(tmp_path):
    built = pipeline.build(make(tmp_path, write(tmp_path, texts(20))), workers=1)
    seconds = built.manifest["run"]["cpu_seconds"]
    labels = ["replace", "seen_lines", "replace.2", "exact_dedup", "min_length"]
    assert list(seconds) == ["read", *labels, "write"]
    assert all(value >= 0 for value in seconds.values()) and seconds["write"] > 0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 300), max_size=8), max_size=8), st.integers(1, 2000))
def test_parts_are_cut_alike_however_files_are(files, part_bytes):
    def lengths(joins: list[parts.Join]) -> list[int]:
        return [sum(stop - start for _, start, stop in join.slices) for join in joins]

    def plan(values: list[list[int]]) -> list[parts.Join]:
        sources = [parts.Source(str(i), len(v), sum(v)) for i, v in enumerate(values)]
        each = [np.array(v, np.int64) + parts.ROW_BYTES for v in values]
        return parts.plan(REPO, "shards", sources, part_bytes, lambda name: each[int(name)])

    whole = [n for sizes in files for n in sizes]
    cut = plan(files)
    assert lengths(cut) == lengths(plan([whole]))
    assert sum(lengths(cut)) == len(whole) and 0 not in lengths(cut)
    # All rows, each once, in order.
    listed = [(name, i) for join in cut for name, a, b in join.slices for i in range(a, b)]
    assert listed == [(str(f), i) for f, sizes in enumerate(files) for i in range(len(sizes))]
    # Without its last row no part is larger than asked for.
    bounds = list(itertools.accumulate(lengths(cut), initial=0))
    for low, high in itertools.pairwise(bounds):
        assert sum(n + parts.ROW_BYTES for n in whole[low : high - 1]) <= part_bytes


def test_records_are_cut_into_requests(tmp_path):
    kind = np.dtype([("document", "<u4"), ("x", "<u2")])
    np.save(tmp_path / "b.npy", np.array([(1, 7)], kind))
    np.save(tmp_path / "d.npy", np.empty(0, kind))
    arrays = [np.array([(0, 5), (0, 6)], kind), None, str(tmp_path / "b.npy"), tmp_path / "d.npy"]
    records = Records(arrays, [2, 0, 3, 1])
    assert records.documents == 6 and records.starts.tolist() == [0, 2, 2, 5]
    assert [unit.tolist() for unit in records] == [[(0, 5), (0, 6)], [], [(1, 7)], []]
    assert records[1].dtype == kind and isinstance(records[2], np.memmap)
    keeper = np.arange(5, dtype=np.int64) * 10
    found = records.requests(np.array([1, 1, 2, 4, 5]), keeper=keeper)
    assert [r.tolist() for r in found] == [
        [(1, 0), (1, 10)], [], [(0, 20), (2, 30)], [(0, 40)],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="2 arrays of records for 1 units"):
        Records([None, None], [1])


def test_all_steps_are_registered_and_configurable():
    from twjax.corpus.registry import STEPS as registered

    modules = pkgutil.walk_packages(twjax.corpus.__path__, "twjax.corpus.")
    names = [m.name for m in modules if not m.name.endswith((".beam", "_fit"))]
    found = set()
    for name in names:
        module = importlib.import_module(name)
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, Step) and not inspect.isabstract(value):
                found.add(value)
    found = {step for step in found if step.__module__.startswith("twjax.")}
    assert found == set(registered)
    assert not [
        n for n, count in collections.Counter(s.name for s in registered).items() if count > 1
    ]
    for step in registered:
        assert dataclasses.is_dataclass(step) and step.__doc__


def test_the_local_runner_does_without_beam():
    code = (
        "import sys; import twjax.corpus.pipeline, twjax.corpus.registry\n"
        "assert not {'apache_beam', 'fsspec'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
