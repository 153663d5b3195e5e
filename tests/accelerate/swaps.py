"""What the tests of swaps share: a layer and its replacement side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import compat
from recops.accelerate import registry


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def randomize(layer: Any) -> None:
    """Weights at which every term of the formula counts."""
    rng = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    for weight in layer.non_trainable_weights:
        if "float" in str(weight.dtype):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))


def replaced(layer: Any, inputs: Any) -> registry.Replacement:
    """What stands in for a layer, with its weights."""
    shapes = tf.nest.map_structure(lambda x: (None, *x.shape[1:]), inputs)
    found = registry.find(layer)
    assert found is not None
    made = found.replace(layer, shapes)
    for weight, old, arrange in made.carried:
        weight.assign(arrange([np.asarray(one) for one in old]))
    return made


def step(layer: Any, inputs: Any, jit: bool, **call: Any) -> dict[str, Any]:
    """Outputs, penalty, and gradients of the trainable weights and the float inputs."""
    weights = layer.trainable_weights
    taken = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    floats = [x for x in tf.nest.flatten(taken) if x.dtype.is_floating]

    @tf.function(jit_compile=jit)
    def run(taken: Any) -> Any:
        floats = [x for x in tf.nest.flatten(taken) if x.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(floats)
            out = tf.nest.flatten(layer(taken, **call))
            penalty = tf.add_n([tf.zeros([]), *layer.losses])
            total = penalty + tf.add_n([tf.reduce_sum(y * drawn(*y.shape)) for y in out])
        return out, penalty, tape.gradient(total, [compat.variable(w) for w in weights] + floats)

    out, penalty, gradients = run(taken)
    assert len(gradients) == len(weights) + len(floats)
    of_weights = {id(w): tf.convert_to_tensor(g) for w, g in zip(weights, gradients)}
    return {"out": out, "penalty": penalty, "weights": of_weights, "in": gradients[len(weights) :]}


def close(ours: Any, theirs: Any) -> None:
    assert ours.shape == theirs.shape
    largest = float(np.abs(theirs).max(initial=0))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(largest, 1e-3))


def same(old: Any, inputs: Any, jit: bool = False, without: Any = (), **call: Any) -> Any:
    """Check that the replacement does what the layer does; `without`: weights that it lacks."""
    tensors = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    old(tensors, **call)
    randomize(old)
    new, carried = replaced(old, inputs)
    assert new.name == old.name
    theirs, ours = step(old, inputs, jit, **call), step(new, inputs, jit, **call)
    for a, b in zip(ours["out"], theirs["out"], strict=True):
        close(a, b)
    close(ours["penalty"], theirs["penalty"])
    for a, b in zip(ours["in"], theirs["in"], strict=True):
        close(a, b)
    trained = {id(weight) for weight in new.trainable_weights}
    seen: set[int] = set()
    for weight, before, arrange in carried:
        seen |= {id(one) for one in before}
        if id(weight) in trained:
            gradients = [np.asarray(theirs["weights"][id(one)]) for one in before]
            close(ours["weights"].pop(id(weight)), arrange(gradients))
    assert not ours["weights"], "a weight of the new layer comes from nowhere"
    # Keras 2 names a weight by its whole path: "attention/bias:0".
    lost = [
        w.name.split("/")[-1].removesuffix(":0") for w in old.trainable_weights if id(w) not in seen
    ]
    assert sorted(lost) == sorted(without)
    assert new(tensors, **call) is not None
    return new
