"""The other side of benchmarks/gpu_training.py: plain transformers with torch.compile."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any


def main() -> None:
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import LlamaConfig, LlamaForCausalLM

    given = json.loads(sys.argv[1])
    shape, seq, rows = given["shape"], given["seq"], given["batch"]
    if not given["tiny"] and not torch.cuda.is_available():
        sys.exit("this torch sees no CUDA device")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    settings: dict[str, Any] = dict(
        vocab_size=shape["vocab"],
        hidden_size=shape["embed"],
        intermediate_size=shape["mlp"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        head_dim=shape["head_dim"],
        max_position_embeddings=seq,
        tie_word_embeddings=True,
        use_cache=False,
        attn_implementation=given["attention"],
    )
    dtype = getattr(torch, given["weights"])
    with torch.device(device):
        model: Any = LlamaForCausalLM(LlamaConfig(**settings)).to(dtype)
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=device == "cuda"
    )
    compiled = model if given["tiny"] else torch.compile(model)
    tokens = torch.randint(0, shape["vocab"], (rows, seq), device=device)
    mixed = contextlib.nullcontext()
    if given["weights"] == "float32":
        mixed = torch.autocast(device, dtype=torch.bfloat16)

    def step() -> Any:
        with mixed:
            loss = compiled(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    began = time.perf_counter()
    first = float(step())
    for _ in range(2):
        step()
    wait()
    found: dict[str, Any] = {"batch": rows, "first_loss": first, **given_names(given)}
    found["compile_s"] = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(given["steps"]):
        loss = step()
    wait()
    seconds = (time.perf_counter() - began) / given["steps"]
    found["tokens_per_second"] = rows * seq / seconds
    found["last_loss"] = float(loss)
    found["torch"] = torch.__version__
    if device == "cuda":
        found["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    assert "tensorflow" not in sys.modules
    print("RESULT " + json.dumps(found), flush=True)


def given_names(given: dict[str, Any]) -> dict[str, str]:
    return {name: given[name] for name in ("attention", "weights")}


if __name__ == "__main__":
    main()
