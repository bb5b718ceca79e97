"""Minimal pairs and identity probes: which of several wordings a model finds likelier.

Both are JSON lines that a person can review. A pair is one sentence as Taiwan writes it and as the
mainland would, different in one word or in the script alone:

    {"id": …, "kind": "term", "taiwan": "請更新軟體。", "mainland": "請更新軟件。",
     "term": ["軟體", "軟件"], "source": …, "license": …}

A probe is the beginning of a sentence, with the ends that are right in Taiwan and those that are
right elsewhere or nowhere:

    {"id": …, "group": "national days", "lang": "zh-TW", "prompt": "我國的國慶日是",
     "right": ["十月十日"], "wrong": ["十月一日", "七月四日"], "note": …}

Both are decided by the log-likelihood to a UTF-8 byte of what is compared, so that length decides
nothing; what is equally likely counts half.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twjax import storage
from twjax.evaluation.batching import NotANumber, Request
from twjax.vocab.tokenizer import Tokenizer

if TYPE_CHECKING:
    from twjax.evaluation.scoring import Scored

KINDS = ("term", "script")
_PAIR = {"id": str, "kind": str, "taiwan": str, "mainland": str, "source": str, "license": str}
_PROBE = {"id": str, "group": str, "lang": str, "prompt": str, "right": list, "wrong": list}
_PAIR_MORE, _PROBE_MORE = {"term": list, "edition": str}, {"note": str, "source": str}
_NAMES = {str: "a text", list: "a list of texts"}

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One sentence twice; `term` has Taiwan's word and the mainland's, if `kind` is "term".

    `edition` is what the sentence's own mainland edition says, for a reader to compare.
    """

    id: str
    kind: str
    taiwan: str
    mainland: str
    source: str
    license: str
    term: tuple[str, ...] = ()
    edition: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind ({self.kind!r}) must be one of {', '.join(KINDS)}.")
        if self.taiwan == self.mainland:
            raise ValueError("taiwan and mainland are the same text.")
        if self.kind == "script":
            if self.term:
                raise ValueError("term: a pair of kind 'script' has none.")
            return
        if len(self.term) != 2:
            raise ValueError(
                f"term ({list(self.term)}) must have two words, Taiwan's and the mainland's."
            )
        first, second = self.term
        if self.taiwan.count(first) != 1 or self.taiwan.replace(first, second) != self.mainland:
            raise ValueError(
                f"term: taiwan must have {first!r} once and mainland {second!r} in its place, "
                "and nothing else may differ."
            )

    def to_record(self) -> dict[str, Any]:
        """Returns the line that `read_pairs` reads."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A sentence's beginning and its possible ends, as they follow it, spaces included."""

    id: str
    group: str
    lang: str
    prompt: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    note: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not self.right or not self.wrong:
            raise ValueError(f"{'wrong' if self.right else 'right'} is empty.")
        ends = (*self.right, *self.wrong)
        twice = sorted({end for end in ends if ends.count(end) > 1})
        if twice or "" in ends:
            what = f"{twice[0]!r} stands twice" if twice else "one of them is empty"
            raise ValueError(f"right and wrong: {what}.")


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """Reads a file of pairs; raises ValueError naming file, line and field of what is wrong."""
    return _read(path, _PAIR, _PAIR_MORE, Pair)


def write_pairs(path: str | os.PathLike[str], pairs: Sequence[Pair]) -> None:
    """Writes a file that `read_pairs` reads, atomically."""
    with storage.atomic_writer(path) as file:
        for pair in pairs:
            file.write(json.dumps(pair.to_record(), ensure_ascii=False) + "\n")


