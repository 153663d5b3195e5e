"""Where a train step goes: parts that add up, the right bound, a model that is as it was."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recops import accelerate, profiling
from recops._core import compat
from recops._core.compat import keras
from recops.cli import main
from recops.profiling import parts
from recops.profiling.profile_report import Advice

L = keras.layers


def _tables(rows: int = 400_000) -> Any:
    ids = keras.Input((2,), dtype="int32", name="ids")
    flat = L.Flatten()(L.Embedding(rows, 8, name="table")(ids))
    model = keras.Model(ids, L.Dense(1, activation="sigmoid", name="out")(flat), name="tables")
    model.compile("adam", "binary_crossentropy", jit_compile=False)
    return model


def _batch(rows: int = 32, ids: int = 400_000) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (rows, 1)).astype("float32")
    return random.integers(0, ids, (rows, 2)).astype("int32"), labels


def _sequential(jit: bool = False) -> Any:
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="relu"), L.Dense(1)])
    model.compile("adam", "mse", jit_compile=jit)
    return model


NUMBERS = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")


def _profile(model: Any, given: Any = NUMBERS, **options: Any) -> profiling.Profile:
    return profiling.profile(model, given, steps=1, **{"advise": False, **options})


def _values(model: Any) -> list[np.ndarray]:
    variables = [*model.variables, *compat.variables_of(model.optimizer)]
    return [np.array(compat.as_tensor(compat.variable(v))) for v in variables]


def test_adam_that_moves_a_large_table_is_the_bound_and_the_model_stays() -> None:
    model = _tables()
    model.train_on_batch(*_batch())
    before = _values(model)
    found = _profile(model, _batch())
    assert found.bound == "tables"
    assert "Adam moving tables: 400,000 rows" in found.verdict
    used = len(np.unique(_batch()[0]))
    assert f"{used} used" in found.verdict
    assert found.rows_used == used
    assert sum(found.shares.values()) == pytest.approx(1)
    assert min(found.shares.values()) >= 0
    # By the clock: the step is longer by that much with the table than without.
    small = _profile(_tables(400), _batch(ids=400))
    left_out = (found.step_ms - small.step_ms) / found.step_ms
    assert found.shares["tables"] == pytest.approx(left_out, abs=0.1)
    for old, new in zip(before, _values(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("jit", [False, True])
def test_a_small_model_is_bound_by_dispatch(jit: bool) -> None:
    found = _profile(_sequential(jit))
    assert found.bound == "dispatch"
    assert "bound by dispatch" in found.verdict
    assert found.jit is jit
    assert sum(found.shares.values()) == pytest.approx(1)
    assert {layer.was for layer in found.layers} == {"Dense"}


def test_a_slow_input_is_the_bound() -> None:
    def slow() -> Any:
        while True:
            time.sleep(0.05)
            yield NUMBERS

    found = _profile(_sequential(), slow())
    assert found.bound == "input"
    assert found.shares["input"] > 0.5
    assert "waiting for its batch" in found.verdict


def test_a_loop_over_steps_is_an_op_above_its_floor() -> None:
    x = keras.Input((40, 8))
    model = keras.Model(x, L.Dense(1)(L.RNN(L.GRUCell(8), name="loop")(x)))
    model.compile("sgd", "mse", jit_compile=False)
    inputs = np.ones((512, 40, 8), "float32")
    found = _profile(model, (inputs, np.ones((512, 1), "float32")))
    assert found.layers[0].name == "loop"
    assert found.layers[0].kind == "op"
    assert found.layers[0].floor < found.layers[0].forward + found.layers[0].backward


class Mine(keras.Model):
    """Layers as attributes, two inputs, a step of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = L.Dense(3), L.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.second(self.first(inputs["a"]) * inputs["b"])

    def train_step(self, data: Any) -> Any:
        inputs, labels, *_ = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(inputs, training=True) - labels))
        weights = self.trainable_variables
        gradients = tape.gradient(loss, [compat.variable(w) for w in weights])
        self.optimizer.apply_gradients(zip(gradients, weights))
        return {"mine": loss}


