"""Bytes of any encoding become the text that they were, or are refused; nothing is guessed away."""

import pathlib
import random
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.document import Unusable
from twjax.corpus.sources import charsets, encodings

SAMPLES = pathlib.Path(__file__).parent / "data" / "reading"
TRADITIONAL = (
    "臺灣的氣候受季風影響，冬季東北風盛行，北部多雨而南部乾燥。夏季則有颱風帶來豪雨，"
    "山區容易發生土石流，居民應注意防範。圖書館週末開放到晚上九點，歡迎讀者借閱新書。"
)
SIMPLIFIED = (
    "今天的会议讨论了三个问题：首先是经费的来源，其次是人员的安排，最后是时间的选择。"
    "大家认为这些问题应该尽快解决，否则会影响后面的工作。"
)
JAPANESE = "今日は朝から雨が降っていたので、傘を持って出かけました。駅前の喫茶店でコーヒーを飲む。"
KOREAN = "오늘은 아침부터 비가 내려서 우산을 들고 나갔습니다. 역 앞의 찻집에서 커피를 마셨다."
FRENCH = "L'été dernier, nous avons été à la plage près de Bénodet où l'eau était déjà très chaude."
TEXTS = [
    (TRADITIONAL, "cp950", "big5"), (TRADITIONAL, "big5hkscs", "big5"),
    (TRADITIONAL, "gb18030", "gb18030"), (SIMPLIFIED, "gbk", "gb18030"),
    (SIMPLIFIED, "gb18030", "gb18030"), (JAPANESE, "cp932", "shift_jis"),
    (JAPANESE, "euc_jp", "euc-jp"), (KOREAN, "cp949", "euc-kr"),
    (FRENCH, "cp1252", "windows-1252"), (TRADITIONAL, "utf-16-le", "utf-16-le"),
    (SIMPLIFIED, "utf-16-be", "utf-16-be"), ("plain ASCII as UTF-16\n", "utf-16-le", "utf-16-le"),
    (TRADITIONAL, "utf-8", "utf-8"), (TRADITIONAL, "utf-8-sig", "utf-8"),
    (TRADITIONAL, "utf-16", "utf-16-le"), (TRADITIONAL, "utf-32", "utf-32-le"),
    (JAPANESE, "iso2022_jp", "iso-2022-jp"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "codec", "label"), TEXTS, ids=[f"{t[0]}-{c}" for t, c, _ in TEXTS]
)
@pytest.mark.parametrize("declared", [None, "utf-8", "big5", "gbk", "shift_jis", "no-such-charset"])
def test_the_text_comes_back_whatever_is_declared(text, codec, label, declared):
    decoded = encodings.decode(text.encode(codec), declared)
    assert decoded.text == text
    # Declared PTT's Big5 and plain Big5 differ in rare characters only.
    assert decoded.encoding == label and decoded.undecodable == 0


@pytest.mark.parametrize(
    ("name", "codec", "labels"),
    [
        ("moztw-notes.big5.txt", "cp950", {"big5", "big5-uao"}),
        ("moztw-gathering.big5.html", "cp950", {"big5"}),
        ("vim-menu.cp950.vim", "cp950", {"big5"}),
        ("vim-tutor.gb2312.txt", "gbk", {"gb18030"}),
        ("vim.cp936.po", "gbk", {"gb18030"}),
        ("vim.sjis.po", "cp932", {"shift_jis"}),
        ("vim.euc-jp.po", "euc_jp", {"euc-jp"}),
        ("cppjieba-testlines.gbk.txt", "gbk", {"gb18030"}),
        ("moztw-docs-big5.html", "utf-8", {"utf-8"}),
    ],
)
def test_real_files(name, codec, labels):
    data = (SAMPLES / name).read_bytes()
    decoded = encodings.decode(data)
    assert decoded.encoding in labels and decoded.others == ()
    if codec == "cp950":
        # Python's codec lacks the extensions; what it knows must be the same.
        assert decoded.text == data.decode("cp950")
    else:
        assert decoded.text == data.decode(codec)


