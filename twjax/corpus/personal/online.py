# ruff: noqa: E501 (word lists and patterns stay in one piece)
"""E-mail addresses, LINE ids and IP addresses."""

from __future__ import annotations

import ipaddress

import regex

from twjax.corpus.personal.patterns import Found, Recognizer, after, before, recognizer

# Names that belong to nobody: RFC 2606, RFC 6761, and the sample companies of Microsoft's manuals.
_RESERVED_HOST = regex.compile(
    r"(?i)(?:(?:^|\.)example\.(?:com|net|org|edu)(?:\.[a-z]{2})?|(?:^|\.)(?:contoso|fabrikam|northwindtraders)\.com|\.(?:example|test|invalid|localhost|local))$"
)
_FILE_ENDING = regex.compile(
    r"(?i)\.(?:png|jpe?g|gif|svg|webp|css|js|ts|tsx|jsx|py|rb|md|html?|json|ya?ml|mp[34]|pdf|txt"
    r"|service|timer|socket)$"
)
_OFFICE_MAILBOX = regex.compile(
    r"(?i)(?:info|service|services|contact|support|admin|webmaster|postmaster|hostmaster|sales"
    r"|hello|press|pr|hr|help|helpdesk|no-?reply|abuse|security|editor|editors|office|feedback"
    r"|marketing|privacy|legal|news|team|jobs?|customer[a-z._-]*|mailer-daemon|cs|mail|docs|[a-z0-9.-]+-(?:list|lists|sig|dev|devel|users|announce|discuss|bugs|team))"
)
# Resolvers and samples that everybody writes: Google, Cloudflare, Quad9, OpenDNS, HiNet, TWNIC.
_NOBODYS_IP = {
    *("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220"),
    *("168.95.1.1", "168.95.192.1", "101.101.101.101", "101.102.103.104", "1.2.3.4", "4.3.2.1"),
}
# An address is somebody's where words of networks or a log say so; else four numbers are a version,
# a section or a sample. The weaker words stand beside versions too.
_IP_CUE = regex.compile(
    r"(?i)(?:(?<![a-z])(?:ip|ping|ssh|addr(?:ess)?|whois|ban(?:ned)?|unban|drop(?:ped)?|reject(?:ed)?|attacker?|login)(?:[_\- ]?(?:ip|addr(?:ess)?|host))?(?![a-z])"
    r"|(?<![a-z])(?:src|source|dst|client|peer|remote)(?:[_\- ]?(?:ip|addr(?:ess)?|host))?[\s:=]{1,3}\Z"
    r"|(?<=_)(?:ip|addr(?:ess)?|host)(?![a-z])|位址|登入|來自|來源|發信站|編輯|投票|攻擊|封鎖|[黑白]名單|反查|用戶|使用者|異常|分身|水桶)"
)
_IP_WEAK = regex.compile(
    r"(?i)(?:(?<![a-z])(?:host|server|from|by|user|for|-s|-d|allow|deny)(?![a-z])|block(?:ed)?[\s:=]{1,3}$|伺服器|主機|連線|名單|查|用|有人|那台|帳號|留言|推|噓|→)"
)
# eddison (臺灣 59.125.…), ,59.125.…\n and | 59.125.… | of exports.
_IP_BESIDE = regex.compile(
    r"[A-Za-z0-9]{2,12} ?[(（](?:[\u4e00-\u9fff]{2,6} )?$|[,\t|｜] ?$|(?:^|\n)\s{0,4}$"
)
_IP_ENDS = regex.compile(r"\s{0,2}(?:[,\t|｜\n)）]|$|[0-9]{2}/[0-9]{2})")
_IP_SAMPLE = regex.compile(
    r"(?i)(?:例|示例|範例|(?<!假)如|(?<![a-z])e\.?g\.?|such\sas|example|like)[^\n。；;]{0,8}\Z"
)
_VERSION_CUE = regex.compile(
    r"(?i)(?:版本?|(?<![a-z])(?:v|ver\.?|version|release|build|sdk|driver|firmware|oid)|韌體|更新"
    r"|升級|驅動程式|第|§|節|章|條|附[表錄件])[\s:：=\"'是為號到至(（\[\-]{0,4}$|[a-z][a-z.]*[/\-_@=~^]+\s?$"
    r"|(?<![a-z])(?:chrome|chromium|firefox|safari|edge|opera|windows|android|ios|macos|linux|kernel|nginx|apache|python|java"
    r"|node|php|mysql|office|adobe|acrobat|flash|nvidia|intel|amd|snmp|update|patch|to|upgrade[ds]?|library|package|dll)\s$"
)
_IP_AFTER = regex.compile(
    r"[^\n\0。]{0,6}(?i:(?<![a-z])ip(?![a-z])|嘗試|連[線接入]|登[入錄]|攻擊|暴力|封鎖|掃描|留言|發文|來襲|入侵|的貢獻|這個位址|位址|主機|逾時|亂留)|\s-\s-\s\[|\s+(?:GET|POST)"
)
# What may stand between LINE and the id: 的ID是, 帳號：「, ／, 可以加我嗎？ID是.
# Nothing else: 賴致翔：…, LINE或者是….
_GAP = r"(?:[\s:：=＝→~～/／|｜「『“\"'（(【\[？?，,、…\->]|帳[號戶]?|賬號|是不是|是否|[的是為叫請加我你妳他她可以嗎聊一下喔哦呀啊吧呢唷個好友搜尋找用號碼這組暱稱聯絡繫阿明小詢問洽諮訂購預約看房詳談私訊密報直接歡迎新增到])"
_SAID = r"(?:\s(?i:is|as|at|no\.?|number|name|account)(?=[\s:：])|\s?[(（\[【](?![A-Za-z0-9@._\-]{3,}[)）\]】])[^()（）\[\]【】\n\0]{1,16}[)）\]】])"
# Or further on in the sentence: LINE不見了，新的ID是….
_FAR = r"[\u4e00-\u9fff，,、]{1,14}?(?<![A-Za-z])(?:ID|Id|id|帳號)\s?(?:已?改?[是為叫成]|[:：=])\s?[「『\"]?"
_LINE_GAP = rf"(?P<gap>{_FAR}|[)）\]】]?(?:[_\- ]?(?i:id))?{_SAID}?{_GAP}{{0,16}}?(?:(?<![A-Za-z])(?:ID|Id|id|iD){_SAID}?{_GAP}{{0,8}}?)?)"
_LINE_ID = rf"{_LINE_GAP}(?<![A-Za-z0-9@._\-])(?P<n>@?[A-Za-z0-9][A-Za-z0-9._\-]{{2,24}}+)(?![A-Za-z0-9@/(=\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff])"
_NOT_A_LINE_ID = regex.compile(
    r"(?i)https?|www|line|official|group|today|pay|points?|store|note|shop|bot|notify|login|taxi"
    r"|music|webtoon|messaging|account|developers?|friends?|play|bank|mobile|app|number|numbers|tv|voom|keep|api|ads?|biz|works|stickers?|camera|game|games|corp(?:oration)?"
    r"|facebook|fb|ig|instagram|wechat|whatsapp|telegram|email|e-?mail|gmail|phone|tel|discord|skype|id|qr|qrcode|url|token|liff|beacon|tmall|android|ios|iphone|windows|chat|call|message|meet|zoom|google|youtube|twitter|threads|messenger|only|please|the|and|add|me"
    r"|xxx+|example-.*|.*\.(?:com|tw|net|org|ee|me|io)(?:\..*)?|[.\-_0]+"
)
# jay.tw may be an id if it's said to be one.
_SHORT_HOST = regex.compile(r"(?i)(?!line\.|lin\.)[a-z0-9_\-]{1,12}\.(?:tw|me|ee|io)")
# Of a LINE ID is said: required, case-sensitive, ….
_NOT_SAID = regex.compile(
    r"(?i)required|optional|invalid|valid|unique|private|public|missing|empty|already.*|unknown|shown|hidden|correct|incorrect|wrong|case.*|not|not.*|different|available|unavailable|needed|used|linked|displayed|below|above|here|your|their|this|that|also|just|still|only|same|none|null|string|undefined|too|being|never|always|locked|banned|taken|longer|shorter|following|simply|verified"
)
_IS = regex.compile(r"\s(?i:is|as|at)\s")
# What leads to an id; 賴 and LINE need one of these on either side.
_LEADS = regex.compile(
    r"[:：=＝→~～/／|｜「『“\"]|是|為|叫|加|搜尋|帳[號戶]?|賬號|[（(]$|我|聊|洽|請|\n"
)
_ADD = regex.compile(
    r"(?:加|請|洽|用|私|或|我|個人|聯絡|連絡|聯繫|傳|有|留|給|新增|搜尋|詢問?|約|軟體|方式|[:：／/]|(?i:(?<![a-z])(?:my|via|add|me on)))(?:一?下|我|你|妳|他|她|的|個)*\s?$"
)
# The gap says that something else was said.
_GAP_OF_OTHERS = regex.compile(
    r"[0-9]|電話|手機|信箱|[Ee]-?mail|群組?|官方|貼圖|點數|股|版本|性|回覆|傳[了送給]|[，,]\s?[^A-Za-z0-9@]{0,16}(?:網址|密碼|代碼|優惠碼|序號|輸入)"
)
# 信賴, 依賴, 賴床, 賴清德: not the messenger.
_BEGINS = regex.compile(r"(?:^|[\n\0。！)）\]】])[\s>→*\-●]{0,3}$")
_BEGINS_CLAUSE = regex.compile(r"(?:^|[\n\0，。；：！*\-）)、])\s{0,2}$")
_NAMED = regex.compile(r"(?i:id)|帳|賬|搜尋")
_ADD_ENGLISH = regex.compile(
    r"(?i)(?<![a-z])(?:my|via|add|add me|me on|contact|through)[\s:(]{1,2}$"
)
_ARTICLE_WORD = regex.compile(
    r"(?i)(?<![a-z])(?:the|a|this|that|each|every|on|per|command|dead)[\s\-]$"
)
_NAMED_BEFORE = regex.compile(r"(?:(?<![A-Za-z])(?i:id)|帳號)\s?[(（\[/／]?\s?$")
_IN_HEADING = regex.compile(r"_?(?i:id)[,;\t|]")
_OWN_LINE = regex.compile(r"\s?[:：]?\s?\n\s?")
_MARK = regex.compile(r"[:：=＝→]|是")
_NOT_LAI = regex.compile(r"[信依仰無倚抵耍誣姓憑]$")
_IN_URL_USER = regex.compile(r"://[^\s/@\u3400-\u9fff]*+$")
# abc.tw 的 IP 是
_SITE = regex.compile(
    r"網站|網址|轉址|[a-z0-9]\.(?:tw|com|org|net|io)[^A-Za-z0-9\n]{0,6}IP|[a-z0-9]\.(?:com|net|org|io)\)?[ |.…(]{1,6}(?:[0-9.]+, )?$"
)
_CHINESE = regex.compile(r"[\u4e00-\u9fff]")


