"""Language, script and regional wording of texts."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.conversion import opencc
from twjax.corpus.document import Document
from twjax.corpus.variety import region, regionmodel
from twjax.corpus.variety.region import Region

TAIWAN = (
    "這個軟體的品質很好，使用者可以透過網路連線到伺服器，下載影片、列印檔案。"
    "程式設計師在資料庫裡新增欄位，並且回傳預設的字串陣列。"
)
MAINLAND = (
    "这个软件的质量很好，用户可以通过网络连接到服务器，下载视频、打印文件。"
    "程序员在数据库里添加字段，并且返回默认的字符串数组。"
)


def document(text: str, lang: str = "und") -> Document:
    return Document(id="a", text=text, source="s", license="CC0-1.0", lang=lang)


def label(text: str) -> str:
    return region.judge([text])[0][0].label


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (TAIWAN, "zh-Hant-TW"),
        (MAINLAND, "zh-Hans"),
        (opencc.converter("s2t")(MAINLAND), "zh-Hant-CN"),
        (opencc.converter("s2tw")(MAINLAND), "zh-Hant-CN"),
        ("我哋琴日去咗旺角食嘢，佢哋話唔係好好食啫。", "yue-Hant"),
        ("𪜶佇遐咧食飯，阮毋知按呢敢好，較停仔才閣講。", "nan-Hant"),
        ("𠊎毋知佢愛去哪位，昨暗晡屋下个細人仔毋會食飯。", "hak-Hant"),
        ("Guá m̄-tsai i beh khì tó-uī, lín kám ū khuànn-tio̍h i ê tshù?", "nan-Latn-tailo"),
        ("Góa m̄-chai i beh khì tó-ūi, lín kám ū khòaⁿ-tio̍h i ê chhù?", "nan-Latn-pehoeji"),
        ("私は昨日、東京へ行きました。とても楽しかったです。", "ja"),
        ("나는 어제 서울에 갔습니다.", "ko"),
        ("The court held that it was not for them to say what the law is.", "en"),
        ("Il était une fois une petite fille qui habitait près de la forêt.", "und"),
        ("本港的士司機話，搭港鐵去屯門要轉巴士，車費廿幾港元。", "zh-Hant-HK"),
        ("", "und"),
        ("12345 !!!", "und"),
    ],
)
def test_label(text, wanted):
    assert label(text) == wanted


def test_too_little_is_not_told():
    for text in ("你好", "我們今天去吃飯", "他說"):
        assert label(text) in ("zh", "zh-Hant")


@pytest.mark.parametrize(
    "text",
    [
        # Statutes, and names, have the marks of other languages without being in them.
        "毋庸設置者，不在此限。伊朗代表予以准許，並遮蔽之；其係屬內閣職權。",
        "計價單位為新臺幣捌仟元整，分期給付，毋須另行申請。",
    ],
)
def test_statutes_are_in_no_dialect(text):
    assert label(text) not in region.DIALECTS


def test_one_word_of_a_short_text_does_not_make_it_the_mainlands():
    for text in ("這個消息是真的嗎？", "假消息假消息假消息假消息", "沒有數據佐證的消息不可信"):
        assert label(text) != "zh-Hant-CN"


def test_several_languages_are_parts():
    english = "The quick brown fox was not there when they came to look for it. " * 3
    verdict, parts = region.judge([TAIWAN + "\n" + english + "\n" + TAIWAN + "\n" + english])[0]
    assert verdict.label == "mul"
    assert {name for name, _ in parts} == {"zh-Hant", "en"}
    assert sum(share for _, share in parts) == pytest.approx(1, abs=0.05)


def test_paragraphs_have_their_own_verdict():
    text = f"{TAIWAN}\r\n\r\n  \n{MAINLAND}"
    found = region.paragraphs(text)
    assert [verdict.label for _, _, verdict in found] == ["zh-Hant-TW", "zh-Hans"]
    assert [text[start:stop] for start, stop, _ in found] == [TAIWAN, MAINLAND]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([TAIWAN, MAINLAND, "", "a", "嘅", "按呢\n" * 30, "𠊎"]), max_size=8)
)
def test_neighbours_do_not_matter(texts):
    assert region.judge(texts) == [region.judge([text])[0] for text in texts]


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=80))
def test_any_text_has_a_label_and_a_score(text):
    verdict, _ = region.judge([text])[0]
    assert verdict.label in region.LABELS
    assert 0 <= verdict.score <= 1 and 0 <= verdict.taiwan <= 1


def test_usage_does_not_see_the_script_or_the_converter():
    """No conversion of characters changes what the words' sum is."""
    model = regionmodel.load()
    texts = [opencc.converter(config)(MAINLAND) for config in ("s2t", "s2tw", "s2hk")]
    sums = []
    for text in [MAINLAND, *texts]:
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        sums.append(model.sums(points, np.array([len(points)]))[0, :2])
    assert all(np.allclose(sums[0], other) for other in sums)


