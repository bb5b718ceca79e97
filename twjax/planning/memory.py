"""A device's memory and work estimated from abstract shapes, in moments, before any compilation.

What the backward pass is handed is counted exactly, by asking JAX for it; what the compiler makes
of one layer and of the loss is modelled. docs/performance.md has the model beside the compiler's
own figures.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from twjax.config import Mesh, Run
from twjax.models import parts
from twjax.models.adapters import adapted
from twjax.models.attention import choose_attention
from twjax.models.network import network as declare
from twjax.models.spec import abstract_weights, is_spec
from twjax.models.stack import period
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_shards
from twjax.parallel.tpu import tuning
from twjax.planning.compile import abstract_batch, device_bytes
from twjax.planning.topology import Topology
from twjax.training.guard import guarded
from twjax.training.optimizer import make_optimizer
from twjax.training.source import run_schedule
from twjax.training.state import abstract_state
from twjax.training.step import forward
from twjax.training.trained import Trained

# Of all that the backward pass of one layer would be handed, how much of it is there at a time
# while the layer is computed again and differentiated; found on the compilations in the docs.
LAYER_SHARE = 0.75
# A layer's weights gathered whole, and their gradient before it is divided again.
GATHERED_COPIES = 2
# A logit in float32, and its gradient.
LOGIT_BYTES = 6
# A step that the model finds larger than the memory by this share isn't compiled.
MARGIN = 0.6


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes of one device by what they hold at the step's fullest moment.

    `saved` is what the backward pass finds of the layers, `weights` the copies of the weights in
    the computation's dtype and those that are gathered, `working` the layer at hand, `loss` the
    logits with what belongs to them.
    """

    parameters: float
    optimizer: float
    batch: float
    gradients: float
    weights: float
    saved: float
    working: float
    loss: float

    @property
    def total(self) -> float:
        return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class _Handed:
    """Bytes that the backward pass is handed: of a row, and whatever the rows.

    `whole` are those of a row that tensor parallelism doesn't divide.
    """

    whole: float
    divided: float
    weights: float


