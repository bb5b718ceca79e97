"""Checks this installation: versions, devices, and what can't work here."""

from __future__ import annotations

import argparse

HELP = "check this installation: versions and devices"

PACKAGES = {
    "trainer": (
        "jax jaxlib flax optax orbax-checkpoint grain array-record gin-config numpy tensorboardX"
    ),
    "data side": (
        "seqio tensorflow tensorflow-text tensorflow-datasets sentencepiece opencc pyarrow"
    ),
    "planning": "libtpu",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(args: argparse.Namespace) -> int:
    import importlib.metadata
    import platform

    from twjax import __version__
    from twjax.parallel import distributed

    print(f"twjax {__version__} · Python {platform.python_version()} · {platform.platform()}")
    missing = []
    for part, names in PACKAGES.items():
        found = []
        for name in names.split():
            try:
                found.append(f"{name} {importlib.metadata.version(name)}")
            except importlib.metadata.PackageNotFoundError:
                found.append(f"{name} -")
                if part != "planning":
                    missing.append(name)
        print(f"{part}: {', '.join(found)}")
    owners = importlib.metadata.packages_distributions().get("opencc", [])
    namesake = [owner for owner in owners if owner.lower() != "opencc"]
    distributed.initialize()
    import jax

    devices = jax.devices()
    print(f"devices: {len(devices)} × {devices[0].device_kind} ({devices[0].platform})")
    if namesake:
        print(f"problem: {', '.join(namesake)} replaces the official opencc; uninstall it.")
    if missing:
        print(f"problem: not installed: {', '.join(missing)}; pip install twjax brings them.")
    return 1 if missing or namesake else 0
