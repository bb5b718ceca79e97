"""Conversion of Simplified text: words, characters, what stays, and the way back."""

from __future__ import annotations

import collections
import dataclasses
import gzip
import json
import pathlib

import opencc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.conversion import convert, overlay, taiwan
from twjax.corpus.conversion.convert import ConvertSimplified, restore
from twjax.corpus.conversion.overlay import Overlay, Rule
from twjax.corpus.document import Document
from twjax.corpus.step import Edit
from twjax.corpus.variety import script

# Simplified text and what a reader in Taiwan expects; s2twp is wrong in most of them.
_CASES = """
少数组织反对 少數組織反對
改变量子比特的状态 改變量子位元的狀態
电灯被发明以后 電燈被發明以後
他学习了如何游泳 他學習了如何游泳
公司参与制造飞机 公司參與製造飛機
熟悉的面孔 熟悉的面孔
台风来袭 颱風來襲
文件规定如下 文件規定如下
研究的对象是人 研究的對象是人
信息质量很高 資訊品質很高
坐公交车去机场 坐公車去機場
发射了一枚导弹 發射了一枚飛彈
宇航员平安返回 太空人平安返回
土豆炖牛肉 馬鈴薯燉牛肉
刘发泉与李松仁 劉發泉與李松仁
沈阳的沈先生 瀋陽的沈先生
走了十里路 走了十里路
周杰伦唱歌 周杰倫唱歌
范仲淹是余先生的偶像 范仲淹是余先生的偶像
境内存放的货物 境內存放的貨物
国内存在的问题 國內存在的問題
电视频道 電視頻道
政府公布计划 政府公布計畫
空气污染 空氣污染
地面很湿 地面很濕
台湾的平台 台灣的平台
核准确认书 核准確認書
不准许他准备 不准許他準備
恢复原状后重复复制 恢復原狀後重複複製
他的头发很长 他的頭髮很長
开发者发送了换发的证件 開發者發送了換發的證件
一个中国人 一個中國人
个中滋味 箇中滋味
是只会叫的猫 是只會叫的貓
这方面条件不好 這方面條件不好
里面包含面条 裡面包含麵條
会议通过了决议 會議通過了決議
他通过考试 他通過考試
可以通过手机查询 可以透過手機查詢
体制造成的问题 體制造成的問題
控制作用 控制作用
法制作业 法制作業
并发送邮件 並發送郵件
参数表示 參數表示
计算法则 計算法則
预算法 預算法
抖音视频 抖音影片
普京和特朗普在意大利会谈 普丁和川普在義大利會談
出席表决 出席表決
系统与关系 系統與關係
幼儿园里的小朋友 幼兒園裡的小朋友
制定发展制度 制定發展制度
"""
CASES = [line.split() for line in _CASES.strip().splitlines()]
# Words whose sense the field decides.
COMPUTING = """
程序打开文件，调用函数并返回字符串。
程式開啟檔案，呼叫函式並回傳字串。
默认情况下，服务器通过接口访问数据库中的对象。
預設情況下，伺服器透過介面存取資料庫中的物件。
"""


def make(text: str, id: str = "a", **fields) -> Document:
    return Document(id=id, text=text, source="test", license="CC0-1.0", lang="zh-CN", **fields)


def taiwanese(text: str, **parameters) -> str:
    return ConvertSimplified(**parameters).apply([make(text)]).kept[0].text


@pytest.mark.parametrize("text, expected", CASES, ids=[case[0] for case in CASES])
def test_what_a_reader_in_taiwan_expects(text, expected):
    # The sentence before makes the text Simplified beyond doubt.
    assert taiwanese("这个问题说来话长。" + text) == "這個問題說來話長。" + expected


def test_words_of_computing_only_where_computing_is_the_subject():
    lines = COMPUTING.strip().split("\n")
    assert taiwanese("\n".join(lines[::2])) == "\n".join(lines[1::2])
    law = "法院依照法定程序审理，当事人对象与文件均应说明，由国家设备单位支持。"
    assert taiwanese(law) == "法院依照法定程序審理，當事人對象與文件均應說明，由國家設備單位支持。"


def test_characters_are_opencc_s_where_no_rule_holds():
    # OpenCC's own command line is checked in test_corpus_steps; here its library.
    text = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"
    assert taiwanese(text) == opencc.OpenCC("s2tw").convert(text)


