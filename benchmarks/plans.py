"""Compiles every plan of configs/runs/plans/, and mT5-XXL's run: the table of docs/models.md.

Each is compiled for the slice that its file names.

One compilation after the other, each in a process of its own; figures that are already in FOLDER
are not computed again. Prints the table's rows.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import subprocess
import sys

GIB = 2**30
RUNS = pathlib.Path(__file__).parent.parent / "configs" / "runs"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("plans"))
    parser.add_argument("--only", nargs="*", help="names of plans (default: all)")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for file in (*sorted((RUNS / "plans").glob("[!_]*.gin")), RUNS / "mt5_xxl.gin"):
        if args.only and file.stem not in args.only:
            continue
        (topology,) = re.findall(r"--topology (\S+)", file.read_text())
        out = args.folder / f"{file.stem}.json"
        if not out.is_file():
            command = [sys.executable, "-m", "twjax", "plan", str(file)]
            subprocess.run(
                [*command, "--topology", topology, "--json", str(out)],
                stdout=subprocess.DEVNULL,
                check=False,
            )
        print(row(file.stem, topology, json.loads(out.read_text())) if out.is_file() else file.stem)


def row(name: str, topology: str, figures: dict) -> str:
    """Returns a line of the table."""
    memory = figures["memory_bytes"]
    held = sum(memory[part] for part in ("parameters", "optimizer"))
    work = figures["device_work"]
    executed = "–"
    if work is not None:
        device = figures["model_flops"] / figures["topology"]["devices"]
        executed = f"{(work['matmul_flops'] + work['kernel_flops']) / device:.2f}"
    cells = (
        f"`{name}`",
        f"{topology} ({figures['topology']['chips']})",
        f"{figures['tokens']:,}",
        f"{figures['parameters'] / 1e9:.1f} B",
        f"{held / GIB:.1f}",
        f"{memory['temporaries'] / GIB:.1f}",
        f"{memory['total'] / GIB:.1f} of {memory['usable'] / GIB:.1f}",
        f"{figures['model_flops'] / 1e15:,.0f}",
        executed,
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
