"""TensorFlow, loaded without its start-up messages and without taking an accelerator."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator


def quiet_tensorflow() -> None:
    """Imports TensorFlow; only its errors are shown from then on, and it sees no GPU.

    Caching runs on the CPU. TensorFlow would otherwise reserve the memory of every GPU that the
    machine has.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _no_stderr():
            import tensorflow  # noqa: F401
    import tensorflow as tf

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    # Already in use by the caller: then it is the caller's to decide.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Discards what native code writes to stderr; its logging isn't configurable that early."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
