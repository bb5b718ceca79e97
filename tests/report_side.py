"""Run directories as the trainer writes them, from simple curves; pages as a reader gets them."""

from __future__ import annotations

import html.parser
import json
import math
import pathlib
import random
import re

from twjax.config import Budget, Run, load
from twjax.report import Roles
from twjax.training.budget import decide
from twjax.training.history import handed_on

TASKS = {"tw_laws": 2.9, "tw_transcripts": 2.4, "en_web": 1.9, "zh_cn_web": 2.6}
BEFORE_REPLAY = {"tw_laws": 0.55, "tw_transcripts": 0.80, "en_web": 1.16, "zh_cn_web": 1.07}
WITH_REPLAY = {"tw_laws": 0.57, "tw_transcripts": 0.82, "en_web": 1.02, "zh_cn_web": 0.99}
PROMPTS = ("中華民國憲法第一條規定，", "The committee decided", "立法院今天審查")
VOID = {"meta", "link", "br", "img", "hr", "input"}


def bits(task: str, share: float, ratios: dict[str, float], start: float) -> float:
    """Bits-per-byte after `share` of a run that ends at `ratios` times where it started."""
    return (
        TASKS[task]
        * start
        * (1 + (ratios[task] - 1) * (1 - math.exp(-5 * share)) / (1 - math.exp(-5)))
    )


