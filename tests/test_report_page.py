"""The report as a reader gets it: numbers of the logs, hostile text, damaged logs, a browser."""

from __future__ import annotations

import json
import math
import re

import browser
import pytest

from tests.report_side import (
    BEFORE_REPLAY,
    TASKS,
    WITH_REPLAY,
    Page,
    hold_offline,
    make_run,
    make_three,
)
from twjax.cli import report as command
from twjax.report import Roles, write_report


def test_one_run_shows_the_numbers_of_its_logs(tmp_path):
    run = make_run(tmp_path / "run")
    path = write_report([run], tmp_path / "report.html", title="臺灣持續預訓練")
    assert path == tmp_path / "report.html"
    page = Page(path)
    hold_offline(page)
    assert "臺灣持續預訓練" in page.text
    for task in TASKS:
        before, after = TASKS[task], TASKS[task] * WITH_REPLAY[task]
        row = page.source.split(f'<th scope="row">{task}</th>')[1].split("</tr>")[0]
        percent = f"{abs(after / before - 1) * 100:.1f}%"
        arrow = "▼ \N{MINUS SIGN}" if after < before else "▲ +"
        assert f">{before:.3f}<" in row and f">{after:.3f}<" in row and arrow + percent in row
    order = [page.source.index(s) for s in ("Learnt: bits", "tw_laws</th>", "Forgotten: bits")]
    assert order == sorted(order)
    assert page.source.index('"row">en_web</th>') > page.source.index("Forgotten: bits")
    assert (
        "fell in 3 of 4 domains, most in tw_laws (2.900 → 1.653, \N{MINUS SIGN}43.0%)" in page.text
    )
    assert "rose in 1 of 4 domains, en_web (1.900 → 1.938, +2.0%)" in page.text

    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    train = [r for r in records if r["kind"] == "train"]
    charts = page.charts()
    loss = charts["Training loss"][0]
    assert loss["t"] == [f"step {r['step']:,}" for r in train]
    assert [float(v) for v in loss["v"]] == pytest.approx([r["loss"] for r in train], abs=6e-3)
    by_task = {s["n"]: s["v"] for s in charts["Bits-per-byte by domain"]}
    for task in TASKS:
        logged = [r["bits_per_byte"] for r in records if r.get("task") == task]
        assert [float(v) for v in by_task[task]] == pytest.approx(logged, abs=6e-4)
    mixture = {s["n"]: s["v"] for s in charts["Mixture consumed"]}
    first = train[1]["rows"]
    total = sum(first.values())
    assert {t: v[0] for t, v in mixture.items()} == {
        t: f"{n / total:.1%}" for t, n in first.items()
    }
    rows = train[-1]["rows"]
    assert f"tw_laws {rows['tw_laws']:,}" in page.text
    assert f"600 steps and {600 * (16 * 512 - 7) / 1e6:.2f} M tokens" in page.text
    assert "主權屬於國民全體" in page.text and "Run.steps = 600" in page.text
    assert "packages.flax" in page.text and "resume" in page.text


def test_several_runs_open_with_what_replay_saved(tmp_path):
    runs, roles = make_three(tmp_path)
    page = Page(write_report(runs, tmp_path / "r.html", title="Replay", roles=roles))
    hold_offline(page)
    lost, kept = (
        sum(TASKS[t] * max(0, ratios[t] - 1) for t in roles.protected) / 2
        for ratios in (BEFORE_REPLAY, WITH_REPLAY)
    )
    assert f"rises by {lost:.3f} on average, with replay by {kept:.3f}: " in page.text
    assert f"replay saves {1 - kept / lost:.0%} of the forgetting" in page.text
    assert page.source.index("Comparison") < page.source.index('id="run-0"')
    series = {s["n"]: s for s in page.charts()["Learnt against forgotten"]}
    assert set(series) == {"Taiwan only", "Taiwan + replay"}
    assert series["Taiwan only"]["t"][-1] == f"+{(0.45 + 0.20) / 2 * 100:.1f}%"
    assert series["Taiwan only"]["v"][-1] == "+16.0%"
    assert "2.900 → 1.595" in page.text and "2.900 → 1.653" in page.text


