"""Observation tasks: examples, splits, policies, and the whole way to rows and `tasks show`."""

from __future__ import annotations

import collections
import json
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import data_side
import pytest
from tiny import CONFIG

from twjax.cli import main
from twjax.data.templates import field_names

SAMPLES = pathlib.Path(__file__).resolve().parent / "data" / "observations"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """$TWJAX_RECORDS_DIR with the samples where `tasks.observations` seeks them."""
    shutil.copytree(SAMPLES, tmp_path / "records" / "observations")
    monkeypatch.setenv("TWJAX_RECORDS_DIR", str(tmp_path / "records"))
    return tmp_path / "records" / "observations"


@pytest.fixture(scope="module")
def wordings():
    from tasks import observation_wordings

    return observation_wordings


def source(wordings, form, questions=False, **options):
    from twjax.data.observation_source import ObservationSource

    asked = wordings.QUESTIONS if questions else None
    options = {"validation": 0.2, "places": "observations/places.geojson"} | options
    return ObservationSource(f"observations/{form}", form, wordings.DOCUMENTS, asked, **options)


FORMS = ("stac", "ships", "raven", "dota", "xview", "captions", "skyscript", "whale_calls")


@pytest.mark.parametrize("form", FORMS)
def test_every_record_is_worded_or_counted_once(folder, wordings, form):
    from twjax.data.observation_forms import observations
    from twjax.data.observations import Observation

    made = source(wordings, form)
    texts = {e.id: e.fields["text"] for split in made.splits for e in made.examples(split)}
    lost = [entry for split in made.splits for entry in made.left_out(split)]
    stated, _, _ = made._settings()
    found = [r for path in made.files for _, r in observations(path, form, stated)]
    assert len(texts) + len(lost) == len(found)
    assert set(texts) <= {r.id for r in found if isinstance(r, Observation)}
    for entry in lost:
        assert entry["reason"] and pathlib.Path(str(entry["file"])).is_file() and entry["record"]
    for text in texts.values():
        assert "{" not in text and text == text.strip() and len(text) > 20
        assert not re.search(r"，。|。。|、。|^，|(?<!紀錄)：\n\n|：$|nan|None", text)
        # Taiwan's words, not the mainland's.
        assert not re.search(r"集裝箱|直升飛機|公交|挖掘機|信息|視頻|分辨率|数|质", text)
    for asked in (e for split in made.splits for e in source(wordings, form, True).examples(split)):
        assert asked.answers[0] == asked.fields["answer"] and asked.fields["question"]


def test_policies_decide_what_is_read(folder, wordings):
    made = source(wordings, "stac", validation=0.0)
    texts = {e.id: e.fields["text"] for e in made.examples("train")}
    assert "北緯23.3度附近（位置敏感，座標已模糊化，只準到0.1度）" in texts["turtle"]
    assert "turtle" not in texts["turtle"] and "23.33" not in texts["turtle"]
    counts = collections.Counter(entry["reason"] for entry in made.left_out("train"))
    assert counts["sensitive place"] == counts["licence unknown"] == counts["licence refused"] == 1
    (folder / "own.tsv").write_text(
        "field\tpattern\tdecision\twhy\nlicence\tsee website\tallow\tasked by letter\n"
    )
    other = source(wordings, "stac", validation=0.0, licences="observations/own.tsv")
    assert len(list(other.examples("train"))) == len(texts) + 1


def test_questions_are_answered_by_what_stands_before_them(folder, wordings):
    """By rules of this test's own, from the record in its neutral form."""
    import datetime

    made = source(wordings, "stac", True, each=99, validation=0.0)
    seen = collections.Counter()
    for example in made.examples("train"):
        kind = example.id.rpartition("#")[2]
        record = dict(line.split(": ", 1) for line in example.fields["record"].splitlines())
        answers, description = example.answers, example.fields["description"]
        shown = record.get("datetime") or record.get("start_datetime", "2000-01-01T00:00:00Z")
        local = datetime.datetime.fromisoformat(shown) + datetime.timedelta(hours=8)
        if kind == "date":
            assert answers[1] == f"{local.year}年{local.month}月{local.day}日"
        elif kind == "roc_date":
            assert answers == (f"民國{local.year - 1911}年{local.month}月{local.day}日",)
        elif kind == "clock":
            assert answers[1] == f"{local.hour}時{local.minute}分{local.second}秒"
        elif kind == "total":
            counted = [int(n) for n in re.findall(r"\((\d+)\)", record["labels"])]
            assert answers[1] == str(sum(counted))
        elif kind == "place":
            numbers = [abs(float(n)) for n in (record.get("point") or record["bbox"]).split(", ")]
            shown = answers[0].replace("越過180度經線", "")
            found = [float(n) for n in re.findall(r"[\d.]+", shown)]
            assert sorted(found) == sorted(numbers)
        elif kind == "count":
            name = re.search(r"有幾[個艘次處](.+)？|^(.+)一共標註", example.fields["question"])
            assert name and (name[1] or name[2]) + answers[0] in description.replace(" ", "")
        seen[kind] += 1
        if kind not in ("classes", "clock", "total", "count"):
            assert any(answer in description for answer in answers), example
    assert set(seen) == set(wordings.QUESTIONS) and seen["place"] == 28


