"""The documentation: links, command lines, settings and files that it names exist; it builds."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import re
import shlex
import subprocess
import sys

import pytest

from tests import browser, tiny
from twjax import config
from twjax.cli import build_parser
from twjax.config import Run, Vocabulary
from twjax.corpus import pipeline, registry
from twjax.corpus.sources.formats import Source
from twjax.corpus.variety import usage

SITE = tiny.REPO / "docs" / "site"
sys.path.insert(0, str(SITE))

import class_pages  # noqa: E402
import command_pages  # noqa: E402
import config_pages  # noqa: E402
import repository_links  # noqa: E402

SKIPPED = {".git", "build", "runs"}
PAGES = sorted(
    path.relative_to(tiny.REPO).as_posix()
    for path in tiny.REPO.rglob("*.md")
    if not any(
        part in SKIPPED or part.startswith(".venv")
        for part in path.relative_to(tiny.REPO).parts[:-1]
    )
)
# Pages of our own words; the others are licences and lists of sources.
WRITTEN = [name for name in PAGES if name.startswith(("README", "docs/"))]
TAIWAN = [name for name in WRITTEN if name.endswith(".zh-TW.md")]
CLASSES = class_pages.run_classes() | class_pages.corpus_classes()


def text_of(name: str) -> str:
    return (tiny.REPO / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Returns (information behind the fence, content) of a page's fenced blocks."""
    found = re.findall(r"^```([^\n`]*)\n(.*?)^```$", text, re.M | re.S)
    return [(info.strip(), body) for info, body in found]


def command_lines(text: str) -> list[list[str]]:
    """Returns the arguments of the twjax commands in a page's blocks for a shell."""
    found = []
    for info, body in blocks(text):
        if info.split(" ")[0] not in ("", "sh"):
            continue
        for line in body.replace("\\\n", " ").split("\n"):
            line = line.strip()
            local = line.startswith("python -m launch.local")
            if not local and not re.search(r"(^|[\s/'\"])twjax [a-z]", line.partition(" #")[0]):
                continue
            with contextlib.suppress(ValueError):
                words = shlex.split(line, comments=True)
                if local:
                    found.append(words[words.index("--") + 1 :])
                elif words and words[0].rpartition("/")[2] == "twjax":
                    found.append(words[1:])
    return found


