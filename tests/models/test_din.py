"""DIN: parameters, what its attention looks at, padding, and several histories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recops._core.compat import keras
from recops.features import SequenceFeature, SparseFeature
from recops.models import DIN
from tests.models.planted import HISTORY, ITEM, PLACE, SEQUENCES, data, read_by

SMALL = {"attention_units": [8], "hidden_units": [16, 8], "seed": 1}
ROWS = 13 + 6 + 7  # items, noise, words
UNIT = 4 * 4 * 8 + 8 + 8  # on 4 times 4 columns; the softmax makes a last bias nothing
X = 4 * 4 + 2  # item, noise, words, interest; numbers
HIDDEN = X * 16 + 16 + 16 * 8 + 8
DICE = 3 * (16 + 8)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, ROWS * 4 + UNIT + 4 * X + HIDDEN + DICE + 8 + 1),
        (
            {"weight_normalization": False, "activation": "relu", "use_bn": False},
            ROWS * 4 + UNIT + 1 + HIDDEN + 8 + 1,
        ),
        (
            {"attention_units": [], "attention_activation": "prelu", "hidden_units": []},
            ROWS * 4 + 4 * 4 + 4 * X + X + 1,
        ),
    ],
)
def test_parameters(options, count):
    assert DIN(SEQUENCES, **{**SMALL, **options}).count_params() == count


def test_the_input_is_what_it_reads():
    assert set(DIN(SEQUENCES, **SMALL).input) == {"item", "noise", "words", "place", "history"}


def test_padding_may_stand_on_either_side():
    model = DIN(SEQUENCES, **SMALL)
    batch = read_by(model, data(16)[0])
    moved = {**batch, "history": batch["history"][:, ::-1].copy()}
    want = model.predict(batch, verbose=0)
    np.testing.assert_allclose(model.predict(moved, verbose=0), want, rtol=1e-5, atol=1e-6)


def test_interests_are_the_kept_clicks_weighed_for_the_candidate():
    """With all rows of the table at 1 an interest is 1, whatever the weights; empty it is 0."""
    model = DIN(SEQUENCES, **SMALL)
    table = model.get_layer("embedding").embeddings
    table.assign(np.ones(table.shape))
    probe = keras.Model(model.input, model.get_layer("interest_history").output)
    batch = read_by(model, data(16)[0])
    batch["history"][0] = 0
    interest = probe.predict(batch, verbose=0)
    assert not interest[0].any()
    np.testing.assert_allclose(interest[1:], 1, rtol=1e-5)
    table.assign(np.random.default_rng(0).normal(size=table.shape))
    other = {**batch, "item": batch["item"] % 12 + 1}
    changed = np.abs(probe.predict(other, verbose=0) - probe.predict(batch, verbose=0)).max(1)
    several = (batch["history"] > 0).sum(1) > 1
    assert (changed[several] > 1e-5).all()
    assert changed[~several].max() < 1e-6


def test_every_history_attends_with_its_own_target():
    shop = SparseFeature("shop", 7, 4)
    visits = SequenceFeature("visits", 7, max_length=3, embedding_dim=4, target="shop")
    model = DIN([ITEM, HISTORY, shop, visits, PLACE], **SMALL)
    assert model.get_layer("interest_history").count_params() == UNIT
    rng = np.random.default_rng(0)
    batch = {
        "item": rng.integers(1, 13, 8),
        "history": rng.integers(1, 13, (8, 4)),
        "shop": rng.integers(1, 8, 8),
        "visits": rng.integers(1, 8, (8, 3)),
        "place": rng.normal(size=(8, 2)).astype(np.float32),
    }
    outputs = {name: model.get_layer(f"interest_{name}").output for name in ("history", "visits")}
    probe = keras.Model(model.input, outputs)
    before, after = (
        probe.predict({**batch, "shop": shops}, verbose=0)
        for shops in (batch["shop"], batch["shop"] % 7 + 1)
    )
    np.testing.assert_array_equal(before["history"], after["history"])
    assert (np.abs(before["visits"] - after["visits"]).max(1) > 0).all()


@pytest.mark.parametrize("activation", ["dice", "relu"])
def test_attention_of_any_activation_trains_compiled(activation):
    batch, labels = data(256)
    model = DIN(SEQUENCES, **SMALL, attention_activation=activation)
    model.compile("adam", "binary_crossentropy", jit_compile=True)
    start = model.get_weights()
    model.fit(read_by(model, batch), labels, batch_size=128, epochs=2, verbose=0)
    for before, after, weight in zip(start, model.get_weights(), model.weights):
        assert np.isfinite(after).all()
        assert after.dtype.kind != "f" or not np.array_equal(before, after), weight


def test_a_history_without_its_target_is_refused():
    orphan = replace(HISTORY, target="place", embedding_name="item")
    with pytest.raises(ValueError, match="DIN: the target 'place' of 'history' is no SparseFeat"):
        DIN([ITEM, PLACE, orphan])