_LOCAL = r"[A-Za-z0-9_](?:[A-Za-z0-9._%+\-]|\s?[(\[{]dot[)\]}]\s?){0,63}"
# amy (at) gmail (dot) com, amy at gmail dot com, amy 小老鼠 gmail.com
_DOT = r"(?:\.|\s?[(\[{（](?i:dot|點)[)\]}）]\s?|\s(?i:dot)\s|\s?點\s?)"
_HIDDEN_HOST = rf"[A-Za-z0-9\-]{{1,63}}+(?:{_DOT}[A-Za-z0-9\-]{{2,24}}+){{1,4}}"
_A_DOT = regex.compile(_DOT)
# Around the at: brackets, spaces, or marks.
_OPEN, _CLOSED = r"[(（\[{< #_]", r"[)）\]}> #_]"
# Spoken of without brackets only for hosts of mailboxes.
_MAIL_HOST = regex.compile(
    r"(?i)(?:gmail|yahoo|hotmail|outlook|icloud|msn|live|kimo|pchome|proton(?:mail)?|aol|me|mac|qq|163|126|[a-z0-9\-]*mail)\.[a-z]"
    r"|.*(?:edu|com|org|net|gov|idv)\.tw$|.*hinet\.net$"
)


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of the kinds of this file."""
    return [
        recognizer(
            "e-mail",
            r"@(?<=(?P<l>(?<![A-Za-z0-9._%+\-])[A-Za-z0-9_][A-Za-z0-9._%+\-]{0,63})@)"
            r"(?P<d>(?:[A-Za-z0-9\-]{1,63}+\.){1,8}[A-Za-z]{2,24}+)(?![A-Za-z0-9@])",
            _email,
        ),
        *(
            recognizer(
                "e-mail",
                rf"{at}(?<={_OPEN}{at})(?={_CLOSED})"
                rf"(?<=(?P<l>(?<![A-Za-z0-9._%+\-]){_LOCAL}) ?{_OPEN}{at}){_CLOSED} ?(?P<d>{_HIDDEN_HOST})(?![A-Za-z0-9@])",
                _hidden_email,
                needs=at,
            )
            for at in ("at", "AT", "At", "@")
        ),
        recognizer(
            "e-mail",
            rf"@(?<=(?P<l>(?<![A-Za-z0-9._%+\-]){_LOCAL}) @)(?P<d>{_HIDDEN_HOST})(?![A-Za-z0-9@])",
            _hidden_email,
            needs=" @",
        ),
        recognizer(
            "e-mail",
            rf"小老鼠(?<=(?P<l>(?<![A-Za-z0-9._%+\-]){_LOCAL}) ?[（(]?小老鼠)[)）]? ?(?P<d>{_HIDDEN_HOST})(?![A-Za-z0-9@])",
            _hidden_email,
            needs="小老鼠",
        ),
        recognizer(
            "e-mail",
            rf"@(?<=(?P<l>(?<![A-Za-z0-9._%+\-]){_LOCAL})@)(?=[A-Za-z0-9\-]{{1,63}}+\s?(?:[(\[{{（]|(?i:dot)[ ]))(?P<d>{_HIDDEN_HOST})(?![A-Za-z0-9@])",
            _hidden_email,
        ),
        *(recognizer("LINE id", word + _LINE_ID, _line) for word in ("LINE@?", "Line@?", "賴")),
        recognizer(
            "LINE id",
            rf"line(?:\.me/(?:R/)?ti/p/(?P<page>[~@]?[A-Za-z0-9._\-]{{4,40}}+)|{_LINE_ID})",
            _line,
        ),
        # abc_123 是我的賴
        *(
            recognizer(
                "LINE id",
                rf"我的{word}(?![A-Za-z0-9@])(?<=(?<![A-Za-z0-9@._\-])(?P<n>[A-Za-z0-9][A-Za-z0-9._\-]{{3,24}})[\s，,]{{0,2}}這?個?就?是?我的{word})",
                _own_line,
            )
            for word in ("賴", "LINE")
        ),
        recognizer("IP address", r"[0-9]{1,3}+(?:\.[0-9]{1,3}+){3}+", _ipv4, "numbers"),
        recognizer("IP address", r"2[0-9A-Fa-f]{3}:[0-9A-Fa-f:]{3,36}+", _ipv6),
    ]


def is_office(found: Found) -> bool:
    """Whether an e-mail address or a LINE id is of an office: info@…, an official account @…."""
    if found.kind == "e-mail":
        return bool(_OFFICE_MAILBOX.fullmatch(found.value.partition("@")[0]))
    return found.kind == "LINE id" and found.value.startswith("@")


def in_link(text: str, found: Found) -> bool:
    """Whether an IP address is the host of a link, that is, a web server's."""
    if found.kind != "IP address":
        return False
    left = before(text, found.start, 28)
    return left.endswith(("://", "://[")) or bool(_SITE.search(left))


