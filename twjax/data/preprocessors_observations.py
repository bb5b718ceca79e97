"""Observations as tasks: their texts, predicted whole, and questions about them."""

# TensorFlow's stubs and seqio's registry of types are wrong about these.
# pyright: reportInvalidTypeForm=false, reportReturnType=false
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from twjax.data.documents import VALIDATION
from twjax.data.observation_questions import KINDS, NAMES
from twjax.data.observation_source import Document, ObservationSource, Questions
from twjax.data.observation_stated import Stated
from twjax.data.preprocessors import Example, language_model
from twjax.data.preprocessors_supervised import right_answers, supervised
from twjax.data.templates import Template, field_names
from twjax.data.vocabulary import features


def texts(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Takes the text of each example out of its fields."""

    def found(fields: bytes) -> bytes:
        return json.loads(fields)["text"].encode()

    def example(given: Example) -> Example:
        text = tf.numpy_function(found, [given["fields"]], tf.string)
        return {"id": given["id"], "text": tf.ensure_shape(text, [])}

    return dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)


def add_observations(
    name: str,
    path: str,
    form: str,
    documents: Sequence[Document],
    questions: Questions,
    templates: Sequence[Template],
    metrics: Sequence[Callable[..., dict[str, float]]],
    *,
    validation: float = VALIDATION,
    each: int = 3,
    stated: Mapping[str, Any] | None = None,
    places: str = "",
    licences: str = "",
) -> tuple[seqio.Task, seqio.Task]:
    """Registers annotation files as NAME_text and NAME_answers; nothing is read.

    The first has the loss on all of a document, the second on the answer to a question; `templates`
    name `record` or `description`, `question` and `answer`. Both need the same policy of `places`,
    so they are made together. Other arguments are those of `ObservationSource`. Registering the
    same again returns the tasks there are; the same name for something else is an error.
    """
    if not documents or not templates or not questions:
        raise ValueError(f"Observations {name}: give at least one document, question and template.")
    for kind, wordings in questions.items():
        if kind not in KINDS or not wordings:
            known = ", ".join(KINDS)
            raise ValueError(
                f"Observations {name}: question {kind} has no wordings or isn't one of {known}."
            )
        if unknown := {field for text in wordings for field in field_names(text)} - set(NAMES):
            raise ValueError(
                f"Observations {name}: question {kind} names {sorted(unknown)[0]!r}; it may name "
                f"{', '.join(NAMES)}."
            )
    for clause in (clause for document in documents for clause in document):
        field_names(clause)
    source = functools.partial(
        ObservationSource,
        path,
        form,
        documents,
        validation=validation,
        each=each,
        stated=Stated(**(stated or {})),
        places=places,
        licences=licences,
    )
    shots = max(template.shots for template in templates)
    question = functools.partial(supervised, templates=tuple(templates))
    made = (
        (f"{name}_text", source(), [texts, language_model], features("targets"), None, []),
        (f"{name}_answers", source(questions, shots=shots), [question],
         features("inputs", "targets"), right_answers, list(metrics)),
    )  # fmt: skip
    text, answers = (_registered(*parts) for parts in made)
    return text, answers


def _registered(
    name: str,
    source: ObservationSource,
    steps: list[Any],
    output_features: Mapping[str, seqio.Feature],
    postprocess: Any,
    metrics: list[Any],
) -> seqio.Task:
    if name in seqio.TaskRegistry.names():
        task = seqio.TaskRegistry.get(name)
        same = isinstance(task.source, ObservationSource) and (
            task.source.identity == source.identity
            and [_bound(step) for step in task.preprocessors] == [_bound(step) for step in steps]
        )
        if same:
            return task
        raise ValueError(
            f"Task {name} is registered already, with {task.source!r}; give the observations in "
            f"{source.path} another name."
        )
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=steps,
        output_features=dict(output_features),
        postprocess_fn=postprocess,
        metric_fns=metrics,
    )


def _bound(step: Any) -> tuple[Any, Any]:
    return getattr(step, "func", step), getattr(step, "keywords", {})
