"""Train steps of a DeepCTR model as it comes and accelerated: step_accelerated.py BATCH.npz

Run by bench/peers/accelerate.py with the Python of .venv-peers. Answers a line of JSON: first what
was swapped, then the loss of a step of the model whose number came in: 0 the stock one, 1 the copy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from step_deepctr import build, say

# DeepCTR's environment has no recops.
sys.path.append(str(Path(__file__).resolve().parents[2]))
import recops


def main(source: str) -> None:
    """Build, accelerate, then step until the input ends."""
    with np.load(source) as found:
        arrays = dict(found)
    asked = json.loads(str(arrays.pop("asked")))
    labels = tf.constant(arrays.pop("labels"))
    inputs = {name: tf.constant(values[:, None]) for name, values in arrays.items()}
    stock = build(asked, "Adam", None)
    fast, report = recops.accelerate(stock, batch=inputs, optimizer=asked["optimizer"])
    say(
        parameters=stock.count_params(),
        swapped=[[row.layer, row.was, row.now] for row in report.swapped],
        kept=[[row.layer, row.was, row.reason] for row in report.rows if row.now is None],
        recops=recops.__version__,
        tf=tf.__version__,
        keras=tf.keras.__version__,
    )
    models = (stock, fast)
    for line in sys.stdin:
        say(loss=float(models[int(line)].train_on_batch(inputs, labels)))


if __name__ == "__main__":
    main(sys.argv[1])
