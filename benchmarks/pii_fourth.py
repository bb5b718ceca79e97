# ruff: noqa: E501 (sentences stay in one piece)
"""The fourth set of templates for the measurement of personal-data detection, with its own values.

Written without a look at the rules or at the sentences of the other sets; all invented, all seeded.
A template is a text, or a text and what makes its value where it asks for a writing of its own.
"""

from __future__ import annotations

import calendar
import random
import string

import pii_values
from pii_values import Maker, han, luhn
from pii_values import digits as _d
from pii_values import pick as _pick

Template = str | tuple[str, Maker]
_LETTERS = string.ascii_letters + string.digits
_ENGLISH_MONTHS = calendar.month_name[1:]


def _wide(r: random.Random, text: str, share: float = 0.08) -> str:
    """Writes a number in full width now and then."""
    if r.random() > share:
        return text
    return "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c != " " else c for c in text)


def _mobile(r: random.Random) -> str:
    n = "09" + r.choice("01235678") + _d(r, 3) + r.choice("123456789") + _d(r, 3)
    a, b, c = n[:4], n[4:7], n[7:]
    return _wide(r, r.choice([
        n, n, n, f"{a}-{b}-{c}", f"{a}-{b}-{c}", f"{a}-{b}{c}", f"{a} {b} {c}", f"{a} {b}{c}", f"{a}–{b}–{c}", f"{a}/{b}{c}",
        f"+886 {n[1:4]}-{b}-{c}", f"+886-{n[1:]}", f"886{n[1:]}", f"+886 (0){n[1:4]} {b} {c}", f"(+886){n[1:4]}-{b}{c}", f"00886-{n[1:4]}-{b}-{c}",
    ]))  # fmt: skip


def _landline(r: random.Random) -> str:
    area, size, first = r.choice([
        ("02", 8, "28"), ("02", 8, "2"), ("03", 7, "34589"), ("037", 6, "2356"), ("04", 8, "23"), ("04", 7, "78"), ("049", 7, "2"),
        ("05", 7, "2356"), ("06", 7, "23567"), ("07", 7, "2345678"), ("08", 7, "78"), ("089", 6, "23"), ("082", 6, "3"),
    ])  # fmt: skip
    local = r.choice(first) + _d(r, size - 3) + r.choice(["12", "58", "36", "07", "91"])
    cut = size - 4 if size > 6 else 3
    b, c = local[:cut], local[cut:]
    text = r.choice([
        f"{area}-{local}", f"{area}-{b}-{c}", f"({area}){local}", f"({area}){b}-{c}", f"({area}) {local}", f"({area})-{local}", f"{area} {b} {c}",
        f"{area}-{b} {c}", f"（{area}）{local}", f"+886-{area[1:]}-{local}", f"+886 {area[1:]} {b} {c}", f"886-{area[1:]}-{local}",
    ])  # fmt: skip
    if r.random() < 0.25:
        text += r.choice(["分機", "#", " #", "轉", " 分機 ", " ext.", "*"]) + _d(r, 3)
    return _wide(r, text)


def _identity(r: random.Random) -> str:
    text = pii_values.identity(r)
    return text.lower() if text.isascii() and r.random() < 0.1 else text


def _card(r: random.Random) -> str:
    head = r.choice(["4", "4", "4", "51", "54", "2221", "2720", "3528", "3566", "37", "34"])
    if head in ("37", "34"):
        n = luhn(r, head, 15)
        return r.choice([n, f"{n[:4]}-{n[4:10]}-{n[10:]}", f"{n[:4]} {n[4:10]} {n[10:]}"])
    n = luhn(r, head, 16)
    return _wide(r, r.choice(["", "-", " ", " - "]).join(n[i : i + 4] for i in (0, 4, 8, 12)))


def _bank(r: random.Random) -> str:
    n = r.choice("0123456789") + _d(r, r.choice([11, 11, 12, 13])) + r.choice("123456789")
    return _wide(
        r,
        r.choice(
            [
                n,
                n,
                f"{n[:3]}-{n[3:6]}-{n[6:]}",
                f"{n[:4]}-{n[4:8]}-{n[8:]}",
                f"{n[:5]}-{n[5:]}",
                f"{n[:4]} {n[4:8]} {n[8:]}",
            ]
        ),
    )


