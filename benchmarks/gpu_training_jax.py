"""JAX's parts of benchmarks/gpu_training.py, a process each: rate, attention, train."""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = 1024


def main() -> None:
    given = json.loads(sys.argv[1])
    {"rate": rate, "attention": attention, "train": train}[given["part"]](given)
    assert not {"tensorflow", "seqio"} & sys.modules.keys()


def tell(**found: Any) -> None:
    print("RESULT " + json.dumps(found), flush=True)


def seconds_of(function: Callable[[], Any], least: float = 0.5, most: int = 50) -> float:
    """Returns the seconds of a call whose results are on the device, after one that compiles."""
    jax.block_until_ready(function())
    count, began, spent = 0, time.perf_counter(), 0.0
    while count < 3 or (spent < least and count < most):
        result = [function() for _ in range(3)]
        jax.block_until_ready(result)
        count, spent = count + 3, time.perf_counter() - began
    return spent / count


def rate(given: dict[str, Any]) -> None:
    """The best rate of products of random bfloat16 matrices."""
    device = jax.devices()[0]
    best, rates = 0.0, {}
    for m, k, n in [(256,) * 3] if given["tiny"] else [(8192,) * 3, (16384, 8192, 8192)]:
        a = jax.random.normal(jax.random.key(0), (m, k), jnp.bfloat16)
        b = jax.random.normal(jax.random.key(1), (k, n), jnp.bfloat16)
        product = jax.jit(jnp.matmul)
        flops = 2 * m * k * n / seconds_of(lambda a=a, b=b, p=product: p(a, b), 2.0, 200)
        rates[f"{m}x{k}x{n}"] = flops
        best = max(best, flops)
        tell(flops=best, rates=rates, device=device.device_kind, jax=jax.__version__)


