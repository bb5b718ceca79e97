"""Annotations of sound under water, of satellite and of aerial images, as text.

NAME_text are descriptions with the loss on all of them, NAME_answers questions with the loss on
the answers. Files are sought in $TWJAX_RECORDS_DIR: folders named after their form below
`observations`, in each a `collection.json` with what the form doesn't say, the licence above all.
`observations/places.geojson` is the policy of sensitive places; without it nothing is read.
`docs/tasks.md` has the forms. Images and sounds themselves aren't read.
"""

import functools

import seqio

from tasks import observation_wordings as wordings
from twjax.data.preprocessors_observations import add_observations
from twjax.data.text_metrics import character_f1, exact_match

HELD_OUT = 0.1
PLACES = "observations/places.geojson"

_add = functools.partial(
    add_observations,
    documents=wordings.DOCUMENTS,
    questions=wordings.QUESTIONS,
    templates=wordings.ANSWERS,
    metrics=[exact_match, character_f1],
    validation=HELD_OUT,
    places=PLACES,
)

FORMS = ("stac", "ships", "raven", "dota", "xview", "captions", "skyscript")

for form in FORMS:
    _add(f"tw_{form}", f"observations/{form}", form)

# Calls of blue whales in the Lower St. Lawrence Seaway (mila-aia/whale-call-detection, MIT). The
# times are those of seismic records, which are kept in UTC.
_add(
    "tw_whale_calls",
    "whale_call_annotations.jsonl.gz",
    "whale_calls",
    stated={
        "label": "blue whale",
        "zone": "UTC",
        "platform": "加拿大聖羅倫斯河下游岸上",
        "sensor": "地震儀",
    },
)

NAMES = (*(f"tw_{form}" for form in FORMS), "tw_whale_calls")
TEXTS = tuple(f"{name}_text" for name in NAMES)
ANSWERS = tuple(f"{name}_answers" for name in NAMES)

# Every task as often as the others; `Mixture.stages` sets shares of tokens for `train`.
seqio.MixtureRegistry.add("tw_observations_text", list(TEXTS), default_rate=1.0)
seqio.MixtureRegistry.add("tw_observations_answers", list(ANSWERS), default_rate=1.0)