def _email(text: str, match: regex.Match[str]) -> Found | None:
    local, host = match["l"], match["d"]
    if _RESERVED_HOST.search(host) or _FILE_ENDING.search(host):
        return None
    start = match.start("l")
    # git@host:path and ssh://user@host name a server's account.
    if _IN_URL_USER.search(before(text, start, 80)) or (
        local == "git" and after(text, match.end(), 1) == ":"
    ):
        return None
    if local.endswith("."):
        return None
    return Found("e-mail", start, match.end(), f"{local}@{host}".lower())


def _hidden_email(text: str, match: regex.Match[str]) -> Found | None:
    local = _A_DOT.sub(".", match["l"].strip())
    host = _A_DOT.sub(".", match["d"])
    if _RESERVED_HOST.search(host) or _FILE_ENDING.search(host) or len(local) < 2:
        return None
    if "\n" in match[0] or not host.rpartition(".")[2].isalpha():
        return None
    bracketed = (
        match[0][0] == "小"
        or text[match.start() - 1] in "(（[{<#"
        or ("@" not in match[0] and "." not in match["d"])
    )
    if not bracketed and not _MAIL_HOST.match(host):
        return None
    start = match.start("l")
    if before(text, start, 1) == "@" or local.lower() in ("available", "mail", "me", "contact"):
        return None
    return Found("e-mail", start, match.end("d"), f"{local}@{host}".lower())


