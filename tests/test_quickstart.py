"""The quickstart from end to end, with a few steps instead of hundreds."""

from __future__ import annotations

import json

import pytest

from tests import tiny

# A real model and real texts: here compiling well takes less time than it saves.
OPTIMIZED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}


@pytest.mark.slow
def test_the_whole_way_from_texts_to_report_and_again(tmp_path):
    # Another folder than the repository: configurations and texts are found all the same.
    done = tiny.twjax("quickstart", "--steps", "3", cwd=tmp_path, env=OPTIMIZED, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    root = tmp_path / "build/quickstart"
    page = (root / "report.html").read_text(encoding="utf-8")
    for name in ("tw_laws", "tw_drcd", "en_general", "cn_general"):
        assert name in page
    base, taiwan, replay = (root / name for name in ("base", "taiwan", "replay"))
    ends = {r["task"]: r["bits_per_byte"] for r in tiny.records(base, "eval") if r["step"] == 3}
    for child in (taiwan, replay):
        starts = {r["task"]: r for r in tiny.records(child, "eval") if r["step"] == 0}
        assert {task: r["bits_per_byte"] for task, r in starts.items()} == ends
    for kind, value in (("pairs", "preferred"), ("probes", "right")):
        end = {r["task"]: r[value] for r in tiny.records(base, kind) if r["step"] == 3}
        starts = {r["task"]: r[value] for r in tiny.records(replay, kind) if r["step"] == 0}
        assert starts == end and 0 <= min(end.values()) <= max(end.values()) <= 1
    samples = (replay / "samples" / "3.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["prompt"] for line in samples} >= {"中華民國", "The "}
    rows = tiny.records(replay, "train")[-1]["rows"]
    assert sum(rows.values()) == 3 * 8

    made = {path: path.stat().st_mtime_ns for path in root.rglob("rows-*")}
    again = tiny.twjax("quickstart", "--steps", "3", cwd=tmp_path, env=OPTIMIZED, timeout=900)
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stderr.count("all 3 steps are done") == 3
    assert made == {path: path.stat().st_mtime_ns for path in root.rglob("rows-*")}
    written = tiny.twjax("generate", replay, "--prompt", "中華", "--tokens", "4", cwd=tmp_path)
    assert written.returncode == 0 and written.stdout.startswith("中華")
