"""Take train steps of a DeepCTR model, one for each line that comes in: step_deepctr.py BATCH.npz

Run by bench/peers/steps.py and tables.py with the Python of .venv-peers. Answers a line of JSON:
first what was built, then the loss of a step of the form whose number came in.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import deepctr
import keras
import numpy as np
import tensorflow as tf
from deepctr import models
from run_deepctr import column


def build(asked: dict[str, Any], optimizer: str, jit: Any) -> Any:
    """The model with one of the forms that are asked for; jit None leaves it to Keras."""
    columns = [column(feature) for feature in asked["features"]]
    # PNN has no first order, and so one list of columns. AutoInt's should be empty, but then its
    # output of one row is added to one of many, which Keras refuses.
    lists = (columns,) if asked["model"] == "PNN" else (columns, columns)
    model = getattr(models, asked["model"])(*lists, **asked["options"])
    chosen = {} if jit is None else {"jit_compile": jit}
    rule = tf.keras.optimizers.get({"class_name": optimizer, "config": {"learning_rate": 1e-3}})
    model.compile(rule, "binary_crossentropy", **chosen)
    return model


def main(source: str) -> None:
    """Build, then step until the input ends."""
    with np.load(source) as found:
        arrays = dict(found)
    asked = json.loads(str(arrays.pop("asked")))
    labels = tf.constant(arrays.pop("labels"))
    inputs = {name: tf.constant(values) for name, values in arrays.items()}
    built = [build(asked, *form) for form in asked["forms"]]
    say(
        parameters=built[0].count_params(),
        library=deepctr.__version__,
        tf=tf.__version__,
        keras=keras.__version__,
    )
    for line in sys.stdin:
        say(loss=float(built[int(line)].train_on_batch(inputs, labels)))


def say(**answer: object) -> None:
    """One answer, at once."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
