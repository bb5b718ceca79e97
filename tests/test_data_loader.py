"""Batches: the same on any number of processes, at any step, with any number of threads."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from twjax import storage
from twjax.config.data import Data, Mixture
from twjax.data import loader, rows

VOCAB, LENGTH, BATCH = 64, 16, 16
SIZES = {"laws": 40, "web": 70, "en": 25}
MIXTURE = Mixture(
    stages=((0, {"laws": 0.7, "en": 0.3}), (3, {"laws": 0.2, "web": 0.5, "en": 0.3})),
    seed=3,
    block_rows=32,
    max_epochs=None,
)


def write_task(
    cache: pathlib.Path,
    task: str,
    count: int,
    *,
    split: str = "train",
    vocabulary: dict | None = None,
    preprocessors: tuple[dict, ...] = (),
    row_format: rows.RowFormat = "decoder",
    length: rows.SeqLen = LENGTH,
) -> dict[str, np.ndarray]:
    """Caches random rows of one task and returns them."""
    rng = np.random.default_rng(sum(task.encode()))
    dtype = rows.row_dtype(row_format, length)
    features = {
        name: rng.integers(0, 2 if name == "loss_weights" else VOCAB, (count, *dtype[name].shape))
        for name in dtype.names or ()
    }
    with rows.RowWriter(
        cache,
        task,
        split,
        length,
        "f0",
        row_format=row_format,
        token_bytes=np.ones(VOCAB, np.int32),
        rows_per_file=16,
    ) as writer:
        if count:
            writer.write(features)
        writer.finish(
            documents=1,
            text_bytes=100,
            vocabulary=vocabulary or {"sha256": "0", "size": VOCAB, "path": "absent.model"},
            ingredients={"preprocessors": list(preprocessors)},
        )
    return features


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("cache")
    for task, count in SIZES.items():
        write_task(folder, task, count)
    return folder


def data_of(cache: pathlib.Path, mixture: Mixture = MIXTURE) -> Data:
    return Data(
        cache=str(cache),
        vocabulary="absent.model",
        mixture=mixture,
        seq_len=LENGTH,
        batch_size=BATCH,
    )


def sharding_of(shape: tuple[int, int] = (8, 1)) -> NamedSharding:
    devices = np.array(jax.devices()[: shape[0] * shape[1]]).reshape(shape)
    mesh = Mesh(devices, ("fsdp", "context"), axis_types=(AxisType.Auto,) * 2)
    return NamedSharding(mesh, PartitionSpec("fsdp", "context"))


def first_batches(cache: pathlib.Path, start: int, number: int, shape=(8, 1), **options):
    readers, course = loader.open_course(data_of(cache))
    stream = loader.batches(readers, course, sharding_of(shape), start, **options)
    return [
        {name: np.asarray(array) for name, array in batch.items()}
        for batch in itertools.islice(stream, number)
    ]


def assert_equal(one: list[dict], other: list[dict]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert list(a) == list(b)
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


def test_batches_are_the_rows_that_the_mixture_names(cache: pathlib.Path) -> None:
    readers, course = loader.open_course(data_of(cache))
    batches = first_batches(cache, 0, 6)
    for step, batch in enumerate(batches):
        tasks, numbers = course.lookup(step, np.arange(BATCH))
        for place, (task, number) in enumerate(zip(tasks, numbers, strict=True)):
            row = readers[LENGTH][course.tasks[task]].read([number])
            for name, values in row.items():
                np.testing.assert_array_equal(batch[name][place], values[0])
    assert {name: (array.shape, array.dtype.name) for name, array in batches[0].items()} == {
        "tokens": ((BATCH, LENGTH), "int32"),
        "segment_ids": ((BATCH, LENGTH), "int32"),
        "loss_weights": ((BATCH, LENGTH), "uint8"),
    }


@pytest.mark.parametrize("start", [1, 3, 10**9])
def test_starting_at_a_step_gives_what_an_unbroken_stream_gives_there(
    cache: pathlib.Path, start: int
) -> None:
    assert_equal(first_batches(cache, start - 1, 5)[1:], first_batches(cache, start, 4))


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (2, 2), (1, 8), (8, 1)])
def test_the_batch_does_not_depend_on_the_mesh(cache: pathlib.Path, shape) -> None:
    assert_equal(first_batches(cache, 2, 3, shape), first_batches(cache, 2, 3))


@pytest.mark.parametrize(("threads", "prefetch"), [(0, 0), (1, 1), (2, 5), (16, 32)])
def test_threads_and_prefetch_do_not_change_the_order(
    cache: pathlib.Path, threads: int, prefetch: int
) -> None:
    found = first_batches(cache, 0, 12, threads=threads, prefetch=prefetch)
    assert_equal(found, first_batches(cache, 0, 12))


WORKER = """
import pathlib, sys
import jax, numpy as np
cache, out, port, number, processes = sys.argv[1:]
number, processes = int(number), int(processes)
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, number)
sys.path.insert(0, str(pathlib.Path("tests").resolve()))
import test_data_loader as here
from twjax.data import loader
assert jax.process_count() == processes and jax.device_count() == 4
readers, course = loader.open_course(here.data_of(pathlib.Path(cache)))
sharding = here.sharding_of((4, 1))
read = {task: 0 for task in course.tasks}
for task, reader in readers[here.LENGTH].items():
    def counted(rows, task=task, inner=reader.read):
        read[task] += len(rows)
        return inner(rows)
    reader.read = counted
