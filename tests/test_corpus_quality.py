"""Quality and repetition rules against plain-Python versions, and what they keep and drop."""

import collections
import functools
import gzip
import itertools
import json
import math
import pathlib
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus import codepoints
from twjax.corpus.codepoints import Class, View
from twjax.corpus.document import Document
from twjax.corpus.quality import measures, ngrams, phrases
from twjax.corpus.quality.adverts import Adverts
from twjax.corpus.quality.repetition import Repetition
from twjax.corpus.quality.rules import QualityRules

TEXTS = pathlib.Path(__file__).parent.parent / "configs" / "corpora" / "texts"


def make(text: str, id: str = "x", lang: str = "zh-TW", source: str = "s") -> Document:
    return Document(id=id, text=text, source=source, license="l", lang=lang)


def embedded(name: str, every: int = 1) -> list[Document]:
    with gzip.open(TEXTS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file][::every]
    return [make(r["text"], r["id"], r["lang"], name) for r in records]


# Reference implementations: a character or a word at a time.

WORD = [Class.LETTER, Class.ASCII, Class.LATIN_1, Class.DIGIT]
UNIT = [Class.HAN, Class.FUNCTION, Class.RARE, Class.KANA]


def without_links(text: str) -> str:
    return re.sub(r"(?:https?://|www\.)[!-~]+", lambda m: " " * len(m[0]), text)


def kinds(text: str) -> list[int]:
    return [int(codepoints.table()[ord(c)]) for c in without_links(text)]


def slow_tokens(text: str) -> list[str]:
    tokens, run = [], ""
    for character, kind in zip(text, kinds(text), strict=True):
        if kind in WORD:
            run += character
            continue
        if run:
            tokens.append(run)
            run = ""
        if kind in UNIT:
            tokens.append(character)
    return [*tokens, run] if run else tokens


def slow_top(tokens: list[str], n: int, times: int = 2) -> float:
    grams = collections.Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
    weights = [count * sum(map(len, gram)) for gram, count in grams.items() if count >= times]
    return min(max(weights, default=0) / max(sum(map(len, tokens)), 1), 1)


def slow_duplicates(tokens: list[str], n: int) -> float:
    seen, covered = set(), set()
    for i in range(len(tokens) - n + 1):
        gram = tuple(tokens[i : i + n])
        if gram in seen:
            covered.update(range(i, i + n))
        seen.add(gram)
    return sum(len(tokens[i]) for i in covered) / max(sum(map(len, tokens)), 1)


