"""Positions, encoder and decoder: order of time, padding, single steps and reloading."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops._core.compat import keras, variable
from recops.layers import PositionalEncoding, TransformerDecoder, TransformerEncoder
from tests.oracles import transformer as oracle

B, T, S, D = 3, 4, 5, 6
RNG = np.random.default_rng(0)
X, ENCODED = (RNG.normal(size=s).astype(np.float32) for s in ((B, T, D), (B, S, 8)))
# Padding in front, which the order of time does not hide.
MASK = np.arange(T) >= np.array([[0], [1], [3]])
ENCODED_MASK = np.arange(S) < np.array([[5], [3], [0]])


def decoder(**options):
    made = TransformerDecoder(2, 7, **{"dropout": 0.0, **options})
    made(X, ENCODED)
    made.set_weights([RNG.normal(size=w.shape) / 2 for w in made.weights])
    return made


@pytest.mark.parametrize(
    ("scale", "token", "position"),
    [("tokens", 7**0.5, 1), ("positions", 1, 7**0.5), (None, 1, 1)],
)
def test_positions_are_sines_and_one_term_is_scaled(scale, token, position):
    x = RNG.normal(size=(2, 50, 7))
    layer = PositionalEncoding(scale=scale, dtype="float64")
    want = token * x + position * oracle.positions(50, 7)
    np.testing.assert_allclose(layer(x), want, rtol=1e-12)
    run = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 7), tf.float64)])
    np.testing.assert_allclose(run(x), want, rtol=1e-12)


def test_positions_beyond_max_length_are_refused():
    layer = PositionalEncoding(max_length=3)
    assert layer(X[:, :3]).shape == (B, 3, D)
    with pytest.raises(ValueError, match=r"at most max_length=3 steps, got inputs \[3, 4, 6\]"):
        layer(X)
    with pytest.raises(ValueError, match="scale must be one of tokens, positions, got 'both'"):
        PositionalEncoding(scale="both")


@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_is_the_paper_with_masks_and_another_width(norm_first):
    layer = decoder(norm_first=norm_first)
    want = oracle.block(layer, X, ENCODED, MASK, ENCODED_MASK)
    run = tf.function(layer, jit_compile=not norm_first)
    got = run(X, ENCODED, mask=tf.constant(MASK), encoded_mask=tf.constant(ENCODED_MASK))
    np.testing.assert_allclose(got.numpy()[MASK], want[MASK], atol=1e-5)


def test_no_step_sees_a_later_one():
    layer, later = decoder(), X.copy()
    later[:, 2:] = 9
    before, after = layer(X, ENCODED).numpy(), layer(later, ENCODED).numpy()
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert not np.isclose(before[:, 2:], after[:, 2:]).any()


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_nan_under_masks_reaches_no_gradient(kind):
    layer, gradients = TransformerEncoder(2, 7, dropout=0.0) if kind == "encoder" else decoder(), []
    for filler in (0.0, np.nan):
        x, encoded = (
            tf.constant(np.where(kept[..., None], array, filler).astype(np.float32))
            for array, kept in ((X, MASK), (ENCODED, ENCODED_MASK))
        )
        sources = [x] if kind == "encoder" else [x, encoded]
        others = {} if kind == "encoder" else {"encoded_mask": ENCODED_MASK}
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y = layer(*sources, mask=MASK, training=True, **others)
            loss = tf.reduce_sum(tf.where(MASK[..., None], y, 0.0) ** 2)
        weights = [variable(w) for w in layer.trainable_weights]
        gradients.append(tape.gradient(loss, [*sources, *weights]))
    for clean, dirty in zip(*gradients):
        assert np.isfinite(clean).all()
        np.testing.assert_array_equal(clean, dirty)
    for gradient, kept in zip(gradients[1], (MASK, ENCODED_MASK)[: len(sources)]):
        assert not gradient.numpy()[~kept].any()


def test_masks_that_keras_carries_are_honoured():
    ids = np.where(MASK, RNG.integers(1, 9, size=(B, T)), 0)
    others = np.where(ENCODED_MASK, RNG.integers(1, 9, size=(B, S)), 0)
    inputs = keras.Input((T,), dtype="int32"), keras.Input((S,), dtype="int32")
    table = keras.layers.Embedding(9, D, mask_zero=True)
    encoded = TransformerEncoder(2, 7, dropout=0.0, name="encoder")(table(inputs[1]))
    y = TransformerDecoder(2, 7, dropout=0.0, name="decoder")(table(inputs[0]), encoded)
    model = keras.Model(inputs, y)
    vectors, other = (np.asarray(table.get_weights()[0])[i] for i in (ids, others))
    want = oracle.block(model.get_layer("encoder"), other, mask=ENCODED_MASK)
    want = oracle.block(model.get_layer("decoder"), vectors, want, MASK, ENCODED_MASK)
    np.testing.assert_allclose(model([ids, others]).numpy()[MASK], want[MASK], atol=1e-5)


def test_steps_with_a_cache_are_the_whole():
    layer = decoder()
    mask = tf.constant(ENCODED_MASK)
    whole = layer(X, ENCODED, encoded_mask=mask).numpy()
    cache, known = layer.start(ENCODED, max_length=T + 2)
    for t in range(T):
        y, cache = layer.step(tf.constant(X[:, t : t + 1]), tf.constant(t), cache, known, mask)
        np.testing.assert_allclose(y[:, 0], whole[:, t], atol=1e-5)


def test_an_unknown_batch_and_length():
    layer = TransformerEncoder(2, 7)
    signature = [tf.TensorSpec((None, None, D)), tf.TensorSpec((None, None), tf.bool)]
    layer(X)
    run = tf.function(lambda x, mask: layer(x, mask=mask), input_signature=signature)
    np.testing.assert_allclose(run(X, MASK), layer(X, mask=tf.constant(MASK)), atol=1e-6)


def test_statistics_are_float32_in_16_bits():
    layer = TransformerEncoder(2, 7, dropout=0.0, dtype="mixed_float16")
    # One step, so that the softmax of such scores does not hang on a rounding.
    large = (1000 * X[:, :1]).astype(np.float16)
    y = tf.cast(layer(large), tf.float32)
    np.testing.assert_allclose(y, oracle.block(layer, large), atol=0.02)


def test_a_seed_decides_the_weights_and_parts_differ():
    made = [TransformerEncoder(2, D, seed=seed) for seed in (1, 1, 2, None)]
    kernels = []
    for layer in made:
        layer(X)
        kernels.append([layer.inner.get_weights()[0], layer.outer.get_weights()[0]])
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.allclose(kernels[0], kernels[2])
    for inner, outer in kernels:
        assert not np.allclose(inner, outer)


def test_dropout_follows_both_sublayers():
    layer = TransformerEncoder(2, 7, dropout=0.999, norm_first=True)
    layer(X)
    y = tf.function(lambda: layer(X, training=True))().numpy()
    assert np.isclose(y, X).mean() > 0.9
    assert not np.isclose(layer(X).numpy(), X).any()


def test_reload_with_two_widths(tmp_path):
    inputs = [keras.Input(x.shape[1:]) for x in (X, ENCODED)]
    layer = TransformerDecoder(2, 7, activation="gelu", kernel_initializer="he_normal", seed=1)
    model = keras.Model(inputs, layer(*inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again([X, ENCODED]), model([X, ENCODED]), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TransformerEncoder(4)(X), "num_heads=4 divides, got"),
        (lambda: TransformerEncoder(2)(X[0]), r"expected inputs \[B, T, D\]"),
        (lambda: TransformerEncoder(2, 0), "`intermediate_dim` must be a positive integer, got 0"),
    ],
)
def test_unfit_arguments_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
