"""Swaps of keras-rs, where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recops
from recops._core import compat
from recops._core.compat import keras
from tests.accelerate.models import L, now, reasons, same

if not compat.KERAS_3:
    pytest.skip("keras-rs is for Keras 3", allow_module_level=True)
keras_rs = pytest.importorskip("keras_rs")


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_dot_interaction(diagonal: bool, whole: bool) -> None:
    inputs = [keras.Input((3,), name=n) for n in "abcd"]
    dot = keras_rs.layers.DotInteraction(diagonal, whole, name="dot")
    stock = keras.Model(inputs, dot(inputs))
    fast, report = recops.accelerate(stock, measure=False)
    assert now(report) == {"dot": "DotPairs"}
    assert fast.output_shape == stock.output_shape
    x = list(np.random.default_rng(0).standard_normal((4, 6, 3)).astype("float32"))
    same(stock(x), fast(x))


def _crosses(read_between: bool = False, **options: Any) -> Any:
    x0 = keras.Input((5,))
    x, read = x0, []
    for i in range(3):
        x = keras_rs.layers.FeatureCross(name=f"cross_{i}", **options)(x0, x)
        read.append(x)
    return keras.Model(x0, L.Concatenate()(read) if read_between else x)


def test_a_stack_of_feature_crosses() -> None:
    stock = _crosses(kernel_regularizer="l2")
    fast, report = recops.accelerate(stock, measure=False)
    assert now(report) == {"cross_0, cross_1, cross_2": "recops.layers.Cross"}
    x = np.random.default_rng(0).standard_normal((6, 5)).astype("float32")
    same(stock(x), fast(x))
    same(sum(map(float, stock.losses)), sum(map(float, fast.losses)))


@pytest.mark.parametrize(
    "options",
    [{"projection_dim": 2}, {"diag_scale": 0.5}, {"pre_activation": "relu"}, {"use_bias": False}],
    ids=str,
)
def test_crosses_that_have_no_counterpart_stay(options: dict[str, Any]) -> None:
    stock = _crosses(**options)
    fast, report = recops.accelerate(stock, measure=False)
    assert now(report) == {f"cross_{i}": None for i in range(3)}
    assert "no part of a stack" in reasons(report)["cross_1"]
    x = np.random.default_rng(0).standard_normal((6, 5)).astype("float32")
    same(stock(x), fast(x))


def test_a_stack_is_cut_where_others_read() -> None:
    stock = _crosses(read_between=True)
    fast, report = recops.accelerate(stock, measure=False)
    assert now(report) == {"cross_0": "recops.layers.Cross", "cross_1": None, "cross_2": None}
    x = np.random.default_rng(0).standard_normal((6, 5)).astype("float32")
    same(stock(x), fast(x))


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn"])
@pytest.mark.parametrize("weighted", [False, True])
def test_embed_reduce(combiner: str, weighted: bool) -> None:
    ids = keras.Input((6,), dtype="int32", name="ids")
    weights = keras.Input((6,), name="weights")
    layer = keras_rs.layers.EmbedReduce(9, 4, combiner=combiner, name="reduce")
    y = layer(ids, weights) if weighted else layer(ids)
    stock = keras.Model([ids, weights], [y, weights])
    fast, report = recops.accelerate(stock, measure=False, tolerance=1e-5)
    random = np.random.default_rng(0)
    given = [random.integers(0, 9, (7, 6)), random.random((7, 6)).astype("float32")]
    assert now(report) == {"reduce": "EmbeddingBag"}, str(report)
    same(stock(given), fast(given))


def test_embed_reduce_of_single_ids_stays() -> None:
    ids = keras.Input((), dtype="int32")
    stock = keras.Model(ids, keras_rs.layers.EmbedReduce(9, 4, name="reduce")(ids))
    _, report = recops.accelerate(stock, measure=False)
    assert "reduces nothing" in reasons(report)["reduce"]
