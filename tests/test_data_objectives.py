"""UL2's denoisers and fill-in-the-middle: the papers' definitions, and that nothing is lost."""

from __future__ import annotations

import collections

import data_side
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.data.chance import Chance

EOS, BOS = 1, 3
LAST = 99_999
TABLE = [("R", 0.15, 3), ("R", 0.15, 8), ("S", 0.25, 0), ("X", 0.5, 3), ("X", 0.5, 8)]
TABLE += [("X", 0.15, 64), ("X", 0.5, 64)]
MODES = {"R": "[NLU]", "S": "[S2S]", "X": "[NLG]"}


@pytest.fixture(scope="module")
def objectives():
    """The two modules; importing them loads TensorFlow."""
    from twjax.data import preprocessors_fim, preprocessors_ul2

    return preprocessors_ul2, preprocessors_fim


@pytest.fixture(scope="module")
def vocabulary():
    from twjax.data.vocabulary import PieceVocabulary

    return PieceVocabulary(data_side.vocabulary(), extra_ids=256)


def marks(module, modes=((7,),) * 7):
    return module.Marks(LAST, EOS, modes)


def restore(inputs, targets, mode_length):
    """Puts the spans of the targets back where their sentinels stand; S has no sentinels."""
    inputs, targets = inputs.tolist()[mode_length:], targets.tolist()
    if not any(token > LAST - 1000 for token in inputs):
        return [token for token in inputs + targets if token != EOS]
    spans: dict[int, list[int]] = {}
    assert inputs.pop() == targets.pop() == EOS
    for token in targets:
        if token > LAST - 1000:
            spans[token] = []
        else:
            spans[next(reversed(spans))].append(token)
    assert list(spans) == list(range(LAST, LAST - len(spans), -1))
    whole = []
    for token in inputs:
        whole += spans.pop(token) if token > LAST - 1000 else [token]
    assert not spans
    return whole


def test_the_denoisers_are_those_of_table_1(objectives):
    found = [(d.mode, d.density, d.mean, d.share) for d in objectives[0].UL2]
    assert found == [(MODES[mode], density, mean, 1.0) for mode, density, mean in TABLE]


@given(
    size=st.integers(1, 700),
    inputs=st.integers(24, 300),
    targets=st.integers(24, 300),
    shared=st.booleans(),
    name=st.text(max_size=5),
    sentinels=st.integers(1, 200),
)
@settings(max_examples=150, deadline=None)
def test_ul2_pieces_fit_and_give_the_document_back(
    objectives, size, inputs, targets, shared, name, sentinels
):
    ul2 = objectives[0]
    ids = np.arange(1000, 1000 + size, dtype=np.int32)
    together = min(inputs, targets) if shared else 0
    room = ul2.Room(inputs, targets, together, sentinels)
    pairs = list(ul2.pieces(ids, Chance(name), ul2.UL2, room, marks(ul2)))
    assert [t for pair in pairs for t in restore(*pair, 1)] == ids.tolist()
    for given_side, wanted in pairs:
        assert given_side[0] == 7
        assert len(given_side) <= inputs and len(wanted) <= targets
        assert not shared or len(given_side) + len(wanted) <= together
        assert len(wanted) >= 1 and sum(wanted > LAST - 1000) <= sentinels
    assert pairs[-1][1][-1] == EOS


@pytest.mark.parametrize("which", range(7))
def test_ul2_spans_have_the_stated_density_and_length(objectives, which):
    ul2 = objectives[0]
    _, density, mean = TABLE[which]
    one = (ul2.UL2[which],)
    room = ul2.Room(512, 512, 0, 256)
    ids = np.arange(1000, 41_000, dtype=np.int32) % 50_000
    noise = spans = kept = 0
    for inputs, targets in ul2.pieces(ids, Chance("document"), one, room, marks(ul2)):
        starts = int((targets > LAST - 1000).sum())
        hidden = len(targets) - starts - int((targets == EOS).sum())
        noise, spans, kept = noise + hidden, spans + starts, kept + len(inputs) - starts - 1
        kept -= int(inputs[-1] == EOS)
    assert noise + kept == len(ids)
    assert noise / len(ids) == pytest.approx(density, abs=0.006)
    if mean:
        # A piece has a whole number of spans: at 15 %, one of 90 is as near to 64 as can be.
        hidden = round(ul2.longest(one[0], 1, room) * density)
        assert noise / spans == pytest.approx(hidden / round(hidden / mean), rel=0.03)
        assert noise / spans == pytest.approx(mean, rel=0.03) or mean == 64
    else:
        assert spans == 0


