"""Layers, models and optimizers on two replicas, which are two logical CPUs.

`test_replicas` runs this file in a process of its own: TensorFlow takes logical devices before it
starts, and other tests are to have one.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops import ops
from recops._core import dispatch
from recops._core.compat import keras
from recops.models import CATALOGUE
from recops.optimizers import LazyAdagrad, LazyAdam, LazyFTRL, RowwiseAdagrad
from tests.layers.specs import GROUPS, together
from tests.models.planted import SMALL, data, features_of, read_by

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
X = np.random.default_rng(0).normal(size=(8, 4, 3)).astype("float32")
# What is drawn differs between replicas, and statistics of a batch are those of a replica's part.
DRAWN = {"sampled"}
NO_STATISTICS = {"activation": "relu", "use_bn": False}
# Its auxiliary loss is a mean over the steps of a replica's histories, which are of many lengths.
ANOTHER_MEAN = {"DIEN"}


@pytest.fixture(scope="module")
def strategy():
    made = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert made.num_replicas_in_sync == 2
    return made


def halves(strategy, *arrays):
    return strategy.experimental_distribute_values_from_function(
        lambda context: tuple(
            tf.constant(np.split(a, 2)[context.replica_id_in_sync_group]) for a in arrays
        )
    )


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", ["reference", "xla"])
def test_a_backend_that_is_chosen_outside_holds_in_the_replicas(name, traced, strategy):
    def step(x):
        return ops.pairwise_inner(x)

    def run(x):
        return strategy.run(step, args=x)

    with recops.backend(name), dispatch.noting() as noted:
        results = (tf.function(run) if traced else run)(halves(strategy, X))
    assert noted == [("pairwise_inner", name)] * 2
    joined = tf.concat(strategy.experimental_local_results(results), 0)
    np.testing.assert_allclose(joined, ops.pairwise_inner(X), atol=1e-5)


def test_what_a_replica_chooses_itself_wins(strategy):
    def step(x):
        with recops.backend("reference"):
            ops.pairwise_inner(x)
        return ops.pairwise_inner(x)

    with recops.backend("xla"), dispatch.noting() as noted:
        strategy.run(step, args=halves(strategy, X))
    assert sorted(name for _, name in noted) == ["reference"] * 2 + ["xla"] * 2
    with dispatch.noting() as noted, dispatch.serving():
        strategy.run(step, args=halves(strategy, X))
    assert {name for _, name in noted} == {"reference"}


def test_xla_stays_on_inside_layers_where_keras_has_none(strategy):
    with strategy.scope(), recops.backend("xla"):
        layer = recops.layers.AttentionalPooling(attention_factor=2)
        layer(X)

        @tf.function(jit_compile=False)
        def step(x):
            return strategy.run(lambda part: layer(part), args=x)

        x = halves(strategy, X)
        graph = step.get_concrete_function(x).graph.as_graph_def()
    compiled = [f for f in graph.library.function if f.attr["_XlaMustCompile"].b]
    assert len(compiled) >= 2
    joined = tf.concat(strategy.experimental_local_results(step(x)), 0)
    np.testing.assert_allclose(joined, layer(X), atol=1e-5)


def losses(model, batch, labels, loss, steps=3):
    """Of so many steps, each on all rows."""
    history = model.fit(
        batch, labels, batch_size=len(labels), epochs=steps, shuffle=False, verbose=0
    )
    assert model.loss == loss
    return history.history["loss"]


def weights_alike(one, two):
    for mine, other in zip(one.get_weights(), two.get_weights()):
        np.testing.assert_allclose(mine, other, atol=2e-5)


def stepped(model, strategy, batch):
    """The loss of a batch before and after a step, which each replica takes on its part of it.

    Not by `fit`: Keras 3 adds up the first batch of a strategy to learn its shapes, and masks are
    no numbers.
    """
    optimizer = keras.optimizers.SGD(0.01)
    names, arrays = list(batch), list(batch.values())

    def step(*part):
        with tf.GradientTape() as tape:
            out = tf.cast(model(dict(zip(names, part)), training=False), tf.float32)
            loss = tf.reduce_sum(tf.reduce_mean(tf.square(out), axis=1)) / len(arrays[0])
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    if strategy is None:
        return [float(step(*arrays)) for _ in range(2)]
    with strategy.scope():
        optimizer.build(model.trainable_variables)
    parts = halves(strategy, *arrays)
    run = tf.function(lambda: strategy.reduce("sum", strategy.run(step, args=parts), None))
    return [float(run()) for _ in range(2)]


@pytest.mark.parametrize("group", sorted(set(GROUPS) - DRAWN))
def test_layers_learn_as_on_one_replica(group, strategy):
    one, batch = together(GROUPS[group])
    with strategy.scope():
        two, _ = together(GROUPS[group])
    want, got = stepped(one, None, batch), stepped(two, strategy, batch)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert want[1] < want[0]
    weights_alike(one, two)


@pytest.mark.parametrize("name", SMALL)
def test_models_learn_as_on_one_replica(name, strategy):
    options = {**SMALL[name], "seed": 1}
    if "dropout" in options:
        options["dropout"] = 0.0
    if name in ("DIN", "DIEN", "DSIN", "NFM"):
        options |= NO_STATISTICS
    batch, labels = data(64)
    found = []
    for scope in (None, strategy):
        with scope.scope() if scope else tf.device(None):
            model = CATALOGUE[name].build(features_of(name), **options)
            model.compile(
                LazyAdam(0.01),
                "binary_crossentropy",
                jit_compile=False,
                run_eagerly=scope is None,
            )
        found.append((losses(model, read_by(model, batch), labels, "binary_crossentropy"), model))
    (want, one), (got, two) = found
    np.testing.assert_allclose(got, want, rtol=2e-3 if name in ANOTHER_MEAN else 1e-5)
    assert want[2] < want[0]
    if name not in ANOTHER_MEAN:
        weights_alike(one, two)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LazyAdam(0.1),
        lambda: LazyAdam(0.1, catch_up=True, weight_decay=0.01),
        lambda: LazyAdagrad(0.1),
        lambda: RowwiseAdagrad(0.1),
        lambda: LazyFTRL(0.1, l1=0.01),
    ],
)
def test_slices_of_all_replicas_are_one_before_a_row_moves(make, strategy):
    """A row that both replicas use moves once, along the sum: not twice, along each part."""
    ids = np.array([[1, 2], [1, 5], [1, 2], [7, 1]], np.int32)
    targets = np.arange(4, dtype="float32")[:, None]

    def trained(scope):
        with scope.scope() if scope else tf.device(None):
            inputs = keras.Input((2,), dtype="int32")
            rows = recops.layers.EmbeddingBag(9, 3, combiner="sum")(inputs)
            model = keras.Model(inputs, keras.layers.Dense(1)(rows))
            random = np.random.default_rng(1)
            model.set_weights([random.normal(size=w.shape) for w in model.weights])
            model.compile(make(), "mse", jit_compile=False)
        before = model.get_weights()[0].copy()
        model.fit(ids, targets, batch_size=4, epochs=2, shuffle=False, verbose=0)
        return model, before

    (one, before), (two, _) = trained(None), trained(strategy)
    weights_alike(one, two)
    moved = (two.get_weights()[0] != before).any(axis=1)
    assert moved.tolist() == [i in (1, 2, 5, 7) for i in range(10)]
