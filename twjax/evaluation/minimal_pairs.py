"""Makes minimal pairs of Taiwan's real sentences: one word, or the script, becomes the mainland's.

A pair of kind "term" has a sentence with one of Taiwan's words of the usage table, and the same
sentence with the mainland's word in Traditional characters; it is kept only if the table finds no
mainland word in the first and that very word, at that place, in the second: so the conditions of
the table hold, and both sides are what they are said to be. Words that are ordinary in Taiwan as
well (note "keep") make none, unless the table says beside what they aren't. Where a mainland
edition of the sentence is at hand, it must have the mainland's word; without one, words of Taiwan
that have another meaning as well make none.

A pair of kind "script" has a sentence without mainland words, and itself in Simplified characters.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import regex

from twjax.corpus.codepoints import View
from twjax.corpus.conversion import opencc
from twjax.corpus.document import Document, read_corpus
from twjax.corpus.quality.phrases import Phrases
from twjax.corpus.sources import reading
from twjax.corpus.text.wraps import unwrap
from twjax.corpus.variety import script, usage
from twjax.evaluation.pairs import Pair

# What a sentence may consist of: no markup, no code, no addresses.
_PLAIN = regex.compile(r"[\p{Han}A-Za-z0-9 ，、；：。！？「」『』（）《》〈〉—…％%.\-+]+")
_HAN = regex.compile(r"\p{Han}")
_END = regex.compile(r"(?<=[。！？])(?![」』）])|\n")
# Who says it, or which item of a list it is.
_LEAD = regex.compile(
    r"^(?:[\p{Han}A-Za-z ]{2,12}：|第 ?[\d-]+ ?條 +|[（(]?[一二三四五六七八九十\d]+[、．.）)] *)+"
)
# Thirteen letters are what `Decontaminate` looks for, so that pairs can be kept out of a corpus.
_SHORTEST, _LONGEST = 13, 60
_LEAST_HAN = 0.7
# Fewer changed characters than this hardly make another script.
_LEAST_CHANGED = 6
# Pairs of one word whose surroundings are the same to this distance are one sentence's variants.
_NEAR = 4

# Words whose mainland word fits one of their meanings alone, or is said in Taiwan as well, or is no
# more than another register: 智慧 is wisdom too, 即時 is also 及時. Only an edition tells.
_AMBIGUOUS = (
    "智慧 管道 通道 教學 文件 文字 儲存 常數 底線 首頁 互動 訊息 回饋 通訊 相容 圖示 交易 分頁 "
    "公車 擴充 指標 範例 建立 列舉 欄位 數位 即時 連結 整合 印出 簡報 錯誤訊息 資料來源 程式碼 "
    "套件 電腦 個人電腦 布林 大家 厲害 立刻 帶勁 親民 大學生 發文 貼文 早安 晚安 截圖 聯絡方式 "
    "聯絡你 聯絡地址 身分證 身分 登出 交流道 電信業者 社群參與者 社群貢獻 東加 卡達 雪梨 伯恩 "
    "奧福 威廉斯 坎城 梅湘 起司 卡通 傳輸線 技術長 番茄 原始檔 執行環境 遊覽車 堆疊 資料中心 "
    "奧運 自訂 批次 大專院校 高檔 通話記錄 魯蛇 內部網路 用戶端"
)
# Words, and accidents between two words, in which Taiwan's word isn't that word.
_SHIELDS = (
    "投資訊息 工資訊息 語音訊息 影音訊 音訊號 內建築 內建造 內建置 內建物 全球資訊網路 親民黨 "
    "哥布林 布林線 軟體動物 前線上 路線上 防線上 主線上 平線上 跑線上 外送入 外送貨 外送來 "
    "資料結構化 分散式資源班 可變數值 多的變數 投影片 錄影音 錄影本 命令列管 快取得 通知列席 "
    "品質差異"
)


class Passage(NamedTuple):
    """One sentence or unit of Taiwan, and its mainland edition if there is one."""

    text: str
    edition: str
    document: str
    source: str
    license: str


class Built(NamedTuple):
    """Pairs, and how many sentences made none, by reason."""

    pairs: list[Pair]
    left_out: Counter[str]


def read(paths: Sequence[str | os.PathLike[str]], left_out: Counter[str]) -> Iterator[Document]:
    """Yields documents of corpus folders and of any files that a corpus is built from.

    What can't be read is counted in `left_out`.
    """
    for path in paths:
        if os.path.isfile(os.path.join(path, "manifest.json")):
            yield from read_corpus(path)
            continue
        reading.check_format(path)
        for piece in reading.pieces(os.fspath(path), path, reading.PIECE_BYTES):
            documents, rejections = reading.read(piece)
            left_out.update(f"unreadable: {rejection.reason}" for rejection in rejections)
            yield from documents


def passages(
    documents: Iterable[Document], left_out: Counter[str], *, every_language: bool = False
) -> Iterator[Passage]:
    """Yields the sentences of documents in Taiwan's Chinese, and the units of parallel ones.

    Documents in other languages, unless `every_language` is asked for, and units with a line break
    inside are counted in `left_out`.
    """
    for document in documents:
        about = (document.id, document.source, document.license)
        languages = document.meta.get("languages", "").split()
        if "zh-TW" in languages:
            for block in document.text.split("\n\n"):
                sides = block.split("\n")
                if len(sides) != len(languages):
                    left_out["unit of several lines"] += 1
                    continue
                of = dict(zip(languages, sides, strict=True))
                yield Passage(of["zh-TW"].strip(), of.get("zh-CN", ""), *about)
        elif every_language or document.lang in ("zh-TW", "zh-Hant-TW"):
            text = unwrap([document.text.replace("\r\n", "\n")])[0][0]
            for sentence in _END.split(text):
                yield Passage(_LEAD.sub("", sentence.strip()), "", *about)
        else:
            left_out["document in another language"] += 1


def build(
    found: Iterable[Passage],
    *,
    without: Iterable[Passage] = (),
    most: int = 3,
    scripts: int = 200,
) -> Built:
    """Returns the pairs that passages make, those of kind "term" first.

    A document of `without`, or a sentence of one, makes none. Each of Taiwan's words makes `most`
    pairs at most, and each sentence one; of what there is too much of, a hash chooses.
    """
    held = list(without)
    documents = {passage.document for passage in held}
    text = "\n".join(usage.fold(passage.text) for passage in held)
    sentences = set(text.split("\n"))
    left_out: Counter[str] = Counter()
    usable: dict[str, Passage] = {}
    for passage in found:
        reason = _unfit(passage.text)
        if not reason and (passage.document in documents or usage.fold(passage.text) in sentences):
            reason = "in a text to do without"
        if not reason and passage.text in usable:
            reason = "repeated"
        if reason:
            left_out[reason] += 1
        else:
            usable[passage.text] = passage
    lexicon = usage.load()
    chosen = list(usable.values())
    clean = [not words for words in lexicon.find([p.text for p in chosen])]
    left_out["has a mainland word"] += clean.count(False)
    chosen = [passage for passage, fine in zip(chosen, clean, strict=True) if fine]
    # A sentence may be a part of one to do without; that takes long, so it is asked of few.
    terms = _terms(chosen, lexicon, most, text, left_out)
    used = {pair.taiwan for pair in terms}
    rest = [passage for passage in chosen if passage.text not in used]
    return Built([*terms, *_scripts(rest, scripts, text)], +left_out)


def _unfit(text: str) -> str:
    han = len(_HAN.findall(text))
    if han < _SHORTEST:
        return "short"
    if len(text) > _LONGEST:
        return "long"
    if not _PLAIN.fullmatch(text) or han < _LEAST_HAN * len(text):
        return "markup or other languages"
    counts = script.count(text)
    return "not Traditional" if counts.simplified or counts.kana else ""


class _Candidate(NamedTuple):
    pair: Pair
    rank: bytes
    before: str
    after: str


def _terms(
    chosen: Sequence[Passage],
    lexicon: usage.Lexicon,
    most: int,
    held: str,
    left_out: Counter[str],
) -> list[Pair]:
    table, words = _inverted(lexicon)
    candidates: dict[str, list[_Candidate]] = defaultdict(list)
    for passage, start, word in _found(chosen, words):
        mainland = _mainland(passage, word, start, table[word], lexicon)
        if isinstance(mainland, str):
            left_out[mainland] += 1
            continue
        stop = start + len(word)
        before, said, after = passage.text[:start], passage.text[start:stop], passage.text[stop:]
        pair = _pair(passage, "term", before + mainland.mainland + after, (said, mainland.mainland))
        candidates[word].append(
            _Candidate(pair, _rank(passage.text), before[-_NEAR:], after[:_NEAR])
        )
    pairs: list[Pair] = []
    taken: set[str] = set()
    # The rarest words first, so that a sentence with a rare and a frequent one goes to the rare.
    for word in sorted(candidates, key=lambda word: (len(candidates[word]), word)):
        seen: set[str] = set()
        number = 0
        for candidate in sorted(candidates[word], key=lambda candidate: candidate.rank):
            near = {f"{candidate.before}~", f"~{candidate.after}"}
            text = candidate.pair.taiwan
            if number == most or text in taken or near & seen or usage.fold(text) in held:
                continue
            seen |= near
            number += 1
            taken.add(text)
            pairs.append(candidate.pair)
    left_out["enough of the word"] += sum(map(len, candidates.values())) - len(pairs)
    return pairs


def _found(chosen: Sequence[Passage], words: Phrases) -> Iterator[tuple[Passage, int, str]]:
    """Yields (passage, place, word) of Taiwan's words; none of two that overlap."""
    view = View([passage.text for passage in chosen])
    hits = words.find(view)
    sizes = [len(words.phrases[phrase]) for phrase in hits.phrase.tolist()]
    places = hits.place.tolist()
    for index, (number, place, phrase) in enumerate(
        zip(hits.text.tolist(), places, hits.phrase.tolist(), strict=True)
    ):
        before = index and places[index - 1] + sizes[index - 1] > place
        after = index + 1 < len(places) and places[index + 1] < place + sizes[index]
        if not before and not after:
            yield chosen[number], place - int(view.starts[number]), words.phrases[phrase]


