"""A compiled model stays compiled, and its copy goes on training where it stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recops
from recops._core import compat
from recops._core.compat import keras
from recops.accelerate import measuring, model
from tests.accelerate.models import L, arrays, batch, behaviour, labels, same

OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.05),
    "ftrl": lambda: keras.optimizers.Ftrl(0.05, l1_regularization_strength=0.001),
    "clipped": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.1),
    "schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)
    ),
}


def _compiled(optimizer: Any) -> Any:
    stock = behaviour()
    stock.get_layer("drop").rate = 0.0
    stock.compile(optimizer, "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
    return stock


def _train(model: Any, steps: range) -> list[Any]:
    return [model.train_on_batch(batch(seed=step), labels(seed=step)) for step in steps]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_where_it_was(name: str) -> None:
    stock = _compiled(OPTIMIZERS[name]())
    _train(stock, range(5))
    fast, _ = recops.accelerate(stock, batch=batch(), measure=False, optimizer="keep")
    assert type(fast.optimizer) is type(stock.optimizer)
    _train(fast, range(5, 10))
    _train(stock, range(5, 10))
    assert int(fast.optimizer.iterations) == 10
    same(stock(batch(seed=99)), fast(batch(seed=99)), 2e-5)
    # The two tables lie one below the other.
    tables = [stock.get_layer(n).get_weights()[0] for n in ("of_user", "of_item")]
    fused = next(w for w in arrays(fast.weights) if w.shape == (45, 4))
    rows = (
        [fused[:20], fused[20:]]
        if np.allclose(fused[:20], tables[0], atol=1e-3)
        else [
            fused[25:],
            fused[:25],
        ]
    )
    same(tables, rows, 1e-4)


def test_moments_go_with_their_weights() -> None:
    stock = _compiled(keras.optimizers.Adam(0.01))
    _train(stock, range(3))
    fast, _ = recops.accelerate(stock, batch=batch(), measure=False, optimizer=None)
    one, other = (
        sorted(float(np.abs(m).sum()) for m in arrays(model.optimizer._momentums))
        for model in (stock, fast)
    )
    assert len(one) == len(other) + 1
    np.testing.assert_allclose(sum(one), sum(other), rtol=1e-5)


def test_the_learning_rate_is_the_present_one() -> None:
    stock = _compiled(keras.optimizers.Adam(0.01))
    _train(stock, range(1))
    stock.optimizer.learning_rate.assign(0.003)
    fast, _ = recops.accelerate(stock, batch=batch(), measure=False)
    np.testing.assert_allclose(float(fast.optimizer.learning_rate), 0.003)


def test_loss_and_metrics_are_those_of_the_model_and_metrics_start_empty() -> None:
    stock = _compiled("adam")
    _train(stock, range(2))
    fast, _ = recops.accelerate(stock, batch=batch(), measure=False)
    evaluated = [m.evaluate(batch(), labels(), verbose=0) for m in (stock, fast)]
    same(evaluated[0], evaluated[1], 1e-5)
    given = [compat.compile_arguments(m)["metrics"][0] for m in (stock, fast)]
    assert given[0] is not given[1]
    assert given[0].name == given[1].name == "auc"


def test_an_uncompiled_model_stays_uncompiled() -> None:
    fast, report = recops.accelerate(behaviour(), batch=batch(), measure=False)
    assert not compat.is_compiled(fast)
    assert "optimizer" not in [row.layer for row in report.rows]


LAZY = {
    "Adam": (keras.optimizers.Adam, recops.optimizers.LazyAdam),
    "Adagrad": (keras.optimizers.Adagrad, recops.optimizers.LazyAdagrad),
    "Ftrl": (keras.optimizers.Ftrl, recops.optimizers.LazyFTRL),
}


@pytest.mark.parametrize("name", LAZY)
def test_a_lazy_optimizer_where_gradients_are_of_rows(name: str) -> None:
    given, wanted = LAZY[name]
    stock = _compiled(given(0.02))
    _train(stock, range(3))
    fast, report = recops.accelerate(stock, batch=batch(), measure=False)
    row = next(row for row in report.rows if row.layer == "optimizer")
    assert (row.was, row.now) == (name, f"recops.optimizers.{wanted.__name__}")
    assert "2 tables" in row.reason
    assert type(fast.optimizer) is wanted
    assert int(fast.optimizer.iterations) == 3
    before = fast.get_layer("steps").get_weights()[0]
    _train(fast, range(3, 4))
    # Id 0 is padding, which has no gradient.
    used = np.setdiff1d(batch(seed=3)[0], [0])
    unused = np.setdiff1d(np.arange(30), used)
    after = fast.get_layer("steps").get_weights()[0]
    assert len(unused)
    np.testing.assert_array_equal(before[unused], after[unused])
    # Keras's FTRL has by now set to 0 what it had seen no gradient of, the last layers too.
    assert name == "Ftrl" or np.all(np.any(before[used] != after[used], axis=1))


def _of_table(**options: Any) -> Any:
    ids = keras.Input((3,), dtype="int32")
    x = L.Flatten()(L.Embedding(9, 2, **options)(ids))
    return keras.Model(ids, L.Dense(1)(x))


@pytest.mark.parametrize(
    ("optimizer", "options", "reason"),
    [
        (lambda: keras.optimizers.Adam(), {"embeddings_regularizer": "l2"}, "moves every row"),
        (lambda: keras.optimizers.Adam(weight_decay=0.1), {}, "weight decay moves every row"),
        (lambda: keras.optimizers.Adam(amsgrad=True), {}, "amsgrad"),
        (lambda: keras.optimizers.Adam(use_ema=True), {}, "average of the weights"),
    ],
    ids=["penalty", "decay", "amsgrad", "ema"],
)
def test_an_optimizer_that_must_move_all_rows_stays(
    optimizer: Any, options: dict[str, Any], reason: str
) -> None:
    stock = _of_table(**options)
    stock.compile(optimizer(), "mse")
    fast, report = recops.accelerate(stock, measure=False)
    row = next(row for row in report.rows if row.layer == "optimizer")
    assert row.now is None
    assert reason in row.reason
    assert type(fast.optimizer) is keras.optimizers.Adam


def test_a_swap_is_judged_with_the_optimizer_that_the_copy_gets(monkeypatch: Any) -> None:
    seen = {}

    def equal(candidates: Any, batch: Any, jit: bool) -> dict[str, measuring.Times]:
        seen.update({name: type(each.optimizer) for name, each in candidates.items()})
        return {name: measuring.Times(2.0 if name == model._KEPT else 1.0, 1.0) for name in seen}

    monkeypatch.setattr(model, "time_all", equal)
    fast, report = recops.accelerate(_compiled(keras.optimizers.Adam()), batch=batch())
    assert seen.pop(model._STOCK) is seen.pop(model._KEPT) is keras.optimizers.Adam
    assert len(seen) > len([row for row in report.swapped if row.layer != "optimizer"])
    assert set(seen.values()) == {type(fast.optimizer)} == {recops.optimizers.LazyAdam}


def test_an_unknown_optimizer_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="lazy"):
        recops.accelerate(behaviour(), optimizer="adam")


@pytest.mark.skipif(not compat.KERAS_3, reason="Keras 2 keeps the scale in an object of its own")
def test_a_loss_scale_goes_on_as_well() -> None:
    x = keras.Input((6, 4))
    y = L.GRU(3, name="gru", dtype="mixed_float16")(x)
    stock = keras.Model(x, L.Dense(1, dtype="float32")(y))
    scaled = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=8.0, dynamic_growth_steps=2
    )
    stock.compile(scaled, "mse")
    values = np.random.default_rng(0).standard_normal((9, 6, 4)).astype("float32")
    for _ in range(3):
        stock.train_on_batch(values, np.ones((9, 1)))
    fast, report = recops.accelerate(stock, batch=values, measure=False)
    # Without a table there is nothing to be lazy about.
    row = next(row for row in report.rows if row.layer == "optimizer")
    assert "no gradient is of rows" in row.reason
    assert type(fast.optimizer) is keras.optimizers.LossScaleOptimizer
    assert type(fast.optimizer.inner_optimizer) is keras.optimizers.Adam
    assert float(stock.optimizer.dynamic_scale) == float(fast.optimizer.dynamic_scale) == 16.0
    assert int(fast.optimizer.inner_optimizer.iterations) == 3
    same(
        arrays(stock.optimizer.inner_optimizer._momentums),
        arrays(fast.optimizer.inner_optimizer._momentums),
        0.0,
    )
    fast.train_on_batch(values, np.ones((9, 1)))
    assert float(fast.optimizer.dynamic_scale) == 32.0
