"""Models of every kind: the copy computes the same, and the stock model is not touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops._core import compat
from recops._core.compat import keras
from tests.accelerate.models import L, arrays, batch, behaviour, labels, now, reasons, same

GRU, ATTENTION = "recops.layers.GRU", "recops.layers.MultiHeadAttention"


def test_a_functional_model_computes_the_same() -> None:
    stock = behaviour()
    fast, report = recops.accelerate(stock, batch=batch(), measure=False)
    assert now(report) == {
        "gru": GRU,
        "attention": ATTENTION,
        "of_user, of_item": "one table, one lookup",
    } or now(report) == {
        "gru": GRU,
        "attention": ATTENTION,
        "of_item, of_user": "one table, one lookup",
    }
    assert isinstance(fast.get_layer("gru"), recops.layers.GRU)
    same(stock(batch(50, 1)), fast(batch(50, 1)))
    assert all(0 <= row.max_difference <= 1e-5 for row in report.rows)
    assert fast.name == stock.name
    assert [x.name for x in fast.inputs] == [x.name for x in stock.inputs]


def test_the_stock_model_is_not_touched() -> None:
    stock = behaviour()
    stock.compile("adam", "binary_crossentropy")
    stock.fit(batch(), labels(), epochs=1, verbose=0)
    before = arrays(stock.variables), stock.get_config(), stock(batch())
    moments = arrays(compat.variables_of(stock.optimizer))
    calls = [len(layer._inbound_nodes) for layer in _operations(stock)]
    fast, _ = recops.accelerate(stock, batch=batch(), measure=False)
    fast.fit(batch(), labels(), epochs=2, verbose=0)
    assert stock.get_config() == before[1]
    for one, other in zip(before[0], arrays(stock.variables), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(moments, arrays(compat.variables_of(stock.optimizer)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert calls == [len(layer._inbound_nodes) for layer in _operations(stock)]
    assert stock.get_layer("drop").rate == 0.4
    assert fast.get_layer("drop").rate == 0.4
    same(before[2], stock(batch()), 0.0)


def _operations(model: Any) -> list[Any]:
    return list(getattr(model, "_operations", model.layers))


def test_gradients_of_every_weight_are_the_same() -> None:
    stock = behaviour()
    stock.get_layer("drop").rate = 0.0
    fast, _ = recops.accelerate(stock, batch=batch(), measure=False, keep=["of_user"])

    def gradients(model: Any) -> list[Any]:
        weights = [compat.variable(weight) for weight in model.trainable_variables]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(batch(seed=4), training=True) - labels()))
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]

    same(gradients(stock), gradients(fast), 1e-4)


def test_a_sequential_model_stays_one() -> None:
    stock = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            L.Embedding(11, 4, mask_zero=True, name="table"),
            L.GRU(3, name="gru"),
            L.Dense(1, name="out"),
        ]
    )
    fast, report = recops.accelerate(stock, measure=False)
    assert now(report) == {"gru": GRU}
    assert isinstance(fast, keras.Sequential)
    assert [layer.name for layer in fast.layers] == ["table", "gru", "out"]
    ids = np.random.default_rng(0).integers(1, 11, (5, 7))
    same(stock(ids), fast(ids))


def test_a_pooled_table_of_a_sequential_model() -> None:
    stock = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            L.Embedding(11, 4, mask_zero=True, name="table"),
            L.GlobalAveragePooling1D(name="mean"),
            L.Dense(1, name="out"),
        ]
    )
    fast, report = recops.accelerate(stock, measure=False)
    assert now(report) == {"table, mean": "recops.layers.EmbeddingBag"}
    ids = np.array([[3, 4, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 10]])
    same(stock(ids), fast(ids))


def test_nested_and_shared_layers() -> None:
    inner_in = keras.Input((6, 4), name="steps")
    inner = keras.Model(inner_in, L.GRU(5, name="gru")(inner_in), name="encoder")
    one, other = keras.Input((6, 4), name="one"), keras.Input((6, 4), name="other")
    shared = L.GRU(3, name="shared")
    pieces = [inner(one), inner(other), shared(one), shared(other)]
    outputs = {"score": L.Dense(1)(L.Concatenate()(pieces)), "code": pieces[0]}
    stock = keras.Model({"one": one, "other": other}, outputs)
    fast, report = recops.accelerate(stock, measure=False)
    assert now(report) == {"encoder/gru": GRU, "shared": GRU}
    random = np.random.default_rng(0)
    inputs = {n: random.standard_normal((9, 6, 4)).astype("float32") for n in ("other", "one")}
    found = fast(inputs)
    assert set(found) == {"score", "code"}
    same(stock(inputs), found)
    assert len(fast.weights) == len(stock.weights)


class Tower(keras.Model):
    """A model with layers as attributes, in a list and in a layer of its own."""

    def __init__(self, units: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.table = L.Embedding(13, 4, name="table")
        self.read = [L.GRU(units, return_sequences=True, name="first"), L.GRU(units, name="last")]
        self.block = Block(units, name="block")
        self.out = L.Dense(1, name="out")

    def call(self, ids: Any, training: Any = None) -> Any:
        x = self.block(self.table(ids))
        for layer in self.read:
            x = layer(x)
        return self.out(x)

    def get_config(self) -> dict[str, Any]:
        return {"units": self.units, "name": self.name}


class Block(L.Layer):
    """A layer of somebody's own around one that is known."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.attention = L.MultiHeadAttention(1, units, name="attention")

    def call(self, x: Any) -> Any:
        return x + self.attention(x, x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def _ids(rows: int = 6) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 13, (rows, 5)).astype("int32")


