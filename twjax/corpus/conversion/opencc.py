"""OpenCC, and proof that it is the official package.

`opencc-python-reimplemented` installs a module of the same name over the official one; it is
fifteen times slower and converts differently.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable

_NAMESAKE = "opencc-python-reimplemented"
_REMEDY = f"run `pip uninstall -y {_NAMESAKE} && pip install --force-reinstall opencc`."


@functools.cache
def version() -> str:
    """Returns the version of the official package; raises if another one answers to its name."""
    import opencc

    native = getattr(opencc, "opencc_clib", None)
    try:
        importlib.metadata.version(_NAMESAKE)
        other = True
    except importlib.metadata.PackageNotFoundError:
        other = False
    if native is None or other or not issubclass(opencc.OpenCC, native._OpenCC):
        raise ValueError(
            f"opencc ({opencc.__file__}) is not the official OpenCC package but {_NAMESAKE}, or "
            f"mixed with it; {_REMEDY}"
        )
    return str(opencc.__version__)


@functools.cache
def converter(config: str) -> Callable[[str], str]:
    """Returns the conversion that OpenCC calls `config` ("s2twp", "t2s", …)."""
    version()
    import opencc

    known = sorted(name.removesuffix(".json") for name in opencc.CONFIGS)
    if config not in known:
        raise ValueError(f"OpenCC has no conversion {config!r}; it has {', '.join(known)}.")
    return opencc.OpenCC(config).convert
