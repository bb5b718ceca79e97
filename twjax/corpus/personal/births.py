# ruff: noqa: E501 (word lists and patterns stay in one piece)
"""Dates of birth: dates of either calendar beside words that say so.

A word (生日, 出生, 生於, 3月5日生, DOB, born) looks for a date within a few words after it, or else
right before it; words that make it another date's (生日優惠, 出生登記, 以前出生) undo it. What a form
says is taken as it stands. What is told is left where it belongs to a public life: a birth in a
year of our era beside a place or a word of fame (作家, 總統, 逝世), unless the first person, the
family or a case's party is near. Nobody born before 1905 is alive.
"""

from __future__ import annotations

import regex

from twjax.corpus.personal.patterns import (
    ARTICLE,
    REMARK,
    SPACE,
    Found,
    Recognizer,
    after,
    before,
    in_address_of_page,
    recognizer,
)

_D, _H = r"[0-9]", "[〇○零一二三四五六七八九十廿卅元百]"
_ERA = rf"(?:(?:(?:中華)?民國|民(?={SPACE}?[0-9])|西元|公元|國曆){SPACE}?)?"
_DIGITS = (
    rf"(?:{_D}{{2,4}}|{_D}(?: {_D}){{1,3}}|{_H}{{1,7}}){SPACE}?年次?{SPACE}?(?:{_D} ?{_D}?|{_H}{{1,3}}){SPACE}?月"
    rf"{SPACE}?(?:{_D}(?: ?{_D})?(?!{_D})|{_H}{{1,4}})(?:{SPACE}?[日號])?"
)
_HAN = rf"{_H}{{2,7}}(?P<h>[./\-－‐-―．／、‧・]){_H}{{1,3}}(?P=h){_H}{{1,4}}"
_MARKED = (
    rf"{_D}{{2,4}}{SPACE}?(?P<s>[./\-－．／、‧]){SPACE}?{_D}{{1,2}}{SPACE}?(?P=s)"
    rf"{SPACE}?{_D}{{1,2}}(?![0-9])"
)
_PLAIN = (
    rf"(?:19|20){_D}{{6}}(?![0-9])|[01]?{_D}{{6}}(?![0-9])"
    rf"|(?:1 9|2 0)(?: {_D}){{6}}(?! ?[0-9])|(?:[01] )?{_D}(?: {_D}){{5}}(?! ?[0-9])"
)
_ENGLISH = rf"{_D}{{1,2}}(?P<e>[/\-.]){_D}{{1,2}}(?P=e){_D}{{4}}(?![0-9])"
_MONTH = (
    r"(?i:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)"
    r"(?i:uary|ruary|ch|il|e|y|ust|ember|tember|ober)?"
)
MONTH = regex.compile(_MONTH)
_IN_WORDS = (
    rf"(?:{_MONTH}\.?{SPACE}{_D}{{1,2}}(?:st|nd|rd|th)?,?{SPACE}{_D}{{4}}"
    rf"|{_D}{{1,2}}(?:st|nd|rd|th)?[ \-](?:of )?{_MONTH}\.?,?[ \-]{_D}{{4}})(?![0-9])"
)
_DATE_PATTERN = rf"(?=[0-9〇○零一二三四五六七八九十廿卅元百中民西公國A-Za-z])(?<![0-9])(?<![0-9][./\-－])(?P<n>{_ERA}(?:{_IN_WORDS}|{_ENGLISH}|{_DIGITS}|{_HAN}|{_MARKED}|{_PLAIN}))"
_DATE = regex.compile(_DATE_PATTERN, regex.VERSION1)
# The first date, no digit before it.
_NEXT_DATE = regex.compile(rf"[^0-9\0]{{0,26}}?{_DATE_PATTERN}", regex.VERSION1)
# Whether the last number can be a day or a year: a quick way to say no.
_ENDS_DATE = regex.compile(
    rf"(?r)(?:[月./\-－‐-―．／、‧,\sa-z]{_D}{{1,4}}|{_D}{{2}}|月\s?{_H}{{1,4}}|[./\-－．／、‧]{_H}{{1,4}})[^0-9]{{0,16}}",
    regex.VERSION1,
)
# 生日：3月5日, without a year, right after the label.
_DAY = regex.compile(
    rf"(?:[\s:：是為在=「（(]{{1,4}})"
    rf"(?P<n>{_D}{{1,2}}(?:{SPACE}?月{SPACE}?{_D}{{1,2}}{SPACE}?[日號]|/{_D}{{1,2}}))(?![0-9/日號起前後到至止\-])"
)
_NOT_BETWEEN = regex.compile(
    r"[0-9。！？!?\0]|優惠|活動|派對|快樂|禮[券金物品]|宴|蛋糕|出生[率數]|登記|人口|公[布告]|補助|津貼|截止|訂於|改期|舉[行辦]|[期效]限"
    r"|嬰兒數|到職|入職|任職|入學|畢業|結婚|登入|發照|發證|有效|到期|核發|初診|就診|看診|入院|住院|掛號|[請報]名日|填表日|製表"
    r"|加入日|上映|死亡|逝世|歿|[自從]$|起$|\n\s*\n"
)
_ANSWERED = regex.compile(
    r"[^0-9\n。！？!?；;，,]{0,14}[。？?！!\n]{1,2}\s?(?:[^\s，,。；;：:、0-9]{1,8}\s?[:：]\s?)[「『“]?"
)
_NOT_AFTER = regex.compile(
    r"[\s)）日]{0,2}(?:以[前後]|之?[前後]|起|止|截止|舉[行辦]|開[放始催]|至|到|[~～–—\-]\s?[0-9])"
)
_NOT_LEFT_BETWEEN = regex.compile(
    r"[0-9。！？!?；;\0\n]|^[至到起]|[^\s(（][(（]|求婚|結婚|紀念|以[前後]|之?[前後]|起|[發產衍]$|公布|統計|施行|登記|出生[率數]"
)
# Words of lives that are told in public.
_FAME = regex.compile(
    r"作家|詩人|畫家|歌手|演員|導演|總統|主席|院長|部長|市長|縣長|立委|立法委員|議員|政治|音樂家|作曲|藝術家|小說家|書法家|學者|教育家"
    r"|科學家|運動員|球員|選手|投手|國手|教練|名將|明星|藝人|模特兒|主持人|樂團|偶像|代表人物|著名|知名|革命|將軍|皇帝|國父|先賢|烈士"
    r"|民主|企業家|創辦人|榮獲|得主|享[年壽]|逝世|去世|病逝|辭世|卒於|歿|文學|世紀|王朝|誕辰|出道|專輯|金[曲馬鐘]獎?|冠軍|奧運|董事長|集團"
    r"|[歌文影政]壇|生涯|概覽|電影|獎|開唱|演唱|新聞|雜誌|[影歌]后|[影歌]王|\*\*|\[\^|##"
)
_FAME_ENGLISH = regex.compile(
    r"(?i)(?<![a-z])(?:act(?:or|ress)|singer|songwriter|composer|musician|director|filmmaker|politician|president|minister|mayor|premier|legislator|governor|king|queen|emperor"
    r"|author|writer|novelist|poet|painter|artist|architect|scientist|professor|scholar|philosopher|athlete|players?|champion|olympics?|olympian|medal(?:ist)?|coach|pitcher"
    r"|founder|founded|co-founded|entrepreneur|chairman|ceo|executive|activist|revolutionary|album|film|award|prize|debut|career|biography|wikipedia|best known|famous|renowned|died|dynasty|descent)(?![a-z])"
)
# What stands beside a birth date in a form and never in an article.
_ONES_OWN = regex.compile(
    r"(?i)(?<![a-z])(?:i|my|our|we|mother|father|son|daughter|baby|child|kid|patient|applicant|defendant|plaintiff|client|student|employee|tenant|insured)(?:'s)?(?![a-z])[^.!?\n]{0,32}$"
)
_BORN_IN = regex.compile(r",?\s(?:in|at|into|to)\s|,\s[A-Z]")
_NAME_WAS = regex.compile(r"(?<!\b(?:He|She|I|Who|It))(?<=[A-Za-z\-])[ ](?:was|is) [Bb]$")
_OTHER_FIELD = regex.compile(
    r"身[分份]證|證號|電話|手機|[地住]址|戶籍|信箱|血型|聯絡|就診|病歷|學號|座號|護照|健保|投保|(?<![A-Za-z])(?i:id|phone|tel|e-?mail|address|passport|patient|gender|sex)(?![a-z])"
)
# Lists of sources tell what an encyclopaedia says of somebody.
_CITATION = regex.compile(
    r"(?i:entry|confirm|documenting|profile|biograph)|條目|生平|wiki|維基|傳記|收錄|https?:|\[\^"
)
_SOMEBODY = regex.compile(
    r"(?:先生|小姐|女士|太太|[哥姊姐弟妹她您你○]|同學|兒子|女兒)[^。！？\n\0]{0,28}$|[男女](?:性|，|、|\s|$)"
)
_PERSON = regex.compile(
    r"(?:我|本人|敝人|咱|家父|家母|先父|先母|[我小]?[兒女](?:子|兒)?(?=是|[0-9])|小孩|孩子|寶寶|老公|老婆|媽|爸|阿[公嬤姨伯]|外[公婆]|祖[父母]"
    r"|[叔伯姑舅姨]|被告|原告|聲請人|相對人|被繼承人|病患|病人|患者|個案|申請人|當事人|學生|考生|被保險人|要保人|會員"
    r"|旅客|姓名|命主|立約人|立書人|員工|身分證|戶籍|客戶|壽星)[^。！？\n\0]{0,28}$"
)
_FORM = regex.compile(
    r"(?:年月日|日期|日)|[^\w\n]{0,4}(?:[(（][^()（）\n]{1,12}[)）])?\s{0,3}[:：=＝|]"
)
# How far a told date stands from its word: 出生於, 在台北出生, 出生的日子是.
_TOLD = regex.compile(r"[^\n，,]{0,8}|[,，\s]{0,2}")
# Children of a range of dates, as benefits and vaccines have: …日至…日出生.
_RANGE = regex.compile(r"(?:[自至到~～–—\-]|以後)\s?$")
# A date follows these, and none is before them.
_LABELS = ("壽星", "命主", "生辰", "生辰八字")
_ENGLISH_CUE = ("DOB", "dob", "D.O.B", "irth", "BIRTH")
_PLACE = regex.compile(r"\s?(?:出生|誕生|生)?[於在](?!西元|公元|民國|國曆)[\u4e00-\u9fff]{2}")
# 1941年4月21日生，葉國一…: who is told of comes after.
_LED = regex.compile(r"，[^，。\n]{2,40}(?:，[^。\n]{0,60})?(?:創[立辦業]|畢業|任職|加入)")
_CALENDAR = regex.compile(r"^(?:(?:中華)?民國|西元|公元|國曆)")
_AROUND = 1500
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_MAYBE = regex.compile(r"[0-9]|[〇○一二三四五六七八九十百元][年./．‧]")
_NUMBER = regex.compile(rf"{_D}+|{_H}+")
_SPACED = regex.compile(rf"(?<!{_D}){_D} {_D}(?!{_D})")
_EXAMPLE = regex.compile(r"例|格式|如|(?i:e\.g|example|format)")
# A field's remark, which may hold a digit or an example: (7碼或8碼)：, （例：1986/3/5）：.
_REMARKED = regex.compile(rf"(?:[^0-9\n\0。，()（）]{{0,8}}{REMARK}){{1,2}}(?=\s{{0,3}}[^\w，。])")


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of dates of birth, one a word beside which a date is looked for."""
    born = r"(?=[^\u4e00-\u9fff]|的|於|在|屬|男|女|今|現|之|$)"
    words = (
        # 出生日期 is 出生's, 發生日期 and 學生日記 are nobody's.
        r"生日(?![這这那當当][天日年晚]|前夕|當日)(?<![出發產衍學醫先師寫營招研僑考新衛花眾]生日)(?![記常報文語光曆程間內本會趴宴卡])",
        *(
            r"出生(?![率數人]|嬰兒|登記|證明|\s?[0-9]{1,4}\s?[週周]年)",
            "誕生",
            r"生於(?<![出發產衍學醫誕新師考招研僑花男先]生於)",
        ),
        rf"生(?<=[0-9日號時點分晨午夜]{SPACE}?[)）]?{SPACE}?生){born}(?!\s*效)",
        *(
            "壽星",
            "命主",
            "生辰(?:八字)?",
            "(?<![A-Za-z])DOB",
            r"(?<![A-Za-z])dob(?=[\s:=\"'])",
            r"D\.O\.B",
            "(?<=[Bb])irth",
            "BIRTH",
        ),
        r"(?<=[Bb])orn(?![a-z])",
    )
    rare = ("D.O.B", "DOB", "dob", "BIRTH")
    return [
        recognizer(
            "birth date",
            word,
            _beside,
            needs=next((piece for piece in rare if piece in word.replace("\\", "")), ""),
        )
        for word in words
    ]


def _date(written: str) -> tuple[int, int, int] | None:
    """Returns year of our era (0 if none), month and day; None for what can't be a birth."""
    if _SPACED.search(written):
        written = written.replace(" ", "")
    numbers = _NUMBER.findall(_CALENDAR.sub("", written))
    month_name = MONTH.search(written)
    if month_name and len(numbers) == 2:
        month = _MONTHS.index(month_name[0][:3].title()) + 1
        numbers = [numbers[1], str(month), numbers[0]]
    elif len(numbers) == 2:
        numbers = ["0", *numbers]
    if len(numbers) == 1 and len(numbers[0]) in (6, 7, 8):
        numbers = [numbers[0][:-4], numbers[0][-4:-2], numbers[0][-2:]]
    if len(numbers) != 3:
        return None
    if len(numbers[2]) == 4 and numbers[2].isascii():
        numbers = [numbers[2], numbers[0], numbers[1]]
        # 28/05/1986 beside 05/28/1986.
        if int(numbers[1]) > 12:
            numbers[1:] = [numbers[2], numbers[1]]
    year, month, day = (int(n) if n[0].isascii() else han_number(n) for n in numbers)
    if 0 < year < 200:
        year += 1911
    # A 30th of February is what surrogates have.
    if not (1 <= month <= 12 and 1 <= day <= 31) or (month, day) == (2, 30):
        return None
    return (year, month, day) if year == 0 or 1905 <= year < 2100 else None


