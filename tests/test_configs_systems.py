"""The runs of configs/runs: published recipes number by number, and a compiled step of the largest.

Numbers of `PUBLISHED` are those of the papers and repositories that each is noted with, never of
our files.
"""

from __future__ import annotations

import dataclasses
import re

import jax
import numpy as np
import pytest

from tests import hub, tiny
from twjax import config
from twjax.config import ConfigError, Run
from twjax.models.network import network as declare
from twjax.models.spec import count_weights
from twjax.parallel.mesh import make_mesh
from twjax.planning.compile import check, plan, shapes
from twjax.planning.topology import parse_topology, set_environment
from twjax.training.optimizer import make_optimizer
from twjax.training.source import run_schedule
from twjax.training.state import abstract_state
from twjax.training.trained import Trained

RUNS = tiny.REPO / "configs/runs"
SYSTEMS = {path.stem: path for path in sorted((RUNS / "systems").glob("[!_]*.gin"))}
SYSTEMS["cpt_taiwan"] = RUNS / "cpt_taiwan.gin"
# The rate that a source ended with, where a run asks for it.
SOURCE_RATE = 3e-5


@dataclasses.dataclass(frozen=True)
class Recipe:
    """`step` tokens a full step, `tokens` in all, `warmup` tokens; inputs only where there are two.

    `weights` is the published number of weights.
    """

    step: float
    tokens: float | None = None
    peak: float | None = None
    last: float | None = None
    warmup: float | None = None
    weights: float | None = None


PUBLISHED = {
    # Radford et al. 2018, section 4.1: 2,000 updates of 64 x 512.
    "gpt1": Recipe(64 * 512, None, 2.5e-4, 0.0, 2_000 * 64 * 512, 117e6),
    # karpathy/nanoGPT, train.py.
    "gpt2_124m": Recipe(491_520, 600_000 * 491_520, 6e-4, 6e-5, 2_000 * 491_520, 124e6),
    # Brown et al. 2020, appendix B. The full batch of 2e6 is unverified.
    "gpt3_6.7b": Recipe(2**21, 300e9, 1.2e-4, 1.2e-5, 375e6, 6.7e9),
    # Aribandi et al. 2022 of the model that it is compared with.
    "t5.1.1_base": Recipe(2048 * 512, 1e6 * 2048 * 512, weights=248e6),
    # Xue et al. 2021, section 3.2.
    "mt5_base": Recipe(2**20, 1e6 * 2**20, weights=582e6),
    # Aribandi et al. 2022.
    "ext5_base": Recipe(2048 * 512, 1e6 * 2048 * 512),
    # Wu et al. 2023; the end of the cosine is unverified.
    "bloomberggpt_50b": Recipe(2048 * 2048, 569e9, 6e-5, 6e-6, 1_800 * 1024 * 2048, 50.6e9),
    # Ibrahim et al. 2024; the end of the cosine and the length of warm-up are unverified.
    "sequential_1_general": Recipe(1104 * 2048, 300e9, 3e-4, 3e-5, 3e9, 405e6),
    "sequential_2_domain": Recipe(1104 * 2048, 200e9, 3e-4, 3e-5, 2e9, 405e6),
    # taide/TAIDE-LX-7B, model card.
    "taide_7b": Recipe(1e6, 41.44e9, 1e-4),
    # MiuLab/Taiwan-LLM, README.md.
    "taiwan_llm_7b": Recipe(2**20, 30e9, weights=6.738e9),
    # Hsu et al. 2024.
    "breeze_7b": Recipe(4e6, None, 1e-6, 1e-6, 0),
    "ckip_llama2_7b": Recipe(128 * 4096),
    # MiuLab/Taiwan-LLM, README.md, for the batch.
    "cpt_taiwan": Recipe(2e6, weights=8.03e9),
}


def load(name: str, *overrides: str) -> Run:
    return config.load(Run, [SYSTEMS[name]], overrides).value


def slice_of(name: str) -> str:
    """Returns the one slice that a file's header names."""
    (found,) = re.findall(r"--topology (\S+)", SYSTEMS[name].read_text(encoding="utf-8"))
    return found


@pytest.fixture(params=SYSTEMS)
def name(request) -> str:
    return request.param


def test_every_system_has_its_numbers():
    assert PUBLISHED.keys() == SYSTEMS.keys()


def test_a_run_loads_and_rebuilds_itself(name, tmp_path):
    loaded = config.load(Run, [SYSTEMS[name]])
    (tmp_path / "config.gin").write_text(loaded.text, encoding="utf-8")
    again = config.load(Run, [tmp_path / "config.gin"])
    assert again.value == loaded.value
    assert again.imports == loaded.imports


