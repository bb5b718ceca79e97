"""A base known by its likeliest ids: against float64 and the whole base, on disk and in runs."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import signal
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.keeping_side import arrays_of
from tests.test_training_divergence import KEPT, arrays, case, command, divergence64, run
from tests.test_training_encdec_step import CONFIG as ENCDEC
from tests.test_training_encdec_step import rows as encdec_rows
from tests.test_training_loss import REAL, B, S
from twjax import config
from twjax.cli import main
from twjax.config import Mesh, Run
from twjax.data import top_logits
from twjax.data.rows import RowReader, RowWriter
from twjax.data.top_logits import TopReader, TopWriter, top_dtype
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding, rows_sharding
from twjax.training.base import FrozenBase, Taught
from twjax.training.checkpoint import FOLDER
from twjax.training.divergence import Comparison, Tops, likeliest
from twjax.training.loss import Bend, distilled_loss, next_token_loss
from twjax.training.optimizer import make_optimizer
from twjax.training.schedule import make_schedule
from twjax.training.state import init_state
from twjax.training.step import make_train_step
from twjax.training.teach import make_teacher
from twjax.training.trained import Trained

__all__ = ["case", "run"]


def base_logs(case, how: Comparison) -> np.ndarray:
    """The base's log-probabilities of the known ids, float64 [B, S, known]."""
    scores = (case["base_hidden"] @ case["base_head"]) * (how.scale or 1.0)
    if how.softcap:
        scores = np.tanh(scores / how.softcap) * how.softcap
    scores = scores[..., : how.known] / how.temperature
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def buckets64(case, ids: np.ndarray, how: Comparison, bend: Bend) -> float:
    """The sum of the KL over `ids` [B, S, K] and the rest, token by token in float64."""
    model = base_logs(
        {"base_hidden": case["hidden"], "base_head": case["head"]},
        how._replace(scale=bend.scale, softcap=bend.softcap),
    )
    base, total = base_logs(case, how), 0.0
    for b in range(B):
        for s in range(S - 1):
            if case["weights"][b, s + 1] and case["rows"][b]:
                p, q = np.exp(base[b, s]), np.exp(model[b, s])
                rest = np.setdiff1d(np.arange(how.known), ids[b, s])
                p = np.append(p[ids[b, s]], p[rest].sum())
                q = np.append(q[ids[b, s]], q[rest].sum())
                total += (p * np.log(p / q)).sum()
    return total


CASES = [
    (1, 1.0, REAL, 5, Bend()),
    (3, 2.0, REAL, 1, Bend(scale=1.5, softcap=4.0)),
    (4, 0.8, 20, 12, Bend(softcap=3.0)),
]


