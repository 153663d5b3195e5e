"""Latency of one row and of a hundred: the live model, its SavedModel, and ONNX Runtime, on a core.

python bench/serving.py [MODEL ...] [--calls 2000] [--core 0] [--table]

A call goes from ready inputs (tensors; arrays for ONNX Runtime) to a NumPy array. The forms of a
model take turns, a few calls each; medians and 99th percentiles are of all calls of a form.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "bench" / "results" / "serving.jsonl"
DOC = ROOT / "docs" / "serving.md"
BEGIN, END = "<!-- latency -->", "<!-- /latency -->"
NAMES = ("DeepFM", "DIN", "DIEN", "YoutubeDNN")
FORMS = {"live": "live", "saved_model": "SavedModel", "onnx": "ONNX Runtime"}
BATCHES = (1, 100)
IDS, STEPS = 10_000, 50
# Calls of a form before the next one has its turn: its weights are in the cache again by then.
TURN, WARM = 10, 3


def build(name: str) -> Any:
    """A model with its default options: 26 fields and 13 numbers, or an item and 50 clicks."""
    from recops import models
    from recops.features import DenseFeature, SequenceFeature, SparseFeature

    item, user = SparseFeature("item", IDS), SparseFeature("user", IDS)
    seen = SequenceFeature("seen", IDS, STEPS, target="item")
    unseen = SequenceFeature("unseen", IDS, STEPS, negative_of="seen")
    if name == "DeepFM":
        sparse = [SparseFeature(f"c{i}", IDS) for i in range(26)]
        return models.DeepFM([*sparse, *(DenseFeature(f"i{i}") for i in range(13))], seed=0)
    if name == "YoutubeDNN":
        return models.YoutubeDNNRetrieval([item, user, seen], seed=0)
    if name == "DIEN":
        return models.DIEN([item, user, seen, unseen], seed=0)
    return models.DIN([item, user, seen], seed=0)


def forms(model: Any, rows: int, folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Each form as a call that ends in an array; they must give the same."""
    import onnxruntime
    import tensorflow as tf

    from recops.export import probe
    from recops.export.served import served

    made = served(model)
    drawn = probe.draw(made.reads, made.largest, rows=rows)
    tensors = {name: tf.constant(value) for name, value in drawn.items()}
    read = {name: tensors[name] for name in made.inputs}
    live = tf.function(made.call, autograph=False)
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / "onnx"), options, providers=["CPUExecutionProvider"]
    )
    arrays = {name: drawn[name] for name in made.inputs}

    def first(found: Any) -> np.ndarray:
        return next(iter(found.values())).numpy()

    signature = loaded.signatures["serving_default"]
    calls: dict[str, Callable[[], np.ndarray]] = {
        "live": lambda: first(live(tensors)),
        "saved_model": lambda: first(signature(**read)),
        "onnx": lambda: session.run(None, arrays)[0],
    }
    want = calls["live"]()
    for call in calls.values():
        np.testing.assert_allclose(call(), want, rtol=1e-4, atol=1e-5)
    # What was loaded lives as long as its call.
    calls["saved_model"].__dict__["keeps"] = loaded
    return calls


def measure(name: str, count: int) -> list[dict[str, Any]]:
    """A row for each batch size and form of a model."""
    import tensorflow as tf

    import recops
    from recops.profiling.op_bench import device

    found = []
    with tempfile.TemporaryDirectory(prefix="recops-") as made:
        folder, model = Path(made), build(name)
        for form in ("saved_model", "onnx"):
            recops.export(model, folder / form, format=form, validate=False)
        for rows in BATCHES:
            for form, samples in _in_turns(forms(model, rows, folder), count).items():
                row = {
                    "model": name,
                    "rows": rows,
                    "form": form,
                    "median_ms": round(float(np.median(samples)), 4),
                    "p99_ms": round(float(np.percentile(samples, 99)), 4),
                    "calls": len(samples),
                    "device": device(),
                    "load": round(os.getloadavg()[0], 1),
                    "tf": tf.__version__,
                    "onnxruntime": version("onnxruntime"),
                }
                found.append(row)
                print(row, flush=True)
    return found


def _in_turns(calls: dict[str, Callable[[], np.ndarray]], count: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {form: [] for form in calls}
    for _ in range(-(-count // TURN)):
        for form, call in calls.items():
            for _ in range(WARM):
                call()
            for _ in range(TURN):
                start = time.perf_counter()
                call()
                samples[form].append(1e3 * (time.perf_counter() - start))
    return samples


def table(rows: list[dict[str, Any]]) -> str:
    """A line a model and batch: median and 99th percentile of each form, in milliseconds."""
    found = {(r["model"], r["rows"], r["form"]): r for r in rows}
    lines = [
        "| model | rows | " + " | ".join(FORMS.values()) + " |",
        "|---" * (2 + len(FORMS)) + "|",
    ]
    for name, count in itertools.product(NAMES, BATCHES):
        cells = [found.get((name, count, form)) for form in FORMS]
        shown = [f"{r['median_ms']:.2f} / {r['p99_ms']:.2f}" if r else "" for r in cells]
        lines.append(f"| {name} | {count} | " + " | ".join(shown) + " |")
    last = rows[-1]
    return (
        "\n".join(lines) + f"\n\nMilliseconds a call, median / 99th percentile of {last['calls']} "
        f"calls, one core of {last['device']}, TensorFlow {last['tf']}, ONNX Runtime "
        f"{last['onnxruntime']}; load average {max(r['load'] for r in rows)} at the most."
    )


def main() -> None:
    """Measure unless told otherwise, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=NAMES, help="; ".join(NAMES))
    parser.add_argument("--calls", type=int, default=2000, help="of each form; default: 2000")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)))
    parser.add_argument("--table", action="store_true", help="write the table of the kept rows")
    options = parser.parse_args()
    if unknown := [name for name in options.models if name not in NAMES]:
        parser.error(f"expected models among {', '.join(NAMES)}, got {', '.join(unknown)}")
    kept = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    if not options.table:
        os.sched_setaffinity(0, {options.core})
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        new = [row for name in options.models for row in measure(name, options.calls)]
        kept = [r for r in kept if r["model"] not in options.models] + new
        ROWS.write_text("".join(json.dumps(row) + "\n" for row in kept))
    before, rest = DOC.read_text().split(BEGIN)
    DOC.write_text(f"{before}{BEGIN}\n{table(kept)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
