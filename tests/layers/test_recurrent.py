"""Recurrent layers: Keras's GRU in every option, DynamicGRU's forms, and BiLSTM under masks."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import layers, ops
from recops._core.compat import KERAS_3, keras, variable
from tests.oracles.bilstm import stacks

B, T, D, H = 3, 4, 2, 3


def arrays():
    rng = np.random.default_rng(0)
    mask = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]], bool)
    x, state = rng.normal(size=(B, T, D)), rng.normal(size=(B, H))
    return x.astype(np.float32), mask, state.astype(np.float32)


def results(layer, x, **kwargs):
    """Outputs, and the gradients of their sum of squares by inputs and weights."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = tf.nest.flatten(layer(x, **kwargs))
        total = tf.add_n([tf.reduce_sum(y * y) for y in outputs])
    gradients = tape.gradient(total, [x, *(variable(w) for w in layer.trainable_weights)])
    return [*outputs, *gradients]


def same_as_keras(options, **kwargs):
    x, mask, state = arrays()
    stock = keras.layers.GRU(H, bias_initializer="random_normal", **options)
    ours = layers.GRU(H, **options)
    stock(x), ours(x)
    assert [w.shape for w in ours.weights] == [w.shape for w in stock.weights]
    ours.set_weights(stock.get_weights())
    given = {"mask": tf.constant(mask), "initial_state": tf.constant(state), **kwargs}
    for names in ((), ("mask",), ("mask", "initial_state")):
        asked = {name: given[name] for name in names} | kwargs
        for got, want in zip(results(ours, x, **asked), results(stock, x, **asked)):
            np.testing.assert_allclose(got, want, atol=2e-6, err_msg=f"{options} {names}")
    return ours


FUSED = [
    {},
    {"return_sequences": True},
    {"return_state": True, "go_backwards": True},
    {"return_sequences": True, "return_state": True, "reset_after": False, "go_backwards": True},
    {"return_sequences": True, "use_bias": False, "unroll": True},
    {"return_sequences": True, "zero_output_for_mask": True, "reset_after": False},
    {"return_state": True, "zero_output_for_mask": True},
    {"return_sequences": True, "dropout": 0.4},
]
STEP_BY_STEP = [
    {"activation": "relu", "return_sequences": True, "return_state": True},
    {"recurrent_activation": "hard_sigmoid", "go_backwards": True, "reset_after": False},
    {"recurrent_dropout": 0.3, "return_sequences": True},
    {"dropout": 0.3, "implementation": 1},
]


@pytest.mark.parametrize("options", FUSED, ids=str)
def test_gru_is_keras_gru(options):
    assert same_as_keras(options).fused


@pytest.mark.parametrize("options", STEP_BY_STEP, ids=str)
def test_what_the_op_cannot_do_runs_step_by_step(options):
    assert not same_as_keras(options).fused


def test_gru_takes_keras_arguments_by_place_and_keeps_them_in_its_config():
    ours = layers.GRU(
        H, "tanh", "sigmoid", False, "he_normal", kernel_regularizer="l2", recurrent_constraint=
        keras.constraints.MaxNorm(2.0), activity_regularizer="l1", dropout=0.1, seed=3,
    )  # fmt: skip
    config = ours.get_config()
    stock = keras.layers.GRU(H, use_bias=False, dropout=0.1, seed=3, kernel_regularizer="l2")
    if KERAS_3:
        assert set(stock.get_config()) <= set(config)
    again = layers.GRU.from_config(config)
    assert again.get_config() == config
    x, _, _ = arrays()
    again(x)
    assert again.cell.recurrent_constraint.max_value == 2.0
    assert type(again.cell.kernel_initializer).__name__ == "HeNormal"
    assert len(again.weights) == 2
    assert sum(float(tf.reduce_sum(loss)) for loss in again.losses) > 0


def test_gru_shows_what_keras_gru_shows():
    stock = keras.layers.GRU(H, dropout=0.1, reset_after=False, use_bias=False)
    ours = layers.GRU.from_config(stock.get_config())
    for name in ("dropout", "recurrent_dropout", "reset_after", "use_bias", "activation"):
        assert getattr(ours, name) == getattr(stock, name), name
    assert type(ours.kernel_initializer) is type(stock.kernel_initializer)
    if KERAS_3:
        assert np.ravel(ours.state_size).tolist() == np.ravel(stock.state_size).tolist() == [H]
        assert tf.nest.flatten(ours.get_initial_state(B))[0].shape == (B, H)


def test_a_config_of_keras_2_says_which_axis_is_time():
    config = {**layers.GRU(H).get_config(), "time_major": False}
    assert layers.GRU.from_config(config).units == H
    with pytest.raises(
        ValueError, match=r"GRU: expected inputs \[B, T, I\], got .* time_major=True"
    ):
        layers.GRU.from_config({**config, "time_major": True})


def test_a_state_in_a_list_and_symbolic():
    x, _, state = arrays()
    layer = layers.GRU(H)
    np.testing.assert_array_equal(layer(x, [state]), layer(x, initial_state=state))
    inputs = keras.Input((None, D)), keras.Input((H,))
    model = keras.Model(inputs, layer(inputs[0], initial_state=inputs[1]))
    assert model.output_shape == (None, H)
    np.testing.assert_allclose(model([x, state]), layer(x, [state]), atol=1e-6)


