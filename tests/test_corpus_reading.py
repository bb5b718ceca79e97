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

from tests.corpus_reading import read_source, seen
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
