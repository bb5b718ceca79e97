"""mT5 (Xue et al. 2021): stored as T5 is."""

from __future__ import annotations

from twjax.huggingface.families.t5 import family

FAMILY = family("mt5")
