"""Bilinear interaction as the formula stands, one Python loop over the pairs."""

from __future__ import annotations

import itertools

import tensorflow as tf

from recops._core.numerics import accumulate


@accumulate
def bilinear_interaction(x: tf.Tensor, kernel: tf.Tensor, bilinear_type: str) -> tf.Tensor:
    products = []
    for p, (i, j) in enumerate(itertools.combinations(range(x.shape[1]), 2)):
        if bilinear_type == "all":
            matrix = kernel
        else:
            matrix = kernel[i if bilinear_type == "each" else p]
        products.append(tf.matmul(x[:, i], matrix) * x[:, j])
    return tf.stack(products, axis=1)
