"""Our training step beside MaxText's, as the TPU compiler plans both: docs/performance.md's table.

    python benchmarks/tpu_aot.py --report hlo_report.py               # half an hour on two cores
    python benchmarks/tpu_aot.py --report hlo_report.py --only llama_1b_v5e-16

Each of configs/runs/pods/ is compiled whole, ahead of time, in a process of its own; no TPU is
needed. `--report` is the script that turns a scheduled program into seconds, memory and exposed
communication; MaxText's figures were made with the same script and its defaults (MaxText e591f30c,
its own train_compile, jax 0.10.2, libtpu 0.0.52, packed segments on, the same slices, rows a chip
and lengths). They are predictions of a model on the compiler's cycles, no measurements.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

CONFIGS = pathlib.Path(__file__).parent.parent / "configs" / "runs" / "pods"
GIB = 2**30
# MaxText's predicted step in seconds, MFU in percent, temporaries in GiB, whether the compilation
# was whole (one that stops after scheduling has no cycles and comes out too fast), and the aim.
MAXTEXT: dict[str, tuple[float, float, float, bool, str]] = {
    "llama2_7b_v5p-128": (2.283, 67.0, 44.7, True, "2.10 s, 46 GiB"),
    "llama3.1_8b_v5p-128": (2.905, 63.2, 52.1, True, "2.52 s, 53 GiB"),
    "llama3.1_8b_v5e-256": (8.554, 50.0, 12.7, False, "7.5 s, fits"),
    "llama3.1_8b_v6e-256": (2.329, 39.4, 10.3, True, "2.05 s, fits"),
    "llama2_70b_v5p-256": (12.431, 61.5, 39.4, False, "11.5 s"),
    "llama_1b_v5e-16": (1.123, 28.9, 5.3, True, "0.92 s, fits"),
}
# Compiled alike, without figures of MaxText's beside them.
ALONE = ("llama3.1_8b_128k_v5p-128", "llama3.1_70b_v6e-256")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=pathlib.Path, required=True, help="hlo_report.py")
    parser.add_argument(
        "--only", nargs="*", default=[*sorted(MAXTEXT), *ALONE], help="names of configurations"
    )
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("build/tpu_aot"))
    parser.add_argument("--set", action="append", default=[], help="as in twjax plan")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        compile_one(args.one, args.folder / args.one, args.set)
        return
    print(
        "| configuration | MaxText: step | MFU | temporaries | ours: step | MFU | temporaries | "
        "cycles | kernels | exposed | compiled in | aim |\n" + "|---" * 12 + "|"
    )
    for name in args.only:
        folder = args.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--report", args.report, "--folder", args.folder]
        command += ["--one", name, *(f"--set={binding}" for binding in args.set)]
        subprocess.run([*map(str, command)], check=True)
        found = folder / "report.json"
        command = [sys.executable, args.report, folder / "step.hlo", "--json", folder / "step.json"]
        command += ["-o", found]
        subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)
        print(row(name, json.loads(found.read_text())), flush=True)


def row(name: str, ours: dict[str, Any]) -> str:
    """Returns a line of the table."""
    theirs, aim = ("–", "–", "–"), "fits"
    if name in MAXTEXT:
        step, mfu, temporaries, whole, aim = MAXTEXT[name]
        seconds = f"{step:.3f} s{'' if whole else ' (scheduled only)'}"
        theirs = (seconds, f"{mfu:.1f}%", f"{temporaries:.1f} GiB")
    cells = (
        f"`{name}`",
        *theirs,
        f"{ours['sim_step_s']:.3f} s",
        f"{ours['mfu_sim_step_s']:.1%}",
        f"{ours['hbm_gib']['temp_size_in_bytes']:.1f} GiB",
        f"{ours['compiler_s']:.3f} s",
        f"{ours['kernel_s']:.3f} s",
        f"{sum(ours['exposed_s'].values()):.3f} s",
        f"{ours['compile_s']:.0f} s",
        aim,
    )
    return "| " + " | ".join(cells) + " |"


def compile_one(name: str, folder: pathlib.Path, bindings: list[str]) -> None:
    """Writes the compiled program and what the compiler says of its memory."""
    from twjax.planning.topology import parse_topology, set_environment

    set_environment()
    from twjax import config
    from twjax.planning.compile import compile_step
    from twjax.planning.flops import model_flops_per_row

    topology = parse_topology(name.rsplit("_", 1)[1])
    run = config.load(config.Run, [CONFIGS / f"{name}.gin"], bindings).value
    began = time.monotonic()
    step = compile_step(run, topology)
    seconds = time.monotonic() - began
    if step.compiled is None or step.text is None:
        sys.exit(f"{name}: {step.needed / GIB:.1f} GiB don't fit.")
    (folder / "step.hlo").write_text(step.text)
    stats = step.compiled.memory_analysis()
    sizes = [field for field in dir(stats) if field.endswith("_in_bytes")]
    flops = run.data.batch_size * model_flops_per_row(run.model, step.specs, run.data.lengths)
    described = {
        "memory": {field: getattr(stats, field) for field in sizes},
        "model_flops_per_device": flops / topology.num_devices,
        "device_kind": step.mesh.devices.flat[0].device_kind,
        "torus": "x".join(map(str, topology.shape)),
        "compile_s": seconds,
    }
    (folder / "step.json").write_text(json.dumps(described))


if __name__ == "__main__":
    main()