@pytest.mark.parametrize(("chunks", "temperature", "known", "top_k", "bend"), CASES)
def test_it_equals_float64_and_its_slope_finite_differences(
    case, chunks, temperature, known, top_k, bend
):
    how = Comparison(temperature, known, bend.scale, bend.softcap)
    hidden, head, tokens, weights, base = arrays(case)
    ids, logs = likeliest(base.hidden_BSD, base.head_DV, how, top_k)
    expected = np.argsort(-base_logs(case, how), axis=-1, kind="stable")[..., :top_k]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(np.exp(logs).sum(-1), 1.0, rtol=1e-5)
    tops = Tops(ids, logs, base.rows_B, base.factor)
    settings: dict[str, Any] = {"vocab_size": REAL, "chunks": chunks, "bend": bend, "z_loss": 0.1}

    def added(hidden, head):
        here = (hidden, head, tokens, weights)
        with_base, (_, kl) = distilled_loss(*here, tops, how, **settings)
        return with_base - next_token_loss(*here, **settings)[0], kl

    value = buckets64(case, expected, how, bend)
    np.testing.assert_allclose(added(hidden, head)[1], value, rtol=1e-4)
    grads = jax.grad(lambda x, y: 3.0 * added(x, y)[0], argnums=(0, 1))(hidden, head)
    for name, grad in zip(("hidden", "head"), grads, strict=True):
        direction = np.random.default_rng(1).normal(size=case[name].shape)
        step = 1e-5
        ends = [
            buckets64(case | {name: case[name] + sign * step * direction}, expected, how, bend)
            for sign in (1, -1)
        ]
        slope = 3.0 * 0.7 * temperature**2 * (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(float(jnp.sum(grad * direction)), slope, rtol=1e-3)


@pytest.mark.slow
def test_with_all_ids_but_one_it_is_the_whole_divergence_and_with_fewer_less(case):
    hidden, head, tokens, weights, base = arrays(case)
    how, seen = Comparison(1.5, REAL, None, None), []
    for top_k in (1, 4, 16, REAL - 1):
        ids, logs = likeliest(base.hidden_BSD, base.head_DV, how, top_k)
        tops = Tops(ids, logs.astype(jnp.float16), base.rows_B, base.factor)
        here = (hidden, head, tokens, weights, tops, how)
        seen.append(float(distilled_loss(*here, vocab_size=REAL, chunks=2)[1][1]))
    assert seen == sorted(seen)
    np.testing.assert_allclose(seen[-1], divergence64(case, 1.5, REAL, Bend()), rtol=1e-3)


def train(run: Run, mesh: Mesh, devices: int, steps: int = 8):
    """Returns losses, KLs and gradient norms of a run beside what its first weights say."""
    made = make_mesh(mesh, jax.devices()[:devices])
    network = declare(run.model)
    trained = Trained.of(run, network.specs)
    schedule = make_schedule(run.schedule, run.steps, 0.0)
    optimizer = make_optimizer(run.optimizer, schedule, trained.specs)
    kept = run.distillation
    assert kept is not None
    vocabulary = run.model.vocab_size
    base: FrozenBase | Taught = FrozenBase(network, trained, run.step.dtype, made, vocabulary)
    beside: tuple[Any, ...] = ()
    seen = []
    with jax.set_mesh(made):
        state = init_state(network, optimizer, made, run.seed, trained)
        first = jax.tree.map(jnp.copy, state.params)
        if kept.top_k is None:
            beside = (base.keep(state.params),)
        else:
            base = Taught(vocabulary)
            how = Comparison.of(run.model, kept.temperature, vocabulary)
            ask = make_teacher(network, run, made, how, kept.top_k)
        step_fn = make_train_step(network, run, optimizer, schedule, made, trained, base)
        for index in range(steps):
            pairs = run.model.encoder_layers > 0
            rows = encdec_rows if pairs else lambda s, n: tiny.rows(np.random.default_rng(s), n)
            batch = jax.device_put(rows(index, run.data.batch_size), batch_sharding(made))
            if kept.top_k is not None:
                batch["top_ids"], batch["top_logs"], *_ = ask(first, batch)
            replay = (np.arange(run.data.batch_size) % 2 == 0).astype(np.uint8)
            batch["replay"] = jax.device_put(replay, rows_sharding(made))
            state, metrics = step_fn(state, batch, *beside)
            seen.append([float(metrics[name]) for name in ("loss", "kl", "grad_norm")])
    return np.array(seen)


def taught(run: Run, top_k: int | None) -> Run:
    logits = None if top_k is None else "somewhere"
    return dataclasses.replace(
        run, distillation=dataclasses.replace(KEPT, top_k=top_k, logits=logits)
    )


@pytest.mark.slow
def test_steps_with_all_ids_but_one_are_those_beside_the_base(run):
    """To within what float16 keeps of the log-probabilities."""
    beside = train(taught(run, None), Mesh(fsdp=1), 1)
    alone = train(taught(run, tiny.VOCAB - 1), Mesh(fsdp=1), 1)
    np.testing.assert_allclose(alone, beside, rtol=1e-2, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "devices", "step"),
    [(Mesh(data=2, fsdp=2, tensor=2), 8, {}), (Mesh(fsdp=2, context=2), 4, {"accumulation": 2})],
    ids=["data2-fsdp2-tensor2", "context2-accumulate2"],
)
def test_one_result_however_the_work_is_divided(run, mesh, devices, step):
    few = taught(run, 7)
    alone = train(few, Mesh(fsdp=1), 1)
    divided = dataclasses.replace(few, step=dataclasses.replace(run.step, **step))
    np.testing.assert_allclose(train(divided, mesh, devices), alone, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_an_encoder_decoder_is_held_back_too(tmp_path):
    path = tmp_path / "run.gin"
    path.write_text(ENCDEC.format(cache="none"))
    both = config.load(Run, [path], ["Run.init = 'run:base'"]).value
    beside = train(taught(both, None), Mesh(fsdp=1), 1, 3)
    alone = train(taught(both, tiny.VOCAB - 1), Mesh(fsdp=1), 1, 3)
    np.testing.assert_allclose(alone, beside, rtol=1e-2, atol=1e-5)


# On disk.


@pytest.fixture
def reader(tmp_path) -> RowReader:
    tiny.write_cache(tmp_path / "cache")
    return RowReader(tmp_path / "cache", "a", "train", tiny.SEQ)


def answers(reader: RowReader) -> tuple[np.ndarray, np.ndarray]:
    fields = top_dtype(tiny.SEQ, 3).fields or {}
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 96, (len(reader), *fields["top_ids"][0].shape)).astype(np.int32)
    logs = -rng.random((len(reader), *fields["top_logs"][0].shape)).astype(np.float16)
    return ids, logs


