"""Multiple choice by likelihood: twjax beside lm_eval with transformers, same CPU, same weights.

  python benchmarks/choice.py --work /tmp/choice            # about 25 minutes on two cores
  python benchmarks/choice.py --work /tmp/choice --limit 40 # a quick look

Needs torch, transformers and lm_eval beside twjax (`make torch`, the extra `harness`). The model
has random weights in the shape of a small Llama (12 layers, 768 wide, 32,000 ids) and a byte-level
vocabulary made from the repository's texts; the questions are `configs/evaluations/civil_exam`.
Each side runs in a process of its own and is timed from texts to scores, without loading: lm_eval
with its default batch size of 1 and with 16, twjax with and without compiling. The floor beside
twjax's time is what the products of the layers with their weights alone would take for the tokens
that it reads, each once and without padding, at the rate of one such product on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

from twjax.config.suite import Style
from twjax.evaluation.choice import Choice, Form
from twjax.evaluation.items import Items, read_items
from twjax.training.checkpoint import IMPORT_FILE
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

EXAM = "configs/evaluations/civil_exam.jsonl.gz"
SETTINGS: tuple[tuple[Style, int], ...] = (("letters", 0), ("texts", 0), ("letters", 5))
BATCHES = (1, 16)
VOCABULARY = 32_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for the model")
    parser.add_argument("--limit", type=int, default=200, help="questions a setting")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures to this file")
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        found = (ours if args.side == "ours" else theirs)(args.work, args.limit)
        (args.work / f"{args.side}.json").write_text(json.dumps(found))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    make_model(args.work)
    sides = {}
    for side in ("ours", "theirs"):
        command = [sys.executable, __file__, "--work", args.work, "--limit", args.limit]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
        subprocess.run([*map(str, command), "--side", side], env=environment, check=True)
        sides[side] = json.loads((args.work / f"{side}.json").read_text())
    print(f"{'setting':18}{'lm_eval, 1':>12}{'lm_eval, 16':>13}{'twjax, first':>14}"
          f"{'twjax':>9}{'floor':>9}{'times 1':>9}{'times 16':>10}{'differ by':>11}")  # fmt: skip
    rows = []
    for key, other in sides["theirs"].items():
        mine = sides["ours"][key]
        difference = max(abs(a - b) for a, b in zip(mine["logs"], other["logs"], strict=True))
        one, many = (other["seconds"][str(batch)] for batch in BATCHES)
        row = {
            "setting": key,
            "questions": mine["questions"],
            "lm_eval_1": one,
            "lm_eval_16": many,
            "twjax_first": mine["first"],
            "twjax": mine["again"],
            "floor": mine["floor"],
            "tokens": mine["tokens"],
            "difference": difference,
        }
        rows.append(row)
        print(
            f"{key:18}{one:10.1f} s{many:11.1f} s{mine['first']:12.1f} s{mine['again']:7.1f} s"
            f"{mine['floor']:7.1f} s{one / mine['first']:9.1f}{many / mine['first']:10.1f}"
            f"{difference:11.1e}"
        )
    print(
        f"{rows[0]['questions']} questions each; 'times' compare with compiling included. 'floor': "
        f"the layers' products at {sides['ours']['rate'] / 1e9:.0f} GFLOP/s, float32."
    )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def make_model(work: pathlib.Path) -> None:
    """Writes the model for transformers, and converts it."""
    if (work / "ours" / IMPORT_FILE).is_file():
        return
    import gzip

    import torch  # pyright: ignore[reportMissingImports]
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    texts = []
    for path in sorted(pathlib.Path("configs/corpora/texts").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            texts += [json.loads(line)["text"] for line in file]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"]
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=special[0], eos_token=special[1]
    )
    tokenizer.save_pretrained(work / "hf")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(work / "hf")
    from twjax.cli import main as twjax

    if twjax(["convert", "from-hf", str(work / "hf"), str(work / "ours")]):
        sys.exit("The model couldn't be converted.")


def asked(style: Style, shots: int, limit: int, model: Tokenizer) -> tuple[Items, Choice]:
    """Returns the questions, and those that are asked."""
    items = read_items(EXAM, "Suite.choice of exam")
    form = Form(style, "zh-TW")
    return items, Choice.prepare("exam", items, model, form, shots=shots, limit=limit)


def ours(work: pathlib.Path, limit: int) -> dict:
    import jax

    from twjax.evaluation.batching import families, rows_of
    from twjax.evaluation.scoring import TOKENS_A_DEVICE, Scorer
    from twjax.models.network import network as declare
    from twjax.models.spec import is_spec
    from twjax.parallel.mesh import mesh_here
    from twjax.training.source import Source

    source = Source.open(work / "ours")
    network, mesh = declare(source.run.model), mesh_here(source.run.mesh)
    model = load_vocabulary(work / "hf")
    with jax.set_mesh(mesh):
        params = source.params(network, mesh)
    config = source.run.model
    rate = product_rate(TOKENS_A_DEVICE, config.embed_dim, config.mlp_dim)
    found: dict = {"rate": rate}
    # Two operations for each token and weight that it meets.
    weights = sum(
        spec.size
        for spec in jax.tree.leaves(network.specs["layers"], is_leaf=is_spec)
        if spec.matmul
    )
    for style, shots in SETTINGS:
        _, choice = asked(style, shots, limit, model)
        alone, shared = families(rows_of(choice.flat(), both=False))
        tokens = sum(len(row.ids) for row in alone) + sum(
            family.prefix + sum(len(row.ids) - family.prefix for row in family.rows)
            for family in shared
        )
        scorer, seconds, logs = Scorer(source.run, network, mesh), [], []
        for _ in range(2):
            began = time.perf_counter()
            _, choice = asked(style, shots, limit, model)
            logs = [s.log_likelihood for s in scorer(params, choice.flat())]
            seconds.append(time.perf_counter() - began)
        found[f"{style}, {shots} shots"] = {
            "first": seconds[0],
            "again": seconds[1],
            "floor": 2 * tokens * weights / rate,
            "tokens": tokens,
            "logs": logs,
            "questions": len(choice.items),
        }
    return found


def product_rate(tokens: int, width: int, inner: int) -> float:
    """Returns the FLOP/s of the fastest of some products [tokens, width] x [width, inner]."""
    import jax
    import jax.numpy as jnp

    x, w = jnp.ones((tokens, width), jnp.float32), jnp.ones((width, inner), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(x, w).block_until_ready()
    seconds, end = [], time.perf_counter() + 3
    while time.perf_counter() < end:
        began = time.perf_counter()
        product(x, w).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * tokens * width * inner / min(seconds)


def theirs(work: pathlib.Path, limit: int) -> dict:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

    model = load_vocabulary(work / "hf")
    found = {}
    for style, shots in SETTINGS:
        items, choice = asked(style, shots, limit, model)
        shown: dict[str, list] = {}
        for item in items.items:
            shown.setdefault(item.subject, []).append(item)
        pairs = []
        for item in choice.items:
            context, answers = choice.form.ask(item, shown[item.subject][:shots])
            pairs += [(context, answer) for answer in answers]
        requests = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
        seconds, logs = {}, []
        for batch in BATCHES:
            lm = HFLM(pretrained=str(work / "hf"), device="cpu", dtype="float32", batch_size=batch)
            began = time.perf_counter()
            logs = [log for log, _ in lm.loglikelihood(requests)]
            seconds[batch] = time.perf_counter() - began
        found[f"{style}, {shots} shots"] = {"seconds": seconds, "logs": logs}
    return found


if __name__ == "__main__":
    main()
