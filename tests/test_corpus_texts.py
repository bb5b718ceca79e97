"""The texts that ship with twjax are whole, small, and carry their licences."""

import gzip
import json
import pathlib

import pytest

CORPORA = pathlib.Path(__file__).parent.parent / "configs" / "corpora"
FILES = sorted((CORPORA / "texts").glob("*.jsonl.gz"))
# Each licence of a record, and the file that must travel with it (None: public domain).
LICENSES = {
    "Public domain in Taiwan": None,
    "Public domain (US and Taiwan)": None,
    "CC0-1.0 (translation": "PSF-2.0.txt",
    "CC0-1.0": "CC0-1.0.txt",
    "CC BY-SA 4.0": "CC-BY-SA-4.0.txt",
    "CC BY-SA 3.0": "CC-BY-SA-3.0.txt",
    "MIT OR Apache-2.0": "rust-lang-book-MIT.txt",
    "MIT": "KaiserY-trpl-zh-cn-MIT.txt",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_record_says_where_it_comes_from(path):
    readme = (CORPORA / "texts" / "README.md").read_text(encoding="utf-8")
    assert path.stat().st_size < 1_000_000
    ids = set()
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = list(file)
    for line in lines:
        record = json.loads(line)
        assert record["text"].strip() and record["url"] and record["lang"]
        assert record["source"] in readme and record["commit"][:12] in readme
        match = next(name for name in LICENSES if record["license"].startswith(name))
        needed = LICENSES[match]
        assert needed is None or (CORPORA / "texts" / "LICENSES" / needed).stat().st_size > 1000
        ids.add(record["id"])
    assert len(ids) == len(lines)
    assert f"| {len(lines)} |" in readme or path.name.startswith(("en_", "cn_"))


def test_all_are_there_and_small():
    names = {path.name.removesuffix(".jsonl.gz") for path in FILES}
    assert names == {"tw_laws", "tw_transcripts", "tw_articles", "tw_drcd", "en_general",
                     "cn_general"}  # fmt: skip
    assert names <= {path.stem for path in CORPORA.glob("*.gin")}
    assert sum(path.stat().st_size for path in FILES) <= 3_600_000


def test_the_benchmark_is_not_trained_on_and_simplified_stays():
    assert "tw_drcd" not in (CORPORA / "quickstart_vocab.gin").read_text(encoding="utf-8")
    assert "Convert" not in (CORPORA / "cn_general.gin").read_text(encoding="utf-8")
