"""The frame of every page: one HTML file that holds all it needs and asks no network."""

from __future__ import annotations

import importlib.resources

from twjax import __version__
from twjax.report.frame import clean


def document(title: str, body: str, note: str, script: str = "report.js") -> str:
    """Returns a whole HTML file; `body` and `note` are HTML, `script` a file of `static`."""
    static = importlib.resources.files("twjax.report") / "static"
    style = (static / "report.css").read_text(encoding="utf-8")
    code = (static / script).read_text(encoding="utf-8")
    # The policy makes the promise binding: a browser refuses any request from this page.
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{clean(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header><h1>{clean(title)}</h1></header>\n<main>\n{body}\n"
        f'<p class="note">{note} Written by twjax {clean(__version__)}.</p>\n</main>\n'
        f"<script>\n{code}</script>\n</body>\n</html>\n"
    )
