"""Self-supervised objectives beyond those of `tasks.taiwan`: UL2's denoisers, fill-in-the-middle.

`…_ul2` is for decoders, `…_ul2_sides` for encoder-decoders. A task of your own text under one of
them is `add_corpus(name, folder, preprocessors=[…], output_features=…)`.
"""

import functools

from tasks.general import C4_EN, SENTINELS
from tasks.taiwan import WIKI40B_TW
from twjax.data.preprocessors import clean_wiki40b
from twjax.data.preprocessors_fim import fill_in_the_middle
from twjax.data.preprocessors_ul2 import ul2
from twjax.data.sources import add_task
from twjax.data.vocabulary import features

for name, shared_row in (("ul2", True), ("ul2_sides", False)):
    add_task(
        f"tw_wiki40b_{name}",
        source=WIKI40B_TW,
        preprocessors=[
            clean_wiki40b,
            functools.partial(ul2, key="wikidata_id", shared_row=shared_row),
        ],
        output_features=features("inputs", "targets", extra_ids=SENTINELS),
    )
    add_task(
        f"en_c4_{name}",
        source=C4_EN,
        preprocessors=[functools.partial(ul2, key="url", shared_row=shared_row)],
        output_features=features("inputs", "targets", extra_ids=SENTINELS),
    )

add_task(
    "tw_wiki40b_fim",
    source=WIKI40B_TW,
    preprocessors=[clean_wiki40b, functools.partial(fill_in_the_middle, key="wikidata_id")],
    output_features=features("targets", extra_ids=3),
)

add_task(
    "en_c4_fim",
    source=C4_EN,
    preprocessors=[functools.partial(fill_in_the_middle, key="url")],
    output_features=features("targets", extra_ids=3),
)
