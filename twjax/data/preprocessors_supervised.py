"""Labelled examples worded by templates: the question is `inputs`, the answer `targets`."""

# TensorFlow's stubs and seqio's registry of types are wrong about these.
# pyright: reportInvalidTypeForm=false, reportReturnType=false
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from twjax.data.preprocessors import Example, Features
from twjax.data.records import Reader, RecordSource
from twjax.data.templates import Template, choose, field_names, render
from twjax.data.vocabulary import features


def supervised(
    dataset: tf.data.Dataset,
    output_features: Features,
    sequence_length: Mapping[str, int] | None = None,
    templates: Sequence[Sequence[Any]] = (),
    seed: int = 0,
) -> tf.data.Dataset:
    """Words each example by one of `templates`, drawn by its id and the seed.

    `inputs` begin with BOS, if the vocabulary has it, and end in EOS only where it is T5's (has
    sentinels of its own): in a decoder's row the answer follows the question directly. `targets`
    end in EOS. Of the solved examples before a question, the last are left out until both sides
    fit in `sequence_length["inputs"]` together. The texts stay as `inputs_pretokenized` and
    `targets_pretokenized`, the right answers as `answers`.
    """
    vocabulary = output_features["targets"].vocabulary
    begin = [vocabulary.bos_id] if getattr(vocabulary, "adds_bos", True) else []
    t5 = getattr(getattr(vocabulary, "model", None), "sentinels", 0) > 0
    between = [vocabulary.eos_id] if t5 else []
    end = [vocabulary.eos_id] if output_features["targets"].add_eos else []
    wordings = [Template(*template) for template in templates]
    longest = sequence_length["inputs"] if sequence_length else None

    def word(name: bytes, fields: bytes, shots: bytes) -> tuple[Any, ...]:
        template, solved = choose(wordings, name, seed), json.loads(shots)
        for count in range(min(template.shots, len(solved)), -1, -1):
            question, answer = render(template, json.loads(fields), solved[:count])
            inputs = [*begin, *vocabulary.encode(question), *between]
            targets = [*vocabulary.encode(answer), *end]
            if longest is None or len(inputs) + len(targets) <= longest:
                break
        ids = (np.array(side, np.int32) for side in (inputs, targets))
        return *ids, question.encode(), answer.encode()

    def example(given: Example) -> Example:
        inputs, targets, question, answer = tf.numpy_function(
            word,
            [given["id"], given["fields"], given["shots"]],
            [tf.int32, tf.int32, tf.string, tf.string],
        )
        return {
            "id": given["id"],
            "inputs": tf.ensure_shape(inputs, [None]),
            "targets": tf.ensure_shape(targets, [None]),
            "inputs_pretokenized": tf.ensure_shape(question, []),
            "targets_pretokenized": tf.ensure_shape(answer, []),
            "answers": given["answers"],
        }

    return dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)


def right_answers(text: str, example: Mapping[str, Any] | None = None, is_target: bool = False):
    """Returns what metrics compare: of a target all right answers, of a prediction its text."""
    if is_target and example is not None and len(example.get("answers", ())):
        return [answer.decode() for answer in example["answers"]]
    return [text] if is_target else text


def add_records(
    name: str,
    path: str,
    reader: Reader,
    templates: Sequence[Template],
    metrics: Sequence[Callable[..., dict[str, float]]],
    validation: float = 0.02,
) -> seqio.Task:
    """Registers the records in `path` as a supervised task; nothing is read.

    A task that is only for evaluation has `validation=1.0`. Registering the same again returns the
    task there is; the same name for something else is an error.
    """
    if not templates:
        raise ValueError(f"Task {name}: give at least one template.")
    for template in templates:
        for text in template[:2]:
            field_names(text)
    shots = max(template.shots for template in templates)
    source = RecordSource(path, reader, validation, shots)
    if name in seqio.TaskRegistry.names():
        task = seqio.TaskRegistry.get(name)
        step = task.preprocessors[0]
        same = repr(task.source) == repr(source) and getattr(step, "keywords", {}) == {
            "templates": tuple(templates)
        }
        if not same:
            raise ValueError(
                f"Task {name} is registered already, with {task.source!r}; give the records in "
                f"{path} another name."
            )
        return task
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[functools.partial(supervised, templates=tuple(templates))],
        output_features=features("inputs", "targets"),
        postprocess_fn=right_answers,
        metric_fns=list(metrics),
    )
