"""Swaps of Keras's layers: which are taken, which stay and why, and that gradients agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops._core import compat
from recops._core.compat import keras
from recops.accelerate import probe
from recops.accelerate.embeddings import FusedLookups
from tests.accelerate.models import L, batch, behaviour, now, reasons, same

X = np.random.default_rng(0).standard_normal((5, 6, 4)).astype("float32")


def _around(layer: Any, **call: Any) -> Any:
    x = keras.Input((6, 4))
    return keras.Model(x, layer(x, **call))


def _only(stock: Any, **options: Any) -> tuple[Any, Any]:
    fast, report = recops.accelerate(stock, measure=False, **options)
    return fast, report.rows[0]


TAKEN = {
    "gru": lambda: L.GRU(3),
    "sequences and state": lambda: L.GRU(3, return_sequences=True, return_state=True),
    "backwards": lambda: L.GRU(3, go_backwards=True, reset_after=False, use_bias=False),
    "dropout": lambda: L.GRU(3, dropout=0.3),
    "penalties": lambda: L.GRU(3, kernel_regularizer="l2", bias_regularizer="l1"),
    "rnn": lambda: L.RNN(L.GRUCell(3), return_sequences=True),
    "both ways": lambda: L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode="sum"),
    "both ways, state": lambda: L.Bidirectional(L.GRU(3, return_state=True)),
    "own backward": lambda: L.Bidirectional(
        L.GRU(3), backward_layer=L.GRU(3, go_backwards=True, reset_after=False)
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken(name: str) -> None:
    if name == "both ways, state" and not compat.KERAS_3:
        pytest.skip("the Bidirectional of Keras 2 takes states in lists alone")
    stock = _around(TAKEN[name]())
    fast, row = _only(stock)
    assert row.now is not None, row.reason
    assert row.max_difference < 1e-5
    same(stock(X), fast(X))
    same(stock.losses or [0.0], fast.losses or [0.0])


KEPT = {
    "activation": (lambda: L.GRU(3, activation="relu"), "tanh and sigmoid"),
    "recurrent dropout": (lambda: L.GRU(3, recurrent_dropout=0.2), "recurrent_dropout"),
    "lstm": (lambda: L.Bidirectional(L.LSTM(3)), "no op for the cell of an LSTM"),
    "cell": (lambda: L.RNN(L.SimpleRNNCell(3)), "a SimpleRNNCell"),
    "cells": (lambda: L.RNN([L.GRUCell(3), L.GRUCell(2)]), "a StackedRNNCells"),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_stays_and_why(name: str) -> None:
    make, reason = KEPT[name]
    stock = _around(make())
    fast, row = _only(stock)
    assert row.now is None
    assert reason in row.reason
    same(stock(X), fast(X))


def test_a_subclass_is_left_alone() -> None:
    class Mine(L.GRU):
        pass

    _, report = recops.accelerate(_around(Mine(3)), measure=False)
    assert [(row.now, row.reason) for row in report.rows] == [
        (None, "no swap is known for its class")
    ]


def test_only_and_keep() -> None:
    def model() -> Any:
        x = keras.Input((6, 4))
        y = L.GRU(4, return_sequences=True, name="one")(x)
        return keras.Model(
            x,
            L.MultiHeadAttention(1, 2, name="heads")(
                L.GRU(4, return_sequences=True, name="two")(y), y
            ),
        )

    gru, heads = "recops.layers.GRU", "recops.layers.MultiHeadAttention"
    for options, expected in (
        ({"only": "GRU"}, {"one": gru, "two": gru, "heads": None}),
        ({"only": [L.GRU], "keep": ["two"]}, {"one": gru, "two": None, "heads": None}),
        ({"keep": L.GRU}, {"one": None, "two": None, "heads": heads}),
        ({"only": []}, {"one": None, "two": None, "heads": None}),
    ):
        _, report = recops.accelerate(model(), measure=False, **options)
        assert now(report) == expected
    with pytest.raises(ValueError, match="only takes names and classes"):
        recops.accelerate(model(), only=[3])


@pytest.mark.parametrize("argument", ["only", "keep"])
def test_a_name_that_no_layer_has_is_an_error(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} names 'atention', .* its layers are"):
        recops.accelerate(behaviour(), batch=batch(), measure=False, **{argument: "atention"})


def _attention_over_padding(pooled: bool) -> Any:
    ids = keras.Input((6,), dtype="int32")
    x = L.Embedding(9, 4, mask_zero=True)(ids)
    y = L.MultiHeadAttention(2, 2, name="heads")(x, x)
    return keras.Model(ids, L.GlobalAveragePooling1D()(y) if pooled else y)


def test_attention_over_padding_is_swapped_only_where_padding_is_dropped_later() -> None:
    for pooled in (True, False):
        _, report = recops.accelerate(_attention_over_padding(pooled), measure=False)
        assert (now(report)["heads"] is not None) is pooled
    assert "computes something else" in reasons(report)["heads"]
    assert next(r for r in report.rows if r.layer == "heads").max_difference > 1e-3


def test_a_swap_that_computes_something_else_goes_back(monkeypatch: Any) -> None:
    from recops.accelerate import Carried, Replacement, Swap, register, registry

    monkeypatch.setattr(registry, "_SWAPS", dict(registry._SWAPS))

    def wrong(layer: Any, shapes: Any) -> Any:
        new = L.Dense(layer.units, activation="tanh", name=layer.name)
        new.build(shapes)
        return Replacement(
            new, [Carried(n, (o,), lambda v: v[0]) for n, o in zip(new.weights, layer.weights)]
        )

    def failing(layer: Any, shapes: Any) -> Any:
        raise RuntimeError("out of order")

    path = f"{L.Dense.__module__}.Dense"
    stock = _around(L.Dense(3, name="dense"))
    register(Swap(path, "mine", wrong))
    fast, row = _only(stock)
    assert row.now is None
    assert row.max_difference > 0.01
    same(stock(X), fast(X), 0.0)
    register(Swap(path, "mine", failing))
    _, row = _only(stock)
    assert row.now is None
    assert "RuntimeError: out of order" in row.reason


def test_a_lost_penalty_is_seen(monkeypatch: Any) -> None:
    from recops.accelerate import Carried, Replacement, Swap, register, registry

    monkeypatch.setattr(registry, "_SWAPS", dict(registry._SWAPS))

    def without(layer: Any, shapes: Any) -> Any:
        new = L.Dense(layer.units, name=layer.name)
        new.build(shapes)
        return Replacement(
            new, [Carried(n, (o,), lambda v: v[0]) for n, o in zip(new.weights, layer.weights)]
        )

    register(Swap(f"{L.Dense.__module__}.Dense", "mine", without))
    _, row = _only(_around(L.Dense(3, kernel_regularizer=keras.regularizers.L2(1e-3))))
    assert row.now is None


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_16_bit_is_judged_by_a_wider_computation(policy: str) -> None:
    x = keras.Input((6, 4))
    stock = keras.Model(x, L.Dense(1, dtype="float32")(L.GRU(3, name="gru", dtype=policy)(x)))
    _, report = recops.accelerate(stock, measure=False)
    assert now(report)["gru"] == "recops.layers.GRU", str(report)
    _, report = recops.accelerate(stock, measure=False, tolerance=1e-9)
    assert now(report)["gru"] is None


def _tables(names: str, shared: bool = False, **options: Any) -> Any:
    inputs = {n: keras.Input((1 + i,), dtype="int32", name=n) for i, n in enumerate(names)}
    layers = {n: L.Embedding(5 + 3 * i, 2, name=f"of_{n}", **options) for i, n in enumerate(names)}
    found = [layers[n](x) for n, x in inputs.items()]
    if shared:
        found.append(layers[names[0]](inputs[names[-1]]))
    return keras.Model(inputs, L.Dense(1)(L.Concatenate(axis=1)(found)))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("penalty", [None, "l2"])
def test_tables_become_one(penalty: Any, shared: bool) -> None:
    stock = _tables("abc", shared, embeddings_regularizer=penalty)
    fast, row = _only(stock)
    assert row.was == "3 Embedding"
    assert row.now is not None, row.reason
    assert sum(isinstance(layer, FusedLookups) for layer in fast.layers) == 1
    assert len(fast.weights) == 3
    ids = probe.drawn(stock, 7)
    same(stock(ids), fast(ids))
    assert bool(stock.losses) is (penalty is not None)
    same(sum(map(float, stock.losses)), sum(map(float, fast.losses)))


def test_tables_that_differ_stay_apart() -> None:
    a, b, c = (keras.Input((1,), dtype="int32", name=n) for n in "abc")
    found = [
        L.Embedding(5, 2, embeddings_regularizer="l2")(a),
        L.Embedding(6, 2)(b),
        L.Embedding(7, 2, embeddings_constraint="non_neg")(c),
    ]
    stock = keras.Model([a, b, c], L.Concatenate()(found))
    _, report = recops.accelerate(stock, measure=False)
    assert not report.rows


def test_an_id_beyond_its_table_is_named_after_the_swap_as_well() -> None:
    fast, _ = _only(_tables("ab"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="5"):
        fast({"a": np.array([[5]]), "b": np.array([[1, 1]])})


def test_a_table_that_others_read_is_no_bag() -> None:
    ids = keras.Input((6,), dtype="int32")
    x = L.Embedding(9, 4)(ids)
    stock = keras.Model(ids, [L.GlobalAveragePooling1D()(x), x])
    _, report = recops.accelerate(stock, measure=False)
    assert not report.rows


def test_a_model_of_a_fixed_number_of_rows() -> None:
    x = keras.Input(batch_shape=(200, 6, 4))
    stock = keras.Model(x, L.Dense(1)(L.GRU(3, name="gru")(x)))
    fast, report = recops.accelerate(stock, measure=False)
    assert now(report) == {"gru": "recops.layers.GRU"}
    assert fast.input_shape == (200, 6, 4)
