"""The registries: importing reads nothing; tasks read mocked TFDS data and cache prepared data."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import data_side
import numpy as np
import pytest

from twjax.data import cache, rows
from twjax.data.examples import find_task, registered_tasks
from twjax.data.request import Request

IMPORTS = ("tasks.mixtures",)

WIKI = (
    "\n_START_ARTICLE_\n{title}\n_START_PARAGRAPH_\n{first}_NEWLINE_{second}"
    "\n_START_SECTION_\n{title}\n_START_PARAGRAPH_\n{third}"
)
SIMPLIFIED = "这个软件的内存占用很高，请联系网络管理员检查服务器的设置。"
TRADITIONAL = "這個軟體的記憶體佔用很高，請聯絡網路管理員檢查伺服器的設定。"
ENGLISH = "The quick brown fox jumps over the lazy dog, again and again."


@pytest.mark.slow
def test_importing_the_registries_reads_nothing():
    program = """
        import sys
        import seqio, tensorflow_datasets
        import twjax.data.preprocessors, twjax.data.sources, twjax.data.vocabulary
        seen = []
        def watch(event, arguments):
            if event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
                seen.append(f"open {arguments[0]}")
            elif event.startswith(("socket.", "subprocess.", "os.listdir", "urllib.")):
                if event != "os.listdir" or not str(arguments[0]).startswith(tuple(sys.path)):
                    seen.append(f"{event} {arguments}")
        sys.addaudithook(watch)
        import tasks.mixtures
        import tasks.general, tasks.taiwan
        names = seqio.TaskRegistry.names()
        assert len(names) >= 11, names
        from twjax.data.sources import add_corpus
        add_corpus("tw_absent", "/nowhere/corpus")
        assert not seen, seen
    """
    # -B: no bytecode is written, which would open files too.
    command = [sys.executable, "-B", "-c", textwrap.dedent(program)]
    subprocess.run(command, check=True, cwd=data_side.REPO)


@pytest.fixture(scope="module")
def tfds_data(tmp_path_factory):
    """Prepared datasets on disk, in two shards a split, as TFDS itself writes them.

    Only what would be downloaded is made up; builders, files and readers are the real ones, and
    there are shards to divide among workers, which `tfds.testing.mock_data` has none of.
    """
    import seqio

    registered_tasks(IMPORTS)
    from tasks import general, taiwan

    folder = str(tmp_path_factory.mktemp("tfds"))
    for source in (general.C4_EN, general.MC4_ZH, general.WIKI40B_EN, general.WIKI40B_CN):
        _prepare(folder, source)
    _prepare(folder, taiwan.WIKI40B_TW)
    seqio.set_tfds_data_dir_override(folder)
    yield folder
    seqio.set_tfds_data_dir_override(None)


@pytest.fixture
def mocked_tfds(tfds_data):
    """TFDS's own mocking: declared builders and prepared metadata, but three examples a split."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def as_dataset(builder, split, **_):
        features = builder.info.features
        text = {"en": ENGLISH, "zh-tw": TRADITIONAL}.get(builder.data_path.parent.name, SIMPLIFIED)
        if builder.name == "wiki40b":
            text = WIKI.format(title="題", first=text, second=text, third=text)
        examples = [
            {name: text if name == "text" else f"{name}-{split}-{i}" for name in features}
            for i in range(3)
        ]
        columns = {name: [example[name] for example in examples] for name in features}
        return tf.data.Dataset.from_tensor_slices(columns)

    with tfds.testing.mock_data(as_dataset_fn=as_dataset, data_dir=tfds_data):
        yield


