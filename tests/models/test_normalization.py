"""Batch normalization of hidden layers: in every model that has them, before each activation."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from recops._core.compat import keras
from recops.models import CATALOGUE
from tests.models import planted_retrieval
from tests.models.planted import SMALL, data, features_of, read_by

UNITS = (16, 12)
# What a model needs to have these hidden layers.
DEEP = {"AFM": {"use_dnn": True}, "YoutubeDNNRetrieval": {"hidden_units": (*UNITS, 4)}}
WITH_HIDDEN = [
    name
    for name, entry in CATALOGUE.items()
    if "hidden_units" in inspect.signature(entry.build).parameters
]


def build(name, **options):
    finds = name == "YoutubeDNNRetrieval"
    features = planted_retrieval.FEATURES if finds else features_of(name)
    options = {**SMALL.get(name, {}), "hidden_units": UNITS, **options, **DEEP.get(name, {})}
    return CATALOGUE[name].build(features, activation="relu", seed=1, **options)


def normalizations(model):
    return [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]


def test_these_are_the_models_with_hidden_layers():
    assert {"DeepFM", "PNN", "AFM", "DIEN", "YoutubeDNNRetrieval"} < set(WITH_HIDDEN)
    assert {"FM", "FFM", "LSPLM", "Transformer"}.isdisjoint(WITH_HIDDEN)


@pytest.mark.parametrize("name", WITH_HIDDEN)
def test_each_hidden_layer_is_normalized_by_the_momentum_given(name):
    model = build(name, use_bn=True, bn_momentum=0.25)
    if name == "YoutubeDNNRetrieval":
        batch, labels = planted_retrieval.choices(64), np.zeros([64, 1], np.float32)
    else:
        batch, labels = data(64)
        batch = read_by(model, batch)
    model.compile("sgd", CATALOGUE[name].loss, jit_compile=False)
    model.train_on_batch(batch, labels)
    found = {int(x.moving_variance.shape[-1]): x for x in normalizations(model)}
    assert set(UNITS) <= set(found)
    for layer in found.values():
        assert layer.momentum == 0.25
        # A layer that no batch has gone through still has the variance it was made with.
        assert (np.asarray(layer.moving_variance) != 1).all()


READERS = ["NFM", "AFM", "DIN", "DIEN", "DSIN", "BST"]


@pytest.mark.parametrize("name", WITH_HIDDEN)
def test_without_it_nothing_is_normalized(name):
    assert normalizations(build(name, use_bn=False)) == []


@pytest.mark.parametrize("name", READERS)
def test_what_the_hidden_layers_read_can_be_normalized_alone(name):
    (layer,) = normalizations(build(name, use_bn="input", bn_momentum=0.25))
    assert (layer.name, layer.momentum) == ("normalization", 0.25)
    assert len(normalizations(build(name, use_bn=True))) == 1 + len(UNITS)
    with pytest.raises(ValueError, match=f'{name}: use_bn must be "input", True or False, got'):
        build(name, use_bn="output")


def test_a_momentum_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"bn_momentum must be in \[0, 1\).*got 1.5"):
        build("DeepFM", use_bn=True, bn_momentum=1.5)
