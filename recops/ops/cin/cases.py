"""Shapes of the compressed interaction network: Criteo's 26 fields, the paper's 128 maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recops._core.cases import Case, tagged

Inputs = Callable[[np.random.Generator], Mapping[str, Any]]


def _kernel(rng: np.random.Generator, maps: int, before: int, fields: int) -> np.ndarray:
    return rng.normal(size=(maps, before, fields)) / np.sqrt(before * fields)


def _layer(name: str, tag: str, b: int, f: int, before: int, maps: int, d: int) -> Case:
    def inputs(rng: np.random.Generator) -> Mapping[str, Any]:
        return {
            "x0": rng.normal(size=(b, f, d)),
            "xk": rng.normal(size=(b, before, d)),
            "kernel": _kernel(rng, maps, before, f),
        }

    flops = 2.0 * b * d * maps * before * f + b * d * before * f
    return Case("compressed_interaction", name, inputs, tagged(tag), flops=(flops, 2 * flops))


def _stack(
    name: str,
    tag: str,
    b: int,
    f: int,
    d: int,
    layers: Sequence[int],
    use_bias: bool = False,
    **options: Any,
) -> Case:
    halves = [h // 2 if options.get("split_half") else h for h in layers[:-1]]
    before = [f, *halves]

    def inputs(rng: np.random.Generator) -> Mapping[str, Any]:
        made: dict[str, Any] = {
            "x": rng.normal(size=(b, f, d)),
            "kernels": [_kernel(rng, h, n, f) for h, n in zip(layers, before)],
        }
        if use_bias:
            made["biases"] = [rng.normal(size=h) for h in layers]
        return made

    flops = sum(2.0 * b * d * h * n * f + b * d * n * f for h, n in zip(layers, before))
    return Case("cin", name, inputs, tagged(tag), options, (flops, 2 * flops))


CASES: list[Case] = [
    _layer("odd", "test", 3, 4, 5, 3, 3),
    _layer("one_row_one_field", "test", 1, 1, 2, 2, 1),
    _layer("criteo_b64", "smoke", 64, 26, 32, 32, 16),
    _layer("criteo_b1024", "bench", 1024, 26, 128, 128, 16),
    _stack("two_layers", "test", 3, 4, 2, (3, 2)),
    _stack("split_relu_bias", "test", 2, 3, 3, (4, 3), True, activation="relu", split_half=True),
    _stack("criteo_b64", "smoke", 64, 26, 16, (32, 32)),
    _stack("criteo_b1024", "bench", 1024, 26, 16, (128, 128)),
]
