"""Weak scaling on paper: a step's seconds from 16 to 6,144 v5p and to 16 slices of v5e-256.

    python benchmarks/weak_scaling.py --folder build/weak_scaling --svg docs/assets/weak_scaling.svg

Llama 3.1 8B with the rows a chip of configs/runs/pods/. For each size the step is compiled until
its schedule is there (half a minute; generating code is most of a compilation) and the time that
devices wait for their links and for other slices is taken from that schedule. What they compute is
the same on every size and comes from one whole compilation of a generation (`twjax plan`, kept in
the cache of plans). Nothing is measured; the assumptions are printed below the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

CONFIGS = pathlib.Path(__file__).parent.parent / "configs" / "runs" / "pods"
V5P = tuple(f"v5p-{cores}" for cores in (32, 128, 512, 2048, 12288))
V5E = ("v5e-256", "2xv5e-256", "4xv5e-256", "16xv5e-256")
SCHEDULED = "*jit_step*after_optimizations_after_buffer_assignment.txt"
ASSUMPTIONS = (
    "two rows of 8,192 tokens a chip on every size, so a step has more tokens on more chips",
    "v5p: weights are sharded over 64 chips at most and the rest is data parallel within one pod; "
    "v5e: over the 256 chips of a slice, gradients are summed over the slices",
    "a collective takes the bytes of the whole buffer over all links that its group can use, both "
    "ways around where the torus closes; no latency, no contention between groups",
    "between slices each chip has its part of the slice's network: {dcn} Gbit a second a chip",
    "links: {link} GB/s each and direction; attention's kernels reach half of the peak",
    "no straggler, no failure, no input that is late: those are what a real pod adds",
)


@dataclasses.dataclass(frozen=True)
class Size:
    """Seconds of a step on one size of slices."""

    topology: str
    chips: int
    compute: float
    kernels: float
    links: float
    between: float
    seconds_to_schedule: float

    @property
    def seconds(self) -> float:
        return self.compute + self.kernels + self.links + self.between


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("build/weak_scaling"))
    parser.add_argument("--svg", type=pathlib.Path, help="where the plot goes")
    parser.add_argument("--only", nargs="*", default=[*V5P, *V5E], help="names of slices")
    parser.add_argument("--minutes", type=float, default=10, help="at most, for each schedule")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        schedule_one(args.one[0], pathlib.Path(args.one[1]))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        if not (args.folder / f"{name}.json").is_file():
            measure(name, args.folder, args.minutes)
    found = {chip: sizes(names, args.folder) for chip, names in (("v5p", V5P), ("v5e", V5E))}
    for chip, series in found.items():
        print_table(chip, series)
    if args.svg:
        args.svg.parent.mkdir(parents=True, exist_ok=True)
        args.svg.write_text(plot(found), encoding="utf-8")


def environment() -> None:
    """Lets libtpu compile without a TPU; before JAX is imported."""
    from twjax.planning.topology import set_environment

    set_environment()


def sized(name: str) -> tuple[Any, Any]:
    """Returns the run for slices of a name, and their topology."""
    from twjax import config
    from twjax.planning.topology import parse_topology

    topology = parse_topology(name)
    chip, slices = topology.chip.name, topology.num_slices
    file = CONFIGS / f"llama3.1_8b_{'v5p-128' if chip == 'v5p' else 'v5e-256'}.gin"
    chips = topology.num_chips // slices
    fsdp = min(chips, 64 if chip == "v5p" else 256)
    bindings = [
        f"Mesh.slice = {slices}",
        f"Mesh.fsdp = {fsdp}",
        f"Mesh.data = {chips // fsdp}",
        f"Data.batch_size = {2 * topology.num_chips}",
    ]
    return config.load(config.Run, [file], bindings).value, topology


def schedule_one(name: str, folder: pathlib.Path) -> None:
    """Compiles one size; the schedule is in `folder` long before this ends."""
    environment()
    from twjax.planning.compile import lower_step

    run, topology = sized(name)
    lowered = lower_step(run, topology)
    lowered.program.compile(compiler_options={"xla_dump_to": str(folder)})


def measure(name: str, folder: pathlib.Path, minutes: float) -> None:
    """Writes what the schedule of one size says to `folder`."""
    dump = folder / name
    dump.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, __file__, "--one", name, str(dump)],
        stdout=subprocess.DEVNULL,
        stderr=(folder / f"{name}.log").open("w"),
        start_new_session=True,
    )
    try:
        text = wait_for(process, dump, begin + 60 * minutes)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    spent = time.monotonic() - begin
    if not text:
        print(f"{name}: no schedule after {spent:.0f} s, see {folder / name}.log", file=sys.stderr)
        return
    environment()
    from twjax.parallel.mesh import make_mesh
    from twjax.planning.links import Links
    from twjax.planning.schedule import predict

    run, topology = sized(name)
    mesh = make_mesh(run.mesh, topology.devices())
    found = predict(text, Links.of(topology, list(mesh.devices.flat)))
    told = {
        "chips": topology.num_chips,
        "links": found.exposed,
        "between": found.exposed_dcn,
        "traffic": [dataclasses.asdict(traffic) for traffic in found.traffic],
        "seconds_to_schedule": spent,
    }
    (folder / f"{name}.json").write_text(json.dumps(told, indent=1))
    print(f"{name}: scheduled in {spent:.0f} s", file=sys.stderr, flush=True)


def wait_for(process: subprocess.Popen, dump: pathlib.Path, end: float) -> str:
    """Returns the scheduled module as soon as it is whole; "" where none comes."""
    size = -1
    while time.monotonic() < end:
        ended = process.poll() is not None
        for file in dump.glob(SCHEDULED):
            # Written at once, but not in one piece.
            if 0 < file.stat().st_size == size:
                return file.read_text(encoding="utf-8")
            size = file.stat().st_size
        if ended and size < 0:
            return ""
        time.sleep(2)
    return ""


def sizes(names: Sequence[str], folder: pathlib.Path) -> list[Size]:
    """Returns what is known of a generation's sizes, with its one whole compilation."""
    told = {name: folder / f"{name}.json" for name in names}
    told = {name: json.loads(file.read_text()) for name, file in told.items() if file.is_file()}
    if not told:
        return []
    environment()
    from twjax.planning.cache import PlanCache, default_folder
    from twjax.planning.compile import plan

    whole = plan(*sized("v5p-128" if "v5p" in names[0] else "v5e-256"),
                 cache=PlanCache(default_folder())).prediction  # fmt: skip
    if whole is None:
        sys.exit("The step that all sizes share doesn't fit.")
    return [
        Size(
            name,
            one["chips"],
            whole.compute + whole.prefetch,
            whole.kernels,
            one["links"],
            one["between"],
            one["seconds_to_schedule"],
        )
        for name, one in told.items()
    ]


