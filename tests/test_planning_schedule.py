"""Seconds of a step by its schedule, against programs whose time is worked out by hand."""

import dataclasses

import numpy as np
import pytest

from twjax.planning import hlo, schedule
from twjax.planning.hbm import hbm_bytes
from twjax.planning.hlo_module import Module
from twjax.planning.hlo_text import Instruction
from twjax.planning.links import Links, replica_group
from twjax.planning.schedule import predict
from twjax.planning.topology import CHIPS, RATES, parse_topology

# 16 chips, 4 x 4 without a ring: 1.5 GHz, 45 GB/s a link, so 90 GB/s for all chips at once.
V5E = Links.of(parse_topology("v5e-16"))
MS = 1e-3
ALL = "replica_groups=mesh['axis_0'=16] {'axis_0'}, dimensions={0}"
ADD = """%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}
%work (q: f32[8]) -> f32[8] {
  %q = f32[8]{0} parameter(0)
  ROOT %n = f32[8]{0} negate(%q)
}"""


def cycles(milliseconds: float, clock: float = 1.5e9) -> str:
    return f'backend_config={{"estimated_cycles":"{round(milliseconds * MS * clock)}"}}'


def fused(name: str, milliseconds: float, operand: str = "p") -> str:
    config = cycles(milliseconds)
    return f"  %{name} = f32[8]{{0}} fusion(%{operand}), kind=kLoop, calls=%work, {config}\n"


def module(entry: str, body: str = "") -> str:
    main = f"ENTRY %main (p: f32[8]) -> f32[8] {{\n  %p = f32[8]{{0}} parameter(0)\n{entry}\n}}"
    return f"HloModule m, is_scheduled=true\n{ADD}\n{body}\n{main}\n"


def floats(milliseconds: float, bandwidth: float) -> int:
    """Returns how many float32 numbers pass in that time."""
    return round(milliseconds * MS * bandwidth / 4)


def check_sum(prediction: schedule.Prediction) -> None:
    p = prediction
    parts = (p.compute, p.kernels, p.exposed, p.exposed_dcn, p.host, p.prefetch)
    assert p.seconds == pytest.approx(sum(parts))
    assert p.compute == pytest.approx(p.matmul + p.other)


def flows(prediction: schedule.Prediction) -> dict[str, tuple[int, float, float]]:
    """Returns count, busy and exposed milliseconds by kind."""
    return {
        t.kind: (t.count, round(t.seconds / MS, 3), round(t.exposed / MS, 3))
        for t in prediction.traffic
    }


def test_a_synchronous_collective_stands_in_the_way():
    size = floats(2, 90e9)
    entry = fused("x", 3)
    entry += f"  %g = f32[{size}]{{0}} all-gather(%p), channel_id=1, {ALL}\n"
    entry += fused("y", 1)
    found = predict(module(entry), V5E)
    assert found.source == "cycles"
    assert found.seconds == pytest.approx(6 * MS)
    assert found.compute == pytest.approx(4 * MS)
    assert found.exposed == pytest.approx(2 * MS)
    assert flows(found) == {"all-gather": (1, 2, 2)}
    assert found.traffic[0].hidden == 0
    check_sum(found)


@pytest.mark.parametrize(("between", "exposed"), [(3, 0), (1.5, 0.5), (0.25, 1.75)])
def test_an_asynchronous_one_hides_behind_what_runs_meanwhile(between, exposed):
    size = floats(2, 90e9)
    entry = f"  %s = (f32[8]{{0}}, f32[{size}]{{0}}) all-gather-start(%p), {ALL}\n"
    entry += fused("x", between)
    entry += f"  %g = f32[{size}]{{0}} all-gather-done(%s)\n"
    entry += fused("y", 1)
    found = predict(module(entry), V5E)
    assert found.exposed == pytest.approx(exposed * MS, abs=1e-9)
    assert found.seconds == pytest.approx((between + 1 + exposed) * MS)
    assert found.traffic[0].hidden == pytest.approx(1 - exposed / 2, abs=1e-6)