def _line(text: str, match: regex.Match[str]) -> Found | None:
    if match.groupdict().get("page"):
        return _link(match)
    start = match.start("n")
    value = match["n"].rstrip("._-")
    word, gap = match[0][0], match["gap"]
    left = before(text, match.start(), 24)
    right = after(text, start + len(value), 2)
    # ID（LINE）：…, and a form's line of its own: LINE\n….
    named = bool(_NAMED.search(gap) or _NAMED_BEFORE.search(left))
    named |= bool(_OWN_LINE.fullmatch(gap) and _BEGINS.search(left) and right[:1] in ("", "\n"))
    bare = value.removeprefix("@")
    host = _NOT_A_LINE_ID.fullmatch(bare)
    if len(value) < 4 or (
        host
        and not ((named or _MARK.search(gap) or _ADD.search(left)) and _SHORT_HOST.fullmatch(value))
    ):
        return None
    if left[-1:].isascii() and (left[-1:].isalnum() or left[-1:] in ("_", "-", "/", ".", "#", "<")):
        return None
    if (word == "賴" and _NOT_LAI.search(left)) or _GAP_OF_OTHERS.search(gap):
        return None
    if _IS.search(gap) and bare.isalpha() and _NOT_SAID.fullmatch(bare):
        return None
    # A date, a price or a clock isn't an id, a telephone number only if it's said to be.
    if not any(c.isalpha() for c in bare) and not (named and bare.isdigit() and len(bare) >= 6):
        return None
    if "\n" in gap and not named:
        return None
    # name,line_id,size: headings of a table.
    if word == "l" and _IN_HEADING.match(gap):
        return None
    # LINE usage, "the line …": in English it takes an id's word or mark.
    if word in "Ll" and not named and not _ADD_ENGLISH.search(left):
        latin = "：" not in gap and not _CHINESE.search(
            left[-8:] + gap + after(text, match.end(), 8)
        )
        marked = _MARK.search(gap) and not bare.isalpha()
        if (latin and not marked) or _ARTICLE_WORD.search(left):
            return None
    leads, asked = bool(_LEADS.search(gap)), bool(_ADD.search(left))
    # 急徵 賴 abc_123: a word of its own; 賴 Ching-te is somebody's name.
    alone = word == "賴" and left[-1:].isspace() and gap.isspace() and bare.islower()
    if value[0] == "@":
        sure = True
    elif any(not c.isalpha() for c in bare):
        spoken = bool(_BEGINS_CLAUSE.search(left)) and bool(_CHINESE.match(right.strip()[:1]))
        spoken |= alone
        sure = named or leads or asked or spoken
    else:
        # A word of letters only: 加我賴 kevinlin, a line of a form, LINE ID littlefish.
        ends = right[:1] in (
            "",
            "\n",
            "\0",
            "。",
            " ",
            "，",
            "！",
            "、",
            "；",
            ")",
            "）",
            "」",
            '"',
            "～",
        )
        small = bare.islower() or bare[1:].islower()
        chinese = word == "賴" or bool(_CHINESE.search(left + gap + after(text, match.end(), 6)))
        marked = (bool(_MARK.search(gap)) and chinese) or (
            bool(_BEGINS.search(left)) and "：" in gap
        )
        sure = named or (
            small
            and len(bare) >= 5
            and ends
            and (alone or asked or marked or (word == "賴" and leads))
        )
    # `line 3: error_x` and `line_id = …` in English are some program's.
    mine = named and _ADD.search(left)
    if sure and word == "l" and not mine and not (named and ("_" in gap or _MARK.search(gap))):
        sure = bool(_CHINESE.search(left + match[0] + after(text, match.end(), 6))) or "：" in gap
    return Found("LINE id", start, start + len(value), value.lower()) if sure else None