def slow_measures(text: str, lang: str) -> dict[str, float]:
    kind = kinds(text)
    count = collections.Counter(kind)
    tokens = slow_tokens(text)
    size = max(len(tokens), 1)
    clean = without_links(text)
    links = sum(map(len, re.findall(r"(?:https?://|www\.)[!-~]+", text)))
    visible = max(sum(k not in (Class.SPACE, Class.NEWLINE) for k in kind), 1)
    han = [c for c, k in zip(clean, kind, strict=True) if k in UNIT[:3]]
    units = len(han) + count[Class.KANA]
    latin = count[Class.ASCII] + count[Class.LATIN_1]
    letters = latin + count[Class.LETTER]
    own = lang.split("-")[0] in ("nan", "hak", "yue")
    chinese = not own and units >= 0.3 * size and count[Class.KANA] <= 0.2 * units
    words = not own and units < 0.3 * size and latin >= 0.9 * letters
    function = [c for c, k in zip(clean, kind, strict=True) if k == Class.FUNCTION]
    stop = len(set(function)) if chinese else math.nan
    if not chinese and lang.startswith("en"):
        found = re.findall(r"\b(?:the|be|to|of|and|that|have|with)\b", text.lower())
        stop = len(set(found))
    sentences = 0
    for i, (c, k) in enumerate(zip(clean, kind, strict=True)):
        following = kind[i + 1] if i + 1 < len(kind) else Class.NEWLINE
        sentences += k == Class.END and following != Class.END
        sentences += c == "." and following in (Class.SPACE, Class.NEWLINE, Class.CLOSER)
    lines = []
    line: list[tuple[str, int, str]] = []
    for pair in (
        *zip(clean, kind, (" " + clean)[: len(clean)], strict=True),
        ("\n", Class.NEWLINE, ""),
    ):
        if pair[1] == Class.NEWLINE:
            lines.append([p for p in line if p[1] != Class.SPACE])
            line = []
        else:
            line.append(pair)
    lines = [line for line in lines if line]
    number = max(len(lines), 1)
    last = [line[-1][1] for line in lines]
    runs = [k for k, _ in itertools.groupby(kind)]
    symbols = runs.count(Class.ELLIPSIS) + text.count("...")
    length = sum(map(len, tokens)) / size
    return {
        "max_broken": count[Class.BROKEN] / visible,
        "max_latin_1": (count[Class.LATIN_1] + count[Class.SYMBOL_1]) / visible,
        "max_rare_han": count[Class.RARE] / max(len(han), 1) if chinese else math.nan,
        "min_tokens": len(tokens),
        "max_tokens": len(tokens),
        "min_token_length": length if words else math.nan,
        "max_token_length": length,
        "max_run": max(map(len, tokens), default=0),
        "max_symbols": max(count[Class.HASH], symbols) / size,
        "min_letters": (units + letters) / visible,
        "max_digits": count[Class.DIGIT] / visible,
        "max_links": links / (links + visible),
        "max_braces": count[Class.BRACE] / visible,
        "min_stop_words": stop,
        "min_function": len(function) / max(len(han), 1) if chinese else math.nan,
        "min_sentences": sentences,
        "min_long_lines": sum(len(line) >= 100 for line in lines),
        "max_bullet_lines": sum(line[0][0] in "•-*●○◆◇■□▪▫‧·・※★☆►▶◎–—" for line in lines) / number,
        "max_ellipsis_lines": sum(
            k == Class.ELLIPSIS or line[-1][2] + line[-1][0] == ".."
            for line, k in zip(lines, last, strict=True)
        )
        / number,
        "min_punctuated_lines": sum(
            k in (Class.END, Class.STOP, Class.CLOSER, Class.ELLIPSIS) for k in last
        )
        / number,
        "max_short_lines": sum(len(line) <= 10 for line in lines) / number,
        "max_line_breaks": count[Class.NEWLINE] / size,
        "max_filler": text.count("orem ipsum") / size,
    }


CHARACTERS = (
    "的是在天地玄黃𠀀嘅かェㄅaAé한1２。！？.．：…#{}•- \n\r\t\u200b※★¤\ufffd\ue000\x07，「」\"'"
)
WORDS = ["中文", "word", "the ", "and of ", "https://a.b/c%20 ", "www.x.tw", "...", "。。"]
PIECES = st.sampled_from([*CHARACTERS, *WORDS, "Lorem ipsum", "這是一個句子。\n", "aaaa bbbb "])
TEXT = st.lists(PIECES, max_size=60).map("".join)
LANG = st.sampled_from(["zh-TW", "en", "und", "nan-TW"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXT, LANG), min_size=1, max_size=4))
def test_measures_are_those_of_the_plain_version_whatever_stands_beside(pairs):
    texts, langs = [t for t, _ in pairs], [lang for _, lang in pairs]
    found = measures.metrics(View(texts), texts, langs)
    assert set(found) == set(measures.RULES)
    for index, (text, lang) in enumerate(pairs):
        for rule, expected in slow_measures(text, lang).items():
            assert found[rule][index] == pytest.approx(expected, nan_ok=True), rule


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4), st.sampled_from([0.0, 0.1, 0.3]))
def test_ngram_shares_are_those_of_the_plain_version(texts, floor):
    texts = [text * repeat for text, repeat in zip(texts, (1, 3, 2, 1), strict=False)]
    tokens = View(texts).tokens
    top = ngrams.top_shares(tokens, (2, 3, 5), floor)
    frequent = ngrams.top_shares(tokens, (2, 3, 5), floor, times=4)
    duplicate = ngrams.duplicate_shares(tokens, (3, 4, 6), floor)
    for index, text in enumerate(texts):
        words = slow_tokens(text)
        assert np.diff(tokens.starts)[index] == len(words)
        for figures, lengths, slow in (
            (top[:, index], (2, 3, 5), slow_top),
            (frequent[:, index], (2, 3, 5), functools.partial(slow_top, times=4)),
            (duplicate[:, index], (3, 4, 6), slow_duplicates),
        ):
            for figure, n in zip(figures, lengths, strict=True):
                expected = slow(words, n)
                assert figure == pytest.approx(expected) or expected <= floor >= figure


