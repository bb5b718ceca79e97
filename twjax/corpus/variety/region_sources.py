"""The public texts that the model of regional wording is fitted on, and how they are read.

All of them have a licence that permits it, none of them the GPL; of NTREX-128, FLORES and DRCD,
which are benchmarks, nothing is read. `benchmarks/region_sources.py` makes the files that come
from repositories, `benchmarks/region_packages.py` those that come from packages.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import regex

from twjax.corpus.conversion import opencc
from twjax.corpus.conversion.convert import ConvertSimplified
from twjax.corpus.document import Document
from twjax.corpus.quality import phrases
from twjax.corpus.variety.usage import COLUMNS

PARTS = 10
TEST_PARTS = (0, 1)
_END = regex.compile("[。！？；!?\r\n]+")
_HAN = regex.compile(r"\p{Han}")
_MIN_HAN = 4
_MIN_TERM = 2
_TW_LAW, _PRC_LAW = "none (Copyright Act, art. 9)", "none (PRC Copyright Law, art. 5)"


@dataclasses.dataclass(frozen=True)
class Source:
    """A file of the fit: `DIR/<file>.jsonl.gz`, one JSON record a line.

    `side` is "zh-TW" or "zh-CN" for records with `text`, "pairs" for records with `pairs` of
    `zh_tw` and `zh_cn`. Sources of one `group` are weighted so that both sides weigh the same, and
    share their split by the part of the id after `prefix`. `characters` caps what is read.

    `kind` "alone" takes documents as they come; "paired" those that the group's other side has
    too, so that subjects are the same on both; "worded" takes mainland sentences in which
    `ConvertSimplified` replaces a word, and the replaced ones as Taiwan's: nothing but the words
    can differ.
    """

    file: str
    side: str
    group: str
    license: str
    weight: float = 1.0
    prefix: str = ""
    characters: int = 4_000_000
    kind: Literal["alone", "paired", "worded"] = "alone"


SOURCES = (
    Source("pydocs_pairs_en_zhTW_zhCN", "pairs", "python", "CC0-1.0", prefix="pydocs-par-"),
    Source("pydocs_zhTW", "zh-TW", "python", "CC0-1.0", prefix="pydocs-zhtw-", kind="paired"),
    Source("pydocs_zhCN", "zh-CN", "python", "CC0-1.0", prefix="pydocs-zhcn-", kind="paired"),
    Source("mozilla_www_pairs", "pairs", "mozilla", "MPL-2.0"),
    Source("mozilla_apps_pairs", "pairs", "mozilla-apps", "MPL-2.0"),
    Source("vim_po_pairs", "pairs", "vim", "Vim"),
    Source("rustbook_zhTW", "zh-TW", "rust", "MIT", prefix="rustbook-zh-TW-", kind="paired"),
    Source("rustbook_zhCN", "zh-CN", "rust", "MIT", prefix="rustbook-zh-CN-", kind="paired"),
    Source("nuget_zhTW", "zh-TW", "nuget", "MIT", prefix="nuget-zhtw-", kind="paired"),
    Source("nuget_zhCN", "zh-CN", "nuget", "MIT", prefix="nuget-zhcn-", kind="paired"),
    Source("react_zhTW", "zh-TW", "react", "CC-BY-4.0", prefix="react-zhtw-", kind="paired"),
    Source("react_zhCN", "zh-CN", "react", "CC-BY-4.0", prefix="react-zhcn-", kind="paired"),
    Source("osguide_zhTW", "zh-TW", "guide", "CC-BY-4.0", prefix="zh-hant/", kind="paired"),
    Source("osguide_zhCN", "zh-CN", "guide", "CC-BY-4.0", prefix="zh-hans/", kind="paired"),
    Source("fcc_zhTW", "zh-TW", "course", "BSD-3-Clause", prefix="chinese-traditional/"),
    Source("fcc_zhCN", "zh-CN", "course", "BSD-3-Clause", prefix="chinese/"),
    Source("mozilla_sites_pairs", "pairs", "mozilla", "MPL-2.0"),
    Source("mozilla_packs_pairs", "pairs", "browser", "MPL-2.0"),
    Source("chromium_pairs", "pairs", "chromium", "BSD-3-Clause"),
    Source("libreoffice_pairs", "pairs", "office", "MPL-2.0"),
    Source("libreoffice_menus_pairs", "pairs", "office", "MPL-2.0"),
    Source("vscode_pairs", "pairs", "tools", "MIT"),
    Source("tools_pairs", "pairs", "tools", "Apache-2.0, MIT, BSD-2-Clause, BSD-3-Clause"),
    Source("jupyter_pairs", "pairs", "tools", "BSD-3-Clause"),
    Source("cataclysm_pairs", "pairs", "stories", "CC-BY-SA-3.0"),
    Source("tldr_zhTW", "zh-TW", "tldr", "CC-BY-4.0", kind="paired"),
    Source("tldr_zhCN", "zh-CN", "tldr", "CC-BY-4.0", kind="paired"),
    Source("map_pairs", "pairs", "map", "ISC"),
    Source("health_pairs", "pairs", "health", "CC0-1.0"),
    Source("wikipedia_names_pairs", "pairs", "names", "CC-BY-SA-4.0"),
    Source("cldr_pairs", "pairs", "cldr", "Unicode-3.0"),
    Source("taiwan_md_terms", "pairs", "terms", "CC-BY-SA-4.0"),
    Source("usage.tsv", "pairs", "words", "Apache-2.0, MIT, CC0-1.0"),
    Source("tw_laws_zh", "zh-TW", "law", _TW_LAW, 0.3, "", 1_500_000),
    Source("prc_laws", "zh-CN", "law", _PRC_LAW, 0.3, "", 1_500_000),
    # Without a counterpart of the same kind; together they balance.
    Source("tw_transcripts_cc0", "zh-TW", "prose", "CC0-1.0", 0.3, characters=1_000_000),
    Source("taiwan_md_zh", "zh-TW", "prose", "CC-BY-SA-4.0", 0.3, characters=1_000_000),
    Source("cofacts_replies", "zh-TW", "prose", "CC-BY-SA-4.0", 0.3, characters=500_000),
    Source("moztw_cc0_zhTW", "zh-TW", "prose", "CC0-1.0", 0.3),
    Source("mandarin_speech_zhCN", "zh-CN", "prose", "Apache-2.0", 0.3),
    Source("dialogues_zhCN", "zh-CN", "prose", "Apache-2.0", 0.3),
    Source("mainland_md", "zh-CN", "prose", "Unlicense, MIT", 0.3),
    Source("treebank_zhCN", "zh-CN", "prose", "CC-BY-SA-3.0", 0.3),
    Source("react_zhCN", "zh-CN", "react-words", "CC-BY-4.0", 0.5, "", 1_500_000, "worded"),
    Source("pydocs_zhCN", "zh-CN", "python", "CC0-1.0", 0.5, "pydocs-zhcn-", 1_500_000, "worded"),
    Source("tidb_zhCN", "zh-CN", "tidb-words", "CC-BY-SA-3.0", 0.5, "", 1_000_000, "worded"),
    Source("vue_zhCN", "zh-CN", "vue-words", "CC-BY-4.0", 0.5, characters=500_000, kind="worded"),
    Source("mandarin_speech_zhCN", "zh-CN", "speech-words", "Apache-2.0", kind="worded"),
    Source("treebank_zhCN", "zh-CN", "treebank-words", "CC-BY-SA-3.0", kind="worded"),
    Source("mainland_md", "zh-CN", "essay-words", "Unlicense, MIT", 0.5, kind="worded"),
)  # fmt: skip


@dataclasses.dataclass
class Sentences:
    """Sentences and, for each: Taiwan's side or not, weight, document, group and part."""

    texts: list[str]
    taiwan: np.ndarray
    weights: np.ndarray
    documents: np.ndarray
    groups: np.ndarray
    parts: np.ndarray

    def where(self, mask: np.ndarray) -> Sentences:
        """Returns those of the mask."""
        texts = [self.texts[i] for i in np.flatnonzero(mask)]
        fields = (self.taiwan, self.weights, self.documents, self.groups, self.parts)
        return Sentences(texts, *(field[mask] for field in fields))


