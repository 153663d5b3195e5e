"""What a model looked at: against NumPy, reloaded, in mixed precision, under padding, and drawn."""

from __future__ import annotations

import importlib
import sys
from itertools import combinations

import numpy as np
import pytest

import recops
from recops import training
from recops._core import compat
from recops._core.compat import keras
from recops.cli import main
from recops.explain import explanation
from recops.models import CATALOGUE
from tests.models.planted import SMALL, data, features_of
from tests.oracles.target_attention import target_attention
from tests.small_run import dataset

FIELDS = ("user", "item", "noise", "words")
LAYERS = {
    "AFM": ["interaction"],
    "FiBiNET": ["senet"],
    "AutoInt": ["interaction_0", "interaction_1"],
    "DIN": ["interest_history"],
    "DIEN": ["evolution_history"],
}
BATCH, _ = data(7)
# The last row has no history at all, the one before it a padded one.
BATCH["history"][-1] = 0
BATCH["history"][-2] = [5, 0, 3, 0]


@pytest.fixture(scope="module")
def models():
    """A model of each, with weights as large as trained ones are."""
    made = {}
    for name in LAYERS:
        model = CATALOGUE[name].build(features_of(name), seed=1, **SMALL[name])
        rng = np.random.default_rng(2)
        drawn = [rng.normal(scale=0.7, size=w.shape) for w in model.get_weights()]
        # Vectors may be variances.
        model.set_weights([np.abs(w) if w.ndim == 1 else w for w in drawn])
        made[name] = model
    # With signs as they come its one hidden unit may be dead in all rows.
    senet = made["FiBiNET"].get_layer("senet")
    senet.set_weights([np.abs(w) for w in senet.get_weights()])
    return made


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def fields_of(model):
    """Embeddings [B, F, D] of a model in float64."""
    layer = model.get_layer("embedding")
    out = keras.Model(model.input, layer.output)({k: BATCH[k] for k in model.input})
    return np.asarray(out, np.float64)


def test_afm_is_the_papers_attention_over_pairs(models):
    found = recops.explain(models["AFM"], BATCH)
    x, layer = fields_of(models["AFM"]), models["AFM"].get_layer("interaction")
    kernel, bias, projection = (w.astype(np.float64) for w in layer.get_weights())
    pairs = np.stack([x[:, i] * x[:, j] for i, j in combinations(range(4), 2)], axis=1)
    want = softmax(np.maximum(pairs @ kernel + bias, 0) @ projection)
    np.testing.assert_allclose(found.weights["interaction"], want, atol=1e-5)
    names = tuple(f"{a} x {b}" for a, b in combinations(FIELDS, 2))
    assert found.parts["interaction"].axes == (names,)


def test_senet_is_the_papers_excitation(models):
    found = recops.explain(models["FiBiNET"], BATCH)
    x = fields_of(models["FiBiNET"])
    squeeze, excite = models["FiBiNET"].get_layer("senet").get_weights()
    want = np.maximum(np.maximum(x.mean(axis=2) @ squeeze, 0) @ excite, 0)
    assert want.any()
    np.testing.assert_allclose(found.weights["senet"], want, atol=1e-5)
    assert found.parts["senet"].axes == (FIELDS,)


def test_autoint_has_every_layer_and_the_numbers_as_fields(models):
    found = recops.explain(models["AutoInt"], BATCH)
    assert list(found.weights) == LAYERS["AutoInt"]
    model = models["AutoInt"]
    numbers = BATCH["place"][:, :, None] * model.get_layer("numbers").get_weights()[0]
    x = np.concatenate([fields_of(model), numbers], axis=1)
    kernel = model.get_layer("interaction_0").get_weights()[0].astype(np.float64)
    query, key, _ = np.split((x @ kernel).reshape(7, 6, 6, 4), 3, axis=2)  # [B, F, N, E]
    want = softmax(np.einsum("btne,bsne->bnts", query, key))
    np.testing.assert_allclose(found.weights["interaction_0"], want, atol=1e-5)
    fields = (*FIELDS, "place[0]", "place[1]")
    for part in found.parts.values():
        assert part.axes == (("head 0", "head 1"), fields, fields)


