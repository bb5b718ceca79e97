"""SeqIO's side of generation tasks: `seqio.Evaluator` in a process of its own.

`python -m twjax.data.task_evaluation` reads lines of JSON on standard input and answers each with
one on standard output: an order {task, split, vocabulary, imports, sequence_length, examples} with
the examples that the evaluator cached, and {predictions} with the metrics that it computes from
them. An error is one line as well. The process ends when its standard input does, so also when
whoever asks is killed.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twjax.data.quiet import quiet_tensorflow

Predict = Callable[[list[dict[str, Any]]], list[list[int]]]


class Channel:
    """Lines of JSON in and out. Whatever else prints to standard output prints to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self._lines.put(line)
        # Nobody is left to answer.
        os._exit(0)

    def receive(self) -> dict[str, Any]:
        return json.loads(self._lines.get())

    def send(self, message: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(message, ensure_ascii=False) + "\n")
        self._out.flush()


def evaluate(order: Mapping[str, Any], predict: Predict) -> dict[str, Any]:
    """Returns {metrics, outputs}: SeqIO's metrics of what `predict` makes of a task's examples.

    `predict` gets the examples as `seqio.Evaluator` cached them, {inputs, targets: ids, prompt,
    answer: text}, and returns the ids of each one's prediction. `outputs` are these as text.
    """
    import seqio

    task = bound_task(order["task"], order["imports"], order["vocabulary"])
    split, lengths, count = order["split"], order["sequence_length"], order["examples"]
    _check(task, split)
    vocabulary = task.output_features["targets"].vocabulary
    # The evaluator finds tasks by their names only.
    seqio.TaskRegistry.remove(task.name)
    seqio.TaskRegistry.add_provider(task.name, task)
    evaluator = seqio.Evaluator(
        task.name,
        feature_converter=_as_they_are(task),
        eval_split=split,
        sequence_length=lengths,
        num_examples=count,
        async_compute_metrics=False,
    )

    def predict_fn(dataset: Any, model_feature_shapes: Any = None) -> list[tuple[int, list[int]]]:
        numbers, examples = [], []
        for number, example in dataset.as_numpy_iterator():
            numbers.append(int(number))
            examples.append(_described(example, vocabulary))
        if not examples:
            raise ValueError(f"Task {task.name} has no examples in split {split}.")
        predicted = predict(examples)
        # The metrics want one array: behind its EOS a prediction says nothing more.
        longest = 1 + max(map(len, predicted))
        rows = [[*ids, *[vocabulary.eos_id] * (longest - len(ids))] for ids in predicted]
        return list(zip(numbers, rows, strict=True))

    future, outputs = evaluator.evaluate(compute_metrics=True, predict_fn=predict_fn)
    metrics = {name: _number(value) for name, value in future.result()[task.name].items()}
    (rows,) = outputs[task.name].values()
    return {"metrics": metrics, "outputs": [vocabulary.decode(ids) for ids in rows]}


def bound_task(name: str, imports: Sequence[str], vocabulary: str) -> Any:
    """Returns a registered task with a vocabulary in the place of its placeholder."""
    import seqio

    from twjax.data.vocabulary import PieceVocabulary, with_vocabulary

    for module in imports:
        importlib.import_module(module)
    if name not in seqio.TaskRegistry.names():
        known = ", ".join(sorted(seqio.TaskRegistry.names())) or "none"
        raise ValueError(
            f"No task {name} is registered by {', '.join(imports) or 'the configuration'}; name "
            f"its module with --import (registered: {known})."
        )
    return with_vocabulary(seqio.TaskRegistry.get(name), PieceVocabulary(vocabulary))


def _check(task: Any, split: str) -> None:
    """Raises ValueError unless the task can be judged by what is generated."""
    from seqio.metrics import ModelOutputType

    if split not in task.splits:
        raise ValueError(f"Task {task.name} has no split {split!r}; it has {list(task.splits)}.")
    if "inputs" not in task.output_features:
        raise ValueError(f"Task {task.name} has no inputs: there is nothing to answer.")
    kinds = {metric.model_output_type for metric in task.metric_objs}
    if kinds != {ModelOutputType.PREDICTION}:
        raise ValueError(
            f"Task {task.name} has no metrics of generated text, or others too; give it metric_fns "
            "of (targets, predictions)."
        )


def _as_they_are(task: Any) -> Any:
    """Returns a feature converter that leaves the task's features alone."""
    import seqio

    specs = {
        name: seqio.FeatureConverter.FeatureSpec(dtype=feature.dtype)
        for name, feature in task.output_features.items()
    }

    class AsTheyAre(seqio.PassThroughFeatureConverter):
        TASK_FEATURES = specs

        @property
        def pack(self) -> bool:
            return False

    return AsTheyAre()


def _described(example: Mapping[str, Any], vocabulary: Any) -> dict[str, Any]:
    inputs, targets = (example[name].tolist() for name in ("inputs", "targets"))
    texts = {}
    for name, side, ids in (("prompt", "inputs", inputs), ("answer", "targets", targets)):
        known = example.get(f"{side}_pretokenized")
        texts[name] = vocabulary.decode(ids) if known is None else known.decode()
    return {"inputs": inputs, "targets": targets, **texts}


def _number(value: Any) -> float | str:
    value = getattr(value, "value", value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def cut_short(order: Mapping[str, Any]) -> int:
    """Returns how many examples' inputs are longer than there is room for: they lose their end."""
    task = bound_task(order["task"], order["imports"], order["vocabulary"])
    _check(task, order["split"])
    dataset = task.get_dataset(
        order["sequence_length"], order["split"], shuffle=False, trim_output_features=False
    )
    if order["examples"]:
        dataset = dataset.take(order["examples"])
    room = order["sequence_length"]["inputs"]
    return sum(len(example["inputs"]) > room for example in dataset.as_numpy_iterator())


def main() -> int:
    channel = Channel()
    while True:
        order = channel.receive()

        def predict(
            examples: list[dict[str, Any]], order: Mapping[str, Any] = order
        ) -> list[list[int]]:
            channel.send({"examples": examples, "cut_short": cut_short(order)})
            return channel.receive()["predictions"]

        try:
            quiet_tensorflow()
            channel.send(evaluate(order, predict))
        except Exception as error:
            text = " ".join(str(error).split())
            known = isinstance(error, (ValueError, OSError)) and text
            channel.send({"error": text if known else f"{type(error).__name__}: {text}"})


if __name__ == "__main__":
    sys.exit(main())
