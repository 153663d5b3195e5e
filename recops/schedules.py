"""Learning rates that follow the step."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.layers.base import positive


@compat.serializable
class Noam(keras.optimizers.schedules.LearningRateSchedule):
    """The Transformer's learning rate: a linear rise, then the inverse square root of the step.

        rate = d_model^-0.5 min(step^-0.5, step warmup_steps^-1.5)

    Its peak, (d_model warmup_steps)^-0.5, is at step = warmup_steps. Keras counts from step 0,
    where the rate is 0.

    Args:
      d_model: width of the model.
      warmup_steps: length of the rise.

    Defaults: warmup_steps=4000.

    Call: step, a scalar. Returns the rate, a scalar, float32.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 5.3.

    Example:
      >>> round(float(Noam(d_model=100, warmup_steps=400)(400)), 6)
      0.005
    """

    def __init__(self, d_model: int, warmup_steps: int = 4000) -> None:
        super().__init__()
        positive(self, d_model=d_model, warmup_steps=warmup_steps)
        self.d_model = d_model
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        # Not step^-0.5, which is infinite at step 0.
        falling = tf.math.rsqrt(tf.maximum(step, 1.0))
        return self.d_model**-0.5 * tf.minimum(falling, step * self.warmup_steps**-1.5)

    def get_config(self) -> dict[str, Any]:
        return {"d_model": self.d_model, "warmup_steps": self.warmup_steps}