def make_run(
    path: pathlib.Path,
    steps: int = 600,
    every: int = 10,
    ratios: dict[str, float] = WITH_REPLAY,
    weights: dict[str, float] | None = None,
    seed: int = 0,
    evaluations: int = 6,
    start: float = 1.0,
) -> pathlib.Path:
    """Writes a run directory as the trainer does, from simple curves with noise."""
    rng = random.Random(seed)
    weights = weights or {"tw_laws": 0.45, "tw_transcripts": 0.25, "en_web": 0.2, "zh_cn_web": 0.1}
    (path / "samples").mkdir(parents=True)
    lines = []
    rows = dict.fromkeys(weights, 0)
    eval_steps = {round(i * steps / evaluations / every) * every for i in range(evaluations + 1)}
    for step in range(0, steps + 1, every):
        if step:
            for task, weight in weights.items():
                rows[task] += round(weight * 16 * every * (1 + 0.2 * math.sin(step / steps * 6)))
            warm = min(1.0, step / (0.05 * steps))
            record = {
                "kind": "train",
                "step": step,
                "loss": 2.1 + 2.4 * math.exp(-4 * step / steps) + rng.gauss(0, 0.05),
                "z_loss": 1e-4,
                "accuracy": 0.4,
                "grad_norm": 0.8 + rng.random() * 0.3,
                "learning_rate": 3e-4 * warm * (0.55 + 0.45 * math.cos(math.pi * step / steps)),
                "tokens": step * 16 * 512 - step * 7,
            }
            # Throughput and rows are not logged at every step.
            if step // every % 2 == 0:
                record["tokens_per_second"] = 9_800 + rng.gauss(0, 300)
                record["step_seconds"] = 31.0 if step == 2 * every else 0.84 + rng.random() * 0.05
                record["rows"] = dict(rows)
            lines.append(record)
        if step in eval_steps:
            for task in TASKS:
                value = bits(task, step / steps, ratios, start)
                record = {"kind": "eval", "step": step, "task": task, "bits_per_byte": value}
                record |= {"loss": value * 2, "perplexity": math.exp(value * 2), "tokens": 65_000}
                lines.append(record | {"bytes": 200_000, "seconds": 1.9})
            with open(path / "samples" / f"{step}.jsonl", "w", encoding="utf-8") as file:
                for prompt in PROMPTS:
                    text = f"主權屬於國民全體，「臺灣」的法律（第{step}號）。" * 3
                    record = {"prompt": prompt, "text": text, "step": step}
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "metrics.jsonl").write_text(text, encoding="utf-8")
    ledger = [
        {"step": 0, "time": "2026-11-22T08:00:00Z", "kind": "start", "batch_size": 16},
        {"step": 300, "time": "2026-11-22T08:05:00Z", "kind": "resume", "devices": 8},
    ]
    text = "".join(json.dumps(line) + "\n" for line in ledger)
    (path / "ledger.jsonl").write_text(text, encoding="utf-8")
    (path / "config.gin").write_text("import tasks.taiwan\n\nRun.steps = 600\n", encoding="utf-8")
    versions = {"python": "3.11.7", "packages": {"jax": "0.10.2", "flax": "0.12.8"}}
    (path / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
    return path


def make_three(folder: pathlib.Path) -> tuple[dict[str, pathlib.Path], Roles]:
    """A base run and two that continue it, with their roles."""
    from_random = {"ratios": dict.fromkeys(TASKS, 0.25), "start": 4.0}
    base = make_run(folder / "base", weights={"en_web": 0.6, "zh_cn_web": 0.4}, **from_random)
    without = make_run(folder / "without", ratios=BEFORE_REPLAY, weights={"tw_laws": 1.0}, seed=1)
    with_replay = make_run(folder / "with", ratios=WITH_REPLAY, seed=2)
    runs = {"base": base, "Taiwan only": without, "Taiwan + replay": with_replay}
    roles = Roles(
        baseline=base,
        without_replay="Taiwan only",
        with_replay=with_replay,
        learnt=("tw_laws", "tw_transcripts"),
        protected=("en_web", "zh_cn_web"),
    )
    return runs, roles


class Page(html.parser.HTMLParser):
    """Collects a page's elements, attributes and text, and holds that tags are balanced."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def text(self) -> str:
        return " ".join(t for tag, t in self.texts if tag not in ("style", "script"))

    def charts(self) -> dict[str, list[dict]]:
        """Values behind each chart: title → series with n, x, y, t, v."""
        return {
            str(attrs["aria-label"]): json.loads(str(attrs["data-hover"]))
            for tag, attrs in self.tags
            if tag == "svg"
        }


def hold_offline(page: Page) -> None:
    """Fails if the page could ask anything of a network."""
    for tag, attrs in page.tags:
        assert tag not in ("iframe", "object", "embed", "img", "base", "form")
        for name in ("src", "href", "srcset", "action", "data", "xlink:href"):
            if name in attrs:
                assert re.match(r"#|data:", attrs[name] or ""), (tag, attrs)
    code = "".join(text for tag, text in page.texts if tag in ("style", "script"))
    assert not re.search(r"@import|url\(|https?:|//\w|fetch\(|XMLHttpRequest|import\(", code)


CONFIG = """
Run.steps = 600
Run.init = 'run:{base}'
Run.model = @Model()
Run.data = @Data()
Run.mesh = @Mesh()
Run.optimizer = @Optimizer()
Run.schedule = @Schedule()
Run.step = @Step()
Run.checkpoint = @Checkpoint()
Run.evaluation = @Evaluation()
Run.budget = @Budget()
Model.vocab_size = 6144
Model.num_layers = 4
Model.embed_dim = 128
Model.num_heads = 4
Model.num_kv_heads = 2
Model.head_dim = 32
Model.mlp_dim = 384
Data.cache = '{folder}/cache'
Data.vocabulary = '{folder}/tw.model'
Data.corpora = {corpora}
Data.seq_len = 512
Data.batch_size = 16
Data.batch_ramp = ((300, 32),)
Data.mixture = @Mixture()
Mixture.stages = (
    (0, {{'tw_laws': 0.5, 'tw_transcripts': 0.3, 'en_web': 0.1, 'zh_cn_web': 0.1}}),
    (400, {{'tw_laws': 0.3, 'tw_transcripts': 0.5, 'en_web': 0.1, 'zh_cn_web': 0.1}}),
)
Mixture.max_epochs = None
Schedule.kind = 'cosine'
Schedule.peak = {peak}
Schedule.warmup_steps = 30
Evaluation.tasks = ('tw_laws', 'tw_transcripts', 'en_web', 'zh_cn_web')
Evaluation.every = 100
Checkpoint.every = 100
Budget.allowed = {{'en_web': 0.1, 'zh_cn_web': 0.1}}
Budget.replay = {{'en_web': 'en_web', 'zh_cn_web': 'zh_cn_web'}}
"""
LICENSES = {
    "tw_laws": {"OGDL-Taiwan-1.0": 597},
    "tw_transcripts": {"CC0-1.0": 1200, "public domain (Copyright Act, Art. 9)": 34},
    "en_web": {"CC-BY-SA-4.0": 810},
}
BEGAN = 1_795_000_000


def make_corpora(folder: pathlib.Path) -> dict[str, str]:
    """Writes manifests of all tasks but zh_cn_web, whose folder is not there."""
    for name, licenses in LICENSES.items():
        groups = {k: {"documents": n, "bytes": 1000 * n} for k, n in licenses.items()}
        total = sum(licenses.values())
        manifest = {
            "name": name,
            "fingerprint": "0123456789abcdef",
            "counts": {"documents": total, "bytes": 1000 * total, "rejected": {}},
            "licenses": groups,
            "sources": {f"{name}.example": {"documents": total, "bytes": 1000 * total}},
            "languages": {"zh-TW" if name.startswith("tw") else "en": total},
            "steps": [{"name": "decontaminate", "in": total + 7, "out": total, "changed": {}}]
            if name == "tw_laws"
            else [{"name": "normalize", "in": total, "out": total, "changed": {}}],
        }
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return {task: str(folder / task) for task in TASKS}


def make_steered(
    path: pathlib.Path,
    ratios: dict[str, float] = WITH_REPLAY,
    seed: int = 0,
    peak: float = 1e-3,
    device: str = "cpu",
    corpora: pathlib.Path | None = None,
) -> pathlib.Path:
    """Writes a run with stages, a batch ramp, a forgetting budget and every kind of evaluation.

    A step takes half a second, an evaluation and its save 10, the start 20, and at step 300 it was
    stopped for 60 seconds.
    """
    path.mkdir(parents=True)
    rng = random.Random(seed)
    folder = corpora or path / "corpora"
    names = {task: str(folder / task) for task in TASKS} if corpora else make_corpora(folder)
    text = CONFIG.format(base=path.parent / "base", folder=path, corpora=names, peak=peak)
    (path / "config.gin").write_text(text, encoding="utf-8")
    run = load(Run, [path / "config.gin"]).value
    assert isinstance(run.budget, Budget)
    versions = {"twjax": "0.1.0", "python": "3.12.1", "jax": "0.12.0", "device": device}
    versions |= {"devices": 4}
    (path / "versions.json").write_text(json.dumps(versions))
    stamp = "2026-11-18T11:06:40+0000"  # BEGAN
    reading = {"reading": run.reading.record(), "reading_from": 0}
    source = {"directory": str(path.parent / "base"), "step": 1000, "rate": 1e-4}
    ledger: list[dict] = [
        {"event": "start", "step": 0, "time": stamp, "versions": versions, "source": source}
        | reading
    ]
    lines: list[dict] = []
    beside: list[dict] = []
    rows = dict.fromkeys(TASKS, 0)
    tokens, now, look, pause = 0, BEGAN + 20.0, None, 0.0
    shares = {"en_web": 0.1, "zh_cn_web": 0.1}
    baseline: dict[str, float] = {}
    for step in range(0, 601, 10):
        if step:
            stage = dict(run.reading.stages)[400 if step > 400 else 0]
            batch = run.reading.rows(step - 1)
            left = 1 - sum(shares.values())
            others = sum(w for t, w in stage.items() if t not in shares)
            for task, weight in stage.items():
                share = shares.get(task, weight / others * left)
                rows[task] += round(share * batch * 10)
            tokens += batch * 10 * 510
            now += 10 * 0.5 + pause
            lines.append({
                "kind": "train", "step": step, "loss": 2 + 2 * math.exp(-step / 150)
                + rng.gauss(0, 0.04), "accuracy": 0.4, "grad_norm": 0.9 + rng.random() * 0.2,
                "learning_rate": peak * min(1, step / 30) * (1 - step / 700), "tokens": tokens,
                "tokens_per_second": batch * 510 / 0.5, "step_seconds": 0.5, "rows": dict(rows),
                "paused_seconds": pause, "time": now,
            })  # fmt: skip
            pause = 0.0
        if step == 300:
            ledger.append({"event": "stop", "step": 300, "time": stamp})
            ledger.append({"event": "resume", "step": 300, "time": stamp, "versions": versions})
            now += 60
        if step % 100 == 0:
            pause = 10.0
            share = step / 600
            found = {t: bits(t, share, ratios, 1.0) for t in TASKS}
            for task, value in found.items():
                lines.append({"kind": "eval", "step": step, "task": task, "bits_per_byte": value,
                              "loss": value, "tokens": 65_000, "bytes": 200_000})  # fmt: skip
            baseline = baseline or {t: found[t] for t in run.budget.allowed}
            if step == 0:
                ledger.append({"event": "baseline", "step": 0, "time": stamp, "bits": baseline})
            look = decide(run.budget, step, found, baseline, look, shares)
            shares = look.shares
            ledger.append({"event": "budget", "step": step, "time": stamp} | look.record())
            beside += _measured(step, share, seed)
    ledger.append({"event": "finish", "step": 600, "time": stamp})
    for name, records in (("metrics", lines), ("ledger", ledger), ("evaluations", beside)):
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (path / "samples").mkdir()
    for step in range(0, 601, 100):
        written = f"（第{step}步）中華民國之主權屬於國民全體。" * 4
        lines = [{"step": step, "prompt": prompt, "text": written} for prompt in PROMPTS]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (path / "samples" / f"{step}.jsonl").write_text(text, encoding="utf-8")
    return path


def make_branch(trunk: pathlib.Path, path: pathlib.Path, at: int = 300) -> pathlib.Path:
    """Writes a branch of a run that goes on as it did, with a log of its own from a step on."""
    path.mkdir(parents=True)
    for name in ("config.gin", "versions.json"):
        (path / name).write_text((trunk / name).read_text())
    ledger = records(trunk, "ledger")
    events = [
        {"event": "branch", "step": at, "time": "2026-11-18T11:16:40+0000", "from": str(trunk),
         "events": handed_on(ledger, at)},
        {"event": "resume", "step": at, "time": "2026-11-18T11:16:41+0000",
         "changes": ["- schedule.kind = 'linear'"],
         "versions": json.loads((path / "versions.json").read_text())},
        *(event for event in ledger if event["step"] > at),
    ]  # fmt: skip
    write_records(path, "ledger", events)
    write_records(
        path,
        "metrics",
        [r for r in records(trunk, "metrics") if r["step"] > at - (r["kind"] == "eval")],
    )
    return path


def records(run: pathlib.Path, name: str) -> list[dict]:
    """Returns the lines of one of a run's logs."""
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text("utf-8").splitlines()]


