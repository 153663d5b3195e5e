"""DSIN's layers beyond the contract: the paper's formula under all options, padding, errors."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import layers
from recops._core.compat import keras
from tests.oracles.session import bias_encoding, session_extractor, session_interest

B, K, T, D = 3, 4, 5, 6
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, K, T, D)).astype(np.float32)
QUERY = RNG.normal(size=(B, D)).astype(np.float32)
# Rows of sessions padded at the end, at the start, and not at all; one session has no step.
MASK = np.stack(
    [
        np.arange(T) < np.array([[5], [1], [0], [3]]),
        np.arange(T) >= np.array([[0], [4], [2], [3]]),
        np.ones((K, T), bool),
    ]
)


def drawn(layer, *inputs, **masks):
    """The layer built, with weights large enough to matter."""
    layer(*inputs, **masks)
    layer.set_weights([RNG.normal(0, 0.5, w.shape).astype(np.float32) for w in layer.get_weights()])
    return layer


def test_bias_encoding_starts_small_and_repeats_by_seed():
    one, two, other = (layers.BiasEncoding(seed=seed) for seed in (3, 3, 4))
    for layer in (one, two, other):
        layer.build((None, 300, 200, 400))
    for a, b, c in zip(one.get_weights(), two.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
        assert 0.7e-4 < a.std() < 1e-4  # 0.88 of the untruncated
        assert np.abs(a).max() <= 2e-4
    assert not np.array_equal(one.get_weights()[0][:200], one.get_weights()[1])


def test_bias_encoding_is_the_sum_of_three_vectors():
    layer = drawn(layers.BiasEncoding(), X)
    assert [w.shape for w in layer.get_weights()] == [(K,), (T,), (D,)]
    np.testing.assert_allclose(layer(X), bias_encoding(layer, X), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_heads": 3, "use_layer_norm": False},
        {"causal": True, "use_positional": None},
        {"mask_diagonal": True, "intermediate_dim": 5},
        {"mask_diagonal": True, "causal": True, "num_heads": 2},
    ],
    ids=str,
)
def test_extractor_is_the_papers(options):
    layer = drawn(layers.SessionExtractor(**options), X, mask=MASK)
    y = layer(X, mask=MASK)
    np.testing.assert_allclose(y, session_extractor(layer, X, MASK), atol=2e-5)
    assert not np.asarray(y)[0, 2].any()
    np.testing.assert_allclose(layer(X), session_extractor(layer, X, np.ones_like(MASK)), atol=2e-5)


def test_sessions_are_read_apart():
    layer = drawn(layers.SessionExtractor(use_positional=None), X)
    y = np.asarray(layer(X))
    np.testing.assert_allclose(layer(X[:, ::-1]), y[:, ::-1], atol=1e-5)
    other = X.copy()
    other[:, 1] = 0
    changed = np.abs(np.asarray(layer(other)) - y).max((0, 2)) > 1e-3
    np.testing.assert_array_equal(changed, [False, True, False, False])


@pytest.mark.parametrize(
    "options",
    [{}, {"weight_normalization": False, "lstm_layers": 1, "res_layers": 1, "causal": True}],
    ids=str,
)
def test_interest_is_the_papers(options):
    layer = layers.SessionInterest(2, hidden_units=(7,), activation="tanh", **options)
    drawn(layer, QUERY, X, mask=MASK)
    y = layer(QUERY, X, mask=MASK)
    assert y.shape == (B, 2 * D)
    np.testing.assert_allclose(y, session_interest(layer, QUERY, X, MASK), atol=5e-5)
    everything = np.ones_like(MASK)
    np.testing.assert_allclose(
        layer(QUERY, X), session_interest(layer, QUERY, X, everything), atol=5e-5
    )


def test_interest_is_that_of_the_sessions_there_are():
    layer = drawn(layers.SessionInterest(hidden_units=(7,), use_positional=None), QUERY, X)
    y = np.asarray(layer(QUERY, X[:, :2]))
    mask = np.zeros((B, K, T), bool)
    mask[:, [1, 3]] = True
    spread = np.full_like(X, 7)
    spread[:, [1, 3]] = X[:, :2]
    np.testing.assert_allclose(layer(QUERY, spread, mask=mask), y, atol=1e-5)
    assert not np.asarray(layer(QUERY, X, mask=np.zeros_like(mask))).any()


@pytest.mark.parametrize("mode", ["eager", "jit"])
def test_padding_reaches_no_output_and_no_gradient(mode):
    mask = MASK & (np.arange(B) < B - 1)[:, None, None]  # The last row is all padding.
    layer = drawn(layers.SessionInterest(2, hidden_units=(7,)), QUERY, X, mask=mask)

    @tf.function(jit_compile=mode == "jit")
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(QUERY, x, mask=mask)
            loss = tf.reduce_sum(y * y)
        return y, tape.gradient(loss, [x, *layer.trainable_variables])

    spoilt = np.where(mask[..., None], X, np.nan).astype(np.float32)
    (y, gradients), (same, same_gradients) = step(tf.constant(X)), step(tf.constant(spoilt))
    np.testing.assert_array_equal(y, same)
    for got, want in zip(same_gradients, gradients):
        np.testing.assert_array_equal(got, want)
    assert not np.asarray(gradients[0])[~mask].any()
    assert np.asarray(gradients[0])[mask].any()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: layers.SessionExtractor(0), "`num_heads` must be a positive integer, got 0"),
        (
            lambda: layers.SessionExtractor(4)(X),
            "num_heads must divide the width D = 6 of the sessions, got 4",
        ),
        (
            lambda: layers.SessionExtractor(use_positional="sine"),
            "use_positional must be \"bias\" or None, got 'sine'",
        ),
        (
            lambda: layers.SessionExtractor()(X, mask=MASK.astype(np.float32)),
            r"mask must be bool \[3, 4, 5\]",
        ),
        (
            lambda: layers.SessionInterest()(QUERY[:, :4], X),
            r"sessions must have shape \[B, K, T, 4\]",
        ),
        (lambda: layers.BiasEncoding()(X[0]), r"expected an input \[B, K, T, D\]"),
    ],
)
def test_wrong_arguments_say_what_is_wanted(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_seed_repeats_all_weights():
    one, two, other = (layers.SessionInterest(2, seed=seed) for seed in (3, 3, 4))
    for layer in (one, two, other):
        layer(QUERY, X)
    drawn_at_random = 0
    for a, b, c in zip(one.get_weights(), two.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)
        drawn_at_random += not np.array_equal(a, c)
    # 3 biases of position; 2 kernels of attention and 2 of the feed-forward; 2 of each of 4 LSTMs;
    # 3 of each target attention.
    assert drawn_at_random == 3 + 4 + 8 + 6


def test_dropout_runs_in_training_alone():
    layer = layers.SessionExtractor(dropout=0.5, seed=1)
    y = layer(X, mask=MASK, training=False)
    np.testing.assert_array_equal(layer(X, mask=MASK), y)
    assert not np.allclose(layer(X, mask=MASK, training=True), y, atol=1e-3)
    symbolic = layer(keras.Input((K, T, D)), mask=keras.Input((K, T), dtype="bool"))
    assert tuple(symbolic.shape) == (None, K, D)
