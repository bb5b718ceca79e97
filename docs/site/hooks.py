"""What the site adds to its Markdown: the reference, and links to files of the repository."""

from __future__ import annotations

import logging
from collections.abc import Callable

import api_pages
import class_pages
import command_pages
import config_pages
import repository_links
import task_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# The pages of the reference are listed at its end.
_OVERVIEW = "reference/index.md"
# A warning of this logger fails a strict build.
_LOG = logging.getLogger("mkdocs.hooks.twjax")

PAGES: dict[str, Callable[[], str]] = {
    command_pages.PAGE: command_pages.render,
    class_pages.RUN_PAGE: class_pages.run_page,
    class_pages.CORPUS_PAGE: class_pages.corpus_page,
    config_pages.PAGE: config_pages.render,
    task_pages.PAGE: task_pages.render,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the reference."""
    for place, render in PAGES.items():
        files.append(File.generated(config, place, content=render()))
    for package in api_pages.PACKAGES:
        content = api_pages.render(package)
        files.append(File.generated(config, api_pages.page(package), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Puts what the site has in place of links to files of the repository."""
    if page.file.src_uri == _OVERVIEW:
        for place in (*PAGES, *map(api_pages.page, api_pages.PACKAGES)):
            file = files.src_uris[place]
            markdown += f"\n- [{_title(file)}]({place.removeprefix('reference/')})"
    text, wrong = repository_links.rewrite(markdown, page.file.src_uri)
    for target in wrong:
        _LOG.warning("%s links %s, which the repository doesn't have", page.file.src_uri, target)
    return text


def _title(file: File) -> str:
    return file.content_string.partition("\n")[0].removeprefix("# ")


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes links of the names of configuration files."""
    if page.file.src_uri == config_pages.PAGE:
        return html
    return repository_links.link_configs(html, page.url)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Says a page's language, by which browsers choose the form of Han characters."""
    if page.file.src_uri.endswith(".zh-TW.md"):
        return output.replace('<html lang="en"', '<html lang="zh-Hant-TW"', 1)
    return output
