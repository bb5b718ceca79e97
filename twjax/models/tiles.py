"""Which tiles of keys a tile of queries can see: causal, within a window, with a segment in common.

Shapes: B batch, S sequence, I tiles of queries, J tiles of keys.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def meetings(
    segment_ids_BS: jax.Array, queries: int, keys: int, window: int | None
) -> tuple[jax.Array, jax.Array]:
    """Returns the first tile of keys [B, I] of each tile of queries, and the tile of queries [B, J]
    behind the last one of each tile of keys; tiles have `queries` and `keys` rows.

    Tiles between may have nothing in common; none outside has. Ids may be in any order.
    """
    B, S = segment_ids_BS.shape
    I, J = S // queries, S // keys  # noqa: E741
    start_I, start_J = np.arange(I) * queries, np.arange(J) * keys
    seen_IJ = start_J[None] < start_I[:, None] + queries
    if window is not None:
        seen_IJ &= start_I[:, None] - (start_J[None] + keys - 1) < window
    ids_BIQ, ids_BJT = segment_ids_BS.reshape(B, I, queries), segment_ids_BS.reshape(B, J, keys)
    # Ranges of ids that don't overlap have none in common.
    common_BIJ = (ids_BIQ.min(2)[:, :, None] <= ids_BJT.max(2)[:, None]) & (
        ids_BJT.min(2)[:, None] <= ids_BIQ.max(2)[:, :, None]
    )
    met_BIJ = common_BIJ & seen_IJ
    first_BI = jnp.argmax(met_BIJ, axis=2)
    behind_BJ = I - jnp.argmax(met_BIJ[:, ::-1], axis=1)
    return first_BI.astype(jnp.int32), behind_BJ.astype(jnp.int32)
