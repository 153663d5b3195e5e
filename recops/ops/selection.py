"""Which backend would run a call of an op."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import dispatch


def select(op_name: str, *args: Any, **kwargs: Any) -> str:
    """Name of the backend that would run `recops.ops.<op_name>(*args, **kwargs)`.

    The call is traced into a graph that is thrown away, and nothing is computed. So an id beyond
    its table is not found out, and a NumPy array is copied as a constant of that graph: large ones
    are better given as tensors.

    Args:
      op_name: of a function of `recops.ops`; args and kwargs are those of its call.

    Returns: "cpp", "xla" or "reference".

    Raises: ValueError for an unknown op or wrong arguments; BackendError when a named backend
    cannot run them.

    Example:
      >>> import recops
      >>> recops.ops.select("bi_interaction", [[[1.0], [2.0]]], backend="reference")
      'reference'
    """
    rooms = dispatch.rooms()
    if op_name not in rooms:
        raise ValueError(f"select: expected one of {', '.join(rooms)}, got {op_name!r}")
    op = getattr(rooms[op_name].file("api"), op_name)

    def call() -> None:
        op(*args, **kwargs)

    with dispatch.noting() as noted:
        tf.function(call, autograph=False).get_concrete_function()
    # What the op calls on its way comes behind it.
    return next(backend for name, backend in noted if name == op_name)
