"""What bench/models/run.py steps on: a batch, a model on either side, and the optimizers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from stock import StockAutoInt, StockDIN
from stock_deepfm import StockDeepFM
from stock_dien import StockDIEN
from stock_recall import StockLSPLM, StockNeuralCF, StockYoutubeDNN

from recops import losses, models, optimizers
from recops._core.compat import keras
from recops.data import movielens_100k
from recops.features import DenseFeature, SequenceFeature, SparseFeature
from recops.training import sized

Batch = tuple[list[Any], dict[str, np.ndarray], np.ndarray]
FIELDS, HIDDEN = 26, (256, 128, 64)

OPTIMIZERS: dict[str, Callable[[float], Any]] = {
    "lazy_adam": optimizers.LazyAdam,
    "adam": keras.optimizers.Adam,
    "lazy_adagrad": optimizers.LazyAdagrad,
    "adagrad": keras.optimizers.Adagrad,
    "rowwise_adagrad": optimizers.RowwiseAdagrad,
    "lazy_ftrl": optimizers.LazyFTRL,
    "sgd": keras.optimizers.SGD,
}
# Arrays of the table's size that are held through a step: the weights, the state, and for the
# optimizers that go through all rows what they make on the way.
TABLES_HELD = {
    "lazy_adam": 3,
    "adam": 7,
    "lazy_adagrad": 2,
    "adagrad": 5,
    "rowwise_adagrad": 2,
    "lazy_ftrl": 3,
    "sgd": 2,
}


@dataclass(frozen=True)
class Case:
    """A model of recops and the same of stock Keras layers, which steps with Adam.

    Args:
      make: features, inputs and labels.
      ours, stock: the model of the features.
      optimizers: of ours.
      loss: of both.
      ids: of each field or of the items, where the size of the tables is what is asked.
      beside: the case whose LazyAdam takes turns with every form, each of which stands alone
        because several of them would not fit in memory.
      graph_alone: sides without an XLA kernel.
    """

    make: Callable[[], Batch]
    ours: Callable[..., Any]
    stock: Callable[..., Any]
    optimizers: tuple[str, ...] = ("adam",)
    loss: Any = "binary_crossentropy"
    ids: int | None = None
    beside: str | None = None
    graph_alone: tuple[str, ...] = ()


def histories(rows: int = 1024, dim: int = 16, task: str = "sequence") -> Batch:
    """Features, inputs and labels of the first rows of MovieLens in the order of an epoch."""
    data = movielens_100k(task)
    picked = data.train.order(seed=0, epoch=0)[:rows]
    inputs = {name: values[picked] for name, values in data.train.inputs.items()}
    return sized(data, dim), inputs, data.train.labels[picked]


def criteo_shape(rows: int = 4096, dim: int = 16) -> Batch:
    """Features, inputs and labels of Criteo's shape."""
    rng = np.random.default_rng(0)
    sparse = [SparseFeature(f"c{i}", 10_000, dim) for i in range(FIELDS)]
    dense = [DenseFeature(f"i{i}") for i in range(13)]
    inputs: dict[str, np.ndarray] = {
        f.name: rng.integers(1, 10_001, rows).astype("int32") for f in sparse
    }
    inputs |= {f.name: rng.random((rows, 1)).astype("float32") for f in dense}
    return [*sparse, *dense], inputs, _labels(rng, rows)


def fields_of(ids: int, rows: int = 4096, dim: int = 16) -> Batch:
    """26 fields, ids drawn uniformly: hardly one repeats, the worst case for a row-sparse step."""
    rng = np.random.default_rng(0)
    features = [SparseFeature(f"c{i}", ids, dim) for i in range(FIELDS)]
    inputs = {f.name: rng.integers(1, ids + 1, rows).astype("int32") for f in features}
    return features, inputs, _labels(rng, rows)


def clicks_of(items: int, rows: int = 1024, steps: int = 50, dim: int = 16) -> Batch:
    """An item and a full history of it, with its negatives, drawn uniformly."""
    rng = np.random.default_rng(0)
    features = [
        SparseFeature("item", items, dim),
        SequenceFeature("seen", items, steps, dim, target="item"),
        SequenceFeature("unseen", items, steps, dim, negative_of="seen"),
    ]
    shapes = {"item": (rows,), "seen": (rows, steps), "unseen": (rows, steps)}
    inputs = {
        name: rng.integers(1, items + 1, shape).astype("int32") for name, shape in shapes.items()
    }
    return features, inputs, _labels(rng, rows)


def _labels(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.integers(0, 2, (rows, 1)).astype("float32")


def _deepfm(ids: int, beside: str | None = None) -> Case:
    return Case(
        lambda: fields_of(ids),
        lambda features: models.DeepFM(features, hidden_units=HIDDEN, seed=0),
        lambda features: StockDeepFM(features, hidden_units=HIDDEN, seed=0),
        tuple(OPTIMIZERS),
        ids=ids,
        beside=beside,
    )


def _clicked(ours: Callable[..., Any], stock: Callable[..., Any]) -> Case:
    return Case(lambda: clicks_of(100_000), ours, stock, ("lazy_adam", "adam"), ids=100_000)


CASES: dict[str, Case] = {
    "DIN": Case(histories, models.DIN, StockDIN),
    "DIEN": Case(histories, models.DIEN, StockDIEN),
    "AutoInt": Case(criteo_shape, models.AutoInt, StockAutoInt),
    "NeuralCF": Case(lambda: histories(4096, task="ranking"), models.NeuralCF, StockNeuralCF),
    "LSPLM": Case(criteo_shape, models.LSPLM, StockLSPLM),
    "YoutubeDNNRetrieval": Case(
        lambda: histories(task="retrieval"),
        models.YoutubeDNNRetrieval,
        StockYoutubeDNN,
        # The output is the loss.
        loss=losses.identity,
        graph_alone=("stock",),
    ),
    "DeepFM-1k": _deepfm(1_000),
    "DeepFM-100k": _deepfm(100_000),
    "DeepFM-1M": _deepfm(1_000_000, beside="DeepFM-1k"),
    "DIN-100k": _clicked(models.DIN, StockDIN),
    "DIEN-100k": _clicked(models.DIEN, StockDIEN),
}
