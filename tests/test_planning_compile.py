"""Train steps compiled for TPUs that aren't there, and what is refused before compiling."""

import argparse
import json
import pathlib

import jax
import pytest

from twjax import config
from twjax.config import ConfigError
from twjax.models.decoder import Network
from twjax.models.spec import count_weights
from twjax.planning import compile as planning
from twjax.planning import schedule
from twjax.planning.flops import model_flops_per_token
from twjax.planning.topology import parse_topology, set_environment

LLAMA = "runs/llama3_8b.gin"
QUICKSTART = "runs/quickstart_base.gin"


@pytest.fixture(autouse=True, scope="module")
def all_optimizations():
    """Compiles as a run does, not as quickly as the other tests."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def load(file: str, *overrides: str) -> config.Run:
    return config.load(config.Run, [file], overrides).value


def test_arithmetic_of_llama_3_8b():
    run = load(LLAMA)
    specs = Network.create(run.model).specs
    # The size that Meta publishes.
    assert count_weights(specs) == 8_030_261_248
    # MaxText's train_compile says 843.29 TFLOP a device for 2 rows of 8,192.
    per_token = model_flops_per_token(run.model, specs, run.data.seq_len)
    assert per_token * 2 * 8192 / 1e12 == pytest.approx(843.29, abs=0.01)


def test_a_tied_embedding_is_one_product():
    tied = load(QUICKSTART, "Model.tie_embeddings = True")
    free = load(QUICKSTART, "Model.tie_embeddings = False")
    flops = [
        model_flops_per_token(run.model, Network.create(run.model).specs, 256)
        for run in (tied, free)
    ]
    assert flops[0] == flops[1]


def test_a_window_needs_less_attention():
    """Six multiply-adds, forward and backward, a head and pair of positions in the window."""
    run = load(QUICKSTART, "Model.window = 100", "Model.window_pattern = ('local', 'global')")
    model, whole = run.model, load(QUICKSTART).model
    specs = Network.create(model).specs
    saved = sum(max(256 - 100 - i, 0) for i in range(256)) / 256
    fewer = model_flops_per_token(whole, specs, 256) - model_flops_per_token(model, specs, 256)
    layers = model.layer_kinds.count("local")
    expected = 12 * layers * model.num_heads * model.head_dim * saved
    assert fewer == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("topology", "overrides", "message"),
    [
        ("v5e-256", (), "Data.batch_size (128) must be a multiple of 256"),
        ("v5e-16", ("Data.batch_size = 100",), "Set Data.batch_size = 96"),
        ("v5e-16", ("Step.accumulation = 16",), "must be a multiple of 256"),
        ("2xv5e-16", (), "Mesh.slice (1) must be 2, the number of slices of 2xv5e-16"),
        ("v5e-16", ("Mesh.slice = 2",), "Mesh.slice (2) must be 1"),
        ("v5e-16", ("Mesh.tensor = 3",), "needs a multiple of 3 devices, but there are 16"),
        ("v5e-8", ("Mesh.context = 8", "Data.seq_len = 8188", "Step.loss_chunks = 1"), "Data.seq"),
        (
            "v5e-16",
            ("Mesh.context = 16", "Data.seq_len = 10240"),
            "Data.seq_len (10240 from step 0 on) must be a multiple of 4096 with Mesh.context = 16",
        ),
        (
            "v5e-16",
            ("Mesh.context = 2", "Data.seq_len = 4352", "Step.loss_chunks = 34"),
            "must be a multiple of 8704",
        ),
    ],
)
def test_what_cannot_be_divided_is_said_before_compiling(topology, overrides, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        planning.check(load(LLAMA, *overrides), parse_topology(topology))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("message", "gib"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (298.12G) exceeds available HBM (30.75G).",
            298.12,
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 33.90G of 31.24G hbm. Exceeded hbm capacity by 2.66G.",
            33.9,
        ),
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: XLA:TPU compile permanent error. Ran "
            "out of memory in memory space hbm. Used 512.00M of 15.75G hbm.",
            0.5,
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem while allocating. Used "
            "31.94M of 16.00M vmem.",
            None,
        ),
        ("INTERNAL: Mosaic failed to compile TPU kernel: unsupported shape", None),
    ],
)
def test_out_of_memory_is_told_from_other_failures(message, gib):
    needed = planning.out_of_hbm(message)
    assert needed == (None if gib is None else pytest.approx(gib * 2**30))


def test_a_compiler_failure_is_one_line():
    line = planning.one_line(
        "INTERNAL: Mosaic failed to compile TPU kernel: bad\nlayout\n\nThe MLIR operation "
        "involved:\n  %1 = tpu.x\n" + "x" * 10_000
    )
    assert line.endswith("Mosaic failed to compile TPU kernel: bad layout")
    assert len(planning.one_line("y " * 5000)) < 500


def command(
    topology: str,
    *overrides: str,
    file: str = LLAMA,
    output: pathlib.Path | None = None,
    price: float | None = None,
) -> int:
    from twjax.cli import plan

    parser = argparse.ArgumentParser()
    plan.add_arguments(parser)
    arguments = [file, "--topology", topology]
    for override in overrides:
        arguments += ["--set", override]
    if price is not None:
        arguments += ["--price", str(price)]
    if output is not None:
        arguments += ["--json", str(output)]
    return plan.run(parser.parse_args(arguments))


def test_the_command_refuses_before_it_compiles(capsys):
    pytest.importorskip("libtpu")
    with pytest.raises(ConfigError, match="Did you mean v5p-128"):
        command("v5pp-128")
    with pytest.raises(ValueError, match="multiple of 256"):
        command("v5e-256")
    with pytest.raises(ConfigError, match=r"--price -1.0: dollars a chip-hour"):
        command("v5e-16", price=-1.0)
    assert "compiling" not in capsys.readouterr().err


@pytest.fixture
def compiler():
    pytest.importorskip("libtpu")
    set_environment()


@pytest.mark.slow
def test_llama_3_8b_fits_a_v5p_128(compiler, capsys, tmp_path):
    assert command("v5p-128", output=tmp_path / "plan.json") == 0
    table = capsys.readouterr().out
    assert "It fits" in table
    assert "8,030,261,248" in table
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["fits"]
    assert plan["mesh"]["fsdp"] == 64
    assert plan["prediction"]["source"] == "cycles"
    assert 0.3 < plan["mfu"] < 0.8
    assert "bounds it" in table
    # Float32 weights and two moments over 64 devices, to within the padding of small ones.
    shard = plan["parameters"] * 4 / 64
    assert plan["memory_bytes"]["parameters"] == pytest.approx(shard, rel=0.01)
    assert plan["memory_bytes"]["optimizer"] == pytest.approx(2 * shard, rel=0.01)
    # The layers' inputs alone are 32 x 2 x 8,192 x 4,096 in bfloat16.
    assert 4 * 2**30 < plan["memory_bytes"]["temporaries"] < 24 * 2**30
    work = plan["device_work"]
    assert not work["unknown_loops"]
    # Full recomputation runs the layers' forward pass twice: 8 products of 6, and attention 9 of 7
    # (the fused backward kernel makes 5 products).
    executed = (work["matmul_flops"] + work["kernel_flops"]) / (plan["model_flops"] / 64)
    assert 1.2 < executed < 1.4
    gathered = sum(c["bytes"] for c in work["collectives"] if c["kind"] == "all-gather")
    # Each weight in bfloat16, in the layers' forward pass, its repetition and the backward pass.
    weights = 2 * plan["parameters"]
    assert 1.5 * weights < gathered < 3.1 * weights


@pytest.mark.slow
def test_llama_3_8b_fits_a_v5e_16_with_one_row_a_chip(compiler):
    plan = planning.plan(load(LLAMA, "Data.batch_size = 16"), parse_topology("v5e-16"))
    assert plan.memory.fits
    assert 0.75 < plan.memory.total / plan.memory.usable <= 1


def check_prediction(plan: planning.Plan) -> None:
    """A whole compilation has cycles, names what fills the memory, and counts as the work does."""
    prediction, work = plan.prediction, plan.work
    assert prediction is not None
    assert work is not None
    assert prediction.source == "cycles" or plan.quick
    assert not prediction.untimed
    assert plan.seconds_at_peak < prediction.seconds < 1
    assert {
        (t.kind, t.across_slices): (t.count, t.bytes)
        for t in prediction.traffic
        if t.kind not in (schedule.PREFETCH, schedule.HOST_COPY)
    } == {(c.kind, c.across_slices): (c.count, c.bytes) for c in work.collectives}
    assert plan.largest
    assert plan.largest[0].bytes < plan.memory.total


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topology", "quick"), [("v5e-16", False), ("v5p-128", False), ("v5e-16", True)]
)
def test_the_quickstart_compiles(compiler, topology, quick):
    run = load(QUICKSTART, "Data.batch_size = 64")
    plan = planning.plan(run, parse_topology(topology), quick=quick)
    assert plan.memory.fits
    assert plan.memory.total < 2**30
    assert plan.work is not None
    # Nothing is computed again, and attention is a kernel whatever its head size.
    assert plan.work.kernel_flops > 0
    assert not plan.work.unknown_loops
    check_prediction(plan)


@pytest.mark.slow
def test_slices_exchange_gradients_over_the_data_centre_network(compiler):
    untied = "Model.tie_embeddings = False"
    run = load(QUICKSTART, "Data.batch_size = 32", "Mesh.slice = 2", untied)
    plan = planning.plan(run, parse_topology("2xv5e-16"))
    assert plan.mesh == {"slice": 2, "data": 1, "fsdp": 16, "context": 1, "tensor": 1}
    assert plan.work is not None
    within = {c.kind for c in plan.work.collectives if not c.across_slices}
    between = [c for c in plan.work.collectives if c.across_slices]
    # Weights are gathered within a slice; only gradients and the loss's sums cross.
    assert within
    assert {c.kind for c in between} == {"all-reduce"}
    # Each device sends its sixteenth of the float32 gradients.
    assert sum(c.bytes for c in between) == pytest.approx(plan.num_parameters * 4 / 16, rel=0.2)
    check_prediction(plan)
    assert plan.prediction is not None
    # Each transfer between slices is awaited where it arrives.
    (crossing,) = [t for t in plan.prediction.traffic if t.across_slices]
    assert 0 < plan.prediction.exposed_dcn == crossing.exposed < crossing.seconds


@pytest.mark.slow
def test_too_large_a_step_does_not_fit(compiler, capsys):
    overrides = ("Data.batch_size = 64", "Step.remat = 'none'", "Step.attention = 'reference'")
    assert command("v5e-16", *overrides) == 2
    table = capsys.readouterr().out
    assert "It does not fit" in table
    assert "largest temporaries" in table
    assert "predicted" not in table