def test_a_model_with_layers_as_attributes(tmp_path: Any) -> None:
    stock = Tower()
    stock(_ids())
    fast, report = recops.accelerate(stock, batch=_ids(), measure=False)
    assert now(report) == {"first": GRU, "last": GRU, "block/attention": ATTENTION}
    assert type(fast) is Tower
    assert isinstance(fast.read[1], recops.layers.GRU)
    assert isinstance(stock.read[1], L.GRU)
    same(stock(_ids(9)), fast(_ids(9)))
    assert [v.shape for v in fast.weights] == [v.shape for v in stock.weights]
    fast.save_weights(tmp_path / "fast.weights.h5")
    with pytest.raises(ValueError, match="pass batch"):
        recops.accelerate(stock)


def test_what_cannot_be_made_again_is_kept() -> None:
    class Closed(keras.Model):
        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.layer = layer

        def call(self, x: Any) -> Any:
            return self.layer(x)

        def get_config(self) -> dict[str, Any]:
            raise NotImplementedError("no config")

    stock = Closed(L.GRU(2))
    x = np.ones((2, 3, 4), "float32")
    stock(x)
    same_model, report = recops.accelerate(stock, batch=x, measure=False)
    assert same_model is stock
    assert [row.now for row in report.rows] == [None]
    assert "cannot be made from its config" in report.rows[0].reason


def test_lambdas_and_unknown_layers_stay_and_are_named() -> None:
    x = keras.Input((6, 4))
    y = L.Lambda(lambda v: v * 2.0, name="twice", output_shape=(6, 4))(x)
    y = L.GRU(3, name="gru")(Block(2, name="block")(y))
    stock = keras.Model(x, y)
    fast, report = recops.accelerate(stock, measure=False, keep="attention")
    assert now(report) == {"twice": None, "block": None, "block/attention": None, "gru": GRU}
    assert "no swap is known" in reasons(report)["twice"]
    values = np.random.default_rng(0).standard_normal((3, 6, 4)).astype("float32")
    same(stock(values), fast(values))


def test_configs_that_lie_are_mended_by_attributes() -> None:
    class Forgetful(L.Layer):
        def __init__(self, factor: float = 1.0, l2: float = 1e-2, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.factor, self.l2 = factor, l2

        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(
                name="kernel", shape=(shape[-1],), regularizer=keras.regularizers.L2(self.l2)
            )

        def call(self, x: Any) -> Any:
            return x * self.kernel * self.factor

    x = keras.Input((6, 4))
    stock = keras.Model(x, L.GRU(3, name="gru")(Forgetful(3.0, 0.5)(x)))
    fast, report = recops.accelerate(stock, measure=False)
    assert now(report)["gru"] == GRU
    values = np.random.default_rng(0).standard_normal((3, 6, 4)).astype("float32")
    same(stock(values), fast(values))
    same(stock.losses, fast.losses)


def test_frozen_layers_stay_frozen() -> None:
    stock = behaviour()
    stock.get_layer("gru").trainable = False
    stock.get_layer("of_user").trainable = False
    fast, report = recops.accelerate(stock, batch=batch(), measure=False)
    assert set(now(report)) == {"gru", "attention"}
    assert not fast.get_layer("gru").trainable_weights
    assert not fast.get_layer("of_user").trainable_weights


def test_a_copy_reloads_without_custom_objects(tmp_path: Any) -> None:
    stock = behaviour()
    fast, _ = recops.accelerate(stock, batch=batch(), measure=False)
    fast.save(tmp_path / "fast.keras")
    again = keras.models.load_model(tmp_path / "fast.keras")
    same(stock(batch()), again(batch()))
