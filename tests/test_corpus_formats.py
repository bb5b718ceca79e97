"""Each kind of file becomes the documents that it holds."""

import bz2
import datetime
import gzip
import json
import pathlib

import pytest
import zstandard

from tests.corpus_reading import read_source, seen

SAMPLES = pathlib.Path(__file__).parent / "data" / "reading"


def test_text_by_file_and_by_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("第一行\r\n\r\n第二行\r\n".encode("cp950"))
    ((only,), rejected) = read_source(path, license="CC0-1.0", lang="zh-TW", source="s")
    assert (only.id, only.text) == ("a.txt", "第一行\n\n第二行\n") and not rejected
    assert (only.license, only.lang, only.source) == ("CC0-1.0", "zh-TW", "s")
    assert only.meta == {"encoding": "big5"}
    kept, rejected = read_source(path, unit="unit")
    assert [(d.id, d.text) for d in kept] == [("a.txt:1", "第一行"), ("a.txt:3", "第二行")]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_lines_of_wide_text(tmp_path, codec):
    path = tmp_path / "a.jsonl"
    records = [{"id": str(i), "text": f"第{i}篇 \u4e0a 字"} for i in range(500)]
    path.write_bytes("\r\n".join(map(json.dumps, records)).encode(codec))
    kept, rejected = read_source(path, piece_bytes=1000)
    assert [d.text for d in kept] == [r["text"] for r in records] and not rejected
    path.write_bytes(path.read_bytes()[:-3])
    kept, rejected = read_source(path, piece_bytes=1000)
    assert len(kept) == 499 and seen(rejected)[0][1] == "500"


def test_bz2_and_zst_and_gz_of_every_kind_of_file(tmp_path):
    compress = {".gz": gzip.compress, ".bz2": bz2.compress,
                ".zst": zstandard.ZstdCompressor().compress}  # fmt: skip
    for suffix, function in compress.items():
        (tmp_path / f"a.txt{suffix}").write_bytes(function("文字".encode()))
        (tmp_path / f"b.jsonl{suffix}").write_bytes(function(b'{"text": "x"}'))
    kept, rejected = read_source(tmp_path)
    assert len(kept) == 6 and not rejected
    (tmp_path / "a.txt.bz2").write_bytes(bz2.compress(b"x" * 1000)[:-5])
    _, rejected = read_source(tmp_path / "a.txt.bz2")
    assert [r.reason for r in rejected][-1] == "damaged file"


def test_html_and_markdown_files():
    ((page,), rejected) = read_source(SAMPLES / "moztw-gathering.big5.html")
    assert not rejected and page.meta["encoding"] == "big5" and "MozTW" in page.meta["title"]
    ((page,), rejected) = read_source(SAMPLES / "moztw-docs-big5.html")
    assert page.lang == "zh-TW" and "encoding" not in page.meta