def test_dropout_has_one_mask_a_sequence():
    x = np.ones((64, T, D), np.float32)
    layer = layers.GRU(H, dropout=0.5, return_sequences=True, seed=1)
    layer(x)
    seen = []
    layer.input_dropout.call = lambda x, training, call=layer.input_dropout.call: (
        seen.append(call(x, training=training)) or seen[-1]
    )
    dropped = layer(x, training=True)
    assert not np.allclose(dropped, layer(x))
    np.testing.assert_array_equal(seen[0], np.repeat(np.asarray(seen[0])[:, :1], T, axis=1))
    assert set(np.unique(seen[0])) == {0.0, 2.0}
    np.testing.assert_array_equal(seen[1], x)


@pytest.mark.parametrize("options", [{}, {"activation": "relu"}], ids=str)
def test_xla_stays_on_for_a_model_with_a_gru(options):
    x, _, _ = arrays()
    layer = layers.GRU(H, **options)
    model = keras.Sequential([keras.Input((T, D)), layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=True)
    model.fit(x, np.ones((B, 1)), verbose=0)
    if KERAS_3:
        assert all(part.supports_jit for part in model._flatten_layers())


def test_a_stateful_gru_goes_on_where_it_was():
    x, _, _ = arrays()
    layer = layers.GRU(H, stateful=True)
    whole = layers.GRU(H)
    first = layer(x)
    whole(x)
    whole.set_weights(layer.get_weights())
    np.testing.assert_allclose(layer(x), whole(np.concatenate([x, x], axis=1)), atol=1e-6)
    layer.reset_state()
    np.testing.assert_allclose(layer(x), first, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.GRU(H, return_sequences=True),
        lambda: layers.GRU(H, return_sequences=True, activation="linear"),
        lambda: layers.BiLSTM(H),
    ],
    ids=["gru", "step_by_step", "bilstm"],
)
def test_nan_under_the_mask_reaches_neither_output_nor_gradient(make):
    x, mask, _ = arrays()
    layer = make()
    want = results(layer, x, mask=tf.constant(mask))
    spoilt = np.where(mask[..., None], x, np.nan).astype(np.float32)
    for got, expected in zip(results(layer, spoilt, mask=tf.constant(mask)), want):
        np.testing.assert_array_equal(got, expected)
    assert np.abs(want[0]).max() > 0.01


def test_the_mask_of_an_embedding_arrives_and_goes_on():
    ids = np.array([[3, 1, 0, 0], [0, 0, 2, 1]])
    embedding = keras.layers.Embedding(5, D, mask_zero=True)
    layer = layers.GRU(H, return_sequences=True)
    inner = keras.layers.GRU(H)
    y = inner(layer(embedding(ids)))
    explicit = layer(embedding(ids), mask=tf.constant(ids != 0))
    np.testing.assert_allclose(y, inner(explicit, mask=tf.constant(ids != 0)), atol=1e-6)
    assert not np.allclose(y, inner(layer(embedding(ids), mask=tf.ones([2, 4], tf.bool))))


def test_dynamic_gru_forms_are_the_ops():
    x, mask, state = arrays()
    scores = np.random.default_rng(1).uniform(size=(B, T)).astype(np.float32)
    for gru_type, form in (("aigru", "paper"), ("agru", "paper"), ("augru", "alibaba")):
        layer = layers.DynamicGRU(
            H, gru_type, form, return_state=True, reset_after=True, zero_output_for_mask=False
        )
        got = layer(x, scores, mask=tf.constant(mask), initial_state=state)
        weights = (layer.kernel, layer.recurrent_kernel, layer.bias)
        want = ops.dynamic_gru(x, *weights, scores, mask, state, gru_type, form, reset_after=True)
        for a, b in zip(got, want):
            np.testing.assert_allclose(a, b, atol=1e-6)
        last = layers.DynamicGRU(H, gru_type, form, return_sequences=False, reset_after=True)
        last(x, scores)
        last.set_weights(layer.get_weights())
        np.testing.assert_allclose(
            last(x, scores, mask=tf.constant(mask), initial_state=state), want[1], atol=1e-6
        )


@pytest.mark.parametrize("model", ["gru", "dynamic_gru", "dien"])
def test_predict_keeps_no_gates(model):
    x, _, _ = arrays()
    inputs = keras.Input((T, D))
    if model == "gru":
        outputs = layers.GRU(H, backend="cpp")(inputs)
    elif model == "dynamic_gru":
        outputs = layers.DynamicGRU(H, return_sequences=False, backend="cpp")(inputs)
    else:
        interests = layers.InterestExtractor(backend="cpp")(inputs)
        outputs = layers.InterestEvolution(backend="cpp")(inputs[:, 0], interests)
    net = keras.Model(inputs, outputs)

    def records(training):
        run = tf.function(lambda x: net(x, training=training))
        operations = run.get_concrete_function(tf.constant(x)).graph.get_operations()
        found = [op.outputs[2].shape for op in operations if op.type == "Recops>DynamicGru"]
        assert len(found) == (2 if model == "dien" else 1)
        return [shape.num_elements() for shape in found]

    assert set(records(False)) == {0}
    for training in (True, None):
        assert 0 not in records(training)
    np.testing.assert_array_equal(net(x, training=False), net(x, training=True))


