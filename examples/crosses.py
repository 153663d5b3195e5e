"""Crossed features: pairs of a data set's columns, hashed into tables of a million rows each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tensorflow as tf

from recops.data import Dataset, Split

keras = tf.keras

BUCKETS = 1_000_000
# The first of a pair has one value a row, the second one or a list.
PAIRS = (
    ("user", "genres"),
    ("user", "release_year"),
    ("user", "hour"),
    ("item", "age"),
    ("item", "gender"),
    ("item", "occupation"),
    ("age", "genres"),
    ("occupation", "genres"),
)


def crossed(data: Dataset) -> Dataset:
    """The same rows with a feature for each pair beside those that they had."""
    named = {feature.name: feature for feature in data.features}
    features = [
        replace(named[second], name=f"{first}_x_{second}", vocabulary_size=BUCKETS)
        for first, second in PAIRS
    ]

    def widened(part: Split) -> Split:
        inputs = {
            feature.name: cross(part.inputs[first], part.inputs[second])
            for feature, (first, second) in zip(features, PAIRS)
        }
        return replace(part, inputs={**part.inputs, **inputs})

    return replace(
        data,
        train=widened(data.train),
        validation=widened(data.validation),
        test=widened(data.test),
        features=[*data.features, *features],
    )


def cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Buckets 1..BUCKETS of pairs of ids [N] and [N] or [N, T]; 0 where either id is 0."""
    first = np.broadcast_to(first.reshape(-1, *[1] * (second.ndim - 1)), second.shape)
    columns = tuple(ids.reshape(-1, 1) for ids in (first, second))
    buckets = np.asarray(keras.layers.HashedCrossing(BUCKETS)(columns)).reshape(second.shape)
    return np.where((first != 0) & (second != 0), buckets + 1, 0)