def han_number(written: str) -> int:
    """Returns the number below 10,000 that Han numerals say: 七十五, 一〇二, 一九八六, 元."""
    values = {c: i for i, c in enumerate("〇一二三四五六七八九")} | {"零": 0, "○": 0, "元": 1}
    if not set(written) & set("十廿卅百"):
        return int("".join(str(values.get(c, 0)) for c in written))
    total, unit = 0, 0
    for char in written:
        if char in "十百":
            total, unit = total + max(unit, 1) * (10 if char == "十" else 100), 0
        elif char in "廿卅":
            total, unit = total + (20 if char == "廿" else 30), 0
        else:
            unit = values.get(char, 0)
    return total + unit


def _beside(text: str, match: regex.Match[str]) -> Found | None:
    """Returns the date that the word belongs to: after it, or else right before it."""
    start, end = match.span()
    if not _MAYBE.search(text, max(0, start - 14), end + 60):
        return None
    return _after_word(text, match) or _before_word(text, match)


def _after_word(text: str, match: regex.Match[str]) -> Found | None:
    end = match.end()
    if match[0] == "生":
        return None
    remark = _REMARKED.match(text, end, end + 64)
    found = _date_from(text, match, remark.end()) if remark else None
    if found or (remark and _EXAMPLE.search(remark[0])):
        return found
    return _date_from(text, match, end)


