"""A device's memory estimated before compiling: what is counted, and the compiler's own word."""

from __future__ import annotations

import dataclasses

import jax
import pytest

from tests import plan_side
from twjax.config import Mesh
from twjax.planning import pace
from twjax.planning.compile import check
from twjax.planning.compile import plan as compile_plan
from twjax.planning.memory import MARGIN, Shapes
from twjax.planning.topology import GIB, parse_topology, set_environment

# Of the small run: layers, rows and positions of a device, width, heads · width, the MLP's.
L, B, S, D, NH, F = 4, 8, 1024, 512, 512, 2048


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    pytest.importorskip("libtpu")
    set_environment()
    run = plan_side.small(tmp_path_factory.mktemp("run"))
    return run, Shapes(run, plan_side.V5E)


def changed(run, rows: int = 32, mesh: Mesh | None = None, **step):
    return dataclasses.replace(
        run,
        mesh=mesh or run.mesh,
        step=dataclasses.replace(run.step, **step),
        data=dataclasses.replace(run.data, batch_size=rows),
    )


@pytest.mark.parametrize(
    ("remat", "width"),
    [
        ("full", D),
        (("query", "key", "value"), D + 3 * NH),
        # Attention keeps its softmax's statistics beside its output, float32 a head.
        (("attention",), D + NH + 2 * 4),
        (("attention", "gate", "up"), D + NH + 2 * 4 + 2 * F),
    ],
)
def test_what_is_saved_is_counted_exactly(shapes, remat, width):
    run, known = shapes
    saved = known.estimate(changed(run, remat=remat)).saved
    # Beside the layers: two copies of the last activations, float32, and rotary angles.
    beside = B * S * (2 * 4 * D + 2 * 4 * 64)
    layers = L * B * S * 2 * width
    assert layers <= saved <= layers + 1.1 * beside


def test_what_waits_at_the_host_is_not_on_the_device(shapes):
    run, known = shapes
    full, saved = (known.estimate(changed(run, remat=r)).saved for r in ("full", ("query",)))
    away = changed(run, remat=("query",), offload=("query",))
    assert known.estimate(away).saved == full < saved
    assert known.host_bytes(away) == saved - full == L * B * S * 2 * NH
    beginning = changed(run, offload=("input", "query"))
    assert known.estimate(beginning).saved == full - L * B * S * 2 * D
    assert known.host_bytes(beginning) == L * B * S * 2 * (D + NH)
    assert known.host_bytes(run) == 0
    # It isn't computed again, and the copies take time.
    assert "q" not in pace.recomputed(beginning)


def test_state_is_divided_over_the_devices_that_share_it(shapes):
    run, known = shapes
    whole = known.estimate(changed(run, mesh=Mesh(fsdp=1, data=4)))
    shared = known.estimate(run)
    assert whole.parameters == pytest.approx(4 * shared.parameters, rel=0.01)
    assert shared.optimizer == pytest.approx(2 * shared.parameters, rel=0.01)
    assert shared.parameters == pytest.approx(sum(s.size for s in leaves(known)) * 4 / 4, rel=0.01)


def leaves(known: Shapes):
    from twjax.models.spec import is_spec

    return jax.tree.leaves(known.network.specs, is_leaf=is_spec)


def test_fewer_rows_at_a_time_save_less(shapes):
    run, known = shapes
    one, four = (known.estimate(changed(run, accumulation=n)) for n in (1, 4))
    assert four.saved == one.saved / 4 and four.total < one.total
    assert known.estimate(changed(run, rows=64)).saved == 2 * one.saved


def test_tensor_parallelism_divides_heads_and_mlp_but_not_the_stream(shapes):
    run, known = shapes
    names = ("query", "gate")
    mesh = Mesh(fsdp=2, tensor=2)
    # Half the devices share the rows: twice the rows a device.
    whole, cut = (known.estimate(changed(run, mesh=m, remat=names)) for m in (run.mesh, mesh))
    wide = L * B * S * 2 * (NH + F)
    rest = whole.saved - wide
    assert cut.saved == pytest.approx(2 * rest + wide, rel=0.01)


def test_what_cannot_be_divided_is_refused(shapes):
    run, _ = shapes
    # Four heads over eight devices.
    with pytest.raises(ValueError, match="can't be divided over 8 devices"):
        Shapes(run, parse_topology("v5e-8")).estimate(changed(run, mesh=Mesh(fsdp=1, tensor=8)))


def test_more_recomputation_is_expected_to_take_longer_and_less_memory(shapes):
    run, known = shapes
    ways = ["full", ("attention",), ("query", "key", "value", "attention"), "dots"]
    found = []
    for remat in ways:
        one = changed(run, remat=remat)
        memory = known.estimate(one)
        sizes = check(one, plan_side.V5E)
        found.append((pace.seconds(one, known, memory, sizes), memory.total))
    assert [t for t, _ in found] == sorted((t for t, _ in found), reverse=True)
    assert [m for _, m in found] == sorted(m for _, m in found)
    assert pace.recomputed(changed(run, remat="dots")) == frozenset()
    assert pace.recomputed(changed(run, remat=("attention", "gate"))) == {"q", "k", "v", "o", "up"}


@pytest.fixture
def all_optimizations():
    set_environment()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["full", ("query", "key", "value", "attention"), "none"])
def test_what_the_model_finds_too_large_does_not_fit(shapes, all_optimizations, remat):
    run, known = shapes
    limit = plan_side.V5E.chip.usable_bytes
    rows = 4
    while known.estimate(changed(run, rows=rows, remat=remat)).total <= limit * (1 + MARGIN):
        rows += 4
    made = compile_plan(changed(run, rows=rows, remat=remat), plan_side.V5E)
    assert not made.memory.fits


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [{"remat": "full"}, {"remat": "dots"}, {"remat": ("attention",), "accumulation": 2}],
    ids=str,
)
def test_the_model_is_near_the_compiler(shapes, all_optimizations, step):
    run, known = shapes
    chosen = changed(run, rows=256, **step)
    made = compile_plan(chosen, plan_side.V5E)
    assert made.memory.fits
    assert known.estimate(chosen).total == pytest.approx(made.memory.total, rel=0.4)
    assert made.memory.total > GIB
