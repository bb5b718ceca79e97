"""Configuration: what gin leaves unchecked, where errors point, and the run's identity."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from tests import tiny
from twjax import config
from twjax.config import ConfigError, Run, schema
from twjax.config.sweep import Sweep
from twjax.corpus import pipeline
from twjax.corpus.registry import STEPS
from twjax.corpus.sources.formats import Source
from twjax.sweeps.points import expand

RUNS = sorted((tiny.REPO / "configs/runs").glob("*.gin"))
CORPORA = sorted(
    path for path in (tiny.REPO / "configs/corpora").glob("*.gin") if "Corpus." in path.read_text()
)
SWEEPS = sorted((tiny.REPO / "configs/sweeps").glob("*.gin"))


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "run.gin"
    path.write_text(tiny.CONFIG.format(cache="cache"))
    return path


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_run_config_loads_and_rebuilds_itself(path, tmp_path):
    loaded = config.load(Run, [path])
    frozen = tmp_path / "config.gin"
    frozen.write_text(loaded.text)
    again = config.load(Run, [frozen])
    assert again.value == loaded.value
    assert again.imports == loaded.imports


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Schedul.peak = 1.0", "--set: no class Schedul. Did you mean Schedule?"),
        ("Schedule.peek = 1.0", "--set: Schedule has no field peek. Did you mean peak?"),
        ("Schedule.peak = 'x'", "--set: Schedule.peak ('x', a str) must be float | None."),
        ("Model.num_layers = 2.5", "--set: Model.num_layers (2.5, a float) must be int."),
        ("Checkpoint.every = True", "Checkpoint.every (True, a bool) must be int."),
        (
            "Checkpoint.keep_every = 4",
            "Checkpoint.keep_every (4) must be a multiple of Checkpoint.",
        ),
        ("Checkpoint.export_every = 0", "Checkpoint.export_every (0) must be a multiple of"),
        ("Checkpoint.keep_best = -1", "Checkpoint.keep_best (-1) must not be negative."),
        ("Checkpoint.keep_best = 1", "best_tasks (none) need each other"),
        (
            "Checkpoint.best_tasks = ('a',)",
            "Checkpoint.keep_best (0) and Checkpoint.best_tasks",
        ),
        ("Checkpoint.keep_best = 1\nCheckpoint.best_tasks = ('a', 'a')", "names a task twice"),
        (
            "Checkpoint.keep_best = 1\nCheckpoint.best_tasks = ('a', 'c')",
            "Checkpoint.best_tasks: c isn't scored by Evaluation.tasks (a, b); add it there.",
        ),
        (
            "Checkpoint.keep_best = 1\nCheckpoint.best_tasks = ('a',)",
            "Checkpoint.every (3) must be a multiple of Evaluation.every (6) where Checkpoint.",
        ),
        ("Schedule.kind = 'cosin'", "Schedule.kind ('cosin', a str) must be Literal["),
        ("Evaluation.tasks = ['a']", "must be tuple[str, ...]"),
        ("Model.num_heads = 3", "--set: Model.num_heads (3) must be a multiple of"),
        ("Schedule.peak = -1.0", "--set: Schedule.peak (-1.0) must be positive."),
        ("STEPS = 3", "--set: STEPS is bound but nothing uses it"),
        ("Vocabulary.size = 400", "Vocabulary is bound but nothing uses it"),
        ("Run.schedule = @Schedul()", "Did you mean Schedule?"),
        ("Run.model = %gin.REQUIRED", "Run.model set to `%gin.REQUIRED`"),
        ("Mixture.stages = ((0, {'a': 0.0}),)", "sum to 0"),
        ("Mixture.stages = ((3, {'a': 1.0}),)", "starts at step 3, not at 0"),
        ("Mixture.stages = ((0, {'a': 1.0}), (0, {'b': 1.0}))", "must increase"),
        ("Data.batch_size = 9\nStep.accumulation = 2", "must be a multiple of Step.accumulation"),
        ("Data.held_out = ('a',)", "trains on it"),
        ("Schedule.start = 'source'", "need Run.init"),
        ("Run.init = 'hub:x'", "'run:DIR'"),
        ("Schedule.decay = 'exp'", "does nothing here: it belongs to kind 'wsd' or 'infinite'"),
        ("Optimizer.name = 'adafactor'\nOptimizer.b1 = 0.8", "it belongs to name 'adamw'"),
        ("Schedule.peak = 1e400", "Schedule.peak (inf) must be positive"),
    ],
)
def test_a_wrong_binding_is_one_clear_line(base, override, message):
    with pytest.raises(ConfigError) as error:
        config.load(Run, [base], override.split("\n"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_errors_name_file_and_line(base):
    base.write_text(base.read_text().replace("Schedule.peak = 1e-2", "Schedule.peak = -1.0"))
    line = base.read_text().splitlines().index("Schedule.peak = -1.0") + 1
    with pytest.raises(ConfigError, match=f"{base}:{line}: Schedule.peak"):
        config.load(Run, [base])
    base.write_text(base.read_text().replace("Schedule.peak = -1.0", "Schedule.pek = 1.0"))
    with pytest.raises(ConfigError, match=f"{base}:{line}: Schedule has no field pek"):
        config.load(Run, [base])


def test_a_missing_value_is_named(base):
    base.write_text(base.read_text().replace("Model.num_layers = 2", ""))
    with pytest.raises(ConfigError, match=r"No value for Model\.num_layers"):
        config.load(Run, [base])


def test_includes_are_read_in_place_and_circles_refused(base, tmp_path):
    (tmp_path / "more.gin").write_text("Schedule.peak = 0.5\n")
    outer = tmp_path / "outer.gin"
    outer.write_text(f"include '{base}'\ninclude '{tmp_path / 'more.gin'}'\nRun.steps = 7\n")
    loaded = config.load(Run, [outer]).value
    assert (loaded.schedule.peak, loaded.steps) == (0.5, 7)
    base.write_text(f"include '{outer}'\n" + base.read_text())
    with pytest.raises(ConfigError, match="goes in a circle"):
        config.load(Run, [outer])


def test_imports_are_recorded_and_run_only_when_asked(base, tmp_path, monkeypatch):
    (tmp_path / "registry_of_test.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    base.write_text("import registry_of_test\n" + base.read_text())
    assert config.load(Run, [base]).imports == ("registry_of_test",)
    with pytest.raises(RuntimeError, match="imported"):
        config.load(Run, [base], run_imports=True)


def test_comparison_tells_what_may_change_on_resume(base):
    old = config.load(Run, [base]).value
    new = config.load(Run, [base], ["Run.steps = 99", "Data.batch_size = 16"]).value
    changes = {change.path: change.fixed for change in config.compare(old, new)}
    assert changes == {"steps": False, "data.batch_size": True}
    assert config.compare(old, old) == []


def test_what_a_baseline_was_measured_on_is_fixed_under_a_budget(base):
    other = "Evaluation.rows = 5"
    budget = (
        "Run.budget = @Budget()",
        "Budget.allowed = {'b': 0.1}",
        "Budget.replay = {'b': 'b'}",
    )
    for bindings, fixed in (((), False), (budget, True), ((*budget, "Budget.mode = 'off'"), False)):
        old, new = (config.load(Run, [base], [*bindings, *more]).value for more in ((), (other,)))
        [change] = config.compare(old, new)
        assert (change.path, change.fixed) == ("evaluation.rows", fixed)


def test_a_run_that_may_roll_back_evaluates_what_it_saves(base):
    bindings = (
        "Run.budget = @Budget()",
        "Budget.allowed = {'b': 0.1}",
        "Budget.replay = {'b': 'b'}",
        "Budget.beyond = 'roll_back'",
        "Evaluation.every = 6",
    )
    config.load(Run, [base], [*bindings, "Checkpoint.every = 12"])
    with pytest.raises(ConfigError, match=r"Checkpoint.every \(3\) must be a multiple of Eval"):
        config.load(Run, [base], [*bindings, "Checkpoint.every = 3"])


def test_what_hosts_keep_of_their_own_changes_no_result(base):
    bindings = (
        "Run.budget = @Budget()",
        "Budget.allowed = {'b': 0.1}",
        "Budget.replay = {'b': 'b'}",
        "Budget.beyond = 'roll_back'",
        "Evaluation.every = 6",
        "Checkpoint.every = 12",
    )
    local = ("Checkpoint.local_every = 4", "Checkpoint.local_directory = '/dev/shm/twjax'")
    old = config.load(Run, [base], bindings).value
    assert config.other_results(old, config.load(Run, [base], [*bindings, *local]).value) == []
    keep = config.load(Run, [base], [*bindings, "Checkpoint.keep = 2"]).value
    assert [change.path for change in config.other_results(old, keep)] == ["checkpoint.keep"]


def test_one_load_leaves_nothing_for_the_next(base):
    config.load(Run, [base], ["Run.steps = 77"])
    assert config.load(Run, [base]).value.steps == 12


def test_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = config.resolve("configs/runs/quickstart_base.gin")
    assert found == pathlib.Path(tiny.REPO / "configs/runs/quickstart_base.gin")
    with pytest.raises(ConfigError, match=r"Did you mean runs/quickstart_base\.gin"):
        config.resolve("runs/quickstart_bas.gin")


def test_a_later_load_may_bring_classes_of_its_own(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class LateComer:
        size: int = 1

    path = tmp_path / "late.gin"
    path.write_text("Vocabulary.inputs = ('x',)\nVocabulary.output = 'y'\nVocabulary.size = 999\n")
    config.load(schema.Vocabulary, [path], [])
    path.write_text("LateComer.size = 3\n")
    assert config.load(LateComer, [path], [], classes=(LateComer,)).value == LateComer(size=3)


@pytest.mark.parametrize("path", CORPORA, ids=lambda path: path.stem)
def test_every_corpus_config_loads_and_rebuilds_itself(path, tmp_path):
    classes = (*STEPS, Source)
    loaded = config.load(pipeline.Corpus, [path], classes=classes)
    assert loaded.value.steps
    (tmp_path / "again.gin").write_text(loaded.text)
    again = config.load(pipeline.Corpus, [tmp_path / "again.gin"], classes=classes)
    assert again.value == loaded.value


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_and_each_of_its_points_loads_and_rebuilds_itself(path, tmp_path):
    loaded = config.load(Sweep, [path])
    (tmp_path / "again.gin").write_text(loaded.text)
    assert config.load(Sweep, [tmp_path / "again.gin"]).value == loaded.value
    for point in expand(loaded.value):
        (tmp_path / "config.gin").write_text(point.run.text)
        assert config.load(Run, [tmp_path / "config.gin"]).value == point.run.value
