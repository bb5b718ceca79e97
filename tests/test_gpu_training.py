"""benchmarks/gpu_training.py as far as it goes without a GPU: all its parts, on a tiny shape."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from tests import tiny
from twjax.config import Model
from twjax.models.decoder import Network
from twjax.planning.flops import model_flops_per_token

spec = importlib.util.spec_from_file_location(
    "gpu_training", tiny.REPO / "benchmarks" / "gpu_training.py"
)
assert spec is not None and spec.loader is not None
benchmark = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = benchmark
spec.loader.exec_module(benchmark)


@pytest.mark.parametrize("name", ["1b", "3b"])
def test_its_count_of_the_work_is_the_plans(name):
    shape = benchmark.SHAPES[name]
    model = Model(
        vocab_size=shape.vocab, num_layers=shape.layers, embed_dim=shape.embed,
        num_heads=shape.heads, num_kv_heads=shape.kv_heads, head_dim=shape.head_dim,
        mlp_dim=shape.mlp, tie_embeddings=True,
    )  # fmt: skip
    found = benchmark.flops_per_token(shape, 8192)
    assert found == pytest.approx(model_flops_per_token(model, Network.create(model).specs, 8192))


def test_the_table_says_what_was_met_and_what_failed():
    shape = benchmark.SHAPES["1b"]
    each = benchmark.flops_per_token(shape, 8192)
    ours = {"batch": 4, "attention": "pallas", "tokens_per_second": 50_000.0,
            "tokens_per_second_packed": 60_000.0, "memory_gib": 70.0}  # fmt: skip
    theirs = {"a": {"batch": 4, "tokens_per_second": 40_000.0}, "b": {"error": "out of memory"}}
    rate = {"flops": 80_000 * each, "device": "NVIDIA H200", "jax": "0.12.0"}
    lines = benchmark.table(shape, 8192, rate, ours, theirs)
    assert "| twjax, pallas, packed documents | 4 | 60,000 | 75.0% | 70.0 GiB |" in lines
    assert "| b | – | – | – | out of memory |" in lines
    assert lines[-2].endswith("others: 1.25 (aim 1.15: met)")
    assert lines[-1] == "MFU of the measured rate: 62.5% (aim 50%: met)"
    # Nothing to compare with, and nothing trained.
    assert benchmark.table(shape, 8192, rate, ours, {})[-2].startswith("There is nothing to comp")
    failed = benchmark.table(shape, 8192, {"error": "x"}, {"error": "no GPU"}, theirs)
    assert any("no GPU" in line for line in failed)


def test_a_part_that_fails_says_why_and_one_that_hangs_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "FOLDER", tmp_path)
    (tmp_path / "part.py").write_text(
        "import json, sys, time\n"
        "given = json.loads(sys.argv[1])\n"
        "print('RESULT {\"so_far\": 1}', flush=True)\n"
        "if given['how'] == 'hang': time.sleep(60)\n"
        "raise MemoryError('RESOURCE_EXHAUSTED: Out of memory')\n"
    )
    found = benchmark.Parts(100, {}).run("part.py", 50, how="fail")
    assert found["oom"] and "RESOURCE_EXHAUSTED" in found["error"] and found["so_far"] == 1
    monkeypatch.setattr(benchmark, "LEAST_SECONDS", 1.0)
    found = benchmark.Parts(2, {}).run("part.py", 50, how="hang")
    assert "stopped after" in found["error"] and found["so_far"] == 1 and "oom" not in found
    assert benchmark.Parts(0.5, {}).run("part.py", 50, how="fail") == {"error": "no time was left"}


@pytest.mark.slow
def test_all_parts_run_on_a_tiny_shape(tmp_path):
    path = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu_training.py", "--tiny", "--json", path],
        cwd=tiny.REPO, env=tiny.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(path.read_text())
    assert found["rate"]["flops"] > 0
    assert max(found["attention"]["errors"].values()) < 2e-2
    ours = found["twjax"]
    assert ours["tokens_per_second"] > 0 and ours["tokens_per_second_packed"] > 0
    # The logarithm of the vocabulary's size.
    assert abs(ours["first_loss"] - 6.24) < 0.1 and ours["last_loss"] < 6.5
    if importlib.util.find_spec("torch") is None:
        assert "torch isn't installed" in done.stdout
    else:
        assert [abs(t["first_loss"] - 6.24) < 0.1 for t in found["torch"].values()] == [True] * 2
