"""Shapes of the sampled losses: a catalogue of a million items, a batch of two-tower vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recops._core.cases import Case, tagged


def _sampled(
    name: str,
    tag: str,
    b: int,
    d: int,
    vocabulary: int,
    s: int,
    use_bias: bool = False,
    **options: Any,
) -> Case:
    """Candidates are given, so that all forms have the same; ids are log-uniform.

    Where there are enough they are distinct: of a candidate that stands twice, TensorFlow's own
    loss takes only one for an accidental hit.
    """

    def inputs(rng: np.random.Generator) -> Mapping[str, Any]:
        def drawn(count: int) -> np.ndarray:
            ids = np.exp(rng.uniform(size=count) * np.log(vocabulary + 1)).astype(np.int64)
            return np.clip(ids, 1, vocabulary)

        def log_expected(ids: np.ndarray) -> np.ndarray:
            return np.log(s * np.log1p(1 / ids) / np.log1p(vocabulary))

        labels, ids = drawn(b), drawn(s)
        if vocabulary > 10 * s:
            ids = rng.permutation(np.unique(drawn(20 * s)))[:s]
        made: dict[str, Any] = {
            "inputs": rng.normal(size=(b, d)),
            "labels": labels,
            "weights": rng.normal(size=(vocabulary + 1, d)) / np.sqrt(d),
            "sampled": [ids, log_expected(labels), log_expected(ids)],
        }
        if use_bias:
            made["biases"] = rng.normal(size=vocabulary + 1)
        return made

    flops = 2.0 * b * (s + 1) * d
    return Case(
        "sampled_softmax",
        name,
        inputs,
        tagged(tag),
        {"num_sampled": s, **options},
        (flops, 2 * flops),
        rows_read={"weights": b + s},
        constant=frozenset({"sampled"}),
    )


def _in_batch(name: str, tag: str, b: int, d: int, items: int | None, **options: Any) -> Case:
    """`items`: how many distinct items; None gives no ids and no correction."""

    def inputs(rng: np.random.Generator) -> Mapping[str, Any]:
        made: dict[str, Any] = {
            "queries": rng.normal(size=(b, d)),
            "items": rng.normal(size=(b, d)) / np.sqrt(d),
        }
        if items is not None:
            made["item_ids"] = rng.integers(1, items + 1, size=b)
            made["log_q"] = np.log(rng.uniform(0.01, 0.5, size=b))
        return made

    flops = 2.0 * b * b * d
    return Case("in_batch_softmax", name, inputs, tagged(tag), options, (flops, 2 * flops))


CASES: list[Case] = [
    _sampled("hits", "test", 4, 3, 5, 6, True),
    _sampled("hits_stay", "test", 3, 2, 4, 5, remove_accidental_hits=False),
    _sampled("youtube_b256", "smoke", 256, 32, 10_000, 256),
    _sampled("youtube_b2048", "bench", 2048, 64, 1_000_000, 2048),
    _in_batch("twins", "test", 4, 3, 3, temperature=0.5),
    _in_batch("plain", "test", 3, 2, None),
    _in_batch("two_tower_b256", "smoke", 256, 32, 10_000),
    _in_batch("two_tower_b2048", "bench", 2048, 64, 1_000_000, temperature=0.05),
]
