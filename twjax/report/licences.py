"""The table of what a run read, from where, under which licences."""

from __future__ import annotations

from twjax.report.frame import clean
from twjax.report.provenance import Consumed, Corpus, consumed, corpora_of
from twjax.report.read import RunLog
from twjax.report.scale import compact

_UNKNOWN = "not recorded"


def section(run: RunLog) -> str:
    """Each task with its licences, size, and how much of it was read; the largest share first."""
    read = consumed(run)
    known = {corpus.name: corpus for corpus in corpora_of(run)}
    if not read and not known:
        return ""
    order = sorted(read, key=lambda task: -read[task].rows)
    order += [name for name in known if name not in read]
    rows = "".join(_row(name, known.get(name), read.get(name)) for name in order)
    unchecked = [name for name, of in known.items() if of.read is None and not of.problem]
    note = f" {_UNKNOWN.capitalize()} whether built anew since: {', '.join(unchecked)}."
    return (
        '<h3>Data and licences</h3><div class="card"><table><thead><tr><th>data</th><th>licence'
        '</th><th class="n">documents</th><th class="n">bytes</th><th class="n">rows read</th>'
        '<th class="n">tokens read</th><th class="n">share</th><th class="n">planned</th></tr>'
        f'</thead><tbody>{rows}</tbody></table></div><p class="note">Tokens are rows times their '
        "length, padding included. Licences and sizes are those of the corpora's manifests."
        f"{clean(note) if unchecked else ''}</p>"
    )


def _row(name: str, corpus: Corpus | None, read: Consumed | None) -> str:
    if corpus is None:
        licences = f'<span class="soft">{_UNKNOWN}: no folder of Data.corpora</span>'
    elif corpus.problem:
        licences = f'<span class="soft">{_UNKNOWN}: {clean(corpus.problem)}</span>'
    elif not corpus.licenses:
        licences = f'<span class="soft">{_UNKNOWN} in its manifest</span>'
    else:
        licences = "<br>".join(
            f'{clean(licence)} <span class="soft">{documents:,} documents</span>'
            for licence, (documents, _) in corpus.licenses.items()
        )
    sizes = (corpus.documents, corpus.bytes) if corpus else (None, None)
    cells = "".join(f'<td class="n">{_count(size)}</td>' for size in sizes)
    if read is None:
        cells += '<td class="soft" colspan="4">not trained on</td>'
    else:
        planned = "–" if read.planned is None else f"{read.planned:.1%}"
        cells += (
            f'<td class="n">{read.rows:,}</td><td class="n">{_count(read.tokens)}</td>'
            f'<td class="n">{read.share:.1%}</td><td class="n">{planned}</td>'
        )
    return f'<tr><th scope="row">{clean(name)}</th><td class="words">{licences}</td>{cells}</tr>'


def _count(value: int | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if value < 10_000 else clean(compact(value))