def test_the_header_says_where_from_and_what_first(name):
    text = SYSTEMS[name].read_text(encoding="utf-8")
    header = text[: text.index("\n\n")]
    assert f"#   twjax plan {SYSTEMS[name].relative_to(tiny.REPO)} --topology" in header
    assert "# First: " in header
    assert name == "cpt_taiwan" or ("# Source: " in header and "# Differs: " in header)


def test_batches_divide_over_the_slice_of_the_header(name):
    topology = parse_topology(slice_of(name))
    for run in shapes(load(name)):
        check(run, topology)


def test_the_abstract_state_has_the_published_weights(name):
    run = load(name)
    network = declare(run.model)
    trained = Trained.of(run, network.specs)
    optimizer = make_optimizer(run.optimizer, run_schedule(run, SOURCE_RATE), trained.specs)
    mesh = make_mesh(run.mesh, jax.devices()[:1])
    state = abstract_state(network, optimizer, mesh, trained)
    allocated = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert allocated == count_weights(network.specs)
    published = PUBLISHED[name].weights
    assert published is None or allocated == pytest.approx(published, rel=0.01)


def test_token_budgets_are_the_published_ones(name):
    run, recipe = load(name), PUBLISHED[name]
    reading, length = run.reading, run.data.lengths[0]
    assert reading.rows(run.steps - 1) * length == pytest.approx(recipe.step, rel=0.05)
    if recipe.tokens is not None:
        assert reading.rows_before(run.steps) * length == pytest.approx(recipe.tokens, rel=1e-3)
    if recipe.warmup is not None:
        warm = reading.rows_before(run.schedule.warmup_steps) * length
        assert warm == pytest.approx(recipe.warmup, rel=1e-3)