def _inverted(lexicon: usage.Lexicon) -> tuple[dict[str, list[usage.Term]], Phrases]:
    """Returns the terms of each of Taiwan's words, and these words ready for searching."""
    table: dict[str, list[usage.Term]] = defaultdict(list)
    spellings: dict[str, str] = {}
    shields: list[str] = [*_SHIELDS.split()]
    for term in lexicon.terms:
        if len(term.taiwan) < 2:
            continue
        # What is ordinary in Taiwan as well is the mainland's beside certain words: 產品質量.
        if term.keep and not term.require:
            shields.append(term.taiwan)
        elif _HAN.search(term.taiwan):
            # 卷軸 and 捲軸 are one word to what searches.
            table[spellings.setdefault(usage.fold(term.taiwan), term.taiwan)].append(term)
    others = {usage.fold(word): word for word in shields}
    every = [*table, *(word for key, word in others.items() if key not in spellings)]
    kinds = ["taiwan" if word in table else "not taiwan" for word in every]
    return table, Phrases(every, kinds, [0.0] * len(every))


def _mainland(
    passage: Passage,
    word: str,
    start: int,
    terms: Collection[usage.Term],
    lexicon: usage.Lexicon,
) -> usage.Term | str:
    """Returns the mainland's word for Taiwan's at `start`, or why there is none."""
    said = passage.text[start : start + len(word)]
    if passage.text.count(said) != 1:
        return "has the word twice"
    # Found whatever the variants of its characters, but 按贊成 isn't 按讚.
    terms = [term for term in terms if _plain(term.taiwan) == _plain(said)]
    if not terms:
        return "spelled otherwise"
    if passage.edition:
        there = {found.term for found in lexicon.find([passage.edition])[0]}
        terms = [term for term in terms if term in there]
        if not terms:
            return "the mainland edition says it otherwise"
    elif word in _AMBIGUOUS.split():
        return "ambiguous"
    # 簡訊 is 短信 rather than 短信息: what is as long is compared best.
    best = min(terms, key=lambda term: (abs(len(term.mainland) - len(word)), -term.weight))
    text = passage.text[:start] + best.mainland + passage.text[start + len(word) :]
    places = [(found.start, found.term) for found in lexicon.find([text])[0]]
    if places != [(start, best)]:
        return "the table does not find the mainland's word there"
    return best


def _plain(word: str) -> str:
    return word.replace("臺", "台")


def _scripts(rest: Sequence[Passage], number: int, held: str) -> list[Pair]:
    convert = opencc.converter("tw2s")
    pairs = []
    for passage in sorted(rest, key=lambda passage: _rank(passage.text)):
        if len(pairs) == number:
            break
        text, folded = convert(passage.text), usage.fold(passage.text)
        changed = sum(a != b for a, b in zip(passage.text, text, strict=False))
        # Where OpenCC chose between characters (計畫, 计划), more than the script differs.
        if changed >= _LEAST_CHANGED and usage.fold(text) == folded and folded not in held:
            pairs.append(_pair(passage, "script", text, ()))
    return pairs


def _pair(passage: Passage, kind: str, mainland: str, term: tuple[str, ...]) -> Pair:
    return Pair(
        id=f"{kind}-{_rank(passage.text + '/'.join(term)).hex()[:12]}",
        kind=kind,
        taiwan=passage.text,
        mainland=mainland,
        source=f"{passage.source} {passage.document}",
        # Statements name the licence first and explain it in brackets.
        license=passage.license.partition(" (")[0],
        term=term,
        edition=passage.edition,
    )


def _rank(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
