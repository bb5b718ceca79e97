"""umT5 (Chung et al. 2023): stored as T5 is."""

from __future__ import annotations

from twjax.huggingface.families.t5 import family

FAMILY = family("umt5")
