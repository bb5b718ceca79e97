"""What a plan says of a step and of a whole run, for plans made by hand."""

import dataclasses
import json

import pytest

from twjax import config
from twjax.models.network import network as declare
from twjax.planning import prices, verdict
from twjax.planning.buffers import Buffer, largest
from twjax.planning.compile import Memory, Plan, heaviest
from twjax.planning.flops import model_flops_per_row
from twjax.planning.hlo import Work
from twjax.planning.hlo_module import Module
from twjax.planning.schedule import Prediction, Traffic
from twjax.planning.table import as_dict, render
from twjax.planning.topology import GIB, parse_topology
from twjax.planning.whole import whole_run

QUICKSTART = "runs/quickstart_base.gin"


def load(*overrides: str) -> config.Run:
    return config.load(config.Run, [QUICKSTART], overrides).value


def predicted(**parts: float) -> Prediction:
    """A prediction whose seconds are the sum of its parts."""
    known = dict.fromkeys(("matmul", "other", "kernels", "exposed", "exposed_dcn", "host"), 0.0)
    known |= parts
    compute = known["matmul"] + known.pop("other")
    seconds = compute + sum(value for name, value in known.items() if name != "matmul")
    traffic = (
        Traffic("all-gather", False, 450, 24 * GIB, 0.4, 0.1),
        Traffic("all-reduce", True, 16, GIB, 0.2, 0.2),
        Traffic("prefetch", False, 9, GIB, 0.1, 0.0),
    )
    return Prediction(
        seconds=seconds,
        compute=compute,
        matmul=known["matmul"],
        kernels=known["kernels"],
        exposed=known["exposed"],
        exposed_dcn=known["exposed_dcn"],
        host=known["host"],
        prefetch=0.0,
        source="cycles",
        traffic=traffic,
    )


def plan(
    run: config.Run, topology: str = "v5e-16", prediction: Prediction | None = None, **changes
) -> Plan:
    run = heaviest(run)
    slices = parse_topology(topology)
    specs = declare(run.model).specs
    flops = run.data.batch_size * model_flops_per_row(run.model, specs, run.data.lengths)
    memory = Memory(GIB, 2 * GIB, 0.0, 0.0, 8 * GIB, 0.0, 0.0, 15.75 * GIB, True)
    made = Plan(
        topology=slices,
        mesh={"slice": 1, "data": 1, "fsdp": slices.num_devices, "context": 1, "tensor": 1},
        num_parameters=1_000,
        tokens=run.data.batch_size * sum(run.data.lengths),
        model_flops=flops,
        memory=memory,
        work=Work(flops / slices.num_devices, 0.0, (), ()),
        prediction=prediction,
        largest=(Buffer("forward, kept of each layer", "bf16[8,64]", 2, 4 * GIB),),
        quick=False,
        compile_seconds=3.0,
    )
    return dataclasses.replace(made, **changes)


def test_mfu_and_tokens_are_those_of_the_predicted_step():
    found = plan(load("Data.batch_size = 64"), prediction=predicted(matmul=0.25))
    assert found.mfu == pytest.approx(found.model_flops / (16 * 197e12) / 0.25)
    assert found.tokens_per_second == found.tokens / 0.25
    without = plan(load("Data.batch_size = 64"))
    assert (without.mfu, without.tokens_per_second) == (None, None)


@pytest.mark.parametrize(
    ("parts", "bound", "advice"),
    [
        ({"matmul": 9.0, "exposed": 0.3}, "matrix unit", "little to gain"),
        ({"matmul": 5.0, "exposed": 2.0}, "matrix unit", "29% of the step: devices wait for their"),
        ({"matmul": 1.0, "exposed": 2.0, "other": 1.9}, "ICI", "their slice's links"),
        ({"matmul": 1.0, "exposed_dcn": 2.0}, "DCN", "more tokens a step"),
        ({"matmul": 1.0, "host": 2.0}, "host", "compute it again"),
        ({"matmul": 1.0, "other": 2.0}, "HBM", "more rows a device"),
        ({"matmul": 1.0, "kernels": 2.0}, "attention", "shorter rows"),
    ],
)
def test_the_verdict_names_the_largest_part_and_what_helps(parts, bound, advice):
    found = verdict.verdict(plan(load(), prediction=predicted(**parts)))
    assert found is not None
    assert found.bound == bound
    assert sum(found.shares.values()) == pytest.approx(1)
    assert advice in found.advice


