"""What every layer must do, generated from `specs.SPECS`."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops import layers
from recops._core.compat import keras
from tests.layers.specs import GROUPS, SPECS, keras_inputs, together

POLICIES = {"float32": 1e-5, "mixed_bfloat16": 6e-2, "mixed_float16": 8e-3}

each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


def plain(tensor):
    return tf.cast(tensor, tf.float64).numpy()


def close(got, want, tolerance):
    tf.nest.assert_same_structure(got, want)
    for mine, wanted in zip(tf.nest.flatten(got), tf.nest.flatten(want)):
        mine, wanted = plain(mine), plain(wanted)
        assert mine.shape == wanted.shape
        atol = tolerance * max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(mine, wanted, atol=atol, rtol=0)


def rng():
    return np.random.default_rng(3)


def test_every_public_layer_has_a_spec():
    made = {type(spec.make()).__name__ for spec in SPECS}
    assert made == set(layers.__all__)


@each_spec
def test_config_round_trip(spec):
    layer = spec.make(name="some", dtype="mixed_bfloat16", backend="reference")
    config = layer.get_config()
    json.dumps(config)
    again = type(layer).from_config(config)
    assert again.get_config() == config
    assert (again.name, again.backend, again.compute_dtype) == ("some", "reference", "bfloat16")
    x = spec.inputs(rng())
    spec.call(layer, x), spec.call(again, x)
    assert [w.shape for w in again.weights] == [w.shape for w in layer.weights]


@each_spec
def test_symbolic_shape_is_the_real_shape(spec):
    x = spec.inputs(rng())
    layer = spec.make()
    symbolic = spec.call(layer, keras_inputs(x))
    real = spec.call(layer, x)
    tf.nest.assert_same_structure(symbolic, real)
    for symbol, tensor in zip(tf.nest.flatten(symbolic), tf.nest.flatten(real)):
        assert tuple(symbol.shape) == (None, *tensor.shape[1:])
        assert tf.as_dtype(symbol.dtype) == tensor.dtype


@each_spec
def test_layer_is_its_op(spec):
    x = spec.inputs(rng())
    layer = spec.make()
    close(spec.call(layer, x), spec.expected(layer, x), 1e-5)


@each_spec
@pytest.mark.parametrize("policy", POLICIES)
def test_dtype_policy(spec, policy):
    x = spec.inputs(rng())
    layer = spec.make(dtype=policy)
    y = spec.call(layer, x)
    assert layer.compute_dtype == policy.removeprefix("mixed_")
    dtypes = {"float32"} if spec.wide else {layer.compute_dtype, "bool"}
    assert {t.dtype.name for t in tf.nest.flatten(y)} <= dtypes
    assert all(tf.as_dtype(w.dtype) == tf.float32 for w in layer.trainable_weights)
    close(y, spec.expected(layer, x), POLICIES[policy])


@each_spec
@pytest.mark.parametrize("backend", ["xla", "auto"])  # "auto" is `cpp` on a CPU.
def test_backends_agree_and_an_unknown_one_raises(spec, backend):
    x = spec.inputs(rng())
    reference, fast = spec.make(backend="reference"), spec.make(backend=backend)
    y = spec.call(reference, x)
    spec.call(fast, x)
    fast.set_weights(reference.get_weights())
    close(spec.call(fast, x), y, 1e-5)
    with pytest.raises(ValueError, match="auto, cpp, xla, reference"):
        spec.make(backend="cuda")


@each_spec
@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_the_backend_that_was_asked_for_runs(spec, backend):
    x = spec.inputs(rng())
    layer = spec.make(backend=backend)
    spec.call(layer, x)
    graph = tf.function(functools.partial(spec.call, layer)).get_concrete_function(x).graph
    names = " ".join(op.name for op in graph.get_operations())
    scopes = set(re.findall(r"recops\.\w+\.[a-z]+", names))
    assert bool(scopes) == spec.runs_op
    assert {scope.split(".")[-1] for scope in scopes} <= {backend}


@pytest.mark.parametrize("spec", [s for s in SPECS if s.masked], ids=lambda spec: spec.name)
def test_what_is_masked_changes_nothing_kept(spec):
    x = spec.inputs(rng())
    mask = np.arange(x.shape[1])[None] < np.array([1, 2, 3, 4, 5, 3])[:, None]
    other = x.copy()
    other[~mask] = 9 if x.dtype.kind == "i" else np.nan
    layer = spec.make()
    kept = mask if x.ndim == 3 else slice(None)
    y = plain(spec.masked(layer, x, tf.constant(mask)))[kept]
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(plain(spec.masked(layer, other, tf.constant(mask)))[kept], y)
    # Without the mask the same change is seen, or this test could not fail.
    assert not np.array_equal(plain(spec.call(layer, other)), plain(spec.call(layer, x)))


@pytest.mark.parametrize("group", GROUPS)
def test_one_fit_step_jit_on_and_off(group):
    """All layers of a group in one model, from the same weights."""
    model, arrays = together(GROUPS[group])
    start = model.get_weights()
    target = np.ones((6, model.output_shape[1]), np.float32)
    steps = {}
    for jit in (False, True):
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
        history = model.fit(arrays, target, batch_size=6, epochs=1, shuffle=False, verbose=0)
        steps[jit] = (history.history["loss"][0], model.get_weights())
    (loss, weights), (jit_loss, jit_weights) = steps[False], steps[True]
    assert np.isfinite(loss)
    assert jit_loss == pytest.approx(loss, rel=1e-5)
    named = zip(model.weights, start, weights, jit_weights)
    for weight, before, after, after_jit in named:
        np.testing.assert_allclose(after_jit, after, atol=1e-5, err_msg=str(weight))
        # A step moves every float weight but what was counted; the seeds of dropout are the
        # integers. One number for all keys, such as a bias of theirs, is nothing to a softmax.
        path = (getattr(weight, "path", None) or weight.name).removesuffix(":0")
        still = after.dtype.kind != "f" or path.endswith(("/key/bias", "/counts"))
        assert still or not np.array_equal(before, after), weight


_RELOAD = """
import sys
from pathlib import Path
import numpy as np
import recops
import tensorflow as tf
for path in Path(sys.argv[1]).glob("*.keras"):
    model = tf.keras.models.load_model(path)
    arrays = dict(np.load(path.with_suffix(".npz")))
    expected = arrays.pop("expected")
    np.testing.assert_allclose(model(arrays), expected, atol=1e-6, err_msg=path.stem)
    print(path.stem)
"""


def test_reload_in_a_fresh_process(tmp_path):
    for group, specs in GROUPS.items():
        model, arrays = together(specs)
        model.save(tmp_path / f"{group}.keras")
        np.savez(tmp_path / f"{group}.npz", expected=model(arrays), **arrays)
    command = [sys.executable, "-c", _RELOAD, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(done.stdout.split()) == sorted(GROUPS)


def test_the_context_chooses_for_a_layer_without_backend():
    x = np.ones((2, 3, 4), np.float32)
    with recops.backend("reference"):
        fn = tf.function(layers.FM().call).get_concrete_function(x)
    assert any("reference" in op.name for op in fn.graph.get_operations())
