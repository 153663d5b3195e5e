"""Models find inputs by name: further columns of a batch change nothing, a missing one is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recops import models
from recops._core.compat import keras
from recops.features import SparseFeature
from tests.models.planted import SEQUENCES, SMALL, data

# The names of what is not read stand before, between and behind those that are.
FEATURES = [SparseFeature(name, 9, 4) for name in ("age", "item", "maker", "user", "zone")]
READ = ("item", "user")


def _batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f.name: rng.integers(1, 10, 8).astype("int32") for f in FEATURES}


def test_further_columns_are_not_read(tmp_path: Path) -> None:
    batch = _batch()
    model = models.NeuralCF(FEATURES, hidden_units=(4,), seed=1)
    want = np.asarray(model({name: batch[name] for name in READ}))
    assert want.std() > 0
    model.save(tmp_path / "m.keras")
    for form in (model, keras.models.load_model(tmp_path / "m.keras")):
        np.testing.assert_array_equal(form(batch), want)
        np.testing.assert_allclose(form.predict(batch, verbose=0), want, rtol=1e-6)
    symbols = {name: keras.Input((), name=name, dtype="int32") for name in batch}
    around = keras.Model(symbols, model(symbols))
    np.testing.assert_array_equal(around(batch), want)


def test_a_missing_column_is_named() -> None:
    model = models.NeuralCF(FEATURES, hidden_units=(4,), seed=1)
    with pytest.raises(
        ValueError, match="NeuralCF: the inputs must hold 'item', got 'user', 'age'"
    ):
        model({name: _batch()[name] for name in ("user", "age")})


@pytest.mark.parametrize("name", ["FM", "DIN", "BST"])
def test_models_without_negatives_train_on_rows_that_hold_some(name: str) -> None:
    batch, labels = data(64)
    model = getattr(models, name)(SEQUENCES, seed=1, **SMALL[name])
    model.compile("adam", "binary_crossentropy")
    model.fit(batch, labels, batch_size=32, verbose=0)
    picked = {key: batch[key] for key in model.input}
    assert set(picked) < set(batch)
    np.testing.assert_array_equal(model.predict(batch, verbose=0), model.predict(picked, verbose=0))
