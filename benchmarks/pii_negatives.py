# ruff: noqa: E501 (sentences stay in one piece)
"""Hard negatives for the measurement of personal-data detection: numbers that are nobody's."""

from __future__ import annotations

import random
import uuid

from pii_values import Maker


def _d(r: random.Random, n: int) -> str:
    return "".join(r.choice("0123456789") for _ in range(n))


def _document(r: random.Random) -> str:
    year = r.choice(["091", "092", "096", "098", "099", "100", "105", "110", "113"])
    return year + _d(r, 7)


def _mobile_like(r: random.Random) -> str:
    return "09" + _d(r, 8)


def _isbn(r: random.Random) -> str:
    return r.choice(
        [
            f"978-957-{_d(r, 2)}-{_d(r, 4)}-{_d(r, 1)}",
            f"978986{_d(r, 7)}",
            f"957-{_d(r, 4)}-{_d(r, 2)}-{_d(r, 1)}",
            f"0{_d(r, 9)}",
        ]
    )


def _hash(r: random.Random) -> str:
    return "".join(r.choice("0123456789abcdef") for _ in range(r.choice([7, 32, 40, 64])))


def _upper_code(r: random.Random) -> str:
    return r.choice("ABCDEFGHKM") + r.choice("12") + _d(r, 8)