def test_transfers_take_turns_on_the_same_links():
    size = floats(2, 90e9)
    entry = ""
    for name in "ab":
        entry += f"  %s{name} = (f32[8]{{0}}, f32[{size}]{{0}}) all-gather-start(%p), {ALL}\n"
    entry += fused("x", 1)
    for name in "ab":
        entry += f"  %g{name} = f32[{size}]{{0}} all-gather-done(%s{name})\n"
    # The first ends at 2 ms and the second, which waits for it, at 4.
    assert predict(module(entry), V5E).exposed == pytest.approx(3 * MS)


@pytest.mark.parametrize(("back", "seconds"), [("{0,15},{1,0}", 4), ("{0,1},{1,2}", 8)])
def test_the_directions_of_a_ring_are_links_of_their_own(back, seconds):
    size = floats(4, 45e9)
    entry = f"  %w = f32[{size}]{{0}} broadcast(%p), dimensions={{}}, {cycles(1)}\n"
    entry += fused("x", 1)
    for name, pairs in (("a", "{0,1},{1,2}"), ("b", back)):
        entry += f"  %s{name} = (f32[{size}]{{0}}, f32[{size}]{{0}}) collective-permute-start(%w),"
        entry += f" source_target_pairs={{{pairs}}}\n"
    for name in "ab":
        entry += f"  %d{name} = f32[{size}]{{0}} collective-permute-done(%s{name})\n"
    found = predict(module(entry), V5E)
    assert found.exposed == pytest.approx(seconds * MS)
    assert found.seconds == pytest.approx((2 + seconds) * MS)


LOOP = """%body (s: (s32[], f32[8])) -> (s32[], f32[8]) {{
  %s = (s32[], f32[8]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[8]{{0}} get-tuple-element(%s), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
{inner}  ROOT %out = (s32[], f32[8]{{0}}) tuple(%next, %x)
}}
%condition (s: (s32[], f32[8])) -> pred[] {{
  %s.1 = (s32[], f32[8]{{0}}) parameter(0)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  %n.1 = s32[] constant({trips})
  ROOT %less = pred[] compare(%i.1, %n.1), direction=LT
}}"""
WHILE = """  %zero = s32[] constant(0)
  %state = (s32[], f32[8]{0}) tuple(%zero, %p)
  %w = (s32[], f32[8]{0}) while(%state), condition=%condition, body=%body
"""


def test_a_loop_counts_its_trips():
    size = floats(1, 90e9)
    inner = fused("y", 2, "x")
    inner += f"  %r = f32[{size}]{{0}} all-reduce(%x), {ALL}, to_apply=%add\n"
    text = module(WHILE + fused("z", 5), LOOP.format(inner=inner, trips=7))
    found = predict(text, V5E)
    # An all-reduce passes the links twice.
    assert found.seconds == pytest.approx((7 * (2 + 2) + 5) * MS)
    assert flows(found) == {"all-reduce": (7, 14, 14)}
    check_sum(found)
    # The counts are those of the work.
    (counted,) = hlo.analyse(text).collectives
    assert (counted.count, counted.bytes) == (found.traffic[0].count, found.traffic[0].bytes)


def test_only_the_longest_branch_runs_and_a_call_is_walked():
    body = "".join(
        f"%{name} (q: f32[8]) -> f32[8] {{\n  %q = f32[8]{{0}} parameter(0)\n"
        f"{fused('f', ms, 'q')}}}\n"
        for name, ms in (("short", 1), ("long", 4), ("other", 2))
    )
    entry = "  %c = f32[8]{0} conditional(%p, %p, %p), branch_computations={%short, %long}\n"
    entry += "  %d = f32[8]{0} call(%p), to_apply=%other\n" + fused("x", 1)
    assert predict(module(entry, body), V5E).seconds == pytest.approx(7 * MS)


PRODUCT = """%product (a: bf16[4096,8192], b: bf16[8192,2048]) -> bf16[4096,2048] {
  %a = bf16[4096,8192]{1,0} parameter(0)
  %b = bf16[8192,2048]{1,0} parameter(1)
  ROOT %c = bf16[4096,2048]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}"""
OPERANDS = """  %a.1 = bf16[4096,8192]{1,0} parameter(1)
  %b.1 = bf16[8192,2048]{1,0} parameter(2)
"""