def test_sums_of_parts_are_those_of_each_alone():
    model = regionmodel.load()
    texts = [TAIWAN, MAINLAND, "", "軟", TAIWAN * 2000]
    points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    found = model.sums(points, np.cumsum([len(text) for text in texts]))
    for text, sums in zip(texts, found, strict=True):
        alone = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        assert np.allclose(sums, model.sums(alone, np.array([len(alone)]))[0])


def test_sums_equal_a_plain_loop():
    model = regionmodel.load()
    folded = [int(model.fold[ord(character)]) for character in TAIWAN]
    expected, known = 0.0, 0
    for start in range(len(folded)):
        for order in range(1, regionmodel.ORDERS + 1):
            gram = np.array(folded[start : start + order], np.uint16)
            if len(gram) == order and gram.all():
                found = list(regionmodel.hashes(gram, np.empty(0, np.int64)))
                slots, checks = found[order - 1]
                entry = int(model.slots[slots[0]])
                weight = ((entry & 255) - 128) * (entry >> 8 == checks[0])
                expected += weight * model.scale
                known += order == regionmodel.ORDERS and weight != 0
    points = np.frombuffer(TAIWAN.encode("utf-32-le"), np.uint32)
    found = model.sums(points, np.array([len(points)]))[0]
    assert found[1] == pytest.approx(expected) and found[2] == known


def test_what_is_less_like_the_fit_is_less_sure():
    model = regionmodel.load()
    sums = np.array([[40, 3.0, known, 0, 0, 0] for known in (0, 10, 20)])
    found = model.probability(sums)
    assert 0.5 < found[0] < found[1] < found[2] < 1
    assert np.allclose(1 - found, model.probability(sums * (1, -1, 1, 1, 1, 1)))


def test_characters_tell_how_a_text_came_to_be_written():
    """One 爲 is a trace of plain s2t; that Taiwan's forms occur says little, however often."""
    model = regionmodel.load()

    def odds(text: str) -> float:
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        sums = model.sums(points, np.array([len(points)]))
        return float(regionmodel.calibration_features(sums)[0, 3])

    ceiling = -np.log(sum(share for _, config, share in regionmodel.WAYS[2:] if config != "s2t"))
    assert odds("爲") < -1 < 0 < odds("為") <= odds("為" * 50) <= ceiling
    assert odds("山水") == pytest.approx(0)


def test_what_is_known_beforehand_shifts_the_verdict():
    text = opencc.converter("s2tw")(MAINLAND)[:52]
    low, middle, high = (region.judge([text], prior=p)[0][0] for p in (0.1, 0.5, 1 - 1e-12))
    assert low.taiwan < middle.taiwan < high.taiwan
    assert low.label == "zh-Hant-CN" and high.label != "zh-Hant-CN"
    odds = [verdict.taiwan / (1 - verdict.taiwan) for verdict in (low, middle)]
    assert odds[1] / odds[0] == pytest.approx(9)
    with pytest.raises(ValueError, match=r"Region\.prior"):
        Region(prior=1.0)


def test_a_model_reads_back():
    file = io.BytesIO()
    model = regionmodel.load()
    regionmodel.write(file, model)
    file.seek(0)
    again = regionmodel.read(file)
    for field in ("fold", "slots", "traces", "calibration"):
        assert np.array_equal(getattr(again, field), getattr(model, field))
    assert regionmodel.TABLE.stat().st_size < 2 << 20


def test_step_labels_and_fills_in_the_language():
    outcome = Region().apply([document(TAIWAN), document(MAINLAND, "zh-TW")])
    first, second = outcome.kept
    assert (first.lang, first.meta["region"]) == ("zh-TW", "zh-Hant-TW")
    assert float(first.meta["region_score"]) > 0.9
    assert (second.lang, second.meta["region"]) == ("zh-TW", "zh-Hans")
    assert outcome.changed == {"zh-Hant-TW": 1, "zh-Hans": 1}
    assert Region(lang="correct").apply([second]).kept[0].lang == "zh-Hans"
    assert Region(lang="keep").apply([document(TAIWAN)]).kept[0].lang == "und"


def test_step_drops_by_label():
    converted = opencc.converter("s2t")(MAINLAND)
    outcome = Region(policy="drop").apply([document(TAIWAN), document(converted)])
    assert [kept.text for kept in outcome.kept] == [TAIWAN]
    rejection = outcome.rejected[0]
    assert rejection.reason == "region" and rejection.value.startswith("zh-Hant-CN ")
    with pytest.raises(ValueError, match="'zh-Xx' is no label"):
        Region(keep=("zh-Xx",))