def holds_probes(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of probes, by its first line; one that can't be read isn't."""
    with open(path, encoding="utf-8") as file:
        return '"prompt"' in next((line for line in file if line.strip()), "")


def read_probes(path: str | os.PathLike[str]) -> list[Probe]:
    """Reads a file of probes; raises ValueError naming file, line and field of what is wrong."""
    return _read(path, _PROBE, _PROBE_MORE, Probe)


def _read(
    path: str | os.PathLike[str],
    fields: Mapping[str, type],
    more: Mapping[str, type],
    make: Callable[..., T],
) -> list[T]:
    items: list[T] = []
    seen: dict[str, int] = {}
    lines = pathlib.Path(path).read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where}: not valid JSON ({error}).") from error
        if not isinstance(record, dict):
            raise ValueError(f"{where}: a line must be an object, not {line[:40]!r}.")
        _check_fields(record, fields, more, where)
        if first := seen.get(record["id"]):
            raise ValueError(f"{where}: id {record['id']!r} is line {first}'s, too.")
        seen[record["id"]] = number
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        try:
            items.append(make(**values))
        except ValueError as error:
            raise ValueError(f"{where} ({record['id']}): {error}") from error
    if not items:
        raise ValueError(f"{path}: has no lines; it needs one at least.")
    return items


def _check_fields(
    record: Mapping[str, Any], fields: Mapping[str, type], more: Mapping[str, type], where: str
) -> None:
    for name in fields:
        if name not in record:
            raise ValueError(f"{where}: {name!r} is missing; a line has {', '.join(fields)}.")
    for name, value in record.items():
        kind = fields.get(name) or more.get(name)
        if kind is None:
            raise ValueError(
                f"{where}: {name!r} is unknown; a line has {', '.join((*fields, *more))}."
            )
        of_texts = not isinstance(value, list) or all(isinstance(x, str) for x in value)
        if not isinstance(value, kind) or not of_texts:
            raise ValueError(f"{where}: {name} must be {_NAMES[kind]}, not {value!r}.")
        if name in fields and not value:
            raise ValueError(f"{where}: {name} is empty.")


def pair_requests(
    pairs: Sequence[Pair], tokenizer: Tokenizer, *, both: bool = False
) -> list[Request]:
    """Returns two requests a pair, Taiwan's side first: the whole sentence as a document.

    `both` is for encoder-decoders, which read an empty text and say the sentence.
    """
    texts = [text for pair in pairs for text in (pair.taiwan, pair.mainland)]
    start = _encoded(tokenizer, ()) if both else _start(tokenizer)
    return [Request(start, tuple(ids)) for ids in tokenizer.encode_batch(texts)]


def probe_requests(
    probes: Sequence[Probe], tokenizer: Tokenizer, *, both: bool = False
) -> list[Request]:
    """Returns a request for each end of each probe, the right ones first, behind its prompt.

    A prompt and its ends are encoded together. All ends of a probe are scored from where their ids
    part from the prompt's, so that the same text is compared even where an id spans the seam.
    `both` is for encoder-decoders, which read the prompt and say an end.
    """
    if both:
        read = tokenizer.encode_batch([probe.prompt for probe in probes])
        said = iter(tokenizer.encode_batch([end for probe in probes for end in _ends(probe)]))
        return [
            Request(_encoded(tokenizer, prompt), tuple(next(said)))
            for probe, prompt in zip(probes, read, strict=True)
            for _ in _ends(probe)
        ]
    start = _start(tokenizer)
    texts = [probe.prompt + end for probe in probes for end in ("", *_ends(probe))]
    encoded = iter(tokenizer.encode_batch(texts))
    requests = []
    for probe in probes:
        prompt = next(encoded)
        whole = [next(encoded) for _ in _ends(probe)]
        common = min(_alike(prompt, ids) for ids in whole)
        requests += [Request((*start, *ids[:common]), tuple(ids[common:])) for ids in whole]
    return requests


def pairs_record(
    pairs: Sequence[Pair], scores: Sequence[Scored], step: int, task: str
) -> dict[str, Any]:
    """Returns the "pairs" record: the share of pairs whose Taiwan side is likelier to a byte."""
    if len(scores) != 2 * len(pairs):
        raise ValueError(f"{len(pairs)} pairs have {2 * len(pairs)} scores, not {len(scores)}.")
    preferred = 0.0
    for number, pair in enumerate(pairs):
        taiwan, mainland = (
            _rate(scores[2 * number + side], text, pair.id)
            for side, text in enumerate((pair.taiwan, pair.mainland))
        )
        preferred += _better(taiwan, mainland)
    share = preferred / max(1, len(pairs))
    return {"kind": "pairs", "step": step, "task": task, "pairs": len(pairs), "preferred": share}


def probes_record(
    probes: Sequence[Probe], scores: Sequence[Scored], step: int, task: str
) -> dict[str, Any]:
    """Returns the "probes" record: how many probes' likeliest end is right, by group as well."""
    asked = sum(len(_ends(probe)) for probe in probes)
    if len(scores) != asked:
        raise ValueError(f"{len(probes)} probes have {asked} ends, not {len(scores)}.")
    rows = iter(scores)
    groups: dict[str, list[float]] = defaultdict(lambda: [0, 0])
    for probe in probes:
        rates = [_rate(next(rows), end, probe.id) for end in _ends(probe)]
        right = max(rates[: len(probe.right)])
        group = groups[probe.group]
        group[0] += _better(right, max(rates[len(probe.right) :]))
        group[1] += 1
    total = sum(right for right, _ in groups.values())
    return {
        "kind": "probes",
        "step": step,
        "task": task,
        "probes": len(probes),
        "right": total / max(1, len(probes)),
        "groups": dict(groups),
    }


def _ends(probe: Probe) -> tuple[str, ...]:
    return (*probe.right, *probe.wrong)


def _start(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids that a document begins behind; something must, so EOS ends the one before."""
    start = tokenizer.start or (tokenizer.eos_id,)
    if min(start) < 0:
        raise ValueError(
            f"{tokenizer.path}: has neither BOS nor EOS, so nothing can stand before a text."
        )
    return start


def _encoded(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[int, ...]:
    """What an encoder reads of a text: it ends with EOS, as in training."""
    if tokenizer.eos_id < 0:
        raise ValueError(f"{tokenizer.path}: has no EOS, which ends what an encoder reads.")
    return (*tokenizer.start, *ids, tokenizer.eos_id)


def _alike(first: Sequence[int], second: Sequence[int]) -> int:
    """Returns how many ids two rows begin with alike; at least one of the second's is left."""
    count = 0
    for a, b in zip(first, second[:-1], strict=False):
        if a != b:
            break
        count += 1
    return count


def _rate(score: Scored, text: str, id: str) -> float:
    """Returns the log-likelihood to a byte of `text`, nats."""
    if math.isnan(score.log_likelihood):
        raise NotANumber(f"{id}: the log-likelihood of {text!r} is not a number.")
    return score.log_likelihood / len(text.encode())


def _better(first: float, second: float) -> float:
    return 0.5 if first == second else float(first > second)
