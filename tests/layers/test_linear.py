"""First-order weights and wide crosses: values, penalties and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops.features import DenseFeature, SequenceFeature, SparseFeature
from recops.layers import Linear, WideCrosses

USER, ITEM = SparseFeature("user", 5), SparseFeature("item", 7)
AGE, PRICE = DenseFeature("age"), DenseFeature("price")


def names(layer):
    return {w.name.split("/")[-1].removesuffix(":0") for w in layer.weights}


def test_parts_that_are_not_there_have_no_weights():
    ids, numbers = {"user": np.array([1])}, {"age": np.array([[2.0]], np.float32)}
    sparse, dense = Linear([USER], use_bias=False), Linear([AGE])
    sparse(ids), dense(numbers)
    assert names(sparse) == {"embeddings"}
    assert names(dense) == {"kernel", "bias"}


def test_penalties_are_of_all_weights_but_the_bias():
    layer = Linear([USER, AGE], l1=0.5, l2=0.25, kernel_initializer="ones")
    layer({"user": np.array([1]), "age": np.array([1.0], np.float32)})
    layer.set_weights([np.full(w.shape, 2.0) for w in layer.weights])
    # six ids and one kernel weight of 2: |w| and w^2
    assert sum(map(float, layer.losses)) == pytest.approx(7 * (0.5 * 2 + 0.25 * 4))
    without = Linear([USER, AGE])
    without({"user": np.array([1]), "age": np.array([1.0], np.float32)})
    assert without.losses == []


def test_a_missing_or_misshapen_number_is_named():
    layer = Linear([AGE])
    with pytest.raises(ValueError, match="lacks the feature 'age'"):
        layer.call({})
    with pytest.raises(ValueError, match=r"'age' must have shape \[B, 1\]"):
        layer({"age": np.ones((2, 3), np.float32)})


def test_crosses_have_a_weight_for_each_combination():
    layer = WideCrosses([USER, ITEM], [("user", "item")])
    user, item = (a.ravel() for a in np.meshgrid(np.arange(6), np.arange(8), indexing="ij"))
    layer.build()
    layer.set_weights([np.arange(48.0)[:, None]])
    seen = layer({"user": user, "item": item}).numpy().ravel()
    assert len(set(seen)) == 48


def test_hashed_crosses_spread_and_stay_inside():
    big = [SparseFeature("a", 2_000_000_000), SparseFeature("b", 2_000_000_000)]
    layer = WideCrosses(big, [("a", "b")], num_buckets=64)
    layer.build()
    assert layer.count_params() == 64
    layer.set_weights([np.arange(64.0)[:, None]])
    rng = np.random.default_rng(0)
    batch = {name: rng.integers(0, 2_000_000_001, 6400) for name in "ab"}
    rows = layer(batch).numpy().ravel()
    counts = np.bincount(rows.astype(int), minlength=64)
    assert counts.min() > 50
    assert counts.max() < 150
    np.testing.assert_array_equal(tf.function(layer, jit_compile=True)(batch).numpy().ravel(), rows)
    swapped = layer({"a": batch["b"], "b": batch["a"]}).numpy().ravel()
    assert np.mean(swapped == rows) < 0.1


def test_crosses_multiply_numbers():
    layer = WideCrosses([ITEM, AGE, PRICE], [("age", "price"), ("price", "item")])
    layer.build()
    layer.set_weights([np.array([[10.0], *([float(i)] for i in range(8))])])
    batch = {
        "item": np.array([3]),
        "age": np.array([[2.0]], np.float32),
        "price": np.array([[5.0]], np.float32),
    }
    assert layer(batch).numpy() == [[10 * 2 * 5 + 3 * 5]]


def test_an_id_beyond_its_vocabulary_raises_or_is_nan_in_jit():
    layer = WideCrosses([USER, ITEM], [("user", "item")])
    batch = {"user": np.array([0, 1]), "item": np.array([8, 1])}
    with pytest.raises(tf.errors.InvalidArgumentError, match="id 8"):
        layer(batch)
    # An XLA program cannot raise.
    with recops.backend("xla"):
        y = tf.function(layer, jit_compile=True)(batch).numpy().ravel()
    assert np.isnan(y).tolist() == [True, False]


@pytest.mark.parametrize(
    ("cross", "said"),
    [
        (("user",), "two or more different features"),
        (("user", "user"), "two or more different features"),
        (("user", "nobody"), "'nobody': no such feature"),
        (("user", "words"), "SequenceFeature"),
        (("user", "place"), "dimension=2"),
    ],
)
def test_unfit_crosses_are_refused(cross, said):
    others = [SequenceFeature("words", 5, max_length=2), DenseFeature("place", 2)]
    with pytest.raises(ValueError, match=said):
        WideCrosses([USER, ITEM, *others], [cross])