def test_dynamic_gru_has_the_inputs_width_without_units_and_zeros_at_padding():
    x, mask, _ = arrays()
    layer = layers.DynamicGRU(use_bias=False)
    y = layer(x, mask=tf.constant(mask)).numpy()
    assert y.shape == (B, T, D)
    assert [tuple(w.shape) for w in layer.weights] == [(D, 3 * D), (D, 3 * D)]
    np.testing.assert_array_equal(y[~mask], 0)
    assert (y[mask] != 0).all()


def test_dynamic_gru_says_what_it_lacks():
    x, _, _ = arrays()
    with pytest.raises(ValueError, match="gru_type must be one of gru, aigru, agru, augru"):
        layers.DynamicGRU(gru_type="lstm")
    with pytest.raises(ValueError, match="augru_form must be one of paper, alibaba"):
        layers.DynamicGRU(augru_form="authors")
    with pytest.raises(ValueError, match=r"attention \[B, T\] is needed"):
        layers.DynamicGRU(gru_type="augru")(x)


def merged(mode, fw, bw):
    return {
        "fw": fw,
        "bw": bw,
        "concat": np.concatenate([fw, bw], axis=2),
        "sum": fw + bw,
        "ave": (fw + bw) / 2,
        "mul": fw * bw,
    }[mode]


@pytest.mark.parametrize("mode", ["fw", "bw", "concat", "sum", "ave", "mul"])
def test_bilstm_reads_what_is_kept_from_either_end(mode):
    x, mask, _ = arrays()
    layer = layers.BiLSTM(H, layers=2, res_layers=1, merge_mode=mode)
    y = layer(x, mask=tf.constant(mask))
    np.testing.assert_allclose(y, merged(mode, *stacks(layer, x, mask)), atol=1e-6)
    assert tuple(layer.compute_output_shape((B, T, D))) == tuple(y.shape)


def test_bilstm_without_merge_is_both():
    x, mask, _ = arrays()
    layer = layers.BiLSTM(D, layers=2, res_layers=2, merge_mode=None)
    for got, want in zip(layer(x, mask=tf.constant(mask)), stacks(layer, x, mask)):
        np.testing.assert_allclose(got, want, atol=1e-6)
    for rnn in (*layer.forward, *layer.backward):
        np.testing.assert_array_equal(rnn.get_weights()[2], np.ones(4 * D))


def test_padding_on_either_side_gives_bilstm_the_same():
    x, _, _ = arrays()
    layer = layers.BiLSTM(H)
    alone = layer(x[:, :2]).numpy()
    pad = np.full((B, 2, D), np.nan, np.float32)
    for padded, at in (([x[:, :2], pad], slice(0, 2)), ([pad, x[:, :2]], slice(2, 4))):
        mask = np.zeros((B, 4), bool)
        mask[:, at] = True
        y = layer(np.concatenate(padded, axis=1), mask=tf.constant(mask)).numpy()
        np.testing.assert_allclose(y[:, at], alone, atol=1e-6)
        np.testing.assert_array_equal(y[~mask], 0)


@pytest.mark.parametrize("jit", [False, True])
def test_bilstm_of_no_rows(jit):
    layer = layers.BiLSTM(H, layers=2, res_layers=1)
    layer(np.ones((1, T, D), np.float32))
    run = tf.function(lambda x: layer(x), jit_compile=jit)
    for call in (layer, run):
        assert call(tf.ones((0, T, D))).shape == (0, T, H)


def test_bilstm_drops_in_training_only_and_repeats_by_seed():
    x, _, _ = arrays()
    one, two, other = (layers.BiLSTM(H, dropout_rate=0.5, seed=seed) for seed in (1, 1, 2))
    y = one(x)
    np.testing.assert_array_equal(y, two(x))
    assert not np.allclose(y, other(x))
    assert not np.allclose(y, one(x, training=True))
    np.testing.assert_array_equal(y, one(x, training=False))
    kernels = [rnn.get_weights()[0] for rnn in (*one.forward, *one.backward)]
    assert len({float(kernel[0, 0]) for kernel in kernels}) == 4


def test_bilstm_says_what_is_wrong():
    x, _, _ = arrays()
    with pytest.raises(ValueError, match="D must be units = 3, got D = 2"):
        layers.BiLSTM(H, layers=2, res_layers=2)(x)
    with pytest.raises(ValueError, match="res_layers must be between 0 and layers = 2, got 3"):
        layers.BiLSTM(H, res_layers=3)
    with pytest.raises(ValueError, match="merge_mode must be one of fw, bw, concat"):
        layers.BiLSTM(H, merge_mode="both")
    with pytest.raises(ValueError, match="BiLSTM: dropout"):
        layers.BiLSTM(H, dropout_rate=1.0)