def test_what_is_written_is_read_in_any_order_and_a_stopped_writer_goes_on(reader, tmp_path):
    ids, logs = answers(reader)
    for start, stop in ((0, 25), (20, 20), (20, 60)):
        with TopWriter(tmp_path / "top", reader, 3, rows_per_file=10) as writer:
            # Rows of a file that was not complete are written again.
            assert writer.done == start
            writer.write(ids[start:stop], logs[start:stop])
            if stop == len(reader):
                writer.finish()
    with TopWriter(tmp_path / "top", reader, 3, rows_per_file=10) as writer:
        assert writer.done == len(reader)
        writer.finish()
    top = TopReader(tmp_path / "top", reader, 3, config="run.gin")
    wanted = np.array([59, 0, 13, 13, 41])
    found = top.read(wanted)
    np.testing.assert_array_equal(found["top_ids"], ids[wanted])
    np.testing.assert_array_equal(found["top_logs"], logs[wanted])


def test_what_is_not_whole_or_damaged_is_refused(reader, tmp_path):
    ids, logs = answers(reader)
    open_it = lambda: TopReader(tmp_path / "top", reader, 3, config="run.gin")  # noqa: E731
    with TopWriter(tmp_path / "top", reader, 3, rows_per_file=10) as writer:
        writer.write(ids[:30], logs[:30])
        with pytest.raises(ValueError, match="30 of 60 rows were written"):
            writer.finish()
    with pytest.raises(FileNotFoundError, match=r"rows of task a in .*; run: twjax teach run.gin"):
        open_it()
    with TopWriter(tmp_path / "top", reader, 3, rows_per_file=10) as writer:
        writer.write(ids[30:], logs[30:])
        writer.finish()
    file = next((tmp_path / "top").rglob("rows-00003*"))
    held = file.read_bytes()
    file.write_bytes(held[:-9])
    with pytest.raises(ValueError, match=r"rows-00003.*has .* bytes, .* delete .* and run"):
        open_it()
    broken = bytearray(held)
    broken[len(held) // 2] ^= 255
    file.write_bytes(broken)
    with pytest.raises(OSError, match=r"rows-00003.*truncated or damaged"):
        open_it().read(np.arange(60))


# In runs.


SETTINGS = (
    "Run.init = 'run:{place}/base'",
    "Run.distillation = @Distillation()",
    "Distillation.weight = 3.0",
    "Distillation.tasks = ('a',)",
    "Distillation.top_k = 95",
    "Distillation.logits = '{place}/logits'",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("place")
    tiny.write_config(folder)
    assert main(command(folder, "base", "Run.steps = 2")) == 0
    return folder


def teaching(place: pathlib.Path, *bindings: str) -> list[str]:
    sets = [part for text in (*SETTINGS, *bindings) for part in ("--set", text.format(place=place))]
    return ["teach", str(place / "tiny.gin"), *sets]


@pytest.fixture(scope="module")
def whole(place) -> pathlib.Path:
    """A place whose logits are written and whose run beside them is trained."""
    assert main(teaching(place)) == 0
    assert main(command(place, "held", *SETTINGS)) == 0
    return place


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_run_is_held_back_as_beside_the_base_and_resumes_without_it(whole, capsys):
    full = [s for s in SETTINGS if "top_k" not in s and "logits" not in s]
    assert main(command(whole, "full", *full)) == 0
    logged = {
        name: [[r["loss"], r["kl"]] for r in tiny.records(whole / name, "train")]
        for name in ("held", "full")
    }
    assert logged["held"][0][1] == pytest.approx(0.0, abs=1e-5)
    np.testing.assert_allclose(logged["held"], logged["full"], rtol=5e-3, atol=1e-5)
    again = whole / "again"
    shutil.copytree(whole / "held", again)
    shutil.rmtree(again / FOLDER / "6")
    (whole / "base").rename(whole / "away")
    try:
        assert main(command(whole, "again", *SETTINGS)) == 0
    finally:
        (whole / "away").rename(whole / "base")
    one, other = arrays_of(whole / "held", 6), arrays_of(again, 6)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bindings", "said"),
    [
        (["Distillation.logits = '{place}/none'"], "has no info.json; run `twjax teach`"),
        (["Distillation.top_k = 5"], "other predictions (top_k 95 there, 5 here)"),
        (["Distillation.temperature = 2.0"], "(temperature 1.0 there, 2.0 here)"),
        (["Run.init = 'run:{place}/held'"], "/base' there"),
        (["Distillation.tasks = ('a', 'b')"], "nothing for the rows of task b"),
    ],
)
def test_other_predictions_are_refused(whole, capsys, bindings, said):
    assert main(command(whole, "refused", *SETTINGS, *bindings)) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error and "Traceback" not in error
    assert not list((whole / "refused" / FOLDER).iterdir())


@pytest.mark.slow
def test_a_length_that_reads_nothing_of_the_base_needs_nothing_of_it(whole):
    tiny.write_cache(whole / "cache", seq=2 * tiny.SEQ)
    longer = (
        f"Data.seq_len_stages = ((3, {2 * tiny.SEQ}),)",
        "Mixture.stages = ((0, {{'a': 0.5, 'b': 0.5}}), (3, {{'b': 1.0}}))",
    )
    assert main(command(whole, "longer", *SETTINGS, *longer)) == 0
    logged = [record["kl"] for record in tiny.records(whole / "longer", "train")]
    assert all(kl is not None for kl in logged[:3]) and logged[3:] == [None] * 3


@pytest.mark.slow
def test_a_folder_with_other_predictions_is_not_written_over(whole, capsys):
    before = contents(whole / "logits")
    assert main(teaching(whole, "Distillation.top_k = 5")) == 1
    assert "holds other predictions" in capsys.readouterr().err
    assert contents(whole / "logits") == before


@pytest.mark.slow
def test_without_top_k_there_is_nothing_to_write(place, capsys):
    unset = teaching(place, "Distillation.top_k = None", "Distillation.logits = None")
    assert main(unset) == 1
    assert "has no Distillation.top_k" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"top_k": 3}, "go together"),
        ({"logits": "x"}, "go together"),
        ({"top_k": 0, "logits": "x"}, r"Distillation.top_k \(0\)"),
        ({"top_k": 96, "logits": "x"}, r"must be less than Model.vocab_size \(96\)"),
    ],
)
def test_settings_that_do_not_fit_are_refused(run, settings, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(run, distillation=dataclasses.replace(KEPT, **settings))


@pytest.mark.slow
def test_two_processes_write_what_one_does(whole):
    arguments = teaching(whole, "Distillation.logits = '{place}/pair'", "Mesh.tensor = 2")
    tiny.twjax_pair(*arguments)
    reader = RowReader(whole / "cache", "a", "train", tiny.SEQ)
    one, two = (
        TopReader(whole / name, reader, 95, config="").read(np.arange(len(reader)))
        for name in ("logits", "pair")
    )
    # Ids that are as likely may change places.
    assert (one["top_ids"] == two["top_ids"]).mean() > 0.99
    np.testing.assert_allclose(one["top_logs"], two["top_logs"], rtol=2e-3, atol=1e-4)


@pytest.mark.slow
def test_a_killed_call_goes_on_and_gives_the_same_bytes(whole, monkeypatch):
    cache = whole / "long"
    for task in ("a", "b"):
        with RowWriter(
            cache, task, "train", tiny.SEQ, "f1", token_bytes=np.ones(96, np.int32)
        ) as w:
            w.write(tiny.rows(np.random.default_rng(0), 4_000))
            w.finish(
                documents=1,
                text_bytes=1,
                vocabulary={"sha256": "0", "size": 96, "path": f"{cache}/none.model"},
                ingredients={},
            )
    bindings = ("Data.cache = '{place}/long'", "Data.batch_size = 64")
    monkeypatch.setattr(top_logits, "FILE_BYTES", 1 << 18)
    expected = teaching(whole, *bindings, "Distillation.logits = '{place}/unbroken'")
    assert main(expected) == 0
    broken = teaching(whole, *bindings, "Distillation.logits = '{place}/broken'")
    program = (
        "from twjax.cli import main; from twjax.data import top_logits\n"
        f"top_logits.FILE_BYTES = {top_logits.FILE_BYTES}\nmain({broken!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env=tiny.environment(1))
    folder = whole / "broken" / "a" / str(tiny.SEQ) / "f1"
    while not (folder / "rows-00002.array_record").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((whole / "broken" / "a").rglob("info.json"))
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("rows-*")}
    assert main(broken) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert contents(whole / "broken") == contents(whole / "unbroken")
