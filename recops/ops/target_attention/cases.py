"""Shapes of the activation unit: DIN's 80-40-1 over the last 50 clicks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recops._core.cases import Case, tagged

Inputs = Callable[[np.random.Generator], Mapping[str, Any]]


def _inputs(b: int, t: int, d: int, units: Sequence[int], mask: str | None, bias: bool) -> Inputs:
    """`mask`: "lengths", 1 to T kept steps a row; "empty", the last row of them keeps none.

    `bias`: whether the last layer has one; the softmax makes its gradient 0.
    """

    def make(rng: np.random.Generator) -> Mapping[str, Any]:
        widths = [4 * d, *units, 1]
        made: dict[str, Any] = {
            "query": rng.normal(size=(b, d)),
            "keys": rng.normal(size=(b, t, d)),
            # Weights of a network that has learnt: one fresh from its initializer weighs all keys
            # alike, and what is left of its scores' gradients is rounding.
            "kernels": [
                rng.normal(size=(n, m)) * 4 / np.sqrt(n) for n, m in itertools.pairwise(widths)
            ],
            "biases": [0.1 * rng.normal(size=m) for m in (widths[1:] if bias else units)],
        }
        if mask:
            lengths = rng.integers(1, t + 1, size=(b, 1))
            lengths[-1] *= mask != "empty"
            made["mask"] = np.arange(t) < lengths
        return made

    return make


def _flops(b: int, t: int, d: int, units: Sequence[int]) -> tuple[float, float]:
    """Of the folded form, the least work known; each product counts twice on the way back."""
    first, *rest = [*units, 1]
    per_example = 4.0 * d * first
    per_step = 2.0 * (d * first + sum(n * m for n, m in itertools.pairwise([first, *rest])) + d)
    forward = b * (per_example + t * per_step)
    return forward, 2 * forward


def _case(
    name: str,
    tag: str,
    b: int,
    t: int,
    d: int,
    units: Sequence[int],
    mask: str | None = None,
    **options: Any,
) -> Case:
    inputs = _inputs(b, t, d, units, mask, bias=not options.get("normalize", True))
    flops = _flops(b, t, d, units)
    return Case("target_attention", name, inputs, tagged(tag), options, flops)


CASES: list[Case] = [
    _case("masked", "test", 4, 4, 3, (4, 3), "empty"),
    _case("raw_scores", "test", 3, 3, 2, (4,), "empty", activation="relu", normalize=False),
    _case("one_step", "test", 2, 1, 5, (3, 2), activation="tanh", normalize=False),
    _case("no_hidden_layer", "test", 2, 3, 4, (), activation=None),
    _case("din_b64", "smoke", 64, 20, 16, (80, 40), "lengths"),
    _case("din_b1024", "bench", 1024, 50, 32, (80, 40), "lengths"),
]