def _post_account(r: random.Random) -> str:
    return f"{r.choice('01')}{_d(r, 6)}{r.choice(['-', ' ', ''])}{r.choice('0123')}{_d(r, 5)}{r.choice('1357')}"


def _address(r: random.Random) -> str:
    county = r.choice(list(pii_values.TOWNS))
    town = r.choice(pii_values.TOWNS[county].split())
    n = str if r.random() < 0.8 else han
    text = (county if r.random() < 0.85 else "") + town
    if r.random() < 0.2:
        text += r.choice(["光明", "興隆", "新興", "東門", "溪洲"]) + (
            "里" if town[-1] in "區市鎮" else "村"
        )
        text += n(r.randint(1, 22)) + "鄰" if r.random() < 0.5 else ""
    text += r.choice(
        [
            "中正",
            "民權",
            "青年",
            "四維",
            "健康",
            "重慶北",
            "南京東",
            "莊敬",
            "永安",
            "博愛",
            "學府",
            "大業",
            "中興",
            "文心",
        ]
    )
    text += r.choice(["路", "路", "街"])
    text += r.choice(["一段", "二段", "三段", "1段", "4段"]) if r.random() < 0.35 else ""
    if r.random() < 0.4:
        text += (
            n(r.randint(1, 390)) + "巷" + (n(r.randint(1, 40)) + "弄" if r.random() < 0.4 else "")
        )
    number = r.randint(1, 480)
    text += r.choice(
        [
            f"{n(number)}號",
            f"{n(number)}號",
            f"{n(number)}之{n(3)}號",
            f"{number}-2號",
            f"{n(number)}號之{n(2)}",
        ]
    )
    if text[-1] != "號":
        return _wide(r, text, 0.06)
    text += r.choice(
        [
            "",
            "",
            f"{n(r.randint(2, 20))}樓",
            f"{r.randint(2, 20)}F",
            f"{n(r.randint(2, 20))}樓之{n(2)}",
            f"{r.randint(2, 9)}樓A室",
            f"{r.randint(2, 9)}F-1",
        ]
    )
    return _wide(r, text, 0.06)


def _english_address(r: random.Random) -> str:
    lane = r.choice(["", f"Ln. {r.randint(2, 300)}, ", f"Lane {r.randint(2, 300)}, "])
    road = r.choice(
        ["Zhongshan Rd.", "Sec. 2, Minsheng E. Rd.", "Heping Road", "Wenhua 1st Rd.", "Fuxing St."]
    )
    town = r.choice(
        [
            "Da'an Dist., Taipei City",
            "Banqiao District, New Taipei City",
            "Xitun Dist., Taichung City",
            "Zuoying Dist., Kaohsiung City",
        ]
    )
    return (
        f"{r.choice(['', f'{r.randint(2, 12)}F., '])}No. {r.randint(1, 400)}, {lane}{road}, {town}"
    )


def _plain_email(r: random.Random) -> str:
    name = r.choice(
        ["yating", "c.h.lin", "peter_wu", "hsu-mf", "tsai", "iris.k", "zhang", "b0"]
    ) + r.choice(["", _d(r, 2), _d(r, 4)])
    host = r.choice(
        [
            "gmail.com",
            "yahoo.com.tw",
            "msa.hinet.net",
            "g.ntu.edu.tw",
            "icloud.com",
            "cs.nctu.edu.tw",
            "proton.me",
            "livemail.tw",
            "kcg.gov.tw",
        ]
    )
    return f"{name}@{host}"


def _email(r: random.Random) -> str:
    name, host = _plain_email(r).split("@")
    return r.choice(["@"] * 9 + ["＠", "[at]", " (at) "]).join((name, host))


def _line(r: random.Random) -> str:
    return r.choice([
        lambda: r.choice(["apple", "kevin", "sunny", "tommy"]) + _d(r, r.choice([3, 4, 6])), lambda: r.choice(["yuki", "lulu", "jay"]) + r.choice("._-") + r.choice(["chen", "tw", "1990"]),
        lambda: r.choice(["peggyhuang", "angelabb", "wuxiaolin", "mikelovefish"]), lambda: r.choice("abkm") + _d(r, 6), lambda: r.choice(["q", "zx"]) + _d(r, 4) + r.choice(["", "tw"]),
    ])()  # fmt: skip


