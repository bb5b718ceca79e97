"""What the models wrote at evaluations, side by side by prompt; text is shown as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twjax.report.frame import clean
from twjax.report.read import RunLog, Sample
from twjax.report.summary import Comparison

SAMPLES_SHOWN = 6
PROMPTS_SHOWN = 20
SAMPLE_CHARACTERS = 1_200
# Of several runs, so many evaluations are shown before the last.
EARLIER_SHOWN = 3


def by_prompt(samples: Iterable[Sample]) -> dict[str, dict[int, str]]:
    """Groups samples: prompt → step → text, in the order of the logs."""
    grouped: dict[str, dict[int, str]] = {}
    for sample in samples:
        grouped.setdefault(sample.prompt, {})[sample.step] = sample.text
    return grouped


def samples_section(run: RunLog) -> str:
    """What the model wrote at each evaluation, side by side by prompt."""
    grouped = by_prompt(run.samples)
    if not grouped:
        return ""
    parts = ["<h3>Samples</h3>"]
    for prompt, texts in list(grouped.items())[:PROMPTS_SHOWN]:
        steps = list(texts)
        last = len(steps) - 1
        shown = min(SAMPLES_SHOWN, len(steps))
        picked = sorted({steps[round(i * last / max(1, shown - 1))] for i in range(shown)})
        cells = [(f"step {step:,}", texts[step]) for step in picked]
        more = (
            f"{len(picked)} of {len(steps)} evaluations are shown."
            if len(picked) < len(steps)
            else ""
        )
        parts.append(sample_row(prompt, cells, more))
    if len(grouped) > PROMPTS_SHOWN:
        parts.append(
            f'<p class="note">{PROMPTS_SHOWN} of {len(grouped)} prompts are shown; all are in '
            f"{clean(run.path / 'samples')}.</p>"
        )
    return "".join(parts)


def sample_row(
    prompt: str,
    cells: Sequence[tuple[str, str]],
    note: str = "",
    before: Sequence[Sequence[tuple[str, str]]] = (),
) -> str:
    """One prompt and its continuations side by side; `before` are earlier ones, folded."""
    title = clean(prompt) if prompt.strip() else '<span class="soft">(no prompt)</span>'
    note_html = f'<p class="note">{clean(note)}</p>' if note else ""
    earlier = ""
    if before:
        rows = "".join(map(_cells, before))
        earlier = f"<details><summary>Earlier</summary><div>{rows}</div></details>"
    return (
        f'<div class="card"><p class="prompt" dir="auto" lang="zh-Hant-TW">{title}</p>'
        f"{_cells(cells)}{note_html}{earlier}</div>"
    )


def _cells(cells: Sequence[tuple[str, str]]) -> str:
    shown = []
    for heading, text in cells:
        if len(text) > SAMPLE_CHARACTERS:
            rest = len(text) - SAMPLE_CHARACTERS
            text = f"{text[:SAMPLE_CHARACTERS]}… ({rest:,} more characters)"
        shown.append(
            f'<div><h4>{clean(heading)}</h4><pre dir="auto" lang="zh-Hant-TW">{clean(text)}</pre>'
            "</div>"
        )
    return f'<div class="samples">{"".join(shown)}</div>'


def across_runs(comparison: Comparison) -> str:
    """What each run wrote, side by side by prompt: at its end, and folded, before."""
    texts: dict[str, dict[str, dict[int, str]]] = {}
    for run in comparison.runs:
        for prompt, steps in by_prompt(run.samples).items():
            if run is comparison.baseline:
                # Its steps are none of the others'.
                steps = {max(steps): steps[max(steps)]}
            texts.setdefault(prompt, {})[run.name] = steps
    shared = {prompt: of for prompt, of in texts.items() if len(of) > 1}
    if not shared:
        return ""
    rows = []
    for prompt, of in list(shared.items())[:PROMPTS_SHOWN]:
        last = [(f"{name}, step {max(steps):,}", steps[max(steps)]) for name, steps in of.items()]
        rows.append(sample_row(prompt, last, before=_earlier(of)))
    if len(shared) > PROMPTS_SHOWN:
        rows.append(f'<p class="note">{PROMPTS_SHOWN} of {len(shared)} prompts are shown.</p>')
    return f"<h3>What the runs write</h3>{''.join(rows)}"


def _earlier(of: dict[str, dict[int, str]]) -> list[list[tuple[str, str]]]:
    """Returns rows of what runs wrote at evaluations that two of them have, before their ends."""
    found: dict[int, list[tuple[str, str]]] = {}
    for name, steps in of.items():
        for step, text in steps.items():
            if step != max(steps):
                found.setdefault(step, []).append((f"{name}, step {step:,}", text))
    common = [found[step] for step in sorted(found) if len(found[step]) > 1]
    last = len(common) - 1
    picked = {round(i * last / max(1, EARLIER_SHOWN - 1)) for i in range(EARLIER_SHOWN)}
    return [common[i] for i in sorted(picked) if 0 <= i <= last]
