"""Gradients of a small network, by a run's own kernels and options, against plain float32.

A kernel or a compiler's option that computes wrong numbers seldom fails: the loss only falls less.
Before its first step a run therefore computes the loss and the gradients of a small network of its
own kind on its own mesh: same attention, width of heads, window and caps, same precision, what is
saved, microbatches, pieces of the loss and compiler's options, packed rows. Every process computes
them once more on one device, in float32, with nothing of all that.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from twjax.config import Model, Run, Step
from twjax.models import parts
from twjax.models.attention import Kind
from twjax.models.network import AnyNetwork
from twjax.models.network import network as declare
from twjax.models.spec import init_weights
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import (
    batch_sharding,
    batch_shards,
    replicated,
    weight_shardings,
)
from twjax.parallel.tpu import OptionValue, Tiles, compiler_options
from twjax.progress import say
from twjax.training.loss import Bend, LossSums, next_token_loss
from twjax.training.step import Batch, accumulate, attention_of, forward

# The longest rows: all tiles of a run's rows of up to 8,192 tokens are met in them.
LONGEST = 4096
# Rows that differ; the mesh's other rows are these again, with other weights in the loss.
DISTINCT = 2
# A product's result is off by at most half a unit of its last place. A gradient passes some forty
# of them, each with its own sign: in bfloat16 the families here are off by up to 13 halves.
ROUNDINGS = 32


class SelfTestError(RuntimeError):
    """Kernels or options of this run compute wrong gradients on these devices."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far the gradients are from float32's: the largest relative error, and whose it is."""

    name: str
    error: float
    tolerance: float

    @property
    def passes(self) -> bool:
        return self.error <= self.tolerance


def self_test(run: Run, mesh: jax.sharding.Mesh, attends: Kind | None = None) -> None:
    """Raises `SelfTestError` where a run's kernels and options give wrong gradients.

    Does nothing where `Step.self_test` says so, or leaves it open and this is a CPU: there a run
    has neither. `attends` is what computes attention, where it isn't what the run chooses.
    """
    device = mesh.devices.flat[0]
    wanted = run.step.self_test
    if not (device.platform != "cpu" if wanted is None else wanted):
        return
    began = time.monotonic()
    attention = attends or attention_of(run, device)
    options = compiler_options(device, run.step.compiler_options)
    found = difference(run, mesh, attention, options)
    if not found.passes:
        raise SelfTestError(_message(found, attention, options, device))
    if jax.process_index() == 0:
        say(
            f"self-test: gradients of a small network are within {found.error:.2%} of float32's "
            f"(at most {found.tolerance:.1%} is rounding; {time.monotonic() - began:.1f} s)"
        )


def difference(
    run: Run, mesh: jax.sharding.Mesh, attends: Kind, options: dict[str, OptionValue]
) -> Difference:
    """Returns how far loss and gradients of a small network are from those without any of it."""
    length = _length(run, mesh)
    network = declare(small_model(run.model, mesh, length))
    params, batch = _values(network), _rows(network, length, batch_shards(mesh), run)
    with jax.set_mesh(mesh):
        found = _gradients(network, run, mesh, _kind(attends, run, length), params, batch, options)
    step = Step(dtype="float32", attention="reference", loss_chunks=1, z_loss=run.step.z_loss)
    plain = dataclasses.replace(run, step=step)
    alone = make_mesh(dataclasses.replace(run.mesh, **_ONE), jax.local_devices()[:1])
    few = _merged(batch)
    with jax.set_mesh(alone), jax.default_matmul_precision("highest"):
        expected = _gradients(network, plain, alone, "reference", params, few, {})
    platform = mesh.devices.flat[0].platform
    return _compared(found, expected, ROUNDINGS * _unit(run.step.dtype, platform))


