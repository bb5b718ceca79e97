"""SeqIO mixtures of the tasks here, for pipelines that sample examples as seqio does.

A seqio rate weighs examples; `Mixture.stages` in a run's configuration weighs tokens of cached
rows, and that is what `twjax train` reads.
"""

import seqio

import tasks.general
import tasks.taiwan  # noqa: F401

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