def test_ngram_shares_of_real_documents():
    documents = embedded("tw_laws", 25) + embedded("tw_transcripts", 40)
    tokens = View([d.text for d in documents]).tokens
    top = ngrams.top_shares(tokens, (3, 5, 6))
    duplicate = ngrams.duplicate_shares(tokens, (8, 10, 16))
    for index, document in enumerate(documents):
        words = slow_tokens(document.text)
        assert top[:, index] == pytest.approx([slow_top(words, n) for n in (3, 5, 6)])
        assert duplicate[:, index] == pytest.approx(
            [slow_duplicates(words, n) for n in (8, 10, 16)]
        )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["甲。", "乙丙，丁", "\n", "\n\n", "  ", "\r\n"]), max_size=30))
def test_duplicate_lines_and_paragraphs(parts):
    text = "".join(parts)
    step = Repetition(policy="label", max_duplicate_lines=-1, max_duplicate_paragraphs=-1)
    label = step.apply([make(text)]).kept[0].meta["repetition"]
    for split, name in (("\n", "lines"), ("\n\\s*\n", "paragraphs")):
        pieces = [p.strip() for p in re.split(split, text) if p.strip()]
        share = sum(p in pieces[:i] for i, p in enumerate(pieces)) / max(len(pieces), 1)
        assert f"duplicate {name}: {share:.4g}" in label


def test_a_documents_outcome_does_not_depend_on_its_neighbours():
    documents = [d for name in ("tw_laws", "tw_articles", "cn_general") for d in embedded(name, 20)]
    documents += [make("重複" * 300), make("a" * 400_000), make("字")]
    for step in (
        QualityRules(),
        Repetition(policy="label"),
        Adverts(policy="label"),
        QualityRules(policy="label", by_source=("tw_laws=law",)),
    ):
        together, alone = step.apply(documents), [step.apply([d]) for d in documents]
        assert together.kept == [k for o in alone for k in o.kept]
        assert together.rejected == [r for o in alone for r in o.rejected]
        assert len(together.kept) + len(together.rejected) == len(documents)


PROSE = (
    "台北的冬天常常下雨，街上的人撐著傘，慢慢地走過濕亮的騎樓。老闆把剛蒸好的包子擺出來，熱氣一陣一陣往上飄。\n"
    "我在轉角等公車，看著對面的書店把燈打開。店員說，這幾年來買書的人少了，可是留下來聊天的人多了。\n"
    "後來雨停了，天空露出一點點藍色，孩子們跑到公園裡，踩著積水，笑得很大聲。"
)

KEYWORDS = (
    "台北通馬桶、新北水電行、桃園搬家公司、優良徵信推薦、高雄包車價格表、熱門美食名單、"
    "便宜機票查詢、汽車借款利率。"
)


def reason(step, text: str, lang: str = "zh-TW") -> str | None:
    rejected = step.apply([make(text, lang=lang)]).rejected
    return rejected[0].reason if rejected else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PROSE, None),
        (PROSE.encode().decode("latin-1"), "UTF-8 read as Latin-1"),
        (PROSE.encode().decode("gbk", "replace").replace("\ufffd", "?"), "rare characters"),
        (PROSE.replace("雨", "\ufffd"), "broken characters"),
        (PROSE[:40], "few tokens"),
        (PROSE + "A" * 2000, "endless word"),
        (re.sub("[，。]", "#", PROSE) + "#" * 20, "symbols"),
        (PROSE + "1234567890 " * 10, "digits"),
        (PROSE + " https://example.tw/" + "a" * 600, "links"),
        (PROSE + "{}{}{}{}", "braces"),
        (
            "、".join(["台北通馬桶", "新北水電行", "桃園搬家公司", "徵信推薦"] * 10),
            "few stop words",
        ),
        (KEYWORDS * 5 + "我的。", "few function"),
        ("我們到了那裡的時候，他們已經在門口等我們很久了，" * 5, "few sentences"),
        ("\n".join("這個是他那個很長很長的東西的一個說明…" for _ in range(20)) + PROSE, "ellipsis"),
        ("\n".join(f"- 這是第{n}個在他家的項目。" for n in "一二三四五六七八九十") * 2, "bullet"),
        (
            "\n".join("這是在他家的一個很長的項目而且沒有句號" for _ in range(40)) + "。！？" * 1,
            "few sent",
        ),
        (PROSE.replace("。", "。\n\n\n\n\n"), "line breaks"),
        ("回首頁\n會員登入\n購物車\n聯絡我們\n" + PROSE, "boilerplate"),
        (PROSE + "\n我們查了相關新聞，也看過隱私權政策，沒有這樣的事情。", None),
        (PROSE + "\n" + "他看了看天空……" * 14 + "就回家了。", None),
        (PROSE + "Lorem ipsum dolor sit amet. " * 3, "placeholder"),
    ],
)
def test_each_rule_rejects_for_its_own_reason(text, expected):
    found = reason(QualityRules(), text)
    assert found == expected or (found and expected and found.find(expected) >= 0), found


