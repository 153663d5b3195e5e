"""Train steps beside DeepCTR's, into bench/results/peers.jsonl and docs/peers.md.

    python bench/peers/steps.py [MODEL ...] [--seconds S]  # measure, then write the table
    python bench/peers/steps.py --table                    # the table alone

The same model in either library: 4096 rows of 26 fields of 1,000 ids drawn at random, as time does
not depend on values, embeddings of width 16, hidden layers of 256, 128 and 64, Adam, no penalties
and no dropout. Ours in float32 and in mixed_bfloat16, as `recops train` compiles it; DeepCTR's in
float32, as it comes, in its own environment and process (`make peers`). The three step in turns, so
that all see the same machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from process import DEEPCTR as PYTHON
from process import ROOT, stepping

from recops import models, profiling
from recops._core import compat, device
from recops.features import SparseFeature, to_config
from recops.profiling import op_bench
from recops.version import __version__

ROWS = ROOT / "bench" / "results" / "peers.jsonl"
DOC = ROOT / "docs" / "peers.md"
BEGIN, END = "<!-- peers -->", "<!-- /peers -->"
OURS, MIXED, PEER = "recops", "recops mixed_bfloat16", "DeepCTR 0.9.4"
BATCH, FIELDS, IDS, DIM, HIDDEN = 4096, 26, 1000, 16, (256, 128, 64)
keras = compat.keras

# Of theirs, what is not their default or is a penalty; of ours, what makes the model theirs.
_FREE = {"l2_reg_embedding": 0, "l2_reg_linear": 0}
_DEEP = {"dnn_hidden_units": HIDDEN}
_CIN = {"cin_layer_size": (128, 128), "cin_split_half": False, "cin_activation": "relu"}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "XDeepFM": (
        "xDeepFM",
        {**_FREE, **_DEEP, **_CIN},
        {
            "hidden_units": HIDDEN,
            "layer_size": (128, 128),
            "cin_activation": "relu",
            "cin_bias": True,
        },
    ),
    "FiBiNET": ("FiBiNET", {**_FREE, **_DEEP}, {"hidden_units": HIDDEN, "dropout": 0.0}),
    "AutoInt": ("AutoInt", {**_FREE, **_DEEP}, {"hidden_units": HIDDEN}),
    "AFM": ("AFM", {**_FREE, "l2_reg_att": 0}, {"dropout": 0.0}),
    "PNN": ("PNN", {"l2_reg_embedding": 0, **_DEEP}, {"hidden_units": HIDDEN}),
    "NFM": (
        "NFM",
        {**_FREE, **_DEEP},
        {"hidden_units": HIDDEN, "dropout": 0.0, "use_bn": False},
    ),
    "DeepFM": ("DeepFM", {**_FREE, **_DEEP}, {"hidden_units": HIDDEN}),
}
# Our DeepFM takes its first order from the embeddings and has no table for it.
_SAME_SIZE = 0.05


def batch() -> tuple[list[Any], dict[str, np.ndarray], np.ndarray]:
    """Features, inputs and labels."""
    rng = np.random.default_rng(0)
    features = [SparseFeature(f"c{i}", IDS, DIM) for i in range(FIELDS)]
    inputs = {f.name: rng.integers(1, IDS + 1, BATCH).astype("int32") for f in features}
    return features, inputs, rng.integers(0, 2, (BATCH, 1)).astype("float32")


def own(
    name: str, features: Sequence[Any], inputs: dict[str, np.ndarray], labels: Any, policy: str
) -> tuple[Callable[[], Any], int]:
    """A step of our model, and its parameters."""
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = getattr(models, name)(features, seed=0, **CASES[name][2])
        model.compile(
            keras.optimizers.Adam(1e-3),
            "binary_crossentropy",
            jit_compile=device.kind() == "GPU",
        )
    finally:
        keras.mixed_precision.set_global_policy("float32")
    taken, target = {n: tf.constant(v) for n, v in inputs.items()}, tf.constant(labels)
    return lambda: model.train_on_batch(taken, target), model.count_params()


@contextmanager
def peer(
    name: str, features: Sequence[Any], inputs: dict[str, np.ndarray], labels: Any
) -> Iterator[tuple[Callable[[], Any], dict[str, Any]]]:
    """A step of the peer's model in its own process, and what it says of itself."""
    model, options, _ = CASES[name]
    # As it comes: whether to compile is left to Keras.
    asked = {"model": model, "options": options, "forms": [("Adam", None)]}
    asked["features"] = to_config(features)
    with stepping(f"{PEER}: {name}", PYTHON, "step_deepctr.py", asked, inputs, labels) as (
        step,
        said,
    ):
        yield lambda: step(0), said


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a later measurement of the same takes the place of; the sizes are of tables.py."""
    return tuple(row.get(part) for part in ("model", "side", "ids", "optimizer", "compiled"))


def measure(name: str, seconds: float) -> list[dict[str, Any]]:
    """A row for each of the three."""
    features, inputs, labels = batch()
    plain, size = own(name, features, inputs, labels, "float32")
    mixed, _ = own(name, features, inputs, labels, "mixed_bfloat16")
    with peer(name, features, inputs, labels) as (theirs, said):
        if abs(said["parameters"] - size) > _SAME_SIZE * size:
            raise ValueError(
                f"{name}: {size} parameters here and {said['parameters']} in {PEER} are not one "
                f"model"
            )
        steps = {OURS: plain, MIXED: mixed, PEER: theirs}
        timed = profiling.interleave(steps, seconds=seconds)
    versions = {"library": __version__, "tf": tf.__version__, "keras": compat.KERAS_VERSION}
    return [
        {
            "model": name,
            "side": side,
            "rows": BATCH,
            "median_ms": timed[side].median_ms,
            "p20_ms": timed[side].p20_ms,
            "p80_ms": timed[side].p80_ms,
            "rounds": timed[side].rounds,
            "device": op_bench.device(),
            "threads": profiling.threads(),
            **(said if side == PEER else {"parameters": size, **versions}),
        }
        for side in steps
    ]


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line a model: milliseconds of a step, and how many times faster ours are."""
    rows = [row for row in rows if not row.get("ids")]
    lines = [
        f"| model | {OURS} ms | mixed_bfloat16 ms | {PEER} ms | speed-up | of mixed_bfloat16 |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["model"] for row in rows):
        ms = {row["side"]: row["median_ms"] for row in rows if row["model"] == name}
        lines.append(
            f"| {name} | {ms[OURS]:.1f} | {ms[MIXED]:.1f} | {ms[PEER]:.1f} "
            f"| {ms[PEER] / ms[OURS]:.1f}x | {ms[PEER] / ms[MIXED]:.1f}x |"
        )
    if rows:
        ours, theirs = (next(r for r in rows if r["side"] == side) for side in (OURS, PEER))
        lines += [
            "",
            f"{ours['device']}, {ours['threads']} threads; recops {ours['library']} on TensorFlow "
            f"{ours['tf']} and Keras {ours['keras']}, {PEER} on TensorFlow {theirs['tf']}.",
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep the rows of the models that were measured, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names of models; all by default")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--seconds", type=float, default=10, help="a model (10)")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--doc", type=Path, default=DOC)
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.models if name not in CASES]:
        parser.error(f"expected models among {', '.join(CASES)}, got {', '.join(unknown)}")
    wanted = [] if options.table else options.models or list(CASES)
    if wanted and not PYTHON.exists():
        print(f"{PEER} is not installed; `make peers` installs it", file=sys.stderr)
        return 2
    path = options.rows
    before = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows = {key(row): row for row in before}
    for name in wanted:
        found = measure(name, options.seconds)
        print(summary(found), flush=True)
        rows |= {key(row): row for row in found}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    text, rest = options.doc.read_text().split(BEGIN)
    made = summary(list(rows.values()))
    options.doc.write_text(f"{text}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
