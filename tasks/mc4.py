"""Span corruption of mC4's languages: what mT5 was trained on (Xue et al. 2021, section 3.1).

mC4: 101 languages, six of them in Latin script too, of 71 dumps of Common Crawl (ODC-BY). Names
begin with mC4's own code of the language: `zh` is Chinese of either script.
"""

import functools

from tasks.general import SENTINELS
from twjax.data.preprocessors import span_corruption
from twjax.data.sources import TfdsSource, add_task
from twjax.data.vocabulary import features

# Training pages by language in c4/multilingual 3.0.1, the version that mT5 read (TFDS's catalogue).
# The tasks read 3.1.0, which TFDS still makes; it has more dumps.
PAGES = {
    "af": 2_152_243, "am": 162_870, "ar": 53_256_040, "az": 5_285_720, "be": 1_742_030,
    "bg": 23_409_799, "bg_Latn": 162_461, "bn": 7_444_098, "ca": 14_492_899, "ceb": 351_894,
    "co": 494_913, "cs": 60_149_680, "cy": 4_131_915, "da": 28_777_331, "de": 397_006_993,
    "el": 41_753_736, "el_Latn": 449_943, "en": 3_079_081_989, "eo": 500_048, "es": 416_057_992,
    "et": 6_941_360, "eu": 1_555_887, "fa": 53_927_287, "fi": 26_842_650, "fil": 2_102_197,
    "fr": 332_674_575, "fy": 1_104_359, "ga": 465_670, "gd": 322_404, "gl": 4_549_465,
    "gu": 631_600, "ha": 247_479, "haw": 84_312, "hi": 18_507_273, "hi_Latn": 626_154,
    "hmn": 295_549, "ht": 269_174, "hu": 36_819_508, "hy": 2_401_949, "id": 69_625_551,
    "ig": 92_909, "is": 2_069_293, "it": 186_404_508, "iw": 12_334_609, "ja": 87_337_884,
    "ja_Latn": 533_516, "jv": 581_528, "ka": 2_295_551, "kk": 2_392_401, "km": 756_612,
    "kn": 1_056_849, "ko": 15_602_947, "ku": 298_389, "ky": 995_539, "la": 1_674_463,
    "lb": 2_740_336, "lo": 141_776, "lt": 11_274_295, "lv": 6_414_223, "mg": 345_040,
    "mi": 101_169, "mk": 2_058_417, "ml": 2_044_981, "mn": 2_054_674, "mr": 7_774_331,
    "ms": 13_180_647, "mt": 2_261_303, "my": 813_530, "ne": 2_942_785, "nl": 96_210_458,
    "no": 25_402_139, "ny": 174_696, "pa": 363_399, "pl": 126_164_277, "ps": 335_452,
    "pt": 169_239_084, "ro": 45_738_857, "ru": 755_585_265, "ru_Latn": 745_491, "sd": 743_057,
    "si": 534_759, "sk": 17_729_698, "sl": 8_499_456, "sm": 98_467, "sn": 326_392,
    "so": 893_012, "sq": 4_113_147, "sr": 3_398_483, "st": 66_837, "su": 280_719,
    "sv": 48_570_979, "sw": 985_654, "ta": 3_514_561, "te": 1_188_243, "tg": 1_280_757,
    "th": 15_463_131, "tr": 87_595_290, "uk": 38_556_465, "ur": 1_950_124, "uz": 796_416,
    "vi": 78_587_159, "xh": 69_048, "yi": 143_708, "yo": 46_214, "zh": 54_542_308,
    "zh_Latn": 373_664, "zu": 555_458,
}  # fmt: skip


def task_name(language: str) -> str:
    """Returns the name of a language's task."""
    return f"{language}_mc4_span_corruption"


for language in PAGES:
    split = language.replace("_", "-")
    add_task(
        task_name(language),
        source=TfdsSource(
            "c4/multilingual:3.1.0", {"train": split, "validation": f"{split}-validation"}
        ),
        preprocessors=[functools.partial(span_corruption, key="url")],
        output_features=features("inputs", "targets", extra_ids=SENTINELS),
    )