def _own_line(text: str, match: regex.Match[str]) -> Found | None:
    value = match["n"].rstrip("._-")
    if _NOT_A_LINE_ID.fullmatch(value) or not any(c.isalpha() for c in value):
        return None
    start = match.start("n")
    return Found("LINE id", start, start + len(value), value.lower())


def _link(match: regex.Match[str]) -> Found | None:
    value = match["page"].rstrip(".-_")
    if value.startswith(("example-", "~example-")) or len(value) < 4:
        return None
    start = match.start("page")
    if value.startswith("~"):
        start, value = start + 1, value[1:]
    return Found("LINE id", start, start + len(value), value.lower())


def _ipv4(text: str, match: regex.Match[str]) -> Found | None:
    start, end = match.span()
    left, right = before(text, start, 24), after(text, end, 2)
    if (left[-1:].isascii() and (left[-1:].isalnum() or left[-1:] in ("_", ".", "-"))) or (
        right[:1].isascii() and (right[:1].isalnum() or right[:1] in ("_", "-"))
    ):
        return None
    if len(right) > 1 and right[0] == "." and right[1].isascii() and right[1].isalnum():
        return None
    try:
        address = ipaddress.IPv4Address(match[0])
    except ValueError:
        return None
    if not address.is_global or address.is_multicast or match[0] in _NOBODYS_IP:
        return None
    # 1.2.3.0/24 is nobody's.
    if (right[:1] == "/" and right[1:].isdigit()) or _IP_SAMPLE.search(left):
        return None
    right = after(text, end, 16)
    if not (_IP_CUE.search(left) or _IP_AFTER.match(right)):
        beside = _IP_BESIDE.search(left) and _IP_ENDS.match(right)
        if not (beside or _IP_WEAK.search(left)):
            return None
        if _VERSION_CUE.search(left) or max(address.packed) < 32 or match[0].endswith(".0.0"):
            return None
    return Found("IP address", start, end, match[0])


def _ipv6(text: str, match: regex.Match[str]) -> Found | None:
    left = before(text, match.start(), 1)
    written = match[0] if match[0].endswith("::") else match[0].rstrip(":")
    end = match.start() + len(written)
    right = after(text, end, 1)
    if (left.isascii() and (left.isalnum() or left in (":", ".", "_"))) or (
        right.isascii() and (right.isalnum() or right == "_")
    ):
        return None
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return None
    if not address.is_global or written.count(":") < 3:
        return None
    left, right = before(text, match.start(), 24), after(text, end, 16)
    if not (
        _IP_CUE.search(left)
        or _IP_WEAK.search(left)
        or _IP_AFTER.match(right)
        or (_IP_BESIDE.search(left) and _IP_ENDS.match(right))
    ):
        return None
    return Found("IP address", match.start(), end, str(address))