def _date_from(text: str, match: regex.Match[str], end: int) -> Found | None:
    word = match[0]
    right = after(text, end, 56)
    day = _DAY.match(right) if word == "生日" else None
    if day and not _DATE.match(right, day.start("n")):
        return _found(text, end, day)
    date = _NEXT_DATE.match(right)
    if date is None:
        return None
    # 生日報一下。\nB: …: the answer to what was asked.
    answered = word == "生日" and _ANSWERED.fullmatch(right, 0, date.start("n"))
    if not answered and _NOT_BETWEEN.search(right, 0, date.start("n")):
        return None
    if _NOT_AFTER.match(right, date.end()):
        return None
    found = _found(text, end, date)
    if found is None:
        return None
    if (
        answered
        or word in ("生日", *_LABELS, *_ENGLISH_CUE)
        or _FORM.match(right, 0, date.start("n"))
    ):
        near = before(text, match.start(), 60), after(text, found.end, 30)
        if any(_CITATION.search(n) for n in near):
            return None
        return None if _in_article(text, match, found) else found
    told = _TOLD.fullmatch(right, 0, date.start("n"))
    return found if told and _is_private(text, match, found) else None


def _before_word(text: str, match: regex.Match[str]) -> Found | None:
    left = before(text, match.start(), 44)
    if not _ENDS_DATE.match(left):
        return None
    dates = list(_DATE.finditer(left))
    date = dates[-1] if dates else None
    if date is None or len(left) - date.end() > 12 or match[0] in (*_LABELS, *_ENGLISH_CUE):
        return None
    if _NOT_LEFT_BETWEEN.search(left[date.end() :]) or _RANGE.search(left, 0, date.start()):
        return None
    found = _found(text, match.start() - len(left), date)
    return found if found and _is_private(text, match, found) else None


