"""What every test process starts with; set before anything imports JAX or TensorFlow.

Processes that tests start inherit it: one that needs another number of devices sets
`JAX_NUM_CPU_DEVICES` in the environment that it is given.
"""

import os
import signal
import tempfile

import pytest

# Whoever starts the tests with nohup has it ignored, and processes that tests start inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# A development machine has libtpu for ahead-of-time compilation: without this JAX would look for
# the chips.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# The same small programs are compiled in many processes: once is enough.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "twjax-tests-compiled")
)
# Plans of tests aren't the user's.
os.environ.setdefault("TWJAX_CACHE", os.path.join(tempfile.gettempdir(), "twjax-tests-cache"))
# Compiling is most of the time of such small programs: half of it goes into making them fast.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


# Files that take longest, in falling order: the last ones to begin should be short.
HEAVY = (
    "training_steered",
    "training_run",
    "training_hosts",
    "planning_compile",
    "configs_systems",
    "quickstart",
    "training_trained",
    "training_divergence",
    "training_taught",
    "training_encdec_step",
    "training_step",
    "models_encdec",
    "evaluation_scoring",
    "evaluation",
    "evaluation_follow",
    "trackers",
    "vocab_extend_runs",
    "training_adapters",
    "huggingface_parity_files",
    "huggingface_check",
    "tasks_registries",
    "training_encdec",
    "vocab_extend_rows",
    "models_cache",
    "models_decoder",
    "evaluation_torch",
    "huggingface_parity_gradients",
    "huggingface_parity_t5",
    "models_adapters",
    "data_cache",
)


def pytest_collection_modifyitems(items):
    """Brings the heavy files to the front; `--no-loadscope-reorder` keeps them there."""
    order = {f"test_{name}": place for place, name in enumerate(HEAVY)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """The gin file of the tiny run, beside its cache."""
    from tests import tiny

    return tiny.write_config(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def unbroken(config, tmp_path_factory):
    """A run of one process that nothing disturbs, and the modules loaded at its end."""
    from tests import tiny

    run_dir = tmp_path_factory.mktemp("unbroken") / "run"
    return run_dir, tiny.long_run(config, run_dir)
