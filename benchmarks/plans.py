"""Compiles runs for the slices that their files name: the tables of docs/models.md and systems.md.

    python benchmarks/plans.py                    # configs/runs/plans/, and mT5-XXL's run
    python benchmarks/plans.py --systems          # configs/runs/systems/, and cpt_taiwan

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
    parser.add_argument("--systems", action="store_true", help="runs of published systems")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    folder, other = ("systems", "cpt_taiwan") if args.systems else ("plans", "mt5_xxl")
    for file in (*sorted((RUNS / folder).glob("[!_]*.gin")), RUNS / f"{other}.gin"):
        if args.only and file.stem not in args.only:
            continue
        (topology,) = re.findall(r"--topology (\S+)", file.read_text())
        out = args.folder / f"{file.stem}.json"
        command = [sys.executable, "-m", "twjax", "plan", str(file)]
        if not out.is_file():
            subprocess.run(
                [*command, "--topology", topology, "--json", str(out)],
                stdout=subprocess.DEVNULL,
                check=False,
            )
        if not out.is_file():
            print(f"{file.stem}: no figures; run {' '.join(command)} --topology {topology}")
            continue
        figures = json.loads(out.read_text())
        print((short_row if args.systems else row)(file.stem, topology, figures))


def short_row(name: str, topology: str, figures: dict) -> str:
    """Returns a line of the table of systems; tokens are those of the largest step."""
    memory = figures["memory_bytes"]
    cells = (
        f"`{name}`",
        f"{topology} ({figures['topology']['chips']})",
        f"{figures['parameters'] / 1e9:.2f} B",
        f"{figures['tokens']:,}",
        f"{memory['total'] / GIB:.1f} of {memory['usable'] / GIB:.1f}",
    )
    return "| " + " | ".join(cells) + " |"


def row(name: str, topology: str, figures: dict) -> str:
    """Returns a line of the table of plans."""
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
