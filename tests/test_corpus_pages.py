"""The pages and commands that show a corpus, and its data cards, against what was really built."""

from __future__ import annotations

import argparse
import html
import json
import re

import browser
import corpus_side
import pyarrow.parquet as pq
import pytest

from twjax import storage
from twjax.cli import corpus_look
from twjax.corpus import card, pipeline
from twjax.corpus.document import Document, write_jsonl
from twjax.corpus.duplicates.dedup import ExactDedup
from twjax.corpus.text.length import MinLength
from twjax.report import corpus_samples
from twjax.report.corpus_page import write_corpus_page

SECRET = "聯絡 wang@example.tw 或 0912-345-678，<b>粗</b>"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Forty documents: some short, some equal, some with a mainland word."""
    folder = tmp_path_factory.mktemp("pages")
    documents = []
    for number in range(40):
        film = "視頻" if number % 4 == 0 else "影片"
        text = f"第{number}號文件：臺灣的軟體工程師在網路上分享{film}。"
        if number % 10 == 3:
            text = f"短{number}"
        if number % 10 == 5:
            text = "一樣的文件，寫了好幾次，只該留下一份。"
        if number == 7:
            text = SECRET
        document = Document(
            id=f"d{number}",
            text=text,
            source="a" if number < 30 else "b|c",
            license="CC0-1.0" if number % 2 else "CC-BY-4.0",
            lang="zh-TW",
            meta={"half": "odd" if number % 2 else "even"},
        )
        documents.append(document)
    write_jsonl(folder / "in.jsonl", documents)
    corpus = pipeline.Corpus(
        name="pages",
        inputs=(str(folder / "in.jsonl"),),
        output=str(folder / "out"),
        steps=(
            corpus_side.Replace(pairs=("視頻=影片",)),
            ExactDedup(),
            MinLength(characters=6),
        ),
    )
    pipeline.build(corpus, workers=1)
    return folder / "out"


def text_of(page: str) -> str:
    return html.unescape(
        re.sub(r"<[^>]+>", "", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S))
    )


def test_the_page_counts_and_shows_each_decision(built, tmp_path):
    write_corpus_page(built, tmp_path / "p.html", samples=3)
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    told = text_of(page)
    manifest = storage.read_json(built / "manifest.json")
    counts = manifest["counts"]
    assert f"{counts['documents']}documents kept" in told.replace(",", "")
    for reason, number in counts["rejected"].items():
        assert f"{reason} {number}" in told
    # Kept, edits, and two reasons.
    assert page.count("data-example>") == 9 + 3 + 3 + 3
    assert "<del>視頻</del><ins>影片</ins>" in page
    assert "b|c" in told and "CC-BY-4.0" in told
    # Text of documents is text, never markup.
    write_corpus_page(built, tmp_path / "all.html", samples=50)
    everything = (tmp_path / "all.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;粗&lt;/b&gt;" in everything and "<b>粗" not in everything


def test_examples_are_an_even_draw_that_does_not_change(built):
    def ids(rows):
        return [row["id"] for row in rows]

    few, more = (corpus_samples.kept(built, n) for n in (5, 12))
    assert ids(few) == ids(corpus_samples.kept(built, 5)) == ids(more)[:5]
    everything = corpus_samples.kept(built, 10**6)
    table = pq.ParquetDataset(built / "shards").read(columns=["id"])
    assert sorted(ids(everything)) == sorted(table.column("id").to_pylist())
    dropped = corpus_samples.dropped(built, 10**6)
    manifest = storage.read_json(built / "manifest.json")
    assert {reason: len(rows) for reason, rows in dropped.items()} == manifest["counts"]["rejected"]


def test_an_edit_is_found_where_later_steps_have_shifted_it():
    edit = {"step": "s", "kind": "k", "id": "d", "start": 2, "before": "視頻", "after": "影片"}
    change = corpus_samples._placed(edit, "前面多了字影片在此，影片又在此", 3)
    assert (change.left, change.right) == ("多了字", "在此，")
    assert corpus_samples._placed(edit, "沒有了", 3).left == ""


def commands(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    corpus_look.add_commands(parser.add_subparsers(dest="corpus_command", required=True))
    return parser.parse_args([str(argument) for argument in arguments])


def test_inspect_prints_the_counts_and_writes_the_page(built, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert corpus_look.run(commands("inspect", built, "--html", page, "--no-open")) == 0
    told = capsys.readouterr().out
    assert page.is_file() and str(page) in told
    manifest = storage.read_json(built / "manifest.json")
    assert f"{manifest['counts']['documents']} documents" in told
    assert re.search(r"exact_dedup +40 +37 +exact duplicate 3", told)
    assert re.search(r"CC0-1.0 +\d+ +\d", told) and "b|c" in told


def test_diff_lists_replacements_and_places(built, capsys):
    assert corpus_look.run(commands("diff", built)) == 0
    assert "10  replace  word  視頻 → 影片" in capsys.readouterr().out
    assert corpus_look.run(commands("diff", built, "--id", "d4")) == 0
    assert capsys.readouterr().out == 'd4:20  replace  word  "視頻" → "影片"\n'
    assert corpus_look.run(commands("diff", built, "--all", "--limit", 2)) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    with pytest.raises(ValueError, match=r"--step no: .* was built by replace, exact_dedup"):
        corpus_look.run(commands("diff", built, "--step", "no"))


def test_sample_prints_documents(built, capsys):
    assert corpus_look.run(commands("sample", built, "-n", 4)) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4 and all(row["license"] for row in rows)
    assert corpus_look.run(commands("sample", built, "--rejected", "too short")) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["id"] for row in rows} == {"d3", "d13", "d23", "d33"}
    with pytest.raises(ValueError, match="--rejected gone: what was rejected here is exact dup"):
        corpus_look.run(commands("sample", built, "--rejected", "gone"))


def test_sample_draws_the_cases_of_one_decision(built, capsys):
    def cases(*arguments):
        assert corpus_look.run(commands("sample", built, *arguments)) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert {r["id"] for r in cases("--decision", "too short")} == {"d3", "d13", "d23", "d33"}
    edits = cases("--decision", "replace word", "-n", 3)
    assert len(edits) == 3 and all(e["before"] == "視頻" and e["left"] for e in edits)
    labelled = cases("--decision", "half=od", "-n", 100)
    assert {int(r["id"][1:]) % 2 for r in labelled} == {1}
    assert len(cases("--decision", "half", "-n", 100)) > len(labelled)
    drawn = [
        [row["id"] for row in cases("--decision", "half", "-n", 5, "--seed", seed)]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    known = "no decision 'gone'; there are exact duplicate, too short; replace word; half"
    with pytest.raises(ValueError, match=known):
        cases("--decision", "gone")


@pytest.mark.parametrize("language", sorted(card.LANGUAGES))
def test_a_card_holds_the_counts_and_masks_what_might_be_personal(built, language):
    manifest = storage.read_json(built / "manifest.json")
    excerpts = [card.Excerpt("too short", "x|1", "3", SECRET + "長" * 200)]
    text = card.card(manifest, excerpts, language)
    for source, of in manifest["sources"].items():
        name = source.replace("|", "\\|")
        assert f"| {name} | {of['documents']:,} | {of['bytes']:,} |" in text
    for reason, number in manifest["counts"]["rejected"].items():
        assert f"| {reason} | {number:,} |" in text
    assert "0912" not in text and "wang" not in text and "聯絡 …@… 或 0000-000-000" in text
    assert "長" * 60 not in text
    # Every line of a table has as many cells as its head.
    for block in text.split("\n\n"):
        if block.startswith("|"):
            cells = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(cells) == 1, block


@browser.needed
def test_the_search_hides_what_does_not_match(built, tmp_path):
    path = tmp_path / "p.html"
    write_corpus_page(built, path, samples=4)
    probe = (
        "<script>addEventListener('load',()=>{const f=document.querySelector('#find');"
        "f.value='一樣的 文件';f.dispatchEvent(new Event('input'));const n=[...document."
        "querySelectorAll('[data-example]')];document.title=[n.filter(e=>!e.hidden).length,"
        "n.length,document.querySelector('#found').textContent,document.documentElement."
        "scrollWidth<=innerWidth].join('|')})</script>"
    )
    path.write_text(path.read_text("utf-8").replace("</body>", probe + "</body>"), "utf-8")
    shown_page = browser.dump(path, tmp_path / "user")
    found = re.search(r"<title>(\d+)\|(\d+)\|(.*?)\|(true|false)</title>", shown_page)
    assert found, shown_page[:2000]
    shown, of, told, fits = found.groups()
    assert 3 <= int(shown) <= 4 and int(of) > int(shown)
    assert told == f"{shown} of {of} examples" and fits == "true"
