"""What the layers share: the backend option, shape checks, and initializers of stacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from recops._core import dispatch
from recops._core.compat import keras


class OpLayer(keras.layers.Layer):
    """A layer whose computation is an op.

    Args:
      backend: "auto", "cpp", "xla" or "reference"; None leaves the choice to `recops.backend`,
        `recops.set_backend` and the environment.
      **kwargs: `name`, `dtype`, `trainable` of every Keras layer.
    """

    def __init__(self, *, backend: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if backend is not None:
            dispatch.check_name(backend, f"{type(self).__name__}: backend")
        self.backend = backend

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "backend": self.backend}


def kept(mask: Any, tensor: Any) -> Any:
    """`mask`, or where none was given that which Keras carries with `tensor`, as Embedding does.

    Keras itself hands it over to layers of a single tensor alone.
    """
    return getattr(tensor, "_keras_mask", None) if mask is None else mask


def static_shape(layer: Any, input_shape: Any, axes: str, minimum: int = 1) -> tuple[int, ...]:
    """Sizes of the axes after the batch of an input shape that must fit `axes`, e.g. "B F D".

    Raises: ValueError naming the layer when the rank differs, a size is unknown, or there are fewer
    than `minimum` fields on axis 1.
    """
    shape = tuple(tf.TensorShape(input_shape))
    if len(shape) != len(axes.split()) or None in shape[1:]:
        raise ValueError(
            f"{type(layer).__name__}: expected an input [{', '.join(axes.split())}] whose sizes "
            f"after B are static, got {['?' if size is None else size for size in shape]}"
        )
    if shape[1] < minimum:
        raise ValueError(
            f"{type(layer).__name__}: expected at least {minimum} fields on axis 1, got {shape[1]}"
        )
    return shape[1:]


def positive(layer: Any, **values: Any) -> None:
    """Raise ValueError unless each value is a positive integer."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{type(layer).__name__}: argument `{name}` must be a positive integer, got "
                f"{value!r}"
            )


def without_newer(layer: Any, stock: Any, given: dict[str, Any]) -> dict[str, Any]:
    """`given` without the arguments that Keras's layer `stock` has and ours, its drop-in, has not.

    At their defaults they say nothing, as in a config of a newer Keras.

    Raises: ValueError for one of them with another value.
    """
    base = inspect.signature(keras.layers.Layer.__init__).parameters
    newer = inspect.signature(stock.__init__).parameters.keys() - base.keys()
    for name in sorted(newer & given.keys()):
        default = inspect.signature(stock.__init__).parameters[name].default
        if given[name] != default:
            raise ValueError(
                f"{type(layer).__name__}: argument `{name}` of keras.layers.{stock.__name__} must "
                f"be {default!r} here, which is its default, got {given[name]!r}"
            )
    return {name: value for name, value in given.items() if name not in newer}


def build_child(child: Any, input_shape: Any) -> None:
    """Build a sublayer so that its weights carry its name in every Keras."""
    with tf.name_scope(child.name):
        child.build(input_shape)


def varied(initializer: Any, index: int) -> Any:
    """An initializer like this one that draws other numbers for each `index`.

    Calling one initializer again would repeat its numbers; with a seed the result has one too.
    """
    initializer = keras.initializers.get(initializer)
    if not hasattr(initializer, "get_config"):
        return initializer
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] += index
    return type(initializer).from_config(config)


def drawn_as(initializer: Any, shape: Sequence[int]) -> Callable[..., tf.Tensor]:
    """An initializer that draws `shape`, from which the scale follows, and then reshapes."""
    initializer = keras.initializers.get(initializer)

    def draw(target: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
        return tf.reshape(tf.convert_to_tensor(initializer(tuple(shape), dtype=dtype)), target)

    return draw


def one_by_one(initializer: Any) -> Callable[..., tf.Tensor]:
    """An initializer of a stack of matrices that draws each alone.

    Keras would take [N, D, D] for a convolution and shrink the scale by sqrt(N).
    """

    def draw(target: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
        count, *matrix = tuple(target)
        each = [varied(initializer, i)(tuple(matrix), dtype=dtype) for i in range(count)]
        return tf.stack([tf.convert_to_tensor(value) for value in each])

    return draw


def side_by_side(initializer: Any, count: int) -> Callable[..., Any]:
    """An initializer of matrices that stand side by side in one, [D, count H], drawing each alone.

    Keras would see one layer that is `count` times as wide, and shrink the scale.
    """

    def draw(target: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
        rows, columns = target
        each = [varied(initializer, i)((rows, columns // count), dtype=dtype) for i in range(count)]
        return tf.concat([tf.convert_to_tensor(value) for value in each], axis=1)

    return draw
