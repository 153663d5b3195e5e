"""Masks of padded ids."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import compat
from recops.layers.base import OpLayer


@compat.serializable
class PaddingMask(OpLayer):
    """Where a sequence holds real ids: ids -> ids != 0, bool, True = keep.

    Args:
      backend: taken by all layers of recops; no op runs in this one.

    Call: inputs of any shape, int32 or int64. Returns bool of the same shape.

    Example:
      >>> import numpy as np
      >>> PaddingMask()(np.array([[3, 4, 0]])).numpy().tolist()
      [[True, True, False]]
    """

    def call(self, inputs: Any) -> tf.Tensor:
        return tf.convert_to_tensor(inputs) != 0
