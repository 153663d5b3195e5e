"""BST's layers beyond the contract: recency under padding on either side, pooling, errors."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import layers
from recops._core.compat import keras
from tests.oracles.behavior import behavior_transformer, recency

B, T, D = 4, 5, 6
RNG = np.random.default_rng(0)
QUERY = RNG.normal(size=(B, D)).astype(np.float32)
HISTORY = RNG.normal(size=(B, T, D)).astype(np.float32)
# Padding at the end, at the start, in the middle, and nothing but padding.
MASK = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]], bool)


def make(**options):
    layer = layers.BehaviorTransformer(
        **{"num_heads": 2, "intermediate_dim": 8, "activation": "relu", **options}
    )
    layer(QUERY, HISTORY, mask=MASK)
    layer.set_weights([RNG.normal(0, 0.5, w.shape).astype(np.float32) for w in layer.get_weights()])
    return layer


def test_recency_counts_the_kept_steps_after_a_step():
    layer = layers.RecencyEncoding("random_normal")
    y = layer(HISTORY, mask=MASK)
    table = np.asarray(layer.embeddings)
    np.testing.assert_allclose(y, recency(table, HISTORY, MASK), atol=1e-6)
    added = np.asarray(y) - HISTORY
    np.testing.assert_allclose(added[2, [0, 2, 4]], table[[2, 1, 0]], atol=1e-6)


def test_the_side_of_the_padding_does_not_matter():
    layer = make(pooling="mean")
    ends = np.arange(T) < np.array([[1], [2], [3], [4]])
    y = layer(QUERY, HISTORY, mask=ends)
    starts = np.stack([np.roll(row, T - n, axis=0) for row, n in zip(HISTORY, (1, 2, 3, 4))])
    np.testing.assert_allclose(layer(QUERY, starts, mask=ends[:, ::-1]), y, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({"pooling": "flatten", "num_blocks": 2}, (T + 1) * D),
        ({"pooling": "mean", "num_heads": 3}, D),
        ({"pooling": "target", "intermediate_dim": None}, D),
    ],
    ids=str,
)
def test_it_is_the_papers(options, width):
    layer = make(**options)
    y = layer(QUERY, HISTORY, mask=MASK)
    assert y.shape == (B, width)
    np.testing.assert_allclose(y, behavior_transformer(layer, QUERY, HISTORY, MASK), atol=5e-5)
    symbolic = layer(keras.Input((D,)), keras.Input((T, D)))
    assert tuple(symbolic.shape) == (None, width)


def test_the_feed_forward_leaks_by_default():
    leaky = layers.BehaviorTransformer(num_heads=2)
    leaky(QUERY, HISTORY)
    inner = leaky.blocks[0].inner
    assert tuple(inner.kernel.shape) == (D, 4 * D)
    assert float(tf.reduce_min(inner(HISTORY))) < 0


def test_the_target_and_the_order_matter():
    layer = make(pooling="target")
    y = np.asarray(layer(QUERY, HISTORY))
    assert not np.allclose(layer(QUERY[::-1], HISTORY), y, atol=1e-2)
    assert not np.allclose(layer(QUERY, HISTORY[:, ::-1]), y, atol=1e-2)


@pytest.mark.parametrize("mode", ["eager", "jit"])
def test_padding_reaches_no_output_and_no_gradient(mode):
    layer = make()

    @tf.function(jit_compile=mode == "jit")
    def step(history):
        with tf.GradientTape() as tape:
            tape.watch(history)
            y = layer(QUERY, history, mask=MASK)
            loss = tf.reduce_sum(y * y)
        return y, [
            tf.convert_to_tensor(g)
            for g in tape.gradient(loss, [history, *layer.trainable_variables])
        ]

    spoilt = np.where(MASK[..., None], HISTORY, np.nan).astype(np.float32)
    (y, gradients), (same, same_gradients) = step(tf.constant(HISTORY)), step(tf.constant(spoilt))
    np.testing.assert_array_equal(y, same)
    for got, want in zip(same_gradients, gradients):
        np.testing.assert_array_equal(got, want)
    assert not np.asarray(gradients[0])[~MASK].any()
    assert np.asarray(gradients[0])[MASK].any()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: layers.BehaviorTransformer(0), "`num_blocks` must be a positive integer, got 0"),
        (lambda: layers.BehaviorTransformer(pooling="max"), "flatten, mean, target, got 'max'"),
        (
            lambda: layers.BehaviorTransformer()(QUERY, HISTORY),
            "num_heads must divide the width D = 6 of the behaviors, got 8",
        ),
        (
            lambda: layers.BehaviorTransformer(num_heads=2)(QUERY, HISTORY[:, :, :4]),
            r"behaviors must have shape \[B, T, 6\]",
        ),
        (
            lambda: layers.RecencyEncoding()(HISTORY, mask=MASK.astype(np.int32)),
            r"mask must be bool \[4, 5\]",
        ),
    ],
)
def test_wrong_arguments_say_what_is_wanted(make, said):
    with pytest.raises(ValueError, match=said):
        make()