def segments(rng: np.random.Generator, rows: int, seq: int, packed: bool) -> np.ndarray:
    """Returns segment ids: documents of random lengths, or one a row."""
    if not packed:
        return np.ones((rows, seq), np.int32)
    starts = rng.random((rows, seq)) < 1 / min(DOCUMENT, seq // 4)
    return (1 + np.cumsum(starts, axis=1)).astype(np.int32)


def tilings() -> Iterator[tuple[str, Any]]:
    """Yields which kernel to try with which tile."""
    from twjax.models.attention_gpu import Tile

    for queries, keys, warps, stages in (
        (128, 64, 8, 2), (128, 64, 4, 2), (128, 64, 4, 3), (128, 128, 8, 2), (64, 64, 4, 3),
    ):  # fmt: skip
        yield "forward", Tile(queries, keys, warps, stages)
    for queries, keys, warps, stages in (
        (64, 64, 4, 2), (128, 64, 8, 2), (64, 64, 4, 3), (128, 64, 4, 2), (128, 32, 4, 3),
    ):  # fmt: skip
        yield "queries", Tile(queries, keys, warps, stages)
    for queries, keys, warps, stages in (
        (64, 64, 4, 2), (64, 128, 8, 2), (64, 64, 4, 3), (32, 128, 4, 3), (64, 128, 4, 2),
    ):  # fmt: skip
        yield "keys", Tile(queries, keys, warps, stages)


def attention(given: dict[str, Any]) -> None:
    """Checks the kernels against the reference, then times tilings; the best of each is kept."""
    import dataclasses

    from twjax.models import attention_gpu
    from twjax.models.attention import Form, attend
    from twjax.models.attention_chunked import attend_chunked

    shape, seq = given["shape"], given["seq"]
    N, K, H = shape["heads"], shape["kv_heads"], shape["head_dim"]
    form, rng = Form(H**-0.5), np.random.default_rng(0)
    on_gpu = jax.devices()[0].platform == "gpu"
    found: dict[str, Any] = {"errors": {}, "times": {}}

    def arrays(B: int, S: int) -> list[jax.Array]:
        keys = jax.random.split(jax.random.key(1), 4)
        heads = (N, K, K, N)
        return [
            jax.random.normal(key, (B, S, count, H), jnp.bfloat16)
            for key, count in zip(keys, heads, strict=True)
        ]

    def both(attended: Callable[..., Any], ids: Any, *x: Any) -> Any:
        def run(q, k, v, d_out):
            out, pull = jax.vjp(lambda *a: attended(*a, ids), q, k, v)
            return out, *pull(d_out.astype(out.dtype))

        return jax.jit(run)(*x)

    def gpu(q: Any, k: Any, v: Any, ids: Any) -> Any:
        return attention_gpu.attend_gpu(q, k, v, ids, form, interpret=not on_gpu)

    small = arrays(1, 256 if given["tiny"] else 1024)
    ids = jnp.asarray(segments(rng, 1, small[0].shape[1], packed=True))
    with jax.default_matmul_precision("highest"):
        right = both(
            lambda q, k, v, i: attend(q, k, v, i, "reference", form), ids,
            *(x.astype(jnp.float32) for x in small),
        )  # fmt: skip

    def wrong(attended: Callable[..., Any]) -> float:
        """Returns the largest error of output and gradients, relative to their largest number."""
        pairs = zip(both(attended, ids, *small), right, strict=True)
        errors = [jnp.max(jnp.abs(a.astype(jnp.float32) - b)) / jnp.max(jnp.abs(b))
                  for a, b in pairs]  # fmt: skip
        return float(jnp.max(jnp.stack(errors)))

    found["errors"]["chunked"] = wrong(lambda q, k, v, i: attend_chunked(q, k, v, i, form))
    tell(**found)
    try:
        error = found["errors"]["pallas"] = wrong(gpu)
    except Exception as exception:
        found["pallas_failed"] = f"{type(exception).__name__}: {str(exception)[:500]}"
        tell(**found)
        return
    # bfloat16 has eight bits.
    found["pallas_is_right"] = on_gpu and error < 2e-2
    tell(**found)
    if not on_gpu:
        return
    B = 2
    q, k, v, d_out = arrays(B, seq)
    ids = jnp.asarray(segments(rng, B, seq, packed=False))
    base = attention_gpu.TILING if H <= 128 else attention_gpu.WIDE
    attended = jax.jit(lambda q, k, v, i: attention_gpu._attended(q, k, v, i, form, base, False))
    _, kept = attended(q, k, v, ids)
    best: dict[str, tuple[float, Any]] = {}
    for kernel, tile in tilings():
        tiling = dataclasses.replace(base, **{kernel: tile})
        if kernel == "forward":
            call = jax.jit(
                lambda q, k, v, i, t=tiling: attention_gpu._forward(q, k, v, i, form, t, False)
            )
            values: tuple[Any, ...] = (q, k, v, ids)
        else:
            which = slice(0, 1) if kernel == "queries" else slice(1, 3)
            call = jax.jit(
                lambda kept, d, t=tiling, w=which: attention_gpu._backward(form, t, False, kept, d)[
                    w
                ]
            )
            values = (kept, d_out)
        name = f"{kernel} {tile.queries}x{tile.keys}, {tile.warps} warps, {tile.stages} stages"
        try:
            seconds = seconds_of(lambda c=call, x=values: c(*x), 0.2)
        except Exception as exception:
            found["times"][name] = f"{type(exception).__name__}: {str(exception)[:80]}"
            continue
        # Two products of the causal half forward, three and four in the two backward kernels.
        products = {"forward": 2, "queries": 3, "keys": 4}[kernel]
        flops = products * B * N * H * seq * seq
        found["times"][name] = {"ms": seconds * 1e3, "tflops": flops / seconds / 1e12}
        if kernel not in best or seconds < best[kernel][0]:
            best[kernel] = (seconds, tile)
        found["tiling"] = {name: dataclasses.astuple(tile) for name, (_, tile) in best.items()}
        tell(**found)


def train(given: dict[str, Any]) -> None:
    """Times the training step: rows packed with documents, and a document a row."""
    from twjax import config
    from twjax.models import attention_gpu
    from twjax.models.decoder import Network
    from twjax.parallel.mesh import make_mesh
    from twjax.parallel.sharding import batch_sharding
    from twjax.training.optimizer import make_optimizer
    from twjax.training.schedule import make_schedule
    from twjax.training.state import init_state
    from twjax.training.step import make_train_step

    if given["tiling"]:
        tiles = {name: attention_gpu.Tile(*tile) for name, tile in given["tiling"].items()}
        attention_gpu.TILING = attention_gpu.WIDE = attention_gpu.Tiling(**tiles)
    shape, seq, rows = given["shape"], given["seq"], given["batch"]
    fields = {"layers": "num_layers", "embed": "embed_dim", "heads": "num_heads",
              "kv_heads": "num_kv_heads", "head_dim": "head_dim", "mlp": "mlp_dim",
              "vocab": "vocab_size"}  # fmt: skip
    bindings = [f"Model.{name} = {shape[key]}" for key, name in fields.items()]
    bindings += [f"Data.seq_len = {seq}", f"Data.batch_size = {rows}", "Schedule.peak = 3e-4"]
    bindings += ["Model.tie_embeddings = True", f"Step.remat = {given['saved']}"]
    bindings += [f"Step.attention = '{given['attention']}'"]
    run = config.load(config.Run, ["configs/runs/plans/_common.gin"], bindings).value
    mesh = make_mesh(run.mesh, jax.devices()[:1])
    network = Network.create(run.model)
    schedule = make_schedule(run.schedule, run.steps, 0.0, 3e-4)
    optimizer = make_optimizer(run.optimizer, schedule, network.specs)
    rng = np.random.default_rng(0)

    def batch(packed: bool) -> dict[str, jax.Array]:
        ids = segments(rng, rows, seq, packed)
        first = np.diff(ids, axis=1, prepend=0) != 0
        arrays = {
            "tokens": rng.integers(0, shape["vocab"], (rows, seq)).astype(np.int32),
            "segment_ids": ids,
            "loss_weights": (~first).astype(np.uint8),
        }
        return {name: jax.device_put(x, batch_sharding(mesh)) for name, x in arrays.items()}

    with jax.set_mesh(mesh):
        state = init_state(network, optimizer, mesh, 0)
        step = make_train_step(network, run, optimizer, schedule, mesh)
        found: dict[str, Any] = {"batch": rows, "attention": given["attention"]}
        found["saved"] = given["saved"]
        began = time.perf_counter()
        for packed in (False, True):
            here = batch(packed)
            for _ in range(2):
                state, metrics = step(state, here)
            found.setdefault("first_loss", float(metrics["loss"]))
            found.setdefault("compile_s", time.perf_counter() - began)
            began = time.perf_counter()
            for _ in range(given["steps"]):
                state, metrics = step(state, here)
            jax.block_until_ready(metrics)
            seconds = (time.perf_counter() - began) / given["steps"]
            name = "tokens_per_second" + ("_packed" if packed else "")
            found[name] = rows * seq / seconds
            found["last_loss"] = float(metrics["loss"])
            stats = jax.devices()[0].memory_stats() or {}
            if "peak_bytes_in_use" in stats:
                found["memory_gib"] = stats["peak_bytes_in_use"] / 2**30
            tell(**found)


if __name__ == "__main__":
    main()
