"""The quality classifier: learnt, calibrated, saved, and used as a step."""

import argparse
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax import storage
from twjax.cli.corpus_classifier import add_train_classifier, run_train_classifier
from twjax.corpus.document import Document
from twjax.corpus.quality import classifier
from twjax.corpus.quality.classifier import QualityClassifier

SUBJECTS = ["老師", "農夫", "店員", "孩子", "鄰居", "司機", "護士", "作家"]
PLACES = ["學校", "田裡", "書店", "公園", "車站", "市場", "醫院", "圖書館"]
WARES = ["瘦身膠囊", "免費貼圖", "折扣手機", "保健食品", "飆股課程", "汽車借款"]


def texts(seed: int, number: int, overlap: float = 0.0) -> tuple[list[str], list[str]]:
    """Prose and adverts of random parts; a share of each side is of the other kind."""
    random = np.random.default_rng(seed)

    def prose() -> str:
        return "".join(
            f"{random.choice(SUBJECTS)}在{random.choice(PLACES)}裡慢慢地走著，想起{n}年前的事情。"
            for n in random.integers(1, 90, 4)
        )

    def advert() -> str:
        return "".join(
            f"{random.choice(WARES)}限時優惠只要{n}元，立即下單加LINE領取！"
            for n in random.integers(100, 999, 4)
        )

    def draw(usual, other):
        return [other() if random.random() < overlap else usual() for _ in range(number)]

    return draw(prose, advert), draw(advert, prose)


def make(text: str, id: str = "x") -> Document:
    return Document(id=id, text=text, source="s", license="l", lang="zh-TW", meta={"a": "b"})


def test_it_tells_prose_from_adverts_it_never_saw():
    good, bad = texts(0, 300)
    model = classifier.train(good, bad, bits=14, epochs=3)
    assert model.about["auc"] > 0.99 and model.about["held_out"] == 60
    good, bad = texts(1, 50)
    assert model.score(good).min() > 0.5 > model.score(bad).max()


def test_scores_are_calibrated_where_the_sides_overlap():
    good, bad = texts(0, 1000, overlap=0.2)
    model = classifier.train(good, bad, bits=14, epochs=2)
    fresh_good, fresh_bad = texts(7, 500, overlap=0.2)
    scores = model.score(fresh_good + fresh_bad)
    labels = np.repeat([1.0, 0.0], 500)
    assert classifier.calibration_error(scores, labels, np.ones(1000)) < 0.06
    # No model can do better than the overlap lets it.
    assert 0.7 < classifier.auc(scores, labels) < 0.85


def test_training_and_saving_are_repeatable(tmp_path):
    good, bad = texts(0, 60)
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in paths:
        classifier.train(good, bad, bits=12, epochs=1).save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    saved = classifier.load(str(paths[0]))
    model = classifier.train(good, bad, bits=12, epochs=1)
    assert (saved.score(good + bad) == model.score(good + bad)).all()
    assert saved.about == model.about


def test_wrapping_width_and_case_say_nothing():
    good, bad = texts(0, 60)
    model = classifier.train(good, bad, bits=12, epochs=1)
    one, other = "領取 Line 123，\n立即下單", "領取　\n ＬＩＮＥ ４５６，  立即下單"
    assert model.score([one]) == model.score([other])


def test_the_step_labels_or_drops_by_the_score_it_writes(tmp_path):
    good, bad = texts(0, 100)
    path = tmp_path / "m.npz"
    classifier.train(good, bad, bits=12, epochs=2).save(path)
    sha256 = storage.sha256_file(path)
    batch = [make(good[0]), make(bad[0]), make("")]
    labelled = QualityClassifier(model=str(path), sha256=sha256, policy="label").apply(batch)
    scores = [document.meta["quality_score"] for document in labelled.kept]
    assert all(len(score) == 5 for score in scores) and len(scores) == 3
    step = QualityClassifier(model=str(path), sha256=sha256, threshold=float(scores[1]) + 0.001)
    dropped = step.apply(batch)
    rejected = {r.document.text: (r.reason, r.value) for r in dropped.rejected}
    assert rejected[bad[0]] == ("low quality score", scores[1])
    assert dropped.kept[0].meta == {"a": "b", "quality_score": scores[0]}
    assert step.versions() == {"classifier": sha256}
    assert [step.apply([d]).kept for d in batch[:1]] == [dropped.kept[:1]]


def test_wrong_files_are_refused(tmp_path):
    path = tmp_path / "m.npz"
    with pytest.raises(ValueError, match="no such classifier; train one with"):
        classifier.load(str(path))
    path.write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="no classifier of format 1"):
        classifier.load(str(path))
    with pytest.raises(ValueError, match=r"its sha256 is .*, not abc; use the file meant"):
        classifier.load(str(path), "abc")
    with pytest.raises(ValueError, match="3 good and 60 bad texts are too few"):
        classifier.train(["a"] * 3, ["b"] * 60)
    with pytest.raises(ValueError, match=r"threshold .* must be between 0 and 1"):
        QualityClassifier(model="m", sha256="s", threshold=2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans()), min_size=2))
def test_auc_is_the_share_of_pairs_in_order(pairs):
    scores = np.array([score for score, _ in pairs])
    labels = np.array([float(label) for _, label in pairs])
    if labels.min() == labels.max():
        return
    good, bad = scores[labels == 1], scores[labels == 0]
    expected = np.mean([(g > b) + (g == b) / 2 for g in good for b in bad])
    assert classifier.auc(scores, labels) == pytest.approx(expected)


def test_the_command_trains_from_files_and_prints_what_to_configure(tmp_path, capsys):
    for name, side in zip(("good", "bad"), texts(0, 80), strict=True):
        lines = [json.dumps({"id": f"{name}{i}", "text": t}) for i, t in enumerate(side)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    parser = argparse.ArgumentParser()
    add_train_classifier(parser.add_subparsers())
    output = tmp_path / "models" / "q.npz"
    arguments = ["train-classifier", "--good", str(tmp_path / "good.jsonl")]
    arguments += ["--bad", str(tmp_path / "bad.jsonl"), "--output", str(output), "--bits", "12"]
    assert run_train_classifier(parser.parse_args(arguments)) == 0
    printed = capsys.readouterr().out
    assert f"QualityClassifier.sha256 = '{storage.sha256_file(output)}'" in printed
    assert "80 good and 80 bad documents; on 16 others AUC" in printed
    assert classifier.load(str(output)).about["good"] == 80
