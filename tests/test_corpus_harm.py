"""Harmful content: found where it is offered, not where it is spoken of."""

import gzip
import json
import pathlib

import pytest

from twjax.corpus.document import Document
from twjax.corpus.quality.harm import CATEGORIES, Harm
from twjax.corpus.quality.phrases import TABLES, read_rows

TEXTS = pathlib.Path(__file__).parent.parent / "configs" / "corpora" / "texts"

OFFERED = {
    "gambling": (
        "【財神娛樂城】線上百家樂、老虎機、捕魚機應有盡有，註冊送體驗金 168，首儲送 1000！",
        "運彩分析群每日報明牌，現金版會員儲值送 20%，返水 1.2%，穩定出金不卡單。",
        "想找球版代理？信用版、現金版皆可開，包網專業團隊，洗碼佣金最高，歡迎代理招商。",
        "信誉好的娱乐城推荐：真人百家乐，体验金练习下注，赔率最高。",
    ),
    "sexual": (
        "外送茶 全台約妹 學生妹 兼職正妹 茶資 3000 起 可無套 加賴看照片",
        "高清無碼AV線上看，巨乳人妻被內射，成人影片免費看，每日更新。",
        "真男人增大膏，有效增加陰莖長度，讓性愛更持久，床上功夫一流。",
    ),
    "scam": (
        "急招家庭代工，動動手指在家操作，按件計酬多勞多得上不封頂，加LINE洽詢。",
        "恭喜您中獎！您的帳戶已被凍結，請立即驗證您的帳戶以領取獎金，點擊連結驗證。",
        "飆股推薦，老師帶單，加入投資群組，保證獲利、穩賺不賠，助理ＬＩＮＥ：abc123",
        "您的包裹派送失敗，請補繳運費，否則包裹無法投遞。",
    ),
    "violent": (
        "你再說一次我就殺了你，砍死你，殺你全家，弄死你這個垃圾，死全家去死吧。",
        "教你製作炸彈：土製炸彈的材料，自製炸藥的步驟，殺人方法大公開。",
    ),
}
SPOKEN_OF = (
    "在公共場所或公眾得出入之場所賭博財物者，處五萬元以下罰金。以電信設備賭博財物者，亦同。"
    "意圖營利，供給賭博場所或聚眾賭博者，處三年以下有期徒刑，得併科九萬元以下罰金。",
    "對於男女以強暴、脅迫、恐嚇、催眠術或其他違反其意願之方法而為性交者，處三年以上十年以下有期徒刑。"
    "稱性交者，謂非基於正當目的所為之下列性侵入行為：以性器進入他人之性器、肛門或口腔。",
    "警方查獲線上賭場，該娛樂城以百家樂、體育投注招攬賭客，註冊送體驗金，下注金額逾十億元。"
    "檢察官依賭博罪起訴陳嫌等十二人。",
    "陰道炎的症狀包括分泌物增加與搔癢，患者應就醫治療，治療期間避免性交。陰莖、龜頭若有紅腫也應請醫師診斷。",
    "二二八事件的屠殺造成許多人死亡，太平洋戰爭期間更有斬首、活埋等暴行，學者至今仍在研究。",
    "刑事局提醒民眾，假投資詐騙常以保證獲利、穩賺不賠、飆股、老師帶單等話術，誘騙被害人加入投資群組，"
    "請撥 165 反詐騙專線查證。",
    "小說裡的情慾描寫一度引起爭議，導演在改編電影時刪去裸體畫面，把高潮留給最後的對話。",
    "運動彩券的賠率由發行機構公告，民眾投注前應了解規則，未成年人不得購買。",
    "家庭代工在一九七〇年代的台灣十分普遍，「客廳即工廠」讓許多家庭按件計酬，多勞多得。",
    "分屍案開庭，被告坦承以刀割喉後肢解，法院判處無期徒刑，被害人家屬痛哭。",
    "他在窗口交付文件，又在路口交換名片；全球版與地球板的差別，在於支出金額。",
)


def make(text: str, id: str = "x") -> Document:
    return Document(id=id, text=text, source="s", license="l", lang="zh-TW")


@pytest.mark.parametrize(
    ("category", "text"), [(c, text) for c, texts in OFFERED.items() for text in texts]
)
def test_offers_are_labelled_and_dropped(category, text):
    labelled = Harm().apply([make(text)])
    assert labelled.kept[0].meta["harm"].startswith(f"{category}=")
    assert labelled.changed[f"labelled {category}"] == 1 and not labelled.rejected
    (rejection,) = Harm(policy="drop").apply([make(text)]).rejected
    assert rejection.reason == f"harmful: {category}"
    score = labelled.kept[0].meta["harm"].partition(";")[0].partition("=")[2]
    assert rejection.value.startswith(f"{score} (")


@pytest.mark.parametrize("text", SPOKEN_OF)
def test_statutes_news_medicine_and_history_are_left_alone(text):
    document = make(text)
    assert Harm().apply([document]).kept == [document]


@pytest.mark.parametrize("name", ["tw_laws", "tw_transcripts", "tw_articles", "tw_drcd"])
def test_nothing_in_trusted_texts_is_labelled(name):
    with gzip.open(TEXTS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        documents = [make(json.loads(line)["text"], str(n)) for n, line in enumerate(file)]
    outcome = Harm(policy="drop").apply(documents)
    assert outcome.kept == documents and not outcome.changed


def test_one_word_is_never_enough_and_length_dilutes():
    text = OFFERED["gambling"][0]
    assert not Harm(policy="drop").apply([make("娛樂城" * 50)]).rejected
    assert not Harm(policy="drop").apply([make(text + "街上的人慢慢走過騎樓。" * 400)]).rejected


def test_only_the_categories_chosen_are_dropped():
    documents = [make(texts[0], category) for category, texts in OFFERED.items()]
    outcome = Harm(policy="drop", drop=("sexual", "scam")).apply(documents)
    assert [r.document.id for r in outcome.rejected] == ["sexual", "scam"]
    assert [d.id for d in outcome.kept] == ["gambling", "violent"]
    assert all("harm" in d.meta for d in outcome.kept)


def test_neighbours_and_parameters():
    documents = [make(text) for texts in OFFERED.values() for text in texts]
    documents += [make(text) for text in SPOKEN_OF] + [make("")]
    together = Harm().apply(documents)
    assert together.kept == [Harm().apply([d]).kept[0] for d in documents]
    with pytest.raises(ValueError, match="no category 'rude'; there are sexual"):
        Harm(drop=("rude",))
    with pytest.raises(ValueError, match="must be positive"):
        Harm(threshold=0)


def test_the_table_is_whole():
    rows = read_rows(TABLES / "harm.tsv", ("phrase", "category", "weight"))
    known = {*CATEGORIES, "context", *(f"not {category}" for category in CATEGORIES)}
    assert {row["category"] for row in rows} <= known
    shields = [row["phrase"] for row in rows if row["category"].startswith("not ")]
    terms = [row["phrase"] for row in rows if row["category"] in CATEGORIES]
    # A shield that holds no phrase shields nothing.
    assert [s for s in shields if not any(term in s for term in terms)] == []
