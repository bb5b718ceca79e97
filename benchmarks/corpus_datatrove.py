"""datatrove's side of `corpus.py` and `quality.py`; run in an environment that has datatrove.

    python corpus_datatrove.py FILE [--defaults]

FILE is JSON Lines of {"text": …}. Prints one JSON object: CPU seconds in the filters, by filter,
and for each document the rule that drops it, or "". The filters have FineWeb-2's settings for
Mandarin (`cmn_Hani.yml` and `fineweb-2-pipeline.py` of huggingface/fineweb-2), or datatrove's own.
"""

from __future__ import annotations

import json
import sys
import time

from datatrove.data import Document  # type: ignore
from datatrove.pipeline.filters import (  # type: ignore
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

LANGUAGE = "cmn_Hani"
STOP_WORDS = [*"的年在月是和日了於·為有被人中为他與後也而由"]


def filters(defaults: bool) -> list[tuple[str, object]]:
    if defaults:
        return [
            ("repetition", GopherRepetitionFilter(language=LANGUAGE)),
            ("quality", GopherQualityFilter(language=LANGUAGE)),
        ]
    repetition = GopherRepetitionFilter(
        dup_line_frac=0.287,
        dup_para_frac=0,
        dup_line_char_frac=0,
        dup_para_char_frac=0,
        top_n_grams=((2, 0.256), (3, 0.201), (4, 0.171)),
        dup_n_grams=((5, 0.198), (6, 0.182), (7, 0.167), (8, 0.154), (9, 0.14), (10, 0.127)),
        language=LANGUAGE,
    )
    fineweb = FineWebQualityFilter(
        short_line_thr=999,
        char_duplicates_ratio=0.1,
        line_punct_thr=0.106,
        new_line_ratio=0.178,
        language=LANGUAGE,
    )
    gopher = GopherQualityFilter(
        min_avg_word_length=1,
        max_avg_word_length=5,
        max_non_alpha_words_ratio=0.735,
        min_stop_words=2,
        stop_words=STOP_WORDS,
        language=LANGUAGE,
    )
    return [("repetition", repetition), ("fineweb", fineweb), ("quality", gopher)]


def main() -> int:
    chain = filters("--defaults" in sys.argv)
    for _, each in chain:  # Loads jieba's dictionary before the clock runs.
        each.filter(Document(text="這是一句話。", id="warm"))  # type: ignore[attr-defined]
    seconds = dict.fromkeys((name for name, _ in chain), 0.0)
    dropped = []
    with open(sys.argv[1], encoding="utf-8") as file:
        documents = [Document(text=json.loads(line)["text"], id="x") for line in file]
    for document in documents:
        reason = ""
        for name, each in chain:
            start = time.process_time()
            result = each.filter(document)  # type: ignore[attr-defined]
            seconds[name] += time.process_time() - start
            if result is not True and not (isinstance(result, tuple) and result[0]):
                reason = result[1] if isinstance(result, tuple) else name
                break
        dropped.append(reason)
    print(json.dumps({"seconds": seconds, "dropped": dropped}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
