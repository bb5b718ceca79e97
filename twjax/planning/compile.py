"""Compiles a run's own train step for TPUs that aren't there, and reads off what it needs."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
import re
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from twjax.config import ConfigError, Run
from twjax.data.row_format import row_dtype
from twjax.data.top_logits import top_dtype
from twjax.models.adapters import adapted
from twjax.models.network import network as declare
from twjax.models.spec import count_weights
from twjax.parallel.mesh import axis_sizes, make_mesh
from twjax.parallel.sharding import RULES, batch_sharding, rows_sharding
from twjax.parallel.tpu import OptionValue, compiler_options
from twjax.planning import hlo
from twjax.planning.buffers import Buffer, largest
from twjax.planning.cache import PlanCache, key_of
from twjax.planning.flops import model_flops_per_row
from twjax.planning.hlo_module import Module
from twjax.planning.links import Links
from twjax.planning.schedule import Prediction, predict
from twjax.planning.topology import Topology
from twjax.training.base import FrozenBase, base_of
from twjax.training.guard import guarded
from twjax.training.optimizer import make_optimizer
from twjax.training.preflight import check_lengths
from twjax.training.source import run_schedule
from twjax.training.state import TrainState, abstract_state
from twjax.training.step import make_train_step
from twjax.training.trained import Trained


class CompilerError(RuntimeError):
    """The TPU compiler refused the program for another reason than HBM."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """HBM of one device in bytes, by what it holds while the step runs.

    `parameters` are the run's and, in the computation's dtype, those of its base that it trains.
    `layout` is what the device's tiled layouts add to the arguments; `outputs` what doesn't reuse
    the donated state's memory. When the program doesn't fit, `temporaries` is what the compiler
    still needed when it gave up, so the total may be more than this.
    """

    parameters: float
    optimizer: float
    batch: float
    layout: float
    temporaries: float
    outputs: float
    program: float
    usable: float
    fits: bool

    @property
    def total(self) -> float:
        parts = (self.parameters, self.optimizer, self.batch, self.layout, self.temporaries)
        return sum(parts) + self.outputs + self.program


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one training step of a run needs on a topology.

    `model_flops` is the arithmetic of one step over all devices (`planning.flops`); `work` is
    what the compiled program executes on one device and `prediction` how long that takes, None if
    there is no program. `largest` are the temporaries that take most of the memory; `quick` is
    whether the compiler made its least effort.
    """

    topology: Topology
    mesh: dict[str, int]
    num_parameters: int
    tokens: int
    model_flops: float
    memory: Memory
    work: hlo.Work | None
    prediction: Prediction | None
    largest: tuple[Buffer, ...]
    quick: bool
    compile_seconds: float

    @property
    def flops_per_token(self) -> float:
        return self.model_flops / self.tokens

    @property
    def seconds_at_peak(self) -> float:
        """The least time that the model's arithmetic can take, at the chips' bfloat16 peak."""
        return self.model_flops / (self.topology.num_chips * self.topology.chip.flops)

    @property
    def mfu(self) -> float | None:
        """The share of the chips' peak that the model's arithmetic reaches in the prediction."""
        if self.prediction is None:
            return None
        return self.seconds_at_peak / self.prediction.seconds

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens a second of all chips, padding included, by the prediction."""
        return None if self.prediction is None else self.tokens / self.prediction.seconds


def check(run: Run, topology: Topology) -> dict[str, int]:
    """Returns the mesh's sizes on a topology; raises `ConfigError` for what can't be divided."""
    slices = run.mesh.slice
    if slices not in (-1, topology.num_slices):
        raise ConfigError(
            f"Mesh.slice ({slices}) must be {topology.num_slices}, the number of slices of "
            f"{topology.name}."
        )
    sizes = axis_sizes(run.mesh, topology.num_devices)
    if sizes["slice"] != topology.num_slices:
        raise ConfigError(
            f"Mesh.slice ({sizes['slice']}) must be {topology.num_slices}, the number of slices "
            f"of {topology.name}; fill another axis with -1."
        )
    parts = math.prod(sizes[axis] for axis in RULES["batch"])
    unit = parts * run.step.accumulation
    if run.data.batch_size % unit:
        axes = " x ".join(f"{axis} {sizes[axis]}" for axis in RULES["batch"])
        micro = f" in {run.step.accumulation} microbatches" if run.step.accumulation > 1 else ""
        nearest = max(round(run.data.batch_size / unit), 1) * unit
        raise ConfigError(
            f"Data.batch_size ({run.data.batch_size}) must be a multiple of {unit}: on "
            f"{topology.name} its rows are divided over {parts} devices ({axes}){micro}. Set "
            f"Data.batch_size = {nearest}, or move devices to another axis of Mesh."
        )
    check_lengths(run, math.prod(sizes[axis] for axis in RULES["seq"]), "tpu")
    return sizes


def plan(
    run: Run,
    topology: Topology,
    *,
    quick: bool = False,
    cache: PlanCache | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> Plan:
    """Compiles one step of `run` for `topology`; no weight is ever allocated.

    With `quick` the compiler makes its least effort, in about half the time: the step then takes
    somewhat more memory than in training.
    Where the batch or the rows grow in the run, it is the step with the most tokens.
    What `cache` has of the same program isn't compiled again, and a new plan is kept there.
    Raises `ConfigError` for a batch or a weight that can't be divided, and `CompilerError` with
    the compiler's own reason when it fails otherwise than by running out of HBM.
    """
    sizes = check(run, topology)
    run = heaviest(run)
    begin = time.monotonic()
    lowered = lower_step(run, topology)
    key = "" if cache is None else lowered.key(topology, quick)
    if cache is not None and (kept := cache.load(key, Plan)):
        tell(f"compiled before, kept in {cache.folder}; --no-cache compiles again")
        # Another name may stand for the same slices.
        return dataclasses.replace(kept, topology=topology)
    step = compile_lowered(lowered, quick=quick)
    seconds = time.monotonic() - begin

    tokens = run.data.batch_size * sum(run.data.lengths)
    module = None if step.text is None else Module(step.text)
    links = Links.of(topology, list(step.mesh.devices.flat))
    made = Plan(
        topology=topology,
        mesh=sizes,
        num_parameters=count_weights(step.state_specs),
        tokens=tokens,
        model_flops=run.data.batch_size
        * model_flops_per_row(run.model, step.specs, run.data.lengths),
        memory=_memory(step, topology.chip.usable_bytes),
        work=None if module is None else hlo.analyse(module),
        prediction=None if module is None else predict(module, links),
        largest=step.largest,
        quick=quick,
        compile_seconds=seconds,
    )
    if cache is not None:
        cache.save(key, made)
    return made


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A step as JAX hands it to the compiler.

    `specs` are those of the network's weights, `state_specs` with adapters beside them.
    `arguments` are the abstract state, batch and what is kept of a base; `options` the compiler's.
    """

    mesh: jax.sharding.Mesh
    specs: Any
    state_specs: Any
    program: Any
    options: dict[str, OptionValue]
    arguments: tuple[TrainState, Any, Any]

    def key(self, topology: Topology, quick: bool) -> str:
        """Returns the hash under which its plan is kept."""
        return key_of(self.program.as_text(), topology, self.options, quick)