@pytest.mark.parametrize("config", ["s2t", "s2tw", "s2twp", "s2hk"])
def test_without_an_overlay_it_is_opencc_s_conversion(config):
    text = (
        "公布程序员用的计算机软件，台湾。\n默认打印机\n这个问题说来话长，`软件`的后面。\n春眠不觉晓"
    )
    step = ConvertSimplified(config=config, overlay="none")
    outcome = step.apply([make(text), make(text.replace("`", ""), "b")])
    assert outcome.kept[1].text == opencc.OpenCC(config).convert(text.replace("`", ""))
    assert "`软件`" in outcome.kept[0].text
    for document, old in zip(outcome.kept, (text, text.replace("`", "")), strict=True):
        assert restore(document, outcome.edits).text == old


def test_traditional_text_is_left_alone():
    text = "國家安全局依預算法准許文件程序，公布計畫設備註銷，出席表決，制定權限，村里鄰長。"
    outcome = ConvertSimplified().apply([make(text)])
    assert outcome.kept == [make(text)] and not outcome.edits
    assert outcome.changed == {"left traditional": 1}


PROTECTED = """关于软件的说明： `打印信息` 与 https://example.com/软件/信息 及 info@example.com。

```python
信息 = "软件"  # 服务器
```

请参阅《信息安全技术》与 /home/用户/软件/信息.txt，还有沈从文的软件。
"""


def test_protected_stretches_stay_byte_for_byte():
    after = taiwanese(PROTECTED, names=("沈从文",))
    for kept in (
        *("`打印信息`", "https://example.com/软件/信息", "info@example.com", "沈从文"),
        *('信息 = "软件"  # 服务器', "《信息安全技术》"),
    ):
        assert kept in after
    assert "關於軟體的說明：" in after and "還有沈从文的軟體" in after
    assert "《資訊安全技術》" in taiwanese(PROTECTED, titles="convert")


MIXED = """這一段是臺灣的文字，說明國會與學校的關係，應該保持原樣。
這位記者寫道：「这个软件运行得很快，我们应该继续发展下去」，讀者覺得有趣。
这一段是大陆的文字，说明国会与学校的关系，应该转换成台湾的用法。
臺灣的恒春鎮，會議與學校，里長辦公處。"""


def test_only_the_simplified_parts_of_a_mixed_document():
    outcome = ConvertSimplified().apply([make(MIXED)])
    lines, before = outcome.kept[0].text.split("\n"), MIXED.split("\n")
    assert lines[0] == before[0] and lines[3] == before[3]
    assert "「這個軟體執行得很快，我們應該繼續發展下去」" in lines[1].replace("運行", "執行")
    assert lines[2] == "這一段是大陸的文字，說明國會與學校的關係，應該轉換成台灣的用法。"
    assert outcome.changed["documents in part"] == 1
    assert restore(outcome.kept[0], outcome.edits) == make(MIXED)


def test_a_word_that_tells_nothing_goes_with_its_sentence():
    text = "衛生單位說明這則轉傳訊息內容：美国卫生专家撰文：如何预防“武汉”病毒感染。"
    assert taiwanese(text).endswith("美國衛生專家撰文：如何預防“武漢”病毒感染。")


def test_every_change_is_counted_and_listed():
    text = "这个软件的质量问题，计算机用户应该说明。"
    outcome = ConvertSimplified().apply([make("無關的繁體文字，應該沒有問題。", "b"), make(text)])
    after = outcome.kept[1]
    phrases = [edit for edit in outcome.edits if edit.kind == "phrase"]
    assert [(e.before, e.after) for e in phrases] == [
        ("软件", "軟體"), ("质量问题", "品質問題"), ("计算机", "電腦"), ("用户", "使用者")
    ]  # fmt: skip
    for edit in outcome.edits:
        assert edit.id == "a"
        assert after.text[edit.start : edit.start + len(edit.after)] == edit.after
    assert outcome.changed["phrases"] == 4
    assert outcome.changed["documents"] == outcome.changed["left traditional"] == 1
    # Of 这个的，应该说明: 这 个 应 该 说.
    assert outcome.changed["characters"] == 5
    assert after.lang == "zh-TW" and after.meta["converted_from"] == "zh-CN"
    assert restore(after, outcome.edits) == make(text)


