"""The page of registered SeqIO tasks and mixtures, asked from the registries themselves.

Importing SeqIO loads TensorFlow, for seconds: a process of its own does, and its answer is kept
until a file that it depends on changes.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

PAGE = "reference/tasks.md"
ROOT = pathlib.Path(__file__).resolve().parents[2]
_COLUMNS = ("features", "splits", "metrics")
_KEPT = ROOT / "build" / "docs"

_ASK = """
import importlib, json, pathlib
import seqio
origin, seen = {}, set()
for path in sorted(pathlib.Path("tasks").glob("*.py")):
    if path.stem != "__init__":
        importlib.import_module(f"tasks.{path.stem}")
        new = set(seqio.TaskRegistry.names()) | set(seqio.MixtureRegistry.names())
        origin |= {name: path.stem for name in new - seen}
        seen = new
tasks = {}
for name in seqio.TaskRegistry.names():
    task = seqio.TaskRegistry.get(name)
    tasks[name] = {
        "features": sorted(task.output_features),
        "splits": sorted(task.splits or ()),
        "metrics": [getattr(f, "__name__", str(f)) for f in task.metric_fns],
    }
mixtures = {n: sorted(t.name for t in seqio.MixtureRegistry.get(n).tasks)
            for n in seqio.MixtureRegistry.names()}
print(json.dumps({"tasks": tasks, "mixtures": mixtures, "origin": origin}))
"""


def registered() -> dict[str, Any]:
    """Returns tasks and mixtures by name, and the module of each; RuntimeError without SeqIO."""
    folders = ("tasks", "twjax/data")
    sources = [path for folder in folders for path in sorted((ROOT / folder).glob("*.py"))]
    digest = hashlib.sha256(_ASK.encode())
    for path in sources:
        digest.update(path.read_bytes())
    kept = _KEPT / f"tasks-{digest.hexdigest()[:16]}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, "-c", _ASK],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"The task registries can't be read: {done.stderr.strip()[-500:]}")
    answer = done.stdout.strip().splitlines()[-1]
    _KEPT.mkdir(parents=True, exist_ok=True)
    kept.write_text(answer, encoding="utf-8")
    return json.loads(answer)


def declared() -> dict[str, str]:
    """Returns {module of `tasks`: its docstring's first paragraph}, without importing it."""
    found = {}
    for path in sorted((ROOT / "tasks").glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = doc.split("\n\n")[0]
    return found


def render() -> str:
    """Returns the page: a module of `tasks` after the other, with what it registers."""
    answer = registered()
    lines = ["# Tasks and mixtures", ""]
    lines += ["What the modules of `tasks/` register with SeqIO. A run's file says `import "]
    lines[-1] += "tasks.taiwan`, then names tasks in `Mixture.stages` and `Evaluation.tasks`. "
    lines[-1] += "Sources, licences and forms are in [Tasks](../tasks.md)."
    docs = declared()
    for module in dict.fromkeys(answer["origin"].values()):
        names = [name for name, origin in answer["origin"].items() if origin == module]
        tasks = [name for name in sorted(names) if name in answer["tasks"]]
        mixtures = [name for name in sorted(names) if name in answer["mixtures"]]
        lines += ["", f"## `tasks.{module}` {{ #{module} }}", "", docs.get(module, "")]
        if tasks:
            lines += ["", "| task | features | splits | metrics |", "|---|---|---|---|"]
        for name in tasks:
            task = answer["tasks"][name]
            cells = (", ".join(f"`{each}`" for each in task[key]) or "–" for key in _COLUMNS)
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
        for name in mixtures:
            inside = ", ".join(f"`{task}`" for task in answer["mixtures"][name])
            lines += ["", f"Mixture `{name}`: {inside}."]
    return "\n".join(lines)
