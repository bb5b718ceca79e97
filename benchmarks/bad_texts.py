"""Texts that a corpus must not hold, made of good ones and of generated phrases.

Each kind is drawn with a seed of its own; adverts and chain letters here are of a made-up wording
that shares no sentence with the tables of twjax, only what such texts are made of.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

CITIES = ["台北", "新北", "桃園", "新竹", "台中", "彰化", "台南", "高雄", "屏東", "宜蘭"]
TRADES = [
    "水電行",
    "搬家公司",
    "冷氣安裝",
    "抓漏防水",
    "汽車借款",
    "婚宴場地",
    "鋁門窗",
    "除蟲公司",
    "月子中心",
    "室內設計",
    "牙齒矯正",
    "補習班",
    "機車出租",
    "包車旅遊",
    "監視器",
    "二手家具",
    "清潔公司",
    "徵信服務",
    "隆乳手術",
    "貸款代辦",
]
TAILS = [
    "推薦",
    "價格",
    "費用",
    "評價",
    "ptt",
    "dcard",
    "哪家好",
    "便宜",
    "24小時",
    "專業",
    "優質",
    "首選",
    "電話",
]
MENU = [
    "首頁",
    "關於我們",
    "最新消息",
    "產品介紹",
    "會員登入",
    "加入會員",
    "購物車",
    "聯絡我們",
    "常見問題",
    "網站地圖",
    "隱私權政策",
    "服務條款",
    "回頂端",
    "上一頁",
    "下一頁",
    "分享到",
    "Facebook",
    "分享到",
    "LINE",
    "熱門文章",
    "相關文章",
    "更多",
]


def kinds() -> dict[str, Callable[[random.Random, Sequence[str]], str]]:
    """Returns a maker of one text for each kind, from a generator and good texts."""
    return {
        "keyword list": _keywords,
        "keyword page": _page,
        "navigation": _navigation,
        "navigation around little text": _thin,
        "UTF-8 read as Latin-1": lambda r, good: _cut(r, good).encode().decode("latin-1"),
        "UTF-8 read as CP1252": lambda r, good: _cut(r, good).encode().decode("cp1252", "ignore"),
        "UTF-8 read as GBK": lambda r, good: _cut(r, good).encode().decode("gbk", "ignore"),
        "Big5 read as GBK": lambda r, good: (
            _cut(r, good).encode("big5", "ignore").decode("gbk", "ignore")
        ),
        "GBK read as Big5": lambda r, good: (
            _cut(r, good).encode("gbk", "ignore").decode("big5", "ignore")
        ),
        "lost characters": _lost,
        "random characters": _random,
        "repeated line": lambda r, good: "\n".join([_cut(r, good, 40)] * r.randint(15, 60)),
        "repeated lines among others": _doubled,
        "repeated passage": lambda r, good: _cut(r, good, 200).replace("\n", "") * r.randint(3, 9),
        "code": _code,
        "numbers": _numbers,
        "links": _links,
    }


def make(kind: str, good: Sequence[str], number: int) -> list[str]:
    """Returns so many texts of a kind; the same every time."""
    generator = random.Random(f"bad {kind}")
    return [kinds()[kind](generator, good) for _ in range(number)]


def _cut(r: random.Random, good: Sequence[str], size: int = 800) -> str:
    text = r.choice(good)
    start = r.randrange(max(1, len(text) - size))
    return text[start : start + size]


def _keywords(r: random.Random, good: Sequence[str]) -> str:
    words = [
        r.choice(CITIES) + r.choice(TRADES) + r.choice(TAILS) for _ in range(r.randint(40, 200))
    ]
    return r.choice(["、", "，", " ", " | ", "\n"]).join(words)


def _page(r: random.Random, good: Sequence[str]) -> str:
    trade, city = r.choice(TRADES), r.choice(CITIES)
    word = city + trade
    forms = (
        "{w}推薦首選，專業{w}團隊，{w}價格透明，{w}評價最好。",
        "想找{w}嗎？{w}哪家好？本公司提供{w}服務，{w}歡迎來電洽詢。",
        "{w}、{c}{t}推薦、{w}費用、{w}ptt、{w}dcard，一次看懂{w}。",
        "為什麼選擇我們的{w}？因為{w}經驗豐富，{w}口碑保證。",
    )
    lines = [r.choice(forms).format(w=word, c=city, t=trade) for _ in range(r.randint(8, 30))]
    return "\n".join(lines)


def _navigation(r: random.Random, good: Sequence[str]) -> str:
    lines = [r.choice(MENU) for _ in range(r.randint(30, 90))]
    lines += [f"{r.choice(CITIES)}（{r.randint(1, 300)}）" for _ in range(r.randint(5, 20))]
    r.shuffle(lines)
    return "\n".join(lines)


def _thin(r: random.Random, good: Sequence[str]) -> str:
    return "\n".join([*MENU, _cut(r, good, 60).replace("\n", " "), *MENU])


def _lost(r: random.Random, good: Sequence[str]) -> str:
    return "".join("\ufffd" if r.random() < 0.05 else c for c in _cut(r, good))


def _random(r: random.Random, good: Sequence[str]) -> str:
    return "".join(chr(r.randint(0x4E00, 0x9FA5)) for _ in range(600))


def _doubled(r: random.Random, good: Sequence[str]) -> str:
    lines = [line for line in _cut(r, good, 1500).split("\n") if line.strip()]
    return "\n".join(r.choice(lines) for _ in range(4 * len(lines) + 8))


def _code(r: random.Random, good: Sequence[str]) -> str:
    lines = [f"  var a{i} = function(x) {{ return x.get('{i}'); }};" for i in range(60)]
    return "\n".join([*lines, "$(document).ready(function(){ init(); });"])


def _numbers(r: random.Random, good: Sequence[str]) -> str:
    rows = [" ".join(f"{r.random() * 1e4:.2f}" for _ in range(8)) for _ in range(60)]
    return "股票代號 開盤 最高 最低 收盤\n" + "\n".join(rows)


def _links(r: random.Random, good: Sequence[str]) -> str:
    return "\n".join(
        f"{r.choice(TRADES)} https://www.example.com/{r.randrange(10**9)}/{r.randrange(10**9)}.html"
        for _ in range(50)
    )