_PLAIN: dict[str, list[tuple[str, Maker]]] = {
    "document number": [
        ("行政院院臺字第{}號令修正發布", _document), ("金管會金管銀法字第 {} 號函", _document), ("衛署醫字第{}號公告", _mobile_like), ("台財稅字第{}號", _mobile_like),
        ("依財政部{}號函釋辦理", _mobile_like), ("府授法規字第{}、{}號", _mobile_like), ("中華民國九十六年四月二日內政部台內營字第\n{}號令", _mobile_like),
        ("最高法院{}年度台上字第{}號判決", lambda r: str(r.randint(70, 112))), ("經授商字第{}0號登記", _mobile_like),
        ("教育部臺教高（一）字第{}A號函", _mobile_like), ("中央銀行台央外伍字第{}號", _document),
    ],
    "statute": [
        ("依民法第{}條第2項第3款規定", lambda r: str(r.randint(1, 1225))), ("刑法第185條之{}", lambda r: str(r.randint(1, 9))), ("第{}號解釋", lambda r: str(r.randint(1, 813))),
        ("司法院釋字第七四八號解釋施行法第{}條", lambda r: str(r.randint(1, 27))), ("中華民國{}年5月8日總統令公布", lambda r: str(r.randint(50, 112))),
        ("本法自{}年1月1日施行", lambda r: str(r.randint(2000, 2024))), ("都市計畫道路第{}號", lambda r: str(r.randint(1, 300))),
    ],
    "book number": [("ISBN {}", _isbn), ("ISBN：{}（平裝）", _isbn), ("國際標準書號：{}", _isbn), ("ISSN 1023-{}", lambda r: _d(r, 4)), ("EAN條碼 471{}", lambda r: _d(r, 10))],
    "year and date": [
        ("{}年間，全臺共設立三所學校", lambda r: f"{r.randint(1890, 2020)}-{r.randint(1890, 2024)}"), ("最後更新：{}", lambda r: f"{r.randint(2001, 2024)}/{r.randint(1, 12)}/{r.randint(1, 28)}"),
        ("孫中山，{}出生於廣東", lambda r: "1866年11月12日"), ("活動日期：{}", lambda r: f"{r.randint(100, 113)}/{r.randint(1, 12)}/{r.randint(1, 28)}"), ("會議定於{}召開", lambda r: f"民國{r.randint(80, 113)}年3月{r.randint(1, 28)}日"),
        ("該作家生於{}，為臺灣文學代表人物", lambda r: f"{r.randint(1910, 1980)}年{r.randint(1, 12)}月{r.randint(1, 28)}日"), ("產品{}出廠", lambda r: f"2023{r.randint(10, 12)}{r.randint(10, 28)}"),
        ("該公司於{}設立登記", lambda r: f"民國{r.randint(60, 110)}年{r.randint(1, 12)}月{r.randint(1, 28)}日"),
    ],
    "price": [("總計NT${}元", lambda r: f"{r.randint(1, 99)},{_d(r, 3)},{_d(r, 3)}"), ("預算 {} 元", lambda r: "1" + _d(r, 9)), ("營收達{}千元", lambda r: "2" + _d(r, 8)), ("售價：${}", lambda r: _d(r, 5)), ("US$ {}", lambda r: f"{r.randint(1, 999)}.{_d(r, 2)}"), ("金額：{}", lambda r: "4" + _d(r, 15))],
    "version": [
        ("請升級到 v{}", lambda r: ".".join(str(r.randint(0, 99)) for _ in range(4))), ("Chrome/{} Safari", lambda r: f"{r.randint(60, 140)}.0.{r.randint(1000, 7000)}.{r.randint(10, 200)}"),
        ("version {} released", lambda r: ".".join(str(r.randint(0, 250)) for _ in range(4))), ("Windows 版本{}", lambda r: f"10.0.{r.randint(10, 26)}.{r.randint(100, 250)}"), ("韌體 {} 修正了問題", lambda r: ".".join(str(r.randint(0, 9)) for _ in range(4))),
        ("pip install numpy=={}", lambda r: ".".join(str(r.randint(0, 40)) for _ in range(3))), ("lodash@{}", lambda r: ".".join(str(r.randint(0, 40)) for _ in range(3))), ("見第{}節", lambda r: ".".join(str(r.randint(1, 12)) for _ in range(4))),
    ],
    "order number": [
        ("訂單編號：{}", _mobile_like), ("您的訂單 #{} 已出貨", _mobile_like), ("單號{}，預計明日送達", _mobile_like), ("案件編號 {}", _upper_code), ("追蹤號碼：{}", lambda r: "4" + _d(r, 15)), ("商品料號 {}", _upper_code),
        ("訂單編號 {}", lambda r: "5" + _d(r, 15)), ("流水號：{}", _mobile_like), ("序號：{}", _upper_code), ("發票號碼 {}", lambda r: f"AB-{_d(r, 8)}"), ("包裹查詢號碼 {}", lambda r: _d(r, 12)), ("會員編號{}", _mobile_like),
    ],
    "id in code": [
        ("order_id = {}", _mobile_like), ('"id": "{}"', _mobile_like), ("const seed = 0x{};", _hash), ("https://example.org/item/{}", _mobile_like), ("https://www.example.net/q?id={}", _mobile_like), ("timestamp: {}", lambda r: "16" + _d(r, 8)),
        ("user_id={}", _mobile_like), ("std::map<int, int>::{}", lambda r: "iterator"), ("photo_{}.jpg", _mobile_like), ("twitter.com/x/status/{}", lambda r: "4" + _d(r, 17)), ("uuid {}", lambda r: str(uuid.UUID(int=r.getrandbits(128)))),
        ("line {}: syntax error", lambda r: str(r.randint(1, 9999))), ("a[{}] = 1", _mobile_like), ("logo@{}x.png", lambda r: str(r.randint(2, 3))), ("git@github.com:org/repo{}.git", lambda r: _d(r, 2)), ("class=\"sk-{}\"", lambda r: "fading-circle-animation-wrapper"), ("線上 online: status_{}", lambda r: _d(r, 3)),
    ],
    "time and place": [
        ("{}開始", lambda r: f"{r.randint(0, 23):02d}:{r.randint(0, 59):02d}:{r.randint(0, 59):02d}"), ("座標 {}", lambda r: f"25.0{_d(r, 8)}, 121.5{_d(r, 8)}"), ("經緯度：{}", lambda r: f"120.{_d(r, 9)}"), ("2021-03-04T05:06:07.{}Z", lambda r: _d(r, 7)),
        ("00:0{}:12,345 --> 00:01:14,020", lambda r: _d(r, 1)), ("坐落{}地號土地", lambda r: f"臺中市西屯區惠國段{r.randint(1, 999)}"), ("搭乘{}號公車", lambda r: str(r.randint(1, 700))), ("第{}號投開票所", lambda r: str(r.randint(1, 900))), ("走國道{}號", lambda r: str(r.randint(1, 10))), ("海拔{}公尺", lambda r: str(r.randint(100, 3952))),
    ],
    "hash": [("commit {}", _hash), ("sha256: {}", lambda r: "".join(r.choice("0123456789abcdef") for _ in range(64))), ("MD5 {}", _hash), ("檔案雜湊值{}", _hash)],
    "bill and code": [
        ("統一發票 {}", lambda r: f"{r.choice('ABWXYZ')}{r.choice('ABWXYZ')}{_d(r, 8)}"), ("繳費代碼 {}", lambda r: "BB" + _d(r, 10)), ("銷帳編號：{}", lambda r: _d(r, 16)), ("電號：{}", lambda r: f"{_d(r, 2)}-{_d(r, 2)}-{_d(r, 4)}-{_d(r, 2)}-{_d(r, 1)}"), ("水號 {}", lambda r: f"{_d(r, 1)}-{_d(r, 2)}-{_d(r, 6)}-{_d(r, 1)}"),
        ("統一編號：{}", lambda r: _d(r, 8)), ("郵遞區號 {}", lambda r: _d(r, 6)), ("股票代號{}", lambda r: _d(r, 4)), ("專利第I{}號", lambda r: _d(r, 6)), ("衛部藥製字第{}號", lambda r: _d(r, 6)), ("DOI 10.1016/j.{}", lambda r: f"cell.2020.{_d(r, 2)}.{_d(r, 3)}"), ("CNS {}", lambda r: _d(r, 5)),
    ],
    "public number": [("免付費電話{}", lambda r: f"0800-{_d(r, 3)}-{_d(r, 3)}"), ("請撥打{}", lambda r: r.choice(["110", "119", "113", "165", "1922", "1999", "1950"])), ("客服專線 0809-{}", lambda r: f"{_d(r, 3)}-{_d(r, 3)}"), ("DNS 設為 {}", lambda r: r.choice(["8.8.8.8", "168.95.1.1", "1.1.1.1"])), ("內網 {} 可連", lambda r: f"192.168.{r.randint(0, 255)}.{r.randint(1, 254)}"), ("信箱 user{}@example.com", lambda r: _d(r, 3)), ("請打 0900-000-000{}", lambda r: "")],
    "product": [("型號 {} 上市", lambda r: f"{r.choice(['ABC', 'XPS', 'CNS', 'ISO', 'RTX'])}-{_d(r, 4)}"), ("ISO-{}認證", lambda r: r.choice(["9001", "14001", "27001"])), ("COVID-{}疫情", lambda r: "19"), ("GTX-{}顯示卡", lambda r: _d(r, 4)), ("波音{}客機", lambda r: "747-400"), ("航班 {}", lambda r: f"BR-{_d(r, 4)}"), ("LINE {} 上線", lambda r: r.choice(["Pay", "Today", "Bank", "Points"])), ("產品批號{}", _upper_code)],
}  # fmt: skip

