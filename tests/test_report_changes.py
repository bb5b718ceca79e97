"""What counts as learnt and forgotten: domains that all runs have, and values that are numbers."""

from __future__ import annotations

import json
import math
import re

import pytest

from tests.report_side import (
    BEFORE_REPLAY,
    TASKS,
    WITH_REPLAY,
    Page,
    make_run,
    make_steered,
    records,
    write_records,
)
from twjax.report import Roles, balance, several, write_report
from twjax.report.mixing import budget_table
from twjax.report.read import read_run
from twjax.report.single import changes_table
from twjax.report.summary import compare, headline, replay_sentence


def without(run, task):
    write_records(run, "metrics", [r for r in records(run, "metrics") if r.get("task") != task])


def spoil(run, tasks, step=600):
    """Makes evaluations of a step what a trainer writes of a loss that is not finite."""
    lines = records(run, "metrics")
    for line in lines:
        if line["kind"] == "eval" and line["task"] in tasks and line["step"] == step:
            line["bits_per_byte"] = None
    write_records(run, "metrics", lines)


def bars(comparison):
    """Returns the picture's lines as plain text."""
    lines = balance.of_runs(comparison).split('<div class="row">')[1:]
    return [" ".join(re.sub("<[^>]+>", " ", line).split()) for line in lines]


@pytest.fixture
def pair(tmp_path):
    return make_steered(tmp_path / "a"), make_steered(tmp_path / "b", seed=1)


def test_what_was_evaluated_beside_on_other_rows_is_no_domain_to_learn(pair, tmp_path):
    before = compare([read_run(run) for run in pair])
    with open(pair[0] / "evaluations.jsonl", "a") as file:
        for step, task in ((0, "tw_laws"), (600, "tw_laws"), (0, "en_web"), (600, "en_web")):
            beside = {"kind": "eval", "step": step, "task": task, "bytes": 999}
            file.write(json.dumps(beside | {"bits_per_byte": 1.7 - step / 1000}) + "\n")
    found = compare([read_run(run) for run in pair])
    assert "tw_laws (twjax eval)" in found.runs[0].bits_per_byte
    assert found.learnt == before.learnt == ("tw_laws", "tw_transcripts")
    assert found.protected == before.protected == ("en_web", "zh_cn_web")
    assert found.left_out == ()
    for mine, theirs in zip(found.runs, before.runs, strict=True):
        assert found.gain(mine) == before.gain(theirs) and math.isfinite(found.gain(mine))
        # It isn't counted twice.
        assert headline(found, mine) == headline(before, theirs)
    assert several.plane(found).count("<polyline") == 2
    # Whoever names it gets it.
    named = Roles(learnt=("tw_laws (twjax eval)",))
    assert compare([read_run(pair[0])], named).learnt == named.learnt
    # Without a budget all others are protected, but not these.
    plain = make_run(tmp_path / "plain")
    (plain / "evaluations.jsonl").write_text((pair[0] / "evaluations.jsonl").read_text())
    assert compare([read_run(plain)]).protected == ("en_web", "zh_cn_web")


def test_runs_are_compared_on_the_domains_that_all_of_them_have(pair, tmp_path):
    without(pair[1], "tw_transcripts")
    found = compare([read_run(run) for run in pair])
    assert found.learnt == ("tw_laws",) and found.left_out == ("tw_transcripts",)
    gain = 1 - WITH_REPLAY["tw_laws"]
    assert [found.gain(run) for run in found.runs] == pytest.approx([gain, gain])
    assert (
        all(f"\N{MINUS SIGN}{gain:.1%}" in line for line in bars(found)) and len(bars(found)) == 2
    )
    assert several.plane(found).count("<polyline") == 2
    page = Page(write_report(pair, tmp_path / "r.html"))
    said = "not all of these runs have evaluated it before and after: tw_transcripts."
    assert said in page.text and "the mean of tw_laws." in page.text
    # A run that has only begun takes no domain from the others.
    begun = make_steered(tmp_path / "c")
    write_records(begun, "metrics", [r for r in records(begun, "metrics") if r["step"] == 0])
    found = compare([read_run(run) for run in (pair[0], begun)])
    assert found.learnt == ("tw_laws", "tw_transcripts") and found.left_out == ()
    # Nor does the run that the others continued.
    base = make_run(tmp_path / "base")
    without(base, "tw_laws")
    runs = [read_run(run) for run in (base, pair[0])]
    assert compare(runs, Roles(baseline=base)).learnt == ("tw_laws", "tw_transcripts")


