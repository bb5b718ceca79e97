"""Our logits beside transformers' on the same folder and sentences, in float32 on the CPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from twjax.config import Model
from twjax.huggingface.probe import sentence_tokens, tokenizer_of
from twjax.models.encdec import EncoderDecoder

# Largest error at logits of size 10, as one ulp of a sum of a few thousand float32 products grows
# over tens of layers; and the divergence that goes with it, in nats.
ERROR, DIVERGENCE = 2e-4, 1e-6


@dataclasses.dataclass(frozen=True)
class Row:
    """One kind of text: the largest error, the largest logit, mean divergence KL(theirs ‖ ours)
    in nats per token, and the share of tokens whose likeliest successor is the same.
    """

    kind: str
    tokens: int
    error: float
    scale: float
    divergence: float
    agreement: float

    @property
    def passes(self) -> bool:
        return self.error <= ERROR * max(1.0, self.scale / 10) and self.divergence <= DIVERGENCE


def compare(folder: pathlib.Path, model: Model, network: Any, params: Any) -> list[Row]:
    """Returns a row for each kind of sentence; needs torch and transformers.

    `params` are float32. Both read the same tokens: the folder's tokenizer's where it has one.
    """
    theirs = _their_model(folder)
    tokens = sentence_tokens(tokenizer_of(folder, model), model)
    rows = []
    for kind, texts in tokens.items():
        found = [_compare_one(theirs, network, params, np.asarray([ids])) for ids in texts]
        rows.append(
            Row(
                kind=kind,
                tokens=sum(len(ids) for ids in texts),
                error=max(f[0] for f in found),
                scale=max(f[1] for f in found),
                divergence=float(np.mean(np.concatenate([f[2] for f in found]))),
                agreement=float(np.mean(np.concatenate([f[3] for f in found]))),
            )
        )
    return rows


def table(rows: list[Row]) -> str:
    """Returns the rows as text."""
    lines = [f"{'text':8} {'tokens':>6} {'max |error|':>12} {'max |logit|':>12} "
             f"{'KL (nats)':>10} {'same argmax':>11}"]  # fmt: skip
    lines += [
        f"{r.kind:8} {r.tokens:>6} {r.error:>12.2e} {r.scale:>12.2f} {r.divergence:>10.1e} "
        f"{r.agreement:>11.2%}{'' if r.passes else '  too far'}"
        for r in rows
    ]
    return "\n".join(lines)


def require(rows: list[Row], folder: pathlib.Path) -> None:
    """Raises ValueError when a row is further off than float32 arithmetic explains."""
    wrong = [row for row in rows if not row.passes]
    if wrong:
        worst = max(wrong, key=lambda row: row.error)
        raise ValueError(
            f"{folder}: logits differ from transformers' by up to {worst.error:.2e} on "
            f"{worst.kind} (at most {ERROR * max(1.0, worst.scale / 10):.1e} is rounding), KL "
            f"{worst.divergence:.1e}: the conversion is not exact."
        )


def require_reference() -> None:
    """Raises RuntimeError where transformers, or the torch that it needs, is not installed."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"--check needs {' and '.join(missing)}: pip install {' '.join(missing)}."
        )


def _their_model(folder: pathlib.Path) -> Any:
    require_reference()
    import torch  # pyright: ignore[reportMissingImports]
    import transformers

    from twjax.storage import read_json

    config = read_json(folder / "config.json")
    (name, *_) = config["architectures"]
    load = getattr(transformers, name).from_pretrained
    # The mathematics of its own code, not a fused kernel's.
    model = load(folder, dtype=torch.float32, attn_implementation="eager")
    if name == "UMT5ForConditionalGeneration":
        # transformers 5 forgets that the file says false, and scales untied logits too.
        model.config.tie_word_embeddings = config.get("tie_word_embeddings", False)
    return model.eval()


def _compare_one(
    theirs: Any, network: Any, params: Any, ids: np.ndarray
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Returns largest error, largest logit, and by place divergence and agreement."""
    import torch  # pyright: ignore[reportMissingImports]

    segments = np.ones_like(ids)
    tensor = torch.tensor(ids)
    with torch.no_grad():
        if isinstance(network, EncoderDecoder):
            start = torch.full_like(tensor[:, :1], theirs.config.decoder_start_token_id)
            shifted = torch.cat([start, tensor[:, :-1]], dim=1)
            out = theirs(input_ids=tensor, decoder_input_ids=shifted)
            inputs = (ids, segments, ids, segments)
        else:
            out, inputs = theirs(tensor), (ids, segments)
    want = out.logits[0].numpy()
    # No mesh is set: one row isn't divided, however the weights are.
    hidden = network.hidden(params, *map(jnp.asarray, inputs), dtype=jnp.float32, kind="reference")
    got = np.asarray(network.logits(params, hidden))[0]
    want = want[:, : got.shape[1]]
    error = np.abs(got - want).max()
    p, q = (_log_softmax(x.astype(np.float64)) for x in (want, got))
    divergence = np.sum(np.exp(p) * (p - q), axis=1)
    agreement = got.argmax(axis=1) == want.argmax(axis=1)
    if not math.isfinite(error):
        error = math.inf
    return float(error), float(np.abs(want).max()), divergence, agreement


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))
