"""The forms that are served: what an op gives while a program is traced for elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops._core import dispatch
from recops._core.cases import Case
from tests import testing

ROOMS = {name: room for name, room in dispatch.rooms().items() if room.plain is not None}
CASES = [case for case in testing.cases() if hasattr(dispatch.rooms()[case.op].plain, case.op)]


@pytest.mark.parametrize("dtype", testing.DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}-{case.name}")
def test_value(case: Case, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = dispatch.rooms()[case.op].plain
    kernel, ran = getattr(module, case.op), []
    monkeypatch.setattr(module, case.op, lambda *a: ran.append(True) or kernel(*a))
    arrays = tf.nest.map_structure(tf.constant, case.arrays(dtype))
    # A backend that a layer names does not count.
    op = testing.public(case, "xla")

    with dispatch.serving():
        got = tf.nest.flatten(tf.function(lambda: op(**arrays), autograph=False)())
    assert ran
    wide = testing.wide(case.arrays(dtype))
    want = tf.nest.flatten(testing.oracle(case.op)(**wide, **case.options))
    reference = tf.nest.flatten(testing.public(case, "reference")(**arrays))
    for g, r, w in zip(got, reference, want):
        assert (g.dtype, g.shape) == (r.dtype, r.shape)
        plain = testing.error(r.numpy().astype(np.float64), w)
        allowed = testing.bound(dtype, "value", plain)
        assert testing.error(g.numpy().astype(np.float64), w) <= allowed


def test_every_plain_form_is_of_an_op_and_is_compared() -> None:
    compared = {case.op for case in CASES}
    for op, room in ROOMS.items():
        assert hasattr(room.plain, op) == (op in compared)
    assert {"dynamic_gru", "embedding_lookup", "bilinear_interaction"} <= compared


def test_serving_ends_with_its_block() -> None:
    x = np.ones((2, 3, 4), np.float32)
    with dispatch.serving():
        assert dispatch.is_serving()
        assert ops.select("fm_interaction", x, backend="xla") == "reference"
    assert not dispatch.is_serving()
    assert ops.select("fm_interaction", x, backend="xla") == "xla"


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("gru_type", ["gru", "augru"])
def test_a_gru_of_no_or_one_step(gru_type: str, steps: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.normal(size=(2, steps, 3)),
        "kernel": rng.normal(size=(3, 12)),
        "recurrent_kernel": rng.normal(size=(4, 12)),
        "initial_state": rng.normal(size=(2, 4)),
    }
    if gru_type == "augru":
        arrays["attention"] = rng.random((2, steps))
    with dispatch.serving():
        got = ops.dynamic_gru(**arrays, gru_type=gru_type)
    for g, w in zip(got, ops.dynamic_gru(**arrays, gru_type=gru_type, backend="reference")):
        np.testing.assert_allclose(g, w, rtol=1e-12)
        assert g.shape == w.shape