held = {}
for step in (0, 2, 3, 4, 10**9):
    stream = loader.batches(readers, course, sharding, step, threads=0)
    for name, array in next(stream).items():
        for shard in array.addressable_shards:
            held[f"{step}/{name}/{shard.index[0].indices(here.BATCH)[0]:03d}"] = shard.data
    stream.close()
# One batch ahead is on its way to the devices.
assert sum(read.values()) == 5 * 2 * here.BATCH // processes, read
banned = {"tensorflow", "tensorflow_text", "seqio", "tensorflow_datasets"} & set(sys.modules)
assert not banned, banned
np.savez(out, **held)
"""


def run_processes(cache: pathlib.Path, folder: pathlib.Path, processes: int) -> dict[str, bytes]:
    """Returns the bytes of whole batches by "step/field", put together from all processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(4 // processes),
        "PYTHONPATH": str(pathlib.Path(loader.__file__).parents[2]),
    }
    workers = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", WORKER, cache, folder / f"{processes}-{number}.npz"),
                *(str(port), str(number), str(processes)),
            ],
            env=environment,
            cwd=pathlib.Path(loader.__file__).parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0, errors[-3000:]
    parts: dict[str, dict[str, bytes]] = {}
    for number in range(processes):
        with np.load(folder / f"{processes}-{number}.npz") as held:
            for key in held:
                whole, _, place = key.rpartition("/")
                parts.setdefault(whole, {})[place] = held[key].tobytes()
    assert all(len(places) == 4 for places in parts.values())
    return {
        whole: b"".join(places[place] for place in sorted(places))
        for whole, places in parts.items()
    }


