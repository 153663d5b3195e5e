"""Shapes of the GRU: histories of 50 clicks, as DIEN sees them, and longer ones of wider states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recops._core.cases import Case, tagged

Inputs = Callable[[np.random.Generator], Mapping[str, Any]]


_SHORT = 12


def _inputs(
    b: int,
    t: int,
    i: int,
    h: int,
    *,
    bias: int = 1,
    attention: bool = False,
    mask: str | None = "tail",
    state: bool = False,
) -> Inputs:
    """`bias` is the number of bias rows; `mask` pads at the "tail", the "head", or "middle".

    "short" is a tail that leaves 12 steps on average, as histories of clicks have them.
    """

    def make(rng: np.random.Generator) -> Mapping[str, Any]:
        made = {
            "x": rng.normal(size=(b, t, i)),
            "kernel": rng.normal(size=(i, 3 * h)) / np.sqrt(i),
            "recurrent_kernel": rng.normal(size=(h, 3 * h)) / np.sqrt(h),
        }
        if bias:
            made["bias"] = rng.normal(size=(2, 3 * h) if bias == 2 else 3 * h)
        if attention:
            made["attention"] = rng.uniform(size=(b, t))
        if mask:
            longest = 2 * _SHORT if mask == "short" else t + 1
            kept = np.arange(t) < rng.integers(1, longest, size=(b, 1))
            made["mask"] = {
                "tail": kept,
                "short": kept,
                "head": kept[:, ::-1].copy(),
                "middle": rng.uniform(size=(b, t)) < 0.6,
            }[mask]
        if state:
            made["initial_state"] = rng.normal(size=(b, h))
        return made

    return make


def _case(name: str, tags: str, b: int, t: int, i: int, h: int, **kwargs: Any) -> Case:
    names = ("bias", "attention", "mask", "state")
    made = {key: kwargs.pop(key) for key in names if key in kwargs}
    flops = 6.0 * b * (_SHORT if made.get("mask") == "short" else t) * h * (i + h)
    inputs = _inputs(b, t, i, h, **made)
    return Case("dynamic_gru", name, inputs, tagged(*tags.split()), kwargs, (flops, 2 * flops))


_AUGRU: dict[str, Any] = {"gru_type": "augru", "attention": True}

CASES: list[Case] = [
    _case("gru", "test", 3, 4, 2, 3),
    _case("gru_reset_after", "test", 2, 3, 3, 2, bias=2, reset_after=True, mask="head"),
    _case("gru_backwards", "test", 3, 4, 2, 2, go_backwards=True, mask="middle", state=True),
    _case("gru_plain_one_step", "test", 1, 1, 3, 2, bias=0, mask=None),
    _case("aigru", "test", 2, 3, 2, 3, gru_type="aigru", attention=True, mask="head"),
    _case("agru", "test", 3, 3, 2, 2, gru_type="agru", attention=True, mask="middle", state=True),
    _case("augru_paper", "test", 3, 4, 2, 3, **_AUGRU, state=True),
    _case(
        "augru_alibaba",
        "test",
        2,
        4,
        3,
        2,
        **_AUGRU,
        augru_form="alibaba",
        reset_after=True,
        bias=2,
        mask="middle",
        zero_output_for_mask=True,
    ),
    _case("dien_b64", "smoke", 64, 20, 16, 16, **_AUGRU),
    _case("gru_b1024_t50", "bench", 1024, 50, 32, 32, mask=None),
    _case("augru_b1024_t50", "bench", 1024, 50, 32, 32, **_AUGRU, mask=None),
    _case("augru_b1024_t50_masked", "bench", 1024, 50, 32, 32, **_AUGRU),
    _case("gru_b1024_t50_short", "bench", 1024, 50, 32, 32, mask="short"),
    _case("augru_b1024_t50_short", "bench", 1024, 50, 32, 32, **_AUGRU, mask="short"),
    _case("gru_b256_t100_h64_masked", "bench", 256, 100, 64, 64),
]
