"""AutoInt's layers beyond the contract: the paper's formula, options, weights and errors."""

from __future__ import annotations

import numpy as np
import pytest

from recops import layers
from recops._core.compat import keras
from tests.oracles.interacting import interacting

X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)


@pytest.mark.parametrize("scaling", [False, True])
def test_scores_are_scaled_only_when_asked_for(scaling):
    layer = layers.InteractingLayer(2, 3, scaling=scaling)
    y = layer(X)
    np.testing.assert_allclose(y, interacting(layer, X), atol=1e-5)
    layer.scaling = not scaling
    assert not np.allclose(y, interacting(layer, X), atol=1e-3)


def test_attention_scores_are_those_that_weigh_the_values():
    layer = layers.InteractingLayer(2, 3, use_res=False, return_attention_scores=True)
    y, scores = layer(X)
    assert scores.shape == (3, 2, 5, 5)
    value = (X @ np.asarray(layer.kernel)[:, 12:]).reshape(3, 5, 2, 3)
    want = np.einsum("bnts,bsne->btne", scores, value).reshape(3, 5, 6)
    np.testing.assert_allclose(y, np.maximum(want, 0), atol=1e-5)
    symbolic = layer(keras.Input((5, 4)))
    assert [tuple(s.shape) for s in symbolic] == [(None, 5, 6), (None, 2, 5, 5)]


def test_the_residual_is_a_projection_and_may_be_left_out():
    with_res, without = layers.InteractingLayer(2, 3), layers.InteractingLayer(2, 3, use_res=False)
    with_res(X), without(X)
    assert [tuple(w.shape) for w in with_res.weights] == [(4, 18), (4, 6)]
    assert [tuple(w.shape) for w in without.weights] == [(4, 18)]
    kernel, _ = with_res.get_weights()
    without.set_weights([kernel])
    with_res.set_weights([kernel, np.zeros((4, 6), np.float32)])
    np.testing.assert_array_equal(with_res(X), without(X))


@pytest.mark.parametrize("seed", [None, 5])
def test_kernels_are_drawn_one_by_one(seed):
    layer = layers.InteractingLayer(4, 8, kernel_initializer=keras.initializers.GlorotUniform(seed))
    layer.build((None, 3, 32))
    kernel, residual = map(np.asarray, layer.weights)
    each = [*np.split(kernel, 3, axis=1), residual]
    limit = np.sqrt(6 / (32 + 32))
    assert all(0.98 * limit < np.abs(k).max() <= limit for k in each)
    assert len({k.tobytes() for k in each}) == 4


def test_each_number_has_one_vector():
    layer = layers.NumberEmbedding(4)
    y = np.asarray(layer(np.array([[2.0, 0.0, -1.0]], np.float32)))
    table = np.asarray(layer.embeddings)
    np.testing.assert_allclose(y[0], [2 * table[0], 0 * table[1], -table[2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: layers.InteractingLayer(0), "`num_heads` must be a positive integer, got 0"),
        (lambda: layers.InteractingLayer(2, 0), "`head_dim` must be a positive integer, got 0"),
        (lambda: layers.NumberEmbedding(0), "`embedding_dim` must be a positive integer, got 0"),
        (lambda: layers.InteractingLayer()(X[0]), r"expected an input \[B, F, D\]"),
        (lambda: layers.NumberEmbedding(2)(X), r"expected an input \[B, n\]"),
    ],
)
def test_wrong_arguments_say_what_is_wanted(make, said):
    with pytest.raises(ValueError, match=said):
        make()
