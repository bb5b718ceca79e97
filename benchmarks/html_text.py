"""How much of real pages' text is kept, how much boilerplate with it, and how fast.

  python benchmarks/html_text.py --data DIR [--json FILE] [--show PAGE]

Truth: for moztw.org the `.shtml` sources, which lack the frame that the `.html` pages of the same
name have; for the magazine the Markdown sources. Recall is the share of the truth's runs of 8
characters (blanks and punctuation aside) that come out, boilerplate the share of what comes out
that the truth lacks.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

RUN = 8


def records(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a gzipped JSON Lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def stripped(html: str) -> str:
    """Returns all text of a page, by tags alone."""
    from resiliparse.extract.html2text import extract_plain_text

    return extract_plain_text(html, preserve_formatting=True, alt_texts=False)


def pairs(data: pathlib.Path) -> Iterator[tuple[str, str, str, str]]:
    """Yields (set, name, page, text that should come out)."""
    pages = {r["id"]: r["text"] for r in records(data / "moztw_site_html.jsonl.gz")}
    for name, html in sorted(pages.items()):
        source = pages.get(re.sub(r"\.html$", ".shtml", name)) if name.endswith(".html") else None
        if source:
            yield "moztw.org", name, html, stripped(re.sub(r"<!--#.*?-->", "", source, flags=re.S))
    from markdown_it import MarkdownIt

    pages = {r["id"]: r["text"] for r in records(data / "programmer_magazine_201307.jsonl.gz")}
    for name, text in sorted(pages.items()):
        html = pages.get(name.replace("source/", "htm/").replace(".md", ".html"))
        if name.endswith(".md") and html:
            yield "magazine", name, html, stripped(MarkdownIt().enable("table").render(text))


def runs(text: str) -> set[str]:
    """Returns the runs of characters that are compared."""
    text = re.sub(r"[\W_]+", "", text)
    return {text[i : i + RUN] for i in range(len(text) - RUN + 1)}


def ours(html: str) -> str:
    """Returns the text that the reader makes of a page; empty for one that is refused."""
    from twjax.corpus import document
    from twjax.corpus.sources import markup

    try:
        return markup.page(html).text
    except document.Unusable:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--show", help="print what comes out of the page of this name")
    arguments = parser.parse_args()
    from resiliparse.extract.html2text import extract_plain_text

    methods: dict[str, Callable[[str], str]] = {
        "twjax": ours,
        "resiliparse main": lambda html: extract_plain_text(html, main_content=True),
        "resiliparse all": lambda html: extract_plain_text(html),
    }
    try:
        import trafilatura  # pyright: ignore[reportMissingImports]

        methods["trafilatura"] = lambda html: trafilatura.extract(html) or ""
    except ImportError:
        pass
    everything = list(pairs(arguments.data))
    results = []
    for method, read in methods.items():
        read("<p>imports first</p>")
        for kind in ("moztw.org", "magazine"):
            mine = [pair for pair in everything if pair[0] == kind]
            start = time.process_time()
            texts = [read(html) for _, _, html, _ in mine]
            seconds = time.process_time() - start
            recalls, extras = [], []
            for (_, name, _, truth), text in zip(mine, texts, strict=True):
                wanted, got = runs(truth), runs(text)
                if not wanted:
                    continue
                recalls.append(len(wanted & got) / len(wanted))
                extras.append(len(got - wanted) / max(1, len(got)))
                if arguments.show == name and method == "twjax":
                    print(text)
            results.append({
                "method": method, "pages": kind, "number": len(recalls),
                "recall": round(sum(recalls) / len(recalls), 4),
                "boilerplate": round(sum(extras) / len(extras), 4),
                "below_half": sum(r < 0.5 for r in recalls),
                "pages_per_cpu_second": round(len(mine) / seconds, 1),
            })  # fmt: skip
            print(results[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