def _found(text: str, shift: int, date: regex.Match[str]) -> Found | None:
    value = _date(date["n"])
    if value is None:
        return None
    start, end = date.span("n")
    if in_address_of_page(text, shift + start):
        return None
    return Found("birth date", shift + start, shift + end, "{}-{}-{}".format(*value))


def _in_article(text: str, match: regex.Match[str], found: Found) -> bool:
    """Whether an article with headings, notes or links tells it, with no other field beside it."""
    start, end = min(match.start(), found.start), max(match.end(), found.end)
    if _OTHER_FIELD.search(before(text, start, 60)) or _OTHER_FIELD.search(after(text, end, 60)):
        return False
    return bool(
        ARTICLE.search(before(text, start, _AROUND)) or ARTICLE.search(after(text, end, _AROUND))
    )


def _is_private(text: str, match: regex.Match[str], found: Found) -> bool:
    """Whether a birth that is told, not entered in a form, is of a private person."""
    start, end = min(match.start(), found.start), max(match.end(), found.end)
    if _in_article(text, match, found):
        return False
    if _PERSON.search(before(text, start, 40)):
        return not _FAME.search(after(text, end, 16))
    # "Amy Lee was born on … in Tainan" is how lives are told; a private one says whose.
    if (
        match[0] == "orn"
        and not _ONES_OWN.search(before(text, start, 48))
        and (_BORN_IN.match(text, found.end) or _NAME_WAS.search(before(text, match.start(), 24)))
    ):
        return False
    if any(_FAME_ENGLISH.search(near) for near in (before(text, start, 60), after(text, end, 120))):
        return False
    if _FAME.search(before(text, start, 60)) or _FAME.search(after(text, end, 50)):
        return False
    if _SOMEBODY.search(before(text, start, 40)):
        return True
    if match[0] == "誕生":
        return False
    written = text[found.start : found.end]
    year = int(found.value.partition("-")[0])
    if written[:4].isdigit() or written.startswith(("西元", "公元")):
        return year >= 1940 and not (
            _PLACE.match(text, match.start()) or _LED.match(after(text, end, 60))
        )
    # Reigns are counted like the years of the Republic: 成吉思汗十年.
    return year >= (1920 if written.startswith(("民", "中")) else 1932)
