"""How many rows a model needs for a vocabulary."""

from __future__ import annotations


def check_vocab_size(rows: int, ids: int, made_by: str) -> None:
    """Raises ValueError unless each id of a vocabulary has its row in the embedding.

    `rows` is `Model.vocab_size`. It may be larger: published models have rows that stand for
    nothing (Qwen3: 151,936 rows for 151,669 ids). Such rows are part of the softmax, as they
    were when the model was trained.
    """
    if rows < ids:
        raise ValueError(
            f"Model.vocab_size ({rows}) is less than the {ids} ids of {made_by}; set it to {ids}, "
            "or to the number of rows that the model's weights have."
        )