def test_english_prose_is_held_against_the_english_limits():
    prose = "It was the best of times, it was the worst of times. We have to go with that. " * 3
    assert reason(QualityRules(), prose, "en") is None
    assert reason(QualityRules(), "a b c d e f g h. " * 20, "en") == "short words"
    keywords = "cheap hotel booking. discount flights online. luxury resort deals. " * 10
    assert reason(QualityRules(), keywords, "en") == "few stop words"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PROSE, None),
        ("歡迎光臨本店。\n" * 30, "duplicate lines"),
        ("\n\n".join(["甲乙丙丁，戊己庚辛。", PROSE, PROSE[:50]] * 3), "duplicate"),
        ("快樂" * 40 + PROSE, "most frequent 2-gram"),
        # What short messages do: a name twice or thrice.
        ("白糖蒸雞蛋是民間偏方，成效因人而異，但白糖蒸雞蛋沒有毒。", None),
        # Rules between lines say nothing.
        ("\n".join(f"{line}\n────\n" for line in PROSE.split("\n")), None),
        (PROSE.replace("\n", "") + PROSE.replace("\n", ""), "duplicate 5-grams"),
    ],
)
def test_repetition_is_rejected(text, expected):
    found = reason(Repetition(), text)
    assert found == expected or (found and expected and found.startswith(expected)), found


def test_repeated_lines_of_fenced_code_do_not_count():
    lines = "let a = 1;\nlet b = 2;\nprint(a);\nprint(b);\n"
    blocks = [lines * 6, f"```js\n{lines}```\n" * 6, f"  ~~~~\n{lines}  ~~~~\n" * 6]
    step = Repetition(preset="manual", max_top_2gram=1, max_top_3gram=1, max_top_4gram=1)
    reasons = [reason(step, f"{PROSE}\n{block}{PROSE[::-1]}") for block in blocks]
    assert reasons == ["duplicate lines", None, None]
    # An open fence isn't code.
    assert reason(step, f"{PROSE}\n```\n{lines * 6}{PROSE[::-1]}") == "duplicate lines"


def test_labels_instead_of_drops():
    documents = [make(PROSE), make("加LINE領免費貼圖，限時優惠，數量有限！" * 3)]
    kept = QualityRules(policy="label").apply(documents).kept
    assert kept[0].meta["quality"] == "ok"
    assert kept[1].meta["quality"].startswith("few ")
    outcome = Adverts(policy="label").apply(documents)
    assert outcome.kept[0].meta["adverts"] == "ok" and not outcome.rejected
    assert outcome.kept[1].meta["adverts"].startswith("advert: ")
    assert outcome.changed == {"advert": 1}
    assert documents[0].meta == {}


def test_limits_come_from_the_step_then_the_sources_preset():
    step = QualityRules(min_tokens=500, by_source=("moj*=law", "*=speech"))
    assert step.limits("law")["min_tokens"] == 500
    assert step.limits("law")["max_run"] == 1000
    assert step.limits("law")["max_tokens"] == math.inf
    assert step.preset_of("moj/laws") == "law" and step.preset_of("x") == "speech"
    assert (
        reason(
            QualityRules(min_tokens=-math.inf, min_sentences=1),
            PROSE.split("，我")[0][:70].rpartition("。")[0] + "。",
        )
        is None
    )
    with pytest.raises(ValueError, match="no preset 'novel'; it has web, law"):
        QualityRules(preset="novel")
    with pytest.raises(ValueError, match=r"by_source.*must read pattern=preset"):
        Repetition(by_source=("law",))


