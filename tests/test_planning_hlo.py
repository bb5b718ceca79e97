"""What an HLO module executes, against programs whose work is known."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from twjax.planning import hlo


def collectives(work: hlo.Work) -> dict[tuple[str, bool], tuple[int, float]]:
    return {(c.kind, c.across_slices): (c.count, c.bytes) for c in work.collectives}


def module(body: str, entry: str) -> str:
    main = f"ENTRY %main (p: f32[8]) -> f32[8] {{\n{entry}\n}}"
    return f"HloModule m, is_scheduled=true\n{body}\n{main}\n"


# The TPU compiler's text: the trip count isn't noted, and the bound comes in as an element.
LOOP = """
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}
%body (s: (s32[], f32[8], s32[])) -> (s32[], f32[8], s32[]) {
  %s = (s32[]{:T(128)}, f32[8]{0}, s32[]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[8]{0} get-tuple-element(%s), index=1
  %n = s32[] get-tuple-element(%s), index=2
  %one = s32[] constant(STEP)
  %next = s32[] add(%i, %one)
  INNER
  ROOT %out = (s32[], f32[8]{0}, s32[]) tuple(%next, %y, %n)
}
%condition (s: (s32[], f32[8], s32[])) -> pred[] {
  %s.1 = (s32[], f32[8], s32[]) parameter(0)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  %n.1 = s32[] get-tuple-element(%s.1), index=2
  ROOT %less = pred[] compare(%i.1, %n.1), direction=LT
}"""
ENTRY_LOOP = """  %p = f32[8]{0} parameter(0)
  %zero = s32[]{:T(128)} constant(START)
  %bound = s32[] constant(BOUND)
  %copied = s32[] copy(%bound)
  %state = (s32[], f32[8], s32[]) tuple(%zero, %p, %copied)
  %while.1 = (s32[], f32[8], s32[]) while(%state), condition=%condition, body=%body
  ROOT %r = f32[8]{0} get-tuple-element(%while.1), index=1"""
REDUCE = "%y = f32[8]{0} all-reduce(%x), replica_groups={{0,1,2,3}}, to_apply=%add"


def loop(inner: str, start: int, bound: int, step: int) -> str:
    body = LOOP.replace("INNER", inner).replace("STEP", str(step))
    return module(body, ENTRY_LOOP.replace("START", str(start)).replace("BOUND", str(bound)))


@pytest.mark.parametrize(
    ("start", "bound", "step"), [(0, 32, 1), (3, 32, 1), (0, 32, 2), (0, 31, 2), (5, 5, 1)]
)
def test_a_loop_counts_its_trips(start, bound, step):
    work = hlo.analyse(loop(REDUCE, start, bound, step))
    trips = len(range(start, bound, step))
    expected = {("all-reduce", False): (trips, 32.0 * trips)} if trips else {}
    assert collectives(work) == expected
    assert not work.unknown_loops


def test_a_loop_that_cannot_be_read_counts_once_and_is_named():
    text = loop(REDUCE, 0, 32, 1).replace("constant(32)", "custom-call(), custom_call_target=x")
    work = hlo.analyse(text)
    assert collectives(work) == {("all-reduce", False): (1, 32.0)}
    assert work.unknown_loops == ("while.1",)


def test_an_asynchronous_pair_counts_once():
    entry = """  %p = f32[8]{0} parameter(0)
  %s = (f32[8]{0}, f32[64]{0}) all-gather-start(%p), replica_groups=[1,8]<=[8], dimensions={0}
  %g = f32[64]{0} all-gather-done(%s)
  %c = (f32[8]{0}, f32[8]{0}) collective-permute-start(%p), source_target_pairs={{0,1},{1,0}}
  %d = f32[8]{0} collective-permute-done(%c)
  ROOT %r = f32[8]{0} slice(%g), slice={[0:8]}"""
    assert collectives(hlo.analyse(module("", entry))) == {
        ("all-gather", False): (1, 256.0),
        ("collective-permute", False): (1, 32.0),
    }


def test_a_collective_spread_over_fusions_counts_where_it_starts():
    gather = (
        "%g = f32[64]{0} all-gather(%q), replica_groups=[1,8]<=[8], dimensions={0}, "
        'backend_config={"async_collective_fusion_config":{}}'
    )
    body = ""
    for name, target in (
        ("start", "AsyncCollectiveStart"),
        ("during", "other"),
        ("finish", "AsyncCollectiveDone"),
    ):
        body += f"""
%{name} (q: f32[8]) -> f32[64] {{
  %q = f32[8]{{0}} parameter(0)
  %t = f32[8]{{0}} custom-call(%q), custom_call_target="{target}"
  ROOT {gather}
}}"""
    entry = """  %p = f32[8]{0} parameter(0)
  %a = f32[64]{0} fusion(%p), kind=kCustom, calls=%start
  %b = f32[64]{0} fusion(%p), kind=kOutput, calls=%during
  %c = f32[64]{0} fusion(%p), kind=kCustom, calls=%finish
  ROOT %r = f32[8]{0} slice(%c), slice={[0:8]}"""
    assert collectives(hlo.analyse(module(body, entry))) == {("all-gather", False): (1, 256.0)}


def test_an_all_reduce_that_is_sliced_in_its_fusion_is_a_reduce_scatter():
    body = """
%fused (q: f32[64], i: s32[]) -> f32[8] {
  %q = f32[64]{0} parameter(0)
  %i = s32[] parameter(1)
  %r = f32[64]{0} all-reduce(%q), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  ROOT %d = f32[8]{0} dynamic-slice(%r, %i), dynamic_slice_sizes={8}
}"""
    entry = """  %p = f32[64]{0} parameter(0)
  %z = s32[] constant(0)
  ROOT %f = f32[8]{0} fusion(%p, %z), kind=kLoop, calls=%fused"""
    assert collectives(hlo.analyse(module(body, entry))) == {("reduce-scatter", False): (1, 256.0)}


def test_what_leaves_a_slice_is_told_apart():
    """Several slices: one slice's program, and transfers through the host for the rest."""
    send = """%t = token[] after-all()
  %w = (f32[8]{0}, u32[], token[]) send(%x, %t), channel_id=2, is_host_transfer=true, \
frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %u = token[] send-done(%w), channel_id=2, is_host_transfer=true
  """
    assert collectives(hlo.analyse(loop(send + REDUCE, 0, 3, 1))) == {
        ("all-reduce", False): (3, 96.0),
        ("all-reduce", True): (3, 96.0),
    }


def test_an_element_of_a_tuple_is_sent_alone():
    """What the text after code generation writes for it."""
    crossing = 'frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}'
    entry = f"""  %p = f32[8]{{0}} parameter(0)
  %q = f32[64]{{0}} parameter(1)
  %both = (f32[8]{{0}}, f32[64]{{0}}) all-reduce(%p, %q), replica_groups={{{{0,1}}}}, to_apply=%add
  %t = token[] after-all()
  %w = (f32[64]{{0}}, u32[], token[]) send(%both#1, %t), {crossing}
  ROOT %r = f32[8]{{0}} get-tuple-element(%both), index=0"""
    assert collectives(hlo.analyse(module("", entry))) == {
        ("all-reduce", False): (1, 288.0),
        ("all-reduce", True): (1, 256.0),
    }


def test_metadata_over_several_lines_and_kernels():
    target = 'custom_call_target="tpu_custom_call"'
    kernel = f"""  %splash_mqa_fwd_residuals.1 = (f32[2,4,256,64]) custom-call(%q, %k, %k), \
{target}, frontend_attributes={{kernel_metadata={{
"block": 256
}}
}}"""
    entry = f"""  %q = bf16[2,4,256,64]{{3,2,1,0}} parameter(0)
  %k = bf16[2,256,64]{{2,1,0}} parameter(1)
{kernel}
  %z = f32[] constant(0)
  ROOT %r = f32[] all-reduce(%z), replica_groups={{{{0,1}}}}, to_apply=%add"""
    # Two products of 2·S·S·H, half of each, for 2 x 4 heads.
    work = hlo.analyse(module("", entry))
    assert work.kernel_flops == 8 * 2 * 2 * 256 * 256 * 64 / 2
    # The metadata's closing brace doesn't end the computation.
    assert collectives(work) == {("all-reduce", False): (1, 4.0)}


def test_a_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        hlo.analyse("HloModule cut, is_scheduled=true\n")


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=30, deadline=None)
def test_convolutions_count_only_taps_that_meet_an_input(data):
    size, kernel = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 5))
    stride, left, right = (data.draw(st.integers(1, 3)) for _ in range(3))
    low, high = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 4))
    reach = (size - 1) * left + 1 + low + high
    hypothesis.assume(reach >= (kernel - 1) * right + 1)
    out = np.asarray(
        jax.lax.conv_general_dilated(
            np.ones((1, 1, size), np.float32),
            np.ones((1, 1, kernel), np.float32),
            (stride,),
            [(low, high)],
            lhs_dilation=(left,),
            rhs_dilation=(right,),
        )
    )
    window = f"size={kernel} stride={stride} pad={low}_{high} lhs_dilate={left} rhs_dilate={right}"
    labels = "dim_labels=b0f_0io->b0f"
    entry = f"""  %x = f32[3,{size},5]{{2,1,0}} parameter(0)
  %w = f32[{kernel},5,7]{{2,1,0}} parameter(1)
  ROOT %y = f32[3,{out.size},7]{{2,1,0}} convolution(%x, %w), {labels}, window={{{window}}}"""
    # A convolution of ones by ones counts, at each output, the taps inside.
    assert hlo.analyse(module("", entry)).matmul_flops == 2 * 3 * 5 * 7 * out.sum()


def test_real_programs_of_this_machine():
    """XLA's own text for 8 CPU devices: nested loops of products and sums over devices."""
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    outer, inner, width = 5, 3, 16

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=PartitionSpec("a", "b"),
        out_specs=PartitionSpec("a", "b"),
        check_vma=False,
    )
    def program(x):
        def once(x, _):
            return jnp.tanh(x @ x), None

        def several(x, _):
            x, _ = jax.lax.scan(once, x, length=inner)
            return jax.lax.psum(x, "b") * 0.5, None

        return jax.lax.scan(several, x, length=outer)[0]

    shape = jax.ShapeDtypeStruct(
        (2 * width, 4 * width),
        jnp.float32,
        sharding=NamedSharding(mesh, PartitionSpec("a", "b")),
    )
    work = hlo.analyse(program.lower(shape).compile().as_text())
    assert work.matmul_flops == outer * inner * 2 * width**3
    assert collectives(work) == {("all-reduce", False): (outer, outer * width * width * 4.0)}