def test_what_is_computed_again_is_weighed_against_the_memory_that_is_left():
    base = plan(load(), prediction=predicted(matmul=9.0, kernels=1.0))
    assert base.work is not None
    again = dataclasses.replace(base.work, matmul_flops=base.work.matmul_flops * 1.25)
    found = verdict.verdict(dataclasses.replace(base, work=again))
    assert found is not None
    assert "the 20% of the arithmetic that is computed again" in found.advice
    assert "4.8 GiB are left" in found.advice


def test_trust_says_how_the_seconds_were_made():
    run, prediction = load(), predicted(matmul=1.0, kernels=0.5)

    def said(topology="v5e-16", **changes):
        changed = dataclasses.replace(prediction, **changes)
        return " ".join(verdict.trust(plan(run, topology, changed)))

    assert "compiler's own cycles" in said()
    assert "within 8%" in said()
    assert "50% of peak" in said()
    assert "no code was generated" in said(source="roofline")
    assert "never compared with a run on v6e" in said("v6e-16")
    host = (Traffic("host-copy", False, 4, GIB, 0.1, 0.0),)
    assert "54%" in said(traffic=host)
    assert "within 8%" not in said(traffic=host)
    assert "50% of the 25 Gbit/s that Cloud specifies" in said("2xv5e-16")
    assert "mine.3" in said(untimed=("mine.3",))
    assert verdict.trust(plan(run)) == []
    quick = plan(run, prediction=prediction, quick=True)
    assert "least effort" in verdict.trust(quick)[-1]


def test_a_run_is_all_its_steps_over_all_shapes_of_its_batches():
    run = load(
        "Run.steps = 100",
        "Data.batch_size = 16",
        "Data.batch_ramp = ((40, 64),)",
        "Schedule.warmup_steps = 1",
        "Evaluation.every = 50",
        "Checkpoint.every = 50",
    )
    found = whole_run(run, plan(run, prediction=predicted(matmul=0.5)), price=2.0)
    (length,) = heaviest(run).data.lengths
    assert found.tokens == (40 * 16 + 60 * 64) * length
    # Forty steps with a quarter of the rows take a quarter of the time.
    assert found.seconds == pytest.approx((40 / 4 + 60) * 0.5)
    (cost,) = found.costs
    assert found.hours is not None
    assert cost.of(found.hours) == pytest.approx(16 * 2.0 * 35 / 3600)
    assert cost.origin == "your price"
    without = whole_run(run, plan(run))
    assert (without.seconds, without.days, without.hours) == (None, None, None)


def test_the_lowest_list_prices_are_offered():
    on_demand, spot = prices.offers(parse_topology("v5e-16"))
    table = prices.PRICES["v5e"].values()
    assert on_demand.chip_hour == min(price for price, _ in table)
    assert spot.chip_hour == min(price for _, price in table if price is not None)
    assert "on demand in" in on_demand.origin
    assert "spot in" in spot.origin
    assert prices.DATE in spot.origin
    assert prices.offers(parse_topology("tpu7x-128")) == []


def test_the_table_and_json_have_all_of_it():
    run = load("Data.batch_size = 64")
    work = Work(0.5 * 0.7 * 197e12, 0.0, (), ())
    made = plan(run, "2xv5e-16", predicted(matmul=0.7, exposed=0.1, exposed_dcn=0.2), work=work)
    whole = whole_run(run, made)
    text = render(made, heaviest(run), "a.gin", whole)
    for expected in (
        "matrix products                  0.7000    70.0%   at 50% of the peak",
        "waiting for the slice            0.1000    10.0%   links between chips (ICI)",
        "waiting for other slices         0.2000    20.0%",
        "total                            1.0000",
        f"MFU {made.mfu:.1%}; {made.tokens:,} tokens a second, {made.tokens / 32:,.0f} a chip",
        "The matrix unit bounds it, 70% of the step.",
        "all-gather                            450       24.000   0.4000      75%",
        "all-reduce                             16        1.000   0.2000       0%   between slices",
        "4.000  2 x bf16[8,64]                  forward, kept of each layer",
        f"the run: {run.steps:,} steps, {run.steps * made.tokens:,} tokens",
        "32 chips at $1.20 a chip-hour: list price, on demand in us-",
        "a chip-hour: list price, spot in us-",
    ):
        assert expected in text
    assert "prefetch" not in text
    assert "one step, predicted                     s    share" in text
    short = plan(run, "2xv5e-16", predicted(matmul=0.07))
    text = render(short, heaviest(run), "a.gin", whole_run(run, short))
    assert "one step, predicted                    ms    share" in text
    assert "matrix products                 70.0000   100.0%" in text
    assert run.steps == 500
    assert "  35.0 seconds of steps at that speed" in text
    assert max(map(len, text.splitlines())) <= 100
    figures = json.loads(json.dumps(as_dict(made, whole)))
    assert figures["prediction"]["exposed_dcn"] == 0.2
    assert figures["mfu"] == made.mfu
    assert figures["verdict"]["bound"] == "matrix unit"
    assert figures["run"]["tokens"] == run.steps * made.tokens
    assert len(figures["run"]["costs"]) == 2
    assert figures["largest_temporaries"][0]["count"] == 2


