"""`recops export`: what it prints and writes, and one line for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recops.cli import main
from recops.features import SequenceFeature, SparseFeature
from recops.models import DIN

keras = tf.keras
ITEM = SparseFeature("item", 20, 4)
SEEN = SequenceFeature("seen", 20, 5, 4, target="item")


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    DIN([ITEM, SEEN], attention_units=[4], hidden_units=[4], seed=1).save("din.keras")


def code_of(line):
    try:
        return main(line.split())
    except SystemExit as stopped:
        return stopped.code


def test_a_saved_model_is_exported_and_compared(tmp_path, capsys):
    assert code_of("export din.keras served/1") == 0
    said = capsys.readouterr().out
    assert said.startswith("DIN as saved_model: served/1, ")
    assert "seen [B, 5] int32" in said
    assert "from the live model on 5 and 1 rows" in said
    batch = {"item": np.array([3], "int32"), "seen": np.array([[1, 2, 0, 0, 0]], "int32")}
    loaded = tf.saved_model.load("served/1")
    found = loaded.signatures["serving_default"](**{k: tf.constant(v) for k, v in batch.items()})
    want = keras.models.load_model("din.keras")(batch)
    np.testing.assert_allclose(found["output"], want, rtol=1e-5)

    assert code_of("export din.keras served/1") == 2
    assert "served/1 is there already" in capsys.readouterr().err


def test_onnx_and_json(capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    assert code_of("export din.keras din.onnx --format onnx --no-validate --json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["format"] == "onnx"
    assert report["max_difference"] is None
    import onnxruntime

    session = onnxruntime.InferenceSession("din.onnx")
    axes = {each.name: each.shape for each in session.get_inputs()}
    assert axes == {"item": ["batch"], "seen": ["batch", 5]}


_FOREIGN = """
import sys
import tensorflow as tf
keras = tf.keras

@keras.utils.register_keras_serializable(package="other")
class Theirs(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2

x = keras.Input((3,))
keras.Model(x, Theirs()(x)).save("theirs.keras")
"""

MISTAKES = {
    "export": "IN.keras, OUT",
    "export din.keras": "OUT",
    "export nope.keras out": "there is no model at nope.keras",
    "export truncated.keras out": "truncated.keras is no whole .keras file",
    "export empty.keras out": "empty.keras is no whole .keras file",
    "export theirs.keras out": "is of a package that is not imported here",
    "export din.keras taken": "taken is there already",
    "export din.keras din.keras/out": "cannot be written",
    "export din.keras out --format tflite": "invalid choice: 'tflite'",
    "export din.keras out --format onnx": 'pip install "recops[onnx]"',
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_code_2(line, tmp_path, monkeypatch, capsys):
    whole = (tmp_path / "din.keras").read_bytes()
    (tmp_path / "truncated.keras").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.keras").write_bytes(b"")
    (tmp_path / "taken").mkdir()
    if "theirs" in line:
        subprocess.run([sys.executable, "-c", _FOREIGN], check=True, env={**os.environ})
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert code_of(line) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("recops")
    assert MISTAKES[line] in said.err
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refused)
    assert code_of("export din.keras new/out --no-validate") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "new/out cannot be written" in said
    assert not (tmp_path / "new").exists()
