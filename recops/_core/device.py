"""Which kind of device a program is made for, and the form of an op that goes with it.

The answer is of the moment of the call, while tracing: a GPU that is hidden from TensorFlow does
not count, and neither does one that `tf.device` turns away from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TypeVar

import tensorflow as tf
from tensorflow.python.eager import context

KINDS = ("CPU", "GPU")

_Form = TypeVar("_Form")
_said: ContextVar[str | None] = ContextVar("recops_device", default=None)


def kind() -> str:
    """ "CPU" or "GPU": what `running_on` says, else `tf.device`, else a GPU where there is one."""
    return _said.get() or _scope() or ("GPU" if tf.config.list_logical_devices("GPU") else "CPU")


def form(*, gpu: _Form, cpu: _Form) -> _Form:
    """The one of two forms that the device asks for: the only place where they are chosen."""
    return gpu if kind() == "GPU" else cpu


@contextlib.contextmanager
def running_on(name: str) -> Iterator[None]:
    """What is traced inside the block is made for a device of this kind, whatever is here.

    Raises: ValueError for a name that is neither "CPU" nor "GPU".
    """
    if name not in KINDS:
        raise ValueError(f"running_on: expected one of {', '.join(KINDS)}, got {name!r}")
    token = _said.set(name)
    try:
        yield
    finally:
        _said.reset(token)


def _scope() -> str | None:
    """The kind of device that `tf.device` names, if it does; no public name says which."""
    names = [context.context().device_name]
    if not tf.executing_eagerly():
        specs = tf.compat.v1.get_default_graph()._device_function_stack.peek_objs()
        names = [spec.raw_string for spec in specs] + names  # the innermost comes first
    for name in names:
        if not name:
            continue
        said = tf.DeviceSpec.from_string(name) if isinstance(name, str) else name
        if said.device_type in KINDS:
            return str(said.device_type)
    return None
