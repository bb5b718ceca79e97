"""A run to plan, small enough to be compiled in seconds, and plans with given figures."""

from __future__ import annotations

from twjax import config
from twjax.config import Run
from twjax.planning.buffers import Buffer
from twjax.planning.candidates import Candidate, Considered, Point
from twjax.planning.compile import Memory, Plan
from twjax.planning.hlo import Collective, Work
from twjax.planning.memory import Estimate
from twjax.planning.schedule import Prediction, Traffic
from twjax.planning.topology import GIB, parse_topology

GIN = """
include 'configs/models/llama3.2_1b.gin'
include 'configs/runs/plans/_common.gin'
Model.num_layers = 4
Model.embed_dim = 512
Model.num_heads = 4
Model.num_kv_heads = 4
Model.head_dim = 128
Model.mlp_dim = 2048
Model.vocab_size = 32_000
Data.seq_len = 1024
Data.batch_size = 32
Schedule.peak = 1e-3
"""
V5E = parse_topology("v5e-4")


def small(folder, *overrides: str) -> Run:
    """Returns the run, whose file is left in `folder`."""
    return config.load(config.Run, [gin(folder)], overrides).value


def gin(folder) -> str:
    """Writes the run's file; returns its path."""
    file = folder / "small.gin"
    file.write_text(GIN)
    return str(file)


def estimate(gib: float) -> Estimate:
    """Returns an estimate of so much memory."""
    return Estimate(0.1 * GIB, 0.2 * GIB, 0, 0, 0, (gib - 0.3) * GIB, 0, 0)


def candidate(seconds: float, gib: float, remat="full", micro: int = 1, fsdp: int = 4) -> Candidate:
    """Returns a candidate of which that is expected."""
    point = Point((1, 4 // fsdp, fsdp, 1, 1), 32, micro, remat)
    return Candidate(point, estimate(gib), seconds, 32 * 1024)


def considered(*candidates: Candidate, large: tuple[Candidate, ...] = ()) -> Considered:
    """Returns candidates in the order given."""
    return Considered(candidates, large, 3)


def plan(seconds: float, gib: float, fits: bool = True) -> Plan:
    """Returns a plan with a predicted step of `seconds` that takes `gib` of a device."""
    held = (0.1 * GIB, 0.2 * GIB, 0.0, 0.0)
    memory = Memory(*held, (gib - 0.3) * GIB, 0.0, 0.0, V5E.chip.usable_bytes, fits)
    traffic = Traffic("all-gather", False, 8, 1.5 * GIB, 0.2 * seconds, 0.1 * seconds)
    parts = (0.6, 0.5, 0.2, 0.1, 0.0, 0.05, 0.05)
    prediction = Prediction(
        seconds, *(part * seconds for part in parts), source="cycles", traffic=(traffic,)
    )
    work = Work(1e12, 1e11, (Collective("all-gather", False, 8, 1.5 * GIB),), ("while.1",))
    return Plan(
        topology=V5E,
        mesh={"slice": 1, "data": 1, "fsdp": 4, "context": 1, "tensor": 1},
        num_parameters=32_000_000,
        tokens=32 * 1024,
        model_flops=1e13,
        memory=memory,
        work=work if fits else None,
        prediction=prediction if fits else None,
        largest=(Buffer("while.7", "bf16[4,8,1024,512]", 2, 0.05 * GIB),),
        quick=False,
        compile_seconds=12.5,
    )