class Shapes:
    """What is known of a run's step on a topology without compiling it.

    The runs that are asked for differ from this one in mesh, rows and how the step is computed.
    """

    def __init__(self, run: Run, topology: Topology):
        self.topology = topology
        self.devices = topology.devices()
        self.base = declare(run.model)
        self.network = adapted(self.base, run.adapter)
        self.trained = Trained.of(run, self.network.specs)
        schedule = run_schedule(run, 1e-5)
        self._optimizer = guarded(
            make_optimizer(run.optimizer, schedule, self.trained.specs), run.faults
        )
        self._meshes: dict[Mesh, jax.sharding.Mesh] = {}
        self._states: dict[Any, tuple[float, float, float]] = {}
        self._saved: dict[Any, _Handed] = {}

    def estimate(self, run: Run) -> Estimate:
        """Returns the memory that a run's step needs; raises ValueError for what can't be cut."""
        mesh = self._mesh(run.mesh)
        sizes = mesh.shape
        tensor, context = sizes["tensor"], sizes["context"]
        rows = run.data.batch_size / batch_shards(mesh) / run.step.accumulation
        parameters, optimizer, trained = self._state(run.mesh, mesh)
        held = self._held(run)
        share = parameters / _bytes(abstract_weights(self.network.specs))
        saved = rows * (held.whole + held.divided / tensor) / context
        fixed = (parameters, optimizer, device_bytes(abstract_batch(run, mesh)))
        # With microbatches their sum is there beside the gradients of one.
        summed = trained if run.step.accumulation > 1 else 0.0

        layer, table = self._gathered(run, tensor)
        if sizes["fsdp"] == 1:
            layer = 0.0
        copies = held.weights * share
        everything = self._handed(run, "none")
        working = rows * (everything.whole + everything.divided / tensor) / context
        working *= _longest_layer(run)
        backward = Estimate(
            *fixed,
            gradients=trained + summed,
            weights=copies + GATHERED_COPIES * layer,
            saved=saved,
            working=LAYER_SHARE * working,
            loss=0.0,
        )
        places = run.data.lengths[-1] / run.step.loss_chunks
        logits = rows * places * run.model.padded_vocab_size / tensor * LOGIT_BYTES
        loss = Estimate(
            *fixed,
            gradients=summed,
            weights=copies + table,
            saved=saved,
            working=0.0,
            # The gradient of the head is summed whole, in float32.
            loss=logits + 4 * run.model.padded_vocab_size * run.model.embed_dim / tensor,
        )
        return max(backward, loss, key=lambda phase: phase.total)

    def _mesh(self, config: Mesh) -> jax.sharding.Mesh:
        """Returns a mesh over the devices; laying out thousands of them takes a while."""
        if config not in self._meshes:
            self._meshes[config] = make_mesh(config, self.devices)
        return self._meshes[config]

    def _state(self, config: Mesh, mesh: jax.sharding.Mesh) -> tuple[float, float, float]:
        """Bytes of the parameters, of the optimiser, and of the gradients of what is trained."""
        if config not in self._states:
            state = abstract_state(self.network, self._optimizer, mesh, self.trained)
            self._states[config] = (
                device_bytes(state.params),
                device_bytes((state.optimizer, state.step, state.average)),
                device_bytes(self.trained.take(state.params)),
            )
        return self._states[config]

    def _gathered(self, run: Run, tensor: int) -> tuple[float, float]:
        """Bytes of one layer's weights, and of the output matrix, as they are computed with."""
        model, width = run.model, jnp.dtype(run.step.dtype).itemsize
        layer = sum(
            spec.size / spec.shape[0]
            for spec in jax.tree.leaves(self.network.specs, is_leaf=is_spec)
            if "layers" in spec.axes
        )
        # A step of the scan has as many layers as there are before their kinds repeat.
        layer *= period(model.layer_kinds)
        table = model.padded_vocab_size * model.embed_dim
        return width * layer / tensor, width * table / tensor

    def host_bytes(self, run: Run) -> float:
        """Returns what a device keeps in its host's memory between the passes."""
        if not run.step.offload:
            return 0.0
        mesh = self._mesh(run.mesh)
        names = tuple(dict.fromkeys((*(run.step.saved or ()), *run.step.offload)))
        names = tuple(name for name in names if name != "input")
        kept, both = self._held(run), self._handed(run, names)
        rows = run.data.batch_size / batch_shards(mesh) / mesh.shape["context"]
        divided = (both.divided - kept.divided) / mesh.shape["tensor"]
        return rows * (both.whole - kept.whole + divided)

    def _held(self, run: Run) -> _Handed:
        """What the backward pass is handed on the device: all but what is offloaded."""
        step = run.step
        if not step.offload:
            return self._handed(run, step.remat)
        held = self._handed(run, tuple(n for n in step.saved or () if n not in step.offload))
        if "input" not in step.offload:
            return held
        model, lengths = run.model, run.data.lengths
        layers = ((model.encoder_layers,) if len(lengths) > 1 else ()) + (model.num_layers,)
        places = sum(n * length for n, length in zip(layers, lengths, strict=True))
        inputs = places * model.embed_dim * jnp.dtype(step.dtype).itemsize
        return dataclasses.replace(held, whole=held.whole - inputs)

    def _handed(self, run: Run, remat: Any) -> _Handed:
        """What the backward pass is handed, from the shapes for one row and for two."""
        key = (remat, run.data.lengths)
        if key not in self._saved:
            step = dataclasses.replace(run.step, remat=remat, offload=(), accumulation=1)
            data = dataclasses.replace(run.data, batch_ramp=(), seq_len_stages=())
            one, two = (
                self._kept(
                    dataclasses.replace(
                        run, step=step, data=dataclasses.replace(data, batch_size=rows)
                    )
                )
                for rows in (1, 2)
            )
            model = run.model
            widths = {model.num_heads, model.num_kv_heads, model.mlp_dim}
            whole = divided = weights = 0.0
            for a, b in zip(one, two, strict=True):
                more = _bytes(b) - _bytes(a)
                if not more:
                    weights += _bytes(a)
                elif a.shape[-1] != model.embed_dim and widths & set(a.shape):
                    divided += more
                else:
                    whole += more
            self._saved[key] = _Handed(whole, divided, weights)
        return self._saved[key]

    def _kept(self, run: Run) -> list[jax.ShapeDtypeStruct]:
        """Returns all that differentiating the network keeps."""
        device = self.devices[0]
        kind = choose_attention(run.step.attention, device.platform)
        if kind == "splash":
            kind = tuning(device).tiles
        alone = make_mesh(Mesh(), self.devices[:1])
        batch = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype)
            for name, x in abstract_batch(run, alone).items()
        }

        def kept(params: Any, batch: Any) -> Any:
            def hidden(moved: Any) -> Any:
                return forward(self.network, run, parts.put(params, moved), batch, kind)[0]

            return jax.vjp(hidden, self.trained.take(params))[1]

        shapes = jax.eval_shape(kept, abstract_weights(self.network.specs), batch)
        return jax.tree.leaves(shapes)


def _longest_layer(run: Run) -> float:
    """Returns the share of the layer that sees the most tokens in what all layers are handed."""
    lengths = run.data.lengths
    counts = [run.model.num_layers]
    if len(lengths) > 1:
        counts.insert(0, run.model.encoder_layers)
    tokens = sum(count * length for count, length in zip(counts, lengths, strict=True))
    return max(lengths) / tokens


def _bytes(tree: Any) -> float:
    """Returns the bytes of an abstract tree, whole."""
    return float(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))
