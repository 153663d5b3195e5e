"""Swaps of the layers of keras-rs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from recops import layers, ops
from recops._core import compat
from recops._core.compat import Node, keras
from recops.accelerate.graph import Call, Graph, Pattern
from recops.accelerate.registry import Carried, Kept, Replacement, Swap, class_path
from recops.layers.base import OpLayer, build_child

_PLACE = "keras_rs.src.layers"
_CROSS = f"{_PLACE}.feature_interaction.feature_cross.FeatureCross"


@compat.serializable
class DotPairs(OpLayer):
    """The inner products of `keras_rs.layers.DotInteraction`: F times [B, D] -> [B, P].

    Args:
      self_interaction: of each with itself, too.
      skip_gather: as [B, F F], with 0 above the diagonal.
      backend: which backend runs; None leaves the choice to recops.

    Example:
      >>> import numpy as np
      >>> one = np.array([[1.0, 2.0]], "float32")
      >>> DotPairs(self_interaction=True)([one, 2 * one]).numpy()
      array([[ 5., 10., 20.]], dtype=float32)
    """

    def __init__(
        self,
        self_interaction: bool = False,
        skip_gather: bool = False,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.self_interaction = self_interaction
        self.skip_gather = skip_gather

    def call(self, inputs: Sequence[Any]) -> tf.Tensor:
        stacked = tf.stack(inputs, axis=1)  # [B, F, D]
        parts = [ops.pairwise_inner(stacked, backend=self.backend or "auto")]  # [B, P]
        if self.self_interaction:
            parts.append(tf.reduce_sum(stacked * stacked, axis=-1))
        if self.skip_gather:
            parts.append(tf.zeros([tf.shape(stacked)[0], 1], stacked.dtype))
        return tf.gather(tf.concat(parts, axis=1), self._order(len(inputs)), axis=1)

    def _order(self, fields: int) -> list[int]:
        """For each output, its place behind pairs (i, j), i < j, row by row, squares and a 0."""
        pairs = {pair: n for n, pair in enumerate(itertools.combinations(range(fields), 2))}
        if self.self_interaction:
            pairs |= {(i, i): len(pairs) + i for i in range(fields)}
        lower = itertools.product(range(fields), repeat=2)
        found = [pairs.get((j, i)) if j <= i else None for i, j in lower]
        if self.skip_gather:
            return [len(pairs) if place is None else place for place in found]
        return [place for place in found if place is not None]

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0][0], len(self._order(len(input_shape))))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "self_interaction": self.self_interaction,
            "skip_gather": self.skip_gather,
        }


@compat.serializable
class WeightedBag(layers.EmbeddingBag):
    """`EmbeddingBag` with the call of `keras_rs.layers.EmbedReduce`: ids and their weights.

    Example:
      >>> import numpy as np
      >>> bag = WeightedBag(3, 2, combiner="sum", mask_zero=False, embeddings_initializer="ones")
      >>> bag(np.array([[1, 3]]), np.array([[2.0, 0.5]])).numpy()
      array([[2.5, 2.5]], dtype=float32)
    """

    def call(  # type: ignore[override]  # the order of arguments is what it is for
        self, inputs: Any, weights: Any = None
    ) -> tf.Tensor:
        return super().call(inputs, None, weights)


def _dot(layer: Any, shapes: Any) -> Replacement:
    if len(shapes) < 2:
        raise Kept("it has no pair of features")
    new = DotPairs(
        layer.self_interaction, layer.skip_gather, name=layer.name, dtype=layer.dtype_policy
    )
    build_child(new, shapes)
    return Replacement(new, ())


def _reduce(layer: Any, shapes: Any) -> Replacement:
    ids, weights = shapes, None
    if isinstance(shapes, dict):
        ids, weights = shapes["inputs"], shapes["weights"]
    if len(ids) != 2 or (weights is not None and len(weights) != 2):
        raise Kept("it reduces nothing here, or has a weight for each row and not for each id")
    if layer.mask_zero:
        raise Kept("with mask_zero its output carries a mask of the steps that it has summed")
    if layer.embeddings_constraint is not None or layer.input_dim < 2:
        raise Kept("its table has a constraint, or a single row")
    new = WeightedBag(
        layer.input_dim - 1,
        layer.output_dim,
        combiner=layer.combiner,
        mask_zero=False,
        embeddings_regularizer=layer.embeddings_regularizer,
        name=layer.name,
        dtype=layer.dtype_policy,
    )
    build_child(new, ids)
    carried = Carried(new.embeddings, (layer.embeddings,), lambda values: values[0])
    return Replacement(new, [carried])


def _alone(layer: Any, shapes: Any) -> Replacement:
    raise Kept(
        "it is no part of a stack x, cross(x, x), cross(x, .), ... of plain [B, n] layers with a "
        "bias, whose steps nothing else reads"
    )


def crosses(graph: Graph) -> Iterator[Pattern]:
    """A stack of `FeatureCross`: `Cross(parameterization="matrix")`."""
    for node in graph.nodes:
        x0, x = _of_cross(graph, node)
        if x0 is None or x is not x0:
            continue
        stack = [node]
        while following := _next(graph, x0, stack[-1]):
            stack.append(following)
        yield _stack(x0, stack)


def _next(graph: Graph, x0: Any, node: Node) -> Node | None:
    """The next layer of a stack, where it alone reads the output."""
    (output,) = node.outputs
    readers = graph.readers(output)
    if len(readers) != 1 or graph.is_output(output):
        return None
    start, x = _of_cross(graph, readers[0])
    return readers[0] if start is x0 and x is output else None


def _of_cross(graph: Graph, node: Node) -> tuple[Any, Any]:
    """The two arguments of a `FeatureCross` that `Cross` can compute, or None."""
    layer = node.layer
    if class_path(layer) != _CROSS or len(graph.calls_of(layer)) > 1:
        return None, None
    given = dict(zip(("x0", "x"), node.args)) | node.kwargs
    x0 = given["x0"]
    plain = (
        layer.projection_dim is None
        and not layer.diag_scale
        and layer.use_bias
        and layer.pre_activation is keras.activations.linear
        and len(x0.shape) == 2
        and x0.shape[-1] is not None
    )
    x = given.get("x")
    return (x0, x0 if x is None else x) if plain else (None, None)


def _stack(x0: Any, nodes: Sequence[Node]) -> Pattern:
    old = [node.layer for node in nodes]

    def replace() -> Replacement:
        new = layers.Cross(len(old), "matrix", name=old[0].name, dtype=old[0].dtype_policy)
        build_child(new, tuple(x0.shape))
        pairs = [
            *zip(new.kernels, [each.dense.kernel for each in old]),
            *zip(new.biases, [each.dense.bias for each in old]),
        ]
        for to, of in pairs:
            to.regularizer = of.regularizer
        return Replacement(new, [Carried(to, (of,), lambda v: v[0]) for to, of in pairs])

    return Pattern(
        tuple(old),
        tuple(nodes),
        (Call((x0,), nodes[-1].outputs),),
        "FeatureCross" if len(old) == 1 else f"{len(old)} FeatureCross",
        "recops.layers.Cross",
        replace,
    )


PATTERNS = (crosses,)
SWAPS: tuple[Swap, ...] = (
    Swap(f"{_PLACE}.feature_interaction.dot_interaction.DotInteraction", "DotPairs", _dot),
    Swap(f"{_PLACE}.embedding.embed_reduce.EmbedReduce", "EmbeddingBag", _reduce),
    Swap(_CROSS, "recops.layers.Cross", _alone),
)
