"""Labelled data as tasks: questions and answers in Taiwan's wording, the loss on answers only.

Names are what the answer is in, then the source. Files are sought in $TWJAX_RECORDS_DIR under the
names here; `docs/tasks.md` has their form, source and licence. `twjax.data.add_records` registers
others.

Two kinds are for evaluation only and have no training split: public benchmarks (DRCD, NTREX-128,
examination questions), and dictionaries of the Ministry of Education, whose licence (CC BY-ND 3.0
TW) permits no adapted versions.
"""

import functools

import seqio

from tasks import wordings
from twjax.data import readers
from twjax.data.preprocessors_supervised import add_records
from twjax.data.text_metrics import accuracy, character_f1, entity_f1, exact_match, rouge_l
from twjax.data.translation_metrics import bleu, bleu_sacrebleu_zh, chrf

EVALUATION_ONLY = 1.0

# Enough examples of small files for a figure.
HELD_OUT = 0.1

TRANSLATION = (bleu, chrf)
INTO_CHINESE = (bleu, bleu_sacrebleu_zh, chrf)

en_to_tw = functools.partial(readers.translations, source="en", target="zh_tw")
tw_to_en = functools.partial(readers.translations, source="zh_tw", target="en")
cn_to_tw = functools.partial(readers.translations, source="zh_cn", target="zh_tw")

# Python's documentation (CC0-1.0), Mozilla's site (MPL-2.0), Vim's messages (Vim License): three
# languages each.
for source, path in (
    ("pydocs", "pydocs_pairs_en_zhTW_zhCN.jsonl.gz"),
    ("mozilla", "mozilla_www_pairs.jsonl.gz"),
    ("vim", "vim_po_pairs.jsonl.gz"),
):
    add_records(f"tw_{source}_from_en", path, en_to_tw, wordings.EN_TO_TW, INTO_CHINESE, HELD_OUT)
    add_records(f"en_{source}_from_tw", path, tw_to_en, wordings.TW_TO_EN, TRANSLATION, HELD_OUT)
    add_records(f"tw_{source}_from_cn", path, cn_to_tw, wordings.CN_TO_TW, INTO_CHINESE, HELD_OUT)

# Laws and their official translations (public domain); articles of the same date only.
LAWS = "tw_laws_parallel_en_zhTW.jsonl.gz"

add_records(
    "tw_laws_from_en",
    LAWS,
    functools.partial(en_to_tw, same_dates=True),
    wordings.EN_TO_TW,
    INTO_CHINESE,
    HELD_OUT,
)

add_records(
    "en_laws_from_tw",
    LAWS,
    functools.partial(tw_to_en, same_dates=True),
    wordings.TW_TO_EN,
    TRANSLATION,
    HELD_OUT,
)

# Universal NER on the Chinese GSD treebank (Mayhew et al. 2024; CC BY-SA 4.0).
add_records(
    "tw_gsd_entities",
    "uner_gsd_ner.jsonl.gz",
    readers.entities,
    wordings.ENTITIES,
    [entity_f1],
    HELD_OUT,
)

# Taiwan.md (CC BY-SA 4.0), largely written with language models.
ARTICLES = "taiwan_md_zh.jsonl.gz"

add_records(
    "tw_articles_title",
    ARTICLES,
    functools.partial(readers.headlines, answer="title"),
    wordings.TITLES,
    [rouge_l],
    HELD_OUT,
)

add_records(
    "tw_articles_summary",
    ARTICLES,
    functools.partial(readers.headlines, answer="summary"),
    wordings.SUMMARIES,
    [rouge_l],
    HELD_OUT,
)

# Word lists of MozTW's CC0 sentences: Taigi in Han characters and in Tâi-lô.
TAIGI_WORDS = "moztw_cc0_nanTW.jsonl.gz"

add_records(
    "tw_taigi_reading",
    TAIGI_WORDS,
    functools.partial(readers.romanised, answer="reading"),
    wordings.TAIGI_READINGS,
    [exact_match, character_f1],
    HELD_OUT,
)

add_records(
    "tw_taigi_han",
    TAIGI_WORDS,
    functools.partial(readers.romanised, answer="han"),
    wordings.TAIGI_HAN,
    [exact_match, character_f1],
    HELD_OUT,
)

# DRCD (Shao et al. 2018; CC BY-SA 3.0).
add_records(
    "tw_drcd_answers",
    "drcd_dev.jsonl.gz",
    readers.questions,
    wordings.QUESTIONS,
    [exact_match, character_f1],
    EVALUATION_ONLY,
)

# Questions of the civil service examinations (public domain).
add_records(
    "tw_civil_exam",
    "tw_civil_exam_mcq.jsonl.gz",
    readers.choices,
    wordings.CHOICES,
    [accuracy],
    EVALUATION_ONLY,
)

# NTREX-128 (Federmann et al. 2022; CC BY-SA 4.0).
NEWS = "ntrex_news_pairs.jsonl.gz"

add_records("tw_ntrex_from_en", NEWS, en_to_tw, wordings.EN_TO_TW, INTO_CHINESE, EVALUATION_ONLY)
add_records("en_ntrex_from_tw", NEWS, tw_to_en, wordings.TW_TO_EN, TRANSLATION, EVALUATION_ONLY)
add_records("tw_ntrex_from_cn", NEWS, cn_to_tw, wordings.CN_TO_TW, INTO_CHINESE, EVALUATION_ONLY)

# Dictionaries of Taigi and Hakka (Ministry of Education; CC BY-ND 3.0 TW).
for language, path, reader, to_mandarin, from_mandarin in (
    (
        "taigi",
        "moe_taigi_dict.jsonl.gz",
        readers.taigi_sentences,
        wordings.TAIGI_TO_MANDARIN,
        wordings.MANDARIN_TO_TAIGI,
    ),
    (
        "hakka",
        "moe_hakka_dict.jsonl.gz",
        readers.hakka_sentences,
        wordings.HAKKA_TO_MANDARIN,
        wordings.MANDARIN_TO_HAKKA,
    ),
):
    add_records(
        f"tw_moe_from_{language}",
        path,
        functools.partial(reader, answer="mandarin"),
        to_mandarin,
        INTO_CHINESE,
        EVALUATION_ONLY,
    )
    add_records(
        f"tw_moe_to_{language}",
        path,
        functools.partial(reader, answer=language),
        from_mandarin,
        INTO_CHINESE,
        EVALUATION_ONLY,
    )

TRAINING = (
    "tw_pydocs_from_en",
    "en_pydocs_from_tw",
    "tw_pydocs_from_cn",
    "tw_mozilla_from_en",
    "en_mozilla_from_tw",
    "tw_mozilla_from_cn",
    "tw_vim_from_en",
    "en_vim_from_tw",
    "tw_vim_from_cn",
    "tw_laws_from_en",
    "en_laws_from_tw",
    "tw_gsd_entities",
    "tw_articles_title",
    "tw_articles_summary",
    "tw_taigi_reading",
    "tw_taigi_han",
)

# Every training task as often as the others; `Mixture.stages` sets shares of tokens for `train`.
seqio.MixtureRegistry.add("tw_supervised", list(TRAINING), default_rate=1.0)
