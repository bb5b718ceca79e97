"""The TPU kernel, run in its interpreter, against the reference attention."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twjax.models import attention
from twjax.models.attention import Form
from twjax.models.positions import alibi_slopes
from twjax.parallel.tpu import Tiles

FORMS = {
    "plain": Form(0.3),
    "window": Form(0.3, window=50),
    "softcap": Form(0.3, softcap=2.0, window=200),
    "alibi": Form(0.3, alibi=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_kernel_equals_the_reference(form):
    """Six heads, which is no power of two, on three documents and padding."""
    S, N, K, H = 256, 6, 2 if form != "alibi" else 6, 128
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (
        jax.random.normal(key, (1, S, heads, H)) for key, heads in zip(keys, (N, K, K), strict=True)
    )
    segments = jnp.asarray(np.repeat([1, 2, 3, 0], [100, 130, 10, 16])[None])
    expected = attention.attend(q, k, v, segments, "reference", FORMS[form])
    found = attention._splash(q, k, v, segments, FORMS[form], interpret=True)
    real = np.asarray(segments[0]) > 0
    np.testing.assert_allclose(found[0, real], expected[0, real], atol=2e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "tiles",
    [
        Tiles(forward=256, queries=128, keys=512, compute=128),
        # The tile of keys is no multiple of what is to be multiplied at a time.
        Tiles(forward=512, queries=256, keys=384, compute=256),
    ],
    ids=lambda tiles: f"keys{tiles.keys}",
)
def test_gradients_equal_the_references_whatever_the_tiles(tiles):
    S, N, K, H = 768, 2, 1, 128
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, out = (
        jax.random.normal(key, (1, S, heads, H))
        for key, heads in zip(keys, (N, K, K, N), strict=True)
    )
    segments = jnp.asarray(np.repeat([1, 2, 3, 0], [300, 400, 50, 18])[None])
    out = jnp.where(segments[..., None, None] > 0, out, 0.0)

    def gradients(attend):
        return jax.grad(lambda *qkv: jnp.sum(attend(*qkv) * out), argnums=(0, 1, 2))(q, k, v)

    form = FORMS["plain"]
    expected = gradients(lambda *qkv: attention.attend(*qkv, segments, "reference", form))
    found = gradients(lambda *qkv: attention._splash(*qkv, segments, form, tiles, interpret=True))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-4, rtol=1e-3)


@pytest.mark.parametrize("heads", [4, 6, 112])
def test_alibi_is_exact_in_bfloat16(heads):
    """What six more numbers a head add to q·k is slope · position, up to float32 rounding."""
    S = 2048
    zeros = jnp.zeros((1, S, heads, 8), jnp.bfloat16)
    q, k = attention._with_alibi(zeros, zeros)
    products = np.einsum("nh,tnh->nt", *(np.asarray(x, np.float64) for x in (q[0, 0], k[0])))
    slopes = alibi_slopes(heads).astype(np.float64)
    np.testing.assert_allclose(products, slopes[:, None] * np.arange(S), rtol=1e-7)


def test_slopes_of_two_heads_more_than_a_power():
    # 2^(-8 i / 4) for four heads, then the first and third of eight: 2^(-8 j / 8).
    expected = [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
    np.testing.assert_allclose(alibi_slopes(6), expected)
