"""DIEN's layers: the auxiliary loss, its way into a model, and all evolutions, under masks."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import layers
from recops._core.compat import keras, variable
from tests.oracles.interest import auxiliary, evolution
from tests.oracles.target_attention import target_attention

B, T, D, H = 4, 5, 3, 2
# At the end, at the start, with a gap, and nothing but padding.
MASK = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)


def arrays():
    rng = np.random.default_rng(0)
    shapes = ((B, T, D), (B, T, D), (B, D), (B, T, H))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def network_of(layer):
    dense = [*layer.network.dense, layer.logit] if layer.network is not None else []
    return [tuple(w.astype(np.float64) for w in part.get_weights()) for part in dense]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"units": H, "auxiliary_units": (4,), "reduction": "mean", "auxiliary_weight": 0.3},
        {"auxiliary_units": (), "auxiliary_weight": 2.0},
        {"auxiliary_units": (), "reduction": "mean"},
    ],
    ids=str,
)
def test_the_loss_is_the_papers(options):
    behaviors, negatives, _, _ = arrays()
    layer = layers.InterestExtractor(**options)
    interests = layer(behaviors, negatives, mask=tf.constant(MASK))
    (loss,) = layer.losses
    assert loss.shape == ()
    assert loss.dtype == tf.float32
    want = auxiliary(
        interests.numpy().astype(np.float64), behaviors, negatives, MASK, network_of(layer),
        options.get("reduction", "masked_mean"),
    )  # fmt: skip
    assert float(loss) == pytest.approx(options.get("auxiliary_weight", 1.0) * want, rel=1e-5)
    assert interests.shape[2] == options.get("units", D)
    np.testing.assert_array_equal(interests[~MASK], 0)


def test_without_negatives_there_is_no_loss_and_no_network():
    behaviors, negatives, _, _ = arrays()
    layer = layers.InterestExtractor(H)
    layer(behaviors)
    assert not layer.losses
    assert len(layer.weights) == 3
    with pytest.raises(ValueError, match="negatives after a first call without"):
        layer(behaviors, negatives)


def gradients(layer, *tensors):
    """Of the results' squares and the losses, by inputs and weights."""
    tensors = [tf.constant(x) for x in tensors]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = layer(*tensors, mask=tf.constant(MASK))
        total = tf.add_n([tf.reduce_sum(y * y), *layer.losses])
    by = [*tensors, *(variable(w) for w in layer.trainable_weights)]
    return [total, *tape.gradient(total, by)]


@pytest.mark.parametrize("units", [(4,), ()], ids=["network", "inner"])
def test_padding_reaches_nothing_of_the_extractor(units):
    behaviors, negatives, _, _ = arrays()
    layer = layers.InterestExtractor(auxiliary_units=units)
    want = gradients(layer, behaviors, negatives)
    spoilt = [
        np.where(MASK[..., None], x, np.nan).astype(np.float32) for x in (behaviors, negatives)
    ]
    for got, expected in zip(gradients(layer, *spoilt), want):
        np.testing.assert_allclose(got, expected, atol=1e-6)
    # A gradient reaches every weight, and the negatives of each step that follows a kept one.
    assert all(np.abs(g).max() > 0 for g in want)
    after = np.zeros_like(MASK)
    after[:, 1:] = MASK[:, :-1] & MASK[:, 1:]
    np.testing.assert_array_equal(np.abs(want[2]).max(axis=2) > 0, after)


def test_the_loss_of_a_functional_graph_is_trained():
    behaviors, negatives, _, _ = arrays()
    inputs = [keras.Input((T, D)), keras.Input((T, D)), keras.Input((T,), dtype="bool")]
    layer = layers.InterestExtractor(auxiliary_units=(4,), auxiliary_weight=3.0)
    interests = layer(inputs[0], inputs[1], mask=inputs[2])
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(interests)))
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    batch, labels = [behaviors, negatives, MASK], np.zeros((B, 1), np.float32)
    predictions = model.predict(batch, verbose=0)
    want = auxiliary(
        layer(behaviors, mask=tf.constant(MASK)).numpy(), behaviors, negatives, MASK,
        network_of(layer),
    )  # fmt: skip
    before = layer.network.get_weights()
    history = model.fit(batch, labels, batch_size=B, verbose=0)
    total = float(np.mean(predictions**2)) + 3.0 * want
    assert history.history["loss"][0] == pytest.approx(total, rel=1e-4)
    assert not np.allclose(before[0], layer.network.get_weights()[0])