@pytest.mark.parametrize("size", [8, 16, 40])
@pytest.mark.parametrize(("text", "codec", "label"), TEXTS[:5], ids=range(5))
def test_short_stretches_are_told_apart(text, codec, label, size):
    # Parts of sentences, as titles and lines of a chat are.
    starts = range(0, len(text) - size, 3)
    right = sum(
        encodings.decode(text[i : i + size].encode(codec)).text == text[i : i + size]
        for i in starts
    )
    assert right >= (0.85 if size == 8 else 0.95) * len(starts)


def python(code: bytes, codec: str) -> str | None:
    """Returns what Python's codec makes of a code; None where it has nothing."""
    try:
        return code.decode(codec)
    except UnicodeDecodeError:
        return None


def test_big5_is_python_s_codecs_together():
    trails = [*range(0x40, 0x7F), *range(0xA1, 0xFF)]
    codes = [bytes([lead, trail]) for lead in range(0x81, 0xFF) for trail in trails]
    decoded = dict(zip(codes, charsets.decode_big5(b"\n".join(codes)).split("\n"), strict=True))
    for code in codes:
        microsoft, hong_kong = python(code, "cp950"), python(code, "big5hkscs")
        # Between the two planes of characters, CP950 has what no font of ETEN's ever had.
        if microsoft and not b"\xc6\xa1" <= code <= b"\xc8\xfe":
            assert decoded[code] == microsoft, code
        elif hong_kong:
            assert decoded[code] == hong_kong, code
    assert sum("\ufffd" not in text for text in decoded.values()) > 18_500


def test_characters_that_no_codec_of_python_has():
    codes = {"C6A1": "①", "C6E7": "ぁ", "C7B1": "サ", "F9F9": "═", "F9FE": "▓", "C6CD": "⼳"}
    for code, character in codes.items():
        assert charsets.decode_big5(bytes.fromhex(code)) == character, code
    assert charsets.decode_big5(bytes.fromhex("9D5D"), uao=True) == "☺"
    assert charsets.decode_big5(bytes.fromhex("8862")) == "Ê\u0304"


def reference_big5(data: bytes) -> str:
    """Decodes Big5 a byte after the other, as the Encoding Standard describes it (12.1.1)."""
    out, lead = [], 0
    for byte in data:
        if lead:
            character = charsets.decode_big5(bytes([lead, byte]))
            known = len(character) in (1, 2) and "\ufffd" not in character
            out.append(character if known else "\ufffd" + (chr(byte) if byte < 0x80 else ""))
            lead = 0
        elif byte < 0x80:
            out.append(chr(byte))
        elif 0x81 <= byte <= 0xFE:
            lead = byte
        else:
            out.append("\ufffd")
    return "".join(out) + ("\ufffd" if lead else "")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"\xa4\xa4", b"\xa4", b"a", b"\n", b"\xff", b"\x80", b"\xf9\xfe", b"\x88\x62", b"@"]
        )
        | st.binary(max_size=3)
    )
)
def test_broken_big5_breaks_where_the_standard_says(chunks):
    data = b"".join(chunks)
    assert charsets.decode_big5(data) == reference_big5(data)