def part(group: str, name: str) -> int:
    """Returns the part, of `PARTS`, that a document belongs to, with all its translations."""
    digest = hashlib.blake2b(f"{group}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % PARTS


def load(
    folders: Sequence[str | pathlib.Path],
    sources: Sequence[Source] = SOURCES,
    *,
    once: bool = True,
) -> Sentences:
    """Reads the sentences of all sources, each sentence `once` a source and side."""
    rows, tested = [], {}
    for source in sources:
        seen: set[tuple[bool, str]] = set()
        names = _paired_names(folders, source, sources) if source.kind == "paired" else None
        for name, taiwan, found in _read(folders, source):
            if names is not None and name not in names:
                continue
            number = part(source.group, name)
            for sentence in found:
                key = (taiwan, sentence)
                least = _MIN_TERM if source.group in ("terms", "words", "names") else _MIN_HAN
                if not (once and key in seen) and len(_HAN.findall(sentence)) >= least:
                    seen.add(key)
                    if source.side == "pairs" and number in TEST_PARTS:
                        tested.setdefault(key, source)
                    row = (sentence[:400], taiwan, source.weight, f"{source.group}/{name}")
                    rows.append(((*row, source.group, number), source))
    # What a test document says isn't fitted from elsewhere: sites repeat one another.
    rows = [row for row, source in rows if not _repeats(source, row, tested)]
    texts, taiwan, weights, documents, groups, parts = zip(*rows, strict=True)
    found = Sentences(
        list(texts), np.array(taiwan), np.array(weights), np.array(documents), np.array(groups),
        np.array(parts),
    )  # fmt: skip
    for group in np.unique(found.groups):
        members = found.groups == group
        sums = [found.weights[members & (found.taiwan == side)].sum() for side in (False, True)]
        for side in (False, True):
            if all(sums):
                found.weights[members & (found.taiwan == side)] *= sum(sums) / 2 / sums[side]
    return found


def _repeats(
    source: Source, row: tuple[Any, ...], tested: Mapping[tuple[bool, str], Source]
) -> bool:
    first = tested.get((row[1], row[0]))
    if row[-1] in TEST_PARTS or first is None or first.file == source.file:
        return False
    return source.group != first.group or source.side == "pairs"


def _read(
    folders: Sequence[str | pathlib.Path], source: Source
) -> Iterator[tuple[str, bool, list[str]]]:
    """Yields (name of the document, whether it is Taiwan's side, its sentences)."""
    records = list(read_records(folders, source.file))
    # In an order that has nothing to do with the subject, because of the cap.
    records.sort(key=lambda record: hashlib.blake2b(record["id"].encode()).digest())
    read = 0
    for record in records:
        name = record["id"].removeprefix(source.prefix)
        if source.side == "pairs":
            if "taiwan" in record:
                record = {"zh_tw": record["taiwan"], "zh_cn": record["china"]}
            pairs = [p for p in record.get("pairs", [record]) if p["zh_tw"] and p["zh_cn"]]
            for key, taiwan in (("zh_tw", True), ("zh_cn", False)):
                text = "\n".join(pair[key].replace("\n", " ") for pair in pairs)
                yield name, taiwan, _END.split(text)
            continue
        read += len(record["text"])
        if read > source.characters:
            return
        if source.kind == "worded":
            before, after = _worded(record["text"])
            yield name, False, before
            yield name, True, after
        else:
            yield name, source.side == "zh-TW", _END.split(record["text"])


def _paired_names(
    folders: Sequence[str | pathlib.Path], source: Source, sources: Sequence[Source]
) -> set[str]:
    names: dict[str, set[str]] = {"zh-TW": set(), "zh-CN": set()}
    for other in sources:
        if other.group == source.group and other.kind == "paired":
            ids = (record["id"] for record in read_records(folders, other.file))
            names[other.side].update(name.removeprefix(other.prefix) for name in ids)
    return names["zh-TW"] & names["zh-CN"]


def _worded(text: str) -> tuple[list[str], list[str]]:
    document = Document(id="", text=text, source="", license="", lang="zh-CN")
    converted = ConvertSimplified().apply([document]).kept[0].text
    before, after = _END.split(text), _END.split(converted)
    if len(before) != len(after):
        return [], []
    fold = variant_classes()
    folded = [
        [fold[[ord(c) & 0xFFFF for c in s]].tobytes() for s in side] for side in (before, after)
    ]
    differ = [i for i, pair in enumerate(zip(*folded, strict=True)) if pair[0] != pair[1]]
    return [before[i] for i in differ], [after[i] for i in differ]


def read_records(folders: Sequence[str | pathlib.Path], file: str) -> Iterator[dict[str, Any]]:
    """Yields the records of `<file>.jsonl.gz` in the first folder that has it."""
    if file == "usage.tsv":
        yield from _words()
        return
    for folder in folders:
        path = pathlib.Path(folder) / f"{file}.jsonl.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                yield from map(json.loads, lines)
            return
    raise ValueError(
        f"{file}.jsonl.gz: not in {', '.join(map(str, folders))}; --data names folders."
    )


def _words() -> Iterator[dict[str, Any]]:
    """The words of the usage table that need no context, each in as many texts as it takes."""
    for row in phrases.read_rows(phrases.TABLES / "usage.tsv", COLUMNS):
        if row["require"] == "-":
            for copy in ("", "，", "。"):
                pair = {"zh_tw": row["taiwan"] + copy, "zh_cn": row["mainland"] + copy}
                yield {"id": f"{row['mainland']}{copy}", "pairs": [pair]}


@functools.cache
def variant_classes() -> np.ndarray:
    """Returns uint16 [65536]: for each Han character the first one that any conversion makes of it.

    Classes are closed: what any of OpenCC's conversions between scripts and regions turns into
    one another is one class.
    """
    parents = list(range(65536))

    def root(point: int) -> int:
        while parents[point] != point:
            parents[point] = parents[parents[point]]
            point = parents[point]
        return point

    han = [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000)]
    for config in ("t2s", "s2t", "s2tw", "s2hk", "t2tw", "t2hk", "tw2t", "hk2t"):
        convert = opencc.converter(config)
        for point in han:
            other = convert(chr(point))
            if len(other) == 1 and ord(other) != point and ord(other) < 65536:
                first, second = sorted((root(point), root(ord(other))))
                parents[second] = first
    classes = np.zeros(65536, np.uint16)
    classes[han] = [root(point) for point in han]
    return classes
