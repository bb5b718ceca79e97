"""The data card of a corpus: what it holds, by whom, under which licences, and what was left out.

One in English, one in Traditional Chinese, both made of the manifest alone and of short masked
excerpts of rejected documents. The sections follow the dataset cards of Hugging Face.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

# Excerpts are published with the card: digits and addresses that might be somebody's are masked.
_EXCERPT = 60
_DIGIT = re.compile(r"\d")
_MAIL = re.compile(r"[\w.+-]+@[\w.-]+")


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """The beginning of a rejected document; `value` is what the rule saw."""

    reason: str
    id: str
    value: str
    text: str


@dataclasses.dataclass(frozen=True)
class _Words:
    """A card's own words in one language."""

    title: str
    lead: str
    contents: str
    documents: str
    bytes: str
    source: str
    license: str
    language: str
    region: str
    made: str
    step: str
    parameters: str
    into: str
    out: str
    rejected: str
    reason: str
    samples: str
    changed: str
    inputs: str
    records: str
    use: str
    use_text: str
    personal: str
    personal_text: str
    none: str


_ENGLISH = _Words(
    title="Data card: {name}",
    lead=(
        "{documents:,} documents, {bytes:,} bytes of text, kept of {records:,} records that were "
        "read. Fingerprint `{fingerprint}`, built by twjax {version}."
    ),
    contents="What is in it",
    documents="documents",
    bytes="bytes",
    source="source",
    license="licence",
    language="language",
    region="region",
    made="How it was made",
    step="step",
    parameters="parameters",
    into="in",
    out="out",
    rejected="What was left out",
    reason="reason",
    samples="Examples",
    changed="changed",
    inputs="Inputs",
    records="records",
    use="Use",
    use_text=(
        "Each document carries its own source, licence and address: a use must satisfy the "
        "licences above, and attribute where they ask for it. Texts of benchmarks are for "
        "evaluation only."
    ),
    personal="Personal data",
    personal_text=(
        "Replaced, by kind: {kinds}. Automatic rules miss some and hit what isn't personal: see "
        "`docs/corpus.md` of twjax for their measured precision and recall."
    ),
    none="No step of this build looked for personal data.",
)

_CHINESE = _Words(
    title="資料卡：{name}",
    lead=(
        "保留 {documents:,} 份文件，文字 {bytes:,} 位元組；共讀入 {records:,} 筆紀錄。"
        "指紋 `{fingerprint}`，由 twjax {version} 建置。"
    ),
    contents="內容",
    documents="文件數",
    bytes="位元組",
    source="來源",
    license="授權",
    language="語言",
    region="地區",
    made="製作方式",
    step="步驟",
    parameters="參數",
    into="輸入",
    out="輸出",
    rejected="未收錄的文件",
    reason="原因",
    samples="範例",
    changed="修改",
    inputs="輸入檔案",
    records="紀錄數",
    use="使用方式",
    use_text=(
        "每份文件都帶有自己的來源、授權與網址；使用時須符合上列授權，並依其要求標示出處。"
        "評測用的文字只供評測，不可用於訓練。"
    ),
    personal="個人資料",
    personal_text=(
        "已依類別替換：{kinds}。自動規則會有遺漏，也會誤判；實測的精確率與召回率見 twjax 的 "
        "`docs/corpus.md`。"
    ),
    none="這次建置沒有檢查個人資料的步驟。",
)

LANGUAGES: Mapping[str, _Words] = {"en": _ENGLISH, "zh-TW": _CHINESE}


def card(manifest: Mapping[str, Any], excerpts: Sequence[Excerpt], language: str) -> str:
    """Returns the Markdown of a card; `language` is "en" or "zh-TW"."""
    words = LANGUAGES[language]
    counts = manifest["counts"]
    lead = words.lead.format(
        documents=counts["documents"],
        bytes=counts["bytes"],
        records=counts["records"],
        fingerprint=manifest["fingerprint"][:16],
        version=manifest["versions"]["twjax"],
    )
    parts = [f"# {words.title.format(name=manifest['name'])}", lead]
    parts += [f"## {words.contents}", *_contents(manifest, words)]
    parts += [f"## {words.made}", _steps(manifest, words)]
    parts += [f"## {words.rejected}", _rejected(manifest, excerpts, words)]
    parts += [f"## {words.personal}", _personal(manifest, words)]
    parts += [f"## {words.inputs}", _inputs(manifest, words)]
    parts += [f"## {words.use}", words.use_text]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(_cell(cell) for cell in cells) + " |"

    numbers = rows and [isinstance(cell, int) for cell in rows[0]]
    rule = "|" + "|".join("--:" if number else "---" for number in numbers or header) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return " ".join(str(value).split()).replace("|", "\\|")


def _contents(manifest: Mapping[str, Any], words: _Words) -> list[str]:
    parts = []
    for name, key in ((words.license, "licenses"), (words.source, "sources")):
        groups = sorted(manifest.get(key, {}).items(), key=lambda item: (-item[1]["bytes"], item))
        if groups:
            rows = [(group, of["documents"], of["bytes"]) for group, of in groups]
            parts.append(_table((name, words.documents, words.bytes), rows))
    for name, key in ((words.language, "languages"), (words.region, "regions")):
        counts = sorted(manifest.get(key, {}).items(), key=lambda item: (-item[1], item))
        if counts:
            parts.append(_table((name, words.documents), counts))
    return parts


def _steps(manifest: Mapping[str, Any], words: _Words) -> str:
    rows = []
    for step in manifest["steps"]:
        settings = ", ".join(f"{k}={v!r}" for k, v in step["parameters"].items())
        changed = ", ".join(f"{kind} {number:,}" for kind, number in step["changed"].items())
        rows.append((step["name"], settings, step["in"], step["out"], changed))
    header = (words.step, words.parameters, words.into, words.out, words.changed)
    return _table(header, rows)


def _rejected(manifest: Mapping[str, Any], excerpts: Sequence[Excerpt], words: _Words) -> str:
    by_reason: dict[str, list[Excerpt]] = {}
    for excerpt in excerpts:
        by_reason.setdefault(excerpt.reason, []).append(excerpt)
    rejected = sorted(manifest["counts"]["rejected"].items(), key=lambda item: (-item[1], item))
    if not rejected:
        return "–"
    rows = [
        (reason, number, " ⁄ ".join(_excerpt(e) for e in by_reason.get(reason, ())))
        for reason, number in rejected
    ]
    return _table((words.reason, words.documents, words.samples), rows)


def _excerpt(excerpt: Excerpt) -> str:
    text = _DIGIT.sub("0", _MAIL.sub("…@…", excerpt.text[: 2 * _EXCERPT]))[:_EXCERPT]
    return f"`{excerpt.id}` 「{' '.join(text.split())}…」"


def _personal(manifest: Mapping[str, Any], words: _Words) -> str:
    kinds = {
        kind: number
        for step in manifest["steps"]
        if step["name"] == "personal_data"
        for kind, number in step["changed"].items()
    }
    if not any(step["name"] == "personal_data" for step in manifest["steps"]):
        return words.none
    listed = ", ".join(f"{kind} {number:,}" for kind, number in kinds.items())
    return words.personal_text.format(kinds=listed or "0")


def _inputs(manifest: Mapping[str, Any], words: _Words) -> str:
    rows = [(entry["path"], entry["records"], entry["sha256"]) for entry in manifest["inputs"]]
    return _table((words.inputs, words.records, "sha256"), rows)
