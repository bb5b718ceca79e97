"""What tests of TPU VMs share: a stand-in cloud, small programs in wheels, the subcommands."""

from __future__ import annotations

import base64
import gc
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable

import pytest

from launch import request, tpu_vm
from tests import standin_gcloud, tiny

SPOT = ["--topology", "v4-16", "--zone", standin_gcloud.ZONE, "--project", "p", "--spot"]
# A program in the place of twjax: it says its worker's number and its words.
PROGRAM = """
import os, pathlib, signal, sys, time
print("says", os.environ.get("TWJAX_PROCESS_ID", "0"), *sys.argv[1:], flush=True)
for kind, value in zip(sys.argv[1::2], sys.argv[2::2]):
    if kind == "exit":
        sys.exit(int(value))
    if kind == "sleep":
        time.sleep(float(value))
    if kind == "until":
        ends = []
        signal.signal(signal.SIGTERM, lambda *about: ends.append(1))
        while not pathlib.Path(value).exists() and not ends:
            time.sleep(0.05)
        print("saved" if ends else "done", flush=True)
    if kind == "environment":
        print("value", repr(os.environ.get(value)), flush=True)
"""


def write_wheel(folder: pathlib.Path, packages: dict[str, str] | None = None) -> pathlib.Path:
    """Writes a wheel of this repository, or of these modules; its `twjax` runs `twjax.cli:main`."""
    files = {
        f"{path.relative_to(tiny.REPO)}": path.read_bytes()
        for package in ("twjax", "tasks", "launch")
        for path in sorted((tiny.REPO / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    if packages is not None:
        files = {name: text.encode() for name, text in packages.items()}
    info = "twjax-0.1.dist-info"
    files |= {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: twjax\nVersion: 0.1\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": b"[console_scripts]\ntwjax = twjax.cli:main\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()[:-1]},"
        f"{len(data)}\n"
        for name, data in files.items()
    )
    path = folder / "twjax-0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(name, data)
    return path


def write_program(folder: pathlib.Path, program: str = PROGRAM) -> pathlib.Path:
    """Writes a wheel whose `twjax` is a small program."""
    body = "".join(f"    {line}\n" for line in program.splitlines())
    modules = {"twjax/__init__.py": "", "twjax/cli.py": f"def main():\n{body}"}
    return write_wheel(folder, modules)


@pytest.fixture(name="cloud")
def stand_in_cloud(tmp_path, monkeypatch):
    """A stand-in cloud on PATH, and an empty folder of states."""
    folder = tmp_path / "cloud"
    standin_gcloud.install(folder)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv(request.FOLDER, str(tmp_path / "state"))
    yield folder
    for home in folder.glob("homes/*"):
        standin_gcloud.kill([str(home)])


def launch(*words: object) -> int:
    """Runs a subcommand in this process."""
    old, hang_up = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    try:
        return tpu_vm.main([str(word) for word in words])
    finally:
        signal.signal(signal.SIGTERM, old)
        signal.signal(signal.SIGHUP, hang_up)
        # As a process that ends lets go of its lock.
        gc.collect()


def begin(*words: object, **streams) -> subprocess.Popen[str]:
    """Starts a subcommand in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "launch.tpu_vm", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(tiny.REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **streams,
    )


def wait_until(holds: Callable[[], object], seconds: float = 240.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "did not come about"
        time.sleep(0.05)


def verbs(folder: pathlib.Path) -> list[str]:
    """Returns what was asked of the cloud, in order, without looks."""
    words = [" ".join(call[2:4]) for call in standin_gcloud.calls(folder)]
    return [verb for verb in words if "describe" not in verb]
