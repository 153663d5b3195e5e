"""Features may be called like the layers inside a model."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.features import DenseFeature
from recops.models import CATALOGUE
from tests.models import planted_retrieval
from tests.models.planted import SMALL, data, features_of

RETRIEVAL = "YoutubeDNNRetrieval"
# These read the features that they are told of, and no others.
OF_A_PAIR = ["NeuralCF"]
NAMES = [*(name for name in SMALL if name not in OF_A_PAIR), RETRIEVAL]


def build(name, features):
    options = {**SMALL.get(name, {"hidden_units": [8, 4], "num_sampled": 5}), "seed": 1}
    return CATALOGUE[name].build(features, **options)


def batch_of(name, rows=32):
    if name != RETRIEVAL:
        return data(rows)
    batch = planted_retrieval.choices(rows)
    return batch, np.zeros((rows, 1), np.float32)


def inner(model):
    """Names of the layers that are no inputs."""
    return [x.name for x in model.layers if not isinstance(x, keras.layers.InputLayer)]


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_for_each_name_of_a_layer(name, tmp_path):
    keras.backend.clear_session()  # names like "flatten" are counted
    features = planted_retrieval.FEATURES if name == RETRIEVAL else features_of(name)
    plain = build(name, [*features, DenseFeature("number")])
    # As many layers again, with the same names of those that Keras counts.
    keras.backend.clear_session()
    taken = inner(plain)
    assert len(taken) > 1
    model = build(name, [*features, *map(DenseFeature, taken)])
    assert {*taken} <= {*model.input}
    assert not {*inner(model)} & {*model.input}
    assert len(inner(model)) == len(taken)

    batch, labels = batch_of(name)
    rng = np.random.default_rng(0)
    batch.update({n: rng.normal(size=(len(labels), 1)).astype(np.float32) for n in taken})
    loss = "mse" if name == RETRIEVAL else "binary_crossentropy"
    model.compile("sgd", loss, jit_compile=False)
    model.fit({n: batch[n] for n in model.input}, labels, batch_size=16, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for made in ("user_model", "serving_model"):
        if hasattr(type(model), made):
            pairs = [getattr(m, made)(batch).numpy() for m in (again, model)]
            np.testing.assert_array_equal(*pairs)
    if name == RETRIEVAL:
        assert again.item == "item"
        assert again.item_embeddings().shape == (21, 4)
    else:
        np.testing.assert_array_equal(again(batch), model(batch))
    if compat.KERAS_3:
        paths = [[compat.path_of(w) for w in m.weights] for m in (again, model)]
        assert paths[0] == paths[1]
    for mine, theirs in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(mine, theirs)


def test_other_names_stay_as_they_are():
    plain = build("AutoInt", [*features_of("AutoInt"), DenseFeature("numbers")])
    names = inner(plain)
    assert {"numbers_layer", "interaction_0", "output"} <= {*names}
    assert "numbers" not in names


def test_a_pair_called_like_the_layers():
    user, item = features_of("NeuralCF")[:2]
    for name in inner(build("NeuralCF", [user, item])):
        renamed = [type(user)(name, 12, 4), item]
        model = CATALOGUE["NeuralCF"].build(renamed, user=name, **SMALL["NeuralCF"])
        ids = {name: np.arange(4), "item": np.arange(4)}
        assert model(ids).shape == (4, 1)
        assert name not in inner(model)


def test_the_wide_part_keeps_its_optimizer():
    from recops.training.optimizers import _WIDE

    features = [*features_of("WideDeep"), DenseFeature("linear"), DenseFeature("crosses")]
    model = build("WideDeep", features)
    wide = [
        p
        for p in map(compat.path_of, model.trainable_weights)
        if tf.strings.regex_full_match(p, f"{_WIDE}.*")
    ]
    assert len(wide) == 4 if compat.KERAS_3 else len(wide) > 0
