"""What is measured, what of it is undone, and how the report shows it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops._core.compat import keras
from recops.accelerate import Carried, Replacement, Report, Row, Swap, register, registry
from recops.accelerate.measuring import Times
from recops.accelerate.model import _Work
from tests.accelerate.models import L, batch, behaviour, same

ROWS = (
    Row("gru", "GRU", "recops.layers.GRU", "2.00x of a train step", 1e-7, 80.0, 40.0),
    Row("<b>", "Lambda", None, "no swap is known & none comes"),
)
REPORT = Report(ROWS, 90.0, 30.0, 40.0, 10.0, 512)


def test_a_table_a_dictionary_and_a_page() -> None:
    lines = str(REPORT).splitlines()
    assert lines[0].split() == ["layer", "was", "now", "difference", "reason"]
    assert lines[-2:] == [
        "train step: 90.0 ms before, 30.0 ms now (3.00x)",
        "inference: 40.0 ms before, 10.0 ms now (4.00x)",
    ]
    found = json.loads(json.dumps(REPORT.to_dict()))
    assert found["speed_up"] == 3.0
    assert found["rows"][0]["max_difference"] == 1e-7
    page = REPORT.to_html()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert REPORT._repr_html_() in page
    # A bar before and after, of the whole, of inference, and of the one layer that was timed.
    widths = [float(w) for w in re.findall(r'width="([\d.]+)" height="12" fill="#(?:d9|0b)', page)]
    bars = [w for w in widths if w != 12]
    assert len(bars) == 6
    assert bars[0] / bars[1] == pytest.approx(3.0, rel=1e-2)


def test_without_times_there_are_no_bars() -> None:
    report = Report((ROWS[1],))
    assert report.speed_up is None
    assert "<svg" not in report.to_html()
    assert str(Report(())) == "no layer of this model has a swap"


def test_measured_swaps_say_what_they_are_worth() -> None:
    stock = behaviour()
    stock.compile("adam", "binary_crossentropy")
    fast, report = recops.accelerate(stock, batch=batch(64))
    assert report.ms_before is not None
    assert report.ms_after is not None
    assert report.batch_size == 64
    # Noise is let pass, and no more.
    assert report.ms_after <= report.ms_before * 1.03
    for row in report.rows[:3]:
        assert row.ms_before is not None
        assert "of a train step" in row.reason
        assert ("does not pay" in row.reason) is (row.now is None)
    same(stock(batch(9, 2)), fast(batch(9, 2)))


@recops._core.compat.serializable
class Slow(L.Dense):
    """A Dense that takes its time."""

    def call(self, x: Any, training: Any = None) -> Any:
        wide = tf.ones([900, 900]) * tf.reduce_mean(x)
        for _ in range(4):
            wide = tf.matmul(wide, wide) * 1e-6
        return super().call(x) + 0.0 * tf.reduce_mean(wide)


def test_a_swap_that_does_not_pay_is_undone(monkeypatch: Any) -> None:
    monkeypatch.setattr(registry, "_SWAPS", dict(registry._SWAPS))

    def slow(layer: Any, shapes: Any) -> Replacement:
        new = Slow(layer.units, name=layer.name)
        new.build(shapes)
        carried = [Carried(n, (o,), lambda v: v[0]) for n, o in zip(new.weights, layer.weights)]
        return Replacement(new, carried)

    register(Swap(f"{L.Dense.__module__}.Dense", "tests.Slow", slow))
    x = keras.Input((6,))
    stock = keras.Model(x, L.Dense(3, name="dense")(x))
    fast, report = recops.accelerate(stock)
    assert report.rows[0].now is None
    assert "does not pay" in report.rows[0].reason
    assert type(fast.get_layer("dense")) is L.Dense
    assert report.speed_up is not None
    # Without measuring it stays, as it computes the same.
    fast, report = recops.accelerate(stock, measure=False)
    assert report.rows[0].now == "tests.Slow"


def test_all_is_undone_where_the_whole_is_slower(monkeypatch: Any) -> None:
    """Each pays beside the other and both together do not: one after the other goes."""
    timed: list[list[str]] = []

    def times(self: Any, variants: dict[str, Any]) -> dict[str, Times]:
        timed.append(sorted(variants))
        return {name: Times(10.0 if name == "stock" else 20.0, 1.0) for name in variants}

    monkeypatch.setattr(_Work, "_timed", times)
    _, report = recops.accelerate(behaviour(), batch=batch())
    assert [row.now for row in report.rows] == [None] * 3
    # Once all, then the stock model beside 2, 1 and none of them.
    assert [len(names) for names in timed] == [5, 2, 2, 2]
    assert report.ms_after == report.ms_before


def test_a_swap_is_timed_again_before_it_is_undone(monkeypatch: Any) -> None:
    timed: list[list[str]] = []

    def times(self: Any, variants: dict[str, Any]) -> dict[str, Times]:
        timed.append(sorted(variants))
        # Something else ran when the whole was timed first.
        whole = 9.0 if len(timed) == 1 else 5.0
        return {
            name: Times(whole if name == "whole" else 7.0 if name == "gru" else 10.0, 1.0)
            for name in variants
        }

    monkeypatch.setattr(_Work, "_timed", times)
    _, report = recops.accelerate(behaviour(), batch=batch())
    assert len(timed[0]) == 5
    assert timed[1] == ["gru", "stock", "whole"]
    assert len(timed) == 2
    assert all(row.now is not None for row in report.rows)
    assert report.speed_up == 2.0


def test_a_model_without_a_swap() -> None:
    x = keras.Input((6,))
    stock = keras.Model(x, L.Dense(3)(x))
    fast, report = recops.accelerate(stock)
    assert report.rows == ()
    values = np.ones((2, 6), "float32")
    same(stock(values), fast(values), 0.0)