THIRD: dict[str, list[tuple[str, Maker]]] = {
    "document number": [
        ("勞動部勞動條三字第{}號解釋令", _mobile_like), ("台（{}）高字第0910012345號", lambda r: str(r.randint(80, 99))), ("交通部交路字第 {} 號函停止適用", _document), ("依{}號公告修正之附表", _mobile_like),
        ("環署廢字第{}、{}及{}號公告", _mobile_like), ("院授發管字第{}號", _mobile_like), ("檢附本部 {} 號函影本", _mobile_like), ("農授林務字第{}0號", lambda r: "09" + _d(r, 8)), ("發文字號：府教特字第{}號", _mobile_like),
    ],
    "statute": [
        ("第{}條之1第2項但書", lambda r: str(r.randint(1, 999))), ("憲法增修條文第{}條", lambda r: str(r.randint(1, 12))), ("大法庭108年度台上大字第{}號裁定", lambda r: _d(r, 4)), ("所得稅法第14條第1項第{}類", lambda r: str(r.randint(1, 10))),
        ("一百零{}年一月一日以後出生者適用之", lambda r: r.choice("一二三四五")), ("年滿六十五歲，{}以前出生者", lambda r: f"民國{r.randint(20, 50)}年12月31日"),
    ],
    "book number": [("I S B N：{}", _isbn), ("（ISBN {}）", _isbn), ("書號 {}", lambda r: "09" + _d(r, 8)), ("國際條碼 {}", lambda r: "471" + _d(r, 10))],
    "year and date": [
        ("民國{}年度總預算", lambda r: str(r.randint(80, 114))), ("展期：{}", lambda r: f"2024.{r.randint(10, 12)}.{r.randint(10, 28)}-2025.01.{r.randint(10, 28)}"), ("{} 年 {} 月號", lambda r: str(r.randint(1, 12))), ("鄧麗君（{}－1995）", lambda r: "1953年1月29日"),
        ("他於{}出生在嘉義，是知名畫家。", lambda r: f"{r.randint(1910, 1970)}年{r.randint(1, 12)}月{r.randint(1, 28)}日"), ("本校創立於{}", lambda r: f"民國{r.randint(40, 90)}年9月{r.randint(1, 28)}日"), ("保存期限 {}", lambda r: f"2026/{r.randint(1, 12):02d}/{r.randint(1, 28):02d}"),
    ],
    "price": [("決標金額：{}元", lambda r: _d(r, 10)), ("新臺幣{}元整", lambda r: "09" + _d(r, 7)), ("TWD {}", lambda r: "4" + _d(r, 9)), ("股本 {} 股", lambda r: "09" + _d(r, 8)), ("共{}人次參觀", lambda r: "09" + _d(r, 8))],
    "version": [("Firefox/{}", lambda r: f"{r.randint(60, 140)}.0"), ("driver {}", lambda r: f"31.0.{r.randint(100, 250)}.{r.randint(100, 250)}"), ("Ver {}", lambda r: ".".join(str(r.randint(0, 250)) for _ in range(4))), ("react@{}", lambda r: "18.2.0"), ("OID {}", lambda r: "2.16.886.101"), ("build {}", lambda r: "190." + ".".join(str(r.randint(100, 250)) for _ in range(3)))],
    "order number": [
        ("訂單號碼：{}", _mobile_like), ("您的取貨編號是{}", _mobile_like), ("運單號 {}", _mobile_like), ("報修單號：{}", _mobile_like), ("准考證號碼：{}", _mobile_like), ("學號 {}", _upper_code), ("商品編號：{}", _upper_code), ("物流追蹤碼 {}", lambda r: "4" + _d(r, 15)), ("交易序號{}", lambda r: "5" + _d(r, 15)), ("受理編號：{}", _mobile_like),
    ],
    "id in code": [
        ("SELECT * FROM t WHERE id = {};", _mobile_like), ('"serial": "{}"', _mobile_like), ("0x{}", _mobile_like), ("item-{}", _mobile_like), ("https://shop.example.net/p/{}.html", _mobile_like), ("rand() -> 0.{}", _mobile_like), ("facebook.com/photo?fbid={}", lambda r: "4" + _d(r, 15)), ("IMG_{}.HEIC", _mobile_like), ("std::chrono::seconds({})", _mobile_like), ("@types/node@{}", lambda r: "20.1.2"), ("newline: abc_{}", lambda r: _d(r, 3)), ("color: #{};", lambda r: _d(r, 6)),
    ],
    "time and place": [("GPS：24.{}", lambda r: "09" + _d(r, 8)), ("北緯{}度", lambda r: "23." + _d(r, 9)), ("{}時{}分發車", lambda r: str(r.randint(10, 23))), ("臺中市北屯區松竹段{}地號", lambda r: _d(r, 4)), ("高雄港{}號碼頭", lambda r: str(r.randint(1, 70))), ("台中市公車{}號路線", lambda r: str(r.randint(1, 300))), ("07:{}:04.9695890", lambda r: str(r.randint(10, 59)))],
    "hash": [("etag \"{}\"", _hash), ("git checkout {}", _hash), ("sha1-{}", _hash), ("blob:{}", _hash)],
    "bill and code": [("健保費繳款單 銷帳編號 {}", lambda r: _d(r, 14)), ("發票 {} 中獎", lambda r: f"{r.choice('ABWXYZ')}{r.choice('ABWXYZ')}-{_d(r, 8)}"), ("虛擬繳費條碼 {}", lambda r: _d(r, 16)), ("台水用戶號碼 {}", lambda r: f"{_d(r, 1)}-{_d(r, 2)}-{_d(r, 6)}"), ("專利申請號 {}", lambda r: "10" + _d(r, 7)), ("食品業者登錄字號：{}", lambda r: f"A-1{_d(r, 8)}-00000-0"), ("衛署藥製字第{}號", lambda r: _d(r, 6)), ("商標註冊第{}號", lambda r: "0" + _d(r, 7))],
    "public number": [("請打免付費專線{}", lambda r: f"0800{_d(r, 6)}"), ("防詐專線165、{}", lambda r: "110"), ("閘道 {}", lambda r: f"10.{r.randint(0, 255)}.{r.randint(0, 255)}.1"), ("127.0.0.1:{}", lambda r: _d(r, 4)), ("寄到 admin{}@example.org", lambda r: _d(r, 2)), ("nameserver {}", lambda r: "168.95.1.1")],
    "product": [("請選購 {} 機型", lambda r: f"{r.choice(['ABC', 'XPS', 'RTX', 'KDL'])}-{_d(r, 4)}"), ("CNS-{}標準", lambda r: _d(r, 4)), ("班機 {} 延誤", lambda r: f"CI-{_d(r, 3)}"), ("批號：{}", _upper_code), ("LINE {}", lambda r: r.choice(["Pay：綁卡送點數", "TODAY：今日新聞", "購物：限時"])), ("零件 {}", lambda r: "KB-" + _d(r, 4))],
}  # fmt: skip

