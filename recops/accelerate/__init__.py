"""A Keras model with its known layers replaced by faster ones of the same weights."""

from recops.accelerate import deepctr, keras, keras_rs, tfa
from recops.accelerate.model import accelerate
from recops.accelerate.registry import Carried, Kept, Replacement, Swap, register
from recops.accelerate.report import Report, Row

__all__ = ["Carried", "Kept", "Replacement", "Report", "Row", "Swap", "accelerate", "register"]

for _library in (keras, keras_rs, deepctr, tfa):
    for _swap in _library.SWAPS:
        register(_swap)

# `recops.accelerate` is the function, and what goes with it is found on it.
for _public in (Carried, Kept, Replacement, Report, Row, Swap, register):
    setattr(accelerate, _public.__name__, _public)