def attention_of(layer):
    weights = [w.astype(np.float64) for w in layer.get_weights()]
    return [w for w in weights if w.ndim == 2], [w for w in weights if w.ndim == 1]


@pytest.mark.parametrize(
    ("gru_type", "augru_form"),
    [
        ("augru", "paper"),
        ("augru", "alibaba"),
        ("agru", "paper"),
        ("aigru", "paper"),
        ("gru", "paper"),
    ],
)
def test_evolutions_are_the_papers(gru_type, augru_form):
    behaviors, _, query, interests = arrays()
    for steps in (behaviors, interests):  # of the target's width, and of another
        layer = layers.InterestEvolution(gru_type, augru_form, hidden_units=(4,))
        got = layer(query, steps, mask=tf.constant(MASK))
        projection = None if layer.projection is None else layer.projection.get_weights()[0]
        assert (projection is None) == (steps is behaviors)
        want = evolution(
            query, steps, MASK, attention_of(layer.attention), layer.gru.get_weights(),
            projection, gru_type, augru_form,
        )[0]  # fmt: skip
        np.testing.assert_allclose(got, want, atol=1e-5)
        np.testing.assert_array_equal(got[3], 0)


@pytest.mark.parametrize("gru_type", ["augru", "aigru", "gru"])
def test_padding_reaches_nothing_of_the_evolution(gru_type):
    _, _, query, interests = arrays()
    layer = layers.InterestEvolution(gru_type, hidden_units=(4,))
    want = gradients(layer, query, interests)
    spoilt = np.where(MASK[..., None], interests, np.nan).astype(np.float32)
    for got, expected in zip(gradients(layer, query, spoilt), want):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_scores_are_a_softmax_over_what_is_kept():
    _, _, query, interests = arrays()
    layer = layers.InterestEvolution(hidden_units=(4,))
    layer(query, interests)
    target = query @ layer.projection.get_weights()[0]
    _, got = layer.attention(target, interests, mask=tf.constant(MASK))
    want = target_attention(target, interests, *attention_of(layer.attention), MASK)[1]
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(np.sum(got, axis=1), [1, 1, 1, 0], atol=1e-6)


def test_a_seed_repeats_every_weight_and_no_two_kernels_are_alike():
    behaviors, negatives, query, interests = arrays()
    made = []
    for seed in (1, 1, 2):
        extractor = layers.InterestExtractor(seed=seed)
        extractor(behaviors, negatives)
        evolving = layers.InterestEvolution(seed=seed)
        evolving(query, interests)
        weights = extractor.get_weights(), evolving.get_weights()
        made.append([w for part in weights for w in part if w.ndim == 2])
    for one, two, other in zip(*made):
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, other)
    for kernels in (made[0][:5], made[0][5:]):
        assert len({float(kernel[0, 0]) for kernel in kernels}) == len(kernels)


def test_what_is_wrong_is_said():
    behaviors, negatives, query, interests = arrays()
    for make, said in [
        (lambda: layers.InterestExtractor(reduction="sum"), "one of masked_mean, mean, got 'sum'"),
        (lambda: layers.InterestExtractor(0), "`units` must be a positive integer, got 0"),
        (lambda: layers.InterestEvolution("lstm"), "one of gru, aigru, agru, augru, got 'lstm'"),
        (lambda: layers.InterestEvolution(augru_form="code"), "one of paper, alibaba, got 'code'"),
        (
            lambda: layers.InterestExtractor(H, auxiliary_units=())(behaviors, negatives),
            "needs units = D = 3, got units = 2",
        ),
        (
            lambda: layers.InterestEvolution()(query, interests[0]),
            r"expected interests \[B, T, width\] of a static width, got \[5, 2\]",
        ),
    ]:
        with pytest.raises(ValueError, match=said):
            make()