def _ip(r: random.Random) -> str:
    if r.random() < 0.2:
        return r.choice(["2001:b011:", "2402:7500:", "2407:4d00:"]) + r.choice(
            [
                ":".join(f"{r.randint(16, 65535):x}" for _ in range(6)),
                f"{r.randint(16, 65535):x}:{r.randint(16, 65535):x}::{r.randint(1, 255):x}",
            ]
        )
    return f"{r.choice([1, 27, 39, 42, 49, 60, 61, 101, 111, 114, 118, 123, 125, 140, 175, 210, 220])}.{r.randint(20, 250)}.{r.randint(1, 250)}.{r.randint(1, 254)}"


def _plate(r: random.Random) -> str:
    a, n = "ABCDEFGHJKLMNPQRSTUVWXYZ", "01235678"
    return _wide(r, r.choice([
        f"{_pick(r, 3, a)}-{_pick(r, 4, n)}", f"{_pick(r, 3, a)}-{_pick(r, 4, n)}", f"{_pick(r, 3, a)}{_pick(r, 4, n)}", f"{_pick(r, 2, a)}-{_pick(r, 4, n)}", f"{_pick(r, 4, n)}-{_pick(r, 2, a)}",
        f"{_pick(r, 3, a)}-{_pick(r, 3, n)}", f"{_pick(r, 3, n)}-{_pick(r, 3, a)}", f"E{_pick(r, 2, a)}-{_pick(r, 4, n)}", f"{_pick(r, 3, a)} - {_pick(r, 4, n)}",
    ]))  # fmt: skip


def _birth(r: random.Random) -> str:
    y, m, d = r.randint(1936, 2014), r.randint(1, 12), r.randint(1, 28)
    t = y - 1911
    return _wide(r, r.choice([
        f"民國{t}年{m}月{d}日", f"{t}年{m}月{d}日", f"民國{t}年{m:02d}月{d:02d}日", f"{y}年{m}月{d}號", f"{y}/{m}/{d}", f"{y}.{m:02d}.{d:02d}", f"{y}-{m:02d}-{d:02d}", f"{t}/{m:02d}/{d:02d}",
        f"{t}.{m}.{d}", f"{t}-{m:02d}-{d:02d}", f"民國{han(t)}年{han(m)}月{han(d)}日", f"西元 {y} 年 {m} 月 {d} 日", f"{y} 年 {m:02d} 月 {d:02d} 日", f"{t:03d}{m:02d}{d:02d}", f"{y}{m:02d}{d:02d}",
    ]))  # fmt: skip


def _english_birth(r: random.Random) -> str:
    month, d, y = r.choice(_ENGLISH_MONTHS), r.randint(1, 28), r.randint(1936, 2014)
    return r.choice(
        [
            f"{month} {d}, {y}",
            f"{d} {month} {y}",
            f"{month[:3]} {d}, {y}",
            f"{d}-{month[:3]}-{y}",
            f"{y}/{r.randint(1, 12):02d}/{d:02d}",
        ]
    )


def _secret(r: random.Random) -> str:
    return r.choice([
        lambda: pii_values.secret(r), lambda: pii_values.secret(r), lambda: "npm_" + _pick(r, 36), lambda: "sk-ant-api03-" + _pick(r, 93) + "AA", lambda: r.choice(["gho_", "ghs_", "ghu_"]) + _pick(r, 36),
        lambda: "pypi-AgEIcHlwaS5vcmc" + _pick(r, 120), lambda: "ya29." + _pick(r, 120), lambda: "ASIA" + _pick(r, 16, string.ascii_uppercase + "234567"), lambda: "rk_live_" + _pick(r, 24),
        lambda: f"https://hooks.slack.com/services/T{_pick(r, 8, string.ascii_uppercase + string.digits)}/B{_pick(r, 10, string.ascii_uppercase + string.digits)}/{_pick(r, 24)}", lambda: f"xoxp-{_d(r, 12)}-{_d(r, 12)}-{_d(r, 12)}-{_pick(r, 32, '0123456789abcdef')}",
        lambda: f"https://discord.com/api/webhooks/{_d(r, 18)}/{_pick(r, 68)}", lambda: "-----BEGIN OPENSSH PRIVATE KEY-----\n" + "\n".join(_pick(r, 70) for _ in range(4)) + "\n-----END OPENSSH PRIVATE KEY-----", lambda: "dop_v1_" + _pick(r, 64, "0123456789abcdef"),
    ])()  # fmt: skip


