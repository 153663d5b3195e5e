"""Swaps of DeepCTR's layers: values, gradients of every weight, penalties, and what stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

# Importing it asks the network for its newest version.
with mock.patch("requests.get", side_effect=ConnectionError):
    from deepctr.layers import core, interaction, sequence, utils

from recops._core import compat
from recops._core.compat import keras
from recops.accelerate import registry
from tests.accelerate.swaps import close, drawn, randomize, replaced, same

B, F, D, T = 5, 6, 4, 7


def stacked() -> np.ndarray:
    return drawn(B, F, D)


def listed() -> list[np.ndarray]:
    return np.split(stacked(), F, axis=1)


def history() -> list[np.ndarray]:
    # One row has all steps, one none.
    lengths = np.array([[T], [3], [1], [0], [5]], "int32")
    return [drawn(B, 1, D), drawn(B, T, D), lengths]


LAYERS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "FM": (interaction.FM, stacked),
    "BiInteractionPooling": (interaction.BiInteractionPooling, stacked),
    "InnerProduct": (interaction.InnerProductLayer, listed),
    "InnerProduct, not reduced": (lambda: interaction.InnerProductLayer(False), listed),
    "OutterProduct mat": (interaction.OutterProductLayer, listed),
    "OutterProduct vec": (lambda: interaction.OutterProductLayer("vec"), listed),
    "OutterProduct num": (lambda: interaction.OutterProductLayer("num"), listed),
    "AFM": (lambda: interaction.AFMLayer(3, l2_reg_w=0.1), listed),
    "Bilinear all": (lambda: interaction.BilinearInteraction("all"), listed),
    "Bilinear each": (lambda: interaction.BilinearInteraction("each"), listed),
    "Bilinear interaction": (lambda: interaction.BilinearInteraction("interaction"), listed),
    "SENET": (lambda: interaction.SENETLayer(2), listed),
    "CIN": (lambda: interaction.CIN((6, 4, 3), l2_reg=0.1), stacked),
    "CIN whole": (lambda: interaction.CIN((5, 3), "tanh", False, l2_reg=0.1), stacked),
    "CIN of one layer": (lambda: interaction.CIN((3,), "linear"), stacked),
    "CrossNet": (lambda: interaction.CrossNet(3, l2_reg=0.1), lambda: drawn(B, 9)),
    "CrossNet matrix": (lambda: interaction.CrossNet(2, "matrix", 0.1), lambda: drawn(B, 9)),
    "Interacting": (lambda: interaction.InteractingLayer(5, 3), stacked),
    "Interacting scaled": (
        lambda: interaction.InteractingLayer(5, 3, use_res=False, scaling=True),
        stacked,
    ),
}


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_swap_has_the_values_and_gradients_of_the_layer(name: str, jit: bool) -> None:
    make, inputs = LAYERS[name]
    same(make(), inputs(), jit)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("score", [False, True], ids=["pooled", "score"])
@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "softmax"])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "dice", "elu"])
def test_attention_over_a_history(
    activation: str, normalize: bool, score: bool, training: bool, jit: bool
) -> None:
    old = sequence.AttentionSequencePoolingLayer((6, 3), activation, normalize, score)
    # A softmax does not see a last bias.
    without = ["bias"] if normalize else []
    new = same(old, history(), jit, without, training=training)
    statistics = [w for w in new.weights if "moving" in compat.path_of(w)]
    assert len(statistics) == (4 if activation == "dice" else 0)


def test_attention_by_masks_that_keras_carries() -> None:
    old = sequence.AttentionSequencePoolingLayer((6,), "dice", True, supports_masking=True)
    embedding = keras.layers.Embedding(5, D, mask_zero=True)
    query, ids = keras.Input([1, D]), keras.Input([3], dtype="int32")
    batch = [drawn(3, 1, D), np.array([[3, 1, 2], [4, 0, 0], [0, 0, 0]])]

    def model(pooling: Any) -> Any:
        return keras.Model([query, ids], pooling([query, embedding(ids)]))

    before = model(old)
    shapes = [drawn(3, 1, D), drawn(3, 3, D)]
    if compat.KERAS_3:  # Keras 2 calls a layer as a model is made of it.
        with pytest.raises(registry.Kept, match="until its model was called"):
            replaced(old, shapes)
    before(batch)
    randomize(before)
    new, _ = replaced(old, shapes)
    close(model(new).predict(batch, verbose=0), before.predict(batch, verbose=0))
    with pytest.raises(ValueError, match="must carry a mask"):
        new(shapes)


def test_statistics_of_dice_go_on_as_they_would() -> None:
    old = sequence.AttentionSequencePoolingLayer((6,), "dice")
    inputs = history()
    old(inputs)
    randomize(old)
    new, carried = replaced(old, inputs)
    for layer in (old, new):
        layer(inputs, training=True)
    for weight, before, arrange in carried:
        if not weight.trainable:
            close(np.asarray(weight), arrange([np.asarray(one) for one in before]))


@pytest.mark.skipif(not compat.KERAS_3, reason="Keras 2 has what it draws next in no variable")
def test_dropout_goes_on_where_it_was() -> None:
    old = interaction.AFMLayer(3, dropout_rate=0.5)
    inputs = listed()
    for _ in range(2):
        old(inputs, training=True)
    randomize(old)
    new, _ = replaced(old, inputs)
    for _ in range(3):
        ours, theirs = (np.asarray(layer(inputs, training=True)) for layer in (new, old))
        close(ours, theirs)


@pytest.mark.parametrize("name", LAYERS)
def test_a_swap_reloads_from_its_config(name: str) -> None:
    make, inputs = LAYERS[name]
    old = make()
    old(inputs())
    randomize(old)
    new, _ = replaced(old, inputs())
    again = type(new).from_config(new.get_config())
    theirs = tf.nest.flatten(new(inputs()))
    again(inputs())
    again.set_weights(new.get_weights())
    for a, b in zip(tf.nest.flatten(again(inputs())), theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(again.losses) == len(new.losses)
    np.testing.assert_allclose(np.sum(again.losses), np.sum(new.losses), rtol=1e-6)


def test_frozen_layers_stay_frozen() -> None:
    old = interaction.CIN((4,))
    old(stacked())
    old.trainable = False
    new, _ = replaced(old, stacked())
    assert not new.trainable_weights
    assert len(new.non_trainable_weights) == 2


class Swish(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs * tf.sigmoid(inputs)


def with_constraint() -> Any:
    layer = interaction.SENETLayer()
    layer(listed())
    layer.W_1.constraint = keras.constraints.NonNeg()
    return layer


def with_another_penalty() -> Any:
    layer = interaction.CIN((4, 3))
    layer(stacked())
    layer.filters[0].regularizer = keras.regularizers.L2(0.5)
    return layer


def with_a_penalty_of_matrices() -> Any:
    layer = interaction.CIN((4,))
    layer(stacked())
    layer.filters[0].regularizer = keras.regularizers.OrthogonalRegularizer(0.5)
    return layer


def partly_frozen() -> Any:
    layer = interaction.CrossNet(2)
    layer(drawn(B, 9))
    layer.kernels[1].trainable = False
    return layer


KEPT: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
    "one field": (interaction.FM, lambda: drawn(B, 1, D), "at least 2 fields, got 1"),
    "activation": (lambda: interaction.CIN((4,), "dice"), stacked, "activation 'dice' is a layer"),
    "activation class": (lambda: interaction.CIN((4,), Swish), stacked, "is a layer of its own"),
    "no layers": (lambda: interaction.CrossNet(0), lambda: drawn(B, 9), "it has no layers"),
    "steps": (
        lambda: interaction.BilinearInteraction("all"),
        lambda: [drawn(B, 2, D), drawn(B, 2, D)],
        r"not all \[B, 1, D\]",
    ),
    "constraint": (with_constraint, listed, "has a constraint"),
    "penalties": (with_another_penalty, stacked, "different regularizers"),
    "penalty": (with_a_penalty_of_matrices, stacked, "OrthogonalRegularizer, which is no sum"),
    "frozen": (partly_frozen, lambda: drawn(B, 9), "only a part of its weights is trained"),
    "activity": (
        lambda: interaction.CIN((4,), activity_regularizer="l2"),
        stacked,
        "an activity regularizer",
    ),
    "DNN": (lambda: core.DNN((4,)), lambda: drawn(B, 9), "nothing faster"),
    "Linear": (utils.Linear, lambda: drawn(B, 9), "next to nothing"),
}


# Keras 2 knows them from `add_weight` alone, and not as something that a weight may be given.
GIVEN = {"constraint", "penalties", "penalty", "frozen"}


@pytest.mark.parametrize("name", KEPT)
def test_what_stays_says_why(name: str) -> None:
    if name in GIVEN and not compat.KERAS_3:
        pytest.skip("a weight of Keras 2 cannot be given it")
    make, inputs, why = KEPT[name]
    layer = make()
    if not layer.built:
        layer(inputs())
    with pytest.raises(registry.Kept, match=why):
        replaced(layer, inputs())


def test_a_width_that_is_not_known_keeps_the_layer() -> None:
    found = registry.find(interaction.FM())
    with pytest.raises(registry.Kept, match="known beforehand"):
        found.replace(interaction.FM(), (None, None, D))


def test_a_subclass_is_another_layer() -> None:
    class Mine(interaction.FM):
        pass

    assert registry.find(Mine()) is None
