"""The Beam runner gives the bytes of the local one, in one process and in several."""

import json
import pathlib
import random

import pytest

from tests.corpus_side import Replace, SeenLines
from twjax.corpus import pipeline
from twjax.corpus.duplicates.dedup import ExactDedup
from twjax.corpus.licensing import LicensePolicy
from twjax.corpus.sources import reading
from twjax.corpus.text.length import MinLength

apache_beam = pytest.importorskip("apache_beam", reason="twjax[beam] has an environment of its own")
from twjax.corpus.running import beam  # noqa: E402

REPO = pathlib.Path(__file__).parent.parent
SEVERAL = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


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


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("inputs")
    draw = random.Random(0)
    lines = [f"第{i}行" for i in range(90)]
    names = []
    for number in range(3):
        rows = [
            json.dumps({"id": f"{number}-{i}", "text": "\n".join(draw.choices(lines, k=1 + i % 3)),
                        "license": draw.choice(["MIT", "CC BY-NC 4.0", "?"])})
            for i in range(40 + 30 * number)
        ]  # fmt: skip
        path = folder / f"in-{number}.jsonl"
        path.write_text("\n".join([*rows, '{"text": ']), encoding="utf-8")
        names.append(str(path))
    return tuple(names)


def make(inputs: tuple[str, ...], output: pathlib.Path) -> pipeline.Corpus:
    steps = (LicensePolicy(), Replace(pairs=("行=航",)), SeenLines(), MinLength(characters=3),
             ExactDedup(), ExactDedup(form="exact"))  # fmt: skip
    return pipeline.Corpus(
        name="t", inputs=inputs, output=str(output), steps=steps, shard_bytes=2000
    )


@pytest.fixture(scope="module")
def reference(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    before, reading.PIECE_BYTES = reading.PIECE_BYTES, 1500
    yield contents(pipeline.build(make(inputs, folder / "out"), workers=1).folder)
    reading.PIECE_BYTES = before


def build(inputs, tmp_path, options=(), work="") -> pipeline.Built:
    def run(job):
        return beam.run(job, options, work)

    return pipeline.build(make(inputs, tmp_path / "out"), runner=run)


def test_one_process_gives_the_same_bytes(inputs, reference, tmp_path):
    built = build(inputs, tmp_path)
    assert contents(built.folder) == reference
    assert len(reference["manifest"]["shards"]) > 1
    run = built.manifest["run"]
    assert run["runner"] == "beam" and list(run["cpu_seconds"])[1:4] == [
        "license_policy", "replace", "seen_lines",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_several_processes_give_the_same_bytes(inputs, reference, tmp_path, monkeypatch):
    # Workers are started as programs: they find the steps of the tests by this.
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    assert contents(build(inputs, tmp_path, SEVERAL).folder) == reference


def test_workers_that_share_no_folder_give_the_same_bytes(inputs, reference, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    far = tmp_path / "far"
    built = build(inputs, tmp_path, SEVERAL, work=f"file://{far}")
    assert contents(built.folder) == reference
    assert not list(far.iterdir())


def test_a_failed_pipeline_is_one_line_and_continues(inputs, reference, tmp_path, monkeypatch):
    reduce = ExactDedup.reduce

    def fail(self, round, records, scratch):
        if self.form == "exact":
            raise OSError(28, "No space left on device", str(scratch / "x"))
        return reduce(self, round, records, scratch)

    monkeypatch.setattr(ExactDedup, "reduce", fail)
    with pytest.raises(RuntimeError, match=r"The Beam pipeline failed: .*No space left") as failed:
        build(inputs, tmp_path)
    assert "\n" not in str(failed.value)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("unit-*-stage-1.json")}
    assert len(done) > 5
    monkeypatch.undo()
    monkeypatch.setattr(reading, "PIECE_BYTES", 1500)
    monkeypatch.setattr(Replace, "apply", None)  # Nobody is to do this again.
    assert contents(build(inputs, tmp_path).folder) == reference
