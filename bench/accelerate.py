"""A stock Keras model of GRU and attention before and after `recops.accelerate`.

    python bench/accelerate.py [--rows 1024] [--steps 50] [--seconds 30]

Both train by `train_on_batch` and answer by `predict_on_batch`, in turns; medians of one run.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

import recops
from recops._core.compat import keras
from recops.profiling import Timing, interleave


def stock_model(steps: int) -> keras.Model:
    """A history of ids through GRU and attention, beside a candidate, to a click probability."""
    layers = keras.layers
    history = keras.Input((steps,), dtype="int32", name="history")
    item = keras.Input((1,), dtype="int32", name="item")
    table = layers.Embedding(10_000, 32, mask_zero=True, name="table")
    states = layers.GRU(64, return_sequences=True, name="gru")(table(history))
    states = layers.MultiHeadAttention(4, 16, name="attention")(states, states)
    seen = layers.GlobalAveragePooling1D(name="mean")(states)
    candidate = layers.Flatten(name="candidate")(table(item))
    joined = layers.Concatenate(name="joined")([seen, candidate])
    hidden = layers.Dense(64, activation="relu", name="hidden")(joined)
    return keras.Model([history, item], layers.Dense(1, activation="sigmoid", name="out")(hidden))


def data(rows: int, steps: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Histories of all lengths, padded at the end; candidates; clicks."""
    random = np.random.default_rng(0)
    ids = random.integers(1, 10_000, (rows, steps))
    lengths = random.integers(1, steps + 1, (rows, 1))
    history = np.where(np.arange(steps) < lengths, ids, 0).astype("int32")
    item = random.integers(1, 10_000, (rows, 1)).astype("int32")
    return [history, item], random.integers(0, 2, (rows, 1)).astype("float32")


def said(what: str, stock: Timing, fast: Timing) -> str:
    """A row of the table."""
    return (
        f"{what:10}  {stock.median_ms:8.1f} ms  {fast.median_ms:8.1f} ms  "
        f"{stock.median_ms / fast.median_ms:5.2f}x  ({stock.rounds} rounds)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--optimizer", choices=("lazy", "keep"), default="keep")
    parser.add_argument("--json", help="write the figures and the report there")
    given = parser.parse_args()
    inputs, clicks = data(given.rows, given.steps)
    stock = stock_model(given.steps)
    stock.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
    fast, report = recops.accelerate(stock, batch=inputs, optimizer=given.optimizer)
    print(report)
    models = {"stock": stock, "fast": fast}
    trained = interleave(
        {name: lambda m=m: m.train_on_batch(inputs, clicks) for name, m in models.items()},
        seconds=given.seconds,
    )
    answered = interleave(
        {name: lambda m=m: m.predict_on_batch(inputs) for name, m in models.items()},
        seconds=given.seconds / 2,
    )
    print(f"{'':10}  {'stock':>11}  {'accelerated':>11}")
    print(said("train step", trained["stock"], trained["fast"]))
    print(said("inference", answered["stock"], answered["fast"]))
    if given.json:
        timed = {"train step": trained, "inference": answered}
        found = {w: {n: t.median_ms for n, t in times.items()} for w, times in timed.items()}
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"median_ms": found, "report": report.to_dict()}, file, indent=2)


if __name__ == "__main__":
    main()
