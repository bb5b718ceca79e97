"""Logits equal transformers' for every family and its variants, padded and packed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import hf_models

TOLERANCE = 2e-4


def _same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert 5 < np.abs(theirs).max() < 40, "logits of a scale at which the tolerance means something"
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.mark.parametrize("case", hf_models.CASES)
def test_logits_equal_transformers(case: str) -> None:
    """One batch holds a padded row, a full row and a row of three documents."""
    model = hf_models.torch_model(case)
    network, params = hf_models.ours(model)
    draw = np.random.default_rng(1)
    S, lengths = 24, [17, 24]
    rows_BS = draw.integers(3, 97, (3, S))
    rows_BS[0, 17:] = 0
    segments_BS = np.ones((3, S), np.int32)
    segments_BS[0, 17:] = 0
    documents = [(0, 9), (9, 16), (16, 24)]
    for number, (first, last) in enumerate(documents):
        segments_BS[2, first:last] = number + 1
    logits_BSV = hf_models.our_logits(network, params, rows_BS, segments_BS)

    theirs_BSV = hf_models.torch_logits(model, rows_BS[:2], lengths)
    for row, length in enumerate(lengths):
        _same(logits_BSV[row, :length], theirs_BSV[row, :length])
    for first, last in documents:
        alone = hf_models.torch_logits(model, rows_BS[2:, first:last], [last - first])
        _same(logits_BSV[2, first:last], alone[0])
