"""Exported programs beside the live models: what is in them, and what they give elsewhere."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops._core import native
from recops._core.compat import keras
from recops.export import comparing, probe, programs
from recops.export.served import served
from recops.features import DenseFeature, SequenceFeature, SparseFeature
from recops.models import CATALOGUE, DIN, FM, Transformer, YoutubeDNNRetrieval
from tests.models import planted_retrieval
from tests.models.planted import SMALL, features_of

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnx", "onnxruntime"))
FORMATS = [
    "saved_model",
    pytest.param("onnx", marks=pytest.mark.skipif(not HAS_ONNX, reason="no tf2onnx")),
]
onnx_only = pytest.mark.skipif(not HAS_ONNX, reason="recops[onnx] is not installed")


def small(name: str) -> Any:
    """A model of the catalogue, as small as they come."""
    if name == "Transformer":
        return Transformer(9, 7, d_model=8, layers=1, heads=2, dff=16, max_length=5, seed=1)
    if name == "YoutubeDNNRetrieval":
        return YoutubeDNNRetrieval(planted_retrieval.FEATURES, seed=1)
    return CATALOGUE[name].build(features_of(name), seed=1, **SMALL[name])


@pytest.fixture(scope="module", params=FORMATS)
def exported(
    request: Any, tmp_path_factory: Any
) -> tuple[str, Path, dict[str, Any], dict[str, Any]]:
    """Every model of the catalogue in one format, not compared yet."""
    folder = tmp_path_factory.mktemp(request.param)
    models = {name: small(name) for name in CATALOGUE}
    reports = {
        name: recops.export(model, folder / name, format=request.param, validate=False)
        for name, model in models.items()
    }
    return request.param, folder, models, reports


def test_every_model_gives_the_same_in_a_process_without_recops(exported: Any) -> None:
    format_, folder, models, _ = exported
    jobs, want = [], []
    for name, model in models.items():
        made = served(model)
        batch = probe.draw(made.reads, made.largest)
        one = {n: v[:1] if v.ndim else v for n, v in batch.items()}
        want.append([comparing.live(made, each) for each in (batch, one)])
        read = [{n: each[n] for n in made.inputs} for each in (batch, one)]
        jobs.append((format_, folder / name, read))
    apart = {
        name: max(map(comparing.difference, expected, got))
        for name, expected, got in zip(models, want, comparing.elsewhere(jobs))
    }
    assert max(apart.values()) <= 1e-5, apart
    # A comparison of constants would pass as well.
    for name, (outputs, _) in zip(models, want):
        assert all(np.ptp(value.astype(float)) > 0 for value in outputs.values()), name


def test_programs_hold_nothing_of_training_nor_of_recops(exported: Any) -> None:
    _, _, models, reports = exported
    for name, report in reports.items():
        assert report.max_difference is None
        foreign = [op for op in report.ops if op.startswith(("Recops", "Xla")) or "Random" in op]
        assert not foreign, name
        # No sampler, no auxiliary loss, no gradient.
        assert not [op for op in report.ops if "CandidateSampler" in op or op.endswith("Grad")], (
            name
        )
        assert set(report.outputs) == {
            "YoutubeDNNRetrieval": {"user_vector"}, "Transformer": {"ids"}
        }.get(name, {"output"})  # fmt: skip
    assert "negatives" in models["DIEN"].input
    assert set(reports["DIEN"].inputs) == set(models["DIEN"].input) - {"negatives"}
    assert "item" not in reports["YoutubeDNNRetrieval"].inputs
    assert reports["Transformer"].inputs["start"] == "[] int32"
    assert reports["DIN"].inputs["history"] == "[B, 4] int32"


def _signature(folder: Path) -> Any:
    loaded = tf.saved_model.load(str(folder))
    program = loaded.signatures["serving_default"]
    program.keeps = loaded
    return program


def din(**options: Any) -> Any:
    item = SparseFeature("item", 30, 4)
    seen = SequenceFeature("seen", 30, 6, 4, target="item")
    return DIN([item, seen], attention_units=[8], hidden_units=[8], seed=1, **options)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_report_of_what_was_compared(format_: str, tmp_path: Path) -> None:
    report = recops.export(din(), tmp_path / "new" / "1", format=format_)
    assert 0 <= report.max_difference <= report.tolerance == 1e-5
    assert report.inputs == {"item": "[B] int32", "seen": "[B, 6] int32"}
    assert report.bytes > 1000
    said = str(report)
    assert "5 and 1 rows" in said
    assert "seen [B, 6] int32" in said
    assert report.to_dict()["format"] == format_
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["1"]


def test_a_backend_that_layers_name_is_not_in_the_program(tmp_path: Path) -> None:
    report = recops.export(din(backend="xla"), tmp_path / "1")
    assert not [op for op in report.ops if "Xla" in op]
    with recops.backend("xla"):
        recops.export(din(), tmp_path / "2", validate=False)
    program = _signature(tmp_path / "2")
    assert not [
        n for f in program.graph.as_graph_def().library.function for n in f.attr if "Xla" in n
    ]


@pytest.mark.parametrize(("backend", "op"), [("cpp", "Recops>"), ("xla", "jit_compile=True")])
def test_ops_of_recops_and_xla_are_found_in_a_program(backend: str, op: str) -> None:
    if backend == "cpp" and native.why_not():
        pytest.skip(native.why_not())
    step = tf.function(lambda x: recops.ops.fm_interaction(x, backend=backend), autograph=False)
    program = step.get_concrete_function(tf.TensorSpec([None, 3, 4]))
    with pytest.raises(ValueError, match=op):
        programs.refuse_foreign("FM", program)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_outputs_are_float32_under_every_policy(policy: str, tmp_path: Path) -> None:
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = din()
        x = keras.Input((3,), name="x")
        plain = keras.Model(x, keras.layers.Dense(2, "relu")(x))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert recops.export(model, tmp_path / "1").max_difference > 0
    report = recops.export(plain, tmp_path / "2")
    assert report.outputs == {"output": "[B, 2] float32"}
    assert report.tolerance > 1e-3


@onnx_only
def test_onnx_refuses_16_bit_by_the_name_of_the_layer(tmp_path: Path) -> None:
    x = keras.Input((3,), name="x")
    narrow = keras.layers.Dense(2, dtype="mixed_bfloat16", name="narrow")
    with pytest.raises(ValueError, match=r"narrow of .* computes in bfloat16"):
        recops.export(keras.Model(x, narrow(x)), tmp_path / "m.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


def test_an_id_without_a_row_is_named_where_the_program_runs(tmp_path: Path) -> None:
    recops.export(din(), tmp_path / "1", validate=False)
    program = _signature(tmp_path / "1")
    seen = tf.constant([[1, 2, 3, 0, 0, 0]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="has no row"):
        program(item=tf.constant([31]), seen=seen)
    assert program(item=tf.constant([30]), seen=seen)["output"].shape == (1, 1)


def test_the_program_has_the_weights_of_when_it_was_written(tmp_path: Path) -> None:
    model = din()
    recops.export(model, tmp_path / "1", validate=False)
    batch = {"item": tf.constant([3]), "seen": tf.constant([[1, 2, 3, 0, 0, 0]])}
    before = model(batch).numpy()
    model.set_weights([w + 0.1 for w in model.get_weights()])
    found = _signature(tmp_path / "1")(**batch)["output"]
    np.testing.assert_allclose(found, before, rtol=1e-5)
    assert abs(model(batch).numpy() - before) > 1e-4


def test_a_trained_model_with_dropout_and_batch_normalization(tmp_path: Path) -> None:
    features = [SparseFeature("a", 9, 4), SparseFeature("b", 9, 4), DenseFeature("c", 2)]
    model = CATALOGUE["DeepFM"].build(
        features, hidden_units=[8], dropout=0.5, l2_embedding=1e-3, l2_embedding_rows="batch"
    )
    rng = np.random.default_rng(0)
    batch = {n: rng.integers(1, 10, 64) for n in "ab"} | {"c": rng.normal(size=(64, 2))}
    model.compile("adam", "binary_crossentropy", jit_compile=False)
    model.fit(batch, rng.integers(0, 2, (64, 1)), verbose=0)
    report = recops.export(model, tmp_path / "1", validate=batch)
    assert report.max_difference <= 1e-5
    assert report.probe == "64 and 1 rows"
    # It trains on as before.
    model.fit(batch, rng.integers(0, 2, (64, 1)), verbose=0)


class Custom(keras.Model):
    """Not functional: what it takes is what it was called with."""

    def __init__(self) -> None:
        super().__init__(name="custom")
        self.dense = keras.layers.Dense(2, name="dense")

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


def _stock(kind: str) -> Any:
    layers = keras.layers
    a, b = keras.Input((3,), name="a"), keras.Input((4,), name="b", dtype="int64")
    if kind == "sequential":
        return keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dropout(0.5)])
    if kind == "list":
        pooled = layers.GlobalAveragePooling1D()(layers.Embedding(20, 5, mask_zero=True)(b))
        return keras.Model([a, b], [layers.Concatenate()([a, pooled]), layers.Dense(1)(a)])
    if kind == "recurrent":
        x = layers.Embedding(20, 6, mask_zero=True)(b)
        return keras.Model(b, layers.Dense(1)(layers.GRU(5)(x)))
    if kind == "nested":
        inner = keras.Model(a, layers.Dense(3, "relu")(a), name="inner")
        return keras.Model({"first": a}, {"twice": inner(inner(a)), "once": inner(a)})
    model = Custom()
    model(tf.zeros([2, 3]))
    return model


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", ["sequential", "list", "recurrent", "nested", "custom"])
def test_stock_models(kind: str, format_: str, tmp_path: Path) -> None:
    report = recops.export(_stock(kind), tmp_path / "1", format=format_)
    assert report.max_difference <= 1e-5
    if kind == "list":
        assert report.inputs == {"a": "[B, 3] float32", "b": "[B, 4] int64"}
        assert list(report.outputs) == ["output_0", "output_1"]
    if kind == "nested":
        assert list(report.inputs) == ["first"]
        assert sorted(report.outputs) == ["once", "twice"]


def test_a_model_of_strings_keeps_its_vocabulary(tmp_path: Path) -> None:
    word = keras.Input((), name="word", dtype="string")
    found = keras.layers.StringLookup(vocabulary=["a", "b", "c"])(word)
    model = keras.Model(word, keras.layers.Embedding(4, 2)(found))
    batch = {"word": np.array([b"a", b"c", b"nothing"])}
    assert recops.export(model, tmp_path / "1", validate=batch).max_difference == 0


def test_a_signature_gives_names_shapes_and_dtypes(tmp_path: Path) -> None:
    model = FM([SparseFeature("user", 9, 4), SparseFeature("item", 9, 4)])
    wide = {name: tf.TensorSpec([None], tf.int64) for name in ("user", "item")}
    report = recops.export(model, tmp_path / "1", signature=wide)
    assert report.inputs == {"item": "[B] int64", "user": "[B] int64"}
    with pytest.raises(ValueError, match="no others; got a signature"):
        recops.export(small("Transformer"), tmp_path / "2", signature=wide)


def test_names_that_are_no_identifiers(tmp_path: Path) -> None:
    model = FM([SparseFeature("user id", 9, 4), SparseFeature("2nd.item", 9, 4)])
    with pytest.raises(ValueError, match="the input 'user id' of FM needs a name of its own"):
        recops.export(model, tmp_path / "1")
    specs = {
        "user id": tf.TensorSpec([None], tf.int32, "user_id"),
        "2nd.item": tf.TensorSpec([None], tf.int32),
    }
    batch = {"user id": np.array([1, 9]), "2nd.item": np.array([3, 0])}
    report = recops.export(model, tmp_path / "1", signature=specs, validate=batch)
    assert set(report.inputs) == {"user_id", "2nd.item"}


def _python(x: Any) -> Any:
    return tf.ensure_shape(tf.numpy_function(lambda a: a + 1, [x], tf.float32), [None, 3])


def _compiled(x: Any) -> Any:
    return tf.function(lambda a: a + 1, jit_compile=True)(x)


class Odd(keras.layers.Layer):
    """Calls what no server has."""

    def __init__(self, function: Any, **options: Any) -> None:
        super().__init__(**options)
        self.function = function

    def call(self, inputs: Any) -> Any:
        return self.function(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@pytest.mark.parametrize(
    ("function", "said"),
    [(_python, "calls a Python function"), (_compiled, "jit_compile=True")],
)
def test_what_no_server_has_is_refused(function: Any, said: str, tmp_path: Path) -> None:
    x = keras.Input((3,), name="x")
    model = keras.Model(x, Odd(function, name="odd")(x))
    with pytest.raises(ValueError, match=said):
        recops.export(model, tmp_path / "1")
    assert not list(tmp_path.iterdir())


@onnx_only
def test_what_onnx_has_no_op_for_is_refused_by_name(tmp_path: Path) -> None:
    x = keras.Input((3,), name="x")
    model = keras.Model(x, Odd(tf.math.bessel_i0e, name="bessel")(x))
    with pytest.raises(ValueError, match=r"BesselI0e, which the layer 'bessel' of"):
        recops.export(model, tmp_path / "m.onnx", format="onnx")
    assert not list(tmp_path.iterdir())
    assert recops.export(model, tmp_path / "1").max_difference <= 1e-5


class Rising(keras.layers.Layer):
    """Gives more with every trace, so that a program is not what the model is."""

    def __init__(self) -> None:
        super().__init__(name="rising")
        self.times = 0

    def call(self, inputs: Any) -> Any:
        self.times += 1
        return inputs + float(self.times)


def test_a_program_that_differs_is_not_written(tmp_path: Path) -> None:
    x = keras.Input((3,), name="x")
    model = keras.Model(x, Rising()(x))
    with pytest.raises(ValueError, match="away from the live model, more than 1e-05"):
        recops.export(model, tmp_path / "deep" / "1")
    assert not list(tmp_path.iterdir())


def test_mistakes_are_said_before_anything_is_written(tmp_path: Path) -> None:
    model = FM([SparseFeature("user", 9, 4), SparseFeature("item", 9, 4)])
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("mine")
    unbuilt = keras.Sequential([keras.layers.Dense(2)])
    subclass = Custom()
    subclass.built = True
    for call, error, said in (
        (
            lambda: recops.export(model, tmp_path / "1", format="tflite"),
            ValueError,
            "saved_model, onnx",
        ),
        (lambda: recops.export(model, tmp_path / "taken"), FileExistsError, "is there already"),
        (lambda: recops.export(model, tmp_path / "file" / "1"), OSError, "cannot be written"),
        (lambda: recops.export(unbuilt, tmp_path / "1"), ValueError, "has no weights yet"),
        (lambda: recops.export(subclass, tmp_path / "1"), ValueError, "is no functional model"),
        (lambda: recops.export("model", tmp_path / "1"), ValueError, "got str"),
        (
            lambda: recops.export(model, tmp_path / "1", validate={"user": [1]}),
            ValueError,
            "1 of 2",
        ),
    ):
        with pytest.raises(error, match=said):
            call()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken"]


def test_without_the_exporter_the_extra_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(
        ImportError, match=r'tf2onnx is not installed: pip install "recops\[onnx\]"'
    ):
        recops.export(din(), tmp_path / "m.onnx", format="onnx")


def test_the_fresh_process_cannot_import_recops(tmp_path: Path) -> None:
    source = Path(comparing.fresh.__file__).read_text(encoding="utf-8")
    asked = source.replace("    formats = {", "    import recops\n    formats = {")
    done = subprocess.run(
        [sys.executable, "-c", asked],
        input="[]",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "recops is not there where this program runs" in done.stderr
