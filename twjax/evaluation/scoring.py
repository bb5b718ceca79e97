"""Log-likelihoods of continuations: what multiple choice, minimal pairs and `lm_eval` ask for.

Shapes: B rows, S columns, P places whose next token is asked for, Q questions about them, D width,
V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from twjax.config import Run
from twjax.evaluation.batching import Family, Request, Row, families, padded, room, rows_of
from twjax.evaluation.generate import cast_weights, prompt_columns
from twjax.models.attention import SPLASH_COLUMNS, Kind, choose_attention
from twjax.models.decoder import Network
from twjax.models.encdec import EncoderDecoder
from twjax.models.network import AnyNetwork
from twjax.parallel.sharding import batch_shards, constrain, replicated, seq_shards
from twjax.progress import Progress

# Tokens that a call reads on each device, and columns of keys and values that it holds there.
TOKENS_A_DEVICE = 2048
COLUMNS_A_DEVICE = 32_768
# Places whose logits exist at once.
_PLACES = 64
# Rows of more columns are read with the TPU's kernel, whose tiles `room` fits from there on; the
# scores of shorter ones are small, and the kernel would fill them up.
_SHORT = 512

T = TypeVar("T")


class Scored(NamedTuple):
    """ln P(continuation | context) in nats, and whether each of its ids is the likeliest one."""

    log_likelihood: float
    greedy: bool


class Scorer:
    """Scores requests with a network; what has the same shapes is compiled once.

    Each different row is read once, whatever the number of ids asked for behind it; where that is
    less work, what rows begin with alike (the examples of a few-shot set, the question before its
    options) is read once as well, into a cache that its rows share.
    """

    def __init__(self, run: Run, network: AnyNetwork, mesh: jax.sharding.Mesh):
        self._network, self._mesh = network, mesh
        self._shards, self._parts = batch_shards(mesh), seq_shards(mesh)
        self._kind: Kind = choose_attention(run.step.attention, mesh.devices.flat[0].platform)
        self._dtype, self._out = run.step.dtype, replicated(mesh)

    def __call__(
        self, params: Any, requests: Sequence[Request], label: str = "score"
    ) -> list[Scored]:
        """Returns a score for each request, in their order.

        Raises ValueError as `check` does.
        """
        self.check(requests)
        rows = rows_of(requests, both=isinstance(self._network, EncoderDecoder))
        logs, greedy = np.zeros((2, sum(len(row.asked) for row in rows)))
        with jax.set_mesh(self._mesh), Progress(len(rows), label, "row") as progress:
            params = cast_weights(self._network, params, self._dtype)
            both = isinstance(self._network, EncoderDecoder)
            waiting: _Call | None = None
            for call in self._translated(params, rows) if both else self._decoded(params, rows):
                # A call is dispatched before the results of the last one are fetched.
                if waiting is not None:
                    _collect(waiting, logs, greedy, progress)
                waiting = call
            if waiting is not None:
                _collect(waiting, logs, greedy, progress)
        scores = {
            number: Scored(float(np.sum(logs[asked])), bool(np.all(greedy[asked])))
            for row in rows
            for number, asked in row.requests
        }
        return [scores[number] for number in range(len(requests))]

    def columns(self, size: int) -> int:
        """Returns into how many columns rows of up to `size` ids are filled."""
        columns = room(size, multiple=self._parts)
        if self.kind(columns) == "splash":
            return room(size, multiple=math.lcm(self._parts, SPLASH_COLUMNS))
        return columns

    def kind(self, columns: int) -> Kind:
        """Returns the attention that reads rows of so many columns."""
        return self._kind if columns > _SHORT else "reference"

    def check(self, requests: Sequence[Request], names: Sequence[str] | None = None) -> None:
        """Raises ValueError for an empty context or continuation, an id outside of the vocabulary,
        or more positions than the model has learned.

        `names` say what each request is of; otherwise it has its number.
        """
        config = self._network.config
        limit, size = config.max_positions, config.vocab_size
        for number, (context, continuation) in enumerate(requests):
            name = names[number] if names is not None else f"request {number}"
            if not len(context) or not len(continuation):
                part = "continuation" if len(context) else "context"
                raise ValueError(f"{name}: its {part} has no ids.")
            low, high = (f(*context, *continuation, *context[:1]) for f in (min, max))
            if low < 0 or high >= size:
                raise ValueError(f"{name}: ids from {low} to {high}, but the model has {size}.")
            length = len(context) + len(continuation) - 1
            if limit is not None and length > limit:
                raise ValueError(
                    f"{name} needs {length} positions, but the model has learned {limit} "
                    "(Model.max_positions)."
                )

    def _decoded(self, params: Any, rows: list[Row]) -> Iterator[_Call]:
        alone, shared = families(rows)
        for columns, part in self._cut(alone, lambda row: len(row.ids)):
            count = self._count(len(part))
            tokens_BS = padded([row.ids for row in part], columns, count)
            sizes_B = _numbers([len(row.ids) for row in part], count)
            asked = _Asked.of(part, [0] * len(part))
            arrays = _read(
                self._network, self._dtype, self.kind(columns), self._out,
                params, tokens_BS, sizes_B, *asked.arrays,
            )  # fmt: skip
            yield _Call(part, asked, arrays)
        for columns, some in self._cut(shared, lambda family: family.prefix):
            yield from self._behind(params, some, columns)

    def _behind(self, params: Any, some: list[Family], columns: int) -> Iterator[_Call]:
        """Reads the prefixes of some families together, then the rows behind them."""
        prefixes = [family.rows[0].ids[: family.prefix] for family in some]
        cache = _start(
            self._network, self._dtype, self.kind(columns),
            params, *prompt_columns(prefixes, self._mesh, columns),
        )  # fmt: skip
        rows = [(n, family.prefix, row) for n, family in enumerate(some) for row in family.rows]
        longest = max(len(row.ids) - prefix for _, prefix, row in rows)
        most = COLUMNS_A_DEVICE // (columns + self.columns(longest))
        for size, part in self._cut(rows, lambda item: len(item[2].ids) - item[1], most):
            count = self._count(len(part))
            tokens_BS = padded([row.ids[prefix:] for _, prefix, row in part], size, count)
            owners_B = _numbers([n for n, _, _ in part], count)
            asked = _Asked.of([row for *_, row in part], [prefix for _, prefix, _ in part])
            arrays = _extend(
                self._network, self._out, params, cache, owners_B, tokens_BS, *asked.arrays
            )
            yield _Call([row for *_, row in part], asked, arrays)

    def _translated(self, params: Any, rows: list[Row]) -> Iterator[_Call]:
        """An encoder-decoder reads a context with its encoder; place t predicts target t."""
        for columns, part in self._cut(rows, lambda row: len(row.context)):
            count = self._count(len(part))
            inputs_BS = padded([row.context for row in part], columns, count)
            targets_BT = padded(
                [row.ids for row in part], self.columns(max(len(row.ids) for row in part)), count
            )
            asked = _Asked.of(part, [0] * len(part))
            arrays = _translate(
                self._network, self._dtype, self._out,
                params,
                inputs_BS, _numbers([len(row.context) for row in part], count),
                targets_BT, _numbers([len(row.ids) for row in part], count),
                *asked.arrays,
            )  # fmt: skip
            yield _Call(part, asked, arrays)

    def _cut(
        self, items: list[T], size: Callable[[T], int], most: int | None = None
    ) -> Iterator[tuple[int, list[T]]]:
        """Yields (columns, some of the items), the longest first, as much as a call may read.

        `most` bounds the rows of a device.
        """
        ordered = sorted(items, key=size, reverse=True)
        first = 0
        while first < len(ordered):
            columns = self.columns(size(ordered[first]))
            rows = max(1, min(TOKENS_A_DEVICE // columns, most or TOKENS_A_DEVICE))
            yield columns, ordered[first : first + rows * self._shards]
            first += rows * self._shards

    def _count(self, rows: int) -> int:
        """Returns the next number of rows that the mesh can divide, one of few."""
        return room(-(-rows // self._shards), least=1) * self._shards


class _Asked(NamedTuple):
    """The questions of a call's rows: which places, and behind each of them which K ids.

    `rows_P`, `columns_P` and `ids_PK` are padded; `numbers` and `cells` say for each question its
    number among all and its cell of [P, K].
    """

    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]
    numbers: np.ndarray
    cells: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, rows: Sequence[Row], skipped: Sequence[int]) -> _Asked:
        """Collects what is asked; `skipped` ids of each row come before its first column."""
        places: dict[tuple[int, int], list[int]] = {}
        numbers, cells = [], []
        for number, (row, prefix) in enumerate(zip(rows, skipped, strict=True)):
            for (place, id), question in row.asked.items():
                ids = places.setdefault((number, place - prefix), [])
                cells.append(((number, place - prefix), len(ids)))
                numbers.append(question)
                ids.append(id)
        order = {place: n for n, place in enumerate(places)}
        P = -(-len(places) // _PLACES) * _PLACES if len(places) > _PLACES else room(len(places))
        K = room(max(map(len, places.values())), least=1)
        places_P2 = np.zeros((P, 2), np.int32)
        places_P2[: len(places)] = list(places)
        ids_PK = padded(list(places.values()), K, P)
        return cls(
            (places_P2[:, 0], places_P2[:, 1], ids_PK),
            np.asarray(numbers),
            (np.asarray([order[place] for place, _ in cells]), np.asarray([k for _, k in cells])),
        )


class _Call(NamedTuple):
    """Rows that a call has read, what was asked of them, and (ln P [P, K], likeliest [P])."""

    rows: list[Row]
    asked: _Asked
    answers: tuple[jax.Array, jax.Array]


def _collect(call: _Call, logs: np.ndarray, greedy: np.ndarray, progress: Progress) -> None:
    logs_PK, best_P = (np.asarray(x) for x in call.answers)
    numbers, (places, columns) = call.asked.numbers, call.asked.cells
    logs[numbers] = logs_PK[places, columns]
    greedy[numbers] = best_P[places] == call.asked.arrays[2][places, columns]
    progress.update(len(call.rows))


def _numbers(values: Sequence[int], count: int) -> np.ndarray:
    """Returns int32 [count]; the rows beyond the values get 0."""
    array = np.zeros(count, np.int32)
    array[: len(values)] = values
    return array


def _segments(sizes_B: jax.Array, columns: int) -> jax.Array:
    """Returns segment ids [B, S] of rows of these sizes: 1, and 0 behind them."""
    return constrain((jnp.arange(columns) < sizes_B[:, None]).astype(jnp.int32), "batch", "seq")


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _read(
    network: Network,
    dtype: str,
    kind: Kind,
    out: Any,
    params: Any,
    tokens_BS: jax.Array,
    sizes_B: jax.Array,
    *asked: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    segment_ids_BS = _segments(sizes_B, tokens_BS.shape[1])
    tokens_BS = constrain(tokens_BS, "batch", "seq")
    hidden_BSD = network.hidden(
        params, tokens_BS, segment_ids_BS, dtype=jnp.dtype(dtype), kind=kind
    )
    return _answers(out, network, params, hidden_BSD, *asked)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _start(
    network: Network,
    dtype: str,
    kind: Kind,
    params: Any,
    tokens_GS: jax.Array,
    segment_ids_GS: jax.Array,
) -> Any:
    tokens_GS = constrain(tokens_GS, "batch", "seq")
    segment_ids_GS = constrain(segment_ids_GS, "batch", "seq")
    return network.start(
        params,
        tokens_GS,
        segment_ids_GS,
        length=tokens_GS.shape[1],
        dtype=jnp.dtype(dtype),
        kind=kind,
    )[1]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _extend(
    network: Network,
    out: Any,
    params: Any,
    cache: Any,
    owners_B: jax.Array,
    tokens_BT: jax.Array,
    *asked: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    tokens_BT = constrain(tokens_BT, "batch", None)
    # What stands behind a row's end is seen by nothing before it, and the cache isn't kept.
    hidden_BTD, _ = network.extend(params, tokens_BT, cache.taken(owners_B))
    return _answers(out, network, params, hidden_BTD, *asked)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _translate(
    network: EncoderDecoder,
    dtype: str,
    out: Any,
    params: Any,
    inputs_BS: jax.Array,
    inputs_sizes_B: jax.Array,
    targets_BT: jax.Array,
    targets_sizes_B: jax.Array,
    *asked: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    hidden_BTD = network.hidden(
        params,
        constrain(inputs_BS, "batch", "seq"),
        _segments(inputs_sizes_B, inputs_BS.shape[1]),
        constrain(targets_BT, "batch", "seq"),
        _segments(targets_sizes_B, targets_BT.shape[1]),
        dtype=jnp.dtype(dtype),
    )
    return _answers(out, network, params, hidden_BTD, *asked)


def _answers(
    out: Any,
    network: AnyNetwork,
    params: Any,
    hidden_BSD: jax.Array,
    rows_P: jax.Array,
    columns_P: jax.Array,
    ids_PK: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns ln P of each id [P, K] and the likeliest id [P]; logits are of the places alone."""
    hidden_PD = hidden_BSD[rows_P, columns_P]
    pieces = max(1, len(rows_P) // _PLACES)

    def piece(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden_CD, ids_CK = part
        logs_CV = jax.nn.log_softmax(network.logits(params, hidden_CD[None])[0], axis=-1)
        return jnp.take_along_axis(logs_CV, ids_CK, axis=-1), jnp.argmax(logs_CV, axis=-1)

    parts = jax.tree.map(
        lambda x: x.reshape(pieces, -1, x.shape[-1]), (hidden_PD, ids_PK)
    )  # fmt: skip
    logs, best = jax.lax.map(piece, parts)
    logs_PK, best_P = logs.reshape(ids_PK.shape), best.reshape(-1)
    logs_PK = jax.lax.with_sharding_constraint(logs_PK, out)
    return logs_PK, jax.lax.with_sharding_constraint(best_P, out)
