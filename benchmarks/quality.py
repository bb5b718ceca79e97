"""What the quality steps keep and drop, by source, beside datatrove with FineWeb-2's settings.

    python benchmarks/quality.py --data DIR [--datatrove-python PATH] [--json FILE] [--show N]

Good sources of DIR go through NormalizeText and then QualityRules, Repetition, Adverts and Harm
with the preset of their domain; bad ones (see `bad_texts.py`) with "web", as does everything for
comparison. datatrove sees the same normalised texts, the first of them evenly spread.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import sys
from typing import Any

import bad_texts
import corpus as speed

GOOD = {
    "tw_laws_zh": "law",
    "tw_transcripts_cc0": "speech",
    "tw_wiselike_qa_cc0": "qa",
    "taiwan_md_zh": "web",
    "drcd_dev": "web",
    "rustbook_zhTW": "manual",
    "nuget_zhTW": "manual",
    "react_zhTW": "manual",
    "pydocs_zhTW": "manual",
    "tidb_zhCN": "manual",
    "vue_zhCN": "manual",
    "gutenberg_pp_en": "web",
    "taiwan_md_en": "web",
    "cofacts_user_comments": "qa",
    "cofacts_replies": "qa",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--documents", type=int, default=100_000, help="of each source, for ours")
    parser.add_argument("--beside", type=int, default=100, help="of each source, for datatrove")
    parser.add_argument("--bad", type=int, default=100, help="generated texts of each kind")
    parser.add_argument("--datatrove-python", help="without it only ours is measured")
    parser.add_argument("--show", type=int, default=0, help="rejected documents to print, each")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there as well")
    args = parser.parse_args()
    rows = []
    for source, preset in GOOD.items():
        texts = _texts(args.data, source, args.documents)
        rows.append(_row(source, preset, texts, args))
    articles = _texts(args.data, "taiwan_md_zh", args.documents)
    for kind in bad_texts.kinds():
        rows.append(_row(f"bad: {kind}", "web", bad_texts.make(kind, articles, args.bad), args))
    if args.json:
        text = json.dumps(rows, indent=2, ensure_ascii=False)
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0


def _texts(data: pathlib.Path, source: str, number: int) -> list[str]:
    """Returns the texts of a source, normalised as a build would."""
    from twjax.corpus.text.normalize import NormalizeText

    texts = []
    for record in speed.records(data, source, number):
        if "question" in record and "answer" in record:
            texts.append(f"{record['question']}\n{record['answer']}")
        elif record.get("text"):
            texts.append(record["text"])
        elif record.get("context"):
            texts.append(record["context"])
    kept = NormalizeText().apply(speed.documents(texts, source)).kept
    return [document.text for document in kept]


def _row(source: str, preset: str, texts: list[str], args: argparse.Namespace) -> dict[str, Any]:
    lang = "en" if source.endswith("_en") else "zh-TW"
    kept, reasons = _ours(texts, source, preset, lang, args.show)
    row: dict[str, Any] = {
        "source": source,
        "documents": len(texts),
        "preset": preset,
        "kept": kept / max(len(texts), 1),
        "reasons": dict(reasons.most_common()),
    }
    line = f"{source:40} {len(texts):6,}  {preset:7} {row['kept']:7.1%}"
    if preset != "web":
        row["kept_by_web"] = _ours(texts, source, "web", lang, 0)[0] / max(len(texts), 1)
        line += f"  web {row['kept_by_web']:6.1%}"
    if args.datatrove_python and texts and lang != "en":  # Its settings are for Chinese.
        some = [texts[len(texts) * i // args.beside] for i in range(args.beside)]
        theirs = speed.datatrove(args.datatrove_python, list(dict.fromkeys(some)))
        assert theirs is not None
        row["datatrove_kept"] = theirs["dropped"].count("") / len(theirs["dropped"])
        row["datatrove_reasons"] = dict(collections.Counter(theirs["dropped"]))
        line += f"  FineWeb-2 {row['datatrove_kept']:6.1%} of {len(theirs['dropped'])}"
    shown = ", ".join(f"{reason} {number}" for reason, number in reasons.most_common(5))
    print(f"{line}  {shown}", flush=True)
    return row


def _ours(
    texts: list[str], source: str, preset: str, lang: str, show: int
) -> tuple[int, collections.Counter[str]]:
    from twjax.corpus.quality.adverts import Adverts
    from twjax.corpus.quality.harm import Harm
    from twjax.corpus.quality.repetition import Repetition
    from twjax.corpus.quality.rules import QualityRules

    kept = speed.documents(texts, source, lang)
    reasons: collections.Counter[str] = collections.Counter()
    for step in (
        QualityRules(preset=preset),
        Repetition(preset=preset),
        Adverts(preset=preset),
        Harm(policy="drop"),
    ):
        outcome = step.apply(kept)
        kept = outcome.kept
        reasons.update(rejection.reason for rejection in outcome.rejected)
        for rejection in outcome.rejected[:show]:
            beginning = rejection.document.text[:100].replace("\n", "⏎")
            print(f"    {rejection.reason} ({rejection.value}): {beginning}")
    return len(kept), reasons


if __name__ == "__main__":
    sys.exit(main())
