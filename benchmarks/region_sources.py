"""Makes the files of the regional model's fit that come from public repositories.

    python benchmarks/region_sources.py --out DIR [--mirrors DIR]

Each repository is read at a pinned commit, from a clone in `--mirrors` ("owner+name", made there
if it is missing). The licences are those of `twjax.corpus.variety.region_sources`.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import hashlib
import html
import io
import json
import pathlib
import re
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

from twjax.corpus.conversion import opencc

COMMITS = {
    "LawRefBook/Laws": "2f4c5c23716267af9dbebbbbd6cbbf732b101981",
    "github/opensource.guide": "ebc9678e39b55ff5e5c8801d1960904692188e90",
    "freeCodeCamp/i18n-curriculum": "95baf16686d2eeaa9cf3bccb3132393a3398db16",
    "geekan/HowToLiveLonger": "81c562a3c302ad54b75df73657373cc102384f95",
    "Anduin2017/HowToCook": "cbeb536760320efe24f9a61fe354a318d5887e30",
    "PKUFlyingPig/cs-self-learning": "adce8e13789dc16aa6d1fbe163e9541736defae4",
    "zhuhanchn/DeepSpeechRecognition": "f8455fead6d030d82e951d007f5b7b72e244dac1",
    "unicode-org/cldr-json": "b08a82b582f1120d630d623f9e5073316741574d",
    "mozilla-l10n/fx-private-relay-l10n": "54e03dfa5ec6f5691087b84e614b67e80ed63b2d",
    "mozilla-l10n/monitor-website-l10n": "e3092d75deae4a0dbf3c366e27a3c8a2e0ad101a",
    "mozilla-l10n/focusios-l10n": "8d935be106bb7d8778e08535177a98d6cab2f6d8",
    "mozilla-l10n/mozilla-vpn-client-l10n": "97123a4acf62929fab14b11d89fe4b9097d93c9f",
    "mozilla-l10n/www-l10n": "442e139499cbf67e31cf7155ea4bdd4a69cfd87e",
    "mozilla-l10n/www-firefox-l10n": "09adbfacd64b5038f5ba056f9248ca712d580b44",
    "tldr-pages/tldr": "08e345f42639f67d99282813247ac670dc6e87cb",
    "openstreetmap/id-tagging-schema": "44eff2b82b8bc3e8a2e1d2135a7c58c9b9a08dcf",
    "tico-19/tico-19.github.io": "d97615f9cffa28ec7de571e00fbd513e5a1c7fc7",
    "thu-coai/KdConv": "653db76432de09a004ba708a68f8bbd5500e6bec",
    "Gowee/zhconv-rs": "b13469d7c247c5ef87a83bcdf1d7d892f09e66da",
    "Helsinki-NLP/OPUS-MT-testsets": "ac0f19c0be3cb4e0d9450fcb2d7a9847c4bdd180",
    "UniversalDependencies/UD_Chinese-PUD": "2849afd946a8c01b3e9acdf3e7afa8670cf2777d",
}
# Laws and lessons are many; a sample by the hash of the path is enough.
_LAWS, _LESSONS = 1800, 4000
_SPEECH = ("aishell_dev", "aishell_test")
_CLDR = (
    "cldr-localenames-full/main/%s/territories.json",
    "cldr-localenames-full/main/%s/languages.json",
    "cldr-dates-full/main/%s/timeZoneNames.json",
    "cldr-numbers-full/main/%s/currencies.json",
    "cldr-units-full/main/%s/units.json",
    "cldr-annotations-full/annotations/%s/annotations.json",
    "cldr-annotations-derived-full/annotationsDerived/%s/annotations.json",
)


class Repository:
    """The files of a public repository at its pinned commit."""

    def __init__(self, name: str, mirrors: pathlib.Path):
        self.name, self.commit = name, COMMITS[name]
        self._folder = mirrors / name.replace("/", "+")
        if not self._folder.is_dir():
            url = f"https://github.com/{name}"
            subprocess.run(["git", "clone", "-q", "--bare", url, self._folder], check=True)
        elif (self._folder / "repo").is_dir():
            self._folder /= "repo"
        self.paths = [
            path for path in self._git("ls-tree", "-rz", "--name-only").split("\0") if path
        ]

    def text(self, path: str) -> str:
        """Returns a file."""
        return self._git("show", path=path)

    def record(self, identity: str, lang: str, license: str, **fields: Any) -> dict[str, Any]:
        """Returns a record with its source."""
        url = f"https://github.com/{self.name}/tree/{self.commit}"
        record = {"id": identity, "source": self.name, "url_or_path": url, "lang": lang}
        return record | {"license": license} | fields

    def _git(self, *arguments: str, path: str = "") -> str:
        target = f"{self.commit}:{path}" if path else self.commit
        command = ["git", "-C", str(self._folder), *arguments, target]
        return subprocess.run(command, check=True, capture_output=True).stdout.decode(
            errors="replace"
        )


def write_records(folder: pathlib.Path, file: str, records: Iterable[Any]) -> None:
    """Writes `<file>.jsonl.gz`; equal records give equal bytes."""
    path = folder / f"{file}.jsonl.gz"
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as out:
        for record in records:
            out.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
    print(file, path.stat().st_size)


def sample(paths: Iterable[str], number: int) -> list[str]:
    """Returns some of the paths, the same at each call."""
    return sorted(paths, key=lambda path: hashlib.blake2b(path.encode()).digest())[:number]


def texts(repository: Repository, paths: Iterable[str], cut: str, *about: str) -> Iterator[Any]:
    """Yields a record a file; the id is the path without `cut`."""
    for path in paths:
        yield repository.record(path.removeprefix(cut), *about, text=repository.text(path))


def speech(repository: Repository) -> Iterator[Any]:
    """Yields transcripts of the AISHELL-1 corpus (OpenSLR 33, Apache-2.0), forty lines each.

    THCHS-30 beside it isn't read: who made it says that it is free to academic users.
    """
    lines = [line for file in _SPEECH for line in repository.text(f"data/{file}.txt").split("\n")]
    said = dict.fromkeys(
        columns[2].replace(" ", "") for columns in (line.split("\t") for line in lines)
        if len(columns) > 2
    )  # fmt: skip
    for start in range(0, len(said), 40):
        text = "\n".join([*said][start : start + 40])
        yield repository.record(f"AISHELL-1-{start}", "zh-CN", "Apache-2.0", text=text)


def cldr(repository: Repository) -> Iterator[Any]:
    """Yields names of places, languages, currencies, units and emoji in both regions."""

    def leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from leaves(inner, f"{key}/{name}")
        else:
            yield key, " ".join(value) if isinstance(value, list) else str(value)

    for file in _CLDR:
        sides = []
        for locale in ("zh-Hant", "zh"):
            data = json.loads(repository.text(f"cldr-json/{file % locale}"))
            data = data.get("main", data)
            sides.append(dict(leaves(data.get(locale, data))))
        groups: dict[str, list[dict[str, str]]] = {}
        for key in sides[0].keys() & sides[1].keys():
            if re.search("[\u4e00-\u9fff]", sides[1][key]):
                pair = {"zh_tw": sides[0][key], "zh_cn": sides[1][key], "key": key}
                groups.setdefault(key.rpartition("/")[0], []).append(pair)
        for name in sorted(groups):
            pairs = sorted(groups[name], key=lambda pair: pair["key"])
            yield repository.record(f"{file}{name}", "zh-TW|zh-CN", "Unicode-3.0", pairs=pairs)


def messages(path: str, text: str) -> dict[str, str]:
    """Returns the messages of a Fluent or XLIFF file, without placeables and tags."""
    found = {}
    if path.endswith(".ftl"):
        for match in re.finditer(r"^(-?[\w-]+) *=(.*(?:\n(?:[ \t].*)?)*)", text, re.M):
            found[match[1]] = re.sub(r"\{[^{}]*\}", "X", match[2])
    else:
        for match in re.finditer(r'<trans-unit id="([^"]+)".*?</trans-unit>', text, re.S):
            target = re.search(r"<target[^>]*>(.*?)</target>", match[0], re.S)
            found[match[1]] = html.unescape(target[1]) if target else ""
    return {key: " ".join(re.sub("<[^>]+>", "", value).split()) for key, value in found.items()}


def applications(repository: Repository) -> Iterator[Any]:
    """Yields the messages of Mozilla's applications in both regions."""
    for path in repository.paths:
        other = re.sub("^zh([-_])CN/", r"zh\1TW/", path)
        if other == path or other not in repository.paths or not path.endswith((".ftl", ".xliff")):
            continue
        mainland = messages(path, repository.text(path))
        taiwan = messages(other, repository.text(other))
        keys = [key for key in mainland if mainland[key] and taiwan.get(key)]
        pairs = [{"zh_tw": taiwan[key], "zh_cn": mainland[key], "key": key} for key in keys]
        name = f"{repository.name.partition('/')[2]}/{path.partition('/')[2]}"
        yield repository.record(name, "zh-TW|zh-CN", "MPL-2.0", pairs=pairs)


