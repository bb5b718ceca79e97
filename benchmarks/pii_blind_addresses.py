# ruff: noqa: E501
"""Addresses for sets of templates written without a look at the rules; all invented, all seeded."""

from __future__ import annotations

import random

from pii_blind_numerals import han, wide

_TOWNS = {
    "臺北市": "松山區 士林區 中正區 南港區", "台北市": "大同區 信義區 文山區", "新北市": "中和區 永和區 汐止區 林口區 樹林區", "基隆市": "安樂區 七堵區", "桃園市": "桃園區 龜山區 八德區 楊梅區",
    "新竹市": "東區 香山區", "新竹縣": "竹東鎮 關西鎮", "苗栗縣": "竹南鎮 苑裡鎮", "臺中市": "南屯區 北屯區 豐原區 沙鹿區", "台中市": "太平區 烏日區 清水區", "彰化縣": "彰化市 和美鎮 二林鎮", "南投縣": "南投市 竹山鎮",
    "雲林縣": "斗南鎮 北港鎮 西螺鎮", "嘉義縣": "民雄鄉 朴子市", "嘉義市": "西區", "臺南市": "南區 新營區 善化區 歸仁區", "台南市": "中西區 佳里區", "高雄市": "苓雅區 楠梓區 岡山區 前鎮區", "屏東縣": "東港鎮 恆春鎮",
    "宜蘭縣": "宜蘭市 頭城鎮 冬山鄉", "花蓮縣": "玉里鎮 新城鄉", "台東縣": "台東市 關山鎮", "澎湖縣": "馬公市 湖西鄉", "金門縣": "金湖鎮",
}  # fmt: skip
_ROADS = [
    "中山",
    "中正",
    "民生",
    "民族",
    "忠孝",
    "仁愛",
    "復興",
    "建國",
    "三民",
    "光復",
    "自由",
    "文化",
    "和平",
    "成功",
    "長春",
    "福德",
    "大勇",
    "北新",
    "南門",
    "後港",
    "永福",
    "金華",
    "中華",
    "興業",
    "育英",
    "崇德",
    "裕農",
    "明誠",
    "中央",
    "大墩",
    "東興",
    "樹德",
    "清水",
    "環河",
    "景平",
    "莒光",
    "鎮南",
    "雙十",
    "向上",
]
_VILLAGES = [
    "中興",
    "復興",
    "安和",
    "民權",
    "三元",
    "福安",
    "頂埔",
    "水源",
    "西勢",
    "東寧",
    "大林",
    "南勢",
]


def address(r: random.Random) -> str:
    county = r.choice(list(_TOWNS))
    town = r.choice(_TOWNS[county].split())
    n = str if r.random() < 0.75 else han
    text = (county if r.random() < 0.88 else "") + town
    if r.random() < 0.2:
        text += r.choice(_VILLAGES) + ("里" if town[-1] in "區市鎮" else "村")
        text += n(r.randint(1, 28)) + "鄰" if r.random() < 0.6 else ""
    road = r.choice(_ROADS) + r.choice(
        ["路", "路", "路", "街", "街", "東路", "北路", "二街", "五街"]
    )
    text += (
        r.choice(["臺灣大道", "市民大道", "凱旋四路", "新庄子路"]) if r.random() < 0.06 else road
    )
    if r.random() < 0.35 and text[-1] != "街":
        text += r.choice(["一", "二", "三", "四", "1", "2", "3"]) + "段"
    if r.random() < 0.4:
        text += (
            n(r.randint(2, 420)) + "巷" + (n(r.randint(1, 60)) + "弄" if r.random() < 0.4 else "")
        )
    number = r.randint(1, 520)
    text += r.choice(
        [f"{n(number)}號"] * 5
        + [f"{n(number)}之{n(r.randint(1, 9))}號", f"{number}-{r.randint(1, 9)}號"]
    )
    text += r.choice(
        [
            "",
            "",
            "",
            f"{n(r.randint(2, 22))}樓",
            f"{n(r.randint(2, 22))}樓",
            f"{r.randint(2, 22)}F",
            f"{n(r.randint(2, 22))}樓之{n(r.randint(1, 9))}",
            f"{r.randint(2, 22)}樓之{r.randint(1, 9)}",
        ]
    )
    return wide(r, text, 0.05)


def village_address(r: random.Random) -> str:
    place, settle = r.choice(
        [
            ("雲林縣古坑鄉", "桂林"),
            ("嘉義縣梅山鄉", "瑞峰"),
            ("花蓮縣秀林鄉", "富世"),
            ("屏東縣滿州鄉", "港口"),
            ("南投縣鹿谷鄉", "鳳凰"),
            ("台東縣東河鄉", "都蘭"),
            ("苗栗縣大湖鄉", "栗林"),
            ("澎湖縣望安鄉", "水垵"),
        ]
    )
    near = f"{r.randint(1, 18)}鄰" if r.random() < 0.6 else ""
    return f"{place}{settle}村{near}{settle}{r.randint(1, 160)}{r.choice(['', f'之{r.randint(1, 9)}', f'-{r.randint(1, 9)}'])}號"


def english_address(r: random.Random) -> str:
    road = r.choice(
        [
            "Zhongzheng Rd.",
            "Sec. 1, Minquan W. Rd.",
            "Wenxin Road",
            "Guangfu N. Rd.",
            "Sec. 3, Xinyi Rd.",
            "Chenggong St.",
            "Jianguo 2nd Rd.",
        ]
    )
    town = r.choice(
        [
            "Songshan Dist., Taipei City",
            "Zhonghe District, New Taipei City",
            "Beitun Dist., Taichung City",
            "Lingya District, Kaohsiung City",
            "East Dist., Hsinchu City",
            "Zhudong Township, Hsinchu County",
        ]
    )
    return f"{r.choice(['', '', f'{r.randint(2, 15)}F., ', f'{r.randint(2, 15)}F.-{r.randint(1, 5)}, '])}No. {r.randint(1, 480)}, {r.choice(['', '', f'Ln. {r.randint(2, 320)}, ', f'Aly. {r.randint(2, 30)}, Ln. {r.randint(31, 320)}, '])}{road}, {town}"
