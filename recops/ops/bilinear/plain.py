"""Bilinear interaction with both sides of all pairs at once, for programs that are served."""

from __future__ import annotations

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.pairwise.pairs import left_right, pair_indices


@accumulate
def bilinear_interaction(x: tf.Tensor, kernel: tf.Tensor, bilinear_type: str) -> tf.Tensor:
    left, right = left_right(x)  # [B, P, D]
    if bilinear_type == "interaction":
        return tf.einsum("bpd,pde->bpe", left, kernel) * right
    if bilinear_type == "all":
        turned = tf.tensordot(x, kernel, 1)
    else:
        # The last field is on no left side.
        turned = tf.einsum("bfd,fde->bfe", x[:, :-1], kernel)
    return tf.gather(turned, pair_indices(x.shape[1])[0], axis=1) * right