def site(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record of Mozilla's site under the name that mozilla_www_pairs gives that page."""
    name = record["id"].partition("/")[2].removesuffix(".ftl")
    return record | {"id": f"mozwww-{name}"}


def dialogues(repository: Repository) -> Iterator[Any]:
    """Yields KdConv's dialogues on films, music and travel."""
    for file in ("film", "music", "travel"):
        for part in ("dev", "test"):
            talks = json.loads(repository.text(f"data/{file}/{part}.json"))
            for number, talk in enumerate(talks):
                text = "\n".join(said["message"] for said in talk["messages"])
                name = f"kdconv-{file}-{part}-{number}"
                yield repository.record(name, "zh-CN", "Apache-2.0", text=text)


def terms(repository: Repository) -> Iterator[Any]:
    """Yields TICO-19's terms of health in both regions."""
    for letter, path in (("f", "f_en-zh_%s.csv"), ("g", "g_en_zh-%s.csv")):
        sides = []
        for side in ("TW", "CN"):
            rows = csv.DictReader(io.StringIO(repository.text(f"data/terminologies/{path % side}")))
            sides.append({row["sourceString"]: row["targetString"] for row in rows})
        pairs = [
            {"zh_tw": sides[0][key], "zh_cn": sides[1][key]} for key in sides[0] if key in sides[1]
        ]
        for start in range(0, len(pairs), 40):
            name = f"tico-{letter}-{start}"
            some = pairs[start : start + 40]
            yield repository.record(name, "zh-TW|zh-CN", "CC0-1.0", pairs=some)


def conversion_groups(repository: Repository) -> Iterator[Any]:
    """Yields what Chinese Wikipedia's conversion groups call things on both sides.

    The texts of Wikipedia (CC BY-SA 4.0) that are copied in that repository; the conversion table
    of MediaWiki beside them, which is under the GPL, isn't read.
    """
    for path in repository.paths:
        if not path.startswith("data/cgroups/") or not path.endswith(".json"):
            continue
        pairs = []
        for rule in json.loads(repository.text(path))["rules"]:
            names = dict(re.findall(r"(zh(?:-\w+)?)\s*:\s*([^;；=]+)", rule["conv"]))
            taiwan = names.get("zh-tw") or names.get("zh-hant")
            mainland = names.get("zh-cn") or names.get("zh-hans")
            if taiwan and mainland:
                pairs.append({"zh_tw": taiwan.strip(), "zh_cn": mainland.strip()})
        for start in range(0, len(pairs), 40):
            name = f"{path.rpartition('/')[2]}-{start}"
            some = pairs[start : start + 40]
            yield repository.record(name, "zh-TW|zh-CN", "CC-BY-SA-4.0", pairs=some)


def treebank(repository: Repository) -> Iterator[Any]:
    """Yields the news and encyclopedia sentences of a treebank, forty each.

    They are worded as on the mainland (奥巴马, 数字化), though put in Traditional characters.
    """
    simplified = opencc.converter("t2s")
    lines = repository.text("zh_pud-ud-test.conllu").split("\n")
    said = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    for start in range(0, len(said), 40):
        text = simplified("\n".join(said[start : start + 40]))
        yield repository.record(f"pud-{start}", "zh-CN", "CC-BY-SA-3.0", text=text)


def held_out(repository: Repository) -> Iterator[Any]:
    """Yields the test part of FLORES, eight sentences each: to choose settings by, never fitted."""
    sides = [
        repository.text(f"testsets/flores101_dataset/devtest/cmn_{script}.devtest").splitlines()
        for script in ("Hant", "Hans")
    ]
    pairs = [{"zh_tw": taiwan, "zh_cn": mainland} for taiwan, mainland in zip(*sides, strict=True)]
    for start in range(0, len(pairs), 8):
        some = pairs[start : start + 8]
        yield repository.record(f"flores-{start}", "zh-TW|zh-CN", "CC-BY-SA-4.0", pairs=some)


def map_tags(repository: Repository) -> Iterator[Any]:
    """Yields OpenStreetMap's names of things in both regions."""
    sides = []
    for side in ("TW", "CN"):
        found: dict[str, str] = {}

        def walk(value: Any, key: str, found: dict[str, str]) -> None:
            for name, inner in value.items():
                if isinstance(inner, dict):
                    walk(inner, f"{key}/{name}", found)
                elif isinstance(inner, str) and name != "terms":
                    found[f"{key}/{name}"] = inner

        data = json.loads(repository.text(f"dist/translations/zh-{side}.json"))
        walk(data[f"zh-{side}"], "", found)
        sides.append(found)
    keys = sorted(sides[0].keys() & sides[1].keys())
    pairs = [{"zh_tw": sides[0][key], "zh_cn": sides[1][key]} for key in keys]
    for start in range(0, len(pairs), 40):
        some = pairs[start : start + 40]
        yield repository.record(f"osm-{start}", "zh-TW|zh-CN", "ISC", pairs=some)


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--mirrors", type=pathlib.Path, default=pathlib.Path("mirrors"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    open_ = {name: Repository(name, args.mirrors) for name in COMMITS}

    write = functools.partial(write_records, args.out)

    laws = open_["LawRefBook/Laws"]
    chosen = sample(
        (p for p in laws.paths if p.endswith(".md") and "/" in p and p[0] not in ".s"), _LAWS
    )
    write("prc_laws", texts(laws, chosen, "", "zh-CN", "none (PRC Copyright Law, art. 5)"))
    guide = open_["github/opensource.guide"]
    for tag, lang in (("zh-hans", "zh-CN"), ("zh-hant", "zh-TW")):
        paths = [p for p in guide.paths if p.startswith(f"_articles/{tag}/") and p.endswith(".md")]
        records = texts(guide, paths, "_articles/", lang, "CC-BY-4.0")
        write(f"osguide_{lang.replace('-', '')}", records)
    course = open_["freeCodeCamp/i18n-curriculum"]
    root = "curriculum/challenges/"
    known = set(course.paths)
    lessons = [
        path.removeprefix(f"{root}chinese/") for path in course.paths
        if path.startswith(f"{root}chinese/") and path.endswith(".md")
        and path.replace("/chinese/", "/chinese-traditional/") in known
    ]  # fmt: skip
    for tag, lang in (("chinese", "zh-CN"), ("chinese-traditional", "zh-TW")):
        paths = [f"{root}{tag}/{path}" for path in sample(lessons, _LESSONS)]
        write(f"fcc_{lang.replace('-', '')}", texts(course, paths, root, lang, "BSD-3-Clause"))
    essays = []
    for name, license in (
        ("geekan/HowToLiveLonger", "Unlicense"),
        ("Anduin2017/HowToCook", "Unlicense"),
        ("PKUFlyingPig/cs-self-learning", "MIT"),
    ):
        paths = [
            p for p in open_[name].paths if p.endswith(".md") and not re.search("[._]en[.]", p)
        ]
        essays += texts(open_[name], paths, "", "zh-CN", license)
    write("mainland_md", essays)
    write("mandarin_speech_zhCN", speech(open_["zhuhanchn/DeepSpeechRecognition"]))
    write("cldr_pairs", cldr(open_["unicode-org/cldr-json"]))
    sites = ("mozilla-l10n/www-l10n", "mozilla-l10n/www-firefox-l10n")
    write("mozilla_sites_pairs", (site(r) for name in sites for r in applications(open_[name])))
    write("dialogues_zhCN", dialogues(open_["thu-coai/KdConv"]))
    write("health_pairs", terms(open_["tico-19/tico-19.github.io"]))
    write("wikipedia_names_pairs", conversion_groups(open_["Gowee/zhconv-rs"]))
    write("treebank_zhCN", treebank(open_["UniversalDependencies/UD_Chinese-PUD"]))
    write("flores_pairs", held_out(open_["Helsinki-NLP/OPUS-MT-testsets"]))
    write("map_pairs", map_tags(open_["openstreetmap/id-tagging-schema"]))
    pages = open_["tldr-pages/tldr"]
    known = set(pages.paths)
    both = [p for p in pages.paths if p.startswith("pages.zh_TW/")
            and p.replace(".zh_TW/", ".zh/") in known]  # fmt: skip
    for cut, lang in (("pages.zh_TW/", "zh-TW"), ("pages.zh/", "zh-CN")):
        paths = [p.replace("pages.zh_TW/", cut) for p in both]
        write(f"tldr_{lang.replace('-', '')}", texts(pages, paths, cut, lang, "CC-BY-4.0"))
    names = [name for name in COMMITS if name.startswith("mozilla-l10n/") and name not in sites]
    write("mozilla_apps_pairs", (r for name in names for r in applications(open_[name])))


if __name__ == "__main__":
    main()