def test_code_between_the_lines_of_a_manual_does_not_hide_what_it_is_about():
    text = "这个软件的集群需要配置，程序会自动重启。\n" * 2
    table = "| Field | Type | Null | Key | Default | Extra |\n" * 40
    kept = ConvertSimplified().apply([make(text), make(text + table)]).kept
    assert "叢集" in kept[0].text and kept[1].text == kept[0].text + table


def test_the_region_that_a_conversion_overtook_is_told_and_restored():
    documents = [
        dataclasses.replace(make(text, region), meta={"region": region, "region_score": "1.00"})
        for text, region in (
            ("这个软件的质量很好。", "zh-Hans"),
            ("這個說明。\n这个软件说。", "mul"),
        )
    ]
    outcome = ConvertSimplified().apply(documents)
    whole, part = outcome.kept
    assert (whole.meta["region"], whole.meta["region_before"]) == ("zh-Hant-TW", "zh-Hans")
    assert "converted_spans" in part.meta and part.meta["region"] == "mul"
    assert [restore(document, outcome.edits) for document in outcome.kept] == documents


def real() -> list[Document]:
    """Simplified texts of the repository, and Traditional ones."""
    folder = pathlib.Path(__file__).parent.parent / "configs" / "corpora" / "texts"
    documents = []
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file):
                record = json.loads(line)
                if number < 40 and record.get("text"):
                    documents.append(make(record["text"], f"{path.name}:{number}"))
    return documents


def test_real_texts_convert_once_and_come_back():
    documents = real()
    assert len(documents) > 100
    outcome = ConvertSimplified().apply(documents)
    again = ConvertSimplified().apply(outcome.kept)
    assert again.kept == outcome.kept and not again.edits
    edits = collections.defaultdict(list)
    for edit in outcome.edits:
        edits[edit.id].append(edit)
    converted = [d for d in outcome.kept if "converted" in d.meta]
    assert len(converted) == outcome.changed["documents"] > 5
    originals = {document.id: document for document in documents}
    for document in converted:
        assert restore(document, edits[document.id]) == originals[document.id]


_PIECES = """
这个 软件 这个软件运行了 信息质量 國家與學校 說明 后面 里 干 乾 着 著 台 臺 發 发 头发 。 ， 「 」
“ ” ` ``` 《 》 《信息》 https://a.tw/信息 a@b.tw 的 了 ア の 数组 少 织 文件 程序 函数 代码 服务器
被 复 😀 字符串 数据库 API 会议通过 可以通过 内存 国
"""
PIECES = st.sampled_from([*_PIECES.split(), "\n", "\u2028", "\ufffc"])


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_text_converts_once_and_comes_back(text):
    step = ConvertSimplified()
    outcome = step.apply([make(text)])
    assert step.apply(outcome.kept).kept == outcome.kept
    if outcome.kept[0] != make(text):
        assert restore(outcome.kept[0], outcome.edits) == make(text)
    else:
        assert not outcome.edits


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), st.data())
def test_whatever_is_converted_comes_back(text, data):
    bounds = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=6)))
    spans = [(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=False) if a < b]
    done = taiwan.convert(text, spans, [(0, 2)], overlay.load())
    assert taiwan.back(done.text, done.spans, done.replacements) == text
    for (a, b), (c, d) in zip(spans, done.spans, strict=True):
        assert text[:2] == done.text[:2]
        assert (d - c) >= 0 and (b - a) >= 0


def test_a_document_that_was_changed_since_is_not_restored():
    outcome = ConvertSimplified().apply([make("这个软件的说明书很长。")])
    (after,) = outcome.kept
    with pytest.raises(ValueError, match="wasn't converted"):
        restore(make("這"), outcome.edits)
    with pytest.raises(ValueError, match="hashes to"):
        restore(dataclasses.replace(after, text=after.text + "。"), outcome.edits)
    with pytest.raises(ValueError, match="stands at character"):
        restore(dataclasses.replace(after, text="。" + after.text), outcome.edits)
    with pytest.raises(ValueError, match="a: "):
        restore(after, [*outcome.edits, Edit("a", "phrase", 1, "x", "y")])