def test_rates_are_the_published_ones(name):
    run, recipe = load(name), PUBLISHED[name]
    rate = run_schedule(run, SOURCE_RATE)
    steps = [0, run.schedule.warmup_steps, run.steps // 2, run.steps - 1]
    values = np.array([float(rate(step)) for step in steps])
    if recipe.peak is not None:
        assert values.max() == pytest.approx(recipe.peak, rel=1e-4)
    if recipe.last is not None:
        assert values[-1] == pytest.approx(recipe.last, rel=1e-4, abs=1e-12)


def test_optimisers_are_the_published_ones():
    """nanoGPT's train.py; Brown et al. 2020, appendix B; Radford et al. 2018; Wu et al. 2023."""
    for name in ("gpt2_124m", "gpt3_6.7b"):
        optimizer = load(name).optimizer
        assert (optimizer.b1, optimizer.b2) == (0.9, 0.95)
        assert (optimizer.weight_decay, optimizer.clip_norm) == (0.1, 1.0)
    assert load("gpt3_6.7b").optimizer.eps == 1e-8
    assert load("gpt1").optimizer.weight_decay == 0.01
    assert load("bloomberggpt_50b").optimizer.clip_norm == 0.3
    for name in ("t5.1.1_base", "mt5_base", "ext5_base"):
        assert load(name).optimizer.name == "adafactor"
        assert load(name).optimizer.parameter_scale
        assert load(name).step.z_loss == 1e-4


def test_t5s_rate_is_flat_for_10_000_steps_and_falls_with_the_root():
    """1 / sqrt(max(n, 10^4)), Raffel et al. 2020, section 3.1.2."""
    for name in ("t5.1.1_base", "mt5_base", "ext5_base"):
        rate = run_schedule(load(name), None)
        for step in (0, 9_999, 40_000, 999_999):
            expected = 1 / np.sqrt(max(step, 10_000))
            assert float(rate(step)) == pytest.approx(expected, rel=1e-4)


def shares(run: Run, stage: int = 0) -> dict[str, float]:
    weights = run.data.mixture.stages[stage][1]
    return {task: weight / sum(weights.values()) for task, weight in weights.items()}


def test_gpt3s_batch_grows_from_32_000_tokens_over_4_to_12_billion():
    """Brown et al. 2020, appendix B."""
    run = load("gpt3_6.7b")
    reading = run.reading
    assert reading.rows(0) * 2048 == pytest.approx(32_000, rel=0.03)
    full = reading.batches[-1][0]
    assert 4e9 <= reading.rows_before(full) * 2048 <= 12e9
    # By a line: halfway through the ramp's tokens, half of the batch, to a factor of root 2.
    sizes = [rows for _, rows in reading.batches]
    assert sizes == [16 * 2**power for power in range(7)]
    weights = list(run.data.mixture.stages[0][1].values())
    assert weights == [60, 22, 8, 8, 3]


def test_gpt3s_rate_is_at_its_last_from_260_billion_tokens_on():
    """Brown et al. 2020, appendix B."""
    run = load("gpt3_6.7b")
    rate = run_schedule(run, None)
    last = float(rate(run.steps - 1))
    flat = next(step for step in range(140_000, run.steps) if float(rate(step)) <= 1.0001 * last)
    assert run.reading.rows_before(flat) * 2048 == pytest.approx(260e9, rel=0.005)


def test_gpt3s_epochs_are_near_the_printed_ones():
    """Table 2.2; its rounded shares give its own epochs of 300e9 tokens to within a fifth."""
    held = (410e9, 19e9, 12e9, 55e9, 3e9)
    printed = (0.44, 2.9, 1.9, 0.43, 3.4)
    found = [
        share * 300e9 / tokens
        for share, tokens in zip(shares(load("gpt3_6.7b")).values(), held, strict=True)
    ]
    np.testing.assert_allclose(found, printed, rtol=0.2)
    assert max(found) < load("gpt3_6.7b").data.mixture.max_epochs  # type: ignore[operator]


def test_bloomberggpt_is_51_to_49_and_reads_less_than_an_epoch():
    """Wu et al. 2023, table 1: shares in percent; 708e9 tokens in all."""
    run = load("bloomberggpt_50b")
    mine = shares(run)
    domain = sum(share for task, share in mine.items() if task.startswith("domain_"))
    assert domain == pytest.approx(0.5127, abs=1e-4)
    assert 1 - domain == pytest.approx(0.4873, abs=1e-4)
    assert run.reading.rows_before(run.steps) * 2048 < 708e9


def test_a_language_change_has_a_quarter_of_replay_and_warms_up_from_the_source():
    first, second = load("sequential_1_general"), load("sequential_2_domain")
    assert shares(second) == {"tw_domain": 0.75, "en_general": 0.25}
    assert second.init == "run:runs/sequential_1_general"
    last = float(run_schedule(first, None)(first.steps - 1))
    begin = float(run_schedule(second, last)(0))
    assert last == pytest.approx(3e-5, rel=1e-4)
    assert begin == pytest.approx(last, rel=0.02)
    assert second.model == first.model
    assert second.optimizer == first.optimizer


def test_vocabularies_have_the_published_sizes():
    assert load("taide_7b").model.vocab_size == 32_000 + 24_720 == 56_720
    assert load("breeze_7b").model.vocab_size == 61_872
    assert load("ckip_llama2_7b").model.vocab_size == 65_000
    assert load("mt5_base").model.vocab_size == 250_112


def test_the_default_decays_into_more_of_the_best_texts():
    run = load("cpt_taiwan")
    decay = run.reading.stages[1][0]
    rate = run_schedule(run, None)
    assert float(rate(decay)) == pytest.approx(run.schedule.peak, rel=1e-6)  # type: ignore[arg-type]
    assert float(rate(decay + 1)) < float(rate(decay - 1))
    assert run.steps - decay == run.steps // 5
    before, after = shares(run, 0), shares(run, 1)
    taiwan = [sum(s for task, s in stage.items() if task[:3] == "tw_") for stage in (before, after)]
    assert taiwan == pytest.approx([0.75, 0.80])
    assert after["tw_curated"] > 3 * before["tw_curated"]
    assert run.data.mixture.max_epochs == 4


def test_a_stage_at_decay_needs_a_schedule_that_decays():
    with pytest.raises(ConfigError, match="has no decay of its own"):
        load("cpt_taiwan", "Schedule.kind = 'cosine'", "Schedule.decay_fraction = 0.1")


@pytest.fixture(scope="module")
def registries():
    return pytest.importorskip("tasks.mixtures")


@pytest.mark.slow
def test_every_task_that_a_run_reads_exists(name, registries):
    import seqio

    loaded = config.load(Run, [SYSTEMS[name]], run_imports=True)
    data = loaded.value.data
    for task in (*data.mixture.tasks, *loaded.value.evaluation.tasks):
        assert task in data.corpora or task in seqio.TaskRegistry.names(), task
    assert set(data.corpora) <= {*data.mixture.tasks, *loaded.value.evaluation.tasks}


def test_mt5_draws_languages_by_the_power_of_0_3(registries):
    """Xue et al. 2021, section 3.1, on the pages that TFDS counts in c4/multilingual 3.0.1."""
    from tasks import mc4

    weights = load("mt5_base").data.mixture.stages[0][1]
    assert len(weights) == len(mc4.PAGES) == 101 + 6
    pages = np.array(list(mc4.PAGES.values()), np.float64)
    expected = np.exp(0.3 * np.log(pages))
    names = [f"{language}_mc4_span_corruption" for language in mc4.PAGES]
    np.testing.assert_allclose([weights[name] for name in names], expected, rtol=5e-4)
    # English pages are 46% of all; they are drawn one time in eighteen.
    assert mc4.PAGES["en"] / pages.sum() > 0.46
    assert shares(load("mt5_base"))["en_mc4_span_corruption"] == pytest.approx(0.056, abs=5e-4)


def test_mt5s_rates_are_seqios_own(registries):
    """The mixture function of the released code, seqio's, on a task that knows its size."""
    import functools

    import seqio

    from tasks import mc4

    rate = functools.partial(seqio.mixing_rate_num_examples, temperature=1 / 0.3)
    ours = registries.mt5_rates(mc4.PAGES)
    for language in ("en", "zh", "yo"):
        source = seqio.FunctionDataSource(
            lambda split, shuffle_files: None,  # type: ignore[arg-type,return-value]
            splits=("train",),
            num_input_examples={"train": mc4.PAGES[language]},
        )
        task = seqio.Task("sized", source=source, output_features={}, preprocessors=[])
        assert ours[mc4.task_name(language)] == pytest.approx(rate(task), rel=1e-12)


def test_ext5_has_two_of_denoising_to_one_of_all_labelled_tasks(registries):
    from tasks.supervised import TRAINING

    run = load("ext5_base")
    mine = shares(run)
    assert mine["en_c4_span_corruption"] == pytest.approx(2 / 3, rel=1e-4)
    assert set(mine) == {"en_c4_span_corruption", *TRAINING}
    assert set(registries.EXAMPLES) == set(TRAINING)
    expected = registries.ext5_rates("en_c4_span_corruption", registries.EXAMPLES)
    weights = run.data.mixture.stages[0][1]
    for task, rate in expected.items():
        assert weights[task] == pytest.approx(rate, abs=6e-6)


def test_large_labelled_tasks_count_up_to_the_maximum(registries):
    rates = registries.ext5_rates("c4", {"a": 10_000_000, "b": 300_000, "c": 100_000}, ratio=4.0)
    assert rates["c4"] == 4
    assert rates["a"] == rates["b"] == pytest.approx(3 / 7)
    assert rates["c"] == pytest.approx(1 / 7)
    with pytest.raises(ValueError, match="ratio"):
        registries.ext5_rates("c4", {"a": 1}, ratio=0)


def test_two_bases_of_different_vocabularies_merge_as_the_header_says(tmp_path):
    """ckip_llama2_7b.gin: the mean of the layers, tables of the one with more pieces."""
    from twjax import __main__ as program

    text = SYSTEMS["ckip_llama2_7b"].read_text(encoding="utf-8")
    assert (
        "twjax merge chat build/ckip Atom-7B --base Atom-7B --chat Llama-2-7b-hf --scale 0.5"
        in text
    )
    more, fewer = hub.tensors(vocab=hub.VOCAB + 20, seed=1), hub.tensors(seed=2)
    atom = hub.write(tmp_path / "atom", more, vocab_size=hub.VOCAB + 20)
    llama = hub.write(tmp_path / "llama", fewer)
    arguments = ["merge", "chat", str(tmp_path / "out"), str(atom), "--base", str(atom)]
    assert program.main([*arguments, "--chat", str(llama), "--scale", "0.5"]) == 0
    from safetensors.numpy import load_file

    found = load_file(tmp_path / "out/model.safetensors")
    for tensor, value in found.items():
        if tensor in ("model.embed_tokens.weight", "lm_head.weight"):
            np.testing.assert_array_equal(value, more[tensor])
        else:
            np.testing.assert_allclose(value, (more[tensor] + fewer[tensor]) / 2, atol=1e-7)


@pytest.fixture
def compiler():
    pytest.importorskip("libtpu")
    set_environment()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.slow
@pytest.mark.parametrize("choose", [min, max])
def test_the_smallest_and_the_largest_compile_for_the_slice_of_their_header(compiler, choose):
    sizes = {name: count_weights(declare(load(name).model).specs) for name in SYSTEMS}
    name = choose(sizes, key=lambda name: sizes[name])
    found = plan(load(name), parse_topology(slice_of(name)))
    assert found.memory.fits
    assert found.tokens == PUBLISHED[name].step
