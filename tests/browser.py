"""A real browser for pages: headless Chromium, without its own requests."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

needed = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on PATH")


def dump(page: pathlib.Path, user: pathlib.Path, *options: str) -> str:
    """Returns a page's document after its scripts have run; their errors fail the test."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={user}"]
    command += ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000", *options]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout
