"""Lookups and bags by the native kernels: the check of the ids and the reading are one pass.

A variable is read where it stands: its value as a tensor would be a copy of the whole table as soon
as an optimizer writes to single rows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import compat, native
from recops.ops.embedding import reference

_COMBINERS = ("mean", "sum", "sqrtn")


def embedding_lookup(table: Any, ids: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    offsets = tf.cast(offsets, ids.dtype)
    handle, like = _variable(table)
    if handle is not None:
        return native.call("EmbeddingLookupVariable", handle, ids, offsets, like)[0]
    return native.call("EmbeddingLookup", tf.convert_to_tensor(table), ids, offsets)[0]


def embedding_bag(
    table: Any, ids: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor | None, combiner: str
) -> tf.Tensor:
    options = [_COMBINERS.index(combiner)]
    handle, like = _variable(table)
    if handle is not None and weights is None:
        none = tf.zeros([0], like.dtype)
        return native.call("EmbeddingBagVariable", handle, ids, mask, none, like, options=options)
    if handle is not None:
        # The gradient of the weights needs the rows as they are now, whatever is written later.
        rows = tf.where(mask, ids, 0)
        values = embedding_lookup(table, rows, tf.zeros(tf.shape(rows)[1:], rows.dtype))
        table = tf.reshape(values, [-1, like.shape[1]])
        ids = tf.reshape(tf.range(tf.size(ids, ids.dtype), dtype=ids.dtype), tf.shape(ids))
    table = tf.convert_to_tensor(table)
    weights = tf.zeros([0], table.dtype) if weights is None else weights
    return native.call("EmbeddingBag", table, ids, mask, weights, options=options)


def _variable(table: Any) -> tuple[Any, Any]:
    """The handle of a table that is a variable, and an empty tensor like it; else two None."""
    if not isinstance(table, tf.Variable):
        return None, None
    # Reading no rows tells the tapes that the variable takes part.
    like = tf.gather(table, tf.zeros([0], tf.int32))
    if like.dtype != tf.as_dtype(table.dtype):  # a variable that casts what is read
        return None, None
    try:
        return table.handle, like
    except ValueError:  # a mirrored variable outside its replicas
        return None, None


def _slices(values: tf.Tensor, rows: tf.Tensor, table: tf.Tensor) -> tf.IndexedSlices:
    if table.dtype == tf.resource:
        shape = tf.raw_ops.VariableShape(input=table, out_type=rows.dtype)
    else:
        shape = tf.shape(table, rows.dtype)
    width = values.shape[-1]
    return tf.IndexedSlices(tf.reshape(values, [-1, width]), tf.reshape(rows, [-1]), shape)


@tf.RegisterGradient("Recops>EmbeddingLookup")
def _lookup_gradient(op: Any, dy: tf.Tensor, _: Any) -> list[Any]:
    return [_slices(dy, op.outputs[1], op.inputs[0]), *[None] * (len(op.inputs) - 1)]


@tf.RegisterGradient("Recops>EmbeddingBag")
def _bag_gradient(op: Any, dy: tf.Tensor) -> list[Any]:
    table, ids, mask, weights, *like = op.inputs
    options = list(op.get_attr("options"))
    dweights = None
    if weights.shape.rank == 1:
        dvalues, rows = _spread(dy, ids, mask, options)
    else:
        dvalues, rows, dweights = native.call(
            "EmbeddingBagWeightedGrad", table, ids, mask, weights, dy, options=options
        )
    return [_slices(dvalues, rows, table), None, None, dweights, *[None] * len(like)]


def _spread(
    dy: tf.Tensor, ids: tf.Tensor, mask: tf.Tensor, options: list[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradients of the values of bags without weights, whose own gradient is a bag of them."""

    @tf.custom_gradient
    def spread(dy: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., tf.Tensor]]:
        unseen = tf.stop_gradient(dy)
        dvalues, rows = native.call("EmbeddingBagGrad", ids, mask, unseen, options=options)
        combiner = _COMBINERS[options[0]]
        return (dvalues, rows), lambda up, _: reference.pool(up, mask, None, combiner)

    return spread(dy)


@tf.RegisterGradient("Recops>EmbeddingBagWeightedGrad")
def _no_second_order(op: Any, *_: Any) -> list[Any]:
    raise NotImplementedError(
        "embedding_bag with weights has no gradient of second order by backend 'cpp'; use backend "
        "'xla' or 'reference'"
    )


for _name, _gradient in (("Lookup", _lookup_gradient), ("Bag", _bag_gradient)):
    tf.RegisterGradient(f"Recops>Embedding{_name}Variable")(_gradient)
    compat.only_reads(f"Recops>Embedding{_name}Variable")
