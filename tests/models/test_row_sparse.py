"""A train step touches the rows of its batch alone: nothing in it is as large as a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from recops import models
from recops._core.compat import keras, variable
from recops.features import DenseFeature, SequenceFeature, SparseFeature
from recops.layers import FusedEmbedding
from recops.models import CATALOGUE
from recops.optimizers import LazyAdam
from tests.models import planted_retrieval
from tests.models.planted import SMALL, data, features_of, read_by
from tests.needs import refusal_in

# No other size in a small model is as large as a table of these.
MANY = 5003
PENALTIES = {
    "FM": {"l1_linear": 1e-3, "l2_linear": 1e-3},
    "WideDeep": {"l1_wide": 1e-3, "l2_wide": 1e-3},
}
NAMES = [*SMALL, "YoutubeDNNRetrieval"]
each_model = pytest.mark.parametrize("name", NAMES)


def large(features):
    return [
        f if isinstance(f, DenseFeature) else replace(f, vocabulary_size=MANY) for f in features
    ]


def build(name, rows, enlarge=large):
    if name == "YoutubeDNNRetrieval":
        features, options = planted_retrieval.FEATURES, {"hidden_units": [16, 4]}
        options["num_sampled"] = 10
    else:
        features, options = features_of(name), SMALL[name]
    penalty = {"l2": 1e-3} if name == "LSPLM" else {"l2_embedding": 1e-3}
    options = {**options, **penalty, **PENALTIES.get(name, {})}
    made = CATALOGUE[name].build(enlarge(features), l2_embedding_rows=rows, seed=1, **options)
    batch = data(32)[0] if name in SMALL else planted_retrieval.choices(32)
    return made, read_by(made, batch)


def tables(model):
    """The variables of more than a thousand rows."""
    found = [variable(w) for w in model.trainable_weights if (w.shape or [0])[0] > 1000]
    assert found
    return found


def loss_of(model, batch):
    return tf.reduce_mean(model(batch, training=True) ** 2) + tf.add_n(model.losses)


def operations(graph):
    """All of a graph and of the functions that it calls."""
    for operation in graph.get_operations():
        yield operation
        for name in operation.node_def.attr:
            attribute = operation.node_def.attr[name]
            for function in (attribute.func, *attribute.list.func):
                if function.name:
                    yield from operations(graph._get_function(function.name).graph)


def as_large(graph, rows):
    """Operations with a tensor of so many rows."""
    return [
        f"{operation.type} {operation.name}"
        for operation in operations(graph)
        for tensor in (*operation.inputs, *operation.outputs)
        if tensor.shape.rank and rows & set(tensor.shape.as_list())
    ]


@each_model
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_a_penalty_of_the_batch_keeps_the_step_row_sparse(name, jit):
    if jit and (reason := refusal_in("jit")):
        pytest.skip(
            reason
        )  # `xla` reads a whole variable, and XLA leaves out what it does not use.
    model, batch = build(name, "batch")
    found = tables(model)
    optimizer = LazyAdam(0.01)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit)
    def step(batch):
        with tf.GradientTape() as tape:
            loss = loss_of(model, batch)
        wanted = [variable(w) for w in model.trainable_weights]
        gradients = tape.gradient(loss, wanted)
        kinds = {v.name: type(g) for v, g in zip(wanted, gradients) if v.shape[:1].num_elements()}
        for table in found:
            assert kinds[table.name] is tf.IndexedSlices, table.name
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    before = [table.numpy() for table in found]
    assert np.isfinite(step(batch).numpy())
    graph = step.get_concrete_function(batch).graph
    assert not as_large(graph, {table.shape[0] for table in found})
    for table, was in zip(found, before):
        moved = (table.numpy() != was).any(axis=1)
        assert 0 < moved.sum() < 400


def test_what_finds_large_tensors_finds_those_of_a_whole_penalty():
    model, batch = build("DeepFM", "all")
    (table,) = tables(model)

    @tf.function
    def step(batch):
        with tf.GradientTape() as tape:
            loss = loss_of(model, batch)
        gradient = tape.gradient(loss, table)
        assert not isinstance(gradient, tf.IndexedSlices)
        return gradient

    assert as_large(step.get_concrete_function(batch).graph, {table.shape[0]})


@pytest.mark.parametrize("name", ["DeepFM", "LSPLM", "DIN", "YoutubeDNNRetrieval"])
def test_the_gradient_is_that_of_all_rows_in_those_of_the_batch(name):
    """Of a row that was in every batch so far; and padding is held back in neither."""
    gradients = {}
    for rows in ("all", "batch"):
        model, batch = build(name, rows, enlarge=list)
        with tf.GradientTape() as tape:
            model(batch, training=False)
            penalty = tf.add_n(model.losses)
        wanted = [variable(w) for w in model.trainable_weights if "embeddings" in path(w)]
        gradients[rows] = [tf.convert_to_tensor(g) for g in tape.gradient(penalty, wanted)]
    for whole, part in zip(gradients["all"], gradients["batch"]):
        used = (part.numpy() != 0).any(axis=1)
        assert 1 < used.sum() < len(used)
        assert not used[0]
        np.testing.assert_allclose(part[used], whole[used], rtol=1e-5)


def path(weight):
    return getattr(weight, "path", "") or weight.name


def penalised(features, regularizer="l2", value="ones"):
    return FusedEmbedding(
        features,
        embeddings_initializer=value,
        embeddings_regularizer=regularizer,
        regularized_rows="batch",
    )


def test_a_row_counts_once_however_often_it_is_looked_up_and_id_0_never():
    item = SparseFeature("item", 3, embedding_dim=1)
    layer = penalised([item, replace(item, name="other", embedding_name="item")])
    layer({"item": np.array([1, 1, 0]), "other": np.array([1, 3, 0])})
    (penalty,) = layer.losses
    assert float(penalty) == pytest.approx(0.01 * 2)
    layer({"item": np.zeros([0], np.int32), "other": np.zeros([0], np.int32)})
    assert [float(loss) for loss in layer.losses] == [0.0]


def test_l1_and_l2_add_up_and_a_pooled_list_counts_its_rows():
    words = SequenceFeature("words", 5, max_length=3, embedding_dim=2)
    regularizer = keras.regularizers.L1L2(0.1, 0.01)
    layer = penalised([words], regularizer, keras.initializers.Constant(-2.0))
    layer({"words": np.array([[1, 2, 0], [2, 2, 5]])})
    assert float(layer.losses[0]) == pytest.approx(3 * 2 * (0.1 * 2 + 0.01 * 4))


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_over_an_epoch_a_row_is_held_back_as_by_the_penalty_of_all(jit):
    """Row 1 is in each batch, row 2 in every second one, row 3 in every fifth, row 4 in none."""
    layer = penalised([SparseFeature("item", 4, embedding_dim=1)])
    layer({"item": np.zeros([3], np.int32)})

    @tf.function(jit_compile=jit)
    def gradient(ids):
        with tf.GradientTape() as tape:
            layer({"item": ids}, training=True)
            penalty = tf.add_n(layer.losses)
        return tf.convert_to_tensor(tape.gradient(penalty, variable(layer.embeddings)))

    steps, total = 20, 0.0
    for step in range(1, steps + 1):
        total += gradient(tf.constant([1, 0 if step % 2 else 2, 0 if step % 5 else 3])).numpy()
    np.testing.assert_allclose(total[:, 0], 2 * 0.01 * steps * np.array([0, 1, 1, 1, 0]), rtol=1e-5)
    # What is only judged is not counted.
    before = [tf.convert_to_tensor(w).numpy() for w in layer.non_trainable_weights]
    layer({"item": np.array([2])}, training=False)
    for was, weight in zip(before, layer.non_trainable_weights):
        np.testing.assert_array_equal(was, tf.convert_to_tensor(weight))


def test_rows_are_all_or_batch_of_what_is_a_sum_over_rows():
    with pytest.raises(ValueError, match="l2_embedding_rows must be one of all, batch, got 'some'"):
        models.FM(features_of("FM"), l2_embedding_rows="some")
    with pytest.raises(ValueError, match="needs a regularizer L1, L2 or L1L2 of Keras, got Ortho"):
        penalised([SparseFeature("item", 3)], keras.regularizers.OrthogonalRegularizer(mode="rows"))
