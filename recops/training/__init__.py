"""Training on a data set: by hand, or a model of the catalogue by its name."""

from recops.data.readers import READERS
from recops.training.evaluation import scores
from recops.training.loop import INDEX, Result, train
from recops.training.named import (
    DATA,
    JIT,
    PRECISIONS,
    build,
    dataset,
    sized,
    train_named,
)
from recops.training.settings import TRAINING, Settings

__all__ = [
    "DATA",
    "INDEX",
    "JIT",
    "PRECISIONS",
    "READERS",
    "TRAINING",
    "Result",
    "Settings",
    "build",
    "dataset",
    "scores",
    "sized",
    "train",
    "train_named",
]
