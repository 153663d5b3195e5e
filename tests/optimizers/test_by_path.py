"""ByPath: each variable has the step of its own optimizer, loaded, scaled and compiled alike."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops._core.compat import keras, path_of
from recops.models import WideDeep
from recops.optimizers import ByPath, LazyAdam, LazyFTRL
from tests.models.planted import FEATURES, data, read_by

LossScaleOptimizer = keras.mixed_precision.LossScaleOptimizer
WIDE = "^(linear|crosses)/"


def model():
    return WideDeep(FEATURES, crosses=[("user", "item")], hidden_units=[8], seed=1)


def both(**options):
    return ByPath({WIDE: LazyFTRL(0.1, **options)}, LazyAdam(0.01))


def fitted(made, optimizer, jit=False, epochs=2):
    batch, labels = data(128)
    made.compile(optimizer, "binary_crossentropy", jit_compile=jit)
    options = {"batch_size": 64, "epochs": epochs, "shuffle": False, "verbose": 0}
    return made.fit(read_by(made, batch), labels, **options).history["loss"]


def of_part(made, wide):
    found = [
        w for w in made.trainable_weights if path_of(w).startswith(("linear", "cross")) == wide
    ]
    assert len(found) == 4
    return [tf.convert_to_tensor(w).numpy() for w in found]


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
@pytest.mark.parametrize("scaled", [False, True], ids=["alone", "scaled"])
def test_a_first_step_is_that_of_each_alone(jit, scaled):
    """Gradients of a first step do not depend on the optimizer."""
    optimizers = [both(), LazyFTRL(0.1), LazyAdam(0.01)]
    steps = []
    for optimizer in optimizers:
        made = model()
        batch, labels = data(64)
        optimizer = LossScaleOptimizer(optimizer) if scaled else optimizer
        made.compile(optimizer, "binary_crossentropy", jit_compile=jit)
        made.fit(read_by(made, batch), labels, batch_size=64, epochs=1, verbose=0)
        steps.append([of_part(made, wide) for wide in (True, False)])
    got, ftrl, adam = steps
    for part, want in ((got[0], ftrl[0]), (got[1], adam[1])):
        for a, b in zip(part, want):
            np.testing.assert_allclose(a, b, atol=1e-5)
    assert not np.allclose(got[0][0], adam[0][0], atol=1e-3)


@pytest.mark.parametrize("scaled", [False, True], ids=["alone", "scaled"])
def test_a_loaded_model_goes_on_as_the_saved_one(scaled, tmp_path):
    made = model()
    optimizer = LossScaleOptimizer(both(l1=0.01)) if scaled else both(l1=0.01)
    fitted(made, optimizer)
    made.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    batch, labels = data(128, seed=1)
    for each in (made, loaded):
        each.fit(read_by(each, batch), labels, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(made.get_weights(), loaded.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)
    again = type(both()).from_config(both().get_config())
    assert again.get_config() == both().get_config()


def test_a_step_that_is_not_finite_is_skipped_by_both_under_loss_scaling():
    made = model()
    made.compile(LossScaleOptimizer(both()), "binary_crossentropy", jit_compile=False)
    before = made.get_weights()
    batch, labels = data(64)
    batch = read_by(made, batch)
    batch["place"] = np.full_like(batch["place"], np.inf)
    made.fit(batch, labels, batch_size=64, epochs=1, verbose=0)
    for a, b in zip(before, made.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.needs("MultiOptimizer")
def test_lazy_adam_works_inside_keras_multi_optimizer():
    made, chosen = model(), {}

    def choose(variable):
        wide = variable.path.startswith(("linear", "crosses"))
        return chosen.setdefault(wide, LazyFTRL(0.1) if wide else LazyAdam(0.01))

    fitted(made, keras.optimizers.MultiOptimizer(choose), epochs=1)
    ours = model()
    fitted(ours, both(), epochs=1)
    for a, b in zip(made.get_weights(), ours.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_its_learning_rate_is_that_of_the_default():
    optimizer = both()
    assert float(optimizer.learning_rate) == pytest.approx(0.01)
    optimizer.learning_rate = 0.5
    assert float(optimizer.optimizers[-1].learning_rate) == pytest.approx(0.5)
    assert float(optimizer.optimizers[0].learning_rate) == pytest.approx(0.1)


def test_bad_rules_are_refused():
    one = LazyAdam()
    with pytest.raises(ValueError, match="needs an optimizer of its own, got 'lazy_adam' twice"):
        ByPath({"a": one}, one)
    with pytest.raises(ValueError, match=r"'\(' is no regular expression"):
        ByPath({"(": LazyFTRL()}, one)
    with pytest.raises(ValueError, match="put one around it"):
        ByPath({"a": LossScaleOptimizer(LazyAdam())}, one)
    with pytest.raises(ValueError, match=r"no variable has 'nowhere' in its path.*linear/kernel"):
        ByPath({"nowhere": LazyFTRL()}, one).build(model().trainable_variables)