def test_without_the_compilers_cycles_arithmetic_or_traffic_decides():
    entry = OPERANDS
    entry += "  %f = bf16[4096,2048]{1,0} fusion(%a.1, %b.1), kind=kOutput, calls=%product\n"
    entry += "  %t = bf16[8192,4096]{1,0} transpose(%a.1), dimensions={1,0}\n"
    found = predict(module(entry, PRODUCT), V5E)
    product = 2 * 4096 * 8192 * 2048 / (0.95 * 197e12)
    moved = 2 * 4096 * 8192 * 2 / (0.85 * 819e9)
    assert found.source == "roofline"
    assert found.matmul == pytest.approx(product)
    assert found.other == pytest.approx(moved)
    assert found.seconds == pytest.approx(product + moved)


def test_the_compilers_cycles_go_before_the_roofline():
    entry = OPERANDS
    entry += "  %f = bf16[4096,2048]{1,0} fusion(%a.1, %b.1), kind=kOutput, calls=%product, "
    entry += f"{cycles(9)}\n" + fused("x", 1)
    found = predict(module(entry, PRODUCT), V5E)
    assert (found.source, found.matmul) == ("cycles", pytest.approx(9 * MS))
    assert found.seconds == pytest.approx(10 * MS)
    # A few instructions have cycles before code is generated: those don't make it the compiler's.
    plain = "".join(fused(f"n{i}", 0).partition(", backend")[0] + "\n" for i in range(9))
    assert predict(module(entry + plain, PRODUCT), V5E).source == "roofline"


def test_attention_kernels_run_at_half_of_the_peak_and_others_are_named():
    target = 'custom_call_target="tpu_custom_call"'
    entry = f"""  %q = bf16[2,4,256,64]{{3,2,1,0}} parameter(1)
  %k = bf16[2,256,64]{{2,1,0}} parameter(2)
  %splash_mqa_fwd_residuals.1 = f32[2,4,256,64]{{3,2,1,0}} custom-call(%q, %k, %k), {target}
  %mine.3 = f32[8]{{0}} custom-call(%p), {target}
"""
    found = predict(module(entry + fused("x", 1)), V5E)
    flops = 8 * 2 * 2 * 256 * 256 * 64 / 2
    assert found.kernels == pytest.approx(flops / (0.5 * 197e12))
    assert found.untimed == ("mine.3",)
    check_sum(found)


@pytest.mark.parametrize(
    ("layout", "kind", "bandwidth"),
    [("{0:T(256)S(5)}", "host-copy", 16e9), ("{0:T(256)S(1)}", "prefetch", 819e9)],
)
def test_copies_between_memories_overlap_too(layout, kind, bandwidth):
    size = floats(4, bandwidth)
    entry = f"  %h = f32[{size}]{{0}} parameter(1)\n"
    entry += f"  %s = (f32[{size}]{{0}}, f32[{size}]{layout}, u32[]) copy-start(%h)\n"
    entry += fused("x", 1)
    entry += f"  %d = f32[{size}]{layout} copy-done(%s)\n"
    found = predict(module(entry), V5E)
    assert flows(found) == {kind: (1, 4, 3)}
    assert (found.host, found.prefetch) == (
        (pytest.approx(3 * MS), 0) if kind == "host-copy" else (0, pytest.approx(3 * MS))
    )
    check_sum(found)


def test_a_copy_to_the_host_that_nothing_overlaps_blocks():
    size = floats(2, 16e9)
    entry = f"  %h = f32[{size}]{{0}} parameter(1)\n" + fused("x", 1)
    entry += f"  %c = f32[{size}]{{0:T(256)S(5)}} copy(%h)\n"
    assert predict(module(entry), V5E).host == pytest.approx(2 * MS)


