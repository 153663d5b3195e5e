"""Layers of the pairwise interactions; none has weights."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import compat
from recops.layers.base import OpLayer, static_shape


@compat.serializable
class InnerProduct(OpLayer):
    """Inner product of every pair of fields: [B, F, D] -> [B, P].

    See `recops.ops.pairwise_inner`.

    Args:
      backend: which backend runs; None leaves the choice to recops.

    Call: inputs [B, F, D], float, F >= 2. Returns [B, P] in the compute dtype, P = F(F-1)/2.

    Source: Qu et al., Product-based Neural Networks, ICDM 2016.

    Example:
      >>> import numpy as np
      >>> InnerProduct()(np.ones((2, 4, 3), "float32")).shape
      TensorShape([2, 6])
    """

    def call(self, inputs: Any) -> tf.Tensor:
        return ops.pairwise_inner(inputs, backend=self.backend or "auto")

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        fields, _ = static_shape(self, input_shape, "B F D", 2)
        return (input_shape[0], fields * (fields - 1) // 2)


@compat.serializable
class PairwiseHadamard(OpLayer):
    """Element-wise product of every pair of fields: [B, F, D] -> [B, P, D].

    See `recops.ops.pairwise_hadamard`.

    Args:
      backend: which backend runs; None leaves the choice to recops.

    Call: inputs [B, F, D], float, F >= 2. Returns [B, P, D] in the compute dtype.

    Source: He & Chua, Neural Factorization Machines, SIGIR 2017, the summands of eq. 3.

    Example:
      >>> import numpy as np
      >>> PairwiseHadamard()(np.ones((2, 4, 3), "float32")).shape
      TensorShape([2, 6, 3])
    """

    def call(self, inputs: Any) -> tf.Tensor:
        return ops.pairwise_hadamard(inputs, backend=self.backend or "auto")

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        fields, dim = static_shape(self, input_shape, "B F D", 2)
        return (input_shape[0], fields * (fields - 1) // 2, dim)


@compat.serializable
class BiInteraction(OpLayer):
    """Sum of the element-wise products of all pairs (NFM): [B, F, D] -> [B, D].

    See `recops.ops.bi_interaction`.

    Args:
      backend: which backend runs; None leaves the choice to recops.

    Call: inputs [B, F, D], float, F >= 2. Returns [B, D] in the compute dtype.

    Source: He & Chua, Neural Factorization Machines, SIGIR 2017, eq. 3 and 4.

    Example:
      >>> import numpy as np
      >>> BiInteraction()(np.ones((1, 3, 2), "float32")).numpy()
      array([[3., 3.]], dtype=float32)
    """

    def call(self, inputs: Any) -> tf.Tensor:
        return ops.bi_interaction(inputs, backend=self.backend or "auto")

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        _, dim = static_shape(self, input_shape, "B F D", 2)
        return (input_shape[0], dim)


@compat.serializable
class FM(OpLayer):
    """Second-order term of a factorization machine: [B, F, D] -> [B, 1].

    See `recops.ops.fm_interaction`.

    Args:
      backend: which backend runs; None leaves the choice to recops.

    Call: inputs [B, F, D], float, F >= 2. Returns [B, 1] in the compute dtype.

    Source: Rendle, Factorization Machines, ICDM 2010.

    Example:
      >>> import numpy as np
      >>> FM()(np.ones((1, 3, 2), "float32")).numpy()
      array([[6.]], dtype=float32)
    """

    def call(self, inputs: Any) -> tf.Tensor:
        return ops.fm_interaction(inputs, backend=self.backend or "auto")

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        static_shape(self, input_shape, "B F D", 2)
        return (input_shape[0], 1)


@compat.serializable
class FFM(OpLayer):
    """Second-order term of a field-aware factorization machine: [B, F, F, D] -> [B, 1].

    See `recops.ops.field_aware_interaction`.

    Args:
      backend: which backend runs; None leaves the choice to recops.

    Call: inputs [B, F, F, D], float, F >= 2; inputs[:, i, j] is field i's vector for use against
    field j. Returns [B, 1] in the compute dtype.

    Source: Juan et al., Field-aware Factorization Machines, RecSys 2016, eq. 4.

    Example:
      >>> import numpy as np
      >>> FFM()(np.ones((1, 3, 3, 2), "float32")).numpy()
      array([[6.]], dtype=float32)
    """

    def call(self, inputs: Any) -> tf.Tensor:
        return ops.field_aware_interaction(inputs, backend=self.backend or "auto")

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        static_shape(self, input_shape, "B F F D", 2)
        return (input_shape[0], 1)
