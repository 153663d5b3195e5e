"""The optimizers that a training can name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from recops._core import checks, compat
from recops._core.compat import keras
from recops.optimizers import ByPath, LazyAdagrad, LazyAdam, LazyFTRL, RowwiseAdagrad
from recops.training.settings import Settings

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "lazy_adam": LazyAdam,
    "adam": keras.optimizers.Adam,
    "adagrad": LazyAdagrad,
    "rowwise_adagrad": RowwiseAdagrad,
    "ftrl": LazyFTRL,
    "sgd": keras.optimizers.SGD,
}
# The settings have a learning rate of Adam's, whose steps are that long whatever the gradient.
_RATES = {"adagrad": 0.05, "rowwise_adagrad": 0.05, "ftrl": 0.1, "sgd": 0.1}
# A layer whose name is also that of a feature is `..._layer`.
_WIDE = "^(linear|crosses)(_layer_*)?/"
_TABLES = "embeddings$|^crosses(_layer_*)?/weight$"


def checked(name: str, settings: Settings) -> str:
    """`name` if it is one of `OPTIMIZERS`, or that of the settings."""
    if name == settings.optimizer:
        return name
    return checks.choice("train", "optimizer", name, tuple(OPTIMIZERS))


def learning_rate(name: str, settings: Settings) -> float:
    """Where none is asked for."""
    return _RATES.get(name, settings.learning_rate)


def made(name: str, rate: float, settings: Settings, model: Any) -> Any:
    """A new optimizer for a model; of two, "wide+deep", the rate is the second one's."""
    wide, plus, deep = name.rpartition("+")
    rules = {_WIDE: OPTIMIZERS[wide](**settings.wide)} if plus else {}
    if deep == "lazy_adam" and not _moves_all_rows(settings.options):
        # The momentum of a row that few batches use is a gradient long past. Without it the
        # validation AUC of DeepFM on MovieLens 100K is that of Adam, 0.781, and with it 0.776.
        rules[_TABLES] = LazyAdam(rate, beta_1=0.0)
    paths = [compat.path_of(weight) for weight in model.trainable_weights]
    rules = {
        pattern: optimizer
        for pattern, optimizer in rules.items()
        if any(re.search(pattern, path) for path in paths)
    }
    rest = OPTIMIZERS[deep](rate)
    return ByPath(rules, rest) if rules else rest


def _moves_all_rows(options: Mapping[str, Any]) -> bool:
    """Whether a penalty moves every row in every step, so that none has old momentum."""
    penalised = any(options.get(name) for name in ("l2_embedding", "l1", "l2"))
    return penalised and options.get("l2_embedding_rows", "all") == "all"
