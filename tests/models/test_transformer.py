"""The Transformer is its layers, learns to reverse, decodes with a cache, and reloads."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recops._core.compat import keras
from recops.losses import masked_crossentropy
from recops.models import Transformer
from tests.oracles import transformer as oracle

V, START, END = 8, 7, 8
SMALL = {"d_model": 16, "layers": 1, "heads": 2, "dff": 32, "max_length": 6, "dropout": 0.0}


def reversing(rows, seed=0):
    """Sources of 1 to 4 ids of 1..6, and as targets the same ids backwards."""
    rng = np.random.default_rng(seed)
    source, target = np.zeros((rows, 4), np.int32), np.zeros((rows, 6), np.int32)
    for row, length in enumerate(rng.integers(1, 5, rows)):
        source[row, :length] = rng.integers(1, 7, length)
        target[row, : length + 2] = [START, *source[row, :length][::-1], END]
    return source, target


@pytest.fixture(scope="module")
def trained():
    model = Transformer(V, V, seed=1, **SMALL)
    source, target = reversing(2048)
    model.compile(keras.optimizers.Adam(0.005), masked_crossentropy(), jit_compile=False)
    batch = {"source": source, "target": target[:, :-1]}
    history = model.fit(batch, target[:, 1:], batch_size=128, epochs=12, shuffle=False, verbose=0)
    return model, history.history["loss"]


def test_logits_are_those_of_the_layers():
    model = Transformer(5, V, **{**SMALL, "layers": 2})
    source, target = np.array([[1, 5, 0], [2, 0, 0]]), np.array([[7, 1, 2, 0], [7, 8, 0, 0]])

    def embedded(side, ids):
        table = np.asarray(model.tables[side], np.float64)
        return 4 * table[ids] + oracle.positions(ids.shape[1], 16)

    x = embedded(0, source)
    for encoder in model.encoders:
        x = oracle.block(encoder, x, mask=source != 0)
    y = embedded(1, target)
    for decoder in model.decoders:
        y = oracle.block(decoder, y, x, target != 0, source != 0)
    kernel, bias = oracle.weights_of(model.head)
    logits = model((source, target))
    assert logits.shape == (2, 4, V + 1)
    assert logits.dtype == tf.float32
    kept = target != 0
    np.testing.assert_allclose(logits[kept], (y @ kernel + bias)[kept], atol=1e-4)
    for pair in ([source, target], {"source": source, "target": target}):
        np.testing.assert_array_equal(model(pair), logits)


def test_it_learns_to_reverse(trained):
    model, losses = trained
    assert losses[-1] < 0.1 * losses[0]
    source, target = reversing(128, seed=1)
    assert np.mean((model.generate(source, START, END, 5) == target[:, 1:]).numpy().all(1)) > 0.9


def uncached(model, source, length):
    """Greedy decoding that runs the whole model again for each step."""
    target = np.full((len(source), 1), START)
    ended = np.zeros(len(source), bool)
    for _ in range(length):
        best = 1 + np.argmax(np.asarray(model((source, target)))[:, -1, 1:], axis=-1)
        target = np.concatenate([target, np.where(ended, 0, best)[:, None]], axis=1)
        ended |= best == END
    return target[:, 1:]


def test_decoding_with_a_cache_is_decoding_without(trained):
    source, _ = reversing(16, seed=2)
    for model in (trained[0], Transformer(V, V, seed=5, **{**SMALL, "layers": 2})):
        ids = model.generate(source, START, END)
        assert ids.dtype == tf.int32
        np.testing.assert_array_equal(ids, uncached(model, source, 6))


def test_decoding_ends_with_the_last_row_and_never_pads_within(trained):
    model, _ = trained
    source, _ = reversing(16, seed=3)
    ids = model.generate(source, START, END, 6).numpy()
    for row in ids:
        end = np.flatnonzero(row == END)
        length = end[0] + 1 if len(end) else len(row)
        assert (row[:length] != 0).all()
        assert not row[length:].any()
    always_end = Transformer(V, V, **SMALL)
    always_end.head.set_weights([np.zeros((16, V + 1)), np.eye(V + 1)[END]])
    assert always_end.generate(source, START, END).numpy().tolist() == [[END, 0, 0, 0, 0, 0]] * 16
    never = Transformer(V, V, **SMALL)
    never.head.set_weights([np.zeros((16, V + 1)), 2 * np.eye(V + 1)[0] + np.eye(V + 1)[3]])
    assert never.generate(source, START, END, 3).numpy().tolist() == [[3, 3, 3]] * 16


def test_later_targets_and_padding_change_nothing(trained):
    model, _ = trained
    source, target = reversing(8, seed=4)
    logits = model((source, target)).numpy()
    later = target.copy()
    later[:, 3:] = 5
    np.testing.assert_allclose(model((source, later)).numpy()[:, :3], logits[:, :3], atol=1e-5)
    wider = np.pad(source, [[0, 0], [0, 2]])
    np.testing.assert_allclose(model((wider, target)), logits, atol=1e-4)


def test_a_seed_decides_the_weights():
    one, two, other = (Transformer(V, V, seed=s, **SMALL).get_weights() for s in (1, 1, 2))
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a, b)
    drawn = [np.std(w) > 0 for w in one]
    assert [not np.array_equal(a, c) for a, c in zip(one, other)] == drawn
    values = [float(w.ravel()[0]) for w, d in zip(one, drawn) if d]
    assert len(set(values)) == len(values)


_RELOAD = """
import sys
import numpy as np
import recops
import tensorflow as tf
model = tf.keras.models.load_model(sys.argv[1])
batch = np.load(sys.argv[2])
logits = model((batch["source"], batch["target"]))
np.testing.assert_allclose(logits, batch["logits"], atol=1e-5)
np.testing.assert_array_equal(model.generate(batch["source"], 7, 8), batch["ids"])
"""


def test_reload_in_a_fresh_process(trained, tmp_path):
    model, _ = trained
    source, target = reversing(8, seed=5)
    model.save(tmp_path / "model.keras")
    np.savez(
        tmp_path / "batch.npz",
        source=source,
        target=target,
        logits=model((source, target)),
        ids=model.generate(source, START, END),
    )
    command = [sys.executable, "-c", _RELOAD, tmp_path / "model.keras", tmp_path / "batch.npz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_mixed_precision_in_jit():
    model = Transformer(V, V, dtype="mixed_bfloat16", **SMALL)
    source, target = reversing(4)
    logits = tf.function(lambda s, t: model((s, t)), jit_compile=True)(source, target)
    assert logits.dtype == tf.float32
    assert model.encoders[0].compute_dtype == "bfloat16"
    wide = Transformer(V, V, **SMALL)
    wide.set_weights(model.get_weights())
    np.testing.assert_allclose(logits, wide((source, target)), atol=0.1)
    assert Transformer.from_config(model.get_config()).get_config() == model.get_config()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Transformer(V, V, d_model=10, heads=4), "heads=4 must divide d_model=10"),
        (lambda: Transformer(V, 0), "`target_vocabulary` must be a positive integer, got 0"),
        (lambda: Transformer(V, V, backend="cuda"), "auto, cpp, xla, reference"),
        (lambda: Transformer(V, V, **SMALL).generate(np.ones((1, 2), int), 7, 8, 7), "at most"),
        (lambda: Transformer(V, V, **SMALL)((np.ones((1, 7), int),) * 2), "max_length=6"),
    ],
)
def test_unfit_arguments_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