@dataclasses.dataclass(frozen=True)
class Compiled(Lowered):
    """A step as the compiler made it; `compiled` and `text` are None where it doesn't fit.

    `allocated` is what the compiler's report says, and `needed` what a program that doesn't fit
    would need, in bytes of HBM. `largest` are its largest temporaries, also where it doesn't fit.
    """

    compiled: Any
    text: str | None
    needed: float
    allocated: float | None
    largest: tuple[Buffer, ...]


def lower_step(run: Run, topology: Topology) -> Lowered:
    """Traces one step for a topology, in seconds."""
    mesh = make_mesh(run.mesh, topology.devices())
    network = declare(run.model)
    # The rate of a source is a number like any other to the compiler.
    schedule = run_schedule(run, 1e-5)
    base, network = network, adapted(network, run.adapter)
    trained = Trained.of(run, network.specs)
    optimizer = guarded(make_optimizer(run.optimizer, schedule, trained.specs), run.faults)
    frozen = base_of(run, base, trained, mesh)
    state, batch = abstract_state(network, optimizer, mesh, trained), abstract_batch(run, mesh)
    step = make_train_step(network, run, optimizer, schedule, mesh, trained, frozen)
    kept = (frozen.abstract(),) if isinstance(frozen, FrozenBase) else ()
    with jax.set_mesh(mesh):
        program = step.lower(state, batch, *kept)
    options = compiler_options(mesh.devices.flat[0], run.step.compiler_options)
    return Lowered(mesh, base.specs, network.specs, program, options, (state, batch, kept))


