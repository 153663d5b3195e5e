"""DeepCTR's models accelerated: what is swapped, and that training goes on as it would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recops
from recops._core.compat import keras
from tests.accelerate.deepctr_models import MODELS, batch
from tests.accelerate.swaps import randomize


def trained(name: str, **options: Any) -> tuple[Any, Any, Any]:
    """A model after a step, what it became, and the report."""
    model = MODELS[name].build()
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", jit_compile=False)
    inputs, labels = batch(model)
    model.train_on_batch(inputs, labels)
    randomize(model)
    fast, report = recops.accelerate(model, measure=False, **options)
    return model, fast, report


@pytest.mark.parametrize("name", MODELS)
def test_a_model_trains_on_as_it_would(name: str) -> None:
    model, fast, report = trained(name, optimizer="keep")
    assert sorted(row.was for row in report.swapped) == sorted(MODELS[name].swapped)
    assert all(row.max_difference < 1e-4 for row in report.swapped)
    inputs, labels = batch(model)
    np.testing.assert_allclose(fast(inputs), model(inputs), rtol=0, atol=2e-6)
    for _ in range(4):
        theirs = float(np.asarray(model.train_on_batch(inputs, labels)))
        ours = float(np.asarray(fast.train_on_batch(inputs, labels)))
        assert ours == pytest.approx(theirs, rel=2e-5)
    np.testing.assert_allclose(fast(inputs), model(inputs), rtol=0, atol=1e-4)


def test_penalties_are_a_part_of_the_loss() -> None:
    model, fast, _ = trained("xDeepFM", optimizer="keep")
    penalty = float(np.sum([np.asarray(x) for x in model.losses]))
    assert penalty > 0.01
    assert float(np.sum([np.asarray(x) for x in fast.losses])) == pytest.approx(penalty, rel=1e-5)


def test_tables_without_a_penalty_get_the_lazy_optimizer() -> None:
    from tests.accelerate.deepctr_models import columns, models

    model = models.DeepFM(columns(), columns(), l2_reg_embedding=0, l2_reg_linear=0)
    model.compile("adam", "binary_crossentropy")
    fast, report = recops.accelerate(model, measure=False)
    assert type(fast.optimizer) is recops.optimizers.LazyAdam
    assert report.rows[-1].now == "recops.optimizers.LazyAdam"


@pytest.mark.parametrize("name", ["AFM", "FiBiNET", "DIN", "xDeepFM"])
def test_what_it_became_reloads(name: str, tmp_path: Any) -> None:
    model, fast, _ = trained(name)
    fast.save(tmp_path / "fast.keras")
    inputs, _ = batch(model)
    again = keras.models.load_model(tmp_path / "fast.keras", custom_objects=classes(fast))
    np.testing.assert_allclose(again(inputs), fast(inputs), rtol=0, atol=1e-6)


def classes(model: Any) -> dict[str, Any]:
    """What is still DeepCTR's, which Keras has to be told of; ours it knows."""
    found = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    return {name: kind for name, kind in found.items() if kind.__module__.startswith("deepctr")}


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [
        (lambda: keras.optimizers.Adam(clipnorm=1.0), "clipnorm clips the gradient of each"),
        (lambda: keras.optimizers.Adafactor(), "a step of Adafactor is of a whole weight"),
    ],
)
def test_weights_stay_apart_for_an_optimizer_of_whole_weights(optimizer: Any, why: str) -> None:
    model = MODELS["FiBiNET all"].build()
    model.compile(optimizer(), "binary_crossentropy")
    _, report = recops.accelerate(model, measure=False, optimizer="keep")
    assert {row.was for row in report.swapped} == {"BilinearInteraction", "SENETLayer"}
    assert sum(why in row.reason for row in report.rows) == 2


def test_what_stays_is_reported_with_its_reason() -> None:
    _, _, report = trained("FiBiNET")
    reasons = {row.was: row.reason for row in report.rows if row.now is None}
    assert "nothing faster" in reasons["DNN"]
    assert "next to nothing" in reasons["Concat"]