def test_what_is_not_known_is_said_or_left_out():
    run = load("Data.batch_size = 64")
    made = plan(run, "tpu7x-128", predicted(matmul=1.0))
    text = render(made, heaviest(run), "a.gin", whole_run(run, made))
    assert "no price of this type is known here; give yours: --price USD" in text
    without = plan(run, work=None, largest=())
    text = render(without, heaviest(run), "a.gin", whole_run(run, without))
    assert "predicted" not in text
    assert "$" not in text
    # What doesn't fit says what fills it all the same.
    memory = dataclasses.replace(without.memory, temporaries=20 * GIB, fits=False)
    large = plan(run, work=None, memory=memory)
    text = render(large, heaviest(run), "a.gin")
    assert "It does not fit: 7.25 GiB too much" in text
    assert "4.000  2 x bf16[8,64]                  forward, kept of each layer" in text
    assert as_dict(without)["prediction"] is None


def test_the_largest_temporaries_are_told_by_what_makes_them():
    """XLA's notation; what takes turns in the same memory counts once, the largest of it."""
    path = "jit(step)/jvp()/while/body/closed_call"
    back = "jit(step)/transpose(jvp())/while/body/closed_call/checkpoint/BSF,FD->BSD/dot_general"
    module = Module(f"""HloModule m, is_scheduled=true
ENTRY %main (p: f32[8]) -> f32[8] {{
  %p = f32[8]{{0}} parameter(0)
  %bitcast_dynamic-update-slice_fusion.1 = bf16[2,8,64]{{2,1,0}} fusion(%p), calls=%x, \
metadata={{op_name="{path}/BSD,DF->BSF/dot_general"}}
  %bitcast_dynamic-update-slice_fusion.2 = bf16[2,8,64]{{2,1,0}} fusion(%p), calls=%x, \
metadata={{op_name="{path}/BSD,DF->BSF/dot_general"}}
  %fusion.8 = bf16[2,4]{{1,0}} fusion(%p), calls=%x, \
metadata={{op_name="{path}/dynamic_update_slice"}}
  %fusion.7 = bf16[8,64]{{1,0}} fusion(%p), calls=%x, metadata={{op_name="{back}"}}
  %multiply.1 = f32[9]{{0}} multiply(%p, %p), metadata={{op_name="jit(step)/mul"}}
  ROOT %all-gather.3 = f32[8]{{0}} all-gather(%p)
}}
""")
    text = """BufferAssignment:
allocation 0: size 90000, page 0, parameter 6, shape |f32[32]| at ShapeIndex {}:
 value: <1 param.42 @0> (size=90000,offset=0): f32[32]{0}
allocation 1: size 100000, color 1, page 0, preallocated-temp:
 value: <2 vmem.1 @0> (size=100000,offset=0): f32[25000]{0}
allocation 2: size 9000, page 0, preallocated-temp:
 value: <3 custom-call.9 @0> (size=2048,offset=0): bf16[2,8,64]{2,1,0:T(8,128)(2,1)}
 value: <4 bitcast_dynamic-update-slice_fusion.1{0} @0> (size=2048,offset=0): bf16[2,8,64]{2,1,0}
 value: <5 bitcast_dynamic-update-slice_fusion.2 @0> (size=2048,offset=4096): bf16[2,8,64]{2,1,0}
 value: <6 fusion.7 @0> (size=1024,offset=2048): bf16[8,64]{1,0:T(8,128)(2,1)}
 value: <9 fusion.8 @0> (size=16,offset=8100): bf16[2,4]{1,0}
 value: <7 multiply.1 @0> (size=36,offset=2100): f32[9]{0}
 value: <8 all-gather.3 @0> (size=32,offset=8000): f32[8]{0}
"""
    layers = "forward, kept of each layer: BSD,DF->BSF"
    assert largest(text, module) == (
        Buffer(layers, "bf16[2,8,64]", 2, 4096),
        Buffer("backward, BSF,FD->BSD", "bf16[8,64]", 1, 1024),
        Buffer("all-gather", "f32[8]", 1, 32),
        Buffer("forward, kept of each layer", "bf16[2,4]", 1, 16),
    )
    assert largest(text, module, top=1) == (Buffer(layers, "bf16[2,8,64]", 2, 4096),)
    assert largest("", module) == ()
