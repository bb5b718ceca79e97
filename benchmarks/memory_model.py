"""The memory model of `twjax plan --search` beside the compiler: docs/search.md's table.

    python benchmarks/memory_model.py            # a minute

Nothing is compiled: what the compiler allocated for each step (arguments and temporaries of one
device, GiB) is written down below, from whole compilations with JAX 0.10.2.
"""

from __future__ import annotations

import pathlib

ROOT = pathlib.Path(__file__).parent.parent / "configs" / "runs"
_SIX = "('query', 'key', 'value', 'attention', 'gate', 'up')"
_FOUR = "('query', 'key', 'value', 'attention')"
# (file, slice, what is saved where it isn't the file's, allocated)
COMPILED: tuple[tuple[str, str, str, float], ...] = (
    ("pods/llama_1b_v5e-16", "v5e-16", "'full'", 3.74),
    ("pods/llama_1b_v5e-16", "v5e-16", "'dots'", 10.24),
    ("pods/llama2_7b_v5p-128", "v5p-128", _SIX, 46.15),
    ("pods/llama2_7b_v5p-128", "v5p-128", "'dots'", 50.20),
    ("pods/llama3.1_8b_v5p-128", "v5p-128", "'dots'", 51.98),
    ("pods/llama3.1_8b_v5e-256", "v5e-256", "'full'", 9.21),
    ("pods/llama3.1_8b_v5e-256", "v5e-256", "('attention',)", 13.13),
    ("pods/llama3.1_8b_v6e-256", "v6e-256", _FOUR, 19.39),
    ("pods/llama2_70b_v5p-256", "v5p-256", "", 79.49),
    ("plans/llama3.1_8b", "v5e-16", "", 13.2),
    ("plans/gemma3_27b", "v6e-64", "", 28.7),
    ("mt5_xxl", "v5p-128", "", 18.4),
    ("plans/qwen3_32b", "v6e-64", "", 19.9),
    ("plans/bloomberggpt_50b", "v5p-64", "", 36.9),
    ("plans/llama3.1_70b", "v5p-128", "", 35.1),
    ("plans/gpt3_175b", "v5p-256", "", 36.8),
    ("plans/llama3.1_405b", "v5p-512", "", 72.8),
)


def main() -> None:
    from twjax.planning.topology import GIB, parse_topology, set_environment

    set_environment()
    from twjax import config
    from twjax.planning.memory import Shapes

    print("| run | slice | saved | compiler, GiB | model, GiB | error | of it saved activations |")
    print("|---|---|---|--:|--:|--:|--:|")
    for name, slices, remat, allocated in COMPILED:
        bindings = [f"Step.remat = {remat}"] if remat else []
        run = config.load(config.Run, [ROOT / f"{name}.gin"], bindings).value
        found = Shapes(run, parse_topology(slices)).estimate(run)
        saved = run.step.remat if isinstance(run.step.remat, str) else ", ".join(run.step.remat)
        total = found.total / GIB
        print(
            f"| `{name}` | {slices} | {saved} | {allocated:.1f} | {total:.1f} | "
            f"{total / allocated - 1:+.0%} | {found.saved / GIB:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
