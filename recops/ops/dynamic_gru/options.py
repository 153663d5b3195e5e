"""The static choices of a GRU, and what of them is one formula for all backends of TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

GRU_TYPES = ("gru", "aigru", "agru", "augru")
AUGRU_FORMS = ("paper", "alibaba")


@dataclass(frozen=True)
class Options:
    """See `recops.ops.dynamic_gru`."""

    gru_type: str
    augru_form: str
    reset_after: bool
    go_backwards: bool
    zero_output_for_mask: bool
    # Whether a gradient is to be expected. It is right at any rate; where it was not expected the
    # forward runs once more for it.
    record: bool = True

    @property
    def attentive(self) -> bool:
        """Whether the attention score takes part in the gates (AIGRU's only scales the input)."""
        return self.gru_type in ("agru", "augru")

    def keep(self, z: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
        """Share of the old state that stays: h' = keep * h + (1 - keep) * candidate."""
        if self.gru_type == "agru":
            return tf.ones_like(z) - a
        if self.gru_type == "augru":
            return 1 - a * (1 - z) if self.augru_form == "paper" else (1 - a) * z
        return z

    def keep_gradient(self, z: tf.Tensor, a: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Derivatives of `keep` by z and by a."""
        zero = tf.zeros_like(z)
        if self.gru_type == "agru":
            return zero, zero - 1
        if self.gru_type == "augru":
            return (zero + a, z - 1) if self.augru_form == "paper" else (zero + 1 - a, -z)
        return zero + 1, zero