def write_records(run: pathlib.Path, name: str, lines: list[dict]) -> None:
    """Writes one of a run's logs anew."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (run / f"{name}.jsonl").write_text(text, encoding="utf-8")


def _measured(step: int, share: float, seed: int) -> list[dict]:
    """Returns one evaluation of each kind beside bits-per-byte."""
    right = round((0.27 + 0.2 * share + 0.01 * seed) * 400)
    subjects = {"geography": [right // 2, 200], "law": [right - right // 2, 200]}
    return [
        {"kind": "choice", "step": step, "task": "tmmlu", "shots": 5, "items": 400,
         "accuracy": right / 400, "accuracy_macro": right / 400, "accuracy_norm": right / 400,
         "stderr": 0.02, "chance": 0.25, "subjects": subjects},
        {"kind": "choice", "step": step, "task": "civil_exam", "shots": 5, "items": 900,
         "accuracy": 0.26 + 0.1 * share, "accuracy_macro": 0.3, "accuracy_norm": 0.3,
         "stderr": 0.015, "chance": 0.2, "subjects": {}},
        {"kind": "pairs", "step": step, "task": "wording", "pairs": 300,
         "preferred": 0.42 + 0.4 * share},
        {"kind": "probes", "step": step, "task": "identity", "probes": 40, "right": 0.2 + share / 2,
         "groups": {"national day": [2, 10]}},
        {"kind": "writing", "step": step, "task": "samples", "texts": 40, "han": 2000,
         "simplified_per_1000": 41.0 * (1 - share) + 0.5, "texts_with_simplified": 0.4,
         "mainland_per_1000": 9.0 - 6 * share, "texts_with_mainland": 0.2},
        {"kind": "generation", "step": step, "task": "tw_summaries", "examples": 50,
         "metrics": {"rouge": 11.0 + 9 * share, "bleu": 2.0 + share}},
    ]  # fmt: skip
