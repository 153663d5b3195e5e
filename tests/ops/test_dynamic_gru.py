"""GRU forms: equal to Keras, limits of the attention score, masks, edges, and error texts."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops._core import compat
from recops.ops.dynamic_gru.api import recurrence
from recops.ops.dynamic_gru.options import Options

BACKENDS = ("cpp", "xla", "reference")
B, T, D, H = 3, 5, 2, 4


def _weights(bias_rows: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        "x": (B, T, D),
        "kernel": (D, 3 * H),
        "recurrent_kernel": (H, 3 * H),
        "bias": (3 * H,) if bias_rows == 1 else (2, 3 * H),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


TAIL = np.arange(T) < np.array([[2], [5], [1]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("mask", [None, TAIL, TAIL[:, ::-1]], ids=["none", "tail", "head"])
def test_equals_the_keras_layer_weight_for_weight(
    backend: str, reset_after: bool, go_backwards: bool, mask: np.ndarray | None
) -> None:
    given = _weights(2 if reset_after else 1)
    layer = compat.keras.layers.GRU(
        H,
        return_sequences=True,
        return_state=True,
        reset_after=reset_after,
        go_backwards=go_backwards,
    )
    layer.build((None, T, D))
    layer.set_weights([given[n] for n in ("kernel", "recurrent_kernel", "bias")])
    want = layer(given["x"], mask=None if mask is None else tf.constant(mask.copy()))
    got = ops.dynamic_gru(
        **given,
        mask=None if mask is None else mask.copy(),
        reset_after=reset_after,
        go_backwards=go_backwards,
        backend=backend,
    )
    for g, w in zip(got, want):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_limits_of_the_attention_score(backend: str) -> None:
    given = _weights()
    state = np.random.default_rng(1).normal(size=(B, H)).astype(np.float32)
    ones, zeros = np.ones((B, T), np.float32), np.zeros((B, T), np.float32)

    def last(**options: object) -> np.ndarray:
        return ops.dynamic_gru(**given, initial_state=state, backend=backend, **options)[1].numpy()

    gru = last()
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(last(gru_type="augru", attention=ones), gru, **close)
    np.testing.assert_allclose(last(gru_type="augru", attention=zeros), state, **close)
    alibaba = {"gru_type": "augru", "augru_form": "alibaba"}
    np.testing.assert_allclose(last(**alibaba, attention=zeros), gru, **close)
    np.testing.assert_allclose(last(gru_type="agru", attention=zeros), state, **close)
    candidate = last(gru_type="agru", attention=ones)
    np.testing.assert_allclose(last(**alibaba, attention=ones), candidate, **close)
    np.testing.assert_allclose(last(gru_type="aigru", attention=ones), gru, **close)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gru_type", ["aigru", "augru"])
@pytest.mark.parametrize("jit", [False, True])
def test_nan_under_the_mask_changes_nothing(backend: str, gru_type: str, jit: bool) -> None:
    given = _weights()
    mask = np.array(
        [[True, False, True, True, False], [False] * T, [False, False, True, False, True]]
    )
    score = np.random.default_rng(2).uniform(size=(B, T)).astype(np.float32)

    def step(x: tf.Tensor, a: tf.Tensor) -> list[tf.Tensor]:
        rest = [tf.constant(given[n]) for n in ("kernel", "recurrent_kernel", "bias")]
        with tf.GradientTape() as tape:
            tape.watch([x, a, *rest])
            outputs, last = ops.dynamic_gru(
                x, *rest, attention=a, mask=mask, gru_type=gru_type, backend=backend
            )
            total = tf.reduce_sum(outputs**2) + tf.reduce_sum(last)
        return [outputs, last, *tape.gradient(total, [x, a, *rest])]

    run = tf.function(step, jit_compile=jit)
    clean = run(tf.constant(given["x"]), tf.constant(score))
    dirty_x = np.where(mask[..., None], given["x"], np.nan).astype(np.float32)
    dirty = run(tf.constant(dirty_x), tf.constant(np.where(mask, score, np.nan).astype(np.float32)))
    for c, d in zip(clean, dirty):
        np.testing.assert_array_equal(c, d)
    assert not clean[0].numpy()[1].any()
    assert not clean[2].numpy()[~mask].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_at_masked_steps(backend: str) -> None:
    given = _weights()
    mask = np.array([[False, True, False, True, False]] * B)
    state = np.ones((B, H), np.float32)
    shown, last = ops.dynamic_gru(**given, mask=mask, initial_state=state, backend=backend)
    zero, _ = ops.dynamic_gru(
        **given, mask=mask, initial_state=state, zero_output_for_mask=True, backend=backend
    )
    assert not shown.numpy()[:, 0].any()
    np.testing.assert_array_equal(shown[:, 2], shown[:, 1])
    np.testing.assert_array_equal(shown[:, 4], last)
    np.testing.assert_array_equal(zero.numpy(), np.where(mask[..., None], shown.numpy(), 0))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("batch", "steps"), [(0, 3), (2, 1), (2, 0)])
def test_empty_and_single(backend: str, batch: int, steps: int) -> None:
    given = _weights()
    given["x"] = np.ones((batch, steps, D), np.float32)
    outputs, last = ops.dynamic_gru(**given, backend=backend)
    assert outputs.shape == (batch, steps, H)
    assert last.shape == (batch, H)


# The native kernel packs the kept steps of blocks of rows: more rows than a block, rows of any
# number of steps, and states and inputs that fill no vector, or several.
@pytest.mark.parametrize(
    ("batch", "steps", "width", "units"), [(70, 9, 5, 3), (33, 7, 16, 32), (5, 4, 19, 17)]
)
@pytest.mark.parametrize(
    "options",
    [
        {"gru_type": "gru", "zero_output_for_mask": True},
        {"gru_type": "gru", "reset_after": True},
        {"gru_type": "aigru", "go_backwards": True, "reset_after": True},
        {"gru_type": "agru"},
        {"gru_type": "augru", "go_backwards": True},
        {"gru_type": "augru", "augru_form": "alibaba", "reset_after": True},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_native_gradients_in_all_forms(
    batch: int, steps: int, width: int, units: int, options: dict[str, object]
) -> None:
    rng = np.random.default_rng(3)
    mask = rng.uniform(size=(batch, steps)) < rng.uniform(size=(batch, 1))
    mask[0] = False
    mask[1] = True
    score = rng.uniform(-0.2, 1.2, size=(batch, steps))
    given = {
        "x": np.where(mask[..., None], rng.normal(size=(batch, steps, width)), np.nan),
        "kernel": rng.normal(size=(width, 3 * units)) / np.sqrt(width),
        "recurrent_kernel": rng.normal(size=(units, 3 * units)) / np.sqrt(units),
        "bias": rng.normal(size=(2, 3 * units) if options.get("reset_after") else 3 * units),
        "initial_state": rng.normal(size=(batch, units)),
        **({} if options["gru_type"] == "gru" else {"attention": np.where(mask, score, np.nan)}),
    }
    cotangents = rng.normal(size=(batch, steps, units)), rng.normal(size=(batch, units))

    def run(backend: str) -> list[tf.Tensor]:
        tensors = {name: tf.constant(value) for name, value in given.items()}
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            results = ops.dynamic_gru(**tensors, mask=mask, **options, backend=backend)
            total = tf.add_n([tf.reduce_sum(r * c) for r, c in zip(results, cotangents)])
        gradients = tape.gradient(total, tensors)
        return [*results, *(gradients[name] for name in sorted(gradients))]

    for got, want in zip(run("cpp"), run("reference")):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)


def test_native_rows_do_not_depend_on_their_neighbours() -> None:
    given = _weights()
    given["x"] = np.random.default_rng(4).normal(size=(50, T, D)).astype(np.float32)
    mask = np.random.default_rng(5).uniform(size=(50, T)) < 0.7
    full = ops.dynamic_gru(**given, mask=mask, backend="cpp")
    for rows in (slice(0, 1), slice(7, 9), slice(20, 33)):
        part = {**given, "x": given["x"][rows]}
        for got, want in zip(ops.dynamic_gru(**part, mask=mask[rows], backend="cpp"), full):
            np.testing.assert_array_equal(got, want[rows])


@pytest.mark.parametrize("backend", ["cpp", "xla"])
def test_unknown_batch_and_steps_from_one_trace(backend: str) -> None:
    given = _weights()
    x = given.pop("x")
    traced = tf.function(
        lambda x: ops.dynamic_gru(x, **given, backend=backend)[0],
        input_signature=[tf.TensorSpec((None, None, D))],
    )
    full = traced(x).numpy()
    np.testing.assert_allclose(traced(x[:2, :3]), full[:2, :3], rtol=1e-5, atol=1e-6)


def test_the_loop_is_not_unrolled() -> None:
    given = {name: tf.constant(value) for name, value in _weights().items()}

    def step(x: tf.Tensor) -> tf.Tensor:
        rest = {name: value for name, value in given.items() if name != "x"}
        outputs, _ = ops.dynamic_gru(x, **rest, backend="xla")
        return tf.gradients(outputs, [x])[0]

    text = tf.function(step, jit_compile=True).experimental_get_compiler_ir(given["x"])(stage="hlo")
    assert text.count(" while(") == 2
    assert text.count("tanh(") < T


@pytest.mark.parametrize("mode", ["eager", "graph", "jit"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_forward_without_a_record_has_the_same_bits_and_gradients(mode: str, dtype: str) -> None:
    given = [tf.cast(array, dtype) for array in _weights().values()]

    def step(record: bool) -> list[tf.Tensor]:
        options = Options("gru", "paper", False, False, False, record=record)
        with tf.GradientTape() as tape:
            tape.watch(given)
            results = recurrence(*given, None, tf.constant(TAIL), None, options, backend="cpp")
            loss = tf.add_n([tf.reduce_sum(result**2) for result in results])
        return [*results, *tape.gradient(loss, given)]

    run = step if mode == "eager" else tf.function(step, jit_compile=mode == "jit")
    for got, want in zip(run(False), run(True)):
        np.testing.assert_array_equal(got, want)


def test_wrong_arguments_are_named() -> None:
    given = _weights()
    with pytest.raises(ValueError, match=r"kernel must have shape \[2, 12\], got \[3, 12\]"):
        ops.dynamic_gru(**{**given, "kernel": np.ones((3, 12), np.float32)})
    with pytest.raises(
        ValueError, match=r"recurrent_kernel must have shape \[4, 12\], got \[4, 8\]"
    ):
        ops.dynamic_gru(**{**given, "recurrent_kernel": np.ones((4, 8), np.float32)})
    with pytest.raises(ValueError, match=r"bias must have shape \[2, 12\], got \[12\]"):
        ops.dynamic_gru(**given, reset_after=True)
    with pytest.raises(
        ValueError, match=rf"initial_state must have shape \[{B}, 4\], got \[1, 4\]"
    ):
        ops.dynamic_gru(**given, initial_state=np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match="gru_type 'augru' without attention"):
        ops.dynamic_gru(**given, gru_type="augru")
    with pytest.raises(ValueError, match="gru_type 'gru' with attention"):
        ops.dynamic_gru(**given, attention=np.ones((B, T), np.float32))
    with pytest.raises(
        ValueError, match="gru_type must be one of gru, aigru, agru, augru, got 'lstm'"
    ):
        ops.dynamic_gru(**given, gru_type="lstm")
    with pytest.raises(ValueError, match=r"mask must have shape \[3, 5\], got \[3, 4\]"):
        ops.dynamic_gru(**given, mask=np.ones((B, T - 1), bool))
