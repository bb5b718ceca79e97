"""Cached rows: round trips, whole-or-absent directories, and clear errors for damage."""

from __future__ import annotations

import importlib
import os
import pathlib
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.data import rows

VOCAB = 100
TOKEN_BYTES = np.arange(VOCAB, dtype=np.int32) % 5


def decoder_rows(n: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    segments = np.sort(rng.integers(1, 4, (n, length)), axis=1)
    segments[:, -1] = 0
    tokens = rng.integers(0, VOCAB, (n, length)) * (segments > 0)
    weights = rng.integers(0, 2, (n, length)) * (segments > 0)
    return {"tokens": tokens, "segment_ids": segments, "loss_weights": weights}


def write_cache(
    cache: pathlib.Path,
    features: dict[str, np.ndarray],
    *,
    task: str = "laws",
    fingerprint: str = "f0",
    preprocessors: tuple[dict, ...] = (),
    vocabulary: dict | None = None,
    rows_per_file: int | None = None,
) -> rows.Info:
    length = features["tokens"].shape[1]
    with rows.RowWriter(
        cache,
        task,
        "train",
        length,
        fingerprint,
        token_bytes=TOKEN_BYTES,
        rows_per_file=rows_per_file,
    ) as writer:
        writer.write(features)
        return writer.finish(
            documents=7,
            text_bytes=1000,
            vocabulary=vocabulary or {"sha256": "0", "size": VOCAB, "path": "absent.model"},
            ingredients={"preprocessors": list(preprocessors)},
        )


@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**32))
def test_decoder_rows_survive_encoding_byte_by_byte(n: int, length: int, seed: int) -> None:
    dtype = rows.row_dtype("decoder", length)
    assert dtype.itemsize == 9 * length
    features = decoder_rows(n, length, seed)
    records = rows.encode(features, dtype)
    # The layout that the format promises, without numpy's structs.
    for i, record in enumerate(records):
        expected = b"".join(
            features[name][i].astype(kind).tobytes()
            for name, kind in (("tokens", "<i4"), ("segment_ids", "<i4"), ("loss_weights", "u1"))
        )
        assert record == expected
    decoded = rows.decode(records, dtype)
    assert {name: array.dtype.name for name, array in decoded.items()} == {
        "tokens": "int32",
        "segment_ids": "int32",
        "loss_weights": "uint8",
    }
    for name, array in features.items():
        np.testing.assert_array_equal(decoded[name], array)


def test_encoder_decoder_rows_survive_encoding() -> None:
    dtype = rows.row_dtype("encoder_decoder", (6, 3))
    rng = np.random.default_rng(0)
    features = {name: rng.integers(0, 99, (4, *dtype[name].shape)) for name in dtype.names or ()}
    decoded = rows.decode(rows.encode(features, dtype), dtype)
    assert list(decoded) == [
        "inputs",
        "inputs_segment_ids",
        "targets",
        "targets_segment_ids",
        "loss_weights",
    ]
    for name, array in features.items():
        np.testing.assert_array_equal(decoded[name], array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": np.full((2, 4), 2**31)}, "outside int32"),
        ({"loss_weights": np.full((2, 4), -1)}, "outside uint8"),
        ({"tokens": np.zeros((2, 5), int)}, "shape"),
        ({"tokens": np.zeros((2, 4))}, "integers"),
        ({"extra": np.zeros((2, 4), int)}, "extra"),
    ],
)
def test_rows_that_do_not_fit_the_struct_are_refused(change: dict, message: str) -> None:
    features = decoder_rows(2, 4) | change
    with pytest.raises(ValueError, match=message):
        rows.encode(features, rows.row_dtype("decoder", 4))


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_reader_returns_any_rows_in_any_order(tmp_path_factory, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 30))
    features = decoder_rows(n, 8)
    cache = tmp_path_factory.mktemp("cache")
    info = write_cache(cache, features, rows_per_file=data.draw(st.integers(1, 12)))
    reader = pickle.loads(pickle.dumps(rows.RowReader(cache, "laws", "train", 8)))
    wanted = data.draw(st.lists(st.integers(0, n - 1), max_size=40))
    for name, array in reader.read(wanted).items():
        np.testing.assert_array_equal(array, features[name][wanted])
    assert len(reader) == n == info.rows
    assert info.tokens == np.count_nonzero(features["segment_ids"])
    assert info.loss_tokens == features["loss_weights"].sum()
    assert info.pad_fraction == pytest.approx(1 - info.tokens / (8 * n))
    np.testing.assert_array_equal(reader.token_bytes, TOKEN_BYTES)


