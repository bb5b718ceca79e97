"""Examination questions planted in real text: which copies are found, and what is found wrongly.

    python benchmarks/contamination.py --data DIR [--work DIR] [--json FILE]

DIR holds the `.jsonl.gz` files. Each of the 1,857 questions of the civil service examinations is
planted in an excerpt of a transcript, once in each way: as it is, with other punctuation, width,
script or line ends, all of these at once, and reworded. `twjax tasks cache` makes rows of 256
tokens of them, `twjax tasks contamination` looks for the questions in the rows, and a second
`twjax tasks cache` removes the documents that hold one. Then the same for text in which nothing was
planted: of other countries, of Taiwan, and Taiwan's laws, which questions quote. WORK keeps what is
made, and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import pathlib
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import prepare

from twjax import storage
from twjax.corpus.conversion import opencc
from twjax.corpus.document import Document
from twjax.corpus.duplicates.items import read_set
from twjax.data.contamination import Screen, search_rows
from twjax.data.rows import RowReader
from twjax.data.spelt import Speller
from twjax.vocab.tokenizer_load import load_vocabulary

ITEMS, HOSTS = "tw_civil_exam_mcq.jsonl.gz", "tw_transcripts_cc0.jsonl.gz"
PIECES, ROW = 6_144, 256
# Text of the excerpt before and behind a planted question, in characters.
BEFORE, BEHIND = 300, 200
FOREIGN = ("pydocs_en", "react_en", "rustbook_en", "gutenberg_pp_en", "gutenberg_sh_en",
           "taiwan_md_en", "tw_transcripts_en_cc0", "taiwan_md_other_langs", "pydocs_zhCN",
           "react_zhCN", "rustbook_zhCN", "nuget_zhCN", "vue_zhCN", "tidb_zhCN")  # fmt: skip
TAIWAN = ("cofacts_replies", "cofacts_user_comments", "moztw_cc0_zhTW", "moztw_cc0_nanTW",
          "taiwan_md_zh", "tw_transcripts_cc0", "rustbook_zhTW", "nuget_zhTW", "pydocs_zhTW",
          "drcd_dev")  # fmt: skip
LAWS = ("tw_laws_zh",)

CONFIG = """
Run.steps = 1
Run.model = @Model()
Run.data = @Data()
Run.mesh = @Mesh()
Run.optimizer = @Optimizer()
Run.schedule = @Schedule()
Run.step = @Step()
Run.checkpoint = @Checkpoint()
Run.evaluation = @Evaluation()
Model.vocab_size = {pieces}
Model.num_layers = 1
Model.embed_dim = 8
Model.num_heads = 1
Model.num_kv_heads = 1
Model.head_dim = 8
Model.mlp_dim = 8
Data.cache = '{work}/cache'
Data.vocabulary = '{vocabulary}'
Data.corpora = {corpora!r}
Data.validation = 0.0
Data.seq_len = {row}
Data.batch_size = 1
Data.mixture = @Mixture()
Mixture.stages = ((0, {shares!r}),)
Schedule.kind = 'constant'
Schedule.peak = 1e-3
Step.loss_chunks = 1
Evaluation.tasks = ()
Evaluation.every = 1
Checkpoint.every = 1
"""

# What a person changes who words a question anew, the first that fits; longer ones first.
SYNONYMS = (
    ("下列敘述何者正確", "以下哪一項說法是對的"), ("下列敘述何者錯誤", "以下哪一項說法有誤"),
    ("下列何者正確", "以下哪個選項是對的"), ("下列何者錯誤", "以下哪個選項有誤"),
    ("下列何者", "以下哪一項"), ("之敘述", "的說法"), ("敘述", "說法"), ("關於", "就"),
    ("有關", "針對"), ("規定", "規範"), ("不得", "不可以"), ("應", "必須"), ("得", "可以"),
    ("之", "的"), ("及", "和"), ("或", "或者"), ("為", "是"), ("非", "並不是"), ("由", "交由"),
    ("於", "在"), ("依", "按照"), ("均", "都"), ("其", "它的"), ("者", "的人"), ("與", "跟"),
)  # fmt: skip
_PUNCTUATION = str.maketrans("，。？！：；「」『』（）、", ",.?!:;“”‘’()/")
_MARKS = re.compile(r"[^\w\s]")


def text_of(question: str, options: Mapping[str, str]) -> str:
    return "\n".join([question, *(f"({name}) {text}" for name, text in options.items())])


def wide(text: str) -> str:
    """Returns the text with ASCII in full width and full-width punctuation in half width."""
    text = text.translate(_PUNCTUATION)
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" and c.isalnum() else c for c in text)


def wrapped(text: str) -> str:
    """Returns the text in lines of 17 characters with line ends of Windows and indentation."""
    lines = (line[at : at + 17] for line in text.split("\n") for at in range(0, len(line), 17))
    return "\r\n　　".join(lines)


def reordered(record: Mapping[str, Any], rng: random.Random) -> dict[str, str]:
    texts = list(record["options"].values())
    rng.shuffle(texts)
    return dict(zip(record["options"], texts, strict=True))


def reworded(text: str) -> str:
    pattern = "|".join(re.escape(before) for before, _ in SYNONYMS)
    return re.sub(pattern, lambda match: dict(SYNONYMS)[match[0]], text)


def ways() -> dict[str, Callable[[Mapping[str, Any], random.Random], str]]:
    """Returns {kind: how a record is planted}; the first are copies, then near copies."""
    simplified, words = opencc.converter("t2s"), opencc.converter("tw2sp")

    def plain(record: Mapping[str, Any]) -> str:
        return text_of(record["question"], record["options"])

    return {
        "copy": lambda r, _: plain(r),
        "punctuation": lambda r, _: _MARKS.sub(" ", plain(r)),
        "width": lambda r, _: wide(plain(r)),
        "script": lambda r, _: simplified(plain(r)),
        "lines": lambda r, _: wrapped(plain(r)),
        "all_at_once": lambda r, _: wrapped(wide(simplified(_MARKS.sub("…", plain(r))))),
        "china_words": lambda r, _: words(plain(r)),
        "reordered": lambda r, rng: text_of(r["question"], reordered(r, rng)),
        "question_alone": lambda r, _: r["question"],
        "synonyms": lambda r, _: reworded(plain(r)),
        "synonyms_reordered": lambda r, rng: reworded(text_of(r["question"], reordered(r, rng))),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, help="default: a folder that is deleted")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="twjax-contamination-") as temporary:
        found = measure(args.data.absolute(), (args.work or pathlib.Path(temporary)).absolute())
    prepare.save(found, args.json)
    return 0


def measure(data: pathlib.Path, work: pathlib.Path) -> dict[str, Any]:
    with gzip.open(data / ITEMS, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    planted = list(ways())
    corpora = {kind: str(plant(work, data, records, kind)) for kind in planted}
    unplanted = {"foreign": FOREIGN, "taiwan": TAIWAN, "laws": LAWS}
    for name, files in unplanted.items():
        corpora[name] = str(collect(work, data, name, files))
    vocabulary = train(work, data)
    config = work / "contamination.gin"
    config.write_text(
        CONFIG.format(
            pieces=PIECES, work=work, vocabulary=vocabulary, corpora=corpora, row=ROW,
            shares=dict.fromkeys(corpora, 1.0),
        )
    )  # fmt: skip
    report = work / "report.json"
    items = f"civil_exam={data / ITEMS}"
    prepare.twjax("tasks", "cache", config)
    prepare.twjax(
        *("tasks", "contamination", config, "--items", items, "--no-held-out", "--json", report)
    )
    tasks = storage.read_json(report)["tasks"]
    removed = work / "removed"
    prepare.twjax(
        *("tasks", "cache", config, "--cache", removed),
        *("--set", "Data.screening = @Screening()", "--set", "Screening.policy = 'remove'"),
        *("--set", f"Screening.items = {{'civil_exam': {str(data / ITEMS)!r}}}"),
    )
    found: dict[str, Any] = {"planted": {}, "unplanted": {}, "speed": speed(work, data, vocabulary)}
    print(f"\n{'planted':20} {'questions':>9} {'in rows':>8} {'':>6} {'documents':>10} {'':>6}")
    for kind in planted:
        one = tasks[kind]["sets"].get("civil_exam", {"items": 0})
        info = RowReader(removed, kind, "train", ROW).info
        gone = (info.without or {})["examples"]
        line = {"questions": len(records), "in_rows": one["items"], "documents": gone}
        found["planted"][kind] = {**line, "by_change": one.get("by_change", {})}
        print(
            f"{kind:20} {len(records):>9,} {one['items']:>8,} {one['items'] / len(records):>6.1%} "
            f"{gone:>10,} {gone / len(records):>6.1%}"
        )
    print(
        f"\n{'nothing planted':20} {'rows':>9} {'hold one':>8} {'per 10,000':>10} {'documents':>10}"
    )
    for name in unplanted:
        rows, held = tasks[name]["rows"], tasks[name]["rows_that_hold"]
        info = RowReader(removed, name, "train", ROW).info
        gone = (info.without or {})["examples"]
        share = 10_000 * held / rows
        found["unplanted"][name] = {"rows": rows, "hold_one": held, "documents": gone}
        print(f"{name:20} {rows:>9,} {held:>8,} {share:>10.2f} {gone:>10,}")
    hits = work / "hits.jsonl"
    with storage.atomic_writer(hits) as file:
        for name in unplanted:
            path = next((removed / name / "train" / str(ROW)).glob("left_out-*.jsonl"), None)
            for entry in storage.read_json_lines(path) if path else ():
                del entry["text"]
                file.write(json.dumps({"corpus": name, **entry}, ensure_ascii=False) + "\n")
    print(f"\nwhat the others hold: {hits}")
    for name, value in found["speed"].items():
        print(f"{name}: {value:.1f} MB/s")
    return found


def hosts(data: pathlib.Path) -> Iterator[str]:
    """Yields excerpts of real text, each once."""
    with gzip.open(data / HOSTS, "rt", encoding="utf-8") as file:
        for line in file:
            text = json.loads(line)["text"]
            for at in range(0, len(text) - BEFORE - BEHIND, BEFORE + BEHIND):
                yield text[at : at + BEFORE + BEHIND]


def plant(
    work: pathlib.Path, data: pathlib.Path, records: Sequence[Mapping[str, Any]], kind: str
) -> pathlib.Path:
    """Writes a corpus of excerpts, in each of which stands one question."""
    folder = work / "corpora" / kind
    if (folder / "manifest.json").is_file():
        return folder
    way, rng = ways()[kind], random.Random(kind)
    documents = []
    for number, (record, host) in enumerate(
        zip(records, itertools.cycle(hosts(data)), strict=False)
    ):
        before = rng.randrange(BEFORE)
        text = f"{host[:before]}\n{way(record, rng)}\n{host[before:]}"
        documents.append(
            Document(id=f"{kind}-{number}", text=text, source=kind, license="CC0-1.0", lang="zh-TW")
        )
    return prepare.write_documents(folder, documents)


def collect(
    work: pathlib.Path, data: pathlib.Path, name: str, files: Sequence[str]
) -> pathlib.Path:
    """Writes a corpus of all texts of some files."""
    folder = work / "corpora" / name
    if (folder / "manifest.json").is_file():
        return folder
    documents = []
    for source in files:
        with gzip.open(data / f"{source}.jsonl.gz", "rt", encoding="utf-8") as file:
            for record in map(json.loads, file):
                if record.get("text"):
                    about = {name: record[name] for name in ("id", "text", "license", "lang")}
                    documents.append(Document(source=source, **about))
    return prepare.write_documents(folder, documents)


def train(work: pathlib.Path, data: pathlib.Path) -> pathlib.Path:
    output = work / "benchmark.model"
    if not output.exists():
        names = ("tw_laws_zh", "tw_transcripts_cc0", "taiwan_md_zh", "tidb_zhCN", "react_en")
        corpus = prepare.write_corpus(work / "corpora" / "vocabulary", data, names, None)
        prepare.twjax(
            *("vocab", "train", "configs/corpora/quickstart_vocab.gin"),
            *("--set", f"Vocabulary.inputs = ({str(corpus)!r},)"),
            *("--set", f"Vocabulary.output = {str(output)!r}"),
            *("--set", f"Vocabulary.size = {PIECES}"),
        )
    return output


def speed(work: pathlib.Path, data: pathlib.Path, vocabulary: pathlib.Path) -> dict[str, float]:
    """Returns MB of UTF-8 text a second and core: rows read, spelt and searched; texts searched."""
    screen = Screen({"civil_exam": read_set(str(data / ITEMS))}, 0.5, 13)
    speeds = {}
    for name in ("taiwan", "foreign"):
        reader = RowReader(work / "cache", name, "train", ROW)
        speller = Speller(load_vocabulary(vocabulary))
        began, rows = time.perf_counter(), 0
        for count, _ in search_rows(reader, speller, screen):
            rows += count
            if rows >= 20_000:
                break
        size = reader.info.text_bytes * rows / len(reader)
        speeds[f"rows of {name}"] = size / 1e6 / (time.perf_counter() - began)
    texts = list(itertools.islice(hosts(data), 10_000))
    began = time.perf_counter()
    screen.search(texts)
    size = sum(len(text.encode()) for text in texts)
    speeds["texts"] = size / 1e6 / (time.perf_counter() - began)
    return speeds


if __name__ == "__main__":
    sys.exit(main())
