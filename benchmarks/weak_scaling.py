r"""Weak scaling on paper: a step's seconds from 16 to 6,144 v5p and to 16 slices of v5e-256.

    python benchmarks/tpu_aot.py --report hlo_report.py \
        --only llama3.1_8b_v5p-128 llama3.1_8b_v5e-256
    python benchmarks/weak_scaling.py --programs build/tpu_aot --svg docs/assets/weak_scaling.svg

Llama 3.1 8B with the rows a chip of configs/runs/pods/. A generation has one whole compilation, on
64 v5p or 256 v5e, left by the first command: what devices compute is the same on every size, and
so are the collectives among those that share the weights. For each size they are timed again over
the links that the same mesh has there, and the sum of the gradients over the other devices is
added by its bytes. With `--schedule NAMES` these sizes are also compiled until their own schedule
is there (a minute or two each; generating code is most of a compilation), which checks the model.
Nothing is measured; what is assumed is printed below each table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from twjax.planning.hlo_text import Instruction

CONFIGS = pathlib.Path(__file__).parent.parent / "configs" / "runs" / "pods"
V5P = tuple(f"v5p-{cores}" for cores in (32, 128, 512, 2048, 12288))
V5E = ("v5e-256", "2xv5e-256", "4xv5e-256", "8xv5e-256", "16xv5e-256")
PROGRAMS = {"v5p": "llama3.1_8b_v5p-128", "v5e": "llama3.1_8b_v5e-256"}
# A collective of all the devices that the links are given of.
EVERYONE = Instruction("all", "all-reduce", "", (), "", "", False)
SCHEDULED = "*jit_step*after_optimizations_after_buffer_assignment.txt"
ASSUMPTIONS = (
    "two rows of 8,192 tokens a chip on every size, so a step has more tokens on more chips",
    "v5p: weights are sharded over 64 chips at most and the rest is data parallel within one pod; "
    "v5e: over the 256 chips of a slice, gradients are summed over the slices",
    "a collective takes the bytes of the whole buffer over all links that its group can use, both "
    "ways around where the torus closes; no latency, no contention between groups",
    "the sum of the gradients over data parallel devices or slices hides behind nothing; between "
    "slices each chip reaches half of its part of the network, {dcn} Gbit a second",
    "links: {link} GB/s each and direction; attention's kernels reach half of the peak; compute is "
    "the compiler's cycles",
    "no straggler, no failure, no input that is late: those are what a real pod adds",
)


@dataclasses.dataclass(frozen=True)
class Size:
    """Seconds of a step on one size of slices; `scheduled` are the waits of its own schedule."""

    topology: str
    chips: int
    compute: float
    kernels: float
    links: float
    between: float
    scheduled: float | None

    @property
    def seconds(self) -> float:
        return self.compute + self.kernels + self.links + self.between


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--programs", type=pathlib.Path, default=pathlib.Path("build/tpu_aot"),
        help="where tpu_aot.py left its compilations",
    )  # fmt: skip
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("build/weak_scaling"))
    parser.add_argument("--svg", type=pathlib.Path, help="where the plot goes")
    parser.add_argument("--schedule", nargs="*", default=[], help="names of slices to compile for")
    parser.add_argument("--minutes", type=float, default=10, help="at most, for each schedule")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    environment()
    if args.one:
        schedule_one(args.one[0], pathlib.Path(args.one[1]))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.schedule:
        if not (args.folder / f"{name}.json").is_file():
            measure(name, args.folder, args.minutes)
    found = {}
    for chip, names in (("v5p", V5P), ("v5e", V5E)):
        text = (args.programs / PROGRAMS[chip] / "step.hlo").read_text(encoding="utf-8")
        found[chip] = [modelled(name, text, args.folder) for name in names]
        print_table(chip, found[chip])
    if args.svg:
        args.svg.parent.mkdir(parents=True, exist_ok=True)
        args.svg.write_text(plot(found), encoding="utf-8")


def modelled(name: str, text: str, folder: pathlib.Path) -> Size:
    """Returns a size by a generation's one program and the links that there are."""
    import numpy as np

    from twjax.models.network import network
    from twjax.models.spec import count_weights
    from twjax.parallel.mesh import make_mesh
    from twjax.planning.links import Links
    from twjax.planning.schedule import predict

    run, topology = sized(name)
    devices = make_mesh(run.mesh, topology.devices()).devices
    sharing = devices.reshape(-1, run.mesh.fsdp)
    found = predict(text, Links.of(topology, list(sharing[0])))
    # The float32 gradients of one device's part of the weights, summed over those with the same.
    part = 4 * count_weights(network(run.model).specs) / run.mesh.fsdp
    links, between = found.exposed, 0.0
    if run.mesh.data > 1:
        same = np.squeeze(devices, axis=(3, 4))[0, :, 0]
        links += Links.of(topology, list(same)).seconds("all-reduce", part, EVERYONE)
    if topology.num_slices > 1:
        between = Links.of(topology, list(devices.flat)).seconds_across("all-reduce", part)
    file = folder / f"{name}.json"
    told = json.loads(file.read_text()) if file.is_file() else None
    return Size(
        topology=name,
        chips=topology.num_chips,
        compute=found.compute + found.prefetch,
        kernels=found.kernels,
        links=links,
        between=between,
        scheduled=None if told is None else told["links"] + told["between"],
    )


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
    while time.monotonic() < end:
        ended = process.poll() is not None
        for file in dump.glob(SCHEDULED):
            text = file.read_text(encoding="utf-8")
            # The entry computation is the last one, and its end alone is at the margin.
            if re.search(r"^ENTRY .*^}\s*\Z", text, re.MULTILINE | re.DOTALL):
                return text
        if ended:
            return ""
        time.sleep(2)
    return ""


def print_table(chip: str, series: Sequence[Size]) -> None:
    """Prints a generation's sizes and what is assumed."""
    from twjax.planning.topology import CHIPS

    heads = ("chips", "computes", "kernels", "waits: links", "waits: slices", "step", "efficiency",
             "waits, scheduled")  # fmt: skip
    print("| slices | " + " | ".join(heads) + " |\n|---" + "|--:" * len(heads) + "|")
    for one in series:
        share = min(o.seconds for o in series) / one.seconds
        checked = "–" if one.scheduled is None else f"{one.scheduled:.3f} s"
        print(
            f"| {one.topology} | {one.chips:,} | {one.compute:.3f} s | {one.kernels:.3f} s | "
            f"{one.links:.3f} s | {one.between:.3f} s | {one.seconds:.3f} s | {share:.1%} | "
            f"{checked} |"
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
