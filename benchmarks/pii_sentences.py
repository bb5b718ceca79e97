# ruff: noqa: E501 (sentences stay in one piece)
"""Sentences and values for the measurement of personal-data detection; all invented, all seeded.

Four sets of templates a kind. The rules were tuned on `TUNING`; each other set was written after
that and run once unseen, and then its errors were corrected too, so that by now none is unseen. Values are made
by code of their own, apart from the checks in `twjax.corpus.personal.identifiers`.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable

Maker = Callable[[random.Random], str]

TUNING: dict[str, list[str]] = {
    "mobile": [
        "有問題請打我的手機{}，謝謝。",
        "聯絡電話：{}（王小姐）",
        "我的門號是 {} ，晚上比較好找到我。",
        "{}，林先生，意者請洽",
        "請撥打{}找陳老師報名",
        "TEL:{}",
        "phone: {}",
        "手機號碼\n{}",
        "line加不到的話就打 {} 吧",
        "「姓名：周大明，電話：{}」",
        '{{"name": "小美", "mobile": "{}"}}',
        "急徵工讀生，無經驗可，{} 洽李店長。",
    ],
    "landline": [
        "家裡電話{}，白天沒人接。",
        "請洽本社區管理室 {}",
        "電話：{}",
        "傳真號碼：{}",
        "TEL：{}",
        "我辦公室的分機是{}，可以打來。",
        "住家市話 {} ，請於晚上七點後來電",
        "他留的電話是{}",
        "若有疑問，請電{}洽詢。",
        "Phone: {}",
    ],
    "identity number": [
        "身分證字號：{}",
        "被告張三，身分證統一編號{}號",
        "請輸入您的身分證號碼 {} 以供查驗",
        "我的ID是{}",
        "居留證號碼：{}",
        "要保人 {} 王大同",
        "（身分證字號 {}）",
        "身份證：{}，生日不對",
        "統一證號：{}",
        "客戶 {} 的申請已核准",
    ],
    "health card": [
        "健保卡號：{}",
        "健保卡號碼為{}，請核對",
        "請出示健保卡（卡號 {}）",
        "健保IC卡號 {}",
        "我的健保卡號是{}",
    ],
    "passport": [
        "護照號碼：{}",
        "護照號碼 {} 將於明年到期",
        "Passport No. {}",
        "持中華民國護照（護照號碼{}）",
        "passport number: {}",
    ],
    "card": [
        "信用卡號：{}",
        "請用這張卡扣款 {} 到期日12/28",
        "卡號 {}，安全碼在背面",
        "我的VISA卡 {} 被盜刷了",
        "刷卡付款：{}，金額1200元",
        "card number: {}",
        "{} 這張卡可以刷嗎？",
    ],
    "bank account": [
        "請匯款至玉山銀行（808）帳號：{}",
        "匯款帳號 {}，戶名：李小華",
        "銀行代碼812，帳號{}",
        "退款請轉入我的帳戶：{}（國泰世華）",
        "郵局存簿帳號：{}",
        "ATM轉帳到 {} 就可以了，帳號：{}",
        "戶名：陳大文\n帳號：{}\n銀行：台新銀行",
    ],
    "address": [
        "我住在{}，歡迎來玩。",
        "地址：{}",
        "請寄到{}，收件人王小明",
        "戶籍地址為{}。",
        "包裹送到 {} 就好",
        "他家在{}附近",
        "被告住{}",
        "通訊地址：{}（請勿折疊）",
        "收件地址\n{}",
    ],
    "e-mail": [
        "請寄信到 {} 報名",
        "我的信箱是{}，請回覆。",
        "Email：{}",
        "聯絡人：王小明（{}）",
        "<{}>",
        "有興趣者請將履歷寄至{}",
        "mailto:{}",
        "作者：{}",
    ],
    "LINE id": [
        "加我LINE：{}",
        "LINE ID：{}",
        "我的line id是{}",
        "賴：{}",
        "Line帳號：{} 意者私訊",
        "加賴 {} 了解更多",
        "可以加line {} 聊聊",
        "https://line.me/ti/p/~{}",
    ],
    "IP address": [
        "來自 {} 的連線被拒絕",
        "使用者IP：{}",
        "◆ From: {}",
        "※ 發信站: 批踢踢實業坊(ptt.cc), 來自: {}",
        "伺服器位址 {}:8080",
        "ssh root@{}",
        "登入紀錄顯示 {} 在凌晨三點登入",
    ],
    "plate": [
        "車牌號碼：{}",
        "他駕駛車牌{}號自用小客車",
        "車號 {} 的車主請移車",
        "失竊機車牌照號碼{}",
        "肇事車輛為{}號營業小客車",
        "那台{}的白色轎車一直按喇叭",
    ],
    "birth date": [
        "出生年月日：{}",
        "生日：{}",
        "出生日期: {}",
        "DOB: {}",
        "我的生日是{}",
        '"birthday": "{}"',
        "病患出生年月日：{}，男性",
    ],
    "secret": [
        "export API_KEY={}",
        "token: {}",
        "我不小心把 {} 推上 GitHub 了",
        'api_key = "{}"',
        "Authorization: Bearer {}",
    ],
}

SECOND: dict[str, list[str]] = {
    "mobile": [
        "弄丟錢包的同學請跟我聯繫，{}。", "可以傳簡訊到{}給我嗎？", "聯絡方式：{}／請於上班時間來電", "家長緊急聯絡電話 {}", "房東鄭太太{}",
        "我現在換號碼了，新的是{}喔", "訂購專線{}，滿千免運", "M: {}", "Mobile：{}", "報案人留下{}後就掛斷了。",
        "1. 吳建宏 {}\n2. 林雅婷", "contact_phone={}", "客人說打{}都沒人接，請幫忙再聯絡一次", "收件人：蔡先生 {} 宅配到府",
    ],
    "landline": [
        "里長辦公室電話是{}，有事找他。", "(O) {}", "請回電{}，我姓許。", "市內電話：{}", "聯絡電話 {}，請轉告阿姨", "Fax: {}",
        "訂位請撥{}", "阿嬤家的電話{}已經用了三十年", "Tel. {}", "租屋洽{}，仲介勿擾",
    ],
    "identity number": [
        "立約人：趙小蘭（身分證字號：{}）", "國民身分證統一編號：{}", "報名表上請填{}這組號碼", "他的身分證是{}沒錯吧？", "外籍配偶阮氏，居留證統一證號{}",
        "ID number: {}", "姓名 林佳蓉 {} 民國七十年次", "承租人{}黃志偉", "身分證字號為：{}。", "原告 高美玲 身分證字號 {}",
    ],
    "health card": ["健保卡號碼：{}", "就診時登錄的健保卡卡號為{}。", "健保卡號（12碼）：{}", "護理師核對了健保卡 {} 與本人照片", "健保卡：{}"],
    "passport": ["護照號碼是 {}，有效期限五年。", "他的護照（號碼：{}）在機場遺失", "Passport number {}", "旅客護照號碼:{}", "PASSPORT NO: {}"],
    "card": [
        "訂房保證用的信用卡為{}", "持卡人李大華，卡號：{}，有效期限 09/29", "我媽的信用卡號碼是{}", "付款方式：JCB {}", "Visa card: {}",
        "詐騙集團騙走了他的卡號{}", "請問{}這張信用卡可以分期嗎", "簽帳金融卡 {}",
    ],
    "bank account": [
        "捐款帳號：合作金庫銀行 {}", "麻煩轉帳到中國信託（822）{}，戶名林淑芬", "薪資入帳帳戶：{}，台北富邦銀行", "匯款資訊：第一銀行 帳號 {}",
        "我的郵局帳號是{}", "請把訂金匯到這個帳戶 {}", "受款人帳號：{}（華南銀行城東分行）",
    ],
    "address": [
        "租屋處在{}，離捷運站走路五分鐘。", "聯絡地址：{}", "原告住所：{}", "請把禮物寄給{} 張小姐收", "居住於{}的陳姓男子", "住址 {}",
        "收件人：劉先生，{}", "搬家後新家是{}，下週請大家吃飯", "寄件人地址：{}", "戶籍設於{}",
    ],
    "e-mail": [
        "如需索取資料，歡迎來信{}", "電子郵件：{}", "他的email是 {} ，可以問問看。", "Contact: {}", "寄件者：劉小姐 <{}>", "E-mail {}／電話備索",
        "客戶信箱{}收不到驗證信", "cc {} 一下",
    ],
    "LINE id": [
        "想了解的加LINE：{}", "Line ID: {}", "我的賴是{}，歡迎加", "LINE帳號 {}", "私訊或加line id：{}", "有興趣可以加我的LINE {}",
        "聯絡賴：{}", "點 https://line.me/ti/p/~{} 加好友",
    ],
    "IP address": [
        "攻擊來源IP為{}", "編輯: someone ({}), 05/12/2019", "ping {} 沒有回應", "Remote host: {}", "留言者的 IP 位址：{}", "從{}連線到主機",
        "防火牆封鎖了 {} 這個位址",
    ],
    "plate": [
        "懸掛{}號車牌之自小客車", "我的車牌是{}", "有一台車號{}違停在門口", "被告騎乘車牌號碼{}號普通重型機車", "行車紀錄器拍到 {} 的黑色轎車闖紅燈",
        "請{}車主速回",
    ],
    "birth date": [
        "出生：{}", "出生年月日 {}", "生日為{}", "Date of birth: {}", "學生生日：{}，就讀三年級", "我女兒的生日是{}", "（出生日期：{}）",
    ],
    "secret": [
        "secret: {}", "請勿把金鑰 {} 寫在程式裡", "curl -H 'X-Api-Key: {}'", "設定檔裡的 {} 外洩了", "TOKEN={} python bot.py",
    ],
}  # fmt: skip

THIRD: dict[str, list[str]] = {
    "mobile": [
        "爸爸的手機掉了，若有人撿到請打我的{}", "活動窗口：教務處黃小姐 {}", "司機陳大哥{}，車程約四十分鐘", "如有急事可撥{}，或傳訊息", "來電顯示{}，接起來卻沒人說話",
        "手機：{}，電話：同左", "｜李建民｜{}｜業務部｜", "{} 是我的新號碼，舊的停用了", "門號{}申辦續約", "回電 {} 找小張即可", "受訪者A（{}）表示同意",
    ],
    "landline": [
        "診所電話：{}，看診前請先預約", "請於週五前電{}確認出席", "老家的室內電話是 {}", "公司電話 {}，我的座位就在門口", "電 話：{}", "辦公室：{}", "叫修請撥 {}",
        "T {}", "聯絡人：吳老師 {}",
    ],
    "identity number": [
        "未成年人江小宇（身分證統一編號：{}）", "我把身分證字號{}寫錯了", "投保人身分證號：{}", "護理紀錄：{}，女，72歲", "身分證號碼：{}；電話如上", "請用{}登入健保快易通",
        "配偶身分證字號\t{}", "債務人 蕭文彬 {} 住同上", "居留證：{}",
    ],
    "health card": ["健保卡號 : {}", "掛號時要輸入健保卡號{}", "她的健保卡（{}）不見了", "健保 IC 卡卡號：{}", "健保卡號：\n{}"],
    "passport": ["護照號碼：{}，國籍：中華民國", "我的護照號碼是{}，麻煩幫我訂票", "Passport no: {}", "護照 {} 已掛失", "請填入護照號碼（例如 {}）"],
    "card": [
        "扣款信用卡 {}", "飯店說我的卡號{}授權失敗", "請問卡號 {} 的帳單金額", "這是我的副卡：{}", "MasterCard {} 有效年月 1127", "{}，末三碼在背面", "綁定的卡片為{}",
    ],
    "bank account": [
        "請匯至台灣銀行 {} 帳戶", "轉帳帳號：{}（中華郵政）", "銀行帳號 {}，戶名同收件人", "薪轉帳號{}，第一銀行", "房租請匯到 {}，每月五日前", "彰化銀行帳號:{}", "退費帳戶：永豐銀行 {}",
    ],
    "address": [
        "阿公阿嬤還住在{}", "寄送地址：{}", "我們家就在{}，轉角那棟", "被害人於{}住處遭竊", "發票寄{}，謝小姐收", "送貨地址 {}", "請於下午三點到{}幫我收包裹", "租客的戶籍地是{}", "地址:{}",
    ],
    "e-mail": ["有意者來信 {} 。", "請副本給{}", "Email:{}", "帳號就是 {} 啦", "投稿信箱：{}", "問卷請回傳至「{}」", "他用{}註冊的", "（e-mail：{}）"],
    "LINE id": ["LINE：{}", "請加LINE ID {}", "我的LINE帳號是「{}」", "預約請加賴：{}", "line: {}（請註明來意）", "賴id {}", "line ID：{}"],
    "IP address": [
        "惡意IP {} 已封鎖", "來源位址：{}", "login from {} port 22", "推文者: {} 12/31 23:59", "作者: abc  IP: {}", "連線IP位址為{}", "該帳號曾由 {} 登入",
    ],
    "plate": [
        "目擊者記下車牌{}", "租賃小客車（車號{}）", "{}號普通重型機車", "車牌號碼是 {}，紅色的", "停車格內的{}號自用小貨車", "愛車{}出售",
    ],
    "birth date": [
        "出生日：{}", "出生年月日為{}", "生日 {}", "[出生日期] {}", "Birthday: {}", "生日是{}", "新生兒出生日期：{}",
    ],
    "secret": ["key={}", "有人把{}貼在論壇", "password manager 裡存的 {}", "headers = {{'Authorization': 'token {}'}}", "- name: KEY\n  value: {}"],
}  # fmt: skip

TEST: dict[str, list[str]] = {
    "mobile": [
        "鑰匙已寄放管理室，到了打{}。", "外送員電話：{}", "※ 報名請洽班代 {}", "他今天早上用{}打給我", "客戶陳先生，{}，約下午三點看屋", "手機號碼為{}，如有變更請告知", "緊急聯絡人/關係/電話：吳秀英/母/{}",
    ],
    "landline": ["托兒所的電話是{}", "請打{}找我媽", "住宅電話：{}", "傳真 {}", "請電洽 {} 預約", "H：{}"],
    "identity number": ["學生身分證字號 {}", "報稅時輸入{}即可", "本人（{}）同意授權", "居留證號{}", "負責人身分證統一編號：{}", "國民身分證字號：{}，戶籍如下"],
    "health card": ["健保卡號碼 {}", "我把健保卡號 {} 抄給藥師", "（健保卡號：{}）", "健保卡卡號:{}"],
    "passport": ["護照號碼為{}", "護照編號：{}", "Passport: {}", "請提供護照號碼，例如我的是護照 {}"],
    "card": ["卡號:{}", "信用卡 {} 扣款失敗", "請退刷到 {}", "我的 JCB 卡是 {}", "授權人信用卡號碼：{}", "卡片{}已停用"],
    "bank account": ["郵局帳號：{}", "請將款項存入 {}，戶名張美玉", "玉山銀行 {} 王小姐", "匯入帳號：{}，土地銀行", "我的中信帳號 {}", "退款帳號 {}，兆豐銀行"],
    "address": ["他搬到{}了", "聯絡處：{}，電話同上", "寄到{}就好，謝謝老師", "住所地：{}", "我租在{}", "戶籍地址：{}", "家住{}的林同學"],
    "e-mail": ["聯絡信箱 {}", "我的帳號：{}", "寄件備份給 {} 跟老師", "mail: {}", "來信請寄：{}。"],
    "LINE id": ["LINE ID是{}", "加line：{}", "我的Line：{}", "加賴{}聊", "Line id：{}，註明看屋"],
    "IP address": ["IP：{}", "從 {} 發動的攻擊", "訪客 {} 留言", "主機 {} 的22埠", "於 {} 登入失敗三次"],
    "plate": ["車牌為{}", "車號：{}", "被告所駕{}號營業大貨車", "我的機車車牌 {}", "（車牌號碼：{}）"],
    "birth date": ["生日（國曆）：{}", "出生年月日: {}", "小孩出生日期為{}", "出生日期：{}", "本人生日{}"],
    "secret": ["API key：{}", "請幫我看看 {} 為什麼不能用", "設定 KEY={} 之後重啟", "bot token 是 {}"],
}  # fmt: skip

_SURROUND = ["", "", "今天天氣很好，", "各位鄉親大家好：", "（轉貼）", "> ", "- ", "Re: "]
_AFTER = ["", "", "。", "，感恩！", " 謝謝", "\n--\n敬上"]

_ROADS = [
    "中山",
    "中正",
    "民生",
    "和平東",
    "忠孝東",
    "復興",
    "文化",
    "建國北",
    "光復南",
    "自由",
    "五福",
    "成功",
    "大同",
    "信義",
    "林森北",
    "三民",
    "公園",
    "環河西",
    "永吉",
    "福州",
    "羅斯福",
    "八德",
]
_TOWNS = {
    "臺北市": "大安區 信義區 萬華區 北投區", "台北市": "中山區 內湖區 文山區", "新北市": "板橋區 三重區 新店區 淡水區", "桃園市": "中壢區 平鎮區",
    "臺中市": "西屯區 北區 大里區", "台南市": "東區 永康區 安平區", "高雄市": "左營區 鳳山區 三民區", "新竹縣": "竹北市 湖口鄉",
    "彰化縣": "員林市 鹿港鎮", "雲林縣": "斗六市 虎尾鎮", "屏東縣": "屏東市 潮州鎮", "宜蘭縣": "羅東鎮 礁溪鄉", "花蓮縣": "吉安鄉 花蓮市",
    "臺東縣": "臺東市", "南投縣": "埔里鎮 草屯鎮", "苗栗縣": "頭份市", "嘉義市": "西區 東區", "澎湖縣": "馬公市", "金門縣": "金城鎮",
}  # fmt: skip
_VILLAGES = ["富世", "明昌", "中興", "永安", "仁愛", "大同", "新民", "忠義", "福德", "三和"]


def _digits(r: random.Random, n: int) -> str:
    return "".join(r.choice("0123456789") for _ in range(n))


def _wide(r: random.Random, text: str, share: float = 0.12) -> str:
    """Writes a number in full width now and then."""
    if r.random() > share:
        return text
    return "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c != " " else c for c in text)


def mobile(r: random.Random) -> str:
    n = "09" + r.choice("012345678") + _digits(r, 7)
    while n[4:] == "000000":
        n = "09" + r.choice("012345678") + _digits(r, 7)
    style = r.randrange(10)
    a, b, c = n[:4], n[4:7], n[7:]
    forms = [
        n,
        n,
        f"{a}-{b}-{c}",
        f"{a}-{b}{c}",
        f"{a} {b} {c}",
        f"+886-{n[1:4]}-{b}-{c}",
        f"+886{n[1:]}",
        f"+886 {n[1:4]} {b} {c}",
        f"{a}.{b}.{c}",
        f"({a}){b}-{c}",
    ]
    return _wide(r, forms[style])


def landline(r: random.Random) -> str:
    area, size, first = r.choice([
        ("02", 8, "28"), ("02", 8, "67"), ("03", 7, "345"), ("037", 6, "23"), ("04", 8, "2"), ("04", 7, "78"), ("049", 7, "2"), ("05", 7, "256"),
        ("06", 7, "25"), ("07", 7, "3578"), ("08", 7, "78"), ("089", 6, "23"), ("082", 6, "3"), ("0826", 5, "6"), ("0836", 5, "2"),
    ])  # fmt: skip
    local = r.choice(first) + _digits(r, size - 1)
    while len(set(local)) == 1:
        local = r.choice(first) + _digits(r, size - 1)
    cut = size - 4 if size > 6 else (3 if size == 6 else size)
    split = f"{local[:cut]}-{local[cut:]}" if cut < size else local
    forms = [
        f"{area}-{local}",
        f"({area}){local}",
        f"({area}) {split}",
        f"{area}-{split}",
        f"（{area}）{split}",
        f"+886-{area[1:]}-{split}",
        f"+886 {area[1:]} {local}",
    ]
    text = r.choice(forms)
    if r.random() < 0.25:
        text += r.choice(["轉", "分機", "#", " ext. ", " 分機 "]) + _digits(r, r.choice([2, 3, 4]))
    return _wide(r, text, 0.1)


def identity(r: random.Random) -> str:
    values = dict(zip("ABCDEFGHJKLMNPQRSTUVXYWZIO", range(10, 36), strict=True))
    kind = r.random()
    head = r.choice(string.ascii_uppercase)
    second = r.choice("12") if kind < 0.7 else r.choice("89") if kind < 0.9 else r.choice("ABCD")
    body = _digits(r, 7)
    for last in "0123456789":
        number = f"{values[head]}{values[second] % 10 if second.isalpha() else second}{body}{last}"
        if (
            sum(w * int(d) for w, d in zip((1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), number, strict=True))
            % 10
            == 0
        ):
            return _wide(r, head + second + body + last)
    raise AssertionError


def luhn(r: random.Random, head: str, size: int) -> str:
    while True:
        number = head + _digits(r, size - len(head))
        total = sum(
            int(d) if i % 2 == 0 else sum(map(int, str(2 * int(d))))
            for i, d in enumerate(reversed(number))
        )
        if total % 10 == 0:
            return number


def card(r: random.Random) -> str:
    head, size = r.choice(
        [
            ("4", 16),
            ("4", 16),
            ("52", 16),
            ("55", 16),
            ("3540", 16),
            ("2300", 16),
            ("37", 15),
            ("6222", 16),
        ]
    )
    n = luhn(r, head, size)
    if size == 15:
        return r.choice([n, f"{n[:4]} {n[4:10]} {n[10:]}"])
    return _wide(
        r,
        r.choice(
            [
                n,
                "-".join(n[i : i + 4] for i in (0, 4, 8, 12)),
                " ".join(n[i : i + 4] for i in (0, 4, 8, 12)),
            ]
        ),
    )


def bank(r: random.Random) -> str:
    n = r.choice("123456789") + _digits(r, r.choice([10, 11, 12, 13]))
    forms = [
        n,
        n,
        f"{n[:3]}-{n[3:5]}-{n[5:]}",
        f"{n[:4]}-{n[4:8]}-{n[8:]}",
        f"{n[:4]} {n[4:8]} {n[8:]}",
    ]
    return _wide(r, r.choice(forms))


_HAN = "〇一二三四五六七八九"


def han(n: int) -> str:
    if n < 10:
        return _HAN[n]
    if n < 100:
        return (_HAN[n // 10] if n >= 20 else "") + "十" + (_HAN[n % 10] if n % 10 else "")
    rest = n % 100
    return (
        _HAN[n // 100]
        + "百"
        + (
            ""
            if not rest
            else (
                "零" + _HAN[rest]
                if rest < 10
                else _HAN[rest // 10] + "十" + (_HAN[rest % 10] if rest % 10 else "")
            )
        )
    )


def address(r: random.Random) -> str:
    county = r.choice(list(_TOWNS))
    town = r.choice(_TOWNS[county].split())
    num = (lambda n: str(n)) if r.random() < 0.75 else han
    text = county + town if r.random() < 0.85 else county if r.random() < 0.5 else town
    if r.random() < 0.2:
        text += r.choice(_VILLAGES) + ("里" if town[-1] in "區市鎮" else "村")
        if r.random() < 0.4:
            text += num(r.randint(1, 25)) + "鄰"
    text += r.choice(_ROADS) + r.choice(["路", "路", "街"])
    if r.random() < 0.4:
        text += r.choice(["一", "二", "三", "四", "2", "3"]) + "段"
    if r.random() < 0.4:
        text += num(r.randint(1, 480)) + "巷"
        if r.random() < 0.5:
            text += num(r.randint(1, 60)) + "弄"
    text += (
        num(r.randint(1, 560)) + (f"之{num(r.randint(1, 9))}" if r.random() < 0.1 else "") + "號"
    )
    if r.random() < 0.5:
        text += (
            num(r.randint(2, 18)) + "樓" + (f"之{num(r.randint(1, 9))}" if r.random() < 0.3 else "")
        )
    return _wide(r, text, 0.08)


def email(r: random.Random) -> str:
    local = r.choice(
        ["wang", "amy.chen", "lin_yt", "hsiao-wei", "kevin", "mei", "t.c.lee", "chang88"]
    ) + r.choice(["", str(r.randint(1, 9999))])
    host = r.choice(
        [
            "gmail.com",
            "yahoo.com.tw",
            "hotmail.com",
            "ntu.edu.tw",
            "mail.ncku.edu.tw",
            "seed.net.tw",
            "ms12.hinet.net",
            "pchome.com.tw",
            "outlook.com",
        ]
    )
    return _wide(r, f"{local}@{host}", 0) if r.random() > 0.05 else f"{local}@{host}".upper()


def line_id(r: random.Random) -> str:
    return (
        r.choice(["happy", "amy.", "tw_", "jason", "mei-", "a", "kitty", "luckygo"])
        + r.choice(["", "love", "_tw"])
        + str(r.randint(10, 99999))
    )


def ip(r: random.Random) -> str:
    if r.random() < 0.15:
        return f"2001:b0{r.randint(10, 99)}:{r.randint(1, 9999):x}:{r.randint(1, 65535):x}::{r.randint(1, 65535):x}"
    return f"{r.choice([1, 36, 59, 61, 111, 114, 118, 122, 140, 163, 180, 203, 211, 220])}.{r.randint(40, 250)}.{r.randint(20, 250)}.{r.randint(1, 254)}".replace(
        "203.0.113", "203.69.113"
    )


def plate(r: random.Random) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    pick = lambda n, s=letters: "".join(r.choice(s) for _ in range(n))  # noqa: E731
    forms = [f"{pick(3)}-{pick(4, '01235678')}"] * 4 + [
        f"{pick(2)}-{_digits(r, 4)}",
        f"{_digits(r, 4)}-{pick(2)}",
        f"{pick(3)}-{_digits(r, 3)}",
    ]
    return _wide(r, r.choice(forms), 0.08)


def birth(r: random.Random) -> str:
    y, m, d = r.randint(1935, 2015), r.randint(1, 12), r.randint(1, 28)
    t = y - 1911
    return _wide(r, r.choice([
        f"民國{t}年{m}月{d}日", f"民國 {t} 年 {m} 月 {d} 日", f"{y}年{m}月{d}日", f"{y}/{m:02d}/{d:02d}", f"{y}-{m:02d}-{d:02d}", f"{t}/{m}/{d}",
        f"{t}.{m:02d}.{d:02d}", f"民國{han(t)}年{han(m)}月{han(d)}日", f"西元{y}年{m}月{d}日", f"{y}{m:02d}{d:02d}",
    ]), 0.08)  # fmt: skip


def english_birth(r: random.Random) -> str:
    return f"{r.randint(1935, 2015)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"


def secret(r: random.Random) -> str:
    an = string.ascii_letters + string.digits
    pick = lambda n, s=an: "".join(r.choice(s) for _ in range(n))  # noqa: E731
    return r.choice([
        lambda: "AKIA" + pick(16, string.ascii_uppercase + "234567"), lambda: "ghp_" + pick(36), lambda: "github_pat_" + pick(22) + "_" + pick(59),
        lambda: "AIza" + pick(35), lambda: f"xoxb-{_digits(r, 12)}-{_digits(r, 12)}-{pick(24)}", lambda: "sk-" + pick(48), lambda: "sk-proj-" + pick(60),
        lambda: f"eyJ{pick(33)}.eyJ{pick(60)}.{pick(43)}", lambda: "glpat-" + pick(20), lambda: "hf_" + pick(34), lambda: "sk_live_" + pick(24),
        lambda: f"{_digits(r, 10)}:AA{pick(33)}", lambda: "SG." + pick(22) + "." + pick(43),
        lambda: "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(pick(64) for _ in range(3)) + "\n-----END RSA PRIVATE KEY-----",
    ])()  # fmt: skip


MAKERS: dict[str, Maker] = {
    "mobile": mobile, "landline": landline, "identity number": identity,
    "health card": lambda r: _wide(r, r.choice([(n := "0000" + _digits(r, 8)), f"{n[:4]} {n[4:8]} {n[8:]}", f"{n[:4]}-{n[4:8]}-{n[8:]}"])),
    "passport": lambda r: r.choice([r.choice("23") + _digits(r, 8), r.choice("BCEKM") + _digits(r, 8), r.choice("BEN") + r.choice("ABC") + _digits(r, 7)]),
    "card": card, "bank account": bank, "address": address, "e-mail": email, "LINE id": line_id, "IP address": ip, "plate": plate,
    "birth date": birth, "secret": secret,
}  # fmt: skip


def positive(
    r: random.Random, kind: str, templates: dict[str, list[str]]
) -> tuple[str, list[tuple[int, int]]]:
    """Returns a text and the places of the values of `kind` in it."""
    template = r.choice(templates[kind])
    make = (
        english_birth
        if kind == "birth date" and ("irth" in template or "DOB" in template)
        else MAKERS[kind]
    )
    head = r.choice(_SURROUND) if r.random() < 0.4 else ""
    parts = template.replace("{{", "\1").replace("}}", "\2").split("{}")
    value, text, places = make(r), head + parts[0], []
    for part in parts[1:]:
        places.append((len(text), len(text) + len(value)))
        text += value + part
    text = text.replace("\1", "{").replace("\2", "}")
    return text + (r.choice(_AFTER) if r.random() < 0.4 else ""), places