def test_what_belongs_together_is_on_one_side(folder, wordings):
    made = source(wordings, "ships", validation=0.5)
    sides = {
        split: {re.search(r"STAR \d", text)[0] for text in texts}
        for split, texts in (
            (s, [e.fields["text"] for e in made.examples(s) if "STAR" in e.fields["text"]])
            for s in made.splits
        )
    }
    assert sides["train"] and sides["validation"] and not sides["train"] & sides["validation"]
    held_out = {e.id for e in source(wordings, "captions").examples("validation")}
    assert {"port_1.jpg", "port_5.jpg"} <= held_out
    all_training = source(wordings, "captions", validation=0.0)
    assert [e["reason"] for e in all_training.left_out("train")].count("held out by its form") == 2


def test_everything_that_decides_examples_is_in_the_fingerprint(folder, wordings):
    made = source(wordings, "ships")
    first = made.fingerprint("train")
    assert json.loads(json.dumps(first)) == first == source(wordings, "ships").fingerprint("train")
    assert first != source(wordings, "ships", True).fingerprint("train")
    assert first != source(wordings, "ships", validation=0.3).fingerprint("train")
    for name in ("places.geojson", "ships/collection.json", "ships/cargo-metafile"):
        path = folder / name
        before = path.read_text(encoding="utf-8")
        path.write_text(before + "\n", encoding="utf-8")
        assert made.fingerprint("train") != first, name
        path.write_text(before, encoding="utf-8")