def small_model(model: Model, mesh: jax.sharding.Mesh, length: int) -> Model:
    """Returns a model of the same kind with few and small weights that the mesh can divide."""
    fsdp, tensor = mesh.shape["fsdp"], mesh.shape["tensor"]
    both = len(set(model.layer_kinds)) > 1
    vocab = 128 * tensor * -(-512 // (128 * tensor))
    group = min(model.num_heads // model.num_kv_heads, 2)
    small: dict[str, Any] = {
        # Less than the padded one.
        "vocab_size": vocab - 5,
        "vocab_multiple": 128,
        "num_layers": 4 if both else 2,
        "embed_dim": fsdp * -(-128 // fsdp),
        "num_heads": tensor * group,
        "num_kv_heads": tensor,
        "mlp_dim": tensor * -(-256 // tensor),
    }
    if both:
        small["window_pattern"] = ("local", "global")
    if model.window is not None:
        # Less than a document.
        small["window"] = min(model.window, max(length // 8, 1))
    if model.max_positions is not None:
        small["max_positions"] = length
    if model.encoder_layers:
        small["encoder_layers"] = 2
    else:
        # Large enough for the softmaxes to choose.
        small["init_std"] = small["embed_dim"] ** -0.5
    return dataclasses.replace(model, **small)


_ONE = {"slice": 1, "data": 1, "fsdp": 1, "context": 1, "tensor": 1}


def _length(run: Run, mesh: jax.sharding.Mesh) -> int:
    """Returns the length of a row: the run's, or the longest that is divided as it is."""
    length = run.data.lengths[-1]
    unit = 128 * mesh.shape["context"] * run.step.loss_chunks
    return length if length <= LONGEST else max(LONGEST // unit, 1) * unit


def _kind(attends: Kind, run: Run, length: int) -> Kind:
    """Returns attention with as many tiles of keys in a row as there are in the run's rows."""
    if not isinstance(attends, Tiles):
        return attends
    parts = max(run.data.lengths) // attends.keys
    return attends if parts < 2 else dataclasses.replace(attends, keys=max(length // parts, 128))


def _values(network: AnyNetwork) -> Any:
    """Returns the network's first weights, alike on every process."""
    draw = jax.jit(lambda key: init_weights(network.specs, key))
    return jax.tree.map(np.asarray, draw(jax.random.key(0)))


def _rows(network: AnyNetwork, length: int, shards: int, run: Run) -> dict[str, np.ndarray]:
    """Returns packed rows for every device and microbatch: documents and some padding."""
    rng = np.random.default_rng(0)
    count = shards * run.step.accumulation
    few = min(DISTINCT, count)

    def segments() -> np.ndarray:
        cuts = np.sort(rng.integers(1, length, (few, 3)), axis=1)
        ids = 1 + (np.arange(length) >= cuts[..., None]).sum(axis=1)
        ids[:, length - length // 16 :] = 0
        return ids.astype(np.int32)

    def tokens(ids: np.ndarray) -> np.ndarray:
        return np.where(ids > 0, rng.integers(0, network.config.vocab_size, ids.shape), 0)

    rows: dict[str, np.ndarray] = {}
    ids = np.zeros((few, length), np.int32)
    for name in ("inputs", "targets") if network.config.encoder_layers else ("tokens",):
        ids = segments()
        rows[name] = tokens(ids).astype(np.int32)
        rows["segment_ids" if name == "tokens" else f"{name}_segment_ids"] = ids
    # Of what is predicted: an encoder-decoder's targets come last.
    weights = np.float32(ids > 0)
    copies = {name: np.resize(value, (count, length)) for name, value in rows.items()}
    # A row that is counted twice and another not at all would else not be seen.
    share = 1 + np.arange(count) % 3
    return copies | {"loss_weights": np.resize(weights, (count, length)) * share[:, None]}


def _merged(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the distinct rows, each with the weight of all its copies."""
    weights = batch["loss_weights"]
    few = min(DISTINCT, len(weights))
    merged = {name: value[:few] for name, value in batch.items()}
    return merged | {"loss_weights": np.stack([weights[i::few].sum(axis=0) for i in range(few)])}


def gradient_step(
    network: AnyNetwork,
    run: Run,
    mesh: jax.sharding.Mesh,
    attends: Kind,
    options: dict[str, OptionValue],
) -> Callable[[Any, Batch], tuple[jax.Array, Any]]:
    """Returns the jitted (weights, batch) -> (loss, gradients) per token, as a step has them."""
    shardings = weight_shardings(network.specs, mesh)

    def objective(moved: Any, _: Any, batch: Batch) -> tuple[jax.Array, tuple[LossSums, jax.Array]]:
        here = forward(network, run, moved, batch, attends)
        value, sums = next_token_loss(
            *here[:4],
            ahead=here.ahead,
            vocab_size=network.config.vocab_size,
            bend=Bend.of(network.config),
            chunks=run.step.loss_chunks,
            z_loss=run.step.z_loss,
        )
        return value, (sums, jnp.zeros((), jnp.float32))

    def step(params: Any, batch: Batch) -> tuple[jax.Array, Any]:
        gradient = jax.value_and_grad(objective, has_aux=True)
        grads, (sums, _) = accumulate(
            gradient, params, None, batch, run.step.accumulation, shardings
        )
        # As the optimiser finds them, before every device gets them whole.
        grads = jax.lax.with_sharding_constraint(grads, shardings)
        return sums.nll / sums.weight, jax.tree.map(lambda g: g / sums.weight, grads)

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=replicated(mesh),
        compiler_options=options or None,
    )


def _gradients(
    network: AnyNetwork,
    run: Run,
    mesh: jax.sharding.Mesh,
    attends: Kind,
    params: Any,
    batch: dict[str, np.ndarray],
    options: dict[str, OptionValue],
) -> tuple[float, dict[str, np.ndarray]]:
    """Returns the loss and the gradients by a weight's name."""

    def placed(value: np.ndarray, sharding: Any) -> jax.Array:
        return jax.make_array_from_callback(value.shape, sharding, lambda part: value[part])

    weights = jax.tree.map(placed, params, weight_shardings(network.specs, mesh))
    rows = {name: placed(value, batch_sharding(mesh)) for name, value in batch.items()}
    loss, grads = gradient_step(network, run, mesh, attends, options)(weights, rows)
    named = {name: np.asarray(g, np.float64) for name, g in parts.flat(grads).items()}
    return float(loss), named


def _compared(
    found: tuple[float, dict[str, np.ndarray]],
    expected: tuple[float, dict[str, np.ndarray]],
    tolerance: float,
) -> Difference:
    """Returns the largest relative error, of the loss or of one weight's whole gradient."""
    size = max(float(np.linalg.norm(value)) for value in expected[1].values())
    errors = {"the loss": abs(found[0] - expected[0]) / abs(expected[0])}
    for name, value in expected[1].items():
        # A gradient that is zero but for rounding, as a key's bias has, is measured by the others.
        norm = max(float(np.linalg.norm(value)), size / 100)
        errors[name] = float(np.linalg.norm(found[1][name] - value)) / norm
    # Not a number is the largest error of all.
    worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    return Difference(worst, errors[worst], tolerance)


def _unit(dtype: str, platform: str) -> float:
    """Returns half a unit of the last place of what products are made of.

    Products of float32 are of bfloat16 on a TPU and of TF32 on a GPU, unless asked otherwise.
    """
    if dtype == "bfloat16" or platform == "tpu":
        return 2.0**-9
    return 2.0**-11 if platform == "gpu" else 2.0**-17


def _message(found: Difference, attends: Kind, options: dict[str, OptionValue], device: Any) -> str:
    listed = ", ".join(f"{name}={value}" for name, value in sorted(options.items())) or "none"
    without = ", ".join(f"'{name}': None" for name in sorted(options))
    tries = ["Step.attention = 'reference'"]
    if options:
        tries.insert(0, f"Step.compiler_options = {{{without}}}")
    return (
        f"Self-test of gradients on {device.device_kind}: {found.name} of a small network of this "
        f"kind is off by {found.error:.1%} of float32's, and rounding explains "
        f"{found.tolerance:.1%}. Nothing was trained. Attention was computed by {attends}, the "
        f"compiler's options were: {listed}. One of them computes wrong numbers here. To find "
        f"which, set {', or '.join(tries)}; Step.self_test = False trains all the same."
    )