def print_table(chip: str, series: Sequence[Size]) -> None:
    """Prints a generation's sizes and what is assumed."""
    if not series:
        return
    from twjax.planning.topology import CHIPS

    print(
        "| slices | chips | computes | kernels | waits: links | waits: slices | step | efficiency |"
    )
    print("|---" + "|--:" * 7 + "|")
    for one in series:
        share = series[0].seconds / one.seconds
        print(
            f"| {one.topology} | {one.chips:,} | {one.compute:.3f} s | {one.kernels:.3f} s | "
            f"{one.links:.3f} s | {one.between:.3f} s | {one.seconds:.3f} s | {share:.1%} |"
        )
    rates = CHIPS[chip].rates
    for text in ASSUMPTIONS:
        print("- " + text.format(dcn=round(rates.dcn * 8 / 1e9), link=round(rates.link / 1e9)))
    print(flush=True)


def plot(found: dict[str, list[Size]]) -> str:
    """Returns both generations as one drawing: the parts of a step over the number of chips."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 330" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="860" height="330" fill="#ffffff"/>',
    ]
    for place, (chip, series) in enumerate(found.items()):
        if series:
            parts += panel(40 + 430 * place, chip, series)
    colours = (("computes", COLOURS[0]), ("attention kernels", COLOURS[1]),
               ("waits for links", COLOURS[2]), ("waits for other slices", COLOURS[3]))  # fmt: skip
    for place, (name, colour) in enumerate(colours):
        x = 90 + 180 * place
        parts.append(f'<rect x="{x}" y="308" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="319" fill="#222222">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


COLOURS = ("#4477aa", "#66ccee", "#ccbb44", "#ee6677")
WIDTH, HEIGHT, TOP = 360.0, 210.0, 40.0


def panel(left: float, chip: str, series: Sequence[Size]) -> list[str]:
    """Returns one generation: areas stacked over a logarithmic axis of chips."""
    low, high = (math.log2(one.chips) for one in (series[0], series[-1]))
    most = 1.15 * max(one.seconds for one in series)

    def at(one: Size, seconds: float) -> str:
        share = (math.log2(one.chips) - low) / (high - low or 1.0)
        return f"{left + share * WIDTH:.1f},{TOP + HEIGHT * (1 - seconds / most):.1f}"

    title = "v5p, one pod" if chip == "v5p" else "v5e-256, one slice and more"
    parts = [
        f'<text x="{left}" y="24" fill="#222222">Llama 3.1 8B on {title}: seconds a step</text>'
    ]
    base = [0.0] * len(series)
    for colour, field in zip(COLOURS, ("compute", "kernels", "links", "between"), strict=True):
        top = [b + getattr(one, field) for b, one in zip(base, series, strict=True)]
        there = [at(one, value) for one, value in zip(series, top, strict=True)]
        back = [at(one, value) for one, value in zip(series, base, strict=True)][::-1]
        parts.append(f'<polygon fill="{colour}" points="{" ".join(there + back)}"/>')
        base = top
    bottom = TOP + HEIGHT
    for one in series:
        x, y = (float(v) for v in at(one, one.seconds).split(","))
        end = "start" if one is series[0] else "end" if one is series[-1] else "middle"
        parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="#222222"/>')
        parts.append(f'<text x="{x}" y="{y - 8}" text-anchor="{end}" fill="#222222">'
                     f"{one.seconds:.2f}</text>")  # fmt: skip
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="{end}" fill="#222222">'
                     f"{one.chips:,}</text>")  # fmt: skip
    parts.append(f'<text x="{left + WIDTH / 2}" y="{bottom + 38}" text-anchor="middle" '
                 'fill="#222222">chips</text>')  # fmt: skip
    return parts


if __name__ == "__main__":
    main()