@pytest.mark.parametrize(
    ("with_ratio", "without_ratio", "told"),
    [
        (0.9, 1.2, "replay saves all of the forgetting"),
        (1.3, 1.2, "replay saves none of the forgetting"),
        (1.1, 1.2, "replay saves 50% of the forgetting"),
        (1.0, 0.9, "there is no forgetting to save"),
    ],
)
def test_the_sentence_about_replay_is_true_in_every_case(tmp_path, with_ratio, without_ratio, told):
    protected = dict.fromkeys(("en_web", "zh_cn_web"))
    runs = [
        make_run(tmp_path / name, ratios=WITH_REPLAY | dict.fromkeys(protected, ratio))
        for name, ratio in (("without", without_ratio), ("with", with_ratio))
    ]
    roles = Roles(without_replay=runs[0], with_replay=runs[1])
    assert told in Page(write_report(runs, tmp_path / "r.html", roles=roles)).text


def test_a_run_without_step_0_is_compared_with_the_end_of_its_baseline(tmp_path):
    base = make_run(tmp_path / "base", ratios=dict.fromkeys(TASKS, 0.5))
    run = make_run(tmp_path / "run", ratios=WITH_REPLAY)
    kept = [line for line in (run / "metrics.jsonl").read_text().splitlines()
            if '"kind": "eval", "step": 0' not in line]  # fmt: skip
    (run / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    page = Page(write_report([base, run], tmp_path / "r.html", roles=Roles(baseline=base)))
    assert f"{2.9 * 0.5:.3f} → {2.9 * 0.57:.3f}" in page.text


HOSTILE = (
    "</pre></script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>"
    "\"'><svg onload=alert(3)> &amp; \x00\x1b[31m \ud800 \u2028 \u202e </style><!-- <![CDATA["
)


def test_hostile_text_is_shown_and_does_nothing(tmp_path):
    run = make_run(tmp_path / "run <b>&\"'")
    record = {"kind": "eval", "step": 600, "task": HOSTILE, "bits_per_byte": 1.0}
    start = record | {"step": 0, "bits_per_byte": 2.0}
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(start) + "\n" + json.dumps(record) + "\n")
    (run / "config.gin").write_text(HOSTILE.replace("\ud800", ""), encoding="utf-8")
    (run / "versions.json").write_text(json.dumps({HOSTILE: {HOSTILE: HOSTILE}}))
    (run / "ledger.jsonl").write_text(json.dumps({"step": 1, HOSTILE: HOSTILE}) + "\n")
    sample = {"prompt": HOSTILE, "text": HOSTILE + HOSTILE, "step": 600}
    # Unescaped, U+2028 is a legal part of a JSON line.
    text = json.dumps(sample, ensure_ascii=False).replace("\ud800", "\\ud800")
    (run / "samples" / "600.jsonl").write_text(text + "\n", encoding="utf-8")
    clean = make_run(tmp_path / "clean")
    expected = sorted({tag for tag, _ in Page(write_report([clean], tmp_path / "c.html")).tags})
    page = Page(write_report([run], tmp_path / "r.html", title=HOSTILE))
    hold_offline(page)
    assert sorted({tag for tag, _ in page.tags}) == expected
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "alert(1)" in page.text and "\x1b" not in page.source and "\x00" not in page.source
    assert "\N{REPLACEMENT CHARACTER}" in page.text
    assert "could not be read" not in page.text


def test_a_log_torn_by_a_kill_is_read_up_to_the_tear_and_says_so(tmp_path):
    run = make_run(tmp_path / "run")
    whole = Page(write_report([run], tmp_path / "whole.html"))
    assert "could not be read" not in whole.text
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text + '{"kind":"train","step":610,"lo')
    torn = Page(write_report([run], tmp_path / "torn.html"))
    assert "1 line of metrics.jsonl could not be read and is left out" in torn.text
    assert torn.charts() == whole.charts()


def test_a_resumed_run_counts_each_step_once(tmp_path):
    run = make_run(tmp_path / "run")
    whole = Page(write_report([run], tmp_path / "whole.html"))
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    steps = [json.loads(line)["step"] for line in lines]
    # Killed at step 450, gone back to the checkpoint at 380.
    killed = [line for line, step in zip(lines, steps, strict=True) if step <= 450]
    resumed = [line for line, step in zip(lines, steps, strict=True) if step > 380]
    (run / "metrics.jsonl").write_text("".join(killed + resumed))
    assert Page(write_report([run], tmp_path / "resumed.html")).charts() == whole.charts()