def test_ul2_spans_may_stand_anywhere(objectives):
    ul2 = objectives[0]
    one, room = (ul2.UL2[0],), ul2.Room(512, 512, 0, 256)
    ids = np.arange(1000, 1100, dtype=np.int32)
    hits = np.zeros(100)
    for number in range(600):
        ((_, targets),) = ul2.pieces(ids, Chance(str(number)), one, room, marks(ul2))
        hits[targets[(targets >= 1000) & (targets < 1100)] - 1000] += 1
    # 15 of 100 tokens; the first can't be noise, since the rest comes first.
    # And the last token always is, so places near the ends are hit less and more than 15 %.
    assert hits.sum() == 600 * 15 and hits[0] == 0 and hits[-1] == 600
    assert (hits[10:85] / 600).reshape(5, 15).mean(1) == pytest.approx([0.145] * 5, abs=0.025)


def test_ul2_draws_denoisers_by_their_shares(objectives):
    ul2 = objectives[0]
    kinds = tuple(d._replace(share=share) for d, share in zip(ul2.UL2, (2, 2, 2, 1, 1, 1, 1)))  # noqa: B905
    modes = tuple((number,) for number in range(7))
    room, ids = ul2.Room(64, 64, 64, 64), np.arange(1000, 1020, dtype=np.int32)
    drawn = collections.Counter(
        int(inputs[0])
        for number in range(3000)
        for inputs, _ in ul2.pieces(ids, Chance(str(number)), kinds, room, marks(ul2, modes))
    )
    shares = np.array([drawn[number] for number in range(7)]) / 3000
    # Standard deviation at most 0.0073.
    assert shares == pytest.approx([0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1], abs=0.03)


def test_ul2_says_when_there_is_no_room(objectives):
    ul2 = objectives[0]
    with pytest.raises(ValueError, match=r"no room in inputs of 4 .* extra_ids"):
        ul2.longest(ul2.UL2[0], 2, ul2.Room(4, 4, 4, 10))
    with pytest.raises(ValueError, match="0 sentinels"):
        ul2.longest(ul2.UL2[0], 0, ul2.Room(512, 512, 0, 0))


def run(step, texts, vocabulary, sides, names=None, lengths=None, **arguments):
    """Runs one objective on documents; returns its examples as lists of ids."""
    import inspect

    import seqio
    import tensorflow as tf

    names = names or [f"doc-{number}" for number in range(len(texts))]
    dataset = tf.data.Dataset.from_tensor_slices({"id": list(names), "text": list(texts)})
    features = {name: seqio.Feature(vocabulary) for name in sides}
    if "sequence_length" in inspect.signature(step).parameters:
        arguments["sequence_length"] = lengths
    found = step(dataset, features, **arguments)
    return [{s: e[s].tolist() for s in sides} for e in found.as_numpy_iterator()]


BOTH = ("inputs", "targets")


def test_ul2_on_real_text_begins_with_its_mode(objectives, vocabulary):
    ul2 = objectives[0]
    lengths = {"inputs": 64, "targets": 64}
    texts = [*data_side.texts()[:15], *data_side.ODD_TEXTS]
    examples = run(ul2.ul2, texts, vocabulary, BOTH, lengths=lengths)
    modes = {mode: vocabulary.encode(mode) for mode in MODES.values()}
    seen = collections.Counter()
    whole: list[int] = []
    first = vocabulary.vocab_size - 256
    for example in examples:
        assert len(example["inputs"]) + len(example["targets"]) <= 64
        (mode,) = [m for m, ids in modes.items() if example["inputs"][: len(ids)] == ids]
        seen[mode] += 1
        sides = [
            np.array([LAST - (vocabulary.vocab_size - 1 - t) if t >= first else t for t in e])
            for e in (example["inputs"], example["targets"])
        ]
        whole += restore(*sides, len(modes[mode]))
    assert whole == [token for text in texts for token in vocabulary.encode(text)]
    assert set(seen) == set(MODES.values())