TUNING = {kind: templates[::2] for kind, templates in _PLAIN.items()}
SECOND = {kind: templates[1::2] for kind, templates in _PLAIN.items()}


TEST: dict[str, list[tuple[str, Maker]]] = {
    "document number": [("原能會會技字第{}號令", _mobile_like), ("（{}）台內地字第9405號函", lambda r: str(r.randint(80, 99))), ("台內戶字第{}號函送", _mobile_like), ("憲法法庭112年憲判字第{}號", lambda r: str(r.randint(1, 20))), ("中選務字第{}號公告", _mobile_like), ("來文字號 {}", _mobile_like), ("海關進口報單號碼 {}", lambda r: f"AA/09/{_d(r, 3)}/{_d(r, 5)}")],
    "book number": [("國際書號ISBN：{}", _isbn), ("索書號 857.7 {}", lambda r: _d(r, 4)), ("GPN {}", lambda r: "10" + _d(r, 8))],
    "year and date": [("{}於1926年3月5日出生於臺南，小說家", lambda r: "葉石濤"), ("任期自{}起", lambda r: f"{r.randint(90, 113)}年5月{r.randint(1, 28)}日"), ("{} 出版", lambda r: f"{r.randint(1990, 2024)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"), ("簽約日期：{}", lambda r: f"{r.randint(90, 113)}.{r.randint(1, 12)}.{r.randint(1, 28)}")],
    "price": [("市值約{}美元", lambda r: "09" + _d(r, 8)), ("成交量 {} 張", lambda r: "4" + _d(r, 8)), ("合計：{}", lambda r: f"{r.randint(1, 9)},{_d(r, 3)},{_d(r, 3)},{_d(r, 3)}")],
    "version": [("更新至{}版", lambda r: ".".join(str(r.randint(0, 200)) for _ in range(4))), ("nginx/{}", lambda r: f"1.{r.randint(10, 30)}.{r.randint(0, 9)}"), ("Build {}", lambda r: f"10.0.{r.randint(100, 250)}.{r.randint(100, 250)}"), ("iOS {} 釋出", lambda r: f"17.{r.randint(0, 9)}.{r.randint(0, 9)}")],
    "order number": [("訂單（{}）已取消", _mobile_like), ("購物編號 {}", _mobile_like), ("車票代碼：{}", _mobile_like), ("保單號碼 {}", _mobile_like), ("病歷號碼：{}", _mobile_like), ("借書證號 {}", _upper_code), ("合約編號：{}", _upper_code), ("領貨單號 {}", lambda r: "4" + _d(r, 15))],
    "id in code": [("INSERT INTO logs VALUES ({}, 1)", _mobile_like), ('{{"order": "{}"}}'.replace("{{", "").replace("}}", ""), _mobile_like), ("sleep({});", _mobile_like), ("/var/log/app-{}.log", _mobile_like), ("https://news.example.com/{}", _mobile_like), ("x = 1.{}e-5", _mobile_like), ("key_{}", _mobile_like), ("commit_ts={}", lambda r: "4" + _d(r, 17))],
    "time and place": [("航點 N24.{}", _mobile_like), ("{}公里處", lambda r: f"{r.randint(1, 400)}.{_d(r, 1)}"), ("第{}號颱風", lambda r: str(r.randint(1, 30))), ("新北市板橋區公{}號計畫道路", lambda r: str(r.randint(1, 30))), ("捷運{}號出口", lambda r: str(r.randint(1, 9)))],
    "hash": [("checksum={}", _hash), ("指紋 {}", _hash), ("id: {}", _hash)],
    "bill and code": [("稅籍編號 {}", lambda r: _d(r, 9)), ("代收代號：{}", lambda r: _d(r, 14)), ("車險強制證號 {}", lambda r: _d(r, 14)), ("衛部醫器製字第{}號", lambda r: _d(r, 6)), ("瓦斯表號 {}", lambda r: _d(r, 8)), ("統編 {}", lambda r: _d(r, 8)), ("國產車輪胎 {}", lambda r: f"205/55R16 DOT {_d(r, 4)}")],
    "public number": [("申訴電話0800-{}", lambda r: f"{_d(r, 3)}-{_d(r, 3)}"), ("家暴專線{}", lambda r: "113"), ("路由器 {} 登入", lambda r: "192.168.0.1"), ("demo{}@example.com", lambda r: _d(r, 2))],
    "product": [("螢幕型號：{}", lambda r: f"ABC-{_d(r, 4)}"), ("{} 晶片", lambda r: f"RTX-{_d(r, 4)}"), ("LINE {} 紅利", lambda r: r.choice(["Pay", "Bank", "購物"])), ("CAS-{}", lambda r: f"{_d(r, 4)}-{_d(r, 2)}-{_d(r, 1)}")],
}  # fmt: skip


def negative(r: random.Random, kind: str, templates: dict[str, list[tuple[str, Maker]]]) -> str:
    """Returns a text without personal data that looks as if it had some."""
    template, make = r.choice(templates[kind])
    parts = template.split("{}")
    head = r.choice(["", "", "", "另依", "請參考", "（", "注意：", "> "])
    return (
        head
        + "".join([parts[0], *(make(r) + part for part in parts[1:])])
        + r.choice(["", "", "。", "，詳見附件。", "）"])
    )
