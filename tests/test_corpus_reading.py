"""Documents survive every file format, and nothing that can't be read disappears."""

import bz2
import datetime
import gzip
import hashlib
import io
import json
import pathlib
import tracemalloc
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus import document
from twjax.corpus.document import Document
from twjax.corpus.sources import formats, places, reading, streams

SAMPLES = pathlib.Path(__file__).parent / "data" / "reading"

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
DOCUMENTS = st.builds(
    Document,
    id=TEXT,
    text=TEXT,
    source=TEXT,
    license=TEXT,
    lang=st.sampled_from(["zh-TW", "zh-CN", "en"]),
    url=st.none() | TEXT,
    created=st.none()
    | st.datetimes(
        datetime.datetime(1900, 1, 1),
        datetime.datetime(2100, 1, 1),
        timezones=st.just(datetime.UTC),
    ),
    meta=st.dictionaries(
        TEXT.filter(lambda k: k not in ("id", "text", "source", "created")), TEXT, max_size=3
    ),
)


def read_all(path: pathlib.Path, piece_bytes: int = 1 << 20):
    kept, rejected = [], []
    for piece in reading.pieces(path.name, path, piece_bytes):
        documents, rejections = reading.read(piece)
        kept += documents
        rejected += rejections
    return kept, rejected


@settings(max_examples=40, deadline=None)
@given(st.lists(DOCUMENTS, min_size=1, max_size=6), st.sampled_from(["", ".gz", ".zst"]))
def test_json_lines_and_parquet_round_trip(tmp_path_factory, documents, suffix):
    folder = tmp_path_factory.mktemp("round_trip")
    lines, table = folder / f"a.jsonl{suffix}", folder / "a.parquet"
    document.write_jsonl(lines, documents)
    document.write_parquet(table, documents)
    assert read_all(lines, 200) == (documents, [])
    assert list(document.read_parquet(table)) == documents
    assert read_all(table) == (documents, [])


def test_writers_are_deterministic(tmp_path):
    documents = [Document(id=str(i), text="字" * i, source="s", license="l", lang="zh-TW")
                 for i in range(1, 3000)]  # fmt: skip
    for name in ("a.jsonl.gz", "a.jsonl.zst", "a.parquet"):
        write = document.write_parquet if name.endswith("parquet") else document.write_jsonl
        write(tmp_path / name, documents)
        first = (tmp_path / name).read_bytes()
        (tmp_path / "other").mkdir(exist_ok=True)
        write(tmp_path / "other" / name, documents)
        assert (tmp_path / "other" / name).read_bytes() == first


def test_fields_beyond_a_document_go_to_meta(tmp_path):
    record = {
        "id": 7, "text": "x", "url_or_path": "u", "label": ["a", "b"], "n": 3, "none": None,
        "meta": {"kind": "law", "deep": {"k": 1}}, "created": "2020-01-02T03:04:05+08:00",
    }  # fmt: skip
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    ((only,), rejected) = read_all(tmp_path / "a.jsonl")
    assert not rejected
    assert (only.id, only.url, only.source, only.license, only.lang) == (
        "7", "u", "a.jsonl", "unknown", "und")  # fmt: skip
    assert only.meta == {"kind": "law", "deep": '{"k": 1}', "label": '["a", "b"]', "n": "3"}
    assert only.created == datetime.datetime(2020, 1, 1, 19, 4, 5, tzinfo=datetime.UTC)