def test_markdown_keeps_structure_and_moves_its_head_to_meta(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("---\ntitle: 山\ndate: 2020-01-02\nlang: zh_tw\n---\n\n# 山\n\n- 一\n", "utf-8")
    ((only,), rejected) = read_source(path)
    assert only.text == "# 山\n\n- 一" and only.lang == "zh-TW" and not rejected
    assert only.created == datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
    assert only.meta["title"] == "山"


def answer(body: bytes, url: str = "http://a.tw/", kind: str = "response", http: str = "") -> bytes:
    head = http or "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=big5\r\n"
    content = head.encode() + b"\r\n" + body
    fields = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\n"
        "WARC-Date: 2020-01-02T03:04:05Z\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return fields.encode() + content + b"\r\n\r\n"


def crawl() -> list[bytes]:
    page = "<html><title>頁</title><p>第{}頁的內容，有一些文字。</p></html>"
    pages = [page.format(i).encode("cp950") for i in range(40)]
    records = [answer(body, f"http://a.tw/{i}") for i, body in enumerate(pages)]
    records[3] = answer(b"", kind="request")
    records[7] = answer(b"x", http="HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n")
    records[9] = answer(b"x", http="HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n")
    zipped = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n"
    records[11] = answer(gzip.compress(pages[11], mtime=0), http=zipped)
    return records


@pytest.mark.parametrize("piece_bytes", [1, 700, 1 << 20])
@pytest.mark.parametrize("zipped", [False, True])
def test_warc(tmp_path, piece_bytes, zipped):
    path = tmp_path / ("a.warc.gz" if zipped else "a.warc")
    records = crawl()
    path.write_bytes(b"".join(gzip.compress(r) if zipped else r for r in records))
    kept, rejected = read_source(path, piece_bytes)
    assert [d.id for d in kept] == [f"{path.name}:{i + 1}" for i in range(40) if i not in (3, 7, 9)]
    assert all(d.text == f"第{int(d.id.split(':')[1]) - 1}頁的內容，有一些文字。" for d in kept)
    assert kept[0].url == "http://a.tw/0" and kept[0].meta["fetched"] == "2020-01-02T03:04:05Z"
    assert [(line, reason) for _, line, reason in seen(rejected)] == [
        ("8", "HTTP status"), ("10", "not a page")]  # fmt: skip


def test_a_broken_warc_loses_only_what_is_broken(tmp_path):
    path = tmp_path / "a.warc"
    records = crawl()
    records[20] = records[20].replace(b"Content-Length", b"Content-Lenght")
    records[25] = b"\x01garbage" * 50 + b"\r\n" + records[25]
    path.write_bytes(b"".join(records)[:-100])
    kept, rejected = read_source(path)
    assert len(kept) == 37 - 2
    assert [reason for _, _, reason in seen(rejected)].count("broken WARC record") == 3
    path = tmp_path / "b.warc.gz"
    path.write_bytes(b"".join(map(gzip.compress, records))[:-100])
    kept, rejected = read_source(path)
    assert len(kept) >= 34 and seen(rejected)[-1][2] == "damaged file"


def test_po(tmp_path):
    ((only,), rejected) = read_source(SAMPLES / "vim.sjis.po")
    assert not rejected and only.lang == "mul"
    assert only.meta["languages"] == "en ja" and only.meta["encoding"] == "shift_jis"
    assert "ERROR:\nエラー:" in only.text
    path = tmp_path / "a.po"
    path.write_text(
        'msgid ""\nmsgstr "Language: zh_TW\\n"\n\nmsgid "one\\n"\n"two"\nmsgstr "一\\n二"\n\n'
        '#, fuzzy\nmsgid "x"\nmsgstr "疑"\n\nmsgid "y"\nmsgstr ""\n\n'
        'msgctxt "c"\nmsgid "%d file"\nmsgid_plural "%d files"\nmsgstr[0] "%d 個檔案"\n'
        '#~ msgid "old"\n#~ msgstr "舊"\n', "utf-8")  # fmt: skip
    ((only,), rejected) = read_source(path)
    assert only.text == "one\ntwo\n一\n二\n\n%d files\n%d 個檔案" and not rejected
    assert only.meta == {"languages": "en zh-TW", "units": "2", "untranslated": "1", "fuzzy": "1"}
    kept, rejected = read_source(path, unit="unit")
    assert [d.id for d in kept] == ["a.po:4", "a.po:15"]
    assert seen(rejected) == [("a.po", "9", "no translation"), ("a.po", "12", "no translation")]


def test_tmx_csv_and_tsv_bitext(tmp_path):
    units = "".join(
        f'<tu><tuv xml:lang="en"><seg>word {i}</seg></tuv><tuv xml:lang="zh-tw"><seg>詞<b/>{i}'
        "</seg></tuv></tu>\n" for i in range(100)
    )  # fmt: skip
    bad = "<tu><tuv xml:lang='en'><seg>&undefined;</seg></tuv></tu>\n"
    (tmp_path / "a.tmx").write_text(
        f"<tmx version='1.4'><body>\n{units}{bad}</body></tmx>", "utf-8"
    )
    kept, rejected = read_source(tmp_path / "a.tmx", piece_bytes=1000, unit="unit")
    assert [d.text for d in kept] == [f"word {i}\n詞{i}" for i in range(100)]
    assert seen(rejected) == [("a.tmx", "102", "broken translation unit")]
    (tmp_path / "a.csv").write_text(
        'en,note,zh_TW\n"a, ""b""",n,甲\nc,n,\n"d\ne",n,丁\nf\n', "utf-8"
    )
    kept, rejected = read_source(tmp_path / "a.csv")
    assert [d.text for d in kept] == ['a, "b"\n甲\n\nd\ne\n丁']
    assert kept[0].meta == {"languages": "en zh-TW", "units": "2", "untranslated": "1"}
    assert seen(rejected) == [("a.csv", "6", "wrong number of cells")]
    (tmp_path / "a.tsv").write_text("zh_TW\ten\n" + "甲\ta\n" * 50, "utf-8")
    kept, _ = read_source(tmp_path / "a.tsv", piece_bytes=20, sides=("en", "zh_TW"), units=10)
    assert "\n\n".join(d.text for d in kept) == "\n\n".join(["a\n甲"] * 50)
    (tmp_path / "b.csv").write_text("id,text,label\n1,甲,x\n2,,y\n", "utf-8")
    kept, rejected = read_source(tmp_path / "b.csv", piece_bytes=8)
    assert [(d.id, d.text, d.meta) for d in kept] == [("1", "甲", {"label": "x"})]
    assert seen(rejected) == [("b.csv", "3", "no text")]


def test_records_of_pairs_and_templates(tmp_path):
    path = tmp_path / "a.jsonl"
    record = {"lang": "x", "pairs": [{"en": "a", "zh_tw": "甲", "no": 1}, {"en": "b", "zh_tw": ""}]}
    path.write_text(json.dumps(record) + "\n" + json.dumps({"en": "c", "zh_tw": "丙"}), "utf-8")
    kept, rejected = read_source(path, sides=("zh-TW", "en"))
    assert [d.text for d in kept] == ["甲\na", "丙\nc"] and not rejected
    assert kept[0].meta == {"languages": "zh-TW en", "units": "1", "untranslated": "1"}
    kept, rejected = read_source(path, text="{en} = {zh_tw}")
    assert [d.text for d in kept] == ["c = 丙"] and seen(rejected) == [("a.jsonl", "1", "no text")]


def test_records_that_are_units_are_grouped(tmp_path):
    path = tmp_path / "a.jsonl"
    units = [{"en": f"e{i}", "zh_tw": f"中{i}", "license": "a"} for i in range(5)]
    lines = [*units, {**units[0], "license": "b", "url": "u"}, {"text": "whole"}, units[1]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n", "utf-8")
    kept, rejected = read_source(path, sides=("en", "zh-TW"), units=3)
    assert [d.text.replace("\n\n", "|").replace("\n", " ") for d in kept] == [
        "e0 中0|e1 中1|e2 中2", "e3 中3|e4 中4", "e0 中0", "whole", "e1 中1"
    ]  # fmt: skip
    assert [(d.id, d.license, d.url) for d in kept[:3]] == [
        ("a.jsonl:1", "a", None), ("a.jsonl:4", "a", None), ("a.jsonl:6", "b", "u")
    ]  # fmt: skip
    assert seen(rejected) == [("a.jsonl", "9", "not JSON")]
