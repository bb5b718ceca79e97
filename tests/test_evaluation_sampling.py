"""How a token is chosen, and how ids become text up to a stop string."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twjax.evaluation.continuation import Writer
from twjax.evaluation.sampling import Sampling, choose, likeliest


def test_top_k_and_top_p_keep_the_fewest_likeliest():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 40)).astype(np.float32) * 3
    for top_k, top_p in ((3, None), (None, 0.7), (10, 0.5), (None, 1.0), (100, None), (1, 0.01)):
        kept = np.isfinite(np.asarray(likeliest(jnp.asarray(logits), top_k, top_p)))
        for row, scores in enumerate(logits):
            order = np.argsort(-scores)[: top_k or 40]
            shares = np.exp(scores[order]) / np.exp(scores[order]).sum()
            count = 1
            while top_p is not None and count < len(order) and shares[:count].sum() < top_p:
                count += 1
            count = len(order) if top_p is None else count
            assert set(np.flatnonzero(kept[row])) == set(order[:count]), (top_k, top_p)


def test_a_repeated_token_loses_by_its_sign():
    logits = jnp.asarray([[2.0, 1.5, -1.0], [-1.0, -1.5, -4.0]])
    seen = jnp.asarray([[True, False, True], [True, False, False]])

    def pick(penalty):
        sampling = Sampling(repetition_penalty=penalty)
        return choose(logits, seen, jnp.int32(0), jnp.uint32(0), sampling).tolist()

    # 2 / 1.5 < 1.5; -1 · 1.5 ties with -1.5, the first wins.
    assert pick(1.0) == [0, 0] and pick(1.5) == [1, 0] and pick(1.6) == [1, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": -1.0}, "temperature (-1.0) must not be negative"),
        ({"top_k": 5}, "top_k (5) does nothing at temperature 0"),
        ({"top_p": 0.9}, "top_p (0.9) does nothing at temperature 0"),
        ({"temperature": 1.0, "top_k": 0}, "top_k (0) must be at least 1"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p (0.0) must be above 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty (0.0) must be positive"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(fields, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        Sampling(**fields)
    assert message in str(error.value)


class Bytes:
    """A vocabulary of single bytes, with EOS as id 256."""

    eos_id, vocab_size = 256, 257

    def stream(self, *, continued: bool = False):
        from twjax.vocab.tokenizer import Stream

        return Stream([bytes([byte]) for byte in range(256)] + [b""])


def fed(data: bytes, stop: tuple[str, ...]) -> tuple[str, list[str]]:
    """Returns a writer's text, and what it wrote after each byte."""
    written: list[str] = []
    writer = Writer(Bytes(), stop, written.append)  # type: ignore[arg-type]
    for byte in data:
        writer.push(byte)
    writer.end()
    return writer.text, written


WORDS = st.text(alphabet="ab臺灣😀\n", max_size=12)


@given(text=WORDS, stop=st.lists(st.text(alphabet="ab臺\n", min_size=1, max_size=3), max_size=3))
def test_text_ends_before_the_first_stop_string(text, stop):
    said, written = fed(text.encode(), tuple(stop))
    # The stop string that is complete first wins; of those, the one that begins first.
    ends = [text.find(one) + len(one) for one in stop if one in text]
    expected = text
    if ends:
        prefix = text[: min(ends)]
        expected = prefix[: min(prefix.find(one) for one in stop if one in prefix)]
    assert said == expected
    assert "".join(written) == said and "" not in written


def test_nothing_uncertain_is_written():
    written: list[str] = []
    writer = Writer(Bytes(), ("<end>",), written.append)  # type: ignore[arg-type]
    seen = []
    for byte in "臺a<e<end>b".encode():
        writer.push(byte)
        seen.append("".join(written))
    assert seen == ["", "", "臺", "臺a", "臺a", "臺a", "臺a<e", *["臺a<e"] * 5]
    assert writer.done and writer.text == "臺a<e"


def test_other_ids_end_a_text_as_eos_does():
    writer = Writer(Bytes(), end_ids=(98, 99))  # type: ignore[arg-type]
    for id in b"aacd":
        writer.push(id)
    assert writer.done and writer.text == "aa"


def test_eos_ends_a_text_and_half_a_character_shows():
    writer = Writer(Bytes())  # type: ignore[arg-type]
    for id in ("臺".encode()[0], 256, 97):
        writer.push(id)
    assert writer.text == "\ufffd" and writer.done
    with pytest.raises(ValueError, match="stop string is empty"):
        Writer(Bytes(), ("",))  # type: ignore[arg-type]