def test_wrong_folders_are_one_clear_line(folder, wordings):
    for name, message in (
        ('{"licence": "MIT"}', "collection.json: a JSON object with some of calibration, label"),
        ('{"zone": "Mars"}', "collection.json: neither UTC nor an offset .* zone Mars"),
        ("{", "collection.json: Expecting property name"),
    ):
        (folder / "ships" / "collection.json").write_text(name)
        with pytest.raises(ValueError, match=message):
            list(source(wordings, "ships").examples("train"))
    (folder / "ships" / "cargo-metafile").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file of records here \(-metafile, "):
        source(wordings, "ships").list_shards("train")
    (folder / "places.geojson").unlink()
    with pytest.raises(FileNotFoundError, match="no policy of sensitive places"):
        list(source(wordings, "dota").examples("train"))
    with pytest.raises(ValueError, match="no form 'exif'; there are stac, "):
        source(wordings, "exif")


def test_wordings_name_what_there_is(wordings):
    from twjax.data.observation_questions import KINDS, NAMES

    complete = {name for clause in wordings.DOCUMENTS[0] for name in field_names(clause)}
    for document in wordings.DOCUMENTS:
        names = {name for clause in document for name in field_names(clause)}
        assert names <= complete | {"record", "classes"} and {"captions", "licence"} <= names
    assert set(wordings.QUESTIONS) == set(KINDS)
    for words in wordings.QUESTIONS.values():
        assert len(set(words)) == len(words) >= 2
        assert {name for text in words for name in field_names(text)} <= set(NAMES)
    for template in wordings.ANSWERS:
        assert {"record", "description"} & set(field_names(template.inputs))
        assert "question" in field_names(template.inputs) and template.targets == "{answer}"


@pytest.fixture
def config(tmp_path, folder):
    """A run on texts and questions of STAC items and ships."""
    names = [f"tw_{form}_{kind}" for form in ("stac", "ships") for kind in ("text", "answers")]
    text = "import tasks.observations\n" + CONFIG.format(cache=tmp_path / "cache")
    text = re.sub(r"Data.vocabulary = .*", f"Data.vocabulary = '{data_side.vocabulary()}'", text)
    text = re.sub(r"Data.seq_len = .*", "Data.seq_len = 1024", text)
    stages = {name: 0.25 for name in names}
    text = re.sub(r"Mixture.stages = .*", f"Mixture.stages = ((0, {stages}),)", text)
    text = re.sub(r"Evaluation.tasks = .*", "Evaluation.tasks = ('tw_stac_answers',)", text)
    path = tmp_path / "run.gin"
    path.write_text(text)
    return path


@pytest.mark.slow
def test_from_files_to_rows(config, tmp_path, capsys):
    from twjax.data.examples import find_task
    from twjax.data.rows import RowReader
    from twjax.vocab.tokenizer_load import load_vocabulary

    assert main(["tasks", "cache", str(config), "--workers", "1"]) == 0
    told = capsys.readouterr()
    lines = dict(line.split(": ", 1) for line in told.out.splitlines())
    assert len(lines) == 5
    assert "1 coordinate out of range, " in told.err and "1 sensitive place" in told.err
    listed = [
        json.loads(line)
        for path in (tmp_path / "cache").rglob("tw_stac_text/train/**/left_out-*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    (outside,) = (entry for entry in listed if entry["reason"] == "coordinate out of range")
    assert outside["record"] == "line 30" and outside["value"] == "91 in [121.5, 91]"
    assert lines["tw_stac_text train"].endswith(f", {len(listed)} left out")

    model = load_vocabulary(data_side.vocabulary())
    for name in ("tw_stac_text", "tw_ships_answers"):
        wanted = collections.Counter()
        task = find_task(name, {}, ["tasks.observations"])
        for example in task._task.source.examples("train"):
            wanted[example.fields.get("text") or example.fields["answer"]] += 1
        reader = RowReader(tmp_path / "cache", name, "train", 1024)
        rows = reader.read(range(len(reader)))
        predicted = collections.Counter()
        for row in range(len(reader)):
            for segment in range(1, rows["segment_ids"][row].max() + 1):
                mine = rows["segment_ids"][row] == segment
                weights = rows["loss_weights"][row] == 1
                ids = rows["tokens"][row][mine & weights].tolist()
                predicted[model.decode(ids)] += 1
                # Of a text all but its first token is predicted, of a question only the answer.
                if name.endswith("_text"):
                    assert (mine & ~weights).sum() == 1
        assert predicted == wanted

    assert main(["tasks", "show", str(config), "tw_ships_answers", "-n", "1"]) == 0
    shown = capsys.readouterr().out
    assert "⟧" in shown and "</s>" in shown
    assert main(["tasks", "cache", str(config), "--workers", "1"]) == 0
    assert capsys.readouterr().out.count("up to date") == 5


def test_metrics_take_every_right_answer(folder):
    import seqio

    from tasks import observations
    from twjax.data.vocabulary import PieceVocabulary, with_vocabulary

    assert "tw_stac_answers" in observations.ANSWERS
    task = seqio.TaskRegistry.get("tw_stac_answers")
    task = with_vocabulary(task, PieceVocabulary(data_side.vocabulary()))
    lengths = {"inputs": 2048, "targets": 2048}
    dates = [
        example
        for example in task.get_dataset(lengths, "train", shuffle=False).as_numpy_iterator()
        if example["id"].endswith(b"#date")
    ]
    example = dates[0]
    answer = example["targets_pretokenized"].decode()
    target = task.postprocess_fn(answer, example=example, is_target=True)
    assert target == [answer, answer.removeprefix("西元")]
    scores = [metric([target], [target[1]]) for metric in task.predict_metric_fns]
    assert scores == [{"exact_match": 100.0}, {"character_f1": 100.0}]
    wrong = [metric([target], ["民國元年"]) for metric in task.predict_metric_fns]
    assert wrong[0] == {"exact_match": 0.0} and 0 < wrong[1]["character_f1"] < 100


def test_registering_twice(folder, wordings):
    import seqio

    from twjax.data.preprocessors_observations import add_observations

    common = (wordings.DOCUMENTS, wordings.QUESTIONS, wordings.ANSWERS, [])
    before = set(seqio.TaskRegistry.names())
    first = add_observations("tw_again", "/nowhere", "dota", *common)
    assert add_observations("tw_again", "/nowhere", "dota", *common) == first
    with pytest.raises(ValueError, match=r"tw_again_text is registered already.*another name"):
        add_observations("tw_again", "/elsewhere", "dota", *common)
    for questions, message in (
        ({"colour": ("?",)}, "question colour has no wordings or isn't one of date"),
        ({"date": ("{day}?",)}, "question date names 'day'; it may name kind"),
    ):
        with pytest.raises(ValueError, match=message):
            add_observations(
                "tw_bad", "/a", "dota", wordings.DOCUMENTS, questions, wordings.ANSWERS, []
            )
    for name in set(seqio.TaskRegistry.names()) - before:
        seqio.TaskRegistry.remove(name)


@pytest.mark.slow
def test_declared_tasks_read_nothing():
    program = """
        import sys
        import seqio
        import twjax.data.preprocessors_observations, twjax.data.text_metrics
        seen = []
        def watch(event, arguments):
            if event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
                seen.append(f"open {arguments[0]}")
        sys.addaudithook(watch)
        import tasks.observations as declared
        assert not seen, seen
        assert set(declared.TEXTS + declared.ANSWERS) == set(seqio.TaskRegistry.names())
        mixture = seqio.MixtureRegistry.get("tw_observations_answers")
        assert sorted(t.name for t in mixture.tasks) == sorted(declared.ANSWERS)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, cwd=data_side.REPO)
