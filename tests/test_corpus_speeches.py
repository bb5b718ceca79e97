"""Transcripts in Akoma Ntoso: SayIt's files and the standard's own form, whole or broken."""

from __future__ import annotations

import contextlib
import pathlib
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twjax.corpus.document import Unusable
from twjax.corpus.sources import formats, reading, speeches

SAMPLES = pathlib.Path(__file__).parent / "data" / "reading"


def read(path: pathlib.Path, **settings):
    source = formats.Source(path=str(path), **settings)
    reading.check_format(path, source)
    kept, rejected = [], []
    for piece in reading.pieces(path.name, path, 1 << 20, source):
        documents, rejections = reading.read(piece)
        kept += documents
        rejected += rejections
    return kept, rejected


@pytest.mark.parametrize(
    ("name", "title", "speakers", "start", "end"),
    [
        (
            "sayit-2017-06-22.an.xml",
            "2017-06-22 王小棣、楊斯亞來訪",
            "唐鳳; 王小棣; 楊斯亞; 簡Joke",
            "\n唐鳳：您好，我們會有文字紀錄，",
            "。",
        ),
        (
            "sayit-2018-09-14.an.xml",
            "2018-09-14 Interview with Mikey Leung",
            "Mikey Leung; Audrey Tang",
            "\nMikey Leung: Would you mind first introducing yourself?\nAudrey Tang: Hello, I’m",
            ".",
        ),
    ],
)
def test_transcripts_of_sayit(name, title, speakers, start, end):
    ((document,), rejected) = read(SAMPLES / name, license="CC0-1.0")
    assert not rejected and document.id == name and document.license == "CC0-1.0"
    assert document.meta == {"title": title, "speakers": speakers}
    assert document.text.startswith(title + start) and document.text.endswith(end)
    # Every speech is a line with its speaker, none is lost, and white space is none of the text's.
    root = ElementTree.parse(SAMPLES / name).getroot()
    said = [
        (speech.get("by", "")[1:], " ".join("".join(speech.itertext()).split()))
        for speech in root.iter("speech")
    ]
    lines = document.text.split("\n")[1:]
    assert len(lines) == len(said) > 60
    for (who, words), line in zip(said, lines, strict=True):
        assert line.startswith(who) and line.endswith(words)
        assert line[len(who) : -len(words)] in ("：", ": ")


STANDARD = """<?xml version="1.0" encoding="UTF-8"?>
<akomaNtoso xmlns="http://docs.oasis-open.org/legaldocml/ns/akn/3.0"><debate name="hansard"><meta>
<identification><FRBRWork><FRBRdate date="2024-05-20" name="debate"/></FRBRWork></identification>
<references><TLCPerson eId="wang" href="/x" showAs="王　小明"/></references></meta>
<preface><p>第1會期</p></preface>
<debateBody><debateSection name="a"><heading>質詢</heading>
<narrative><p>（主席<i>宣布</i>開會）</p></narrative>
<speech by="#wang"><p>第一段，<b>重點</b>。</p><p>第二段<br/>換行。</p></speech>
<question by="#li"><from>李委員：</from><p>為什麼？</p></question>
<answer by="#wang"><p><ul><li><p>甲。</p></li><li><p>乙。</p></li></ul></p></answer>
<speech by="#wang">沒有段落。</speech>
<debateSection><heading>其他</heading><speech by=""><p>誰？</p></speech></debateSection>
</debateSection></debateBody></debate></akomaNtoso>
"""


def test_the_forms_that_the_standard_allows(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(STANDARD, "utf-8")
    with pytest.raises(ValueError, match=r"a\.xml: unknown kind of file"):
        read(path)
    ((document,), rejected) = read(path, kind="akoma")
    assert not rejected and document.created and document.created.date().isoformat() == "2024-05-20"
    assert document.text == (
        "質詢\n（主席宣布開會）\n王 小明：第一段，重點。\n第二段換行。\n李委員：為什麼？\n"
        "王 小明：甲。乙。\n王 小明：沒有段落。\n其他\n誰？"
    )
    assert document.meta == {"title": "質詢", "speakers": "王 小明; 李委員"}


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (STANDARD[:-9], "broken XML"),
        ("<html><p>x</p></html>", "not a transcript"),
        ("<akomaNtoso><act><body><p>x</p></body></act></akomaNtoso>", "not a transcript"),
        ("<akomaNtoso><debate><debateBody/></debate></akomaNtoso>", "no text"),
        ("", "damaged file"),
    ],
)
def test_what_is_no_transcript_is_quarantined(tmp_path, xml, reason):
    path = tmp_path / "a.an.xml"
    path.write_text(xml, "utf-8")
    kept, rejected = read(path)
    assert not kept and [r.reason for r in rejected] == [reason]
    assert rejected[0].document.meta["file"] == "a.an.xml"


@given(st.text(max_size=80) | st.text('<>/="&;abp debatBody\n', max_size=80))
def test_no_text_raises_anything_but_unusable(text):
    for xml in (text, f"<akomaNtoso><debateBody>{text}</debateBody></akomaNtoso>"):
        with contextlib.suppress(Unusable):
            assert isinstance(speeches.transcript(xml)["text"], str)