def parse(words: list[str]) -> str:
    """Returns what the parser has against a command line; nothing if it is right."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        try:
            build_parser().parse_args([word for word in words if word != "--debug"])
        except SystemExit as ended:
            return "" if ended.code == 0 else told.getvalue().strip().splitlines()[-1]
    return ""


def parser_of(words: list[str]) -> argparse.ArgumentParser | None:
    """Returns the parser of the command that the words begin with, as far as they name one."""
    known = dict(command_pages.commands(build_parser()))
    for length in (2, 1):
        if found := known.get(tuple(words[:length])):
            return found
    return None


def test_the_pages_are_found():
    assert {"README.md", "README.zh-TW.md", "docs/tutorial.md"} <= set(PAGES)
    assert len(TAIWAN) >= 2 and "Run" in CLASSES and "NormalizeText" in CLASSES


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name):
    assert not repository_links.missing(text_of(name), (tiny.REPO / name).parent)


def test_a_link_that_leads_nowhere_is_seen(tmp_path):
    (tmp_path / "here.md").write_text("")
    text = "[a](here.md#part) [b](https://x.test/) [c](#d)\n```\n[e](f.md)\n```\n[g](gone.md)\n"
    assert repository_links.missing(text, tmp_path) == ["5: gone.md"]
    assert repository_links.rewrite("[x](../nothing.py)", "a.md")[1] == ["../nothing.py"]
    text, wrong = repository_links.rewrite(
        "[run](../configs/runs/cpt_taiwan.gin), [it](../Makefile), [c](concepts.md)", "index.md"
    )
    assert not wrong
    assert text == (
        "[run](reference/configs.md#configs-runs-cpt_taiwan), it (`Makefile`), [c](concepts.md)\n"
    )


@pytest.mark.parametrize("name", WRITTEN)
def test_files_that_pages_name_exist(name):
    found = re.findall(
        r"(?<![\w/.])((?:configs|benchmarks|tests|twjax|tasks|launch|docs|constraints)/"
        r"[\w./-]*\.(?:gin|py|md|txt|tsv|gz|jsonl))\b",
        text_of(name),
    )
    # What the reader is to write.
    own = re.compile(r"/(?:my_|mine\b)")
    missing = {each for each in found if not own.search(each) and not (tiny.REPO / each).exists()}
    assert not missing


@pytest.mark.parametrize("name", WRITTEN)
def test_command_lines_parse(name):
    text = text_of(name)
    wrong = {" ".join(words): told for words in command_lines(text) if (told := parse(words))}
    assert not wrong
    for span in re.findall(r"`twjax ([a-z][^`\n]*)`", text):
        words = span.split()
        parser = parser_of(words)
        assert parser is not None, f"no command twjax {span}"
        known = command_pages.options(parser) | {"--debug"}
        unknown = {w.partition("=")[0] for w in words if w.startswith("--")} - known
        assert not unknown, f"twjax {span}: no {unknown}"


def test_stale_command_lines_are_seen():
    page = (
        "```sh\ntwjax train a.gin --steps 3   # no such option\ntwjax eval run \\\n  --rows x\n```"
    )
    first, second = command_lines(page)
    assert first == ["train", "a.gin", "--steps", "3"] and "unrecognized" in parse(first)
    assert "--rows" in parse(second)
    assert not parse(["plan", "a.gin", "--topology", "v5p-8", "--set", "Run.steps = 1"])


@pytest.mark.parametrize("name", WRITTEN)
def test_settings_that_pages_name_exist(name):
    wrong = {
        f"{cls}.{field}"
        for cls, field in re.findall(r"\b([A-Z]\w+)\.([a-z]\w*)\b", text_of(name))
        if cls in CLASSES and not hasattr(CLASSES[cls], field)
        and field not in CLASSES[cls].__dataclass_fields__
    }  # fmt: skip
    assert not wrong


@pytest.mark.parametrize("name", WRITTEN)
def test_bindings_in_blocks_name_classes(name):
    for info, body in blocks(text_of(name)):
        if info.split(" ")[0] in ("", "gin"):
            bound = re.findall(r"^(?:[\w/]+/)?([A-Z]\w+)\.([a-z]\w*) = ", body, re.M)
            assert not {cls for cls, _ in bound} - CLASSES.keys()
            referred = set(re.findall(r"@(?:\w+/)?(\w+)\(\)", body))
            assert not referred - CLASSES.keys()


@pytest.mark.parametrize("name", ["docs/tutorial.md", "docs/tutorial.zh-TW.md"])
def test_the_tutorial_shows_the_files_that_it_uses(name):
    shown = dict(re.findall(r'^```gin title="([^"]+)"\n(.*?)^```$', text_of(name), re.M | re.S))
    assert len(shown) >= 2
    for path, body in shown.items():
        assert (tiny.REPO / path).read_text(encoding="utf-8") == body, path


def test_the_tutorial_s_configurations_load(tmp_path):
    folder = tiny.REPO / "configs" / "tutorial"
    classes = (*registry.STEPS, Source)
    corpus = config.load(pipeline.Corpus, [folder / "corpus.gin"], classes=classes).value
    assert all(list(tiny.REPO.glob(each.path)) for each in corpus.all_sources())
    vocabulary = config.load(Vocabulary, [folder / "vocabulary.gin"]).value
    base = config.load(Run, [folder / "base.gin"]).value
    assert base.data.vocabulary == vocabulary.output
    # The model is imported on the way.
    imported = tmp_path / "model.gin"
    imported.write_text((tiny.REPO / "configs/models/quickstart.gin").read_text())
    text = (folder / "taiwan.gin").read_text()
    assert "include 'build/tutorial/model/model.gin'" in text
    changed = tmp_path / "taiwan.gin"
    changed.write_text(text.replace("build/tutorial/model/model.gin", str(imported)))
    run = config.load(Run, [changed]).value
    assert run.data.corpora["taiwan"] == corpus.output
    assert run.model.vocab_size > base.model.vocab_size and run.budget is not None


@pytest.mark.parametrize("name", TAIWAN)
def test_taiwan_s_pages_have_taiwan_s_words(name):
    text = text_of(name)
    # Code and output are quoted; a quoted word is given on purpose, in 「」.
    prose = re.sub(r"```.*?^```$|`[^`\n]*`|「[^「」\n]{1,8}」", "", text, flags=re.M | re.S)
    found = {each.word for each in usage.load().find([prose])[0]}
    assert not found
    assert not re.search(r"[\u4e00-\u9fff][,;:?!](?=[\u4e00-\u9fff\s])", prose)


def within_a_sentence(text: str) -> list[str]:
    """Returns the ends of lines of a page's prose behind which a browser shows a blank."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    wide, marks = r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]", r"[*_`\[\]()]*"
    return re.findall(rf".{{0,9}}{wide}{marks}(?=\n[ >]*{marks}{wide})", prose)


