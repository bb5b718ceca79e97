"""Each cleaning step against an independent reference or a property."""

import gzip
import json
import os
import pathlib
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.conversion.convert import ConvertSimplified
from twjax.corpus.document import Document
from twjax.corpus.duplicates.dedup import ExactDedup
from twjax.corpus.text.length import MinLength
from twjax.corpus.text.normalize import NormalizeText
from twjax.corpus.text.spans import protected
from twjax.corpus.variety import script

REPO = pathlib.Path(__file__).parent.parent
TEXTS = REPO / "configs" / "corpora" / "texts"


def make(text: str, id: str = "x", lang: str = "zh-TW") -> Document:
    return Document(id=id, text=text, source="s", license="l", lang=lang)


def embedded(name: str, every: int = 1) -> list[Document]:
    with gzip.open(TEXTS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file][::every]
    return [make(r["text"], r["id"], r["lang"]) for r in records]


# Characters that the step is about, among all others.
SPECIAL = "\r\n\v\f\x85\u2028\u200b\u200c\u200d\u2060\ufeff\xad\u0301\u0323\x07\t\u3000"
LETTERS = "e漢豈\uf900ﾊﾞ゙か１Ａ，（）：； 한ᄒ"
TRICKY = st.sampled_from(list(SPECIAL + LETTERS)) | st.characters(exclude_categories=["Cs"])


@settings(max_examples=300, deadline=None)
@given(st.text(TRICKY, max_size=40), st.sampled_from(["keep", "fold"]))
def test_normalizing_twice_changes_nothing_more(text, width):
    step = NormalizeText(width=width)
    once, _ = step.normalize(text)
    again, counts = step.normalize(once)
    assert again == once and counts == {}
    assert unicodedata.is_normalized("NFC", once)
    assert not set(once) & set("\r\v\f\x85\u2028\u200b\ufeff\0\x1b")


def test_what_normalizing_changes_and_leaves():
    text = (
        "第１條\r\n　「全形」，（）：；！\u200b中\ufeff文\x07 e\u0301 "
        "👨\u200d👩 字\u200d字\tﾊﾞ\u2028完"
    )
    outcome = NormalizeText().apply([make(text)])
    assert outcome.kept[0].text == ("第１條\n　「全形」，（）：；！中文 é 👨\u200d👩 字字\tﾊﾞ\n完")
    assert outcome.changed == {"line ends": 2, "zero width": 2, "controls": 1, "joiners": 1,
                               "composed documents": 1, "documents": 1}  # fmt: skip
    folded = NormalizeText(width="fold").apply([make("第１２條　Ａｂ，（ﾊﾞ）")]).kept[0].text
    assert folded == "第12條 Ab，（バ）"


def test_traditional_texts_are_left_alone():
    documents = [d for name in ("tw_laws", "tw_articles", "tw_transcripts", "tw_drcd")
                 for d in embedded(name, 3)]  # fmt: skip
    outcome = ConvertSimplified().apply(documents)
    assert outcome.kept == documents
    assert outcome.changed["documents"] == 0


@pytest.mark.slow
def test_simplified_texts_become_what_opencc_makes_of_them(tmp_path):
    import opencc

    # Code and addresses stay as they are, so paragraphs with any aren't OpenCC's alone.
    paragraphs = [p for d in embedded("cn_general", 4) for p in d.text.split("\n\n")]
    plain = [p for p in paragraphs if script.count(p).simplified > 20 and not protected(p)]
    documents = [make(text, str(n), "zh-CN") for n, text in enumerate(plain[:40])]
    assert len(documents) > 20
    step = ConvertSimplified(config="s2twp", overlay="none")
    outcome = step.apply(documents)
    assert outcome.changed["documents"] == len(documents)
    # OpenCC's own command, from the same wheel.
    command = pathlib.Path(opencc.__file__).parent / "clib" / "bin" / "opencc"
    config = command.parent.parent / "share" / "opencc" / "s2twp.json"
    for before, after in zip(documents, outcome.kept, strict=True):
        (tmp_path / "in").write_text(before.text, encoding="utf-8")
        subprocess.run([command, "-c", config, "-i", tmp_path / "in", "-o", tmp_path / "out"],
                       check=True)  # fmt: skip
        assert after.text == (tmp_path / "out").read_text(encoding="utf-8")
        assert after.lang == "zh-TW"
        assert after.meta["converted"] == f"s2twp {opencc.__version__}"
        assert after.meta["converted_from"] == "zh-CN"
    again = step.apply(outcome.kept)
    assert again.kept == outcome.kept


