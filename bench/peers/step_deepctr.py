"""Take train steps of a DeepCTR model, one for each line that comes in: step_deepctr.py BATCH.npz

Run by bench/peers/steps.py with the Python of .venv-peers. Answers a line of JSON: first what was
built, then after each step its loss.
"""

from __future__ import annotations

import json
import sys

import deepctr
import keras
import numpy as np
import tensorflow as tf
from deepctr import models
from run_deepctr import column


def main(source: str) -> None:
    """Build, then step until the input ends."""
    with np.load(source) as found:
        arrays = dict(found)
    asked = json.loads(str(arrays.pop("asked")))
    labels = tf.constant(arrays.pop("labels"))
    inputs = {name: tf.constant(values) for name, values in arrays.items()}
    columns = [column(feature) for feature in asked["features"]]
    # PNN has no first order, and so one list of columns. AutoInt's should be empty, but then its
    # output of one row is added to one of many, which the Keras of this environment refuses.
    lists = (columns,) if asked["model"] == "PNN" else (columns, columns)
    model = getattr(models, asked["model"])(*lists, **asked["options"])
    model.compile(tf.keras.optimizers.Adam(1e-3), "binary_crossentropy")
    say(
        parameters=model.count_params(),
        library=deepctr.__version__,
        tf=tf.__version__,
        keras=keras.__version__,
    )
    for _ in sys.stdin:
        say(loss=float(model.train_on_batch(inputs, labels)))


def say(**answer: object) -> None:
    """One answer, at once."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
