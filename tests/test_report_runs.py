"""What the report says of a steered run: evaluations of all kinds, budget, mixture, time, data."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
import re
import tempfile

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.report_side import (
    LICENSES,
    TASKS,
    WITH_REPLAY,
    Page,
    bits,
    hold_offline,
    make_run,
    make_steered,
)
from twjax.config import Run, compare, load
from twjax.planning.topology import CHIPS, peak_flops
from twjax.report import Roles, write_report
from twjax.report.events import happened
from twjax.report.provenance import consumed, corpora_of
from twjax.report.read import read_run
from twjax.report.speed import goodput, unknown_peak, utilization
from twjax.report.summary import compare as compare_runs

HOSTILE = "</script><img src=http://evil.example/x onerror=alert(2)>\"'><svg onload=alert(3)>"


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    return make_steered(tmp_path_factory.mktemp("steered") / "run")


@pytest.fixture(scope="module")
def page(steered):
    return Page(write_report([steered], steered.parent / "r.html"))


def logged(run, name, kind):
    records = map(json.loads, (run / f"{name}.jsonl").read_text("utf-8").splitlines())
    return [r for r in records if r.get("kind") == kind or r.get("event") == kind]


def test_every_kind_of_evaluation_is_drawn_with_its_values(page, steered):
    hold_offline(page)
    charts = page.charts()
    choice = {s["n"]: s["v"] for s in charts["Multiple choice: right answers"]}
    for task in ("tmmlu", "civil_exam"):
        records = [r for r in logged(steered, "evaluations", "choice") if r["task"] == task]
        assert choice[task] == [
            f"{r['accuracy']:.1%} ({r['accuracy'] - r['stderr']:.1%} – "
            f"{r['accuracy'] + r['stderr']:.1%})"
            for r in records
        ]
    for title, kind, field, form in (
        ("Taiwan's wording preferred, wording", "pairs", "preferred", "{:.1%}"),
        ("Questions about Taiwan: right answers, identity", "probes", "right", "{:.1%}"),
        ("Simplified characters written, samples", "writing", "simplified_per_1000", "{:.2f}"),
        ("Mainland terms written, samples", "writing", "mainland_per_1000", "{:.2f}"),
    ):
        wanted = [form.format(r[field]) for r in logged(steered, "evaluations", kind)]
        assert charts[title][0]["v"] == wanted, title
    assert [float(v) for v in charts["Generation: rouge, tw_summaries"][0]["v"]] == pytest.approx(
        [r["metrics"]["rouge"] for r in logged(steered, "evaluations", "generation")], abs=0.05
    )
    assert "5 examples before each question" in page.text and "100 of 200" not in page.text
    last = logged(steered, "evaluations", "choice")[-2]["subjects"]["geography"]
    assert f"{last[0]} of {last[1]}" in page.text
    # Drawn against tokens like everything else.
    tokens = {r["step"]: r["tokens"] for r in logged(steered, "metrics", "train")}
    assert charts["Taiwan's wording preferred, wording"][0]["t"][-1] == (
        f"{tokens[600] / 1e6:.2f} M tokens"
    )


def test_what_guessing_gives_is_drawn_where_it_is_known(tmp_path):
    run = make_steered(tmp_path / "run")

    def named(title):
        page = Page(write_report([run], tmp_path / "r.html"))
        svg = page.source.split(f'aria-label="{title}"')[1].split("</svg>")[0]
        found = re.findall(r'class="level".*?y1="([\d.]+)".*?>(guessing[^<]*)<', svg)
        return {text: float(y) for y, text in found}

    choice = "Multiple choice: right answers"
    levels = named(choice)
    assert set(levels) == {"guessing: tmmlu", "guessing: civil_exam"}
    assert levels["guessing: tmmlu"] < levels["guessing: civil_exam"]
    path = run / "evaluations.jsonl"
    path.write_text(path.read_text().replace('"chance": 0.2,', '"chance": 0.25,'))
    assert set(named(choice)) == {"guessing"}
    path.write_text(path.read_text().replace('"chance": 0.25,', ""))
    assert not named(choice) and set(named("Taiwan&#x27;s wording preferred, wording"))
    # Nothing written in Han characters: no rate, and not a good one.
    path.write_text(path.read_text().replace('"han": 2000', '"han": 0'))
    page = Page(write_report([run], tmp_path / "r.html"))
    assert "Nothing was logged" not in page.text and "Simplified characters" not in page.text


def test_what_the_trainer_logged_holds_and_a_torn_line_is_counted(tmp_path):
    run = make_steered(tmp_path / "run")
    whole = read_run(run)
    beside = [
        {"kind": "eval", "step": 600, "task": "tw_laws", "bits_per_byte": 9.0, "bytes": 200_000},
        {"kind": "eval", "step": 550, "task": "tw_laws", "bits_per_byte": 1.7, "bytes": 200_000},
        {"kind": "eval", "step": 600, "task": "tw_laws", "bits_per_byte": 1.5, "bytes": 77},
        {"kind": "choice", "step": 600, "task": "tmmlu", "shots": 0, "accuracy": 0.3},
    ]
    with open(run / "evaluations.jsonl", "a") as file:
        file.writelines(json.dumps(r) + "\n" for r in beside)
        file.write('{"kind": "pairs", "step": 6')
    read = read_run(run)
    laws = whole.bits_per_byte["tw_laws"] | {550: 1.7}
    assert read.bits_per_byte["tw_laws"] == dict(sorted(laws.items()))
    assert read.bits_per_byte["tw_laws (twjax eval)"] == {600: 1.5}
    assert {"tmmlu, 0-shot", "tmmlu, 5-shot", "civil_exam"} == set(read.results["choice"])
    assert read.unreadable == {"evaluations.jsonl": 1}
    assert (
        "1 line of evaluations.jsonl could not be read"
        in Page(write_report([run], tmp_path / "r.html")).text
    )


def test_evaluations_in_the_log_go_with_the_steps_that_a_resume_takes_back(tmp_path):
    run = make_run(tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    pairs = [
        json.dumps({"kind": "pairs", "step": s, "task": "w", "preferred": s / 1000}) + "\n"
        for s in (100, 400)
    ]
    cut = next(i for i, x in enumerate(lines) if '"train"' in x and json.loads(x)["step"] > 450)
    back = [x for x in lines if json.loads(x)["step"] > 380]
    (run / "metrics.jsonl").write_text("".join([*lines[:cut], *pairs, *back]))
    assert set(read_run(run).results["pairs"]["w"]) == {100}


def test_the_budget_is_drawn_as_the_run_saw_it(page, steered):
    looks = logged(steered, "ledger", "budget")
    drawn = {s["n"]: s["v"] for s in page.charts()["Forgetting budget used"]}
    for task in ("en_web", "zh_cn_web"):
        assert drawn[task] == [
            f"{look['used'][task]:.0%}".replace("-", "\N{MINUS SIGN}") for look in looks
        ]
    rise = TASKS["en_web"] * (WITH_REPLAY["en_web"] - 1)
    row = page.source.split("protected domain</th>")[1].split('"row">en_web</th>')[1]
    assert ">0.100</td>" in row and f">{rise:.3f}</td>" in row and f"{rise / 0.1:.0%}" in row


def test_the_domains_of_a_budget_are_those_to_keep(tmp_path):
    run = make_steered(tmp_path / "run")
    assert compare_runs([read_run(run)]).protected == ("en_web", "zh_cn_web")
    text = (run / "config.gin").read_text().replace("'zh_cn_web': 0.1}\nBudget", "}\nBudget")
    (run / "config.gin").write_text(text.replace(", 'zh_cn_web': 'zh_cn_web'}", "}"))
    assert compare_runs([read_run(run)]).protected == ("en_web",)
    named = Roles(protected=("zh_cn_web",))
    assert compare_runs([read_run(run)], named).protected == ("zh_cn_web",)


def test_decisions_are_marked_and_told_in_words(page, steered):
    looks = logged(steered, "ledger", "budget")
    changed = [b for a, b in itertools.pairwise(looks) if a["shares"] != b["shares"]]
    assert len(changed) > 2
    svg = next(a for t, a in page.tags if t == "svg" and a["aria-label"] == "Mixture consumed")
    marks = json.loads(str(svg["data-marks"]))
    texts = [text for _, text in marks]
    assert [x for x, _ in marks] == sorted(x for x, _ in marks)
    for look in changed:
        share = f"→ {look['shares']['en_web']:.1%}"
        assert any(f"step {look['step']}:" in text and share in text for text in texts), look
    assert sum("a stage begins: tw_transcripts 50.0%" in text for text in texts) == 1
    assert sum("a batch has 32 rows" in text for text in texts) == 1
    assert sum("the run goes on" in text for text in texts) == 1
    assert len(marks) == len(changed) + 3
    listed = page.source.split("What happened on the way")[1].split("</table>")[0]
    for text in texts:
        assert text.split(": ", 1)[1] in listed.replace("&#x27;", "'")
    # The learning rate's chart shows them too.
    assert any(a.get("data-marks") for t, a in page.tags if a.get("aria-label") == "Learning rate")


def test_each_action_of_a_budget_has_its_sign_and_words(tmp_path):
    run = make_steered(tmp_path / "run")
    looks = logged(run, "ledger", "budget")
    base = looks[-1] | {"shares": looks[-1]["shares"]}
    other = {"en_web": 0.3, "zh_cn_web": 0.3}
    events = [
        base | {"step": 610, "action": "lower_rate", "rate": 0.25},
        base | {"step": 620, "action": "go_on"},
        base | {"step": 630, "action": "roll_back"},
        {"event": "roll_back", "step": 200, "time": "", "look": base | {"shares": other}},
        {"event": "rolled_back", "step": 200, "time": ""},
        base | {"step": 300, "action": "steer", "shares": {"en_web": 0.2, "zh_cn_web": 0.4}},
        base | {"step": 400, "action": "stop"},
        base | {"step": 500, "action": "unheard of", "used": None},
        {"event": "something new", "step": 5, "time": ""},
    ]
    (run / "ledger.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    told = {e.text.split(";")[-1].strip(): e.sign for e in happened(read_run(run))}
    signs = {e.step: e.sign for e in happened(read_run(run)) if e.step not in (300, 400)}
    assert signs[610] == "rate" and "the learning rate is 0.25 of the schedule's" in told
    assert signs[620] == "beyond" and signs[200] == "back" and signs[5] is None
    assert any("rolled back to this step, replay" in text for text in told)
    assert any("the run stops" in text for text in told)
    assert any("can't be read" in text for text in told) and "something new" in told
    assert "unheard" not in Page(write_report([run], tmp_path / "r.html")).text.split("Records")[0]


def test_what_was_read_is_counted_beside_the_plan_and_the_licences(page, steered):
    run = read_run(steered)
    read = consumed(run)
    last = logged(steered, "metrics", "train")[-1]["rows"]
    assert {task: of.rows for task, of in read.items()} == last
    assert {task: of.tokens for task, of in read.items()} == {t: n * 512 for t, n in last.items()}
    assert sum(of.share for of in read.values()) == pytest.approx(1)
    # Of 300 steps of 16 rows, 100 of 32, then 200 of another stage.
    weighed = {"tw_laws": (0.5, 0.3), "en_web": (0.1, 0.1)}
    for task, (first, then) in weighed.items():
        rows = (300 * 16 + 100 * 32, 200 * 32)
        plan = (first * rows[0] + then * rows[1]) / sum(rows)
        assert read[task].planned == pytest.approx(plan, abs=2e-3)
    half = consumed(run, until=300)
    assert half["tw_laws"].rows == logged(steered, "metrics", "train")[29]["rows"]["tw_laws"]
    known = {corpus.name: corpus for corpus in corpora_of(run)}
    for name, licenses in LICENSES.items():
        assert {k: n for k, (n, _) in (known[name].licenses or {}).items()} == licenses
    assert known["tw_laws"].contaminated == 7 and known["en_web"].contaminated is None
    table = page.source.split("Data and licences")[1].split("</table>")[0]
    for licenses in LICENSES.values():
        assert all(f"{name} <span" in table for name in licenses)
    missing = table.split('"row">zh_cn_web</th>')[1].split("</tr>")[0]
    assert "not recorded" in missing and "manifest.json" in missing


def test_the_configured_shares_are_drawn_where_they_were_to_be(page):
    svg = page.source.split('aria-label="Mixture consumed"')[1].split("</svg>")[0]
    borders = re.findall(r'class="plan" points="([^"]+)"', svg)
    # Layers are in the order of their names: en_web, tw_laws, tw_transcripts, zh_cn_web.
    assert len(borders) == 3
    heights = [[float(p.split(",")[1]) for p in border.split()] for border in borders]
    bottom, top = 260 - 42, 38
    shares = [[(bottom - y) / (bottom - top) for y in border] for border in heights]
    wanted = [(0.1, 0.1), (0.6, 0.4), (0.9, 0.9)]
    for (first, then), seen in zip(wanted, shares, strict=True):
        assert seen == pytest.approx([first, first, then, then], abs=1e-3)


def test_goodput_follows_from_the_times_of_the_log(page, steered):
    run = read_run(steered)
    training, paused = goodput(run)
    # To step 600: 20 s to start, 300 s of steps, 6 pauses of 10 s, 60 s stopped.
    assert training[-1] == pytest.approx(300 / 440) and paused[-1] == pytest.approx(60 / 440)
    assert f"{300 / 440:.1%}" in page.text and "<b>68%</b>goodput" in page.source
    (steered / "ledger.jsonl").rename(steered / "kept.jsonl")
    try:
        assert all(map(math.isnan, goodput(read_run(steered))[0]))
    finally:
        (steered / "kept.jsonl").rename(steered / "ledger.jsonl")


def test_the_use_of_the_peak_is_told_only_where_it_is_known(page, steered, tmp_path):
    assert "unknown peak" in page.source and "MFU: use" not in page.source
    assert unknown_peak(read_run(steered)) == "the peak of cpu is not known"
    run = read_run(make_steered(tmp_path / "tpu", device="TPU v5 lite"))
    used = utilization(run)
    # Six a weight of a matrix product and token, 12 · heads · size a position seen: half a row.
    layer = 128 * 128 + 2 * 128 * 64 + 128 * 128 + 3 * 128 * 384
    a_token = 6 * (4 * layer + 6144 * 128) + 12 * 4 * 32 * 4 * 512 / 2
    peak = 4 * CHIPS["v5e"].flops
    assert used[0] == pytest.approx(16 * 512 * a_token / (0.5 * peak), rel=1e-6)
    assert used[-1] == pytest.approx(2 * used[0])
    assert peak_flops("TPU7x") == CHIPS["tpu7x"].flops / 2 and peak_flops("cpu") is None
    page = Page(write_report([run.path], tmp_path / "r.html"))
    assert page.charts()["MFU: use of the devices' peak"][0]["v"][0] == f"{used[0]:.1%}"


def test_configurations_are_compared_with_each_other_and_with_the_source(tmp_path):
    base = make_steered(tmp_path / "base")
    runs = [make_steered(tmp_path / "a", peak=2e-3), make_steered(tmp_path / "b", peak=3e-3)]
    text = (runs[1] / "config.gin").read_text()
    (runs[1] / "config.gin").write_text(
        text.replace("(400, {'tw_laws': 0.3", "(400, {'tw_laws': 0.7")
    )
    page = Page(write_report(runs, tmp_path / "r.html"))
    table = page.source.split("What differs in the configurations")[1].split("</table>")[0]
    listed = re.findall(r'<th scope="row">([^<]+)</th><td>([^<]*)</td><td>([^<]*)</td>', table)
    found = {path: (a, b) for path, a, b in listed}
    assert found.pop("schedule.peak") == ("0.002", "0.003")
    assert found.pop("data.mixture.stages, from 400[tw_laws]") == ("0.3", "0.7")
    # Nothing else differs but the folders.
    assert {path.split("[")[0] for path in found} == {
        "data.cache",
        "data.corpora",
        "data.vocabulary",
    }
    configs = [load(Run, [run / "config.gin"]).value for run in (base, runs[0])]
    section = page.source.split('id="run-0"')[1].split("Configuration against")[1]
    rows = section.split("</table>")[0]
    for change in compare(*configs):
        assert f'<th scope="row">{change.path}' in rows, change
    assert f"Against {base}" in page.text


def test_hostile_text_does_nothing_anywhere(tmp_path):
    run = make_steered(tmp_path / "run")
    clean = {tag for tag, _ in Page(write_report([run, make_steered(tmp_path / "b")],
                                                 tmp_path / "c.html")).tags}  # fmt: skip
    records = [
        {"kind": "choice", "step": 1, "task": HOSTILE, "shots": HOSTILE, "accuracy": 0.5,
         "stderr": HOSTILE, "subjects": {HOSTILE: [1, 2], "x": [HOSTILE, 0], "y": 3}},
        {"kind": "probes", "step": 1, "task": HOSTILE, "right": 0.5, "groups": HOSTILE},
        {"kind": "generation", "step": 1, "task": HOSTILE, "metrics": {HOSTILE: 1.0, "n": HOSTILE}},
        {"kind": "generation", "step": 2, "task": "t", "metrics": [HOSTILE]},
        {"kind": "writing", "step": 1, "task": HOSTILE, "simplified_per_1000": None},
    ]  # fmt: skip
    with open(run / "evaluations.jsonl", "a") as file:
        file.writelines(json.dumps(r) + "\n" for r in records)
    events = [
        {"event": HOSTILE, "step": 1}, {"event": "start", "step": 0, "versions": HOSTILE},
        {"event": "start", "step": 0, "versions": {"device": HOSTILE, "devices": 1}},
        {"event": "resume", "step": 2, "changes": [HOSTILE], "time": HOSTILE},
        {"event": "branch", "step": 2, "from": HOSTILE},
        {"event": "baseline", "step": 2, "bits": {HOSTILE: 1.0}},
        {"event": "roll_back", "step": 2, "look": {"shares": {HOSTILE: 0.5}}},
    ]  # fmt: skip
    with open(run / "ledger.jsonl", "a") as file:
        file.writelines(json.dumps(r) + "\n" for r in events)
    manifest = {"licenses": {HOSTILE: {"documents": 1}}, "counts": HOSTILE, "steps": [HOSTILE]}
    (run / "corpora" / "en_web" / "manifest.json").write_text(json.dumps(manifest))
    (run / "corpora" / "tw_laws" / "manifest.json").write_text("[" + json.dumps(HOSTILE))
    page = Page(write_report([run, tmp_path / "b"], tmp_path / "r.html"))
    hold_offline(page)
    assert {tag for tag, _ in page.tags} <= clean
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "alert(3)" in page.text


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats()
    | st.sampled_from(["", "a", "2026-11-18T11:06:40+0000", "steer", "</script>", "decay"]),
    lambda some: (
        st.lists(some, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "en_web", "shares", "stages"]), some, max_size=3)
    ),
    max_leaves=6,
)
NAMES = (
    "step task loss tokens bits_per_byte bytes accuracy stderr shots subjects preferred right "
    "groups simplified_per_1000 metrics rows time step_seconds paused_seconds tokens_per_second "
    "used shares action rate beyond look bits reading reading_from versions source changes from "
    "events skip seconds goodput"
)
KINDS = ["train", "eval", "choice", "pairs", "probes", "writing", "generation", "start", "resume"]
KINDS += ["baseline", "budget", "bad_step", "roll_back", "branch", "finish"]
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(KINDS), "event": st.sampled_from(KINDS)},
        optional=dict.fromkeys(NAMES.split(), VALUES) | {"step": st.integers(0, 700)},
    ),
    max_size=5,
)


# To shrink a failure takes minutes: each example writes files.
@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(logged=RECORDS, beside=RECORDS, events=RECORDS, both=st.integers(0, 3))
def test_whatever_a_log_holds_there_is_a_page(steered, logged, beside, events, both):
    folder = pathlib.Path(tempfile.mkdtemp(dir=steered.parent))
    (folder / "config.gin").write_text((steered / "config.gin").read_text())
    for name, records in (("metrics", logged), ("evaluations", beside), ("ledger", events)):
        kept = (steered / f"{name}.jsonl").read_text().splitlines()[: 40 if logged else 0]
        lines = [*kept, *(json.dumps(record) for record in records)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    page = Page(write_report([folder] if both else [folder, steered], folder / "r.html"))
    hold_offline(page)
    assert [tag for tag, _ in page.tags].count("script") == 1
    drawn = (" ".join(v or "" for k, v in a.items() if k != "class") for t, a in page.tags
             if t in ("polyline", "polygon", "circle", "line", "rect", "text"))  # fmt: skip
    assert not any(re.search(r"nan|inf", places) for places in drawn)


def test_a_comparison_shows_both_runs_in_every_measure(tmp_path):
    one, two = make_steered(tmp_path / "one"), make_steered(tmp_path / "two", seed=4)
    base = make_run(tmp_path / "base")
    page = Page(write_report([base, one, two], tmp_path / "r.html", roles=Roles(baseline=base)))
    charts = page.charts()
    for title in (
        "Multiple choice: right answers, tmmlu: each run",
        "Taiwan's wording preferred, wording: each run",
        "Training loss of each run",
        "Throughput of each run",
    ):
        assert [s["n"] for s in charts[title]] == ["one", "two"], title
    last = charts["Multiple choice: right answers, tmmlu: each run"]
    assert [s["v"][-1].split(" ")[0] for s in last] == ["47.0%", "51.0%"]
    row = page.source.split('right answers<br><span class="soft">tmmlu')[1].split("</tr>")[0]
    assert "▲ 47.0%" in row and "▲ 51.0%" in row
    # The picture that stands first: what was learnt, and the worst of what was lost.
    picture = page.source.split('class="balance"')[1].split("</figure>")[0]
    gain = sum(1 - WITH_REPLAY[t] for t in ("tw_laws", "tw_transcripts")) / 2
    assert f"\N{MINUS SIGN}{gain:.1%}" in picture and "en_web +2.0%" in picture
    assert page.source.index('class="balance"') < page.source.index("Learnt against forgotten")
    # What was written before the end is there too, folded.
    assert "one, step 200" in page.text.split("What the runs write")[1].split("What differs")[0]
    assert bits("tw_laws", 1.0, WITH_REPLAY, 1.0) == pytest.approx(2.9 * 0.57)
