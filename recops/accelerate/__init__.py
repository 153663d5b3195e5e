"""A Keras model with its known layers replaced by faster ones of the same weights."""

from recops.accelerate import deepctr, keras, keras_rs, tfa
from recops.accelerate.registry import Carried, Kept, Replacement, Swap, register

__all__ = ["Carried", "Kept", "Replacement", "Swap", "register"]

for _library in (keras, keras_rs, deepctr, tfa):
    for _swap in _library.SWAPS:
        register(_swap)