def test_din_is_the_papers_attention_and_padding_has_none(models):
    found = recops.explain(models["DIN"], BATCH)
    layer = models["DIN"].get_layer("interest_history")
    model = models["DIN"]
    reached = keras.Model(model.input, list(compat.call_arguments(layer)[0]))
    query, keys = reached({k: BATCH[k] for k in model.input})
    network = [w.astype(np.float64) for w in layer.get_weights()]
    _, want = target_attention(
        np.asarray(query, np.float64),
        np.asarray(keys, np.float64),
        [w for w in network if w.ndim == 2],
        [w for w in network if w.ndim == 1],
        BATCH["history"] != 0,
    )
    part = found.parts["interest_history"]
    np.testing.assert_allclose(part.values, want, atol=1e-5)
    np.testing.assert_array_equal(part.values[-1], 0)
    np.testing.assert_array_equal(part.values[-2] != 0, [True, False, True, False])
    assert part.history == "history"
    np.testing.assert_array_equal(part.ids, BATCH["history"])


def test_dien_sums_to_one_over_what_is_kept(models):
    values = recops.explain(models["DIEN"], BATCH).weights["evolution_history"]
    kept = BATCH["history"] != 0
    np.testing.assert_array_equal(values[~kept], 0)
    np.testing.assert_allclose(values.sum(axis=1), kept.any(axis=1), atol=1e-5)
    # Not merely 1 / steps.
    assert np.ptp(values[kept[:, 1]], axis=1).max() > 0.1


@pytest.mark.parametrize("name", LAYERS)
def test_a_reloaded_model_says_the_same_and_neither_is_changed(models, name, tmp_path):
    model = models[name]
    before = model.predict({k: BATCH[k] for k in model.input}, verbose=0)
    names = [layer.name for layer in model.layers]
    found = recops.explain(model, BATCH)
    assert list(found.weights) == LAYERS[name]
    assert np.isfinite(before).all()
    np.testing.assert_allclose(found.predictions, before, atol=1e-6)
    model.save(tmp_path / "model.keras")
    again = recops.explain(keras.models.load_model(tmp_path / "model.keras"), BATCH)
    for layer, values in found.weights.items():
        np.testing.assert_array_equal(again.weights[layer], values)
        assert again.parts[layer].axes == found.parts[layer].axes
    assert [layer.name for layer in model.layers] == names
    after = model.predict({k: BATCH[k] for k in model.input}, verbose=0)
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", ["FiBiNET", "AutoInt", "DIN", "DIEN"])
def test_mixed_precision(models, name):
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        low = CATALOGUE[name].build(features_of(name), seed=1, **SMALL[name])
    finally:
        keras.mixed_precision.set_global_policy(policy)
    high = CATALOGUE[name].build(features_of(name), seed=1, **SMALL[name])
    found, want = (recops.explain(model, BATCH).weights for model in (low, high))
    for layer, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, want[layer], atol=0.01)


def test_blocks_of_rows_are_put_together(models, monkeypatch):
    whole = recops.explain(models["DIN"], BATCH)
    monkeypatch.setattr(explanation, "_ROWS", 3)
    cut = recops.explain(models["DIN"], BATCH)
    assert cut.predictions.shape == (7, 1)
    np.testing.assert_allclose(
        cut.weights["interest_history"], whole.weights["interest_history"], atol=1e-6
    )


def test_the_function_keeps_its_name_beside_its_package():
    package = importlib.import_module("recops.explain")
    importlib.import_module("recops.explain.pictures")
    assert recops.explain is package.explain
    assert callable(recops.explain)


def test_layers_without_names_have_places():
    x = keras.Input((3, 4), name="x")
    pooled = recops.layers.AttentionalPooling(name="pool")(x)
    model = keras.Model(x, keras.layers.Dense(1)(pooled))
    found = recops.explain(model, np.ones((2, 3, 4), "float32"))
    assert found.parts["pool"].axes[0][0] == "field 0 x field 1"
    np.testing.assert_allclose(found.weights["pool"], 1 / 3, atol=1e-6)