def test_every_broken_line_is_quarantined_with_its_place(tmp_path):
    lines = [
        b'{"id": "a", "text": "good"}',
        b'{"id": "b", "text": ',
        b'{"id": "c"}',
        b'{"id": "d", "text": ""}',
        b'["text"]',
        b'{"id": "e", "text": 5}',
        b'{"id": "f", "text": "\\u0000"}',
        b'{"id": "g", "te\0xt": "x"}',
        b'{"id": "h", "text": "\\ud800"}',
        b'{"id": "i", "text": "\xff"}',
        b"   ",
        b'{"id": "z", "text": "last, without a line end"}',
    ]
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(lines))
    kept, rejected = read_all(path)
    assert [d.id for d in kept] == ["a", "z"]
    assert [(r.document.meta["line"], r.reason) for r in rejected] == [
        ("2", "not JSON"), ("3", "no text"), ("4", "no text"), ("5", "not an object"),
        ("6", "text is no string"), ("7", "NUL character"), ("8", "NUL bytes"),
        ("9", "lone surrogate"), ("10", "not UTF-8"),
    ]  # fmt: skip
    assert {r.document.meta["file"] for r in rejected} == {"in.jsonl"}
    # What is quarantined can be written, whatever was in it.
    document.write_table(tmp_path / "r.parquet", document.rejected_table(rejected))
    assert pq.read_table(tmp_path / "r.parquet").column("reason").to_pylist()[0] == "not JSON"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_cut_file_gives_what_it_holds_and_says_so(tmp_path, suffix):
    texts = [f"{i} {i * 2654435761 % 2**32}" for i in range(20_000)]
    documents = [
        Document(id=str(i), text=text, source="s", license="l", lang="en")
        for i, text in enumerate(texts)
    ]
    path = tmp_path / f"a.jsonl{suffix}"
    document.write_jsonl(path, documents)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    kept, rejected = read_all(path, 10_000)
    assert kept == documents[: len(kept)]
    # zstd decodes whole blocks of 128 kB of text, gzip nearly all bytes.
    assert len(kept) > 5_000
    assert rejected[-1].reason == "damaged file"
    assert int(rejected[-1].document.meta["line"]) in (len(kept) + 1, len(kept) + 2)


def test_a_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    lines = [json.dumps({"text": f"{i}"}) for i in range(2000)]
    data = bytearray(gzip.compress("\n".join(lines).encode(), mtime=0))
    data[-6] ^= 1  # The checksum at the end.
    path.write_bytes(bytes(data))
    _, rejected = read_all(path)
    assert [r.reason for r in rejected][-1] == "damaged file"


@pytest.mark.parametrize("content", [b"", b"not compressed"])
def test_a_file_that_is_no_gzip_is_damaged(tmp_path, content):
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    kept, rejected = read_all(tmp_path / "a.jsonl.gz")
    assert not kept and [r.reason for r in rejected] == ["damaged file"]


def test_streams_end_to_end_are_one_file(tmp_path):
    one, two = b'{"id": "1", "text": "x"}\n', b'{"id": "2", "text": "y"}\n'
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(one) + gzip.compress(two) + b"\0" * 512)
    compress = zstandard.ZstdCompressor().compress
    (tmp_path / "a.jsonl.zst").write_bytes(compress(one) + compress(two))
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        kept, rejected = read_all(tmp_path / name)
        assert [d.id for d in kept] == ["1", "2"] and not rejected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 200))
def test_pieces_hold_all_lines_with_their_numbers(tmp_path_factory, lines, piece_bytes):
    content = b"\n".join(lines)
    path = tmp_path_factory.mktemp("pieces") / "a.jsonl"
    path.write_bytes(content)
    pieces = list(reading.pieces("a", path, piece_bytes))
    assert b"".join(p.data or b"" for p in pieces) == content
    assert sum(p.consumed for p in pieces) == (len(content) if content else 0)
    for piece in pieces:
        before = content[: sum(len(p.data or b"") for p in pieces[: pieces.index(piece)])]
        assert piece.first_line == before.count(b"\n") + 1