def test_euc_tw_both_planes():
    try:
        data = subprocess.run(
            ["iconv", "-f", "UTF-8", "-t", "EUC-TW"], input=(TRADITIONAL + "乂凵乜").encode(),
            capture_output=True, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no iconv with EUC-TW here")
    decoded = encodings.decode(data)
    assert (decoded.encoding, decoded.text) == ("euc-tw", TRADITIONAL + "乂凵乜")
    assert (
        charsets.decode_euc_tw(b"\xc4\xe3\xa1\xa4\x8e\xa2\xa1\xa1")
        == "中、乂"[:1] + charsets.decode_euc_tw(b"\xa1\xa4") + "乂"
    )


SCREEN = (
    "【公告】看板規則\r\n推 小明: 這篇寫得真好，謝謝分享！ 08/15\r\n→ 阿華: 同意樓上，推推。\r\n"
)


def with_escapes(text: str, seed: int) -> bytes:
    """Puts colours anywhere, also between the two bytes of a character, as BBS editors do."""
    rng = random.Random(seed)
    out = bytearray()
    for byte in text.encode("cp950"):
        if rng.random() < 0.2:
            out += rng.choice(
                [b"\x1b[m", b"\x1b[1;33m", b"\x1b[0;37;44m", b"\x1b[5;31m", b"\x1b[K"]
            )
        out.append(byte)
    return bytes(out)


@pytest.mark.parametrize("seed", range(20))
def test_escapes_inside_characters_are_taken_out(seed):
    data = with_escapes(SCREEN, seed)
    decoded = encodings.decode(data)
    assert decoded.text == SCREEN
    assert decoded.escapes == data.count(b"\x1b") and decoded.undecodable == 0
    assert decoded.encoding == "big5-uao"
    assert decoded.meta()["escapes"] == str(decoded.escapes)


def test_a_screen_of_blocks_and_boxes_is_big5():
    screen = "\n".join(["◢████◣  ●  ●", "█　　　　█ ╭──╮", "◥████◤ │　　│", "▁▂▃▄▅▆▇█"])
    assert encodings.decode(screen.encode("cp950")).text == screen


def test_lines_of_another_encoding_are_read_in_theirs():
    lines = [TRADITIONAL, SIMPLIFIED, TRADITIONAL[::-1], "only ASCII", TRADITIONAL]
    data = b"\n".join([
        lines[0].encode("cp950"), lines[1].encode("gbk"), lines[2].encode("utf-8"),
        lines[3].encode(), lines[4].encode("cp950"),
    ])  # fmt: skip
    decoded = encodings.decode(data)
    assert decoded.text == "\n".join(lines)
    assert decoded.encoding in ("big5", "big5-uao") and decoded.others == ("gb18030", "utf-8")


def test_a_segment_of_another_encoding_within_a_line():
    data = "標題：".encode("cp950") + b" 12 " + "影片標題 (高畫質)".encode() + b"\n"
    decoded = encodings.decode((TRADITIONAL + "\n").encode("cp950") * 3 + data)
    assert decoded.text.endswith("標題： 12 影片標題 (高畫質)\n") and decoded.others == ("utf-8",)


def test_few_broken_bytes_are_counted_many_are_refused():
    data = bytearray(TRADITIONAL.encode("utf-8") * 10)
    data[100] = 0xFF
    decoded = encodings.decode(bytes(data))
    assert decoded.encoding == "utf-8" and 0 < decoded.undecodable <= 3
    assert decoded.meta()["undecodable"] == str(decoded.undecodable)


@pytest.mark.parametrize("alphabet", [range(1, 256), range(0x20, 256), range(0x80, 256)])
@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_no_text(alphabet, seed):
    with pytest.raises(Unusable, match="unknown encoding"):
        encodings.decode(bytes(random.Random(seed).choices(alphabet, k=2000)))


def test_english_with_curly_quotes_is_text():
    text = "“It’s here” – she said; “where?” – ‘there’ … " * 9
    assert encodings.decode(text.encode("cp1252")).text == text


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.none() | st.sampled_from(["big5", "gbk", "utf-16", "x"]))
def test_any_bytes_are_text_or_refused(data, declared):
    try:
        decoded = encodings.decode(data, declared)
    except Unusable as error:
        assert error.reason == "unknown encoding"
    else:
        decoded.text.encode("utf-8", "surrogatepass")


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_utf_8_is_never_taken_for_anything_else(text):
    decoded = encodings.decode(text.encode())
    assert decoded.text == text.removeprefix("\ufeff") and decoded.encoding == "utf-8"
