"""Specifics of the layers over the interaction ops: sizes, initial weights, identities, errors."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import layers
from recops._core.compat import keras

X = np.random.default_rng(0).normal(size=(5, 6, 4)).astype(np.float32)


@pytest.mark.parametrize(("kind", "matrices"), [("all", 1), ("each", 5), ("interaction", 15)])
def test_bilinear_parameters_and_identity(kind, matrices):
    layer = layers.BilinearInteraction(kind, kernel_initializer="identity")
    y = layer(X)
    assert layer.count_params() == matrices * 4 * 4
    np.testing.assert_allclose(y, layers.PairwiseHadamard()(X), rtol=1e-6)


@pytest.mark.parametrize("seed", [None, 5])
def test_bilinear_matrices_are_drawn_like_dense_kernels(seed):
    layer = layers.BilinearInteraction(
        "interaction", kernel_initializer=keras.initializers.GlorotUniform(seed)
    )
    layer.build((None, 12, 8))
    kernel = np.asarray(layer.kernel)
    limit = np.sqrt(6 / 16)
    assert 0.98 * limit < np.abs(kernel).max() <= limit
    assert len({matrix.tobytes() for matrix in kernel}) == len(kernel) == 66
    again = layers.BilinearInteraction.from_config(layer.get_config())
    again.build((None, 12, 8))
    assert np.array_equal(np.asarray(again.kernel), kernel) == (seed is not None)


def test_outer_product_kernel_is_drawn_like_a_dense_kernel():
    layer = layers.OuterProduct(32)
    layer.build((None, 6, 8))
    assert tuple(layer.kernel.shape) == (32, 8, 8)
    limit = np.sqrt(6 / (64 + 32))
    assert 0.98 * limit < np.abs(np.asarray(layer.kernel)).max() <= limit


@pytest.mark.parametrize("depth", [1, 4])
def test_cross_parameters(depth):
    vector, matrix = layers.Cross(depth), layers.Cross(depth, "matrix")
    vector.build((None, 7)), matrix.build((None, 7))
    assert vector.count_params() == 2 * depth * 7
    assert matrix.count_params() == depth * 7 * (7 + 1)
    with pytest.raises(ValueError, match="vector, matrix, got 'mixture'"):
        layers.Cross(2, "mixture")


def test_cross_layers_draw_different_kernels_from_one_seed():
    cross = layers.Cross(2, kernel_initializer=keras.initializers.GlorotUniform(1))
    cross.build((None, 7))
    assert not np.allclose(*map(np.asarray, cross.kernels))


@pytest.mark.parametrize(("ratio", "middle"), [(1, 6), (3, 2), (8, 1)])
def test_senet_has_two_kernels_and_no_bias(ratio, middle):
    layer = layers.SENET(ratio)
    layer(X)
    assert [tuple(w.shape) for w in layer.weights] == [(6, middle), (middle, 6)]
    assert not np.asarray(layer(np.zeros_like(X))).any()


def test_senet_scales_whole_fields():
    ratio = np.asarray(layers.SENET(1, kernel_initializer="ones")(np.abs(X))) / np.abs(X)
    np.testing.assert_allclose(ratio, ratio[:, :, :1].repeat(4, axis=2), rtol=1e-5)


def test_attention_weights_are_a_distribution_over_pairs():
    layer = layers.AttentionalPooling(5, return_weights=True)
    pooled, weights = layer(X)
    assert weights.shape == (5, 15)
    np.testing.assert_allclose(np.sum(weights, axis=1), 1, rtol=1e-5)
    products = layers.PairwiseHadamard()(X)
    want = tf.einsum("bp,bpd->bd", weights, products)
    np.testing.assert_allclose(pooled, want, rtol=1e-4, atol=1e-5)
    assert [tuple(w.shape) for w in layer.weights] == [(4, 5), (5,), (5,)]
    symbolic = layer(keras.Input((6, 4)))
    assert [tuple(s.shape) for s in symbolic] == [(None, 4), (None, 15)]


PAIRWISE = ("InnerProduct", "PairwiseHadamard", "BiInteraction", "FM", "BilinearInteraction")


@pytest.mark.parametrize("name", [*PAIRWISE, "AttentionalPooling"])
def test_a_single_field_or_a_flat_input_is_refused(name):
    layer = getattr(layers, name)()
    with pytest.raises(ValueError, match=f"(?i){name}.*at least 2 fields"):
        layer.compute_output_shape((None, 1, 4))
    with pytest.raises(ValueError, match=rf"{name}: expected an input \[B, F, D\]"):
        layer.compute_output_shape((None, 24))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: layers.SENET(0), "`reduction_ratio` must be a positive integer, got 0"),
        (lambda: layers.SENET(3, "min"), "squeeze must be one of mean, max, got 'min'"),
        (lambda: layers.OuterProduct(2.5), "`units` must be a positive integer, got 2.5"),
        (lambda: layers.BilinearInteraction("some"), "all, each, interaction, got 'some'"),
        (lambda: layers.EmbeddingBag(9, 4, "max"), "combiner must be one of"),
    ],
)
def test_options_are_checked(make, said):
    with pytest.raises(ValueError, match=said):
        make()
