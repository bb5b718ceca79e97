"""The pages of configuration classes: what gin files can name, with fields, types and defaults."""

from __future__ import annotations

import dataclasses
import html
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterable, Mapping

import twjax.config
from twjax.corpus.pipeline import Corpus
from twjax.corpus.registry import STEPS
from twjax.corpus.sources.formats import Source

RUN_PAGE = "reference/configuration.md"
CORPUS_PAGE = "reference/corpus.md"


def run_classes() -> dict[str, type]:
    """Returns the classes of `twjax.config` that gin files name, by name: all fields by keyword."""
    found = {}
    for module in pkgutil.iter_modules(twjax.config.__path__):
        if module.name == "reading":
            # What it holds is computed from a run, never written in a file.
            continue
        loaded = importlib.import_module(f"twjax.config.{module.name}")
        for name, cls in vars(loaded).items():
            own = inspect.isclass(cls) and cls.__module__ == loaded.__name__
            if own and dataclasses.is_dataclass(cls) and not name.startswith("_"):
                fields = dataclasses.fields(cls)
                if fields and all(field.kw_only for field in fields):
                    found[name] = cls
    return found


def corpus_classes() -> dict[str, type]:
    """Returns the classes of a corpus configuration by name, steps in their usual order."""
    return {cls.__name__: cls for cls in (Corpus, Source, *STEPS)}


def render(title: str, intro: str, classes: Mapping[str, type]) -> str:
    """Returns a page; each class has its name as the anchor."""
    lines = [f"# {title}", "", intro, ""]
    for name, cls in classes.items():
        lines += [f"## `{name}` {{ #{name} }}", "", f"`{cls.__module__}`", ""]
        lines += [inspect.cleandoc(cls.__doc__ or ""), "", *_table(cls, classes), ""]
    return "\n".join(lines)


def run_page() -> str:
    """Returns the page of a run's classes."""
    classes = run_classes()
    first = ("Run", "Model", "Data", "Mixture", "Budget")
    ordered = [*(name for name in first if name in classes), *sorted(classes.keys() - set(first))]
    return render(
        "Configuration of a run",
        "A gin file builds one `Run`; each field can be changed on the command line, as in "
        "`--set 'Schedule.peak = 1e-4'`. A field without a default must be given.",
        {name: classes[name] for name in ordered},
    )


def corpus_page() -> str:
    """Returns the page of a corpus's classes."""
    return render(
        "Configuration of a corpus",
        "A gin file of `twjax corpus build` builds one `Corpus` from sources and steps. What the "
        "steps do, and how well, is in [The corpus](../corpus.md).",
        corpus_classes(),
    )


def _table(cls: type, linked: Mapping[str, type]) -> Iterable[str]:
    fields = dataclasses.fields(cls)
    if not fields:
        yield "It has no settings."
        return
    hints = typing.get_type_hints(cls)
    yield "| field | type | default |"
    yield "|---|---|---|"
    for field in fields:
        kind = _code(_type(hints[field.name]))
        kind = re.sub(r"\b[A-Z]\w+\b", lambda n: _link(n[0]) if n[0] in linked else n[0], kind)
        yield f"| `{field.name}` | {kind} | {_default(field)} |"


def _link(name: str) -> str:
    return f'<a href="#{name}">{name}</a>'


def _type(hint: typing.Any) -> str:
    """Returns a type as the source writes it, without the modules."""
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", text).replace("NoneType", "None")


def _default(field: dataclasses.Field[typing.Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return _code(repr(field.default))
    if field.default_factory is not dataclasses.MISSING:
        return _code(repr(field.default_factory()))
    return "required"


def _code(text: str) -> str:
    # A bar would end the table's cell, a Markdown sign be read as one.
    escaped = html.escape(text, quote=False)
    for sign in "|*_[]\\`":
        escaped = escaped.replace(sign, f"&#{ord(sign)};")
    return f"<code>{escaped}</code>"
