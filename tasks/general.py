"""General English and Chinese text: what a model is trained on before and beside Taiwan's.

Wiki-40B: Guo et al. 2020 (CC BY-SA 3.0). C4: Raffel et al. 2020, section 2.2 (ODC-BY); mC4: Xue et
al. 2021, section 3.1. TFDS downloads or prepares them at first use; see its catalogue for what
each needs.
"""

import functools

from twjax.data.preprocessors import (
    clean_wiki40b,
    language_model,
    prefix_lm,
    span_corruption,
)
from twjax.data.sources import TfdsSource, add_task
from twjax.data.vocabulary import features

# Enough for span corruption of 4,096 inputs.
SENTINELS = 256

WIKI40B_SPLITS = {"train": "train", "validation": "validation", "test": "test"}

WIKI40B_EN = TfdsSource("wiki40b/en:1.3.0", WIKI40B_SPLITS)
WIKI40B_CN = TfdsSource("wiki40b/zh-cn:1.3.0", WIKI40B_SPLITS)
C4_EN = TfdsSource("c4/en:3.1.0", {"train": "train", "validation": "validation"})
# All languages are splits of one configuration; its Chinese is of either script.
MC4_ZH = TfdsSource("c4/multilingual:3.1.0", {"train": "zh", "validation": "zh-validation"})

add_task(
    "en_wiki40b",
    source=WIKI40B_EN,
    preprocessors=[clean_wiki40b, language_model],
    output_features=features("targets"),
)

add_task(
    "en_c4",
    source=C4_EN,
    preprocessors=[language_model],
    output_features=features("targets"),
)

add_task(
    "en_c4_prefix_lm",
    source=C4_EN,
    preprocessors=[functools.partial(prefix_lm, key="url")],
    output_features=features("inputs", "targets"),
)

add_task(
    "en_c4_span_corruption",
    source=C4_EN,
    preprocessors=[functools.partial(span_corruption, key="url")],
    output_features=features("inputs", "targets", extra_ids=SENTINELS),
)

add_task(
    "cn_wiki40b",
    source=WIKI40B_CN,
    preprocessors=[clean_wiki40b, language_model],
    output_features=features("targets"),
)

add_task(
    "cn_mc4",
    source=MC4_ZH,
    preprocessors=[language_model],
    output_features=features("targets"),
)
