"""The model card of an export, in Hugging Face's form: English, and Taiwan's Chinese beside it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from twjax import __version__
from twjax.config.data import lengths_of
from twjax.report.card_facts import Base, Facts, gather
from twjax.report.card_words import WORDS, Words
from twjax.report.measures import MEASURES
from twjax.report.scale import change_percent, compact, fixed
from twjax.report.speed import devices
from twjax.storage import atomic_writer

# A card with this at its end may be written anew; any other file of its name stays.
_MARK = "<!-- a model card written by twjax -->"
_NAMES = ({"en": "README.md", "zh-TW": "README.zh-TW.md"},
          {"en": "MODEL_CARD.md", "zh-TW": "MODEL_CARD.zh-TW.md"})  # fmt: skip


def write_cards(
    run_dir: pathlib.Path, folder: pathlib.Path, *, name: str, step: int, average: bool = False
) -> list[str]:
    """Writes the card of a run's checkpoint into an export, in both languages.

    `name` is what the card calls the model. Where `folder` has a README.md that twjax hasn't
    written (the base model's), it stays, and the card is MODEL_CARD.md. Returns a line that says
    what was written. Raises ValueError for a folder that is no run directory, and FileExistsError
    where neither name is free.
    """
    facts = gather(run_dir, name, step, average=average)
    free = [names for names in _NAMES if all(_is_ours(folder / name) for name in names.values())]
    if not free:
        raise FileExistsError(f"{folder}: both README.md and MODEL_CARD.md are somebody else's.")
    names = free[0]
    for language, file in names.items():
        with atomic_writer(folder / file) as out:
            out.write(card(facts, language, names))
    kept = "" if names is _NAMES[0] else " (README.md came with the original and stays)"
    return [f"{', '.join(names.values())}: the model card{kept}"]


def _is_ours(path: pathlib.Path) -> bool:
    try:
        return path.read_text(encoding="utf-8").rstrip().endswith(_MARK)
    except FileNotFoundError:
        return True
    except ValueError:
        return False


def card(facts: Facts, language: str, files: Mapping[str, str] = _NAMES[0]) -> str:
    """Returns the Markdown of a card; `language` is "en" or "zh-TW"."""
    words = WORDS[language]
    other = next(file for code, file in files.items() if code != language)
    parts = [_metadata(facts), f"# {facts.name}", words.other.format(other), _lead(facts, words)]
    if facts.base is not None:
        parts += [f"## {words.base}", _base(facts.base, words)]
    parts += [f"## {words.data}", *_data(facts, words)]
    parts += [f"## {words.training}", _training(facts, words)]
    parts += [f"## {words.evaluation}", *_evaluation(facts, words)]
    parts += [f"## {words.forgotten}", *_forgotten(facts, words)]
    parts += [f"## {words.use}", words.use_text]
    parts += [f"## {words.load}", _loading(facts)]
    parts += [f"## {words.versions}", _versions(facts, words)]
    parts += [words.written.format(__version__), _MARK]
    return "\n\n".join(parts) + "\n"


def _metadata(facts: Facts) -> str:
    """The block that the hub reads; what isn't recorded is left out, or "unknown"."""
    fields: dict[str, str | list[str]] = {}
    if facts.languages:
        fields["language"] = facts.languages
    fields["license"] = (facts.base.license if facts.base else "") or "unknown"
    if facts.base and facts.base.hub_id:
        fields["base_model"] = facts.base.hub_id
    if facts.read:
        fields["datasets"] = list(facts.read)
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
    base = facts.base.hub_id or facts.base.name or words.unknown
    text = words.lead.format(base=base, **given)
    if facts.base.through:
        text += " " + words.through.format(", ".join(facts.base.through))
    return text


def _base(base: Base, words: Words) -> str:
    name = base.hub_id or base.name or words.unknown
    rows = [(words.base_name, name), (words.base_license, base.license or words.unknown)]
    return _table((words.setting, words.value), rows)


def _data(facts: Facts, words: Words) -> list[str]:
    rows, looked, unknown = [], [], []
    for task, read in sorted(facts.read.items(), key=lambda pair: -pair[1].rows):
        corpus = facts.corpora.get(task)
        licences = _groups(corpus.licenses if corpus else None, words)
        sources = _groups(corpus.sources if corpus else None, words)
        sizes = (corpus.documents, corpus.bytes) if corpus else (None, None)
        numbers = (*sizes, read.rows, read.tokens)
        counts = [words.unknown if n is None else f"{n:,}" for n in numbers]
        rows.append((task, licences, sources, *counts, f"{read.share:.1%}"))
        if corpus is None or corpus.contaminated is None:
            unknown.append(task)
        else:
            looked.append(words.contaminated.format(name=task, count=f"{corpus.contaminated:,}"))
    head = (words.corpus, words.license, words.source, words.documents, words.bytes, words.rows,
            words.tokens, words.share)  # fmt: skip
    if not rows:
        return [words.unknown]
    if unknown:
        looked.append(words.not_looked.format(names=", ".join(unknown)))
    return [_table(head, rows), words.data_note, "\n".join(f"- {line}" for line in looked)]


def _groups(groups: Mapping[str, tuple[int, int]] | None, words: Words) -> str:
    if not groups:
        return words.unknown
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{name} ({documents:,})" for name, (documents, _) in groups.items())


def _training(facts: Facts, words: Words) -> str:
    rows = [(words.settings.get(name, name), value) for name, value in _settings(facts, words)]
    return _table((words.setting, words.value), rows)


def _settings(facts: Facts, words: Words) -> Iterable[tuple[str, str]]:
    tokens, config = facts.run.tokens_at(facts.step), facts.run.settings.run
    yield "steps", f"{facts.step:,}"
    yield "tokens", f"{tokens:,.0f}" if tokens > 0 else words.unknown
    if config is None:
        return
    reading = config.reading
    yield "batch", _series(f"{rows:,}" for _, rows in reading.batches)
    yield "row length", _series(" + ".join(map(str, lengths_of(n))) for _, n in reading.lengths)
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
    return " → ".join(values)


def _evaluation(facts: Facts, words: Words) -> list[str]:
    parts = []
    if facts.changes:
        rows = [
            (c.task, fixed(c.before), fixed(c.after), change_percent(c.relative))
            for c in facts.changes
        ]
        head = (words.domain, words.before, words.after, words.change)
        parts += [words.evaluation_note, _table(head, rows)]
    if facts.measured:
        rows = [
            (words.measures.get(of.title, of.title), task, of.axis.form(first), of.axis.form(last))
            for of, task, first, last in facts.measured
        ]
        parts.append(_table((words.measure, "", words.before, words.after), rows))
    if facts.average and parts:
        parts.insert(0, words.average_note)
    return [*parts, *_not_measured(facts, words)]


def _not_measured(facts: Facts, words: Words) -> list[str]:
    seen = {measure.title for measure, *_ in facts.measured}
    missing = [words.measures.get(m.title, m.title) for m in MEASURES if m.title not in seen]
    if not facts.changes:
        missing.insert(0, "bits per byte")
    return [words.none_measured.format(_listed(missing, words))] if missing else []


def _listed(names: Sequence[str], words: Words) -> str:
    return ("、" if words is WORDS["zh-TW"] else "; ").join(names)


def _forgotten(facts: Facts, words: Words) -> list[str]:
    if not facts.changes:
        return [words.unknown]
    worse = [f"{c.task} {change_percent(c.relative)}" for c in facts.changes if c.forgotten][::-1]
    parts = [words.forgotten_some.format(", ".join(worse)) if worse else words.forgotten_none]
    if facts.used:
        used = ", ".join(f"{task} {part:.0%}" for task, part in facts.used.items())
        parts.append(words.used.format(used))
    return parts


def _loading(facts: Facts) -> str:
    kind = "AutoModelForSeq2SeqLM" if _both(facts) else "AutoModelForCausalLM"
    return (
        f"```python\nfrom transformers import AutoTokenizer, {kind}\n\n"
        f'model = {kind}.from_pretrained("{facts.name}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{facts.name}")\n```'
    )


def _versions(facts: Facts, words: Words) -> str:
    flat = {k: v for k, v in facts.run.versions.items() if isinstance(v, (str, int))}
    named = [name for name in ("twjax", "python", "jax", "flax", "optax") if name in flat]
    return ", ".join(f"{name} {flat[name]}" for name in named) or words.unknown


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: str) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
