"""The optimizers that a training can name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recops._core import checks
from recops._core.compat import keras
from recops.optimizers import ByPath, LazyAdagrad, LazyAdam, LazyFTRL, RowwiseAdagrad
from recops.training.settings import Settings

OPTIMIZERS: dict[str, Callable[[float], Any]] = {
    "lazy_adam": LazyAdam,
    "adam": keras.optimizers.Adam,
    "adagrad": LazyAdagrad,
    "rowwise_adagrad": RowwiseAdagrad,
    "ftrl": LazyFTRL,
    "sgd": keras.optimizers.SGD,
}
# The settings have a learning rate of Adam's, whose steps are that long whatever the gradient.
_RATES = {"adagrad": 0.05, "rowwise_adagrad": 0.05, "ftrl": 0.1, "sgd": 0.1}
_WIDE = "^(linear|crosses)/"


def checked(name: str, settings: Settings) -> str:
    """`name` if it is one of `OPTIMIZERS`, or that of the settings."""
    if name == settings.optimizer:
        return name
    return checks.choice("train", "optimizer", name, tuple(OPTIMIZERS))


def learning_rate(name: str, settings: Settings) -> float:
    """Where none is asked for."""
    return _RATES.get(name, settings.learning_rate)


def made(name: str, rate: float, settings: Settings) -> Any:
    """A new optimizer; of two, "wide+deep", the rate is the second one's."""
    wide, plus, deep = name.partition("+")
    if not plus:
        return OPTIMIZERS[name](rate)
    return ByPath({_WIDE: OPTIMIZERS[wide](**settings.wide)}, OPTIMIZERS[deep](rate))
