"""Links from pages to files of the repository: a configuration's entry, or the file's name.

Pages link files as they lie, `../configs/runs/a.gin`, so that the links work where the repository
is read. In the site a configuration leads to its entry in the reference; any other file, which
the site doesn't hold, becomes its name as code. A file that isn't there is an error of the build.
"""

from __future__ import annotations

import pathlib
import posixpath
import re
from collections.abc import Iterator

from config_pages import PAGE, ROOT, anchor

_LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.I)
_CONFIG = re.compile(r"(?<!\">)<code>(configs/[\w./-]+\.gin)</code>(?!</a>)")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yields number and text of the lines outside of fenced blocks; the first line has number 1."""
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        found = _FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence):
                fence = ""
        elif found:
            fence = found[1]
        else:
            yield number, line


def missing(text: str, folder: pathlib.Path) -> list[str]:
    """Returns "line: target" of relative links whose file isn't there, seen from `folder`."""
    found = []
    for number, line in prose(text):
        for link in _LINK.finditer(line):
            target = link["target"].partition("#")[0]
            if target and not _SCHEME.match(target) and not (folder / target).exists():
                found.append(f"{number}: {link['target']}")
    return found


def rewrite(text: str, source: str) -> tuple[str, list[str]]:
    """Returns a page's text with links out of `docs/` replaced, and those that lead nowhere.

    `source` is the page's place below `docs/`.
    """
    folder = posixpath.dirname(source)
    wrong: list[str] = []

    def replaced(link: re.Match[str]) -> str:
        target = link["target"]
        path = posixpath.normpath(posixpath.join("docs", folder, target.partition("#")[0]))
        if _SCHEME.match(target) or target.startswith("#") or path.startswith("docs/"):
            return link[0]
        if path.startswith("..") or not (ROOT / path).exists():
            wrong.append(target)
            return link[0]
        if path.startswith("configs/") and path.endswith(".gin"):
            return f"[{link['text']}]({posixpath.relpath(PAGE, folder or '.')}#{anchor(path)})"
        return f"{link['text']} (`{path}`)" if link["text"].strip("`") != path else f"`{path}`"

    outside = {number for number, _ in prose(text)}
    lines = [
        _LINK.sub(replaced, line) if number in outside else line
        for number, line in enumerate(text.splitlines(), start=1)
    ]
    return "\n".join(lines) + "\n", wrong


def link_configs(html: str, url: str) -> str:
    """Returns a page's HTML whose names of configuration files lead to their entries.

    `url` is the page's place in the site.
    """
    reference = posixpath.relpath(PAGE.replace(".md", ".html"), posixpath.dirname(url) or ".")

    def linked(code: re.Match[str]) -> str:
        if not (ROOT / code[1]).is_file():
            return code[0]
        return f'<a href="{reference}#{anchor(code[1])}"><code>{code[1]}</code></a>'

    return _CONFIG.sub(linked, html)