@pytest.mark.parametrize("slices", [2, 4])
@pytest.mark.parametrize(("between", "exposed"), [(30, 0), (4, 6)])
@pytest.mark.parametrize("named", [True, False])
def test_slices_exchange_over_a_network_of_their_own(slices, between, exposed, named):
    """Half of 25 Gbit/s a chip; each slice sends 2 (n - 1) / n of what is summed."""
    links = Links.of(parse_topology(f"{slices}xv5e-16"))
    size = floats(10 / (2 * (slices - 1) / slices), 25e9 / 8 / 2)
    rendezvous = '_xla_host_transfer_rendezvous="psum.7_0",' if named else ""
    crossing = (
        "channel_id=2, is_host_transfer=true, frontend_attributes={"
        f'{rendezvous}_xla_megascale_transfer_type="ALL_REDUCE"}}'
    )
    entry = f"""  %h = f32[{size}]{{0}} parameter(1)
  %t = token[] after-all()
  %v = (f32[{size}]{{0}}, u32[], token[]) recv(%t), {crossing}
  %s = (f32[{size}]{{0}}, u32[], token[]) send(%h, %t), {crossing}
{fused("x", between)}  %u = token[] send-done(%s), channel_id=2, is_host_transfer=true
  %e = (f32[{size}]{{0}}, token[]) recv-done(%v), channel_id=2, is_host_transfer=true
"""
    found = predict(module(entry), links)
    assert found.exposed_dcn == pytest.approx(exposed * MS, rel=1e-6)
    assert (found.exposed, found.host) == (0, 0)
    assert found.seconds == pytest.approx((between + exposed) * MS, rel=1e-6)
    (traffic,) = found.traffic
    assert (traffic.kind, traffic.across_slices, traffic.count) == ("all-reduce", True, 1)
    check_sum(found)


def test_a_collective_in_fusions_runs_from_its_start_to_its_end():
    size = floats(2, 90e9)
    gather = (
        f"%g = f32[{size}]{{0}} all-gather(%q), {ALL}, "
        'backend_config={"async_collective_fusion_config":{}}'
    )
    body = ""
    for name, target in (
        ("start", "AsyncCollectiveStart"),
        ("during", "other"),
        ("finish", "AsyncCollectiveDone"),
    ):
        body += f"""%{name} (q: f32[8]) -> f32[{size}] {{
  %q = f32[8]{{0}} parameter(0)
  {gather}
  ROOT %t = f32[8]{{0}} custom-call(%g), custom_call_target="{target}"
}}
"""
    shape = f"f32[{size}]{{0}}"
    entry = f"""  %a = ({shape}, u32[]) fusion(%p), kind=kCustom, calls=%start, {cycles(0.001)}
  %e = {shape} get-tuple-element(%a), index=0
  %b = {shape} fusion(%p), kind=kOutput, calls=%during, {cycles(0.5)}
  %c = {shape} fusion(%e), kind=kCustom, calls=%finish, {cycles(1)}
"""
    found = predict(module(entry, body), V5E)
    # The transfer begins with its fusion.
    assert flows(found) == {"all-gather": (1, 2, 1.499)}
    assert found.seconds == pytest.approx(3 * MS, rel=1e-5)


def test_an_asynchronous_computation_is_what_it_wraps():
    size = floats(2, 90e9)
    body = f"""%wrapped (q: f32[{size}]) -> f32[8] {{
  %q = f32[{size}]{{0}} parameter(0)
  ROOT %r = f32[8]{{0}} reduce-scatter(%q), {ALL}, to_apply=%add
}}"""
    entry = f"""  %h = f32[{size}]{{0}} parameter(1)
  %s = ((f32[{size}]{{0}}), f32[8]{{0}}) async-start(%h), calls=%wrapped
{fused("x", 1)}  %d = f32[8]{{0}} async-done(%s)
"""
    assert flows(predict(module(entry, body), V5E)) == {"reduce-scatter": (1, 2, 1)}


