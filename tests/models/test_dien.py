"""DIEN: its auxiliary loss and what it reads, every kind of evolution, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from recops._core.compat import keras, variable
from recops.features import SequenceFeature
from recops.models import DIEN
from tests.models.planted import HISTORY, ITEM, NEGATIVES, SEQUENCES, SMALL, data, read_by

B = 16


def build(features=SEQUENCES, **options):
    return DIEN(features, **{**SMALL["DIEN"], "seed": 1, "backend": "reference", **options})


def batch_of(model):
    return read_by(model, data(B)[0])


@pytest.mark.parametrize(
    "options",
    [
        {"gru_type": "augru", "augru_form": "alibaba", "reset_after": True},
        {"gru_type": "agru", "reduction": "mean", "auxiliary_units": ()},
        {"gru_type": "aigru", "attention_activation": "dice", "use_bn": False},
        {"gru_type": "gru", "activation": "relu", "dropout": 0.1},
    ],
    ids=str,
)
def test_options_run_and_reach_every_weight(options):
    model = build(**options)
    with tf.GradientTape() as tape:
        y = model(batch_of(model), training=True)
        loss = tf.add_n([tf.reduce_sum(y * tf.range(float(B))[:, None]), *model.losses])
    gradients = tape.gradient(loss, [variable(w) for w in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients):
        assert gradient is not None, weight
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), weight


def test_the_auxiliary_loss_is_the_models_and_can_be_left_out():
    model, without = build(), build(auxiliary_loss=False)
    assert "negatives" in model.input
    assert set(model.input) - set(without.input) == {"negatives"}
    batch = batch_of(model)
    model(batch), without(read_by(without, batch))
    assert len(model.losses) == 1
    assert not without.losses
    # The network on [interest, behaviour] is the loss's alone: [8, 8], [8], [8, 1], [1].
    assert model.count_params() - without.count_params() == 64 + 8 + 8 + 1


def test_negatives_change_the_loss_and_not_the_prediction():
    model = build()
    batch = batch_of(model)
    y, loss = model(batch), float(model.losses[0])
    other = {**batch, "negatives": np.where(batch["negatives"], batch["item"][:, None], 0)}
    np.testing.assert_array_equal(model(other), y)
    assert float(model.losses[0]) != loss


def test_candidate_history_and_negatives_read_one_table():
    model = build([ITEM, HISTORY, NEGATIVES])
    (table,) = model.get_layer("embedding").weights
    assert tuple(table.shape) == (13, 4)
    batch = batch_of(model)
    model(batch)
    with tf.GradientTape() as tape:
        model(batch)
        loss = model.losses[0]
    moved = tf.convert_to_tensor(tape.gradient(loss, variable(table))).numpy().any(axis=1)
    pairs = (batch["history"][:, :-1] != 0) & (batch["history"][:, 1:] != 0)
    read = [batch["history"][:, :-1][pairs], batch["history"][:, 1:][pairs]]
    read.append(batch["negatives"][:, 1:][pairs])
    np.testing.assert_array_equal(np.flatnonzero(moved), np.unique(np.concatenate(read)))


def test_padding_in_front_is_padding_behind():
    model = build([ITEM, HISTORY, NEGATIVES])
    batch = batch_of(model)
    y, loss = model(batch), float(model.losses[0])
    moved = dict(batch)
    for name in ("history", "negatives"):
        order = np.argsort(batch[name] != 0, axis=1, kind="stable")
        moved[name] = np.take_along_axis(batch[name], order, axis=1)
    assert not np.array_equal(moved["history"], batch["history"])
    np.testing.assert_allclose(model(moved), y, atol=1e-6)
    assert float(model.losses[0]) == pytest.approx(loss, rel=1e-5)


def test_two_histories_have_two_evolutions():
    genre = replace(ITEM, name="genre", vocabulary_size=5)
    genres = replace(HISTORY, name="genres", vocabulary_size=5, target="genre", max_length=3)
    others = replace(
        NEGATIVES, name="others", vocabulary_size=5, negative_of="genres", max_length=3
    )
    model = build([ITEM, HISTORY, NEGATIVES, genre, genres, others])
    rng = np.random.default_rng(0)
    batch = {
        symbol.name: rng.integers(0, 5, (B, *symbol.shape[1:])).astype(np.int32)
        for symbol in model.inputs
    }
    assert model(batch).shape == (B, 1)
    assert len(model.losses) == 2
    kinds = ("evolution_history", "evolution_genres", "interests_history", "interests_genres")
    assert {layer.name for layer in model.layers} >= set(kinds)


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"negative_of='history'\) .*auxiliary_loss=False"):
        build([ITEM, HISTORY])
    assert build([ITEM, HISTORY], auxiliary_loss=False).output_shape == (None, 1)
    with pytest.raises(ValueError, match=r"'negatives' .* max_length must be 4, got 3"):
        build([ITEM, HISTORY, replace(NEGATIVES, max_length=3)])
    with pytest.raises(ValueError, match="gru_type must be one of gru, aigru, agru, augru"):
        build(gru_type="lstm")
    sessions = SequenceFeature("sessions", 12, 3, 4, target="item", sessions=2)
    with pytest.raises(ValueError, match="DIEN: needs a SequenceFeature with target"):
        build([ITEM, sessions])


def test_the_compiled_step_trains_the_auxiliary_loss_too():
    model = build(auxiliary_weight=2.0)
    batch, labels = batch_of(model), data(B)[1]
    model.compile(keras.optimizers.SGD(0.0), "binary_crossentropy", jit_compile=False)
    total = model.evaluate(batch, labels, batch_size=B, verbose=0)
    y = model(batch).numpy()
    entropy = -np.mean(np.log(np.where(labels > 0, y, 1 - y)))
    assert total == pytest.approx(entropy + float(model.losses[0]), rel=1e-5)