def test_many_threads_read_the_same_rows(tmp_path: pathlib.Path) -> None:
    features = decoder_rows(64, 16)
    write_cache(tmp_path, features, rows_per_file=10)
    reader = rows.RowReader(tmp_path, "laws", "train", 16)
    wrong: list[int] = []

    def read(seed: int) -> None:
        for _ in range(20):
            wanted = np.random.default_rng(seed).integers(0, 64, 32)
            if not np.array_equal(reader.read(wanted)["tokens"], features["tokens"][wanted]):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_current_names_the_rows_that_are_read(tmp_path: pathlib.Path) -> None:
    old, new = decoder_rows(3, 4, seed=1), decoder_rows(5, 4, seed=2)
    write_cache(tmp_path, old, fingerprint="old")
    write_cache(tmp_path, new, fingerprint="new")
    assert len(rows.RowReader(tmp_path, "laws", "train", 4)) == 5
    rows.set_current(tmp_path, "laws", "train", 4, "old")
    assert len(rows.RowReader(tmp_path, "laws", "train", 4)) == 3
    with pytest.raises(FileNotFoundError, match="no whole cache"):
        rows.set_current(tmp_path, "laws", "train", 4, "never-built")


def test_an_abandoned_writer_leaves_nothing_that_reads_as_a_cache(tmp_path: pathlib.Path) -> None:
    with (
        pytest.raises(RuntimeError, match="stop"),
        rows.RowWriter(tmp_path, "laws", "train", 4, "f", token_bytes=TOKEN_BYTES) as writer,
    ):
        writer.write(decoder_rows(3, 4))
        raise RuntimeError("stop")
    assert list((tmp_path / "laws/train/4").iterdir()) == []


def run_writer(cache: pathlib.Path, code: str) -> subprocess.CompletedProcess:
    """Runs code in a process of its own, with `place` that of a cache of rows of length 4."""
    prelude = (
        "import os, resource, signal, sys, test_data_rows as here; from twjax.data import rows\n"
        "place = (sys.argv[1], 'laws', 'train', 4, 'f')\n"
    )
    root = pathlib.Path(rows.__file__).parents[2]
    path = os.pathsep.join([str(root), str(pathlib.Path(__file__).parent)])
    return subprocess.run(
        [sys.executable, "-c", prelude + code, cache],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("batches", [30, 400])
def test_a_file_that_cannot_be_written_is_named(tmp_path: pathlib.Path, batches: int) -> None:
    # A limit on the size of files stands for a full disk; it shows while writing or at the end.
    done = run_writer(
        tmp_path,
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "with rows.RowWriter(*place, token_bytes=here.TOKEN_BYTES) as writer:\n"
        f"  for seed in range({batches}): writer.write(here.decoder_rows(100, 4, seed))\n"
        "  writer.finish(documents=1, text_bytes=1, vocabulary={}, ingredients={})",
    )
    [last] = done.stderr.strip().splitlines()[-1:]
    assert last.startswith(f"OSError: {tmp_path}/laws/train/4/.tmp-"), done.stderr
    assert "could not be written" in last
    assert list((tmp_path / "laws/train/4").iterdir()) == []


def test_a_killed_writer_is_invisible_and_the_next_one_sweeps_up(tmp_path: pathlib.Path) -> None:
    killed = run_writer(
        tmp_path,
        "with rows.RowWriter(*place, token_bytes=here.TOKEN_BYTES, rows_per_file=2) as writer:"
        "  writer.write(here.decoder_rows(3, 4)); os._exit(9)",
    )
    assert killed.returncode == 9
    folder = tmp_path / "laws/train/4"
    assert [path.name.startswith(".tmp-") for path in folder.iterdir()] == [True]
    with pytest.raises(FileNotFoundError, match="no cached rows"):
        rows.RowReader(tmp_path, "laws", "train", 4)
    write_cache(tmp_path, decoder_rows(3, 4))
    assert sorted(path.name for path in folder.iterdir()) == ["current", "f0"]


def test_the_second_of_two_writers_of_one_cache_gives_way(tmp_path: pathlib.Path) -> None:
    write_cache(tmp_path, decoder_rows(3, 4, seed=1))
    before = (tmp_path / "laws/train/4/f0/info.json").read_bytes()
    write_cache(tmp_path, decoder_rows(3, 4, seed=1))
    assert (tmp_path / "laws/train/4/f0/info.json").read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "laws/train/4").iterdir()) == ["current", "f0"]


def test_ids_outside_the_vocabulary_are_not_written(tmp_path: pathlib.Path) -> None:
    features = decoder_rows(3, 4)
    features["tokens"][1, 0] = VOCAB
    with pytest.raises(ValueError, match="the vocabulary has 100"):
        write_cache(tmp_path, features)


def test_a_missing_cache_names_the_place_and_the_command(tmp_path: pathlib.Path) -> None:
    write_cache(tmp_path, decoder_rows(3, 4))
    with pytest.raises(FileNotFoundError) as caught:
        rows.RowReader(tmp_path, "laws", "train", 8, config="runs/a.gin")
    assert str(caught.value) == (
        f"{tmp_path}/laws/train/8: no cached rows of task laws, split train (there are rows of "
        "length 4); run: twjax tasks cache runs/a.gin"
    )


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: pathlib.Path, keep: float) -> None:
    info = write_cache(tmp_path, decoder_rows(20, 512), rows_per_file=10)
    path = tmp_path / "laws/train/512/f0" / info.files[1]["file"]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    reader = rows.RowReader(tmp_path, "laws", "train", 512)
    assert len(reader.read([0])["tokens"]) == 1
    with pytest.raises(OSError) as caught:
        reader.read([15])
    message = str(caught.value)
    assert str(path) in message and "truncated or damaged" in message
    assert "twjax tasks cache" in message and "\n" not in message
    [line] = reader.problems()
    assert str(path) in line and f"{len(data)} were written" in line


