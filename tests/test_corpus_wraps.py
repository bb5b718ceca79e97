"""Hard-wrapped text is joined where a column broke it, and nowhere else."""

import re
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.document import Document
from twjax.corpus.text.wraps import RepairWraps, unwrap

# Abridged from regulation I0030014 of https://law.moj.gov.tw, wrapped as it is published there;
# laws are not subject to copyright (Taiwan's Copyright Act, article 9).
LAW = """檢察機關偵辦違反兒童及少年性交易防制條例刑事案件獎懲辦法\r
1.中華民國八十五年二月七日法務部（85）法令字第 03249  號令訂定發\r
  布全文 8  條\r
2.中華民國一百零五年四月二十二日法務部法令字第 10504513350 號令\r
  發布廢止\r
第 1 條 本辦法依兒童及少年性交易防制條例 (以下簡稱本條例) 第八條規定訂定\r
之。\r
第 2 條 檢察官偵辦違反本條例之刑事案件，依下列規定獎勵：\r
一、檢察官主動或指揮司法警察人員偵辦本條例第二十四條至第二十六條\r
    、第二十七條第四項、第五項、第三十條、第三十一條之案件，對維\r
    護兒童與少年身心健康及社會善良風氣有卓著貢獻者，依規定予以記\r
    一大功或一次記二大功或請頒獎章、獎狀。\r
二、檢察官主動偵辦之案件，予以嘉獎。\r
第 4 條 第二條、第三條各款之獎懲，於主任檢察官、檢察長亦適用之。其他配合\r
或協助辦案人員，按其具體事蹟，依其他有關規定予以適當之獎懲。\r
第 8 條 本辦法自發布日施行。"""
WHOLE = """檢察機關偵辦違反兒童及少年性交易防制條例刑事案件獎懲辦法\r
1.中華民國八十五年二月七日法務部（85）法令字第 03249  號令訂定發布全文 8  條\r
2.中華民國一百零五年四月二十二日法務部法令字第 10504513350 號令發布廢止\r
第 1 條 本辦法依兒童及少年性交易防制條例 (以下簡稱本條例) 第八條規定訂定之。\r
第 2 條 檢察官偵辦違反本條例之刑事案件，依下列規定獎勵：\r
一、檢察官主動或指揮司法警察人員偵辦本條例第二十四條至第二十六條、第二十七條第四項、第五項、第三十條、第三十一條之案件，對維護兒童與少年身心健康及社會善良風氣有卓著貢獻者，依規定予以記一大功或一次記二大功或請頒獎章、獎狀。\r
二、檢察官主動偵辦之案件，予以嘉獎。\r
第 4 條 第二條、第三條各款之獎懲，於主任檢察官、檢察長亦適用之。其他配合或協助辦案人員，按其具體事蹟，依其他有關規定予以適當之獎懲。\r
第 8 條 本辦法自發布日施行。"""  # noqa: E501
SENTENCE = "春天的時候我們沿著河邊散步看見許多白鷺鷥停在石頭上等著魚兒游過來"
ENGLISH = (
    "The harbour was quiet that morning, and the boats that had come in during the night lay side "
    "by side along the quay while their crews slept below. Nobody had told the harbour master, who "
    "came down at seven with his ledger under his arm, that one of them carried no papers at all."
)


def one(text: str) -> str:
    return unwrap([text])[0][0]


def wrapped(text: str, columns: int, indent: str = "") -> str:
    """Breaks a line of Han (two columns each) and ASCII where the next character doesn't fit."""
    lines, line, used = [], "", 0
    for character in text:
        width = 1 if character.isascii() else 2
        if used + width > columns:
            lines.append(line)
            line, used = indent, len(indent)
        line, used = line + character, used + width
    return "\n".join([*lines, line])


