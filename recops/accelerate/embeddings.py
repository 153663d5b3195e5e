"""Tables of Keras that are read together: many lookups as one, a lookup and its mean as a bag."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recops import layers, ops
from recops._core import compat
from recops._core.compat import Node, keras
from recops.accelerate.graph import Call, Graph, Pattern, only_argument
from recops.accelerate.keras import is_keras
from recops.accelerate.registry import Carried, Replacement
from recops.layers.base import OpLayer, build_child

_EMBEDDING = "src.layers.core.embedding.Embedding"
_MEAN = "src.layers.pooling.global_average_pooling1d.GlobalAveragePooling1D"
# A sum over rows, so that the penalty of tables is that of the table that they are in.
_OF_ROWS = ("L1", "L2", "L1L2")


@compat.serializable
class FusedLookups(OpLayer):
    """Several embedding tables in one: [ids, ...] -> [embeddings, ...], by a single lookup.

    Args:
      sizes: rows of each table.
      embedding_dim: D, of all.
      tables: which table each input is looked up in.
      mask_zero: for each input, whether id 0 is padding.
      embeddings_regularizer: of the whole.
      backend: which backend runs; None leaves the choice to recops.

    Call: inputs is a list of ids [B, ...], int32 or int64, with static sizes after B. Returns a
    list of [B, ..., D].

    Example:
      >>> import numpy as np
      >>> lookups = FusedLookups([4, 9], embedding_dim=2, tables=[0, 1], mask_zero=[False, False])
      >>> users, items = lookups([np.array([1, 3]), np.array([[8], [0]])])
      >>> users.shape, items.shape
      (TensorShape([2, 2]), TensorShape([2, 1, 2]))
    """

    def __init__(
        self,
        sizes: Sequence[int],
        embedding_dim: int,
        tables: Sequence[int],
        mask_zero: Sequence[bool],
        embeddings_regularizer: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.sizes = tuple(sizes)
        self.embedding_dim = embedding_dim
        self.tables = tuple(tables)
        self.mask_zero = tuple(mask_zero)
        self.embeddings_regularizer = keras.regularizers.get(embeddings_regularizer)

    def build(self, input_shape: Any = None) -> None:
        self.embeddings = compat.add_table(
            self,
            name="embeddings",
            shape=(sum(self.sizes), self.embedding_dim),
            initializer="uniform",
            regularizer=self.embeddings_regularizer,
        )
        self.built = True

    def call(self, inputs: Sequence[Any]) -> list[tf.Tensor]:
        ids = [tf.convert_to_tensor(each) for each in inputs]
        if len({each.dtype for each in ids}) > 1:
            ids = [tf.cast(each, tf.int64) for each in ids]
        columns = [math.prod(tuple(each.shape)[1:]) for each in ids]
        side_by_side = tf.concat([tf.reshape(x, [-1, n]) for x, n in zip(ids, columns)], axis=1)
        starts = np.array([0, *itertools.accumulate(self.sizes)], np.int64)
        first = np.repeat(starts[list(self.tables)], columns)
        found = ops.embedding_lookup(
            compat.variable(self.embeddings),
            side_by_side,
            first,
            backend=self.backend or "auto",
        )
        found = tf.cast(found, self.compute_dtype)  # [B, all columns, D]
        return [
            tf.reshape(part, [-1, *tuple(each.shape)[1:], self.embedding_dim])
            for part, each in zip(tf.split(found, columns, axis=1), ids)
        ]

    def compute_mask(self, inputs: Sequence[Any], mask: Any = None) -> Any:
        if not any(self.mask_zero):
            return None
        return [compat.not_zero(x) if zero else None for x, zero in zip(inputs, self.mask_zero)]

    def compute_output_shape(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        return [(*tuple(shape), self.embedding_dim) for shape in input_shape]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sizes": list(self.sizes),
            "embedding_dim": self.embedding_dim,
            "tables": list(self.tables),
            "mask_zero": list(self.mask_zero),
            "embeddings_regularizer": keras.regularizers.serialize(self.embeddings_regularizer),
        }


def bags(graph: Graph) -> Iterator[Pattern]:
    """An `Embedding` that nothing but a mean over the steps reads: `EmbeddingBag`."""
    for mean in graph.nodes:
        if not is_keras(mean.layer, _MEAN) or not _over_steps(mean.layer):
            continue
        tensor = only_argument(mean)
        lookup = next((n for n in graph.nodes if any(tensor is out for out in n.outputs)), None)
        if tensor is None or lookup is None or not _is_plain(lookup.layer):
            continue
        ids = only_argument(lookup)
        alone = len(graph.calls_of(lookup.layer)) == 1 == len(graph.calls_of(mean.layer))
        alone = alone and len(graph.readers(tensor)) == 1 and not graph.is_output(tensor)
        if alone and ids is not None and len(ids.shape) == 2 and tf.as_dtype(ids.dtype).is_integer:
            yield _bag(lookup, mean, ids)


def _over_steps(mean: Any) -> bool:
    return mean.data_format == "channels_last" and not mean.keepdims


def _bag(lookup: Node, mean: Node, ids: Any) -> Pattern:
    table = lookup.layer

    def replace() -> Replacement:
        bag = layers.EmbeddingBag(
            table.input_dim - 1,
            table.output_dim,
            mask_zero=table.mask_zero,
            embeddings_regularizer=_penalty(table),
            name=table.name,
            dtype=_policy(table),
        )
        build_child(bag, tuple(ids.shape))
        carried = Carried(bag.embeddings, (table.embeddings,), lambda values: values[0])
        return Replacement(bag, [carried])

    return Pattern(
        (table, mean.layer),
        (lookup, mean),
        (Call((ids,), mean.outputs),),
        "Embedding + GlobalAveragePooling1D",
        "recops.layers.EmbeddingBag",
        replace,
    )


def groups(graph: Graph) -> Iterator[Pattern]:
    """`Embedding`s of one width over inputs of the model: one table, one lookup."""
    alike: dict[str, list[Any]] = {}
    for node in graph.nodes:
        table = node.layer
        if not _is_plain(table) or any(table is each for each in alike.get(_kind(table), ())):
            continue
        if all(_of_inputs(graph, each) for each in graph.calls_of(table)):
            alike.setdefault(_kind(table), []).append(table)
    for tables in alike.values():
        if len(tables) > 1:
            yield _group(graph, tables)


def _group(graph: Graph, tables: Sequence[Any]) -> Pattern:
    nodes = [node for table in tables for node in graph.calls_of(table)]
    place = {id(table): i for i, table in enumerate(tables)}
    ids = [only_argument(node) for node in nodes]

    def replace() -> Replacement:
        fused = FusedLookups(
            [table.input_dim for table in tables],
            tables[0].output_dim,
            [place[id(node.layer)] for node in nodes],
            [bool(node.layer.mask_zero) for node in nodes],
            _penalty(tables[0]),
            name=f"{tables[0].name}_and_{len(tables) - 1}_more",
            dtype=_policy(tables[0]),
        )
        build_child(fused, [tuple(each.shape) for each in ids])
        olds = tuple(table.embeddings for table in tables)
        return Replacement(fused, [Carried(fused.embeddings, olds, np.concatenate)])

    return Pattern(
        tuple(tables),
        tuple(nodes),
        (Call((ids,), [out for node in nodes for out in node.outputs]),),
        f"{len(tables)} Embedding",
        "one table, one lookup",
        replace,
    )


def _is_plain(layer: Any) -> bool:
    """Whether a layer is an `Embedding` without what a table of ours does not have."""
    return (
        is_keras(layer, _EMBEDDING)
        and layer.built
        and layer.embeddings_constraint is None
        and getattr(layer, "activity_regularizer", None) is None
        and not getattr(layer, "lora_enabled", False)
        and not getattr(layer, "quantization_mode", None)
        and layer.input_dim > 1
    )


def _of_inputs(graph: Graph, node: Node) -> bool:
    ids = only_argument(node)
    return (
        ids is not None
        and graph.is_input(ids)
        and tf.as_dtype(ids.dtype).is_integer
        and None not in tuple(ids.shape)[1:]
        and not getattr(ids, "sparse", False)
    )


def _penalty(table: Any) -> Any:
    """The regularizer of a table; one of rate 0, whose gradient would be of all rows, is none."""
    penalty = keras.regularizers.get(table.embeddings_regularizer)
    known = type(penalty).__name__ in _OF_ROWS
    idle = known and not any(float(getattr(penalty, rate, 0)) for rate in ("l1", "l2"))
    return None if idle else penalty


def _kind(table: Any) -> str:
    """What tables share that can stand in one."""
    penalty = _penalty(table)
    if penalty is None or type(penalty).__name__ in _OF_ROWS:
        said = json.dumps(keras.regularizers.serialize(penalty), sort_keys=True, default=str)
    else:
        said = str(id(table))
    policy = f"{table.compute_dtype} {table.variable_dtype} {table.trainable}"
    return f"{table.output_dim} {policy} {said}"


def _policy(layer: Any) -> Any:
    return layer.dtype_policy


PATTERNS = (bags, groups)
