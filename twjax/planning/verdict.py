"""What bounds a step, what would help, and how far its prediction can be trusted."""

from __future__ import annotations

import dataclasses

from twjax.planning.compile import Plan
from twjax.planning.links import DCN_EFFICIENCY
from twjax.planning.schedule import HOST_BANDWIDTH, HOST_COPY, KERNEL_EFFICIENCY, Prediction
from twjax.planning.topology import GIB

# Chips on which predictions of the model were compared with published steps.
COMPARED = ("v5e", "v5p")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """`shares` are the parts of a step's time by what they wait for; `bound` is the largest."""

    bound: str
    shares: dict[str, float]
    advice: str


_ADVICE = {
    "HBM": "operations without a matrix product read and write HBM; more rows a device make the "
    "optimizer's part smaller, and a Step.remat that computes less again spares the rest",
    "attention": "attention grows with the square of Data.seq_len; shorter rows or a window "
    "(Model.window) need less",
    "ICI": "devices wait for their slice's links; more rows a device, or fewer devices on "
    "Mesh.tensor and Mesh.context, send less for each token",
    "DCN": "devices wait for the network between slices; more tokens a step exchange the same "
    "gradients less often",
    "host": "devices wait for their host's memory; keep more on the device, or compute it again, "
    "instead of moving it",
}


def verdict(plan: Plan) -> Verdict | None:
    """Returns what bounds a predicted step, None without a prediction."""
    prediction = plan.prediction
    if prediction is None:
        return None
    seconds = {
        "matrix unit": prediction.matmul,
        "HBM": prediction.other + prediction.prefetch,
        "attention": prediction.kernels,
        "ICI": prediction.exposed,
        "DCN": prediction.exposed_dcn,
        "host": prediction.host,
    }
    shares = {name: part / prediction.seconds for name, part in seconds.items()}
    bound = max(shares, key=lambda name: shares[name])
    return Verdict(bound, shares, _advice(plan, bound, shares))


def _advice(plan: Plan, bound: str, shares: dict[str, float]) -> str:
    """Returns one sentence on the part of the step from which there is most to gain."""
    gains = {name: share for name, share in shares.items() if name in _ADVICE}
    # Attention is the model's own arithmetic, as products are: only its excess can be gained.
    gains["attention"] *= 0.5
    executed = plan.work.flops if plan.work is not None else 0.0
    again = 1 - plan.model_flops / plan.topology.num_devices / executed if executed else 0.0
    gains["again"] = max(again, 0.0) * (shares["matrix unit"] + shares["attention"])
    best = max(gains, key=lambda name: gains[name])
    if bound in ("DCN", "ICI", "host"):
        best = bound
    if gains[best] < 0.05:
        return "The chips do little else than the model's own products: there is little to gain."
    if best != "again":
        return f"Most is to gain from {shares[best]:.0%} of the step: {_ADVICE[best]}."
    spare = (plan.memory.usable - plan.memory.total) / GIB
    return (
        f"Most is to gain from the {again:.0%} of the arithmetic that is computed again: a "
        f"Step.remat that saves more needs memory, of which {spare:.1f} GiB are left."
    )


def trust(plan: Plan) -> list[str]:
    """Returns how the prediction was made and how far it can be trusted, a sentence each."""
    prediction = plan.prediction
    if prediction is None:
        return []
    chip = plan.topology.chip
    if prediction.source == "cycles":
        lines = ["Computation is the compiler's own cycles, at the core's clock."]
    else:
        lines = [
            "Computation is a bound by arithmetic and HBM traffic, because no code was generated: "
            "4 to 32% above the whole compilation's step for the six runs in configs/runs/pods."
        ]
    if prediction.kernels:
        lines.append(f"Attention's kernels are assumed to reach {KERNEL_EFFICIENCY:.0%} of peak.")
    if prediction.untimed:
        lines.append(f"Not in it, for want of a cost: {', '.join(prediction.untimed)}.")
    if uses_host(prediction):
        lines.append(
            f"{HOST_BANDWIDTH / 1e9:.0f} GB/s to the host's memory is an assumption; on a "
            "published run that offloads, the model was 54% too slow. Don't rely on this figure."
        )
    elif chip.name in COMPARED:
        lines.append(
            "On three published runs on v5e and v5p the model was within 8%, without the "
            "compiler's cycles there; between two runs on one slice, differences above 5% count."
        )
    else:
        lines.append(f"The model was never compared with a run on {chip.name}.")
    if plan.topology.num_slices > 1:
        gigabits = chip.rates.dcn * 8 / 1e9
        lines.append(
            f"Between slices each chip is taken to have {DCN_EFFICIENCY:.0%} of the {gigabits:g} "
            "Gbit/s that Cloud specifies: measured by others between two v6e slices (28% between "
            "four of tpu7x), on no other type."
        )
    if plan.quick:
        lines.append("Compiled with the least effort: the program of training will be faster.")
    return lines


def uses_host(prediction: Prediction) -> bool:
    """Whether the step moves more than scalars to the host's memory and back."""
    return any(t.bytes > 2**20 for t in prediction.traffic if t.kind == HOST_COPY)