def compile_lowered(lowered: Lowered, *, quick: bool = False) -> Compiled:
    """Compiles what was traced; with `quick` with the least effort."""
    with tempfile.TemporaryDirectory(prefix="twjax-plan-") as dump:
        compiled, needed = _compile(lowered.program, dump, quick)
        folder = pathlib.Path(dump)
        found = {
            "compiled": compiled,
            "text": _module_text(compiled, folder),
            "needed": needed,
            "allocated": _allocated(folder),
            "largest": _largest(folder),
        }
    traced = {field.name: getattr(lowered, field.name) for field in dataclasses.fields(Lowered)}
    return Compiled(**traced, **found)


def compile_step(run: Run, topology: Topology, *, quick: bool = False) -> Compiled:
    """Compiles one step for a topology, as `plan` does."""
    return compile_lowered(lower_step(run, topology), quick=quick)


def shapes(run: Run) -> list[Run]:
    """Returns the run once for each shape that its batches have, with that one only."""
    found = []
    for _, rows, length in run.reading.shapes(run.steps):
        data = dataclasses.replace(
            run.data, batch_size=rows, seq_len=length, batch_ramp=(), seq_len_stages=()
        )
        found.append(dataclasses.replace(run, data=data))
    return found


def heaviest(run: Run) -> Run:
    """Returns the run with the shape of its batches that has the most tokens."""
    return max(shapes(run), key=lambda shape: shape.data.batch_size * sum(shape.data.lengths))


