# ruff: noqa: E501 (sentences stay in one piece)
"""Hard negatives of the fourth set: numbers, codes, dates and words that are nobody's."""

from __future__ import annotations

import string
import uuid

from pii_values import Maker
from pii_values import digits as _d
from pii_values import pick as _pick


def _n(low: int, high: int) -> Maker:
    return lambda r: str(r.randint(low, high))


def _digits(n: int, head: str = "") -> Maker:
    return lambda r: head + _d(r, n)


def _one(*texts: str) -> Maker:
    return lambda r: r.choice(texts)


def _hex(n: int) -> Maker:
    return lambda r: _pick(r, n, "0123456789abcdef")


_DATE: Maker = lambda r: f"{r.randint(1995, 2024)}年{r.randint(1, 12)}月{r.randint(1, 28)}日"  # noqa: E731
_ROC: Maker = lambda r: f"民國{r.randint(85, 113)}年{r.randint(1, 12)}月{r.randint(1, 28)}日"  # noqa: E731

FOURTH: dict[str, list[tuple[str, Maker]]] = {
    "document number": [
        ("發文字號：府教學字第{}號", _digits(7, "112")), ("依衛部保字第{}號函辦理", _digits(7, "109")), ("臺灣高等法院{}號刑事判決", lambda r: f"{r.randint(98, 112)}年度上易字第{r.randint(10, 2999)}"), ("釋字第{}號解釋", _n(1, 813)), ("北市勞動字第{}號", _digits(8, "1096")),
        ("專利證書號 I{}", _digits(6)), ("衛部藥製字第{}號", _digits(6, "0")), ("公開收購案收文{}，請查照", _digits(10, "10")), ("檔號：0112/{}/1", _digits(6)),
    ],
    "statute": [
        ("刑法第{}條之1第2項", _n(100, 363)), ("依個人資料保護法第{}條規定，不得蒐集身分證字號", _n(1, 56)), ("自{}施行", _ROC), ("立法院於{}三讀通過", _ROC), ("第{}條第1項第3款但書", _n(1, 300)),
    ],
    "book": [("ISBN {}", lambda r: f"978-986-{_d(r, 3)}-{_d(r, 3)}-{_d(r, 1)}"), ("ISBN：{}（平裝）", _digits(10, "978")), ("ISSN {}", lambda r: f"{_d(r, 4)}-{_d(r, 4)}"), ("doi:10.1{}/j.cell", _digits(3)), ("索書號 857.7 {}", _digits(4))],
    "order": [
        ("訂單編號：{}", _digits(12, "2")), ("您的訂單 {} 已出貨", _digits(14, "23")), ("宅急便託運單號{}", _digits(12)), ("郵局掛號號碼 {}，預計週三送達", _digits(20)), ("包裹查詢碼 {}", lambda r: f"EE{_d(r, 9)}TW"), ("發票號碼 {}", lambda r: _pick(r, 2, string.ascii_uppercase) + "-" + _d(r, 8)),
        ("統一發票{}中獎", lambda r: _pick(r, 2, string.ascii_uppercase) + _d(r, 8)), ("統一編號：{}", _digits(8)), ("交易序號 {}", _digits(16, "7")), ("商品條碼 471{}", _digits(10)), ("超商代碼繳費：LLL{}", _digits(11)),
    ],
    "bill": [("水號 {}", lambda r: f"{_d(r, 1)}-{_d(r, 2)}-{_d(r, 6)}-{_d(r, 1)}"), ("繳費單銷帳編號{}", _digits(14)), ("電費通知單第 {} 號", _digits(11)), ("罰單單號 {}", lambda r: r.choice("ABC") + "1" + _pick(r, 1, "ABCD") + _d(r, 6))],
    "student": [("學號 {} 的座位在第三排", lambda r: r.choice("br") + _d(r, 8)), ("准考證號碼：{}", _digits(8, "1")), ("課程代碼 {}", lambda r: f"CSIE{_d(r, 4)}"), ("考場編號{}，第二試場", _digits(6))],
    "money": [("總價新台幣{}元", lambda r: f"{r.randint(1, 99)},{_d(r, 3)},{_d(r, 3)}"), ("營業額達{}元", _digits(9, "1")), ("每股盈餘 {} 元", lambda r: f"{r.randint(0, 30)}.{_d(r, 2)}"), ("NT${} 含運", _n(100, 99999)), ("年增率{}%，為近十年新高", lambda r: f"{r.randint(0, 30)}.{_d(r, 2)}")],
    "statistics": [("112年出生人口數為{}人", _digits(6)), ("全台人口{}人", lambda r: f"23,{_d(r, 3)},{_d(r, 3)}"), ("有效票數 {} 票", _digits(7, "1")), ("樣本數N={}，p<0.05", _n(100, 9999)), ("瀏覽人次：{}", _digits(10)), ("點閱數 09{}", _digits(6))],
    "version": [("請更新到 v{}", lambda r: f"{r.randint(1, 20)}.{r.randint(0, 30)}.{r.randint(0, 30)}"), ("Chrome/{} Safari/537.36", lambda r: f"{r.randint(80, 126)}.0.{r.randint(1000, 6500)}.{r.randint(10, 200)}"), ("韌體版本 {}", lambda r: f"1.{r.randint(0, 9)}.{r.randint(10, 99)}.{r.randint(1000, 9999)}"), ("Windows 10 組建 10.0.{}.1165", _n(17000, 22631)), ("numpy=={}", _one("1.26.4", "2.0.1"))],
    "network": [("內網閘道 {}", _one("192.168.1.1", "10.0.0.254", "172.16.0.1")), ("子網路遮罩{}", _one("255.255.255.0", "255.255.252.0")), ("伺服器跑在 http://127.0.0.1:{}/", _n(3000, 9999)), ("綁定 0.0.0.0:{}", _n(80, 9000)), ("MAC {}", lambda r: "00:00:5e:00:53:" + _pick(r, 2, "0123456789abcdef"))],
    "code": [
        ("commit {}", _hex(40)), ("sha256:{}", _hex(64)), ("MD5 檢查碼為 {}", _hex(32)), ("uuid = \"{}\"", lambda r: str(uuid.UUID(int=r.getrandbits(128)))), ("\"integrity\": \"sha512-{}==\"", lambda r: _pick(r, 86)), ("ghp_{}（請換成你自己的）", _one("xxxxxxxxxxxxxxxx", "YOUR_TOKEN")), ("API_KEY={}", _one("YOUR_API_KEY", "<your-key>", "xxxxxxxx", "changeme")), ("AKIAIOSFODNN7EXAMPL{} 是文件裡的範例金鑰", _one("E")),
        ("git clone git@{}:twjax/tools.git", _one("github.com", "gitlab.com")), ("const MAX = {};", _n(10**9, 10**10)), ("int a[{}] = {{0}};", _n(100, 9999)), ("from typing import List  # line {}", _n(10, 9999)), ("@babel/core@{}", _one("7.24.0", "7.12.3")), ("import {{ line }} from 'd3'; // id: {}", _n(100, 999)), ("color: #{};", _hex(6)), ("0x{}", _hex(8)), ("timestamp: {}", _digits(8, "17")),
    ],
    "time and place": [
        ("比賽於{}上午九點開始", _DATE), ("有效期限：{}", _DATE), ("製造日期 {}", _DATE), ("本校創立於{}", _DATE), ("{} 14:30:05 系統啟動", lambda r: f"2023-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"), ("北緯{}度，東經121.5654度", lambda r: f"25.{_d(r, 4)}"), ("座標 {}", lambda r: f"24.{_d(r, 6)}, 120.{_d(r, 6)}"),
        ("台9線{}公里處坍方", _n(10, 400)), ("中山路與{}路口車禍", _one("民生", "中正")), ("{}號出口出來右轉", _n(1, 8)), ("臺北市大安區共有{}個里", _n(20, 60)), ("公車{}號在和平東路停靠", _n(200, 300)), ("開獎號碼：07、12、{}、33、41", _n(13, 32)), ("會議室在{}樓", _n(2, 12)), ("民國{}年至113年", _n(80, 110)),
    ],
    "model": [
        ("買了{}耳機", _one("WH-1000XM5", "WF-1000", "MDR-7506", "ATH-M50")), ("型號：{}", lambda r: f"{_pick(r, 2, 'ABCDFGHK')}-{_d(r, 4)}"), ("搭乘{}班機", _one("BR-198", "CI-100", "JL-099")), ("{}顯示卡缺貨", _one("RTX-4090", "GTX-1080", "RX-6800")), ("料號 {}", lambda r: r.choice("FGHK") + r.choice("12") + _d(r, 8)), ("序號 SN{}", _digits(10)), ("符合 {} 標準", _one("ISO-9001", "CNS-3299", "IEEE-1394")), ("產品批號 {}", lambda r: f"LOT{_d(r, 8)}"),
    ],
    "phone-like": [
        ("請撥{}防疫專線", _one("1922", "165", "113", "1999")), ("設備編號 09{}", _digits(8)), ("財產編號：{}", lambda r: f"3140101-03-{_d(r, 5)}"), ("報名序號 {}", _digits(8, "09")), ("案件編號02-{}", _digits(8)), ("比分 02-{}", _n(10, 21)), ("第 {} 期樂透", _digits(6, "112")), ("文章代碼(AID): #1{}", lambda r: _pick(r, 7)),
    ],
    "words": [
        ("LINE 股價今日上漲{}%", _n(2, 9)), ("請問 Line Pay 單筆上限{}元嗎", _n(1000, 9999)), ("請填寫身分證字號（共{}碼）", _one("10", "十")), ("信用卡年費{}元", _n(300, 9000)), ("帳號長度 {} 位數", _n(10, 16)), ("手機號碼欄位請填{}碼數字", _one("10", "十")), ("護照申辦規費{}元", _n(1300, 1700)), ("車牌競標底價 {} 元", _n(1000, 9000)),
        ("生日禮金最高 {} 元", _n(500, 6000)), ("Stripe 的測試卡號是{}", _one("4242 4242 4242 4242", "4242424242424242")), ("電子郵件格式為 {}", _one("user@example.com", "name@example.org")), ("身分證字號格式如 {}", _one("A123456789")),
    ],
}  # fmt: skip