def test_a_broken_parquet_file_is_quarantined(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 nonsense PAR1")
    kept, rejected = read_all(path)
    assert not kept and [r.reason for r in rejected] == ["damaged file"]
    pq.write_table(pa.table({"text": ["x", None, "y"]}), path)
    kept, rejected = read_all(path)
    assert [d.text for d in kept] == ["x", "y"]
    assert [(r.reason, r.document.meta["line"]) for r in rejected] == [("no text", "2")]


def read_source(path, piece_bytes: int = 1 << 20, **fields):
    """Returns documents and rejections of an input, as `formats.Source` describes it."""
    kept, rejected = [], []
    name = path.name if isinstance(path, pathlib.Path) else path
    for piece in reading.pieces(name, path, piece_bytes, formats.Source(**fields)):
        documents, rejections = reading.read(piece)
        kept += documents
        rejected += rejections
    return kept, rejected


def seen(rejected):
    return [(r.document.meta["file"], r.document.meta["line"], r.reason) for r in rejected]


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


def test_urls_globs_and_folders(tmp_path):
    import fsspec

    for name in ("x/a.txt", "x/b.jsonl", "x/deep/c.md", "x/.hidden/d.txt", "x/e.exe"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "t"}', "utf-8")
    kept, rejected = read_source(tmp_path / "x")
    assert [d.id for d in kept] == ["x/a.txt", "x/b.jsonl:1", "x/deep/c.md"]
    assert seen(rejected) == [("x/e.exe", "1", "unknown kind of file")]
    memory = fsspec.filesystem("memory")
    for name in ("b", "a"):
        memory.pipe(f"/reading/{name}.txt", name.encode())
    table = io.BytesIO()
    pq.write_table(pa.table({"text": ["x", "y"]}), table)
    memory.pipe("/reading/t.parquet", table.getvalue())
    found = places.expand("memory://reading/*.txt")
    assert [read_source(place)[0][0].text for place in found] == ["a", "b"]
    kept, rejected = read_source("memory://reading")
    assert [d.text for d in kept] == ["a", "b", "x", "y"] and not rejected
    assert places.sha256(found[0]) == hashlib.sha256(b"a").hexdigest()
    assert places.size("memory://reading") == 2 + len(table.getvalue())
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("one.txt", "一")
        file.writestr("two.txt", "二")
    found = places.expand(f"zip://*.txt::{tmp_path}/z.zip")
    assert [read_source(place)[0][0].text for place in found] == ["一", "二"]
    local = f"file://{tmp_path}/x/a.txt"
    assert read_source(local)[0][0].text == '{"text": "t"}'
    assert places.sha256(tmp_path / "x") != places.sha256(tmp_path)
    for missing in ("memory://reading/no.txt", str(tmp_path / "no.txt")):
        with pytest.raises(ValueError, match=r"no file|nothing"):
            read_source(missing)
    with pytest.raises(ValueError, match="nothing matches"):
        places.expand(str(tmp_path / "*.none"))


def test_a_long_line_is_passed_over_in_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "RECORD_BYTES", 1 << 20)
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"id": "a", "text": "x"}\n{"text": "')
        for _ in range(50):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"id": "z", "text": "y"}\n{"id": "broken\n')
    tracemalloc.start()
    kept, rejected = read_source(path, 1 << 16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [d.id for d in kept] == ["a", "z"]
    assert seen(rejected) == [("a.jsonl", "2", "record too long"), ("a.jsonl", "4", "not JSON")]
    assert rejected[0].value.startswith(f"{(50 << 20) + 13} bytes")
    assert peak < 20 << 20
    (tmp_path / "b.txt").write_bytes(b"x\n" * (1 << 20))
    kept, rejected = read_source(tmp_path / "b.txt")
    assert not kept and seen(rejected) == [("b.txt", "1", "record too long")]


def test_empty_files_are_seen(tmp_path):
    for name in ("a.jsonl", "b.txt", "c.html", "d.csv", "e.warc", "f.po", "g.md", "h.tmx"):
        (tmp_path / name).write_bytes(b"")
        kept, rejected = read_source(tmp_path / name)
        assert not kept and [r.reason for r in rejected] == ["damaged file"], name
        assert rejected[0].value == "the file is empty"


def test_a_source_can_stop_at_bad_input(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "x"}\nnot JSON\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:2: not JSON .* Source\.bad"):
        read_source(path, bad="stop")


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "doc"},
        {"unit": "x"},
        {"units": -1},
        {"sides": ("en",)},
        {"bad": "?"},
        {"text": "{a.b}"},
        {"extraction": ""},
    ],
)
def test_wrong_sources_are_refused(fields):
    with pytest.raises(ValueError, match=r"Source\."):
        formats.Source(**fields)