@pytest.mark.slow
def test_the_global_batch_is_the_same_on_one_two_and_four_processes(
    cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    one = run_processes(cache, tmp_path, 1)
    assert run_processes(cache, tmp_path, 2) == one
    assert run_processes(cache, tmp_path, 4) == one
    for step in (0, 2, 3, 4, 10**9):
        [batch] = first_batches(cache, step, 1)
        for name, array in batch.items():
            assert one[f"{step}/{name}"] == array.tobytes()


def test_encoder_decoder_rows_make_batches_of_two_lengths(tmp_path: pathlib.Path) -> None:
    features = write_task(
        tmp_path, "qa", 8, row_format="encoder_decoder", length=(LENGTH, LENGTH // 2)
    )
    reader = rows.RowReader(tmp_path, "qa", "train", (LENGTH, LENGTH // 2))
    [batch] = loader.evaluation_batches(reader, sharding_of(), 8)
    for name, values in features.items():
        np.testing.assert_array_equal(np.asarray(batch[name]), values)


@pytest.mark.parametrize(("wanted", "total"), [(None, 40), (20, 20), (16, 16), (1, 1), (99, 40)])
def test_evaluation_reads_the_first_rows_in_order_and_pads(
    cache: pathlib.Path, wanted: int | None, total: int
) -> None:
    reader = rows.RowReader(cache, "laws", "train", LENGTH)
    found = list(loader.evaluation_batches(reader, sharding_of(), BATCH, wanted))
    assert len(found) == -(-total // BATCH)
    expected = reader.read(np.arange(total))
    for name, values in expected.items():
        whole = np.concatenate([np.asarray(batch[name]) for batch in found])
        np.testing.assert_array_equal(whole[:total], values)
        assert not whole[total:].any() and len(whole) % BATCH == 0


def test_a_batch_that_the_mesh_cannot_cut_is_refused(cache: pathlib.Path) -> None:
    reader = rows.RowReader(cache, "laws", "train", LENGTH)
    with pytest.raises(ValueError, match=r"Data.batch_size \(12\) must be a multiple of 8"):
        loader.evaluation_batches(reader, sharding_of(), 12)


def test_a_file_that_breaks_while_training_stops_the_stream_with_its_name(
    tmp_path: pathlib.Path,
) -> None:
    for task, count in SIZES.items():
        write_task(tmp_path, task, count)
    readers, course = loader.open_course(data_of(tmp_path))
    path = tmp_path / "en/train/16/f0" / readers[LENGTH]["en"].info.files[0]["file"]
    path.write_bytes(path.read_bytes()[:100])
    stream = loader.batches(readers, course, sharding_of())
    with pytest.raises(OSError, match=f"{path}: truncated or damaged"):
        for _ in range(20):
            next(stream)


def test_everything_wrong_with_the_caches_is_said_at_once(tmp_path: pathlib.Path) -> None:
    model = tmp_path / "other.model"
    model.write_bytes(b"vocabulary")
    good = {"sha256": storage.sha256_file(model), "size": VOCAB, "path": str(model)}
    write_task(tmp_path, "laws", 40, vocabulary=good)
    gone = {"name": "twjax.data.rows.gone", "arguments": {}, "source_sha256": "0"}
    write_task(tmp_path, "en", 20, vocabulary=good, preprocessors=(gone,))
    write_task(tmp_path, "web", 0, vocabulary={"sha256": "1", "size": 9, "path": str(model)})
    path = tmp_path / "laws/train/16/f0/rows-00001-of-00003.array_record"
    path.write_bytes(path.read_bytes()[:1000])
    weights = {"laws": 1.0, "en": 1.0, "web": 1.0, "absent": 1.0}
    data = dataclasses.replace(
        data_of(tmp_path, Mixture(stages=((0, weights),))), vocabulary=str(model)
    )
    with pytest.raises(ValueError) as caught:
        loader.open_course(data, config="runs/a.gin")
    lines = str(caught.value).split(" | ")
    assert "\n" not in str(caught.value)
    for expected in (
        f"{tmp_path}/absent/train/16: no cached rows of task absent, split train; run: twjax tasks "
        "cache runs/a.gin",
        f"{path}: has 1000 bytes, ",
        f"{tmp_path}/en/train/16/f0: preprocessor twjax.data.rows.gone can't be found any more",
        f"{tmp_path}/web/train/16/f0: the rows were made with another vocabulary than {model}",
        f"{tmp_path}/web/train/16/f0: task web has no rows in split train",
        f"{tmp_path}/web/train/16/f0: vocabulary sha256 of task web is 1, of task en",
        f"{tmp_path}/web/train/16/f0: vocabulary size of task web is 9, of task en 64",
    ):
        assert [line for line in lines if line.startswith(expected)], expected
    assert len(lines) == 7


def test_tasks_with_and_without_sentinels_stand_in_one_mixture(tmp_path: pathlib.Path) -> None:
    """Span corruption's ids follow those of the vocabulary; labelled tasks have none of them."""
    for task, size in (("laws", VOCAB + 100), ("en", VOCAB)):
        vocabulary = {"sha256": "0", "size": size, "path": f"{tmp_path}/none.model"}
        write_task(tmp_path, task, 40, vocabulary=vocabulary)
    data = data_of(tmp_path, Mixture(stages=((0, {"laws": 1.0, "en": 1.0}),)))
    readers, course = loader.open_course(data)
    batch = next(loader.batches(readers, course, sharding_of()))
    assert set(readers[LENGTH]) == {"laws", "en"} and batch["tokens"].shape[1] == LENGTH


def test_a_run_that_needs_more_rows_than_the_caps_allow_is_refused(cache: pathlib.Path) -> None:
    mixture = Mixture(stages=((0, {"laws": 1.0}),), max_epochs=2)
    loader.open_course(data_of(cache, mixture), steps=5)
    with pytest.raises(ValueError, match="at step 5, and the run needs 6 steps: laws"):
        loader.open_course(data_of(cache, mixture), steps=6)