def test_chance_depends_on_the_document_and_the_seed_alone(objectives, vocabulary):
    ul2, fim = objectives
    lengths = {"inputs": 64, "targets": 64}
    texts, names = list(data_side.texts()[10:16]), [f"n{i}" for i in range(6)]
    for step, sides, more in (
        (ul2.ul2, BOTH, {"lengths": lengths}),
        (fim.fill_in_the_middle, ("targets",), {"rate": 1.0}),
    ):
        together = run(step, texts, vocabulary, sides, names, **more)
        parts = [run(step, texts[p], vocabulary, sides, names[p], **more) for p in HALVES]
        assert together == parts[0] + parts[1]
        assert run(step, texts, vocabulary, sides, names, seed=1, **more) != together
        assert run(step, texts, vocabulary, sides, names[::-1], **more) != together
        with pytest.raises(ValueError, match=r"no field 'url'.*key="):
            run(step, texts, vocabulary, sides, names, key="url", **more)


HALVES = (slice(0, 2), slice(2, 6))


def code_points(text):
    return [ord(character) for character in text]


@given(text=st.text(max_size=60), name=st.text(max_size=4), spm=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=200, deadline=None)
def test_fim_gives_the_document_back(objectives, text, name, spm):
    """With one id a character, the three parts are read off between the sentinels."""
    pre, suf, mid = -1, -2, -3
    ids = objectives[1].rearranged(text, Chance(name), code_points, (pre, suf, mid), 1.0, spm)
    assert ids[0] == pre and sorted(t for t in ids if t < 0) == [mid, suf, pre]
    at_suf, at_mid = ids.index(suf), ids.index(mid)
    if at_suf == 1 and spm > 0:
        suffix, rest = ids[2:at_mid], ids[at_mid + 1 :]
        found = rest + suffix
        if spm == 1.0 or found == code_points(text):
            assert found == code_points(text)
            return
    assert spm < 1.0
    assert ids[1:at_suf] + ids[at_mid + 1 :] + ids[at_suf + 1 : at_mid] == code_points(text)


def test_fim_rates_and_places_are_those_of_the_paper(objectives):
    """Two places uniform over 0 … n: parts of n / 3 on average, each third of the places hit."""
    text = "一" * 30
    middles, prefixes, kinds = [], [], collections.Counter()
    for number in range(4000):
        ids = objectives[1].rearranged(
            text, Chance(str(number)), code_points, (-1, -2, -3), 0.5, 0.25
        )
        if -1 not in ids:
            assert ids == code_points(text)
            kinds["as it is"] += 1
            continue
        psm = not (ids[1] == -2 and ids.index(-3) < len(ids) - 1 and ids[0] == -1)
        kinds["psm" if psm else "other"] += 1
        if psm:
            prefixes.append(ids.index(-2) - 1)
            middles.append(len(ids) - ids.index(-3) - 1)
    assert kinds["as it is"] / 4000 == pytest.approx(0.5, abs=0.03)
    # PSM with an empty prefix looks like SPM: 2 / 31 - 1 / 31² of the pairs of places.
    seen_as_psm = 0.75 * (1 - 2 / 31 + 1 / 31**2)
    assert kinds["psm"] / 2000 == pytest.approx(seen_as_psm, abs=0.04)
    # Of two places uniform on 0 … n, given that the lower isn't 0: uniform on 1 … n.
    assert np.mean(prefixes) == pytest.approx(1 + 29 * 59 / 6 / 30, abs=0.7)
    assert np.mean(middles) == pytest.approx(29 * 31 / 3 / 30, abs=0.7)