def test_an_unknown_kind_of_file_is_refused_by_name(tmp_path):
    (tmp_path / "a.exe").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.exe: unknown kind"):
        reading.check_format(tmp_path / "a.exe")
    reading.check_format(tmp_path)
    reading.check_format(tmp_path / "a.exe", formats.Source(kind="text"))


def test_large_row_groups_are_read_in_parts(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" * 20 for i in range(5000)]}), path)
    whole, _ = read_source(path)
    monkeypatch.setattr(reading, "_ROW_BYTES", 20_000)
    monkeypatch.setattr(reading, "_ROWS", 100)
    pieces = list(reading.pieces("a.parquet", path, 1))
    assert len(pieces) > 5
    assert [d for piece in pieces for d in reading.read(piece)[0]] == whole and len(whole) == 5000


KINDS = sorted(set(formats.SUFFIXES) - {".parquet"})
CHUNKS = st.sampled_from([
    b"{", b'{"text": "x"}', b"\n", b"\r\n\r\n", b"WARC/1.0\r\n", b"Content-Length: 3\r\n",
    b"WARC-Type: response\r\n", b"HTTP/1.1 200 OK\r\n", b"Content-Type: text/html\r\n", b"<tu>",
    b"</tu>", b"<tuv xml:lang='en'><seg>", b'msgid "a"\n', b'msgstr "b"\n', b'msgstr[9] ""\n',
    b"en,zh_TW\n", b"text\tid\n", b'"', b"---\n", b"\0", b"\xa4\xa4", b"\xff\xfe", b"\x1b[1m",
    b"\\x9", b"<p>", b"<!--", b"\x1b$B", "字".encode(),
]) | st.binary(max_size=12)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from(["", ".gz", ".bz2", ".zst"]), st.booleans(),
       st.lists(CHUNKS, max_size=25).map(b"".join), st.sampled_from(["file", "unit"]),
       st.integers(1, 60))  # fmt: skip
def test_no_bytes_crash_the_reader_or_get_lost(
    tmp_path_factory, kind, suffix, whole, content, unit, piece_bytes
):
    path = tmp_path_factory.mktemp("fuzz") / f"a{kind}{suffix}"
    compress = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress,
                ".zst": zstandard.ZstdCompressor().compress}[suffix]  # fmt: skip
    path.write_bytes(compress(content) if whole else content)
    pieces = list(reading.pieces("a", path, piece_bytes, formats.Source(unit=unit)))
    results = [reading.read(piece) for piece in pieces]
    assert results == [reading.read(piece) for piece in pieces]
    kept = [d for documents, _ in results for d in documents]
    rejected = [r for _, rejections in results for r in rejections]
    # All that was found can be written.
    document.to_table(kept)
    document.rejected_table(rejected)
    assert all(r.reason and r.document.meta["line"] for r in rejected)
    assert sum(piece.consumed for piece in pieces) <= path.stat().st_size
    if kind == ".jsonl" and not suffix and b"\0" not in content and content[:2] not in (
        b"\xff\xfe", b"\xfe\xff"):  # fmt: skip
        lines = [line for line in content.split(b"\n") if line.strip()]
        assert len(kept) + len(rejected) == max(len(lines), not content)
    if kind in (".txt", ".html", ".md") and not suffix and unit == "file":
        assert len(kept) + len(rejected) == 1