@pytest.mark.parametrize(
    "text, verdict",
    [
        ("这是中国的计算机软件，运行得很快。", "simplified"),
        ("這是臺灣的電腦軟體，執行得很快。", "traditional"),
        ("秘書在床邊，峰群里台面后干了云", "undecided"),  # Taiwan's own forms prove nothing.
        ("臺灣的恒春鎮，會議與學校", "traditional"),  # One Simplified form in a name.
        ("会", "undecided"),
        ("", "undecided"),
        ("plain English", "undecided"),
        ("国会は学校を訪れ、経済について説明を聞いた。", "japanese"),
        ("這個網頁說：「这个网页说」", "mixed"),
    ],
)
def test_script_of_short_texts(text, verdict):
    assert script.count(text).script(0.8) == verdict


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_counting_is_per_character(text):
    total = script.count(text)
    each = [script.count(character) for character in text]
    for field in ("han", "simplified", "traditional", "kana"):
        assert getattr(total, field) == sum(getattr(c, field) for c in each)


def test_the_namesake_of_opencc_is_refused(tmp_path):
    # The layout of opencc-python-reimplemented: a pure Python package of the same import name.
    (tmp_path / "opencc").mkdir()
    (tmp_path / "opencc" / "__init__.py").write_text(
        "class OpenCC:\n    def __init__(self, conversion=None): pass\n"
        "    def convert(self, string): return string\n"
    )
    code = ("from twjax.corpus.conversion.convert import ConvertSimplified\n"
            "ConvertSimplified().versions()")  # fmt: skip
    path = os.pathsep.join([str(tmp_path), str(REPO)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0
    assert "opencc-python-reimplemented" in last and str(tmp_path) in last and "pip" in last


def test_the_namesake_beside_the_official_package_is_refused(tmp_path):
    # pip's record of the namesake: whichever was installed last has overwritten files.
    info = tmp_path / "opencc_python_reimplemented-0.1.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: opencc-python-reimplemented\nVersion: 0.1.7\n")
    code = "from twjax.corpus.conversion import opencc; opencc.version()"
    path = os.pathsep.join([str(tmp_path), str(REPO)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    assert done.returncode != 0 and "opencc-python-reimplemented" in done.stderr


def test_an_unknown_conversion_is_named():
    with pytest.raises(ValueError, match=r"s2xx.*s2twp"):
        ConvertSimplified(config="s2xx").apply([make("x")])


@settings(deadline=None)
@given(st.lists(st.sampled_from(["甲 乙", "甲乙", "甲\n乙", "Ａ", "A", "a", "丙"]), max_size=30))
def test_exact_dedup_keeps_the_first_of_each(texts):
    documents = [make(text, str(i)) for i, text in enumerate(texts)]
    outcome = ExactDedup().apply(documents)
    first: dict[str, str] = {}
    for item in documents:
        form = "".join(unicodedata.normalize("NFKC", item.text).split())
        first.setdefault(form, item.id)
    assert [d.id for d in outcome.kept] == list(first.values())
    for rejection in outcome.rejected:
        form = "".join(unicodedata.normalize("NFKC", rejection.document.text).split())
        assert rejection.value == first[form] and rejection.reason == "exact duplicate"
    exact = ExactDedup(form="exact").apply(documents)
    assert [d.text for d in exact.kept] == list(dict.fromkeys(texts))


def test_keys_do_not_depend_on_batches():
    documents = embedded("tw_laws", 40)
    step = ExactDedup()
    parts = [step.map(0, documents[:5], None), step.map(0, documents[5:], None)]
    parts[1]["document"] += 5
    np.testing.assert_array_equal(np.concatenate(parts), step.map(0, documents, None))


def test_min_length_counts_no_white_space():
    outcome = MinLength(characters=3).apply([make("一二三"), make(" 一　二 \n"), make("")])
    assert [d.text for d in outcome.kept] == ["一二三"]
    assert [(r.reason, r.value) for r in outcome.rejected] == [
        ("too short", "2"),
        ("too short", "0"),
    ]
