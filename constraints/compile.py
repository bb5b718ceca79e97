"""Writes the pins of each environment: every dependency's version and hashes, no URLs.

`make constraints` runs it (it needs `uv`). Versions already pinned are kept as long as
pyproject.toml allows them; `--upgrade` takes the newest. uv resolves for all platforms at once
and for "this Python or newer"; the lines for newer Pythons are left out, so that a file says what
one Python gets. `py3.*.txt` are for development; `beam-py3.11.txt` is for `beam-dev`, whose
protobuf is older than everybody else's; `harness-py3.11.txt` is what `harness` needs beyond
`py3.11.txt`, installed without looking at dependencies, as torch is.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
# File -> (Python, extra, the file that it comes on top of).
TARGETS = {
    "py3.11.txt": ("3.11", "dev", None),
    "py3.12.txt": ("3.12", "dev", None),
    "py3.13.txt": ("3.13", "dev", None),
    "beam-py3.11.txt": ("3.11", "beam-dev", None),
    "harness-py3.11.txt": ("3.11", "harness", "py3.11.txt"),
}
# File -> requirements besides, taken without what they need: `accelerate` is what lm_eval's own
# models, the reference of `harness`, import, and its torch is that of torch-py3.11.txt.
ALONE = {"harness-py3.11.txt": "accelerate>=1.0"}
REQUIREMENT = re.compile(r"^([\w.-]+)==[^\s;]+(?: ; (.*?))? \\$", re.MULTILINE)
URL = re.compile(r"://|\s@\s|^-", re.MULTILINE)


def applies(marker: str, version: str) -> str | None:
    """Returns `marker` without its conditions on the Python version; None if it is false.

    Conjunctions of alternatives are understood, in parentheses or not, as uv writes them.
    """
    alternatives = []
    for alternative in split(marker, " or "):
        kept = []
        for condition in split(alternative, " and "):
            rest = held(condition, version)
            if rest is None:
                break
            kept += [rest] if rest else []
        else:
            if not kept:
                return ""
            alternatives.append(" and ".join(kept))
    return " or ".join(alternatives) if alternatives else "" if not marker else None


def held(condition: str, version: str) -> str | None:
    """Returns what is left of one condition: nothing if it is true, None if it is false."""
    if condition.startswith("("):
        rest = applies(condition[1:-1], version)
        return f"({rest})" if rest else rest
    if not condition.startswith("python_"):
        return condition
    found = re.fullmatch(r"python_full_version (<|>=) '(\d+)\.(\d+)'", condition)
    if found is None:
        raise ValueError(f"cannot read the marker {condition!r} of uv's resolution.")
    below = tuple(map(int, version.split("."))) < (int(found[2]), int(found[3]))
    return "" if below == (found[1] == "<") else None


def split(marker: str, word: str) -> list[str]:
    """Splits a marker where `word` stands outside of parentheses."""
    parts, depth = [""], 0
    for piece in re.split(rf"([()]|{word})", marker):
        depth += (piece == "(") - (piece == ")")
        if piece == word and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts if part.strip()]


def only(text: str, version: str) -> str:
    """Returns the requirements of `text` (uv's output) that hold on Python `version`."""
    lines = []
    keep = True
    for line in text.splitlines():
        if line and not line[0].isspace():
            requirement, _, marker = line.removesuffix("\\").rstrip().partition(" ; ")
            rest = applies(marker, version)
            keep = rest is not None
            line = requirement + (f" ; {rest}" if rest else "") + " \\"
        if keep:
            lines.append(line)
    return "\n".join(lines) + "\n"


def beyond(text: str, base: str) -> str:
    """Returns the requirements of `text` that `base` lacks, or pins for fewer platforms."""
    pinned = {match[1]: match[2] for match in REQUIREMENT.finditer(base)}
    lines, keep = [], True
    for line in text.splitlines():
        found = REQUIREMENT.match(line)
        if found:
            keep = found[1] not in pinned or pinned[found[1]] not in (None, found[2])
        if keep:
            lines.append(line)
    return "\n".join(lines) + "\n"


def compiled(path: pathlib.Path, version: str, options: list, typed: str = "") -> str:
    """Returns uv's pins on Python `version`, those that `path` has kept where they are allowed."""
    command = ["uv", "pip", "compile", *options, "--universal", "--python-version", version]
    command += ["--generate-hashes", "--no-config", "--quiet", "--no-emit-index-url"]
    command += ["--no-header", "--no-annotate", "--output-file", path]
    subprocess.run(
        command, cwd=HERE.parent, check=True, stdout=subprocess.DEVNULL, input=typed, text=True
    )
    return only(path.read_text(encoding="utf-8"), version)


def main() -> None:
    """Resolves and writes each file in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    arguments = parser.parse_args()
    for name, (version, extra, base) in TARGETS.items():
        path = HERE / name
        options = ["--upgrade"] if arguments.upgrade else []
        options += ["--constraint", HERE / base] if base else []
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        text = compiled(path, version, ["pyproject.toml", "--extra", extra, *options])
        if base:
            text = beyond(text, (HERE / base).read_text(encoding="utf-8"))
        if name in ALONE:
            path.write_text(before, encoding="utf-8")
            text += compiled(path, version, ["-", "--no-deps", *options], ALONE[name])
        if URL.search(text):
            raise ValueError(f"{path}: holds a URL or an option; only names, versions and hashes.")
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {text.count('==')} packages")


if __name__ == "__main__":
    main()
