# ruff: noqa: E501 (samples stay in one piece)
"""Personal data: what is found, what is left, and what stands in for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.document import Document
from twjax.corpus.personal import identifiers
from twjax.corpus.personal.patterns import fold
from twjax.corpus.personal.pii import KINDS, ReplacePersonalData, find

STEP = ReplacePersonalData(kinds=KINDS, offices="replace")

# One of each kind and more; \x1f marks the value.
FOUND = """
mobile|有問題請打\x1f0912345678\x1f。
mobile|手機：\x1f０９１２－３４５－６７８\x1f
mobile|call \x1f+886 912 345 678\x1f now
mobile|(手機\x1f0912-345678\x1f)
mobile|\x1f0912.345.678\x1f 林先生
mobile|"mobile": "\x1f0912345678\x1f"
mobile|TEL:\x1f0912345678\x1f
landline|住家\x1f(02)2345-6789#123\x1f，謝謝
landline|電話\x1f０３７－２３４５６７\x1f
landline|\x1f+886-2-2345-6789\x1f
landline|馬祖\x1f0836-22345\x1f、烏坵\x1f0826-66789\x1f
landline|電話：\x1f0223456789\x1f轉告
landline|電話：\x1f2345-6789\x1f
identity number|身分證字號：\x1fA123456789\x1f
identity number|客戶\x1fM162773050\x1f、\x1fA800000014\x1f和\x1fAA00000009\x1f
identity number|身分證\x1fＡ１２３４５６７８９\x1f
identity number|身分證字號：\x1fa123456789\x1f
health card|健保卡號（12碼）：\x1f0000 1234 5678\x1f
passport|護照號碼：\x1f312345678\x1f
passport|Passport No. \x1fB12345678\x1f
company number|統一編號：\x1f22099131\x1f
card|刷\x1f4111-1111-1111-1111\x1f，12/28到期
card|卡號\x1f４１１１１１１１１１１１１１１１\x1f
bank account|請匯到玉山銀行（808）\x1f1234567890123\x1f
bank account|郵局 局號\x1f0001234 帳號0567891\x1f
address|我住\x1f台北市大安區和平東路二段123巷4弄5號6樓之7\x1f，歡迎
address|戶籍：\x1f花蓮縣秀林鄉富世村15鄰富世291號\x1f。
address|地址：\x1f臺中市西屯區臺灣大道三段九十九號\x1f
address|住在\x1f中山路100號\x1f旁
e-mail|寄到\x1fa.b+c@mail.ntu.edu.tw\x1f。
LINE id|加我LINE：\x1fabc_123\x1f
LINE id|https://line.me/ti/p/~\x1fabc.123\x1f
IP address|來自 \x1f140.112.8.116\x1f 的連線
IP address|位址 \x1f2001:b030:1::5\x1f 已封鎖
plate|車牌號碼\x1fABC-1238\x1f號
plate|駕駛\x1f1238-AB\x1f號自用小客車
birth date|出生年月日：\x1f民國七十五年三月五日\x1f
birth date|生日: \x1f75/3/5\x1f
birth date|被告，男，\x1f民國75年3月5日\x1f生，住臺北市
secret|key AKIA\x1fIOSFODNN7EXAMPL2\x1f
secret|ghp_\x1fabcdEFGH1234abcdEFGH1234abcdEFGH1234\x1f
secret|postgres://admin:\x1fs3cr3tpw\x1f@db.internal/x
mobile|手機 \x1f0912/345678\x1f
landline|電話(公) \x1f02 2345 6789\x1f
landline|電話（宅）：\x1f02-23456789*123\x1f
identity number|（身證字號 \x1fA123456789\x1f）
health card|NHI card no. \x1f000012345678\x1f
card|卡號 \x1f4111 - 1111 - 1111 - 1111\x1f
bank account|訂金請轉\x1f1234-5678-901234\x1f，銀行代碼812
address|住\x1f台北市大安區和平東路二段123號6樓A室\x1f
address|Address: \x1f3F., No. 12, Ln. 5, Sec. 2, Minsheng E. Rd., Da'an Dist., Taipei City, Taiwan\x1f
e-mail|信箱 \x1famy.lin[at]gmail.com\x1f
LINE id|可用LINE聯絡（ID：\x1fabc_123\x1f）
LINE id|Line ID \x1fabc123\x1f
plate|車號：\x1fABC - 1238\x1f
plate|看到 \x1fABC-1238\x1f 闖紅燈
birth date|DOB: \x1fMarch 5, 1986\x1f
birth date|I was born on \x1f5-Mar-1986\x1f
birth date|王小明，\x1f1986-03-05\x1f生，男
birth date|我是\x1f75/3/5\x1f出生的
secret|https://discord.com/api/webhooks/\x1f927576065437829740/abcdEFGH1234abcdEFGH1234abcdEFGH1234abcdEFGH1234abcdEFGH1234abcd\x1f
name|被告\x1f陳大文\x1f，男
mobile|洽\x1f〇九一二－三四五－六七八\x1f阿蘭姐
mobile|手機 \x1f0 9 1 2 3 4 5 6 7 8\x1f 隨時來電
mobile|直接打 \x1f0995-123-456\x1f
landline|電話：\x1f（〇二）二三四五－六七八九\x1f
landline|市內電話：\x1f332456\x1f（區碼免填）
landline|永昌五金行 \x1f049 2431574\x1f 老闆姓吳
bank account|儲戶存摺帳號：\x1f658961090765\x1f，通提密碼已設定
bank account|郵局局號帳號 \x1f0019174 - 0719948\x1f
LINE id|加賴詢問：\x1fj554675\x1f
LINE id|My LINE ID is \x1fdogdaddy\x1f, add me
birth date|Birth date (same as passport): \x1fSeptember 11, 1975\x1f
birth date|生日(7碼或8碼)：\x1f0750305\x1f
birth date|出生年月日（例：1990/01/01）：\x1f1986/03/05\x1f
birth date|生日：\x1f一九八六〇三〇五\x1f
birth date|生日：\x1f7 5 年 0 3 月 0 5 日\x1f
passport|護照號碼 \x1f3 1 2 3 4 5 6 7 8\x1f
card|卡號 \x1f4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\x1f
mobile|公告：洽水電師傅阿源\x1f0912-345-678\x1f
landline|市話\x1f02 2345 6789\x1f，下班後可打
identity number|證號\x1fA123 456 789\x1f
identity number|身分證正面影本，字號\x1fA-123456789\x1f
health card|我健保卡掉了，卡號\x1f0000-1234-5678\x1f，要怎麼補辦？
health card|\x1f000012345678\x1f 是我的健保卡號
passport|護照效期 2033/01/05，號碼 \x1f312345678\x1f
card|刷這張：\x1f4111.1111.1111.1111\x1f
bank account|被害人匯款至\x1f1234567890123\x1f號帳戶（台新銀行）
address|住\x1f台北市 信義區 市府路 45 號 8 樓\x1f
address|地址：\x1f彰化縣和美鎮三和里鎮前街12之3號5樓之2\x1f
e-mail|信箱 \x1famy.lin at gmail dot com\x1f
e-mail|寄 \x1famy.lin（小老鼠）gmail.com\x1f
LINE id|可以加我Line嗎？ID是\x1fabc_123\x1f
LINE id|賴我 \x1fabc123\x1f
plate|機車\x1fEAA-1238\x1f借我騎一天
plate|請\x1fABC1238\x1f車主移車
plate|被\x1fABC-1238\x1f撞，對方跑了
birth date|姓名/生日：陳小華/\x1f75.3.5\x1f
birth date|王員出生於\x1f西元1986年3月5日\x1f，未婚
birth date|病患 \x1f75年3月5日\x1f 生，無過敏史
birth date|我媽生日是\x1f3月5日\x1f喔
birth date|D.O.B. \x1fMar. 5, 1986\x1f
secret|Databricks dapi\x1f0123456789abcdef0123456789abcdea\x1f
secret|API 金鑰：\x1f3f2a9c81d04b57e6aa10c2d9\x1f
mobile|土地自售 \x1f0 9 1 2 3 4 5 6 7 8\x1f 屋主
landline|找榮記，\x1f04 23456789\x1f，他們做很久了
landline|一直接到 \x1f03 4567890\x1f 打來推銷
identity number|Taiwan ID: \x1fA123456789\x1f
identity number|ID No.\x1fA123456789\x1f，送入
identity number|Resident certificate no. \x1fA800000014\x1f (student)
identity number|身分證統編\x1fA123456789\x1f查無紀錄
health card|健保卡號碼（右下 12 位數字）\x1f000012345678\x1f
health card|請報一下健保卡的卡號。我：\x1f0000-1234-5678\x1f
bank account|飼主的台企銀帳號 \x1f050-12345-6789012\x1f
LINE id|通訊軟體 ID（LINE）：\x1fabc.house\x1f
LINE id|舊的LINE不見了，新的ID是\x1fabc123\x1f
LINE id|急徵 賴 \x1fabc_123\x1f 快
plate|有人知道 \x1fABC-1238\x1f 這台賓士是誰的嗎
plate|plate_number=\x1fABC 1238\x1f gate=2
birth date|生辰八字：\x1f國曆1986年3月5日\x1f巳時
birth date|He was born on \x1fMarch 5, 1986\x1f
IP address|※ 編輯: amy (臺灣 \x1f59.125.98.167\x1f), 07/21/2023
"""

LEFT = """
行政院院臺字第0960020209號令|台央業字第 0960021898 號、第0960021899號|衛署食 0980402670 令修正|
台財稅字第0910012345、0910012346及0910012347號|訂單編號：0912345678|單號 0912345678|order_id = 0912345678|"id": "0912345678"|
https://example.org/item/0912345678|0x0912345678|25.0912345678|a[0912345678]|photo_0912345678.jpg|ISBN 0912345678|
總計0912345678元|0800-123-456|05:06:07.9695890Z|02 2345 6789 1.5|A123456788|商品料號 A123456789|
NT$4111111111111111|追蹤號碼：4111111111111111|4111111111111112|統一編號：22099132|郵遞區號 10048|帳號 1234567890（論壇）|
坐落惠國段12地號|搭乘307號公車|桃園縣中壢市第 213 號投開票所|中山路口|第二十三號|民法第184條|
git@github.com:a/b.git|user@example.com|logo@2x.png|react@18.2.0|@types/node|LINE Pay上線|pipeline: abc_123|line 123: error|
版本1.2.3.4|Chrome/120.0.6099.129|192.168.1.1|127.0.0.1|8.8.8.8|203.0.113.9|2001:db8::1|12:30:45|std::vector|
ISO-9001|COVID-19|波音747-400|RTX-4090|孫中山，1866年11月12日出生|蔡英文（1956年8月31日－）|活動日期：113/5/6|生於1956年8月31日的總統|
sk-learn-fading-circle-animation|AKIAIOSFODNN7EXAMPLE|npm_config_registry_url_here|手機0900-000-000|身分證A100000000|
身分證字號格式如 A123456789|測試卡號是4242 4242 4242 4242|超速 50 公里|I was born in 1986|No. 3, May 5, 1986|生於1956-08-31的總統|
生日優惠活動自2024/03/05起|發生日期：2024/03/05|自一百年一月一日生效|民國47年12月31日以前出生者|出生率於2024年3月5日公布|陳昇完整生平條目，確認出生日期1958年10月29日|
賴致翔：sli.do|賴和（1894-1943）|像LINE或者是Viber|信賴 brand2024|車用濾網 ABC-1238 特價|車用行車記錄器 ABC-1238 開箱|整合 S2 2025-12-16 上線|護照申請收件編號 312345678|
健保申報流水號 000012345678|匯款金額：12345678901|遊戲帳號 1234567890123|帳戶餘額 1234567 元|LINE ID is required|於中華民國一百十二年十月一日至十二月三十一日間在國內出生之國民，得領取 6000 元|院臺字第〇九六〇〇二〇二〇九號|手機○○○○○○○○○○|數列 0 9 1 2 3 4 5 6 7 8|電話 300 000 戶|帳號（論壇）：123456789012|password: ********|sort_key: primary-order-descending-list|
RFC 2109 的車用規格|安裝被阻止並引發錯誤 NU3008|降版回 4.0.7.95 就好了|Genesys.Core 3.17.11.40 (type)|minClientVersion="100.0.0.1"|SDK (9.3.22.180) 不相容|addr in 1.2.3.0/24|
LINE usage at 87%|LINE groups forwarded it|on the line "Der-Jei" Group|E323: Line count wrong|不賴（put-lāi）|msg D F2 00000044|https://a.example.org/2017/05/30/a-newborn|
成吉思汗十年八月二十八日，忽必烈生於漠北|2004年5月6日，她選在生日這天宣布結婚|2013年1月16日，為了紀念他出生112週年|Amy Lee was born on March 5, 1986, in Taipei|機車火星塞 NGK-6289
"""


def make(text: str, id: str = "x") -> Document:
    return Document(id=id, text=text, source="s", license="l", lang="zh-TW")


def marked(line: str) -> tuple[str, str, list[str]]:
    kind, text = line.split("|", 1)
    parts = text.split("\x1f")
    return kind, "".join(parts), parts[1::2]


@pytest.mark.parametrize("line", FOUND.strip().split("\n"))
def test_each_kind_is_found_in_its_place(line):
    kind, text, values = marked(line)
    assert [(f.kind, text[f.start : f.end]) for f in find(text)] == [(kind, v) for v in values]


@pytest.mark.parametrize("text", LEFT.replace("\n", "").split("|"))
def test_numbers_of_things_are_left(text):
    kinds = [kind for kind in KINDS if kind != "name"]
    assert [(f.kind, text[f.start : f.end]) for f in find(text, kinds)] == []


@pytest.mark.parametrize("line", FOUND.strip().split("\n"))
def test_stand_ins_are_of_the_kind_and_nobodys(line):
    kind, text, values = marked(line)
    kept = STEP.apply([make(text)]).kept[0].text
    for value in values:
        assert value not in kept
    # Nothing that a second run would take for personal data; the width and the rest stay.
    assert find(kept) == []
    if kind in ("mobile", "landline", "card", "identity number", "plate", "bank account"):
        assert len(kept) == len(text)
        same = [a == b for a, b in zip(text, kept, strict=True)]
        wide = [("０" <= c <= "９") or ("Ａ" <= c <= "Ｚ") for c in text]
        assert all(s or c.isalnum() for s, c in zip(same, text, strict=True))
        assert wide == [("０" <= c <= "９") or ("Ａ" <= c <= "Ｚ") for c in kept]


def test_stand_ins_have_what_real_values_cannot():
    text = "身分證A123456789，手機0912345678，電話(02)2345-6789，卡號4111111111111111，統編22099131"
    kept = STEP.apply([make(text)]).kept[0].text
    identity, mobile, landline, card, company = (part for part in kept.split("，"))
    assert not identifiers.is_identity_number(identity[-10:])
    assert mobile[2:].startswith("0990")
    assert landline.startswith("電話(02)0")
    assert card[2] == "4" and not identifiers.is_card_number(card[2:])
    assert not identifiers.is_company_number(company[-8:])


def test_equal_values_get_equal_stand_ins_within_a_document_only():
    text = "0912345678 或 +886-912-345-678；另 0987654321"
    step = ReplacePersonalData()
    one = step.apply([make(text, "1")]).kept[0].text
    assert one[:10] == "0" + one[18:29].replace("-", "")
    assert one[:10] != one[-10:]
    assert step.apply([make(text, "2")]).kept[0].text != one
    assert ReplacePersonalData(seed=1).apply([make(text, "1")]).kept[0].text != one


def test_stand_ins_tell_nothing_of_the_value():
    # They follow from the place among the document's values, so other values give the same.
    texts = [f"打{number}給我，或{other}" for number, other in (("0912345678", "0922333444"), ("0955666777", "0966123123"))]  # fmt: skip
    kept = [ReplacePersonalData().apply([make(t)]).kept[0].text for t in texts]
    assert kept[0] == kept[1]


def test_many_values_of_a_document_get_different_stand_ins():
    numbers = [f"09{n:08d}" for n in range(12345678, 12345678 + 3000)]
    kept = ReplacePersonalData().apply([make("，".join(numbers))]).kept[0].text
    assert len(set(kept.split("，"))) == 3000


def test_policies_and_counts():
    text = "手機0912345678，信箱amy@gmail.com，再打0912345678"
    replaced = ReplacePersonalData().apply([make(text)])
    assert replaced.changed == {"mobile": 2, "e-mail": 1, "documents": 1}
    for edit in replaced.edits:
        shown = replaced.kept[0].text[edit.start : edit.start + len(edit.after)]
        assert shown == edit.after and "0912345678" not in edit.before + edit.after
    assert [e.before for e in replaced.edits] == ["[MOBILE_1]", "[E_MAIL_1]", "[MOBILE_1]"]
    tagged = ReplacePersonalData(style="tag").apply([make(text)]).kept[0].text
    assert tagged == "手機[MOBILE_1]，信箱[E_MAIL_1]，再打[MOBILE_1]"
    labelled = ReplacePersonalData(policy="label").apply([make(text)]).kept[0]
    assert labelled.text == text and labelled.meta["pii"] == "e-mail:1 mobile:2"
    dropped = ReplacePersonalData(policy="drop", drop_from=3).apply(
        [make(text), make("手機0912345678")]
    )
    assert [r.value for r in dropped.rejected] == ["e-mail:1 mobile:2"] and len(dropped.kept) == 1
    with pytest.raises(ValueError, match="kinds has"):
        ReplacePersonalData(kinds=("phone",))


def test_what_is_public_is_kept_by_default():
    step = ReplacePersonalData()
    public = [
        "消費者服務專線：(02)2345-6789", "財政部國稅局電話02-2345-6789", "客服信箱service@abc.com.tw", "博物館位於臺南市安南區長和路一段250號",
        "加入官方LINE：@cofacts", "資料庫在 http://140.109.24.175/iplm/", "公司統一編號：22099131", "被告陳大文否認犯行",
    ]  # fmt: skip
    assert [d.text for d in step.apply([make(t) for t in public]).kept] == public
    private = [
        "我家電話(02)2345-6789", "王小姐住臺南市安南區長和路一段250號", "amy1985@abc.com.tw", "客服人員私下給了我他的手機0912345678",
        "0912345678\n臺南市安南區長和路一段250號",
    ]  # fmt: skip
    assert all(
        a.text != b
        for a, b in zip(step.apply([make(t) for t in private]).kept, private, strict=True)
    )


def test_an_article_tells_lives_and_shows_samples():
    article = (
        "# 王大明\n\n## 生平\n\n王大明生於1986年3月5日。[^1]\n\n```\nbirthday = 1990/8/31\n```\n"
    )
    assert not STEP.find([article])[0]
    assert ReplacePersonalData().find(["## 車牌\n\n有人標下車牌「ABC-8888」"]) == [[]]
    # A form is a form wherever it stands.
    form = "# 名冊\n\n姓名：王小明　電話：0912345678　出生日期：1986/3/5"
    assert [f.kind for f in STEP.find([form])[0]] == ["name", "mobile", "birth date"]


@pytest.mark.parametrize("mark", [",", "\t", "|", ";"])
def test_the_heading_of_a_column_says_what_its_cells_are(mark):
    rows = [["name", "birthday", "line_id", "ticket_id", "tel"], ["王小明", "1986/3/5", "abc_123", "0912345678", "04 23456789"]]  # fmt: skip
    text = "\n".join(mark.join(row) for row in [rows[0], *[rows[1]] * 3])
    found = STEP.find([text])[0]
    assert [f.kind for f in found] == ["birth date", "LINE id", "landline"] * 3
    assert [text[f.start : f.end] for f in found] == ["1986/3/5", "abc_123", "04 23456789"] * 3


def test_offices_lists_and_examples_keep_their_addresses_and_lines():
    step = ReplacePersonalData()
    public = [
        "[機關名稱]水利局[機關地址]730臺南市新營區民治路36號[聯絡人]王小姐[聯絡電話]06-6373350", "發稿單位：體育局 科長 王大明 電話：06-2157691#225",
        "我家附近有\n甲雞排 高雄市前金區自立一路35號\n乙雞排 高雄市鹽埕區七賢三路132號\n丙雞排 高雄市三民區喜峰街112號\n",
        "顯示正門牌如中正路200號8樓", "銀行帳號：149-10-009643-1\n戶名：社團法人某某協會", "急難救助中心LINE帳號help119",
    ]  # fmt: skip
    assert [d.text for d in step.apply([make(t) for t in public]).kept] == public


def test_names_are_a_switch_with_a_list_of_exceptions():
    text = "被告陳大文，告訴人賴清德，王小明先生"
    step = ReplacePersonalData(kinds=("name",), public_names=("賴清德",))
    assert step.apply([make(text)]).kept[0].text == "被告甲○○，告訴人賴清德，乙○○先生"
    assert ReplacePersonalData().apply([make(text)]).kept[0].text == text


PIECES = st.sampled_from(
    ["0912345678", "A123456789", "台北市", "中山區", "中山路", "一段", "12號", "3樓", "LINE", "ID：", "abc_12", "@", "gmail.com", "生日", "75/3/5",
     "\0", "\n", "😀", "０９", "-", " ", "(02)", "2345-6789", "第", "號", "4111111111111111", "eyJ", "ghp_", "x" * 30, "車牌", "ABC-1238", ":", "：", "民國", "年", "月", "日生", ",", "tel,birthday,id\n", "```", "# "]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=14).map("".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, max_size=4))
def test_a_document_does_not_depend_on_its_neighbours(texts):
    together = STEP.find(texts)
    assert together == [STEP.find([text])[0] for text in texts]
    for text, found in zip(texts, together, strict=True):
        ends = [0, *(f.end for f in found)]
        assert all(f.start < f.end <= len(text) for f in found)
        assert all(f.start >= end for f, end in zip(found, ends, strict=False))


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_replacing_leaves_the_rest_and_the_edits_lead_back(text):
    outcome = STEP.apply([make(text)])
    kept, found = outcome.kept[0].text, STEP.find([text])[0]
    for edit, one in reversed(list(zip(outcome.edits, found, strict=True))):
        end = edit.start + len(edit.after)
        kept = kept[: edit.start] + text[one.start : one.end] + kept[end:]
    assert kept == text


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_folding_keeps_every_offset(text):
    folded, codes = fold(text)
    assert len(folded) == len(text) == len(codes)
    assert all(
        a == b or "！" <= a <= "～" or a in "〇零○◯一二三四五六七八九"
        for a, b in zip(text, folded, strict=True)
    )


@pytest.mark.parametrize(
    "piece",
    ["1", "09", "0912 ", "886 ", "a.", "a@b.", "號", "路1號", "台北市", "一", "中正區中正路", "LINE ID:", "生日：75/3/", "1年1月1日生", "1.2.3.4.",
     "2001:", "eyJ", "eyJaaaaaaaa.", "-----BEGIN ", "ghp_", "://a:b", "0 (", "第 1", "銀行帳號12", "車牌ABC-12", "０９", "secret_key=", "姓名：陳", "一年一月一日", "\n", "出生於1", "〇九", "0 ", "生日(7碼"],
)  # fmt: skip
def test_long_repetitions_end(piece):
    text = piece * (20_000 // len(piece))
    assert isinstance(find(text), list)
    assert isinstance(find(text + "號0912345678"), list)