def _prepare(folder, source):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = tfds.builder(source.name, data_dir=folder)
    text = {"en": ENGLISH, "zh-tw": TRADITIONAL}.get(builder.builder_config.name, SIMPLIFIED)
    features = builder.info.features
    builder.data_path.mkdir(parents=True)
    infos = []
    for split in source.split_map.values():
        template = tfds.core.ShardedFileTemplate(
            data_dir=builder.data_path,
            dataset_name=builder.name,
            split=split,
            filetype_suffix="tfrecord",
        )
        for shard in range(2):
            path = template.sharded_filepath(shard_index=shard, num_shards=2)
            with tf.io.TFRecordWriter(str(path)) as writer:
                for number in range(shard, 12, 2):
                    body = f"{number}. " + text * (1 + number % 4)
                    example = {name: f"{name}-{split}-{number}" for name in features}
                    wiki = WIKI.format(title=f"題{number}", first=body, second=text, third=text)
                    example["text"] = wiki if builder.name == "wiki40b" else body
                    writer.write(features.serialize_example(features.encode_example(example)))
        infos.append(
            tfds.core.SplitInfo(
                name=split, shard_lengths=[6, 6], num_bytes=1, filename_template=template
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=str(builder.data_path), features=features, split_infos=infos
    )


NAMES = [
    "en_wiki40b",
    "en_c4",
    "en_c4_prefix_lm",
    "en_c4_span_corruption",
    "cn_wiki40b",
    "cn_mc4",
    "tw_wiki40b",
    "tw_wiki40b_prefix_lm",
    "tw_wiki40b_span_corruption",
    "tw_wiki40b_from_cn",
    "tw_mc4_converted",
]


@pytest.mark.slow
def test_names_say_what_the_text_is():
    names = [task.name for task in registered_tasks(IMPORTS)]
    declared = [name for name in names if name in NAMES]
    assert sorted(declared) == sorted(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_tasks_make_rows(name, tfds_data, tmp_path):
    task = find_task(name, {}, IMPORTS)
    for split in ("train", "validation"):
        built = cache.build(Request(task, split, 128, data_side.vocabulary()), tmp_path)
        # An objective may make several examples of a document, never none.
        cut = "prefix" in name or "span" in name
        assert built.info.documents >= 12 if cut else built.info.documents == 12
        assert built.left_out == 0
    train = Request(task, "train", 128, data_side.vocabulary()).ingredients()
    source = train["source"]
    assert isinstance(source, dict) and source["kind"] == "tfds" and source["version"]
    assert (source["name"], source["split"]) == EXPECTED_SOURCE[name]

    reader = rows.RowReader(tmp_path, name, "train", 128)
    found = reader.read(range(len(reader)))
    from twjax.data.vocabulary import PieceVocabulary

    size = PieceVocabulary(data_side.vocabulary()).vocab_size
    text = _decode(found["tokens"][found["tokens"] < size].tolist())
    assert "_START_" not in text and "_NEWLINE_" not in text
    if "span_corruption" not in name:
        expected = {"en": ENGLISH, "cn": SIMPLIFIED, "tw": TRADITIONAL}[name[:2]]
        assert expected in text.replace("</s>", "")
    weights = found["loss_weights"]
    inputs = "prefix" in name or "span" in name
    share = weights.sum() / np.count_nonzero(found["segment_ids"])
    assert (share < 0.75) == inputs


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("name", NAMES)
def test_tasks_read_mocked_tfds(name, split, mocked_tfds):
    import seqio

    from twjax.data.vocabulary import PieceVocabulary, with_vocabulary

    registered_tasks(IMPORTS)
    vocabulary = PieceVocabulary(data_side.vocabulary())
    task = with_vocabulary(seqio.TaskRegistry.get(name), vocabulary)
    lengths = dict.fromkeys(task.output_features, 512)
    examples = list(task.get_dataset(lengths, split, shuffle=False).as_numpy_iterator())
    assert len(examples) == 3
    for example in examples:
        if "span_corruption" in name:
            assert len(example["targets"]) > 1 and len(example["inputs"]) > 1
            continue
        # A cut may fall between the bytes of one character.
        text = _decode([i for side in task.output_features for i in example[side].tolist()])
        sentence = {"en": ENGLISH, "cn": SIMPLIFIED, "tw": TRADITIONAL}[name[:2]]
        times = 3 if "wiki40b" in name else 1
        assert text.count(sentence) == times
        assert "_START_" not in text and "_NEWLINE_" not in text


EXPECTED_SOURCE = {
    "en_wiki40b": ("wiki40b/en", "train"),
    "en_c4": ("c4/en", "train"),
    "en_c4_prefix_lm": ("c4/en", "train"),
    "en_c4_span_corruption": ("c4/en", "train"),
    "cn_wiki40b": ("wiki40b/zh-cn", "train"),
    "cn_mc4": ("c4/multilingual", "zh"),
    "tw_wiki40b": ("wiki40b/zh-tw", "train"),
    "tw_wiki40b_prefix_lm": ("wiki40b/zh-tw", "train"),
    "tw_wiki40b_span_corruption": ("wiki40b/zh-tw", "train"),
    "tw_wiki40b_from_cn": ("wiki40b/zh-cn", "train"),
    "tw_mc4_converted": ("c4/multilingual", "zh"),
}


def _decode(ids: list[int]) -> str:
    from twjax.vocab.model import SentencePieceModel

    return SentencePieceModel(data_side.vocabulary()).decode(ids)


def test_the_declared_datasets_are_those_of_the_installed_tfds():
    import tensorflow_datasets as tfds

    from tasks import general, taiwan

    for source in (*vars(general).values(), *vars(taiwan).values()):
        if not hasattr(source, "split_map"):
            continue
        name, _, version = source.name.partition(":")
        builder_name, _, config = name.partition("/")
        builder = tfds.builder_cls(builder_name)
        found = builder.builder_configs[config]
        assert str(found.version) == version
        if config == "multilingual":
            assert "zh" in found.languages  # Its splits are "zh" and "zh-validation".


def test_an_unprepared_dataset_is_one_clear_line(tmp_path):
    import seqio

    from twjax.data.sources import TfdsSource

    source = TfdsSource("wiki40b/ja:1.3.0", {"train": "train"})
    seqio.set_tfds_data_dir_override(str(tmp_path))
    try:
        with pytest.raises(ValueError, match=r"wiki40b/ja:1.3.0 isn't prepared in .*tfds build"):
            source.list_shards("train")
    finally:
        seqio.set_tfds_data_dir_override(None)


def test_sources_state_a_version():
    from twjax.data.sources import TfdsSource

    with pytest.raises(ValueError, match="must state its version"):
        TfdsSource("wiki40b/en", {"train": "train"})


def test_mixtures_hold_declared_tasks_at_their_rates():
    import seqio

    registered_tasks(IMPORTS)
    mixture = seqio.MixtureRegistry.get("tw_continual")
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates == {"tw_wiki40b": 0.5, "tw_mc4_converted": 0.25, "en_c4": 0.2, "cn_mc4": 0.05}


@pytest.mark.slow
def test_a_seqio_pipeline_can_read_a_bound_task(tfds_data):
    """The tasks are seqio's: its own converters and evaluators work on them."""
    import seqio

    from twjax.data.vocabulary import PieceVocabulary, with_vocabulary

    registered_tasks(IMPORTS)
    vocabulary = PieceVocabulary(data_side.vocabulary())
    task = with_vocabulary(seqio.TaskRegistry.get("tw_wiki40b_prefix_lm"), vocabulary)
    lengths = {"inputs": 64, "targets": 64}
    dataset = task.get_dataset(lengths, split="train", shuffle=False)
    converter = seqio.PrefixLMFeatureConverter(pack=True)
    row = next(converter(dataset, lengths).as_numpy_iterator())
    assert row["decoder_target_tokens"].shape == (128,)


def test_registering_a_corpus_twice():
    from twjax.data.sources import add_corpus

    first = add_corpus("tw_twice", "/nowhere/a")
    assert add_corpus("tw_twice", "/nowhere/a") is first
    with pytest.raises(ValueError, match=r"tw_twice is registered already.*another name"):
        add_corpus("tw_twice", "/nowhere/b")
