"""SeqIO mixtures of the tasks here, for pipelines that sample examples as seqio does.

A seqio rate weighs examples; `Mixture.stages` in a run's configuration weighs tokens of cached
rows, and that is what `twjax train` reads. The files of `configs/runs/systems/` have the numbers
that the functions here give.
"""

from collections.abc import Mapping

import seqio

import tasks.general
import tasks.supervised
import tasks.taiwan  # noqa: F401
from tasks import mc4
from twjax.data.mixture import rates

# mT5 draws a language with probability |L|^0.3 (Xue et al. 2021, section 3.1).
MT5_TEMPERATURE = 1 / 0.3

# The most examples of a labelled task that count (Aribandi et al. 2022), and how many examples of
# denoising there are to one of a labelled task.
EXT5_MAXIMUM = 300_000
EXT5_RATIO = 2.0

# Training examples of the labelled tasks, in the records that docs/tasks.md names.
EXAMPLES = {
    "tw_pydocs_from_en": 3_531,
    "en_pydocs_from_tw": 3_531,
    "tw_pydocs_from_cn": 3_242,
    "tw_mozilla_from_en": 1_713,
    "en_mozilla_from_tw": 1_713,
    "tw_mozilla_from_cn": 1_563,
    "tw_vim_from_en": 859,
    "en_vim_from_tw": 859,
    "tw_vim_from_cn": 689,
    "tw_laws_from_en": 14_863,
    "en_laws_from_tw": 14_863,
    "tw_gsd_entities": 2_223,
    "tw_articles_title": 520,
    "tw_articles_summary": 520,
    "tw_taigi_reading": 56_003,
    "tw_taigi_han": 56_003,
}


def mt5_rates(pages: Mapping[str, int]) -> dict[str, float]:
    """Returns the rate of each language's task from its number of pages."""
    return {
        mc4.task_name(language): rate
        for language, rate in rates(pages, temperature=MT5_TEMPERATURE).items()
    }


def ext5_rates(
    denoising: str,
    examples: Mapping[str, int],
    ratio: float = EXT5_RATIO,
    maximum: int = EXT5_MAXIMUM,
) -> dict[str, float]:
    """Returns rates of `ratio` parts of `denoising` to one part of all labelled tasks together.

    Among these the rates are proportional to their examples, counted up to `maximum` (Raffel et
    al. 2020, section 3.5.2).
    """
    if ratio <= 0:
        raise ValueError(f"ext5_rates: ratio ({ratio}) must be positive.")
    labelled = rates(examples, maximum=maximum)
    total = sum(labelled.values())
    return {denoising: ratio} | {task: rate / total for task, rate in labelled.items()}


# Half Taiwan's text, a quarter converted, the rest replay of what the base model has seen.
seqio.MixtureRegistry.add(
    "tw_continual",
    [
        ("tw_wiki40b", 0.5),
        ("tw_mc4_converted", 0.25),
        ("en_c4", 0.2),
        ("cn_mc4", 0.05),
    ],
)

seqio.MixtureRegistry.add(
    "tw_encyclopedias",
    [("tw_wiki40b", 0.6), ("en_wiki40b", 0.25), ("cn_wiki40b", 0.15)],
)

seqio.MixtureRegistry.add(
    "tw_prefix_lm",
    [("tw_wiki40b_prefix_lm", 0.7), ("en_c4_prefix_lm", 0.3)],
)

seqio.MixtureRegistry.add("mt5", list(mt5_rates(mc4.PAGES).items()))

seqio.MixtureRegistry.add("tw_ext5", list(ext5_rates("en_c4_span_corruption", EXAMPLES).items()))
