"""Which package may import which, who owns a third-party API, and how the code is laid out."""

from __future__ import annotations

import ast
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINES = 450

# Free to all: they import nothing of ours.
BASE = {"twjax", "twjax.storage", "twjax.progress"}

# Room → rooms that it may import. `models` and `parallel` see only one file of each other, below.
ALL = {"config", "corpus", "vocab", "models", "parallel", "data", "training", "tuning"}
ALL |= {"evaluation", "huggingface"}
ROOMS = {
    "config": set(),
    "corpus": set(),
    "vocab": {"config"},
    "models": {"config", "parallel"},
    "parallel": {"config", "models"},
    "data": {"config", "corpus", "vocab"},
    "training": {"config", "models", "parallel", "data"},
    "tuning": {"config", "models", "parallel", "data", "training"},
    "evaluation": {"config", "corpus", "models", "parallel", "data", "training", "vocab"},
    "huggingface": {"config", "vocab", "models", "parallel", "training"},
    "planning": ALL,
    "report": ALL | {"planning"},
    "sweeps": {"config", "data", "training", "report"},
    "cli": ALL | {"planning", "report", "sweeps", "cli"},
    "__main__": {"cli"},
    "tasks": {"data", "corpus", "vocab", "tasks"},
    "launch": ALL | {"planning", "report", "sweeps", "cli", "launch"},
}
# Where a room may import only one file of another.
ONLY = {
    ("parallel", "models"): {"twjax.models.spec"},
    ("models", "parallel"): {"twjax.parallel.sharding", "twjax.parallel.tpu"},
    ("huggingface", "training"): {"twjax.training.checkpoint"},
    ("sweeps", "training"): {"twjax.training.ledger"},
}
TRAINER_SIDE = {f"twjax.data.{name}" for name in ("rows", "mixture", "loader", "effective")}
SEQIO_SIDE = {f"twjax.data.{name}" for name in
              ("vocabulary", "preprocessors", "sources", "packing", "cache")}  # fmt: skip
TRAINERS = {"training", "tuning", "evaluation", "models", "parallel", "planning", "report"}
TRAINERS |= {"sweeps"}
TENSORFLOW = {"seqio", "tensorflow", "tensorflow_text", "tensorflow_datasets"}
# The one file of the corpus room that reads TFDS's files, when a build names some.
TFDS = "twjax.corpus.sources.tfds"
OWNERS = {
    "gin": ("twjax.config.loader",),
    "qwix": ("twjax.models.low_bits",),
    "orbax": ("twjax.training.checkpoint", "twjax.training.stored"),
    "tensorstore": ("twjax.training.stored",),
    "opencc": ("twjax.corpus",),
    "safetensors": ("twjax.huggingface",),
    "tokenizers": ("twjax.vocab",),
    "lm_eval": ("twjax.evaluation.harness", "twjax.cli.harness"),
    "tensorboardX": ("twjax.training.board",),
    "wandb": ("twjax.report.trackers",),
    "mlflow": ("twjax.report.trackers",),
}
# Packages whose `__init__` may name what they offer; they import nothing heavy.
FACADES = {"twjax", "twjax.cli", "twjax.config", "twjax.report"}
HEAVY = ("jax", "jaxlib", "flax", "orbax", "grain", "gin", "numpy", "pyarrow", "seqio")
HEAVY += ("tensorflow", "tensorflow_text", "tensorflow_datasets", "opencc", "sentencepiece")
HEAVY += ("tokenizers", "transformers", "lm_eval")


