"""The compressed interaction network: one layer, and the stack of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.compat import keras
from recops._core.dispatch import Room
from recops.ops.cin import cpp, reference, xla

_ROOM = Room("cin", ("compressed_interaction", "cin"), reference, xla, cpp)


def compressed_interaction(x0: Any, xk: Any, kernel: Any, *, backend: str = "auto") -> tf.Tensor:
    """One layer of a compressed interaction network (DeepCTR: part of CIN).

        out[b, o, d] = sum_{h, f} kernel[o, h, f] xk[b, h, d] x0[b, f, d]

    Args:
      x0: field embeddings [B, F, D], float16, bfloat16, float32 or float64; F and D static.
      xk: maps of the layer before [B, Hk, D], dtype of `x0`, Hk static. Where it is `x0` itself,
        as in the first layer, the symmetry saves nearly half of the work.
      kernel: [H, Hk, F], dtype of `x0`.
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [B, H, D] in the dtype of `x0`.

    Raises: ValueError for a wrong rank, size or dtype; BackendError when a named backend cannot
    run.

    Numerics: 16-bit inputs accumulate in float32 and round once. Cost: 2 B D H Hk F flops forward,
    twice that backward. The backward keeps the inputs alone; the outer product [B, Hk, F, D] is
    made again a block of rows at a time and never stands whole in memory. `reference` keeps it.
    `cpp` multiplies a part of a block's products while it is in the cache; beside its results it
    holds the kernel with rows for columns and up to eight partial sums of the kernel's gradient.

    Source: Lian et al., xDeepFM, KDD 2018, eq. 6.

    Example:
      >>> import recops
      >>> x, kernel = [[[1.0], [2.0]]], [[[0.0, 1.0], [0.0, 3.0]]]
      >>> recops.ops.compressed_interaction(x, x, kernel).numpy().tolist()
      [[[14.0]]]
    """
    op = "compressed_interaction"
    itself = xk is x0
    x0 = checks.fields(op, "x0", x0, minimum=1)
    batch, dim = checks.sizes(x0, 0), x0.shape[2]
    xk = x0 if itself else checks.floats(op, "xk", xk, f"{batch} Hk {dim}", dtype=x0.dtype)
    maps = checks.static(op, "xk", xk, 1, "Hk")
    kernel = checks.floats(op, "kernel", kernel, f"H {maps} {x0.shape[1]}", dtype=x0.dtype)
    checks.static(op, "kernel", kernel, 0, "H")
    return _ROOM.call(op, x0, xk, kernel, itself, backend=backend)


def cin(
    x: Any,
    kernels: Sequence[Any],
    biases: Sequence[Any] | None = None,
    activation: str | Callable[[tf.Tensor], tf.Tensor] | None = None,
    split_half: bool = False,
    *,
    backend: str = "auto",
) -> tf.Tensor:
    """Compressed interaction network: stacked layers, each summed over D (DeepCTR: CIN).

        x_{k+1} = activation(compressed_interaction(x, x_k, kernel_k) + bias_k)
        out = [sum_d x_1, sum_d x_2, ...]

    Args:
      x: field embeddings [B, F, D], float16, bfloat16, float32 or float64; F and D static.
      kernels: one [H_k, H_{k-1}, F] a layer, H_0 = F, dtype of `x`. With split_half the layers
        after the first take H_{k-1} / 2 maps.
      biases: one [H_k] a layer, or None.
      activation: Keras's name of one, a function of a tensor, or None.
      split_half: the first half of a layer's maps goes on and the second half is its output, but
        the last layer's maps are all output.
      backend: "auto", "cpp", "xla" or "reference".

    Defaults: split_half=False.

    Returns: [B, sum of the layers' outputs] in the dtype of `x`.

    Raises: ValueError for a wrong rank, size or dtype, no kernel, or an odd H_k that shall be
    split; BackendError when a named backend cannot run.

    Numerics, cost: as `compressed_interaction`, a layer each; between forward and backward stand
    the layers' maps [B, H_k, D].

    Source: Lian et al., xDeepFM, KDD 2018, eq. 6 to 8.

    Example:
      >>> import recops
      >>> x, kernel = [[[1.0, 1.0], [2.0, 3.0]]], [[[1.0, 1.0], [1.0, 1.0]]]
      >>> recops.ops.cin(x, [kernel]).numpy().tolist()
      [[25.0]]
    """
    op = "cin"
    x = checks.fields(op, "x", x, minimum=1)
    fields = x.shape[1]
    if not len(kernels):
        raise ValueError(f"{op}: kernels must hold one [H, Hk, F] a layer, got none")
    if biases is not None and len(biases) != len(kernels):
        raise ValueError(
            f"{op}: biases must hold one [H] a layer, {len(kernels)} of them, got {len(biases)}"
        )
    maps, weights, shifts = fields, [], []
    for k, kernel in enumerate(kernels):
        name = f"kernels[{k}]"
        kernel = checks.floats(op, name, kernel, f"H {maps} {fields}", dtype=x.dtype)
        maps = checks.static(op, name, kernel, 0, "H")
        weights.append(kernel)
        if biases is not None:
            shifts.append(checks.floats(op, f"biases[{k}]", biases[k], f"{maps}", dtype=x.dtype))
        if split_half and k < len(kernels) - 1:
            if maps % 2:
                raise ValueError(
                    f"{op}: split_half needs even numbers of maps, got {maps} in {name}"
                )
            maps //= 2
    function = keras.activations.get(activation)
    return _ROOM.call(op, x, weights, shifts, function, split_half, backend=backend)