@pytest.mark.parametrize(
    ("name", "preset", "least"),
    [("tw_laws", "law", 0.97), ("tw_transcripts", "speech", 0.98), ("tw_articles", "web", 0.95)],
)
def test_good_texts_stay(name, preset, least):
    documents = kept = embedded(name)
    for step in (QualityRules(preset=preset), Repetition(preset=preset), Adverts(preset=preset)):
        kept = step.apply(kept).kept
    assert len(kept) >= least * len(documents)


def test_bad_texts_go():
    articles = [d.text for d in embedded("tw_articles", 5)]
    steps = (QualityRules(), Repetition(), Adverts())

    def left(texts: list[str]) -> float:
        kept = [make(text) for text in texts]
        for step in steps:
            kept = step.apply(kept).kept
        return len(kept) / len(texts)

    assert left([t.encode().decode("latin-1") for t in articles]) == 0
    assert left([t.encode().decode("gbk", "ignore") for t in articles]) == 0
    assert left([t.encode("big5", "ignore").decode("gbk", "ignore") for t in articles]) == 0
    assert left([t[:300] * 5 for t in articles]) == 0
    assert left([re.sub(r"[，。！？\s]", " ", t) for t in articles]) <= 0.05
    assert left([t[:200] + "看完請轉發給所有的親朋好友，功德無量！" for t in articles]) == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.sampled_from("請轉發勿給請不要ＡaB c。\n"), max_size=30), min_size=1))
def test_phrases_are_found_as_by_plain_search(texts):
    words = {
        "請轉發": "chain",
        "轉發": "chain",
        "請勿": "chain",
        "勿轉發": "not chain",
        "ab": "latin",
    }
    known = phrases.Phrases([*words], [*words.values()], [1.0] * len(words))
    hits = known.find(View(texts))
    view_starts = View(texts).starts
    found = [
        (int(t), int(p - view_starts[t]), known.phrases[w])
        for t, p, w in zip(hits.text, hits.place, hits.phrase, strict=True)
    ]
    expected = []
    for index, text in enumerate(texts):
        plain = unicodedata.normalize("NFKC", text).lower()
        spans = [
            (m.start(), m.start() + len(word), word)
            for word in words
            for m in re.finditer(f"(?={word})", plain)
        ]
        beside = {s: plain[s[0] - 1 : s[0]] + plain[s[1] : s[1] + 1] for s in spans}
        spans = [s for s in spans if s[2] != "ab" or not re.search("[a-z]", beside[s])]
        for a, b, word in spans:
            inside = any(c <= a and b <= d and (c, d) != (a, b) for c, d, _ in spans)
            if not inside and not words[word].startswith("not "):
                expected.append((index, a, word))
    assert sorted(found) == sorted(expected)


def test_broken_tables_are_named(tmp_path):
    table = tmp_path / "t.tsv"
    header = "phrase\tcategory\tweight\n"
    for rows, message in (
        ("甲乙\tchain\n", r"t.tsv:3: 2 columns"),
        ("甲乙\tchain\tmany\n", r"weight 'many' of 甲乙 is no number"),
        ("甲\tchain\t1\n", r"must have 2 to 31 characters"),
        ("說話\tchain\t1\n说话\tchain\t1\n", r"occurs twice"),
    ):
        table.write_text("# Source.\n" + header + rows, encoding="utf-8")
        phrases.load.cache_clear()
        with pytest.raises(ValueError, match=message):
            Adverts(table=str(table)).apply([make("字")])
    table.write_text("甲乙\tchain\t1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="first row must name the columns phrase, category"):
        Adverts(table=str(table)).apply([make("字")])
    phrases.load.cache_clear()


def test_an_empty_batch_and_empty_texts():
    for step in (QualityRules(), Repetition(), Adverts()):
        assert step.apply([]).kept == []
        outcome = step.apply([make(""), make("\n\n"), make("   ")])
        assert len(outcome.kept) + len(outcome.rejected) == 3