def test_a_law_as_it_is_published():
    assert one(LAW) == WHOLE
    document = Document(id="a", text=LAW, source="s", license="l", lang="zh-TW")
    outcome = RepairWraps().apply([document, Document(id="b", text=WHOLE, source="s",
                                                      license="l", lang="zh-TW")])  # fmt: skip
    assert outcome.changed == {"documents": 1, "wraps": 7}
    assert outcome.kept[0].meta == {"wrap_columns": "64"} and outcome.kept[1].meta == {}
    again = RepairWraps().apply(outcome.kept)
    assert again.kept == outcome.kept and not again.changed


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.permutations(list(SENTENCE * 2)).map("".join), min_size=2, max_size=6),
    st.sampled_from([44, 64, 76, 80]),
    st.booleans(),
)
def test_wrapping_is_taken_back(paragraphs, columns, hanging):
    texts = [f"{i}. {p}。" if hanging else f"{p}。" for i, p in enumerate(paragraphs, 1)]
    indent = "    " if hanging else ""
    text = "\n".join(wrapped(p, columns, indent) for p in texts)
    assert one(text) == "\n".join(texts)


@pytest.mark.parametrize("columns", [60, 72, 79])
def test_english_words_keep_a_space(columns):
    paragraphs = [ENGLISH, ENGLISH.replace("boats", "little ships"), "Short."]
    text = "\n\n".join(textwrap.fill(p, columns) for p in paragraphs)
    assert one(text) == "\n\n".join(paragraphs)


def test_numbers_that_a_column_cut_are_whole_again():
    text = f"農業委員會農授糧字第 0941058001 號令{SENTENCE}，第 10504513350 號令修正{SENTENCE}。"
    for columns in range(42, 80):
        broken = wrapped(text, columns, "  ")
        assert one(broken).replace(" ", "") == text.replace(" ", "")
        assert {"0941058001", "10504513350"} <= set(re.findall(r"\d+", one(broken)))


WIDE = SENTENCE[:32]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "短",
        # Verse: lines too short to be wrapped.
        "床前明月光\n疑是地上霜\n舉頭望明月\n低頭思故鄉",
        # Lines of any length without punctuation.
        "\n".join(SENTENCE[i:] + SENTENCE[: 3 * i] for i in range(8)),
        # Whole paragraphs that end as sentences do.
        "\n".join([WIDE[:31] + "。"] * 6),
        # Lists, headings, quotations, comments.
        "\n".join(f"{i}. {WIDE}" for i in range(1, 6)),
        "\n".join(f"- {WIDE}" for _ in range(5)),
        "\n".join(f"> {WIDE}" for _ in range(5)),
        "\n".join(f"第 {i} 條 {WIDE}" for i in range(1, 6)),
        # Tables, drawn and by columns.
        "\n".join(f"│{WIDE}│" for _ in range(5)),
        "\n".join(f"{WIDE[:14]}     {WIDE[:14]}" for _ in range(5)),
        "\n".join(f"{WIDE[:14]}\t{WIDE[:14]}" for _ in range(5)),
        # Code.
        "```\n" + "\n".join(["x = compute(alpha, beta, gamma, delta) + another(epsilon, 12)"] * 6)
        + "\n```",
        # Markdown's own line breaks.
        "\n".join(f"{WIDE}\\" for _ in range(5)),
    ],
)  # fmt: skip
def test_what_stays(text):
    assert one(text) == text


def test_a_neighbour_changes_nothing():
    texts = [LAW, "", "短\n句", ENGLISH, textwrap.fill(ENGLISH, 70), WHOLE, "\n\n"]
    assert unwrap(texts) == [unwrap([text])[0] for text in texts]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*LAW.split("\r\n"), "", "\t", "│", "```", *ENGLISH.split(", ")]),
                max_size=20))  # fmt: skip
def test_only_white_space_changes(lines):
    text = "\r\n".join(lines)
    result, joins, _ = unwrap([text])[0]
    assert "".join(result.split()) == "".join(text.split())
    assert text.count("\n") - result.count("\n") == joins


def test_the_least_width_is_checked():
    with pytest.raises(ValueError, match="min_columns"):
        RepairWraps(min_columns=10)
