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
_IP_CUE = regex.compile(
    r"(?i)(?:(?<![a-z])(?:ip|host|server|ping|ssh|from|addr(?:ess)?)(?![a-z])|伺服器|位址|連線|登入)"
)
_VERSION_CUE = regex.compile(
    r"(?i)(?:版本?|(?<![a-z])(?:v|ver\.?|version|release|build|sdk|driver|firmware|oid)|韌體|更新"
    r"|升級|第|§|節|章|條|附[表錄件])[\s:：=\"'是為號到至\-]{0,4}$|[a-z][a-z.]*[/\-_@=~^\s]+$"
)
# 帳號：「…」 between LINE and the id.
_LINE_ID = (
    r"(?:[\u4e00-\u9fff]{0,6}[（(](?=ID|Id|id|帳號))?"
    r"[ \u3000]?(?P<id>(?:的)?(?:ID|Id|id|帳號|賬號))?[ \u3000]?(?P<link>[:：=＝]|是|為|搜尋|→)?"
    r"(?:[ \u3000]|\n)?"
    r"[\"'「『(（【]?(?P<n>@?[A-Za-z0-9][A-Za-z0-9._\-]{2,19}+)(?![A-Za-z0-9@/])"
)
_NOT_A_LINE_ID = regex.compile(
    r"(?i)https?|www|line|official|group|today|pay|points?|store|note|shop|bot|notify|login|taxi"
    r"|music|webtoon|messaging|account|developers?|friends?|play|bank|mobile|app|number|numbers"
    r"|xxx+|example-.*|.*\.(?:com|me|tw|net|org|ee)(?:\..*)?|[.\-_0]+"
)
# jay.tw may be an id if it's said to be one.
_SHORT_HOST = regex.compile(r"(?i)[a-z0-9_\-]{1,12}\.(?:tw|me)")
_ADD_ME = regex.compile(r"(?:加|私)我?的?\s?$")
_BEGINS = regex.compile(r"(?:^|[\n\0。！)）\]】])[\s>→*\-●]{0,3}$")
_FORM = regex.compile(r"(?:聯絡|連絡|聯繫)(?:方式|資訊)?[:：]\s?$")
_IN_URL_USER = regex.compile(r"://[^\s/@\u3400-\u9fff]*+$")
_SITE = regex.compile("網站|網址|轉址")
_CHINESE = regex.compile(r"[\u4e00-\u9fff]")
_ADD = regex.compile(r"(?:加|用|私|的|或|我|個人|聯絡|[:：])\s?$")


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
                rf"{at}(?<=(?P<l>(?<![A-Za-z0-9._%+\-])[A-Za-z0-9_][A-Za-z0-9._%+\-]{{0,63}})"
                rf" ?{at}) ?"
                r"(?P<d>(?:[A-Za-z0-9\-]{1,63}+\.){1,8}[A-Za-z]{2,24}+)(?![A-Za-z0-9@])",
                _email,
            )
            for at in (r"\[at\]", r"\(at\)", "（at）", r"\(AT\)")
        ),
        *(recognizer("LINE id", word + _LINE_ID, _line) for word in ("LINE", "Line", "賴")),
        recognizer(
            "LINE id",
            rf"line(?:\.me/(?:R/)?ti/p/(?P<page>[~@]?[A-Za-z0-9._\-]{{4,40}}+)|{_LINE_ID})",
            _line,
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
    left = before(text, found.start, 16)
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


def _line(text: str, match: regex.Match[str]) -> Found | None:
    if match.groupdict().get("page"):
        return _link(match)
    value = match["n"].rstrip("._-")
    left = before(text, match.start(), 24)
    named = bool(match["id"])
    host = _NOT_A_LINE_ID.fullmatch(value.removeprefix("@"))
    if (host and not (named and _SHORT_HOST.fullmatch(value))) or len(value) < 4:
        return None
    if "\n" in match[0] and not named:
        return None
    if left[-1:].isascii() and (left[-1:].isalnum() or left[-1:] in ("_", "-", "/", ".")):
        return None
    asked = bool(_ADD.search(left))
    word = match[0][0]
    if value.isdigit():
        sure = named and len(value) >= 6
    elif value.startswith("@"):
        sure = True
    else:
        mixed = any(not c.isalpha() for c in value)
        # A line of a form, or 加我賴 and a name in small letters.
        small = value.islower() and len(value) >= 6
        right = after(text, match.end(), 1)
        begins = bool(_BEGINS.search(left)) and "：" in match[0]
        form = (begins or bool(_FORM.search(left))) and right in ("", "\n", "。", " ")
        sure = (small and (form or (word == "賴" and bool(_ADD_ME.search(left))))) or (
            named or (mixed and (asked or bool(match["link"]))) or (asked and bool(match["link"]))
        )
    if word in "l賴":
        sure = sure and (named or asked or bool(match["link"]))
        # `line id = …` in English is some program's.
        sure = sure and (
            word == "賴"
            or bool(_CHINESE.search(left + match[0] + after(text, match.end(), 3)))
            or "：" in match[0]
        )
    if not sure:
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
    if not _IP_CUE.search(left):
        octets = address.packed
        if _VERSION_CUE.search(left) or max(octets) < 32 or match[0].endswith(".0.0"):
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
    return Found("IP address", match.start(), end, str(address))
