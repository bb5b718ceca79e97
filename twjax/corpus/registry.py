"""All steps, for configurations: importing this loads no library that only one step needs."""

from __future__ import annotations

from twjax.corpus.conversion.convert import ConvertSimplified
from twjax.corpus.duplicates.decontaminate import Decontaminate
from twjax.corpus.duplicates.dedup import ExactDedup
from twjax.corpus.duplicates.ids import UniqueIds
from twjax.corpus.duplicates.lines import LineDedup
from twjax.corpus.duplicates.near import NearDedup
from twjax.corpus.duplicates.substring import SubstringDedup
from twjax.corpus.licensing import LicensePolicy
from twjax.corpus.personal.pii import ReplacePersonalData
from twjax.corpus.quality.adverts import Adverts
from twjax.corpus.quality.classifier import QualityClassifier
from twjax.corpus.quality.harm import Harm
from twjax.corpus.quality.repetition import Repetition
from twjax.corpus.quality.rules import QualityRules
from twjax.corpus.step import Step
from twjax.corpus.text.bbs import ParseBoards
from twjax.corpus.text.length import MinLength
from twjax.corpus.text.normalize import NormalizeText
from twjax.corpus.text.split import SplitDocuments
from twjax.corpus.text.wraps import RepairWraps
from twjax.corpus.variety.region import Region
from twjax.corpus.variety.usage import Usage

# In the order that a pipeline usually has them.
STEPS: tuple[type[Step], ...] = (
    UniqueIds,
    LicensePolicy,
    ParseBoards,
    NormalizeText,
    RepairWraps,
    Region,
    ConvertSimplified,
    Usage,
    QualityRules,
    Repetition,
    Adverts,
    Harm,
    QualityClassifier,
    ExactDedup,
    NearDedup,
    LineDedup,
    SubstringDedup,
    Decontaminate,
    ReplacePersonalData,
    MinLength,
    SplitDocuments,
)
