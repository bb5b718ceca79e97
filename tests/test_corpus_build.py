"""A build gives the same bytes however it is run, and loses nothing when it is stopped."""

import contextlib
import gzip
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from twjax.corpus import document, pipeline
from twjax.corpus.conversion.convert import ConvertSimplified
from twjax.corpus.duplicates.dedup import ExactDedup
from twjax.corpus.sources import reading
from twjax.corpus.text.length import MinLength
from twjax.corpus.text.normalize import NormalizeText

REPO = pathlib.Path(__file__).parent.parent
TEXTS = REPO / "configs" / "corpora" / "texts"

# Runs a build in a process of its own: argv is inputs' folder, output, workers.
SCRIPT = """
import pathlib, sys
from twjax.corpus import pipeline
from twjax.corpus.conversion.convert import ConvertSimplified
from twjax.corpus.duplicates.dedup import ExactDedup
from twjax.corpus.text.length import MinLength
from twjax.corpus.text.normalize import NormalizeText

if __name__ == "__main__":
    folder, output, workers = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    steps = (NormalizeText(), ConvertSimplified(), ExactDedup(), MinLength(characters=150))
    names = tuple(sorted(path.name for path in folder.iterdir()))
    corpus = pipeline.Corpus(
        name="t", inputs=names, output=output, steps=steps, shard_bytes=300_000
    )
    try:
        pipeline.build(corpus, locate=lambda name: folder / name, workers=workers)
    except OSError as error:
        if error.errno is None:
            raise
        sys.exit(f"{error.strerror}: {error.filename}")
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> pathlib.Path:
    """Real texts in 24 files, with copies across files and broken lines."""
    lines = []
    for name, every in (("tw_laws", 6), ("cn_general", 8), ("tw_drcd", 8)):
        with gzip.open(TEXTS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            lines += list(file)[::every]
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(24):
        mine = lines[number::24]
        mine.append(lines[(number * 7) % 24])  # A copy of another file's line.
        mine.insert(1, '{"broken": ')
        text = "\n".join(line.strip() for line in mine)
        (folder / f"{number:02d}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("script") / "build.py"
    path.write_text(SCRIPT)
    return path


def start(script, inputs, output, workers=1) -> subprocess.Popen:
    command = [sys.executable, script, inputs, output, str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def contents(output: pathlib.Path) -> dict[str, bytes | dict]:
    """All bytes of a corpus folder, less what only says how the build went."""
    found: dict = {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*.*"))
        if path.suffix in (".parquet", ".md")
    }
    manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    # The ingredients name the source's hash, which an editor may change meanwhile.
    for name in ("run", "ingredients", "ingredients_sha256"):
        del manifest[name]
    return {**found, "manifest": manifest}


@pytest.fixture(scope="module")
def reference(script, inputs, tmp_path_factory):
    output = tmp_path_factory.mktemp("reference") / "corpus"
    process = start(script, inputs, output)
    assert process.wait(120) == 0, process.communicate()[1]
    return contents(output)


def test_the_counts_add_up(reference):
    manifest = reference["manifest"]
    counts = manifest["counts"]
    assert counts["records"] == counts["documents"] + sum(counts["rejected"].values())
    assert counts["rejected"]["not JSON"] == 24 and counts["rejected"]["exact duplicate"] == 24
    assert sum(shard["documents"] for shard in manifest["shards"]) == counts["documents"]
    assert sum(shard["bytes"] for shard in manifest["shards"]) == counts["bytes"]
    licenses = manifest["licenses"].values()
    assert sum(entry["documents"] for entry in licenses) == counts["documents"]
    assert sum(entry["bytes"] for entry in licenses) == counts["bytes"]
    assert sum(part["documents"] for part in manifest["rejected"]) == sum(
        counts["rejected"].values()
    )
    before = counts["documents_in"]
    for step in manifest["steps"]:
        assert step["in"] == before
        before = step["out"]
        assert step["in"] == step["out"] + sum(step["rejected"].values())
    assert before == counts["documents"]
    assert (
        manifest["steps"][1]["changed"]["documents"]
        == manifest["steps"][1]["in"] - (manifest["steps"][1]["changed"]["left traditional"])
    )
    assert max(shard["bytes"] for shard in manifest["shards"]) < 400_000
    assert len(manifest["shards"]) >= 3


@pytest.mark.slow
def test_workers_change_no_byte(script, inputs, reference, tmp_path):
    process = start(script, inputs, tmp_path / "corpus", workers=2)
    assert process.wait(120) == 0, process.communicate()[1]
    assert contents(tmp_path / "corpus") == reference
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [
            int(c) for c in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_killed_build_continues_and_gives_the_same_bytes(script, inputs, reference, tmp_path):
    output, work = tmp_path / "corpus", tmp_path / ".corpus.building"
    done: dict[pathlib.Path, int] = {}
    for _ in range(2):
        process = start(script, inputs, output, workers=2)
        goal = len(done) + 6
        while process.poll() is None:
            now = {path: path.stat().st_mtime_ns for path in work.glob("*/unit-*-stage-[0-9].json")}
            if len(now) >= goal:
                break
            time.sleep(0.005)
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not output.exists()
        # What an earlier run finished was not done again.
        assert done.items() <= now.items()
        deadline = time.monotonic() + 20
        while any(map(alive, workers)):
            assert time.monotonic() < deadline, "workers outlive a killed parent"
            time.sleep(0.05)
        done = {path: path.stat().st_mtime_ns for path in work.glob("*/unit-*-stage-[0-9].json")}
    assert len(done) >= 10
    process = start(script, inputs, output, workers=2)
    assert process.wait(120) == 0, process.communicate()[1]
    assert contents(output) == reference
    assert not work.exists()


def test_a_full_disk_is_one_clear_error_and_can_be_continued(script, inputs, reference, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here; a limit on file sizes is tested below")
    try:
        process = start(script, inputs, disk / "corpus")
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        last = errors.strip().splitlines()[-1]
        assert "No space left" in last and str(disk) in last and "run again" in last
        assert not (disk / "corpus").exists()
        assert not list(disk.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        process = start(script, inputs, disk / "corpus")
        assert process.wait(120) == 0, process.communicate()[1]
        assert contents(disk / "corpus") == reference
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_file_that_can_not_grow_is_one_clear_error(script, inputs, tmp_path):
    import resource

    command = [sys.executable, script, inputs, tmp_path / "corpus", "1"]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(REPO), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "No space left" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "corpus").exists()
    assert not list(tmp_path.rglob("*.tmp"))


def make(tmp_path, texts, **settings) -> pipeline.Corpus:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    settings = {
        "steps": (NormalizeText(), ExactDedup()),
        "output": str(tmp_path / "out"),
        **settings,
    }
    return pipeline.Corpus(name="t", inputs=(str(path),), **settings)


def test_an_unchanged_corpus_is_left_and_a_changed_one_is_built(tmp_path):
    corpus = make(tmp_path, ["一", "二"])
    first = pipeline.build(corpus, workers=1)
    again = pipeline.build(corpus, workers=1)
    assert (first.fresh, again.fresh) == (True, False)
    assert again.manifest == first.manifest
    assert pipeline.build(corpus, workers=1, fresh=True).fresh
    # Another parameter, another input, a damaged or a missing shard: each is noticed.
    steps = (NormalizeText(width="fold"), ExactDedup())
    assert pipeline.build(make(tmp_path, ["一", "二"], steps=steps), workers=1).fresh
    changed = make(tmp_path, ["一", "三"], steps=steps)
    built = pipeline.build(changed, workers=1)
    assert built.fresh and [d.text for d in document.read_corpus(built.folder)] == ["一", "三"]
    shard = document.corpus_shards(built.folder)[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    assert pipeline.build(changed, workers=1).fresh
    shard.unlink()
    with pytest.raises(ValueError, match=r"part-00000.*missing"):
        document.corpus_shards(built.folder)
    assert pipeline.build(changed, workers=1).fresh
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out"]


@pytest.mark.parametrize("piece_bytes, shard_bytes", [(50, 100), (400, 1_000), (1 << 20, 1 << 20)])
def test_dedup_does_not_depend_on_pieces_or_shards(tmp_path, monkeypatch, piece_bytes, shard_bytes):
    monkeypatch.setattr(reading, "PIECE_BYTES", piece_bytes)
    texts = [f"第 {i * i % 37} 條" for i in range(120)]
    steps = (ExactDedup(), MinLength(characters=4), ExactDedup(form="exact"))
    built = pipeline.build(make(tmp_path, texts, shard_bytes=shard_bytes, steps=steps), workers=1)
    expected = list(dict.fromkeys(t for t in texts if len(t.replace(" ", "")) >= 4))
    assert [d.text for d in document.read_corpus(built.folder)] == expected
    first = {text: f"{tmp_path}/in.jsonl:{texts.index(text) + 1}" for text in texts}
    for path in sorted((built.folder / "rejected").iterdir()):
        for row in pq.read_table(path).to_pylist():
            if row["reason"] == "exact duplicate":
                assert row["value"] == first[row["text"]] and row["id"] != row["value"]
            else:
                assert (row["reason"], row["value"]) == ("too short", "3")
    assert built.manifest["counts"]["documents"] == len(expected)


def test_a_missing_input_is_said_before_any_work(tmp_path):
    corpus = make(tmp_path, ["一"])
    gone = pipeline.Corpus(name="t", inputs=(*corpus.inputs, "gone.jsonl"), output=corpus.output,
                           steps=corpus.steps)  # fmt: skip
    with pytest.raises(ValueError, match=r"gone\.jsonl"):
        pipeline.build(gone)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_empty_result_and_a_foreign_folder_are_errors(tmp_path):
    steps = (MinLength(characters=10),)
    with pytest.raises(ValueError, match=r"no document is left.*too short.*2"):
        pipeline.build(make(tmp_path, ["一", "二"], steps=steps), workers=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds something that is no corpus"):
        pipeline.build(make(tmp_path, ["一"]), workers=1)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


def test_two_builds_of_one_output_do_not_mix(tmp_path):
    corpus = make(tmp_path, ["一"])
    locked = pipeline._lock(tmp_path / ".out.building")
    with locked, pytest.raises(ValueError, match="another process"):
        pipeline.build(corpus, workers=1)
    assert pipeline.build(corpus, workers=1).fresh


def test_steps_are_described_with_versions(tmp_path):
    import opencc

    steps = (ConvertSimplified(threshold=0.9),)
    built = pipeline.build(make(tmp_path, ["汉语拼音这个"], steps=steps), workers=1)
    (step,) = built.manifest["steps"]
    assert step["name"] == "convert_simplified"
    assert step["parameters"] == steps[0].parameters()
    assert step["parameters"]["threshold"] == 0.9
    assert step["versions"] == steps[0].versions()
    assert opencc.__version__ in step["versions"]["opencc"]
    assert step["changed"]["documents"] == 1
