"""The model card of an export, in Hugging Face's form: English, and Taiwan's Chinese beside it."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from twjax import __version__
from twjax.config.data import lengths_of
from twjax.huggingface.carry import TOKENIZER
from twjax.report.card_facts import Facts
from twjax.report.card_scores import evaluation, forgotten
from twjax.report.card_words import WORDS, Words
from twjax.report.events import reading_parts
from twjax.report.markdown import table
from twjax.report.origin import UNKNOWN_LICENSE, Base, Text
from twjax.report.scale import compact
from twjax.report.speed import devices
from twjax.storage import atomic_writer

# A card with this at its end may be written anew; any other file of its name stays.
_MARK = "<!-- a model card written by twjax -->"
_NAMES = ({"en": "README.md", "zh-TW": "README.zh-TW.md"},
          {"en": "MODEL_CARD.md", "zh-TW": "MODEL_CARD.zh-TW.md"})  # fmt: skip


def write_cards(facts: Facts, folder: pathlib.Path) -> list[str]:
    """Writes the card of a run's checkpoint into an export, in both languages.

    Where `folder` has a README.md that twjax hasn't written (the base model's), it stays, and the
    card is MODEL_CARD.md. Returns a line that says what was written. Raises FileExistsError where
    neither name is free.
    """
    free = [names for names in _NAMES if all(_is_ours(folder / name) for name in names.values())]
    if not free:
        raise FileExistsError(f"{folder}: both README.md and MODEL_CARD.md are somebody else's.")
    names = free[0]
    tokenizer = any((folder / name).is_file() for name in TOKENIZER)
    for language, file in names.items():
        with atomic_writer(folder / file) as out:
            out.write(card(facts, language, names, tokenizer=tokenizer))
    kept = "" if names is _NAMES[0] else " (README.md came with the original and stays)"
    return [f"{', '.join(names.values())}: the model card{kept}"]


def drop_cards(folder: pathlib.Path) -> list[str]:
    """Takes out the cards of twjax that came with a base model: they tell of other weights."""
    found = [folder / name for names in _NAMES for name in names.values()]
    found = [file for file in found if file.is_file() and _is_ours(file)]
    for file in found:
        file.unlink()
    names = ", ".join(file.name for file in found)
    return [f"{names}: left out, the model card of the base"] if found else []


def _is_ours(path: pathlib.Path) -> bool:
    try:
        return path.read_text(encoding="utf-8").rstrip().endswith(_MARK)
    except FileNotFoundError:
        return True
    except ValueError:
        return False


def card(
    facts: Facts, language: str, files: Mapping[str, str] = _NAMES[0], *, tokenizer: bool = True
) -> str:
    """Returns the Markdown of a card; `language` is "en" or "zh-TW".

    `files` are the names of the cards by language; `tokenizer` says whether one lies beside them.
    """
    words = WORDS[language]
    other = next(file for code, file in files.items() if code != language)
    parts = [_metadata(facts), f"# {facts.name}", words.other.format(other), _lead(facts, words)]
    if facts.base is not None:
        parts += [f"## {words.base}", _base(facts.base, words)]
    parts += [f"## {words.data}", *_data(facts, words)]
    parts += [f"## {words.training}", _training(facts, words)]
    parts += [f"## {words.evaluation}", *evaluation(facts, words)]
    parts += [f"## {words.forgotten}", *forgotten(facts, words)]
    parts += [f"## {words.use}", words.use_text]
    parts += [f"## {words.load}", _loading(facts, tokenizer)]
    if not tokenizer:
        parts.append(words.no_tokenizer)
    parts += [f"## {words.versions}", _versions(facts, words)]
    parts += [words.written.format(__version__), _MARK]
    return "\n\n".join(parts) + "\n"


def _metadata(facts: Facts) -> str:
    """The block that the hub reads; what isn't recorded is left out, or "unknown"."""
    fields: dict[str, str | list[str]] = {}
    if facts.languages:
        fields["language"] = facts.languages
    base = facts.base or Base()
    fields["license"] = base.license.id or UNKNOWN_LICENSE
    # The hub asks for these where the licence is "other".
    named = {"license_name": base.license.name, "license_link": base.license.link}
    fields |= {field: value for field, value in named.items() if value}
    if base.hub_id:
        fields["base_model"] = base.hub_id
    if facts.datasets:
        fields["datasets"] = facts.datasets
    fields["library_name"] = "transformers"
    fields["pipeline_tag"] = "text2text-generation" if _both(facts) else "text-generation"
    fields["tags"] = ["twjax", *(["continual-pretraining"] if facts.base else [])]
    # A JSON string is a YAML string, whatever it holds.
    lines = []
    for field, value in fields.items():
        if isinstance(value, list):
            lines += [f"{field}:", *(f"- {json.dumps(v, ensure_ascii=False)}" for v in value)]
        else:
            lines.append(f"{field}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(["---", *lines, "---"])


def _both(facts: Facts) -> bool:
    config = facts.run.settings.run
    return config is not None and config.model.encoder_layers > 0


def _lead(facts: Facts, words: Words) -> str:
    tokens = facts.run.tokens_at(facts.step)
    given = {
        "name": facts.name,
        "steps": f"{facts.step:,}",
        "tokens": compact(tokens) if tokens > 0 else words.unknown,
    }
    if facts.base is None:
        return words.lead_random.format(**given)
    base = _named(facts.base, words)
    parts = [words.lead.format(base=base, **given)]
    if facts.runs and facts.base.lineage is not None:
        origin = facts.base.lineage.origin
        form = words.exported_random if origin is None else words.exported
        parts.append(form.format(base=base, origin=_named(origin, words)))
    elif facts.base.exported:
        parts.append(words.exported_unknown.format(base=base))
    through = [*facts.base.through, *(name for run in facts.runs for name in run.through)]
    if through:
        parts.append(words.through.format(", ".join(dict.fromkeys(through))))
    return " ".join(parts)


def _named(base: Base | None, words: Words) -> str:
    return (base.hub_id or base.name if base else "") or words.unknown


def _base(base: Base, words: Words) -> str:
    licence = base.license.id or words.unknown
    about = words.listed(filter(None, (base.license.name, base.license.link)))
    rows = [
        (words.base_name, _named(base, words)),
        (words.base_license, words.dated.format(licence, about) if about else licence),
    ]
    if base.lineage is not None and base.lineage.origin is not None:
        rows.insert(1, (words.base_origin, _named(base.lineage.origin, words)))
    return table((words.setting, words.value), rows)


def _data(facts: Facts, words: Words) -> list[str]:
    parts = _texts(facts.texts, words) or [words.unknown]
    if facts.texts:
        parts.insert(1, words.data_note)
    for run in reversed(facts.runs):
        tokens = words.unknown if run.tokens is None else compact(run.tokens)
        parts.append(words.earlier.format(name=run.name, steps=f"{run.steps:,}", tokens=tokens))
        parts += _texts(run.texts, words) or [words.unknown]
    return parts


def _texts(texts: Sequence[Text], words: Words) -> list[str]:
    """Returns the table of what was read, and what is known of it beside numbers."""
    rows, looked = [], []
    for text in texts:
        licences = words.rebuilt if text.same is False else _groups(text.licenses, words)
        numbers = (text.documents, text.bytes, text.rows, text.tokens)
        counts = [words.unknown if n is None else f"{n:,}" for n in numbers]
        sources = _groups(text.sources, words)
        rows.append((text.name, licences, sources, *counts, f"{text.share:.1%}"))
        if text.contaminated is not None:
            count = f"{text.contaminated:,}"
            looked.append(words.contaminated.format(name=text.name, count=count))
    if not rows:
        return []
    unknown = [text.name for text in texts if text.contaminated is None]
    if unknown:
        looked.append(words.not_looked.format(names=words.listed(unknown)))
    unchecked = [t.name for t in texts if t.same is None and (t.licenses or t.documents)]
    if unchecked:
        looked.append(words.not_checked.format(words.listed(unchecked)))
    head = (words.corpus, words.license, words.source, words.documents, words.bytes, words.rows,
            words.tokens, words.share)  # fmt: skip
    return [table(head, rows), "\n".join(f"- {line}" for line in looked)]


def _groups(groups: Mapping[str, tuple[int, int]] | None, words: Words) -> str:
    if not groups:
        return words.unknown
    if len(groups) == 1:
        return next(iter(groups))
    # A licence's name may hold any punctuation.
    return "<br>".join(f"{name} ({documents:,})" for name, (documents, _) in groups.items())


def _training(facts: Facts, words: Words) -> str:
    rows = [(words.settings.get(name, name), value) for name, value in _settings(facts, words)]
    return table((words.setting, words.value), rows)


def _settings(facts: Facts, words: Words) -> Iterable[tuple[str, str]]:
    tokens, config = facts.run.tokens_at(facts.step), facts.run.settings.run
    yield "steps", f"{facts.step:,}"
    yield "tokens", f"{tokens:,.0f}" if tokens > 0 else words.unknown
    if config is None:
        return
    read = [part for part in reading_parts(facts.run) if part.first < max(facts.step, 1)]
    batches = _series(f"{part.rows:,}" for part in read)
    lengths = _series(" + ".join(map(str, lengths_of(part.length))) for part in read)
    yield "batch", batches or words.unknown
    yield "row length", lengths or words.unknown
    schedule = config.schedule
    peak = f"{schedule.rewarm:g} × source" if schedule.peak is None else f"{schedule.peak:g}"
    yield "learning rate", f"{schedule.kind}, {peak}, warm-up {schedule.warmup_steps:,}"
    yield "optimizer", f"{config.optimizer.name}, weight decay {config.optimizer.weight_decay:g}"
    yield "precision", config.step.dtype
    if config.budget is not None and config.budget.mode != "off":
        allowed = ", ".join(f"{task} {rise:g}" for task, rise in config.budget.allowed.items())
        yield "forgetting budget", f"{config.budget.mode}: {allowed}"
    if config.adapter is not None:
        yield "adapter", f"{config.adapter.kind}, rank {config.adapter.rank}"
    if config.optimizer.freeze:
        yield "frozen weights", ", ".join(config.optimizer.freeze)
    if config.distillation is not None:
        yield "kept close to the base", f"{config.distillation.weight:g}"
    had = devices(facts.run)
    if had:
        yield "devices", f"{had[-1][2]} × {had[-1][1]}"


def _series(values: Iterable[str]) -> str:
    return " → ".join(value for value, _ in itertools.groupby(values))


def _loading(facts: Facts, tokenizer: bool) -> str:
    kind = "AutoModelForSeq2SeqLM" if _both(facts) else "AutoModelForCausalLM"
    classes = [("model", kind), *([("tokenizer", "AutoTokenizer")] if tokenizer else [])]
    lines = [f"from transformers import {', '.join(name for _, name in classes)}", ""]
    lines += [f'{what} = {name}.from_pretrained("{facts.name}")' for what, name in classes]
    return "\n".join(["```python", *lines, "```"])


def _versions(facts: Facts, words: Words) -> str:
    flat = {k: v for k, v in facts.run.versions.items() if isinstance(v, (str, int))}
    named = [name for name in ("twjax", "python", "jax", "flax", "optax") if name in flat]
    return ", ".join(f"{name} {flat[name]}" for name in named) or words.unknown
