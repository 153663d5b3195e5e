"""Values of a `with` block that TensorFlow's replica threads see too.

`MirroredStrategy` runs each replica in a thread of its own, and a new thread starts with an empty
context: a `ContextVar` has its default there. What TensorFlow does hand over is the stack of
variable creators of the graph, so a creator that changes nothing carries the context along.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

import tensorflow as tf

_Value = TypeVar("_Value")
_UNSET: Any = object()


class _Carrier:
    """A creator of variables that leaves them to the next one."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(self, next_creator: Any, **kwargs: Any) -> Any:
        return next_creator(**kwargs)


@contextlib.contextmanager
def setting(variable: ContextVar[_Value], value: _Value) -> Iterator[None]:
    """Give a variable without a default a value inside the block, for `get`."""
    token = variable.set(value)
    try:
        with tf.variable_creator_scope(_Carrier(copy_context())):
            yield
    finally:
        variable.reset(token)


def get(variable: ContextVar[_Value], default: _Value) -> _Value:
    """The value of this thread, else that of the thread whose replica it runs, else the default."""
    value = variable.get(_UNSET)
    if value is not _UNSET:
        return value
    # No public name gives the stack; TensorFlow's threads hand it over by this one.
    creators = tf.compat.v1.get_default_graph()._variable_creator_stack
    for _, creator in reversed(creators):
        # What a replica chose itself carries the context of the replica, which is nearly empty.
        if isinstance(creator, _Carrier) and variable in creator.context:
            return creator.context[variable]
    return default