def module_name(path: pathlib.Path) -> str:
    """Returns the dotted name of a file of this repository."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for package in ("twjax", "tasks", "launch")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(name: str, tree: ast.AST) -> set[str]:
    """Returns the modules that a file imports anywhere in it, ours down to the file."""
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in FILES else base)
    return found


TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
IMPORTS = {name: imports(name, tree) for name, tree in TREES.items()}


def room(name: str) -> str:
    """Returns the room of one of our modules; the base modules are of none."""
    parts = name.split(".")
    if name in BASE:
        return ""
    return parts[0] if parts[0] != "twjax" else parts[1]


def ours(name: str) -> set[str]:
    """Returns our modules that a module imports."""
    return {other for other in IMPORTS[name] if other.split(".")[0] in ("twjax", "tasks", "launch")}


def within_data(start: set[str]) -> set[str]:
    """Returns the files of `twjax.data` that `start` needs, itself included."""
    reached, todo = set(), {name for name in start if name in FILES}
    while todo:
        name = todo.pop()
        reached.add(name)
        todo |= {o for o in ours(name) if room(o) == "data" and o in FILES} - reached
    return reached - {"twjax.data"}


def test_the_walk_sees_the_code():
    assert len(FILES) > 15 and "twjax.config.loader" in FILES
    assert "gin" in IMPORTS["twjax.config.loader"]
    assert "twjax.storage" in IMPORTS["twjax.report.page"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_keep_their_direction(name):
    own = room(name)
    assert own == "" or own in ROOMS, f"{name}: room {own!r} is not in the table"
    for other in ours(name):
        target = room(other)
        if target in ("", own):
            continue
        assert own != "", f"{name} is free to all, so it may not import {other}"
        assert target in ROOMS[own], f"{name} may not import {other}"
        only = ONLY.get((own, target))
        assert only is None or other in only, f"{name} may import only {only}, not {other}"


def test_base_modules_import_nothing_of_ours():
    for name in BASE:
        assert not ours(name) - BASE, name


def test_the_one_file_that_models_and_parallel_share_closes_no_circle():
    assert not {o for o in ours("twjax.models.spec") if room(o) == "parallel"}


def test_nothing_in_twjax_imports_tasks_or_launch():
    for name in FILES:
        if name.split(".")[0] == "twjax":
            assert not {o for o in ours(name) if room(o) in ("tasks", "launch")}, name


def test_the_trainer_side_of_data_stands_alone():
    reached = within_data(TRAINER_SIDE)
    assert not reached & SEQIO_SIDE
    for name in reached:
        assert not {o.split(".")[0] for o in IMPORTS[name]} & TENSORFLOW, name


def test_trainers_read_only_the_trainer_side_of_data():
    allowed = within_data(TRAINER_SIDE) | {"twjax.data"}
    for name in FILES:
        if room(name) in TRAINERS:
            used = {o for o in ours(name) if room(o) == "data"}
            assert used <= allowed, f"{name} imports {sorted(used - allowed)}"


@pytest.mark.parametrize("name", sorted(FILES))
def test_third_party_apis_have_one_owner(name):
    packages = {other.split(".")[0] for other in IMPORTS[name]}
    for package, owners in OWNERS.items():
        if package in packages:
            assert any(name == o or name.startswith(o + ".") for o in owners), (
                f"{name} imports {package}, which belongs to {', '.join(owners)}"
            )
    if packages & TENSORFLOW:
        allowed = name == TFDS and not packages & {"seqio", "tensorflow_text"}
        assert allowed or room(name) in ("data", "tasks"), f"{name} imports {packages & TENSORFLOW}"


def test_the_corpus_room_loads_no_tensorflow_until_a_dataset_is_named():
    top = {node for node in TREES[TFDS].body if isinstance(node, (ast.Import, ast.ImportFrom))}
    names = {alias.name for node in top for alias in node.names}
    names |= {node.module for node in top if isinstance(node, ast.ImportFrom) and node.module}
    assert not {name.split(".")[0] for name in names} & TENSORFLOW


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_are_short_and_named_for_what_they_hold(name):
    lines = FILES[name].read_text(encoding="utf-8").count("\n")
    assert lines < LINES, f"{name} has {lines} lines; split it by idea"
    assert name.rpartition(".")[2] not in ("utils", "util", "helpers", "common", "misc")
    assert ast.get_docstring(TREES[name]) or lines == 0, f"{name} has no docstring"


def test_package_files_hold_only_a_docstring():
    for name, path in FILES.items():
        if path.name == "__init__.py" and name not in FACADES:
            statements = [node for node in TREES[name].body if not isinstance(node, ast.Expr)]
            assert not statements, f"{name}: importing one file of a package must not load others"


def test_every_command_has_its_module():
    from twjax.cli import COMMANDS

    for command, name in COMMANDS.items():
        assert name in FILES, f"twjax {command}: {name} is missing"


COMMAND_FILES = sorted(
    name for name, path in FILES.items() if room(name) == "cli" and path.name != "__init__.py"
)


@pytest.mark.parametrize("name", COMMAND_FILES)
def test_command_modules_load_only_the_standard_library(name):
    for node in TREES[name].body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            for module in names:
                top = (module or "").split(".")[0]
                assert top in sys.stdlib_module_names or top == "twjax", f"{name}: {module}"


def test_help_of_every_command_loads_nothing_heavy():
    script = (
        "import contextlib, io, json, sys\n"
        "import twjax.cli as cli\n"
        "cli.COMMANDS = {n: m for n, m in cli.COMMANDS.items() if m in json.loads(sys.argv[1])}\n"
        "told = {}\n"
        "for name in cli.COMMANDS:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        try: cli.main([name, '--help'])\n"
        "        except SystemExit as end: assert end.code == 0\n"
        "    told[name] = out.getvalue()\n"
        "print(json.dumps([told, sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(COMMAND_FILES)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told, modules = json.loads(done.stdout)
    assert told and all(f"twjax {name}" in text for name, text in told.items())
    loaded = {name.split(".")[0] for name in modules}
    assert not loaded & set(HEAVY), loaded & set(HEAVY)


def test_tests_lie_flat():
    tests = ROOT / "tests"
    # A package under tests/ would shadow ours of the same name (tasks).
    assert not list(tests.rglob("__init__.py"))
    assert all(path.parent == tests for path in tests.rglob("test_*.py"))
