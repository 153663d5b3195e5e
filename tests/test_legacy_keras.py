"""All layers and models once under tf_keras, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SMOKE = """
import sys
from pathlib import Path
import numpy as np
import tensorflow as tf
import recops
from recops._core import compat
from recops.models import CATALOGUE
from tests.layers.specs import SPECS, together
from tests.models.planted import SMALL, data, features_of, read_by

assert not compat.KERAS_3
folder = Path(sys.argv[1])

def reloads(model, batch, name):
    path = folder / f"{name}.keras"
    model.save(path)
    again = tf.keras.models.load_model(path)
    np.testing.assert_allclose(again(batch), model(batch), atol=1e-6, err_msg=name)

model, batch = together(SPECS)
model.compile("sgd", "mse", jit_compile=False)
model.fit(batch, np.ones((6, model.output_shape[1])), verbose=0)
reloads(model, batch, "layers")

planted, labels = data(64)
for name, entry in CATALOGUE.items():
    if name not in SMALL:  # it ranks all items and has a test of its own
        continue
    model = entry.build(features_of(name), seed=1, **SMALL[name])
    batch = read_by(model, planted)
    if name in ("DeepFM", "FiBiNET", "DIN"):
        model.compile("adam", "binary_crossentropy")
        model.fit(batch, labels, batch_size=32, verbose=0)
    reloads(model, batch, name)
print("done")
"""


@pytest.mark.needs("tf_keras")
def test_layers_and_models_work_under_tf_keras(tmp_path):
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    command = [sys.executable, "-c", _SMOKE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["done"]
