"""FusedEmbedding and EmbeddingBag: tables, pooling, masks, sparse gradients and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops._core import compat
from recops.features import DenseFeature, SequenceFeature, SparseFeature
from recops.layers import EmbeddingBag, FusedEmbedding
from tests.needs import refusal_in

USER, ITEM = SparseFeature("user", 3, 2), SparseFeature("item", 4, 2)
SEEN = SequenceFeature("seen", 4, 3, 2, target="item")
WORDS = SequenceFeature("words", 5, 2, 2)
BATCH = {
    "user": np.array([1, 3]),
    "item": np.array([4, 0]),
    "seen": np.array([[0, 2, 4], [0, 0, 0]]),
    "words": np.array([[5, 0], [1, 2]]),
}


def test_one_gather_for_all_sparse_features_and_shared_rows():
    layer = FusedEmbedding([USER, SEEN, ITEM, WORDS], backend="xla")
    layer.build()
    assert [tuple(w.shape) for w in layer.weights] == [(4 + 5 + 6, 2)]
    graph = tf.function(layer.call).get_concrete_function(BATCH).graph
    gathers = [op for op in graph.get_operations() if "Gather" in op.type]
    from_table = [op for op in gathers if op.outputs[0].dtype == tf.float32]
    assert len(from_table) == 3  # the sparse features, and a bag for each sequence


def test_shared_tables_share_rows():
    twin = SparseFeature("twin", 4, 2, embedding_name="item")
    layer = FusedEmbedding([ITEM, twin, SEEN])
    ids = np.array([2, 4])
    y = layer({"item": ids, "twin": ids, "seen": np.stack([ids, ids, 0 * ids], axis=1)}).numpy()
    np.testing.assert_allclose(y[:, 0], y[:, 1])
    np.testing.assert_allclose(y[:, 0], y[:, 2], rtol=1e-6)
    assert layer.count_params() == 5 * 2


@pytest.mark.parametrize("graph", [False, True])
def test_gradient_is_sparse(graph):
    layer = FusedEmbedding([USER, SEEN, ITEM])

    def gradient(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(batch) ** 2)
        got = tape.gradient(loss, compat.variable(layer.embeddings))
        assert isinstance(got, tf.IndexedSlices)
        return tf.convert_to_tensor(got)

    layer(BATCH)
    dense = (tf.function(gradient) if graph else gradient)(BATCH).numpy()
    # users 1 and 3, items 0, 2 and 4 of the tables of 4 and 5 rows
    assert np.flatnonzero(np.abs(dense).sum(1)).tolist() == [1, 3, 4, 6, 8]


def test_an_empty_sequence_is_zero_whatever_row_0_holds():
    layer = FusedEmbedding([SEEN, ITEM], embeddings_initializer="ones")
    np.testing.assert_array_equal(layer(BATCH).numpy()[1], [[0, 0], [1, 1]])


def test_ids_of_two_integer_types():
    layer = FusedEmbedding([USER, ITEM])
    y = layer(BATCH)
    mixed = {"user": BATCH["user"].astype(np.int64), "item": BATCH["item"].astype(np.int32)}
    np.testing.assert_array_equal(layer(mixed), y)


@pytest.mark.parametrize(("name", "bad"), [("user", 4), ("item", -1), ("seen", 5), ("words", 6)])
@pytest.mark.parametrize("backend", ["cpp", "xla"])
def test_an_id_beyond_its_vocabulary_raises_or_is_nan_in_jit(backend, name, bad):
    # Every one of these ids lies inside the fused table, in the rows of another feature.
    layer = FusedEmbedding([USER, SEEN, ITEM, WORDS], backend=backend)
    batch = {key: value.copy() for key, value in BATCH.items()}
    batch[name].flat[0] = bad
    for call in (layer, tf.function(layer)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=str(bad)):
            call(batch)
    jitted = tf.function(layer, jit_compile=True)
    if backend == "cpp" and (reason := refusal_in("jit")):
        with pytest.raises(Exception, match=reason.split(";")[0]):
            jitted(batch)
        return
    if backend == "cpp":
        with pytest.raises(tf.errors.InvalidArgumentError, match="has no row"):
            jitted(batch)
        return
    y = jitted(batch).numpy()
    column = ["user", "seen", "item", "words"].index(name)
    assert np.isnan(y[0, column]).all()
    y[0, column] = 0
    assert np.isfinite(y).all()


def test_a_missing_feature_is_named():
    with pytest.raises(ValueError, match="lacks the feature 'item'; it has 'user'"):
        FusedEmbedding([USER, ITEM])({"user": BATCH["user"]})


def test_wrong_features_are_refused():
    with pytest.raises(ValueError, match="'price' is a DenseFeature"):
        FusedEmbedding([USER, DenseFeature("price")])
    with pytest.raises(ValueError, match=r"one embedding_dim .* 'user': 2, 'item': 8"):
        FusedEmbedding([USER, SparseFeature("item", 4, 8)])
    with pytest.raises(ValueError, match=r"'user' must have shape \[B\], got \[2, 1\]"):
        FusedEmbedding([USER])({"user": BATCH["user"][:, None]})


def test_bag_takes_a_mask_weights_or_zero_as_padding():
    ids = np.array([[1, 2, 0]])
    table = np.array([[9.0], [1.0], [3.0]])

    def bag(**options):
        layer = EmbeddingBag(2, 1, **options)
        layer.build((None, 3))
        layer.set_weights([table])
        return layer

    assert bag()(ids).numpy() == [[2.0]]
    assert bag(mask_zero=False, combiner="sum")(ids).numpy() == [[13.0]]
    assert bag()(ids, mask=np.array([[False, True, True]])).numpy() == [[6.0]]
    weights = np.array([[3.0, 1.0, 5.0]], np.float32)
    assert bag()(ids, weights=weights).numpy() == [[1.5]]


def test_bag_takes_the_mask_of_the_layer_before():
    keras = compat.keras
    x = keras.Input((3, 1))
    masked = keras.layers.Masking()(x)
    ids = keras.layers.Lambda(
        lambda t: tf.cast(t[..., 0], tf.int32), output_shape=(3,), mask=lambda _, mask: mask
    )(masked)
    layer = EmbeddingBag(4, 1, "sum", mask_zero=False, embeddings_initializer="ones")
    model = keras.Model(x, layer(ids))
    batch = np.array([[[1.0], [0.0], [2.0]]], np.float32)
    assert model.predict(batch, verbose=0).tolist() == [[2.0]]