def test_domains_asked_for_by_name_are_left_out_only_beside_others(pair):
    without(pair[1], "tw_transcripts")
    runs = [read_run(run) for run in pair]
    both = compare(runs, Roles(learnt=("tw_laws", "tw_transcripts")))
    assert both.learnt == ("tw_laws",) and both.left_out == ("tw_transcripts",)
    alone = compare(runs, Roles(learnt=("tw_transcripts",)))
    assert alone.learnt == ("tw_transcripts",) and alone.left_out == ()
    assert math.isfinite(alone.gain(alone.runs[0])) and math.isnan(alone.gain(alone.runs[1]))


def test_an_evaluation_that_is_no_number_is_neither_as_before_nor_kept(pair):
    spoil(pair[0], ("en_web", "zh_cn_web"))
    found = compare([read_run(pair[0])])
    run = found.runs[0]
    changes = found.changes(run)
    # The others are sorted as ever.
    assert [c.task for c in changes[:2]] == ["tw_laws", "tw_transcripts"]
    assert [c.known for c in changes] == [True, True, False, False]
    assert not any(c.learnt or c.forgotten for c in changes[2:])
    assert headline(found, run).endswith(
        "and is not a number in 2 of 4 domains, en_web, zh_cn_web."
    )
    picture = balance.of_domains(changes)
    assert picture.count("not a number") == 2 and "as before" not in picture
    table = changes_table(changes)
    assert "As before" not in table and "Not a number" in table
    assert "1.900</td>" in table and table.count('"n">not a number</td>') == 2
    used = re.findall(r'"n">not a number</td>', budget_table(run))
    assert len(used) == 2


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("spoilt", range(4))
def test_no_number_spoils_the_order_of_the_others(tmp_path, place, spoilt):
    run = make_run(tmp_path / "run")
    task = sorted(TASKS)[spoilt]
    spoil(run, (task,), 0 if place == "first" else 600)
    found = compare([read_run(run)])
    told = [c.task for c in found.changes(found.runs[0])]
    rest = sorted((t for t in TASKS if t != task), key=lambda t: WITH_REPLAY[t])
    assert told == [*rest, task]


def test_runs_whose_end_is_no_number_say_so(tmp_path):
    runs = [
        make_run(tmp_path / "without", ratios=BEFORE_REPLAY, weights={"tw_laws": 1.0}, seed=1),
        make_run(tmp_path / "with", seed=2),
    ]
    roles = Roles(without_replay=runs[0], with_replay=runs[1])
    assert "replay saves" in replay_sentence(compare([read_run(r) for r in runs], roles))
    spoil(runs[0], ("zh_cn_web",))
    found = compare([read_run(r) for r in runs], roles)
    # Worse than any rise, and a mean of it is none.
    worst = found.worst(found.runs[0])
    assert worst is not None and worst.task == "zh_cn_web" and not worst.known
    assert math.isnan(found.forgetting(found.runs[0])) and replay_sentence(found) == ""
    assert "zh_cn_web: not a number" in bars(found)[0] and "en_web +2.0%" in bars(found)[1]
    page = Page(write_report(runs, tmp_path / "r.html", roles=roles))
    assert "without: not a number in zh_cn_web." in page.text
    assert "worst protected domain zh_cn_web not a number" in page.text
    assert "2.600 → not a number" in page.text
    assert "without ends at its last evaluation with numbers." in page.text
    spoil(runs[0], ("tw_laws",))
    assert bars(compare([read_run(r) for r in runs], roles))[0].endswith("not a number")


def test_a_table_says_at_which_steps(tmp_path):
    run = make_run(tmp_path / "run")
    page = Page(write_report([run], tmp_path / "r.html"))
    head = page.source.split("<th>domain</th>")[1].split("</thead>")[0]
    assert [int(n) for n in re.findall(r"step (\d+)", head)] == [0, 600]
    lines = records(run, "metrics")
    last = [r for r in lines if not (r.get("task") == "en_web" and r["step"] > 300)]
    write_records(run, "metrics", last)
    page = Page(write_report([run], tmp_path / "r.html"))
    head, body = page.source.split("<th>domain</th>")[1].split("</thead>")[:2]
    assert re.findall(r"step (\d+)", head) == ["0"]
    row = body.split('"row">en_web</th>')[1].split("</tr>")[0]
    assert re.findall(r"step (\d+)", row) == ["300"]
    assert "Last evaluated at step 300." in page.text