def test_fim_parts_are_encoded_on_their_own(objectives, vocabulary):
    text = data_side.texts()[5]
    (example,) = run(
        objectives[1].fill_in_the_middle, [text], vocabulary, ("targets",), rate=1.0, spm=0.0
    )
    ids = example["targets"]
    assert ids[0] == BOS and ids[-1] == EOS
    pre, suf, mid = (vocabulary.vocab_size - 1 - k for k in range(3))
    a, b = ids.index(suf), ids.index(mid)
    assert ids[1] == pre
    parts = [vocabulary.decode(part) for part in (ids[2:a], ids[b + 1 : -1], ids[a + 1 : b])]
    assert "".join(parts) == text
    assert [vocabulary.encode(part) for part in parts] == [
        ids[2:a],
        ids[b + 1 : -1],
        ids[a + 1 : b],
    ]


def test_fim_sentinels_are_checked(objectives, vocabulary):
    sentinel_ids = objectives[1].sentinel_ids
    size = vocabulary.vocab_size
    assert sentinel_ids(vocabulary, (0, 1, 2)) == (size - 1, size - 2, size - 3)
    assert sentinel_ids(vocabulary, ("<s>", "</s>", 2)) == (BOS, EOS, size - 3)
    with pytest.raises(ValueError, match="has no token '<|fim_prefix|>'".replace("|", r"\|")):
        sentinel_ids(vocabulary, ("<|fim_prefix|>", 1, 2))
    with pytest.raises(ValueError, match="no <extra_id_256>"):
        sentinel_ids(vocabulary, (256, 1, 2))
    with pytest.raises(ValueError, match="must be three ids"):
        sentinel_ids(vocabulary, (0, 1, 1))
    with pytest.raises(ValueError, match="are shares"):
        run(objectives[1].fill_in_the_middle, ["甲"], vocabulary, ("targets",), rate=1.5)


@pytest.mark.parametrize(("row_format", "targets"), [("decoder", None), ("encoder_decoder", 64)])
def test_a_corpus_under_each_objective_becomes_rows(objectives, tmp_path, row_format, targets):
    """Cached as a run would: no example is left out, and the loss is where it should be."""
    import functools

    import seqio

    from twjax.data import cache, rows
    from twjax.data.examples import find_task
    from twjax.data.request import Request
    from twjax.data.sources import add_corpus
    from twjax.data.vocabulary import features

    ul2, fim = objectives
    folder = data_side.make_corpus(tmp_path / "corpus", data_side.texts()[:24], shards=2)
    shared = row_format == "decoder"
    names = [f"objectives_{row_format}_ul2", f"objectives_{row_format}_fim"]
    steps = [functools.partial(ul2.ul2, shared_row=shared), fim.fill_in_the_middle]
    sides = [features(*BOTH, extra_ids=128), features("targets", extra_ids=3)]
    try:
        for name, step, side in list(zip(names, steps, sides, strict=True))[: 1 + shared]:
            add_corpus(name, folder, [step], output_features=side)
            request = Request(
                find_task(name, {}), "train", 96, data_side.vocabulary(), row_format, targets
            )
            built = cache.build(request, tmp_path / "cache")
            assert built.left_out == 0 and built.info.documents >= 20
            reader = rows.RowReader(tmp_path / "cache", name, "train", request.row_length)
            read = reader.read(range(len(reader)))
            weights, key = read["loss_weights"], "segment_ids" if shared else "targets_segment_ids"
            assert weights.sum() > 0 and not weights[read[key] == 0].any()
            if name.endswith("fim"):
                # All but the first token of a segment.
                first = np.diff(read[key], axis=1, prepend=0) != 0
                assert (weights == ((read[key] > 0) & ~first)).all()
    finally:
        for name in set(names) & set(seqio.TaskRegistry.names()):
            seqio.TaskRegistry.remove(name)


def test_declared_objectives_have_room_for_their_sentinels(objectives):
    import seqio

    import tasks.objectives  # noqa: F401

    for name in ("tw_wiki40b", "en_c4"):
        for suffix in ("ul2", "ul2_sides"):
            task = seqio.TaskRegistry.get(f"{name}_{suffix}")
            assert sorted(task.output_features) == list(BOTH)
            assert task.output_features["targets"].vocabulary.extra_ids >= 100
        assert list(seqio.TaskRegistry.get(f"{name}_fim").output_features) == ["targets"]
