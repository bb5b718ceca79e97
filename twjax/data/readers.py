"""Records of labelled files as examples of a task: named fields and the answers that are right.

Each reader takes one record, a JSON object with a unique `id`, and yields its examples. None of
them changes a word; white space is tidied, and what can't be an example is skipped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Record = Mapping[str, Any]

_SPACE = re.compile(r"[ \t\u3000]*\r?\n\s*")
_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")
# A line that ends in the middle of a sentence, but for the items of a list.
_WRAP = re.compile(r"(?<=[\u3400-\u9fff])\n(?=[\u3400-\u9fff])(?![一二三四五六七八九十]{1,3}、)")
# "臺灣（Tâi-uân）", alone on its line.
_ROMANISED = re.compile(r"^([^（）()|\s]{1,40})（([^（）()|]{1,80})）$", re.MULTILINE)
_ENTITY_NAMES = {"PER": "人名", "LOC": "地名", "ORG": "組織"}
_HAKKA = re.compile(r"例：([^（）﹝﹞\n]{4,}?[。！？])（([^（）\n]+[。！？])）")
_MARKDOWN = re.compile(r"^\s*(?:#|>|---|\||<|!\[)")


class Labelled(NamedTuple):
    """An example: `fields` fill templates, `answers` are what metrics count as right."""

    id: str
    fields: dict[str, str]
    answers: tuple[str, ...]


def translations(
    record: Record,
    source: str = "en",
    target: str = "zh_tw",
    longest: int = 1000,
    same_dates: bool = False,
) -> Iterator[Labelled]:
    """Yields pairs of `record["pairs"]`, or of the record itself, as `source` and `target`.

    Lines of Chinese that end in mid-sentence are joined. Left out are pairs with an empty side or
    one of more than `longest` characters, Chinese without a Han character, and, from English, text
    that was left as it is. `same_dates` leaves out records whose `meta` gives the languages
    different dates: the sides may not agree.
    """
    if same_dates:
        meta = record.get("meta", {})
        if len({meta.get(f"{name.partition('_')[0]}_date") for name in (source, target)}) > 1:
            return
    for number, pair in enumerate(record.get("pairs", [record])):
        given, wanted = (_side(pair, name) for name in (source, target))
        sides = {source: given, target: wanted}
        chinese = all(_HAN.search(text) for name, text in sides.items() if name.startswith("zh"))
        if not given or not wanted or not chinese or max(len(given), len(wanted)) > longest:
            continue
        if given == wanted and "en" in sides:
            continue
        yield Labelled(f"{record['id']}#{number}", {"source": given, "target": wanted}, (wanted,))


def questions(record: Record) -> Iterator[Labelled]:
    """Yields the questions of a paragraph in DRCD's form: `text`, and `qas` as in SQuAD.

    Shao et al. 2018, "DRCD: a Chinese Machine Reading Comprehension Dataset", section 3. Answers
    must be stretches of the paragraph.
    """
    context = record["text"].strip()
    for entry in record["qas"]:
        answers = tuple(dict.fromkeys(answer["text"] for answer in entry["answers"]))
        answers = tuple(answer for answer in answers if answer and answer in context)
        if answers:
            fields = {
                "context": context,
                "question": _tidy(entry["question"]),
                "answer": answers[0],
                "title": record.get("title", ""),
            }
            yield Labelled(str(entry["id"]), fields, answers)


def choices(record: Record) -> Iterator[Labelled]:
    """Yields a question with `options` {"A": …, …} and the letter in `answer`.

    Questions for which several letters, or any, were accepted later are left out.
    """
    options = {letter: _tidy(text) for letter, text in record["options"].items()}
    letter = unicodedata.normalize("NFKC", record["answer"]).strip()
    if letter not in options or not all(options.values()):
        return
    fields = {
        "question": _tidy(record["question"]),
        "subject": record.get("subject", ""),
        "options": "\n".join(f"({name}) {text}" for name, text in options.items()),
        "letters": "、".join(options),
        "answer": letter,
        "answer_text": options[letter],
    }
    yield Labelled(record["id"], fields, (letter,))


def entities(record: Record) -> Iterator[Labelled]:
    """Yields a sentence with its names from `tokens` and `ner`, in IOB2: PER, LOC and ORG.

    `entities` is a line "人名：王小明" for each kind of name in the order of the sentence, equal
    ones once, or 無.
    """
    found: list[tuple[str, int, int]] = []
    at = 0
    text = _sentence(record["text"], record["tokens"])
    for token, tag in zip(record["tokens"], record["ner"], strict=True):
        begin = text.index(token, at)
        at = begin + len(token)
        mark, _, kind = tag.partition("-")
        if mark == "B":
            found.append((kind, begin, at))
        elif mark == "I":
            if not found or found[-1][0] != kind:
                raise ValueError(f"Record {record['id']}: tag {tag} follows no B-{kind}.")
            found[-1] = (kind, found[-1][1], at)
    lines = dict.fromkeys(f"{_ENTITY_NAMES[kind]}：{text[a:b]}" for kind, a, b in found)
    answer = "\n".join(lines) or "無"
    yield Labelled(record["id"], {"text": text, "entities": answer}, (answer,))


def headlines(
    record: Record, answer: str = "title", longest: int = 800, shortest: int = 100
) -> Iterator[Labelled]:
    """Yields an article's beginning with its `title` and its `summary`; `answer` is either.

    The beginning is whole lines of prose, `longest` characters at most; headings, quotations,
    tables and lines that hold the title or the summary are left out.
    """
    title, summary = _tidy(record.get("title", "")), _tidy(record.get("summary", ""))
    if not title or not summary:
        return
    lines: list[str] = []
    for line in map(str.strip, record["text"].splitlines()):
        if not line or _MARKDOWN.match(line) or title in line or summary in line:
            continue
        if sum(map(len, lines)) + len(line) > longest:
            break
        lines.append(line)
    text = "\n".join(lines)
    if len(text) >= shortest:
        fields = {"text": text, "title": title, "summary": summary}
        yield Labelled(record["id"], fields, (fields[answer],))


def romanised(record: Record, answer: str = "reading") -> Iterator[Labelled]:
    """Yields the lines of a word list that are Han characters with one Tâi-lô reading behind.

    Such as 一丈身（tsi̍t-tn̄g-sin): `han` and `reading`, either of which is the `answer`. Entries
    with several readings are left out.
    """
    for number, match in enumerate(_ROMANISED.finditer(record["text"])):
        han, reading = match[1], _tidy(match[2])
        if _HAN.search(han) and not _HAN.search(reading):
            fields = {"han": han, "reading": reading}
            yield Labelled(f"{record['id']}#{number}", fields, (fields[answer],))


def taigi_sentences(record: Record, answer: str = "mandarin") -> Iterator[Labelled]:
    """Yields the sentences of a Taigi dictionary's entry as `taigi` and `mandarin`, the `answer`.

    The fields of the Ministry of Education's dictionary (臺灣台語常用詞辭典): 釋義, in it 例句 with
    例句, 例句標音 and 華語翻譯.
    """
    for sense, meaning in enumerate(record.get("釋義", [])):
        for number, entry in enumerate(meaning.get("例句", [])):
            taigi, mandarin = _tidy(entry.get("例句", "")), _tidy(entry.get("華語翻譯", ""))
            # Where the Mandarin would be the same, none is given.
            if taigi and mandarin:
                fields = {
                    "taigi": taigi,
                    "mandarin": mandarin,
                    "reading": _tidy(entry.get("例句標音", "")),
                    "headword": record["詞目"],
                }
                yield Labelled(f"{record['id']}#{sense}.{number}", fields, (fields[answer],))


def hakka_sentences(record: Record, answer: str = "mandarin") -> Iterator[Labelled]:
    """Yields the sentences of a Hakka dictionary's entry as `hakka` and `mandarin`, the `answer`.

    The fields of the Ministry of Education's dictionary (臺灣客語辭典): in 釋義, behind 例：, a
    sentence with its Mandarin in brackets. Those with a character that has no code, `{[…]}`, are
    left out.
    """
    for number, match in enumerate(_HAKKA.finditer(record.get("釋義", ""))):
        fields = {
            "hakka": _tidy(match[1]),
            "mandarin": _tidy(match[2]),
            "headword": record["詞目"],
        }
        if "{" not in match[0]:
            yield Labelled(f"{record['id']}#{number}", fields, (fields[answer],))


def _side(pair: Record, name: str) -> str:
    text = _tidy(pair.get(name, ""))
    return _WRAP.sub("", text) if name.startswith("zh") else text


def _tidy(text: str) -> str:
    """Returns the text without white space at its ends and around its line ends."""
    return _SPACE.sub("\n", text).strip()


def _sentence(text: str, tokens: Sequence[str]) -> str:
    """Returns `text` if the tokens stand in it one after the other, else the tokens joined."""
    at = 0
    for token in tokens:
        found = text.find(token, at)
        if found < 0:
            return "".join(tokens)
        at = found + len(token)
    return text