def test_a_damaged_row_is_named(tmp_path: pathlib.Path) -> None:
    info = write_cache(tmp_path, decoder_rows(20, 512))
    path = tmp_path / "laws/train/512/f0" / info.files[0]["file"]
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 8, len(data) // 8 + 64):
        data[place] ^= 0xFF
    path.write_bytes(data)
    reader = rows.RowReader(tmp_path, "laws", "train", 512)
    with pytest.raises(OSError, match=f"{path}: truncated or damaged"):
        for row in range(20):
            reader.read([row])


def test_a_count_that_contradicts_the_files_is_refused(tmp_path: pathlib.Path) -> None:
    write_cache(tmp_path, decoder_rows(3, 4))
    path = tmp_path / "laws/train/4/f0/info.json"
    path.write_text(path.read_text().replace('"rows": 3,\n  "tokens"', '"rows": 4,\n  "tokens"'))
    with pytest.raises(ValueError, match=r"info\.json: says 4 rows, its files have 3"):
        rows.RowReader(tmp_path, "laws", "train", 4)


def test_another_vocabulary_is_refused(tmp_path: pathlib.Path) -> None:
    model = tmp_path / "a.model"
    model.write_bytes(b"one")
    from twjax import storage

    entry = {"sha256": storage.sha256_file(model), "size": VOCAB, "path": str(model)}
    write_cache(tmp_path, decoder_rows(3, 4), vocabulary=entry)
    reader = rows.RowReader(tmp_path, "laws", "train", 4)
    reader.verify()
    model.write_bytes(b"two")
    with pytest.raises(ValueError, match="another vocabulary than"):
        reader.verify()


MODULE = """
from {package} import helpers
from {package}.helpers import CONSTANT

def unrelated(x):
    return x

@helpers.decorate
def step(x, factor=2):
    return helpers.twice(x) * factor + CONSTANT
"""

HELPERS = """
CONSTANT = 3

def decorate(f):
    return f

def twice(x):
    return inner(x)

def inner(x):
    return 2 * x

def idle():
    return 0
"""


@pytest.fixture
def package(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    folder = tmp_path / "twjax_stepsample"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('must not be imported')\n")
    (folder / "steps.py").write_text(MODULE.format(package=folder.name))
    (folder / "helpers.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return folder


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("steps.py", "* factor", "+ factor", True),
        ("steps.py", "@helpers.decorate", "", True),
        ("steps.py", "return x\n", "return -x\n", False),
        ("helpers.py", "2 * x", "3 * x", True),
        ("helpers.py", "CONSTANT = 3", "CONSTANT = 4", True),
        ("helpers.py", "return 0", "return 1", False),
    ],
)
def test_source_hash_follows_the_code_a_step_reaches(
    package: pathlib.Path, file: str, old: str, new: str, changes: bool
) -> None:
    name = f"{package.name}.steps.step"
    before = rows.source_sha256(name)
    assert rows.source_sha256(name) == before
    path = package / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert (rows.source_sha256(name) != before) == changes
    assert package.name not in sys.modules


def test_a_changed_preprocessor_makes_the_cache_stale(package: pathlib.Path) -> None:
    name = f"{package.name}.steps.step"
    step = {"name": name, "arguments": {}, "source_sha256": rows.source_sha256(name)}
    write_cache(package, decoder_rows(3, 4), preprocessors=(step,))
    reader = rows.RowReader(package, "laws", "train", 4, config="runs/a.gin")
    reader.verify()
    path = package / "helpers.py"
    path.write_text(path.read_text().replace("2 * x", "3 * x"))
    with pytest.raises(ValueError) as caught:
        reader.verify()
    assert str(caught.value) == (
        f"{package}/laws/train/4/f0: preprocessor {name} has changed since the rows were cached; "
        "run: twjax tasks cache runs/a.gin"
    )
    path.unlink()
    (package / "steps.py").unlink()
    with pytest.raises(ValueError, match="can't be found any more"):
        reader.verify()


def test_a_preprocessor_of_a_package_that_is_not_installed_is_not_compared(
    tmp_path: pathlib.Path,
) -> None:
    step = {"name": "not_installed_here.steps.step", "arguments": {}, "source_sha256": "0"}
    write_cache(tmp_path, decoder_rows(3, 4), preprocessors=(step,))
    rows.RowReader(tmp_path, "laws", "train", 4).verify()


def test_source_hash_needs_a_definition() -> None:
    with pytest.raises(ValueError, match=r"json\.nothing: no such definition"):
        rows.source_sha256("json.nothing")