@pytest.mark.parametrize("compiled", [True, False])
def test_a_subclassed_model_with_its_own_step(compiled: bool) -> None:
    model = Mine()
    if compiled:
        model.compile("adam", "mse", jit_compile=False)
    inputs = {"a": np.ones((8, 4), "float32"), "b": np.ones((8, 3), "float32")}
    found = _profile(model, (inputs, NUMBERS[1]))
    assert {layer.name for layer in found.layers} == {model.first.name, model.second.name}
    assert any("not compiled" in note for note in found.notes) is not compiled
    assert not any(name in vars(model.first) for name in ("call",))


def test_without_the_optimizer_nothing_moves_and_with_it_the_rest_does() -> None:
    model = _tables(50)
    inputs, labels = (tf.constant(x) for x in _batch(ids=50))
    stepper = parts.Stepper(model, (inputs, labels, None))
    tables = stepper.gradients().tables
    assert [compat.path_of(t).split("/")[0] for t in tables] == ["table"]
    before = [np.array(w) for w in model.get_weights()]
    stepper.without_moving(model.trainable_variables)()
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    stepper.without_moving(tables)()
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights())]
    assert moved == [False, True, True]


def test_advice_is_what_accelerate_measured_and_then_gives() -> None:
    model = _tables()
    found = _profile(model, _batch(), advise=True)
    (advice,) = found.advice
    assert any("LazyAdam" in change for change in advice.changes)
    assert "recops.accelerate would take about" in found.verdict
    fast, _ = accelerate(model, batch=_batch()[0], measure=False)
    steps = {
        name: parts.Stepper(each, (*map(tf.constant, _batch()), None)).whole()
        for name, each in (("before", model), ("after", fast))
    }
    timed = profiling.interleave(steps, seconds=1)
    really = timed["before"].p20_ms - timed["after"].p20_ms
    # Beside other tests a time moves by half of itself.
    assert 0.5 < advice.gain_ms / really < 2


def test_what_is_no_model_or_no_batch() -> None:
    with pytest.raises(TypeError, match=r"expected a keras\.Model, got int"):
        profiling.profile(3, NUMBERS)
    with pytest.raises(ValueError, match="steps must be 1 or more, got 0"):
        profiling.profile(_sequential(), NUMBERS, steps=0)
    with pytest.raises(ValueError, match="no batch"):
        profiling.profile(_sequential(), iter(()))


def test_a_saved_model_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    model = _sequential()
    model.save(tmp_path / "in.keras")
    out, page, trace = (tmp_path / name for name in ("p.json", "p.html", "trace"))
    line = ("--steps", "1", "--batch-size", "8", "--json", out, "--html", page, "--trace", trace)
    assert main(["profile", str(tmp_path / "in.keras"), *map(str, line)]) == 0
    said = capsys.readouterr().out
    written = json.loads(out.read_text())
    assert said.startswith(written["verdict"])
    assert "drawn from what the inputs say" in said
    assert sum(written["shares"].values()) == pytest.approx(1)
    assert "<svg" in page.read_text()
    assert list(trace.rglob("*.xplane.pb"))


def _main(*words: str) -> int:
    try:
        return main(words)
    except SystemExit as stopped:
        return int(stopped.code or 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("Nothing",), "expected a .keras file or one of"),
        (("none.keras",), "there is no model at none.keras"),
        (("GBDTLR",), "is no Keras model"),
        (("FM", "--steps", "0"), "--steps: expected a whole number of 1 or more"),
        (("FM", "--batch-size", "0"), "--batch-size: expected a whole number of 1 or more"),
        (("FM", "--json", "/proc/none/p.json"), "--json /proc/none/p.json cannot be written"),
        (("FM", "--html", "/"), "--html / cannot be written"),
        (("FM", "--trace", "/proc/none"), "--trace /proc/none cannot be written"),
    ],
)
def test_one_sentence_for_what_is_wrong(words: Any, said: str, capsys: Any) -> None:
    assert _main("profile", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [("--debug", "profile", "no"), ("profile", "no", "--debug")])
def test_debug_shows_where_an_error_is_from(words: Any, capsys: Any) -> None:
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("recops: profile: expected a .keras file")


def test_the_gain_is_the_difference() -> None:
    assert Advice(("a",), 98.0, 18.0).gain_ms == 80.0
