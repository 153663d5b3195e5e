"""One gather for all fields, as a program that is served has it."""

from __future__ import annotations

import tensorflow as tf

from recops.ops.embedding.rows import field_rows, poison


def embedding_lookup(table: tf.Tensor, ids: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    rows, valid = field_rows("embedding_lookup", ids, offsets, tf.shape(table)[0])
    return poison(tf.gather(table, rows), valid)