def _line_token(r: random.Random) -> str:
    return _pick(r, 150, _LETTERS + "+/") + "w1cDnyilFU="


MAKERS: dict[str, Maker] = pii_values.MAKERS | {
    "mobile": _mobile, "landline": _landline, "identity number": _identity, "card": _card, "bank account": _bank, "address": _address, "e-mail": _email, "LINE id": _line,
    "IP address": _ip, "plate": _plate, "birth date": _birth, "secret": _secret,
}  # fmt: skip

FOURTH: dict[str, list[Template]] = {
    "mobile": [
        "房東電話 {}，看屋前一天先約", "〔徵〕早餐店假日班，意洽{} 老闆娘", "收件人：許雅婷 {}\n超商取貨", "緊急聯絡人：父 {}", "聯絡人 | 行動電話\n蔡主任 | {}", "我換號碼了，新的是{}，舊的不用了", "Mobile: {}",
        "拾獲小黃狗一隻，飼主請撥 {}", "失物協尋～撿到請聯絡我{}", "學生家長手機（必填）：{}", "阿姨的電話是 {} 喔", "聯絡電話（行動）{}", "請傳簡訊至{}", "包裹已送達，收件者{}，請於七日內取貨", "手機或WhatsApp {} 都可以找到我", "<td>手機</td><td>{}</td>",
    ],
    "landline": [
        "電話（宅）：{}", "電話(公) {}", "訂位請打 {}", "診所電話{}，週日休診", "聯絡人：會計室劉小姐，電話：{}", "承辦人電話：{}", "市內電話\t{}", "FAX {}", "家裡的電話是{}，我媽會接", "Tel. {}", "租屋：雅房分租，電洽{}",
        "如有疑義請洽本所 {}", "里長辦公室 {}，歡迎來電", "代表號：{}",
    ],
    "identity number": [
        "國民身分證統一編號：{}", "身份證號碼 {}", "立書人：陳志明（身分證字號：{}）", "被告　林○○　男　身分證統一編號：{}號", "居留證號碼：{}", "統一證號 {}", "外籍移工阮氏，居留證統一證號{}", "ID No.: {}", "身分證{}，請幫我查掛號",
        "報名表\n姓名：吳佩珊\n身分證：{}", "員工編號 00213，身分證字號 {}", "name,id\n陳小明,{}", "要保人ID：{}", "我是 {}，要查詢所得稅額", "委託人（身證字號 {}）茲委託",
    ],
    "health card": [
        "健保卡卡號：{}", "健保卡號 {}", "全民健康保險卡卡號{}", "請輸入健保卡卡號後註冊：{}", "病患健保卡號為{}，就醫序號 12", "NHI card no. {}", "健保IC卡卡號 {}", "健保卡背面……不對，正面的卡號是 {}", "健保卡\n號碼：{}",
    ],
    "passport": [
        "護照號碼：{}", "護照號碼 {}，效期至2031年", "Passport No. {}", "Passport number: {}", "旅客護照號{}", "護照：{}，請幫忙開票", "持中華民國護照（號碼：{}）出境", "他的護照號碼是{}", "passport_no={}", "護照影本（{}）已上傳",
    ],
    "card": [
        "信用卡號：{}", "卡號 {}，有效期限09/28", "刷卡單\nCARD NO. {}", "持卡人卡號：{}", "我的信用卡{}被盜刷了", "Credit card number: {}", "請從這張卡扣款 {}", "卡別：VISA　卡號：{}", "card_number={}", "傳真刷卡授權書：信用卡卡號 {}", "客服說卡片{}已掛失", "簽帳金融卡卡號為{}",
    ],
    "bank account": [
        "匯款帳號：{}", "戶名：江怡君，帳號：{}", "國泰世華（013）帳號 {}", "請匯到 822 中國信託 {}", "玉山銀行帳號{}", "受款人帳號 {} 土地銀行", "薪資轉帳帳戶：{}", "銀行帳號\n{}", "訂金請轉{}，銀行代碼812", "bank account no. {}",
        "退款帳號是台新{}", "存款帳戶 {} 遭列為警示帳戶", ("郵局局號帳號：{}", _post_account), ("郵局帳號（700）{}", _post_account), ("存簿儲金局帳號 {}", _post_account),
    ],
    "address": [
        "通訊地址：{}", "戶籍地：{}", "寄到{}就可以了，謝謝", "住{}", "收件地址 106 {}", "住所：{}\n法定代理人 王大明", "送達代收人 地址：{}", "婚宴設於新娘家（{}）", "他搬到 {} 了", "租屋地點：{}，近捷運", "現居{}，未婚", "掛號信請寄：{}　李太太收", "事故地點在{}被告住處前",
        ("Address: {}, Taiwan", _english_address), ("Please ship to {} (R.O.C.)", _english_address), '"address": "{}"',
    ],
    "e-mail": [
        "電子信箱：{}", "信箱 {}", "作業請寄到{}", "請來信{}索取", ("寄件者: 林小姐 <{}>", _plain_email), ("From: {}", _plain_email), "Email:{}", "履歷請投{}，主旨註明應徵職稱", ("[聯絡我](mailto:{})", _plain_email), "帳號 {} 無法登入", "cc 一份給 {}", "電郵地址為{}。", ("author = \"Lin <{}>\"", _plain_email),
    ],
    "LINE id": [
        "賴ID：{}", "LINE：{}", "line id {} 加我好友", "請加LINE ID：{}洽詢", "我的賴是 {}", "Line ID: {}", "可用LINE聯絡（ID：{}）", "line搜尋 {}", "加我賴 {} 傳照片給你", "LINE帳號：{}", "聯絡方式：Line {}", "Line ID\n{}",
    ],
    "IP address": [
        "來源IP：{}", "登入 IP {} 非本人", "推 kevin: 笑死 {} 06/12 11:03", "◆ From: {}", "※ 發信站: 批踢踢實業坊(ptt.cc), 來自: {} (臺灣)", "{} - - [12/Mar/2023:10:15:32 +0800] \"GET / HTTP/1.1\" 200", "client_ip={}", "Failed password for root from {} port 51022 ssh2", "被告使用之IP位址 {} 上網刊登",
        "IP位址為{}的匿名使用者編輯了條目", "封鎖 {} 一週",
    ],
    "plate": [
        "車牌號碼：{}", "車號{}自小客車擋住我家車庫", "騎乘車牌號碼 {} 號普通重型機車", "我的車牌是{}，停B2", "租車契約 車號：{}", "請{}車主移車", "檢舉車輛：{}", "駕駛車牌號碼{}號自用小貨車", "目擊 {} 闖紅燈，有行車紀錄器", "訪客車牌 {}", "牌照號碼：{}", "車籍資料　車號 {}　廠牌 豐田",
    ],
    "birth date": [
        "出生日期：{}", "生日：{}", "出生年月日　{}", "王小明，{}生，男", "被保險人生日 {}", "我是{}出生的", "寶寶生日{}，3200公克", "學生出生日期 {}", "我生於{}，屬馬", "病患張女士（{}生）", "生日是{}，牡羊座",
        ("Date of birth: {}", _english_birth), ("DOB: {}", _english_birth), ("Birthday: {}", _english_birth), ("I was born on {}", _english_birth),
    ],
    "secret": [
        "export TOKEN={}", "不小心把 {} 推上 GitHub 了怎麼辦", "金鑰：{}", "apiKey: \"{}\",", "Authorization: Bearer {}", "我用的 key 是 {} 但一直回 401", "const secret = '{}';", "```\nTOKEN={}\n```", "curl -H 'X-Api-Key: {}'", "環境變數設成{}", ("LINE_CHANNEL_ACCESS_TOKEN={}", _line_token),
        ("channel access token：{}", _line_token), ("AWS_SECRET_ACCESS_KEY={}", lambda r: _pick(r, 39, _LETTERS + "/") + "x"),
    ],
}  # fmt: skip


def positive(
    r: random.Random, kind: str, templates: dict[str, list[Template]]
) -> tuple[str, list[tuple[int, int]]]:
    """Returns a text and the places of the values of `kind` in it."""
    chosen = r.choice(templates[kind])
    template, make = (chosen, MAKERS[kind]) if isinstance(chosen, str) else chosen
    before, after = template.split("{}")
    head = (
        r.choice(["大家好，", "（代貼）", "[公告] ", "1. ", "→ ", "麻煩了！"])
        if r.random() < 0.3
        else ""
    )
    tail = r.choice(["。", "，感謝大家", "！", "\n\n以上", " 謝謝您"]) if r.random() < 0.3 else ""
    value, head = make(r), head + before
    return head + value + after + tail, [(len(head), len(head) + len(value))]