def reference(rules: list[Rule], text: str) -> list[tuple[int, str]]:
    """Leftmost, longest, first that holds; one place after another."""
    found, at = [], 0
    while at < len(text):
        here = [r for r in rules if text.startswith(r.source, at) and r.holds(text, at)]
        if here:
            rule = max(here, key=lambda r: len(r.source))
            found.append((at, rule.to))
            at += len(rule.source)
        else:
            at += 1
    return found


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("甲乙丙", min_size=2, max_size=4), st.text("ABC", min_size=1), max_size=8
    ),
    st.text("甲乙丙丁\n", max_size=60),
    st.sampled_from([(), ("丁~",), ("~丁",), ("甲~乙",), ("丁",)]),
)
def test_matches_are_leftmost_and_longest(table, text, exclude):
    rules = [Rule(source, to, exclude=exclude) for source, to in table.items()]
    matches, _ = Overlay(rules, "").matches(text)
    assert [(m.start, m.rule.to) for m in matches] == reference(rules, text)


def test_contexts():
    rule = Rule("内存", "x", before=("的",), after=("很",), exclude=("~放", "国~", "境~在", "貨物"))
    assert rule.holds("的内存很", 1) and not rule.holds("内存很", 0) and not rule.holds("的内存", 1)
    assert not rule.holds("貨物" + "一" * 10 + "的内存很", 13)
    assert rule.holds("貨物" + "一" * 30 + "的内存很", 33)
    assert not Rule("内存", "x", exclude=("~放",)).holds("内存放", 0)
    assert not Rule("内存", "x", exclude=("境~在",)).holds("境内存在", 1)
    assert Rule("内存", "x", exclude=("境~在",)).holds("境内存", 1)


def test_the_table_is_sound():
    table = overlay.load()
    assert len(table.digest) == 64
    for rule in table.rules():
        # Were what comes out Simplified, converting again would change it.
        assert script.count(rule.to).simplified == 0, rule.source
        assert script.count(rule.source).traditional == 0, rule.source


@pytest.mark.parametrize(
    "text, message",
    [
        ("from\tto\n", "columns"),
        ("HEAD甲\t乙\t\t\t\t\t\t\t\n", ":2: `from`"),
        ("HEAD甲乙\t\t\t\t\t\t\t\t\n", ":2: `from`"),
        ("HEAD甲乙\t丙\tcomputer\t\t\t\t\t\t\n", ":2: `where`"),
        ("HEAD甲乙\t丙\n", ":2: 2 columns"),
        ("HEAD甲乙\t丙\t\t\t\t\t\t\t\n#\n甲乙\t丁\t\t\t\t\t\t\t\n", ":4: '甲乙' is here twice"),
    ],
)
def test_a_wrong_table_is_refused(text, message):
    head = "from\tto\twhere\tbefore\tafter\texclude\tnote\tsource\tlicence\n"
    with pytest.raises(ValueError, match=message):
        overlay.parse(text.replace("HEAD", head), "t.tsv")


def test_a_table_of_one_s_own(tmp_path):
    path = tmp_path / "own.tsv"
    path.write_text(
        "from\tto\twhere\tbefore\tafter\texclude\tnote\tsource\tlicence\n"
        "软件\t軟體程式\t\t\t\t\t\tme\tCC0-1.0\n",
        encoding="utf-8",
    )
    assert taiwanese("这个软件会说话", overlay=str(path)) == "這個軟體程式會說話"


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"threshold": 0.5}, "threshold"),
        ({"config": "s2twp"}, "overlay='none'"),
        ({"titles": "drop"}, "titles"),
        ({"tai": "檯"}, "tai"),
        ({"names": ("",)}, "names"),
        ({"names": "沈从文"}, "names"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        ConvertSimplified(**parameters)


def test_the_form_of_tai():
    assert taiwanese("台湾的电视台与舞台，说这个问题", tai="臺") == "臺灣的電視臺與舞臺，說這個問題"
    assert taiwanese("台湾的电视台与舞台，说这个问题") == "台灣的電視台與舞台，說這個問題"


def test_versions_decide_the_outcome():
    versions = ConvertSimplified().versions()
    assert versions == {"opencc": opencc.__version__, "overlay": overlay.load().digest}
    assert ConvertSimplified(config="s2twp", overlay="none").versions() == {
        "opencc": opencc.__version__
    }


def test_japanese_is_left_alone():
    text = "国会は学校を訪れ、経済について説明を聞いた。当社の会社概要"
    assert convert.simplified(text, [], 0.8) == ("japanese", [])
