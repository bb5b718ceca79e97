"""Which documents the licences and the sources allow: a policy that a person can review.

A policy is a TSV file of the columns field, pattern, decision and why; lines with `#` are
comments. `field` is "licence" or "source", `pattern` a glob. The first row that fits decides.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from twjax.corpus.document import Document, Rejection
from twjax.corpus.step import Outcome, Step

DEFAULT = pathlib.Path(__file__).parent / "tables" / "licenses.tsv"
_COLUMNS = ["field", "pattern", "decision", "why"]
# From what says the most to what says the least: of "A OR B" the first counts, of "A AND B" the
# last.
_DECISIONS = ("allow", "verbatim", "flag", "unknown", "refuse")


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One row of a policy."""

    field: str
    pattern: str
    decision: str
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says of one licence and source; `field` is what decided it."""

    decision: str
    why: str
    field: str = "licence"


_UNKNOWN = Verdict("unknown", "no row of the policy fits")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LicensePolicy(Step):
    """Rejects documents whose licence or source the policy refuses; labels those in doubt.

    `policy` is a file whose rows come before those of the default table (`tables/licenses.tsv`),
    or stand alone if `defaults` is False. `unknown` says what to do with a licence that no row
    fits, `verbatim` with texts that must not be changed (NoDerivatives): put the step first with
    "refuse" where later steps change texts that are to be given on.

    Kept documents that aren't simply allowed have `meta["license_policy"]`: "verbatim",
    "review" (a row says `flag`) or "unknown". Rejections have the reason "licence refused",
    "source refused", "licence unknown" or "licence forbids changes".
    """

    name: ClassVar[str] = "license_policy"

    policy: str = ""
    defaults: bool = True
    unknown: Literal["flag", "refuse"] = "flag"
    verbatim: Literal["flag", "refuse"] = "flag"

    def __post_init__(self) -> None:
        if not self.policy and not self.defaults:
            raise ValueError(
                "LicensePolicy.defaults is False and LicensePolicy.policy is empty: name a policy."
            )
        for name in ("unknown", "verbatim"):
            if getattr(self, name) not in ("flag", "refuse"):
                raise ValueError(
                    f'LicensePolicy.{name} ({getattr(self, name)!r}) must be "flag" or "refuse".'
                )
        # Read here and carried along: a worker elsewhere needn't have the file.
        files = [pathlib.Path(self.policy)] if self.policy else []
        texts = [path.read_bytes() for path in (*files, *([DEFAULT] if self.defaults else []))]
        paths = [*files, *([DEFAULT] if self.defaults else [])]
        rules = [rule for pair in zip(paths, texts, strict=True) for rule in parse(*pair)]
        object.__setattr__(self, "_rules", tuple(rules))
        object.__setattr__(self, "_sha256", hashlib.sha256(b"\0".join(texts)).hexdigest())

    def versions(self) -> dict[str, str]:
        return {"policy_sha256": self._sha256}  # type: ignore[attr-defined]

    def apply(self, batch: Sequence[Document]) -> Outcome:
        rules: tuple[Rule, ...] = self._rules  # type: ignore[attr-defined]
        verdicts: dict[tuple[str, str], Verdict] = {}
        outcome = Outcome([])
        for document in batch:
            key = document.license, document.source
            verdict = verdicts.get(key)
            if verdict is None:
                verdict = verdicts[key] = judge(*key, rules)
            reason = self._reason(verdict)
            if reason is not None:
                text = f"{getattr(document, _ATTRIBUTES[verdict.field])}: {verdict.why}"
                outcome.rejected.append(Rejection(document, reason, text))
                continue
            if verdict.decision != "allow":
                label = "review" if verdict.decision == "flag" else verdict.decision
                outcome.changed[f"labelled {label}"] += 1
                meta = {**document.meta, "license_policy": label}
                document = dataclasses.replace(document, meta=meta)
            outcome.kept.append(document)
        return outcome

    def _reason(self, verdict: Verdict) -> str | None:
        if verdict.decision == "refuse":
            return f"{verdict.field} refused"
        if verdict.decision == "unknown" and self.unknown == "refuse":
            return "licence unknown"
        if verdict.decision == "verbatim" and self.verbatim == "refuse":
            return "licence forbids changes"
        return None


_ATTRIBUTES = {"licence": "license", "source": "source"}


def parse(path: pathlib.Path, text: bytes) -> list[Rule]:
    """Returns the rows of a policy file; raises `ValueError` with file and line."""
    rules = []
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a policy must be UTF-8 text ({error}).") from None
    rows = [(n, line) for n, line in enumerate(lines, start=1) if line and line[0] != "#"]
    if not rows or rows[0][1].split("\t") != _COLUMNS:
        raise ValueError(f"{path}: the first row must name the columns {', '.join(_COLUMNS)}.")
    for number, line in rows[1:]:
        cells = [cell.strip() for cell in line.split("\t")]
        place = f"{path}:{number}"
        if len(cells) != len(_COLUMNS) or not all(cells):
            raise ValueError(f"{place}: a row has four cells, separated by tabs; saw {line!r}.")
        rule = Rule(*cells)
        if rule.field not in _ATTRIBUTES:
            raise ValueError(f"{place}: field must be licence or source; saw {rule.field!r}.")
        if rule.decision not in _DECISIONS or rule.decision == "unknown":
            raise ValueError(
                f"{place}: decision must be allow, verbatim, flag or refuse; saw {rule.decision!r}."
            )
        if rule.field == "licence":
            if len(_tokens(rule.pattern)) > 1:
                raise ValueError(
                    f"{place}: a pattern is one licence, not an expression or a list; saw "
                    f"{rule.pattern!r}. Give each its row, or decide by source."
                )
            rule = dataclasses.replace(rule, pattern=canonical(rule.pattern))
        rules.append(rule)
    return rules


def judge(license: str, source: str, rules: Sequence[Rule]) -> Verdict:
    """Returns what a policy says of a document.

    `license` may be an expression as in SPDX: of "A OR B" the better one counts, of "A AND B",
    "A / B", "A, B" or "A; B" the worse one. Exceptions ("WITH …") and remarks in parentheses
    behind a name are not looked at.
    """
    text = unicodedata.normalize("NFKC", license)
    tokens = [text] if "://" in text else [" ".join(token.split()) for token in _tokens(text)]
    if len(tokens) > 1:
        return _Expression(tokens, source, rules).verdict() or _UNKNOWN
    return _first(canonical("".join(tokens)), source, rules)


def _first(name: str, source: str, rules: Iterable[Rule]) -> Verdict:
    for rule in rules:
        seen = source if rule.field == "source" else name
        if _glob(rule.pattern).fullmatch(seen):
            return Verdict(rule.decision, rule.why, rule.field)
    return _UNKNOWN


@functools.cache
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


_WORD = r"(?<![^\s()])(?:OR|AND|WITH)(?![^\s()])"
_SIGN = r"[/,;、]|(?<=\s)[&+](?=\s)"
_TOKEN = re.compile(rf"[()]|{_WORD}|{_SIGN}|(?:(?!{_WORD}|{_SIGN})[^()])+", re.IGNORECASE)
_REMARK = re.compile(r"(?<=[^\s(])\s*\([^()]*\)")
_VERSION = re.compile(r",(?=\s*v(?:ersion|\.?\s?\d))", re.IGNORECASE)


def _tokens(text: str) -> list[str]:
    """Returns names, operators and parentheses; a parenthesis behind a name is a remark."""
    text = _VERSION.sub(" ", text)
    text = _REMARK.sub(
        lambda m: m[0] if re.search(rf"{_WORD}$", text[: m.start()], 2) else " ", text
    )
    return [token for token in map(str.strip, _TOKEN.findall(text)) if token]


class _Expression:
    """A parser of licence expressions: OR binds less than AND (SPDX specification, annex D)."""

    def __init__(self, tokens: list[str], source: str, rules: Sequence[Rule]):
        self._tokens = list(tokens)
        self._source, self._rules = source, rules

    def verdict(self) -> Verdict | None:
        """Returns the verdict of the whole, None if it is no expression."""
        try:
            found = self._any()
        except IndexError:
            return None
        return None if self._tokens else found

    def _next(self, *words: str) -> bool:
        if self._tokens and self._tokens[0].upper() in words:
            self._tokens.pop(0)
            return True
        return False

    def _any(self) -> Verdict:
        found = [self._all()]
        while self._next("OR"):
            found.append(self._all())
        return min(found, key=_severity)

    def _all(self) -> Verdict:
        found = [self._one()]
        while self._next("AND", *"/,;、&+"):
            found.append(self._one())
        return max(found, key=_severity)

    def _one(self) -> Verdict:
        token = self._tokens.pop(0)
        if token == "(":
            found = self._any()
            if self._tokens.pop(0) != ")":
                raise IndexError
            return found
        if self._next("WITH"):
            self._tokens.pop(0)
        return _first(canonical(token), self._source, self._rules)


def _severity(verdict: Verdict) -> int:
    return _DECISIONS.index(verdict.decision)


_CC_URL = re.compile(
    r"creativecommons\.org/(licenses|publicdomain)/([a-z-]+)(?:/([\d.]+))?(?:/(\w+))?"
)
_CC_WORDS = (
    ("attribution", "by"), ("姓名標示", "by"), ("署名", "by"),
    ("non-commercial", "nc"), ("noncommercial", "nc"), ("非商業性", "nc"), ("非商业性", "nc"),
    ("no-derivatives", "nd"), ("noderivatives", "nd"), ("no-derivs", "nd"), ("noderivs", "nd"),
    ("禁止改作", "nd"), ("禁止演绎", "nd"),
    ("share-alike", "sa"), ("sharealike", "sa"), ("相同方式分享", "sa"), ("相同方式共享", "sa"),
)  # fmt: skip
_CC_ZERO = re.compile(r"(?:creative[\s_-]*commons|cc)[\s_-]*(?:zero|0)[\s_-]*v?(.*)", re.DOTALL)
_FILLERS = re.compile(r"(?<![a-z])(?:the|licen[cs]e|international|unported|version)(?![a-z])")


def canonical(license: str) -> str:
    """Returns a licence's name in one form: "cc-by-sa-4.0" for all ways to write it.

    Lower case, NFKC, hyphens for spaces; the words and the addresses of Creative Commons become
    its abbreviations in the order by, nc, nd, sa; "the", "license", "version" are left out.
    """
    text = unicodedata.normalize("NFKC", license).casefold().strip()
    if found := _CC_URL.search(text):
        kind, name, version, country = found.groups()
        if kind == "publicdomain":
            name = {"zero": "cc0", "mark": "cc-pdm"}.get(name, name)
            return "-".join(filter(None, [name, version]))
        return _cc(name.split("-"), [version or "", country or ""])
    creative = re.search(r"creative[\s_-]*commons|創用\s*cc|知识共享|(?<![a-z])cc(?![a-z])", text)
    text = _FILLERS.sub(" ", text)
    if found := _CC_ZERO.match(text):
        text = f"cc0{' ' * found[1][:1].isdigit()}{found[1]}"
    if creative and not re.search(r"cc-?0|zero", text):
        for words, letters in _CC_WORDS:
            text = text.replace(words, f" {letters} ")
        text = re.sub(r"creative[\s_-]*commons|創用|知识共享", " ", text)
        # "3.0 台灣", "4.0 國際": the ported version's country stays behind the number.
        parts = [
            p
            for p in re.split(r"[\s_\-–—]+", text)
            if p not in ("", "cc", "國際", "国际", "授權條款")
        ]
        terms = [p for p in parts if p in ("by", "nc", "nd", "sa")]
        if terms:
            return _cc(terms, [p.removeprefix("v") for p in parts if p not in terms])
    text = re.sub(r"[\s_\-–—]+", "-", text).strip("-.")
    return re.sub(r"(?<=[a-z])-v(?=\d)", "-", text)


def _cc(terms: Sequence[str], rest: Sequence[str]) -> str:
    ordered = [term for term in ("by", "nc", "nd", "sa") if term in terms]
    return "-".join(filter(None, ["cc", *ordered, *rest]))
