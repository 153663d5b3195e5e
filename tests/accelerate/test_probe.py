"""Batches that are drawn, and batches that are given."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops._core.compat import keras
from recops.accelerate import probe
from tests.accelerate.models import L, batch, behaviour


def test_ids_fit_the_tables_and_padding_ends_a_row() -> None:
    history, user, item = probe.drawn(behaviour(), 64)
    assert history.shape == (64, 8)
    assert history.dtype == tf.int32
    kept = history.numpy() != 0
    assert kept[:, 0].all()
    assert not kept.all()
    assert (np.diff(kept.astype(int), axis=1) <= 0).all()
    assert history.numpy().max() < 30
    assert user.numpy().max() < 20
    assert 20 <= item.numpy().max() < 25


def test_ids_are_followed_into_nested_models_and_through_reshapes() -> None:
    inner_in = keras.Input((2, 3), dtype="int32")
    inner = keras.Model(inner_in, L.Embedding(4, 2)(inner_in))
    ids = keras.Input((6,), dtype="int32", name="ids")
    flag = keras.Input((), dtype="bool", name="flag")
    x = keras.Input((None, 2), name="x")
    outputs = [inner(L.Reshape((2, 3))(ids)), x]
    model = keras.Model({"ids": ids, "x": x, "flag": flag}, outputs)
    drawn = probe.drawn(model, 200)
    assert set(np.unique(drawn["ids"])) == {0, 1, 2, 3}
    assert drawn["x"].shape[0] == 200
    assert drawn["x"].shape[1] > 1
    assert drawn["flag"].dtype == tf.bool


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b[:2], "2 arrays, and the model 'behaviour' takes 3"),
        (lambda b: [b[0][:, :3], *b[1:]], r"\[24, 3\] for the input 'history'.*\[None, 8\]"),
        (lambda b: {"history": b[0]}, "batch lacks 'user', 'item'"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(change, said) -> None:
    with pytest.raises(ValueError, match=said):
        recops.accelerate(behaviour(), batch=change(batch()))


def test_a_batch_by_name_and_of_other_dtypes() -> None:
    history, user, item = (x.numpy().astype("int64") for x in batch())
    found = probe.checked(behaviour(), {"item": item, "history": history, "user": user, "more": 1})
    assert [x.dtype for x in found] == [tf.int32] * 3
    np.testing.assert_array_equal(found[0], history)


def test_what_is_no_model_or_has_no_weights_yet() -> None:
    with pytest.raises(TypeError, match=r"expected a keras\.Model, got Dense"):
        recops.accelerate(L.Dense(1))
    with pytest.raises(ValueError, match="no weights yet"):
        recops.accelerate(keras.Sequential([L.Dense(1)]), batch=np.ones((2, 3)))
