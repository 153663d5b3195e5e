"""Which backend runs an op: one room a family of ops, one function an op in each backend module.

`auto` takes `xla` where a GPU will run it, else `cpp`, else `xla`, else `reference`. A backend
named by the caller runs or raises `BackendError`. The choice is made while tracing, from static
facts.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import tensorflow as tf

from recops._core import carried, device, native

NAMES = ("auto", "cpp", "xla", "reference")
CONCRETE = NAMES[1:]

_process_choice: str | None = None
_context_choice: ContextVar[str | None] = ContextVar("recops_backend")
_noted: ContextVar[list[tuple[str, str]] | None] = ContextVar("recops_noted")
_serving: ContextVar[bool] = ContextVar("recops_serving")


class BackendError(NotImplementedError):
    """The backend that was asked for cannot run this call."""


def check_name(name: Any, where: str = "backend") -> str:
    """Return `name` if it is a backend, else raise ValueError listing all of them."""
    if name not in NAMES:
        raise ValueError(f"{where}: expected one of {', '.join(NAMES)}, got {name!r}")
    return name


def set_backend(name: str) -> None:
    """Choose the backend of the whole process: "auto", "cpp", "xla" or "reference".

    Ops traced into a `tf.function` before the call keep the backend that they were traced with.

    Args:
      name: "auto", "cpp", "xla" or "reference".

    Raises: ValueError for an unknown name.

    Example:
      >>> import recops
      >>> recops.set_backend("reference")
      >>> recops.ops.select("pairwise_inner", [[[1.0, 2.0], [3.0, 4.0]]])
      'reference'
      >>> recops.set_backend("auto")
    """
    global _process_choice
    _process_choice = check_name(name)


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose the backend inside a `with` block; it wins over `set_backend` and `RECOPS_BACKEND`.

    It also holds in the replicas that a `tf.distribute` strategy runs inside the block.

    Args:
      name: "auto", "cpp", "xla" or "reference".

    Raises: ValueError for an unknown name.

    Example:
      >>> import recops
      >>> with recops.backend("xla"):
      ...     recops.ops.select("fm_interaction", [[[1.0], [2.0]]])
      'xla'
    """
    with carried.setting(_context_choice, check_name(name)):
        yield


def current() -> str:
    """The choice in force: context, then `set_backend`, then `RECOPS_BACKEND`, then "auto"."""
    chosen = carried.get(_context_choice, None) or _process_choice
    if chosen is not None:
        return chosen
    return check_name(os.environ.get("RECOPS_BACKEND") or "auto", "RECOPS_BACKEND")


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """What is traced inside the block runs elsewhere, where neither recops nor XLA may be.

    Every op is the reference, whatever backend a layer names, or the form of it in the room's
    `plain.py`, which takes less of TensorFlow to run. Layers leave out what only training needs.
    """
    with carried.setting(_serving, True):
        yield


def is_serving() -> bool:
    """Whether the code runs inside `serving`."""
    return carried.get(_serving, False)


@contextlib.contextmanager
def noting() -> Iterator[list[tuple[str, str]]]:
    """The op and the backend of each call inside the block, in order."""
    noted: list[tuple[str, str]] = []
    with carried.setting(_noted, noted):
        yield noted


def _note(op: str, backend: str) -> None:
    noted = carried.get(_noted, None)
    if noted is not None:
        noted.append((op, backend))


@dataclass(frozen=True)
class Room:
    """A family of ops: one module a backend, each with one function an op.

    A module may define `why_not(op, *args) -> None | sentence` to refuse single calls. `plain` has
    forms of the reference's ops for `serving`.
    """

    name: str
    ops: tuple[str, ...]
    reference: ModuleType
    xla: ModuleType
    cpp: ModuleType | None = None
    plain: ModuleType | None = None

    def __post_init__(self) -> None:
        for op in self.ops:
            _ROOMS[op] = self

    def why_not(self, backend: str, op: str, *args: Any) -> str | None:
        """None when the backend can run the op (with these arguments, if given), else why not."""
        if backend == "cpp":
            reason = native.why_not()
            if reason is not None:
                return reason
        module = getattr(self, backend)
        if not hasattr(module, op):
            return f"{op} has no {backend} kernel"
        refuse = getattr(module, "why_not", None)
        return refuse(op, *args) if refuse is not None and args else None

    def refuses_calls(self, backend: str) -> bool:
        """Whether it depends on the arguments of a call if the backend can run it."""
        return hasattr(getattr(self, backend), "why_not")

    def file(self, stem: str) -> ModuleType:
        """The room's module of that name: `api`, `cases`, `stock`."""
        return importlib.import_module(f"{self.reference.__package__}.{stem}")

    def call(self, op: str, *args: Any, backend: Any = "auto") -> Any:
        """Run the op with arguments that its api function has checked."""
        serving = is_serving()
        chosen = "reference" if serving else self._choose(op, args, backend)
        _note(op, chosen)
        module = getattr(self, chosen)
        if serving and hasattr(self.plain, op):
            module = self.plain
        with tf.name_scope(f"recops.{op}.{chosen}"):
            return getattr(module, op)(*args)

    def _choose(self, op: str, args: tuple[Any, ...], asked: Any) -> str:
        asked = check_name("auto" if asked is None else asked, f"{op}: backend")
        if asked == "auto":
            asked = current()
        order = (asked,) if asked != "auto" else _auto_order()
        reasons = {name: self.why_not(name, op, *args) for name in order}
        for name, reason in reasons.items():
            if reason is None:
                return name
        said = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise BackendError(f"{op} cannot run with backend {asked!r}: {said}")


def _auto_order() -> tuple[str, ...]:
    return device.form(gpu=("xla", "reference"), cpu=CONCRETE)


_ROOMS: dict[str, Room] = {}


def rooms() -> dict[str, Room]:
    """The room of every registered op."""
    return dict(_ROOMS)
