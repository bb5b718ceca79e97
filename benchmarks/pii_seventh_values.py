"""Values and fillers of the seventh set; all invented, all seeded."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from pii_blind_negatives import date
from pii_blind_values import (
    MAKERS,
    Maker,
    Template,
    aws_secret,
    d,
    english_address,
    english_birth,
    hidden_email,
    identity,
    landline_compact,
    mobile,
    old_resident,
    post_account,
    private_key,
    resident,
    village_address,
    webhook,
)

__all__ = [
    "Maker",
    "Template",
    "aws_secret",
    "drawn",
    "english_address",
    "english_birth",
    "hidden_email",
    "identity_spaced",
    "landline_compact",
    "old_resident",
    "post_account",
    "private_key",
    "resident",
    "roc_birth",
    "village_address",
    "webhook",
]

_SURNAMES = "陳林黃張李王吳劉蔡楊許鄭謝郭洪曾邱廖賴周徐蘇葉莊呂江何蕭羅高"
_GIVEN = [
    "家豪",
    "淑芬",
    "志明",
    "雅婷",
    "怡君",
    "俊傑",
    "建宏",
    "美玲",
    "冠宇",
    "詩涵",
    "承翰",
    "佩珊",
    "秀英",
    "文雄",
    "彥廷",
    "品妤",
    "宥辰",
    "麗華",
    "子晴",
    "金水",
]


def name(r: random.Random) -> str:
    return r.choice(_SURNAMES) + r.choice([*_GIVEN, "先生", "小姐"])


def identity_spaced(r: random.Random) -> str:
    n = identity(r)[:10]
    return r.choice([f"{n[0]} {n[1:]}", f"{n[:4]} {n[4:7]} {n[7:]}", f"{n[0]}-{n[1:]}"])


def roc_birth(r: random.Random) -> str:
    return f"{r.randint(48, 109):03d}{r.randint(1, 12):02d}{r.randint(1, 28):02d}"


def _mobile(r: random.Random) -> str:
    """Other writings now and then: grouped by the first four, or with 886 and no plus."""
    n = "09" + r.choice("012356789") + d(r, 7)
    other = [
        f"{n[:4]} {n[4:7]}-{n[7:]}",
        f"{n[:4]}/{n[4:7]}/{n[7:]}",
        f"886{n[1:]}",
        f"{n[:4]}_{n[4:]}",
    ]
    return r.choice(other) if r.random() < 0.06 else mobile(r)


_FILLERS: dict[str, Maker] = {"name": name, "date": date, "n6": lambda r: d(r, 6)}
_KINDS: dict[str, Maker] = {**MAKERS, "mobile": _mobile}
_MARK = re.compile("⟦([^⟧]*)⟧")


def drawn(
    r: random.Random,
    kind: str,
    templates: Mapping[str, Sequence[Template]],
    heads: list[str],
    tails: list[str],
) -> tuple[str, list[tuple[int, int, str]]]:
    """Returns a text from a template of `kind`, and the places and kinds of all its values."""
    chosen = r.choice(templates[kind])
    template, make = (chosen, _KINDS[kind]) if isinstance(chosen, str) else chosen
    head = r.choice(heads) if r.random() < 0.3 else ""
    tail = r.choice(tails) if r.random() < 0.3 else ""
    text, places = head, []
    for index, part in enumerate(_MARK.split(template)):
        if index % 2 == 0:
            text += part
        elif part in _FILLERS:
            text += _FILLERS[part](r)
        else:
            value = _KINDS[part](r) if part else make(r)
            places.append((len(text), len(text) + len(value), part or kind))
            text += value
    return text + tail, places
