"""LS-PLM: its penalty, its regions, and first-order terms of several units."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import layers, models
from recops.features import DenseFeature, SparseFeature
from recops.layers.lsplm import L21

USER, ITEM, PRICE = SparseFeature("user", 4, 3), SparseFeature("item", 6, 3), DenseFeature("price")


def test_the_penalty_groups_rows_and_has_a_gradient_at_zero():
    kernel = tf.constant([[3.0, -4.0], [0.0, 0.0], [1.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        penalty = L21(l1=0.5, l21=2.0)(kernel)
    assert float(penalty) == pytest.approx(0.5 * 8 + 2 * (5 + 0 + 1))
    want = [[0.5 + 2 * 0.6, -0.5 - 2 * 0.8], [0.0, 0.0], [0.5 + 2.0, 0.0]]
    np.testing.assert_allclose(tape.gradient(penalty, kernel), want, rtol=1e-6)


def test_one_region_is_logistic_regression():
    layer = layers.LSPLM(regions=1)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    p = layer(x)
    logits = (x @ layer.kernel + layer.bias)[:, 1:]
    np.testing.assert_allclose(p, tf.sigmoid(logits), rtol=1e-6)


def test_regions_may_see_other_features_than_the_regressions():
    features = [USER, ITEM, PRICE]
    model = models.LSPLM(features, regions=3, region_features=["user"], base_features=["item"])
    assert {w.shape[0] for w in model.weights} == {5, 7, 3}
    x = {"user": np.array([1]), "item": np.array([2]), "price": np.array([[9.0]])}
    y = model(x).numpy()
    np.testing.assert_array_equal(model({**x, "price": np.array([[0.0]])}), y)
    assert not np.array_equal(model({**x, "user": np.array([3])}), y)
    with pytest.raises(ValueError, match="base features must be among user, item, price, got 'ad'"):
        models.LSPLM(features, base_features=["ad"])


def test_a_linear_layer_of_several_units_is_one_for_each():
    features = [USER, PRICE]
    wide = layers.Linear(features, units=2, embeddings_initializer="random_normal")
    x = {"user": np.array([1, 3]), "price": np.array([[0.5], [2.0]], "float32")}
    y = wide(x)
    for unit in range(2):
        one = layers.Linear(features)
        one(x)
        one.set_weights([weight[..., unit : unit + 1] for weight in wide.get_weights()])
        np.testing.assert_allclose(one(x)[:, 0], y[:, unit], rtol=1e-6)


def test_neuralcf_has_tables_of_its_own_for_both_parts():
    model = models.NeuralCF([PRICE, ITEM, USER], mf_dim=3, mlp_dim=2, hidden_units=[4])
    assert sorted(tuple(w.shape) for w in model.weights if w.shape[0] == 12) == [(12, 2), (12, 3)]
    assert sorted(model.input) == ["item", "user"]
    with pytest.raises(ValueError, match="'user' and 'item', got user, price"):
        models.NeuralCF([USER, PRICE])