def test_what_cannot_be_explained_is_said(models):
    model = CATALOGUE["FM"].build(features_of("FM"), seed=1)
    with pytest.raises(ValueError, match=r"'FM' has no layer.*AttentionalPooling \(AFM\), SENET"):
        recops.explain(model, BATCH)
    with pytest.raises(ValueError, match="lacks the input 'item'; it has 'user'"):
        recops.explain(models["AFM"], {"user": BATCH["user"]})
    with pytest.raises(ValueError, match="expected a functional Keras model"):
        recops.explain(keras.Sequential([keras.layers.Dense(1)]), BATCH)
    found = recops.explain(models["AFM"], BATCH)
    with pytest.raises(ValueError, match="expected a layer among interaction, got 'other'"):
        found.figure("other")
    with pytest.raises(ValueError, match="the batch has 7 rows, from 0, and none of them is row 7"):
        found.figure("interaction", 7)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("row", [None, 0, 6])
def test_every_layer_is_drawn(models, name, row, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    found = recops.explain(models[name], BATCH)
    paths = found.plot(tmp_path / "new" / "folder", row)
    assert [path.stem for path in paths] == LAYERS[name]
    for path in paths:
        pixels = image.imread(path)
        assert pixels.shape[1] > 300
        assert pixels.std() > 0.02


def test_a_row_of_a_history_shows_its_steps_alone(models):
    pytest.importorskip("matplotlib")
    found = recops.explain(models["DIN"], BATCH)
    axes = found.figure("interest_history", 5).axes[0]
    assert axes.figure.get_suptitle() == "interest_history (TargetAttention): row 5"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "3"]
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, found.weights["interest_history"][5, [0, 2]])
    axes = found.figure("interest_history").axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, found.weights["interest_history"].mean(axis=0), atol=1e-6)


def test_pairs_stand_where_their_fields_meet(models):
    pytest.importorskip("matplotlib")
    found = recops.explain(models["AFM"], BATCH)
    axes = found.figure("interaction", 1).axes[0]
    rows, columns = (
        [label.get_text() for label in labels]
        for labels in (axes.get_yticklabels(), axes.get_xticklabels())
    )
    shown = np.asarray(axes.images[0].get_array().filled(np.nan))
    for pair, value in zip(found.parts["interaction"].axes[0], found.weights["interaction"][1]):
        left, right = pair.split(" x ")
        assert shown[rows.index(left), columns.index(right)] == pytest.approx(value)


def test_a_missing_matplotlib_names_the_extra(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = recops.explain(models["AFM"], BATCH)
    with pytest.raises(ImportError, match=r"needs the package matplotlib.*recops\[plot\]"):
        found.figure("interaction")


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setitem(training.DATA, "movielens-100k", dataset)

    def run(*line):
        try:
            return main([str(word) for word in line])
        except SystemExit as stopped:
            return stopped.code

    return run


def test_the_command_draws_a_row_of_a_saved_model(models, command, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    models["DIEN"].save(tmp_path / "model.keras")
    assert command("explain", tmp_path, "--row", 3, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    written = tmp_path / "out" / "evolution_history.png"
    assert written.exists()
    assert f"evolution_history (InterestEvolution): {written}" in said
    part = dataset("sequence").test
    row = {name: values[3:4] for name, values in part.inputs.items()}
    predicted = recops.explain(models["DIEN"], row).predictions[0, 0]
    assert f"row 3: predicted {predicted:.4f}, label {part.labels[3, 0]:g}" in said


def test_the_command_says_what_is_wrong_in_one_line(models, command, tmp_path, capsys, monkeypatch):
    out = ("--out", tmp_path / "out")
    models["AFM"].save(tmp_path / "model.keras")

    def wrong(*line):
        assert command("explain", *line, *out) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert "there is no model at" in wrong(tmp_path / "nothing")
    assert "--row must be below 90" in wrong(tmp_path, "--row", 90)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'recops[plot]'" in wrong(tmp_path, "--row", 0)
    assert not (tmp_path / "out").exists()