def test_a_run_that_has_only_begun_makes_a_page(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text("")
    page = Page(write_report([run], tmp_path / "r.html"))
    assert "no domain was evaluated before and after" in page.text
    lines = [{"step": 1, "loss": None, "tokens": 10}, {"step": 2, "loss": 3.0, "tokens": 20}]
    lines.append({"step": 3, "loss": math.nan, "tokens": 30})
    text = "".join(json.dumps({"kind": "train"} | line) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(text)
    page = Page(write_report([run], tmp_path / "r.html"))
    assert "2 of 3 values are not numbers" in page.text
    assert page.charts()["Training loss"][0]["t"] == ["step 2"]


def test_missing_runs_and_unknown_names_are_told_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"absent: no such run directory; give the folder"):
        write_report([tmp_path / "absent"], tmp_path / "r.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: holds no metrics\.jsonl"):
        write_report([tmp_path / "empty"], tmp_path / "r.html")
    run = make_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"'tw_law' is in no evaluation .*: en_web, tw_laws"):
        write_report([run], tmp_path / "r.html", roles=Roles(learnt=("tw_law",)))
    with pytest.raises(ValueError, match=r"with_replay \(other\) is none of the runs"):
        write_report([run], tmp_path / "r.html", roles=Roles(with_replay="other"))
    with pytest.raises(ValueError, match=r"a run is given twice"):
        write_report([run, run], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_the_command_writes_beside_the_run(tmp_path, capsys):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    run = make_run(tmp_path / "run")
    assert command.run(parser.parse_args([str(run), "--learnt", "en_web"])) == 0
    assert (run / "report.html").is_file()
    assert str(run / "report.html") in capsys.readouterr().err


@pytest.mark.slow
def test_a_hundred_thousand_logged_steps_stay_small(tmp_path):
    run = make_run(tmp_path / "run", steps=100_000, every=1, evaluations=50)
    path = write_report([run], tmp_path / "report.html")
    assert path.stat().st_size < 5_000_000
    page = Page(path)
    loss = page.charts()["Training loss"][0]
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    values = [r["loss"] for r in records if r["kind"] == "train"]
    assert len(values) == 100_000 and len(loss["v"]) <= 400
    shown = [re.findall(r"[\d.]+", v) for v in loss["v"]]
    # No spike disappears: the ranges reach the extremes of the log.
    assert min(float(low) for _, low, _ in shown) == pytest.approx(min(values), abs=6e-3)
    assert max(float(high) for _, _, high in shown) == pytest.approx(max(values), abs=6e-3)


@browser.needed
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_errors_or_overflow(tmp_path, width):
    runs, roles = make_three(tmp_path)
    path = write_report(runs, tmp_path / "r.html", roles=roles)
    # The page tells its own width; errors of the script would be on the console.
    probe = (
        "<script>addEventListener('load',()=>{const s=document.querySelector('svg[data-hover]');"
        "const b=s.getBoundingClientRect();s.dispatchEvent(new PointerEvent('pointermove',"
        "{clientX:b.left+b.width/2,clientY:b.top+9}));document.body.dataset.seen="
        "[innerWidth,document.documentElement.scrollWidth,document.querySelectorAll('.tip')"
        ".length,document.querySelector('.tip:not([hidden])').textContent].join('|')})</script>"
    )
    path.write_text(path.read_text("utf-8").replace("</body>", probe + "</body>"), "utf-8")
    # Headless windows are at least 500 wide; a frame is as narrow as asked.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<body style="margin:0"><iframe id="f" src="r.html" style="border:0;width:{width}px;'
        'height:900px"></iframe><script>addEventListener("load",()=>setTimeout(()=>{document.title='
        'document.getElementById("f").contentDocument.body.dataset.seen},300))</script>'
    )
    options = ("--allow-file-access-from-files", "--window-size=1400,1000")
    shown_page = browser.dump(frame, tmp_path / "user", *options)
    found = re.search(r"<title>(\d+)\|(\d+)\|(\d+)\|(.*?)</title>", shown_page)
    assert found, shown_page[:2000]
    inner, scroll, tips, told = found.groups()
    assert int(inner) == width
    assert int(scroll) <= width
    assert int(tips) == [tag for tag, _ in Page(path).tags].count("svg")
    assert "Taiwan" in told and "%" in told