@pytest.mark.parametrize(
    ("topology", "groups", "lanes"),
    [
        # Along one axis of a 4 x 4 without rings; over both; two neighbours.
        ("v5e-16", "{{0,1,2,3},{4,5,6,7}}", 1),
        ("v5e-16", "[4,4]<=[4,4]T(1,0)", 1),
        ("v5e-16", "[1,16]<=[16]", 2),
        ("v5e-16", "{}", 2),
        # Rings in three dims, and a part of one, which is none.
        ("v5p-128", "[1,64]<=[64]", 6),
        ("v5p-128", "mesh['a'=4,'b'=16] {'b'}", 4),
        ("v5p-128", "mesh['a'=4,'b'=16] {'a'}", 2),
        ("v5p-128", "mesh['a'=64] {'a':(16)2}", 1),
        ("v5p-32", "[1,16]<=[16]", 3),
        # Both devices of a chip are in the same place.
        ("tpu7x-128", "[64,2]<=[128]", 1),
    ],
)
def test_a_group_uses_the_links_of_the_axes_on_which_it_lies(topology, groups, lanes):
    links = Links.of(parse_topology(topology))
    assert links.lanes(instruction(groups)) == lanes
    assert links.seconds("all-gather", 90e9, instruction(groups)) == pytest.approx(
        90e9 / (links.bandwidth * lanes)
    )


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("{{0,2},{1,3}}", [0, 2]),
        ("[2,4]<=[8]", [0, 1, 2, 3]),
        ("[4,2]<=[2,4]T(1,0)", [0, 4]),
        ("mesh['a'=2,'b'=4] {'a'}", [0, 4]),
        ("mesh['a'=2,'b'=4] {'a','b'}", list(range(8))),
        ("mesh['a'=8] {'a':(2)2}", [0, 2]),
        ("{}", None),
    ],
)
def test_groups_are_read_in_each_notation(groups, expected):
    assert replica_group(f", replica_groups={groups}, dimensions={{0}}") == expected


def test_places_follow_the_order_of_the_mesh():
    """The mesh's devices say where they are; another order puts a group on another axis."""

    @dataclasses.dataclass
    class Device:
        coords: tuple[int, ...]
        slice_index: int = 0

    topology = parse_topology("2xv5e-16")
    devices = [Device((y, x, 0), s) for s in range(2) for x in range(4) for y in range(4)]
    links = Links.of(topology, devices)
    assert links.coords[:2] == ((0, 0, 0), (1, 0, 0))
    assert len(links.coords) == 16
    # Eight in a row go round the third dim of 4 x 4 x 8; in another order, over two of the others.
    topology = parse_topology("v5p-256")
    places = list(np.ndindex(*topology.shape))
    eight = instruction("[16,8]<=[128]")
    assert Links.of(topology, [Device(p) for p in places]).lanes(eight) == 2
    turned = [Device((x, y, z)) for z, y, x in np.ndindex(8, 4, 4)]
    assert Links.of(topology, turned).lanes(eight) == 3


def instruction(groups: str) -> Instruction:
    attributes = f", replica_groups={groups}, dimensions={{0}}"
    return Instruction("g", "all-gather", "f32[64]{0}", (), "", attributes, False)


def test_what_a_fusion_moves_is_what_it_slices_and_updates():
    body = """%sliced (a: f32[64,128], b: f32[32,128], i: s32[]) -> f32[32,128] {
  %a = f32[64,128]{1,0} parameter(0)
  %b = f32[32,128]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %d = f32[1,128]{1,0} dynamic-slice(%a, %i, %i), dynamic_slice_sizes={1,128}
  ROOT %u = f32[32,128]{1,0} dynamic-update-slice(%b, %d, %i, %i)
}"""
    entry = """  %x = f32[64,128]{1,0} parameter(1)
  %y = f32[32,128]{1,0} parameter(2)
  %v = f32[64,128]{1,0:T(8,128)S(1)} parameter(3)
  %i.1 = s32[]{:T(128)S(6)} parameter(4)
  %f = f32[32,128]{1,0} fusion(%x, %y, %i.1), kind=kLoop, calls=%sliced
  %c = f32[64,128]{1,0} copy(%v)"""
    parsed = Module(module(entry, body))
    names = parsed.computations[parsed.entry]
    row = 128 * 4
    # The slice, its place in the target, which is written, and the index.
    assert hbm_bytes(names["f"], names, parsed) == row + 2 * row + 4
    # What comes from the core's memory isn't read from HBM.
    assert hbm_bytes(names["c"], names, parsed) == 64 * row


def test_the_rates_of_a_chip_fit_its_peak():
    """The clock is that with which four matrix units a core make the peak."""
    units = {"v4": 8 * 128**2, "v5e": 4 * 128**2, "v5p": 8 * 128**2}
    units |= {"v6e": 4 * 256**2, "tpu7x": 8 * 256**2}
    for name, multipliers in units.items():
        assert CHIPS[name].flops == pytest.approx(2 * multipliers * RATES[name].hertz, rel=0.01)
    assert set(RATES) == set(CHIPS)
    assert all(np.diff([r.dcn, r.link, r.hbm])[0] > 0 for r in RATES.values())