def abstract_batch(run: Run, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes, dtypes and shardings of a batch of cached rows."""
    both = isinstance(run.data.seq_len, tuple)
    fields = row_dtype("encoder_decoder" if both else "decoder", run.data.seq_len).fields or {}
    batch = {
        name: jax.ShapeDtypeStruct(
            (run.data.batch_size, *field.shape), field.base, sharding=batch_sharding(mesh)
        )
        for name, (field, *_) in fields.items()
    }
    if run.distillation is not None:
        rows = (run.data.batch_size,)
        batch["replay"] = jax.ShapeDtypeStruct(rows, np.uint8, sharding=rows_sharding(mesh))
        if run.distillation.top_k is not None:
            fields = top_dtype(run.data.seq_len, run.distillation.top_k).fields or {}
            batch |= {
                name: jax.ShapeDtypeStruct(
                    (*rows, *field.shape), field.base, sharding=batch_sharding(mesh)
                )
                for name, (field, *_) in fields.items()
            }
    return batch


# XLA's OptimizationLevel.EFFORT_O0 (xla/xla.proto).
_LEAST_EFFORT = 9


def _compile(lowered: Any, dump: str, quick: bool) -> tuple[Any, float]:
    """Returns the compiled step, or None and the bytes of HBM that it would have needed."""
    try:
        options: dict[str, str | int] = {"xla_dump_to": dump}
        if quick:
            options["optimization_level"] = _LEAST_EFFORT
        return lowered.compile(compiler_options=options), 0.0
    except jax.errors.JaxRuntimeError as error:
        needed = out_of_hbm(str(error))
        if needed is None:
            raise CompilerError(one_line(str(error))) from error
        return None, needed


def out_of_hbm(message: str) -> float | None:
    """Returns the bytes that a program needed, by the compiler's error; None for other errors."""
    size = r"([\d.]+)([KMGT]?)i?B?"
    for pattern in (
        rf"Used {size} of [\d.]+[KMGT]?i?B? hbm",
        rf"memory required[^(]*\({size}\) exceeds available HBM",
    ):
        if match := re.search(pattern, message):
            return float(match[1]) * 1024 ** " KMGT".index(match[2] or " ")
    return None


def one_line(message: str) -> str:
    """Shortens a compiler's error to its reason, without stacks, dumps and source traces."""
    head = re.split(r"\n\s*\n|\n=== |\nThe MLIR |\n\s*at |\nStacktrace", message.strip())[0]
    text = " ".join(head.split())
    text = text if len(text) <= 400 else text[:400].rsplit(" ", 1)[0] + " …"
    return f"The TPU compiler refused the step: {text}"


def _module_text(compiled: Any, dump: pathlib.Path) -> str | None:
    """Returns the optimised module, from the dump where the compiled object can't print it.

    With SparseCore offloads `as_text` fails inside libtpu; the file says the same. A program that
    didn't fit has no final text.
    """
    if compiled is None:
        return None
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        return compiled.as_text()
    for ending in ("after_codegen.txt", "after_optimizations.txt"):
        for file in dump.glob(f"*jit_step*.{ending}"):
            return file.read_text(encoding="utf-8")
    return None


def _allocated(dump: pathlib.Path) -> float | None:
    """Returns the bytes of HBM that the compiler allocates, arguments included, by its report.

    `memory_analysis()` has no such figure: its peak leaves out the gaps in the allocation (8% of
    a Llama 3 8B on v5p), and its size of temporaries counts half again what is allocated.
    """
    for file in dump.glob("*jit_step*memory-usage-report.txt"):
        report = file.read_text(encoding="utf-8")
        if match := re.search(r"Memory Space: default[^\n]*\nTotal bytes: (\d+)", report):
            return float(match[1])
    return None


def _largest(dump: pathlib.Path) -> tuple[Buffer, ...]:
    """Returns the largest temporaries, by what the compiler wrote of the scheduled module."""
    endings = ("buffer-assignment.txt", "after_optimizations.txt")
    files = [next(dump.glob(f"*jit_step*{ending}"), None) for ending in endings]
    assignment, module = (file.read_text(encoding="utf-8") if file else "" for file in files)
    return largest(assignment, Module(module)) if assignment and module else ()


def _memory(step: Compiled, usable: float) -> Memory:
    compiled, (state, batch, kept) = step.compiled, step.arguments
    parameters = device_bytes((state.params, kept))
    optimizer = device_bytes((state.optimizer, state.step, state.average))
    rows = device_bytes(batch)
    arguments = parameters + optimizer + rows
    if compiled is None:
        layout, outputs, program = 0.0, 0.0, 0.0
        temporaries = max(step.needed - arguments, 0.0)
    else:
        stats = compiled.memory_analysis()
        layout = max(stats.argument_size_in_bytes - arguments, 0)
        outputs = max(stats.output_size_in_bytes - stats.alias_size_in_bytes, 0)
        program = stats.generated_code_size_in_bytes
        held = arguments + layout + outputs
        temporaries = max((step.allocated or stats.peak_memory_in_bytes) - held, 0)
    return Memory(
        parameters=parameters,
        optimizer=optimizer,
        batch=rows,
        layout=layout,
        temporaries=temporaries,
        outputs=outputs,
        program=program,
        usable=usable,
        fits=compiled is not None,
    )


def device_bytes(tree: Any) -> float:
    """Returns the bytes of one device's share of an abstract tree."""
    return float(
        sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
            for leaf in jax.tree.leaves(tree)
        )
    )