@pytest.mark.parametrize("name", TAIWAN)
def test_no_line_of_taiwan_s_pages_ends_within_a_sentence(name):
    assert not within_a_sentence(text_of(name))


def test_a_line_that_ends_within_a_sentence_is_seen():
    page = (
        "# 一\n\n一行\n兩行\n\n- 一，\n  **二**\n- 三 a\n四\n\n```\n一\n二\n```\n| 五 |\n| 六 |\n"
    )
    assert within_a_sentence(page) == ["一行", "- 一，"]


@pytest.mark.parametrize("name", TAIWAN)
@pytest.mark.parametrize("other", ["重播", "詞元", "詞表", "評估", "分詞器", "標記化"])
def test_taiwan_s_pages_call_a_thing_by_one_name(name, other):
    # 複習, token, 詞彙, 評測, 斷詞器: as the model card does.
    assert other not in text_of(name)


def test_both_readmes_have_the_same_commands():
    pages = [set(map(tuple, command_lines(text_of(n)))) for n in ("README.md", "README.zh-TW.md")]
    assert pages[0] == pages[1] and len(pages[0]) > 10
    bindings = [
        re.findall(r"^ *([@\w/.]+ = [^#\n]*[^#\s])", text_of(n), re.M)
        for n in ("README.md", "README.zh-TW.md")
    ]
    assert bindings[0] == bindings[1] and len(bindings[0]) > 8


def test_the_reference_has_every_command_class_and_file():
    commands = command_pages.render()
    for name in ("twjax-train", "twjax-corpus-build", "twjax-convert-to-hf"):
        assert f"{{ #{name} }}" in commands
    assert "--branch-from RUN@STEP" in commands
    run = class_pages.run_page()
    assert "| `peak` | <code>float &#124; None</code> | <code>None</code> |" in run
    assert "| `steps` | <code>int</code> | required |" in run
    for name in CLASSES:
        assert f"{{ #{name} }}" in run + class_pages.corpus_page()
    configs = config_pages.render()
    for path in (tiny.REPO / "configs").rglob("*.gin"):
        assert f"`{path.relative_to(tiny.REPO).as_posix()}`" in configs


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="no mkdocs-material")
def test_the_site_builds_and_works_from_the_disk(tmp_path):
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=tiny.REPO, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {"index.html", "tutorial.zh-TW.html", "reference/api/training.html"} <= pages
    for page in pages:
        html = (site / page).read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|link|iframe)[^>]*(?:src|href)="(https?:[^"]*)"', html)
        assert not loaded, page
    assert '<html lang="zh-Hant-TW"' in (site / "tutorial.zh-TW.html").read_text(encoding="utf-8")
    if browser.needed.args[0]:
        return
    # What a page loads lies in the site; in light and dark, on a phone and on a desk.
    with browser.Tab(tmp_path / "tab") as tab:
        for page in ("index.html", "tutorial.zh-TW.html", "reference/configuration.html"):
            papers = []
            for width, dark in ((390, False), (390, True), (1280, False)):
                tab.open(site / page, width=width, dark=dark)
                assert tab.run("document.documentElement.scrollWidth") <= width, page
                papers.append(tab.run("getComputedStyle(document.body).backgroundColor"))
            assert papers[0] == papers[2] != papers[1]
        assert tab.said == []
        assert not [url for url in tab.asked if not url.startswith((site.as_uri(), "about:"))]
    # No name can be looked up: whatever a page asked a server for would be an error.
    closed = "--host-resolver-rules=MAP * ~NOTFOUND"
    for word, expected in (("replay", "keeping.html"), ("遺忘預算", "tutorial.zh-TW.html")):
        (site / "ask.html").write_text(f"<script>location = 'index.html?q={word}'</script>")
        found = browser.dump(site / "ask.html", tmp_path / "user", closed)
        # Where a result leads, what was sought is marked: "?h=" says so.
        assert f"{expected}?h=" in found
