"""Text in Taiwan's Traditional Chinese, written there or converted to its usage.

Wiki-40B renders one Chinese Wikipedia for each region (Guo et al. 2020, section 3); `zh-tw` is
Taiwan's rendering. Conversion is OpenCC's s2twp and applies to Simplified documents only.
"""

import functools

from tasks.general import MC4_ZH, SENTINELS, WIKI40B_CN, WIKI40B_SPLITS
from twjax.data.preprocessors import (
    clean_wiki40b,
    language_model,
    prefix_lm,
    span_corruption,
    to_taiwan,
)
from twjax.data.sources import TfdsSource, add_task
from twjax.data.vocabulary import features

WIKI40B_TW = TfdsSource("wiki40b/zh-tw:1.3.0", WIKI40B_SPLITS)

add_task(
    "tw_wiki40b",
    source=WIKI40B_TW,
    preprocessors=[clean_wiki40b, language_model],
    output_features=features("targets"),
)

add_task(
    "tw_wiki40b_prefix_lm",
    source=WIKI40B_TW,
    preprocessors=[clean_wiki40b, functools.partial(prefix_lm, key="wikidata_id")],
    output_features=features("inputs", "targets"),
)

add_task(
    "tw_wiki40b_span_corruption",
    source=WIKI40B_TW,
    preprocessors=[clean_wiki40b, functools.partial(span_corruption, key="wikidata_id")],
    output_features=features("inputs", "targets", extra_ids=SENTINELS),
)

add_task(
    "tw_wiki40b_from_cn",
    source=WIKI40B_CN,
    preprocessors=[clean_wiki40b, to_taiwan, language_model],
    output_features=features("targets"),
)

add_task(
    "tw_mc4_converted",
    source=MC4_ZH,
    preprocessors=[to_taiwan, language_model],
    output_features=features("targets"),
)
