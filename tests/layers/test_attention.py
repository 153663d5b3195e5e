"""MultiHeadAttention is Keras's layer, weight for weight, but for rows that keep no key."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops._core.compat import keras, variable
from recops.layers import MultiHeadAttention
from tests.oracles import transformer

B, T, S, N, E = 3, 4, 5, 2, 3
RNG = np.random.default_rng(0)
QUERY, VALUE, KEY = (
    RNG.normal(size=shape).astype(np.float32) for shape in ((B, T, 6), (B, S, 7), (B, S, 8))
)
FULL = RNG.uniform(size=(B, T, S)) < 0.6
FULL[..., 0] = True
COLUMNS = np.arange(S) < np.array([[5], [2], [3]])
ROWS = np.arange(T) < np.array([[4], [3], [1]])


def pair(*inputs, options=(), **call):
    """Keras's layer and ours with the same weights, built by a call."""
    layers = [
        cls(N, E, **dict(options)) for cls in (keras.layers.MultiHeadAttention, MultiHeadAttention)
    ]
    for layer in layers:
        layer(*inputs, **call)
    layers[1].set_weights([RNG.normal(size=w.shape) / 3 for w in layers[0].weights])
    layers[0].set_weights(layers[1].get_weights())
    return layers


def results(layer, *inputs, **call):
    """Outputs, and gradients of a weighted sum of the first with respect to inputs and weights."""
    tensors = [tf.constant(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = tf.nest.flatten(layer(*tensors, **call))
        loss = tf.reduce_sum(tf.sin(outputs[0]))
    sources = [*tensors, *(variable(w) for w in layer.trainable_weights)]
    return outputs + tape.gradient(loss, sources, unconnected_gradients="zero")


def same(got, want):
    assert len(got) == len(want)
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()), rtol=0)


def oracle(layer, *inputs, **options):
    return transformer.attention(transformer.weights_of(layer), *inputs, **options)


OPTIONS = [
    {},
    {"value_dim": 5, "output_shape": (2, 3)},
    {"value_dim": 2, "use_bias": False, "output_shape": 4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=("plain", "wide_values", "narrow_values"))
@pytest.mark.parametrize("inputs", [(QUERY, VALUE), (QUERY, VALUE, KEY)], ids=("value", "key"))
def test_it_is_keras_weight_for_weight(options, inputs):
    theirs, ours = pair(*inputs, options=options)
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    names = [["/".join(_path(w).split("/")[1:]) for w in m.weights] for m in (ours, theirs)]
    assert names[0] == names[1]
    for call in ({}, {"use_causal_mask": True}, {"attention_mask": FULL}):
        same(results(ours, *inputs, **call), results(theirs, *inputs, **call))


def _path(weight):
    return getattr(weight, "path", None) or weight.name


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 5, 6), None), ((4, 5, 6), 2), ((4, 5, 6), (1,)), ((3, 2, 4, 6), (1, 3))],
)
def test_other_axes_are_those_of_keras(shape, axes):
    x = RNG.normal(size=(2, *shape)).astype(np.float32)
    theirs, ours = pair(x, x, options={"attention_axes": axes})
    same(results(ours, x, x), results(theirs, x, x))
    scores = [layer(x, x, return_attention_scores=True)[1] for layer in (ours, theirs)]
    same(scores[:1], scores[1:])
    kept = RNG.uniform(size=(2, *scores[0].shape[-2 * len(ours.axes.attended) :])) < 0.6
    kept[..., 0] = True
    masked = [layer(x, x, attention_mask=kept) for layer in (ours, theirs)]
    same(masked[:1], masked[1:])


def test_scores_are_those_of_keras_and_their_path_is_the_op():
    theirs, ours = pair(QUERY, VALUE)
    call = {"attention_mask": FULL, "use_causal_mask": True}
    formed = results(ours, QUERY, VALUE, return_attention_scores=True, **call)
    same(formed, results(theirs, QUERY, VALUE, return_attention_scores=True, **call))
    same([formed[0], *formed[2:]], results(ours, QUERY, VALUE, **call))


@pytest.mark.parametrize("scores", [False, True])
def test_masks_are_and_ed_and_a_query_without_a_key_gets_0(scores):
    _, ours = pair(QUERY, VALUE, KEY)
    other = np.arange(S) != 1
    call = {
        "query_mask": ROWS,
        "value_mask": COLUMNS,
        "key_mask": np.tile(other, (B, 1)),
        "attention_mask": FULL,
        "use_causal_mask": True,
        "return_attention_scores": scores,
    }
    kept = FULL & ROWS[..., None] & COLUMNS[:, None] & other
    assert not kept.any(axis=-1).all()
    want = oracle(ours, QUERY, VALUE, KEY, mask=kept, causal=True)
    out = tf.nest.flatten(ours(QUERY, VALUE, KEY, **call))
    np.testing.assert_allclose(out[0], want, atol=1e-5, rtol=1e-5)
    if scores:
        causal = kept & (np.arange(S) <= np.arange(T)[:, None])
        assert not out[1].numpy()[~np.repeat(causal[:, None], N, axis=1)].any()
        np.testing.assert_allclose(
            out[1].numpy().sum(-1), np.repeat(causal.any(-1)[:, None], N, 1), rtol=1e-5
        )


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize(
    "masks",
    [
        {"query_mask": ROWS, "value_mask": COLUMNS},
        {"attention_mask": ROWS[..., None] & COLUMNS[:, None]},
    ],
    ids=("rows_and_columns", "full"),
)
def test_nan_under_a_mask_reaches_no_output_and_no_gradient(masks, scores):
    _, ours = pair(QUERY, VALUE)
    clean = results(ours, QUERY, VALUE, return_attention_scores=scores, **masks)
    query = np.where(ROWS[..., None], QUERY, np.nan)
    value = np.where(COLUMNS[..., None], VALUE, np.nan)
    dirty = results(ours, query, value, return_attention_scores=scores, **masks)
    for a, b in zip(dirty, clean):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(np.concatenate([np.ravel(a) for a in dirty])).all()


MASKS = {
    "query_mask": ROWS,
    "value_mask": COLUMNS & [[True], [True], [False]],
    "key_mask": RNG.uniform(size=(B, S)) < 0.7,
}


@pytest.fixture
def given(monkeypatch):
    """The masks that the op was given, in order of its calls."""
    masks, op = [], ops.multi_head_attention

    def spy(query, key, value, mask=None, *args, **options):
        masks.append(mask)
        return op(query, key, value, mask, *args, **options)

    monkeypatch.setattr(ops, "multi_head_attention", spy)
    return masks


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("names", [n for k in range(4) for n in itertools.combinations(MASKS, k)])
def test_masks_of_queries_and_keys_are_the_whole_mask(names, causal, given):
    _, ours = pair(QUERY, VALUE, KEY)
    masks = {name: MASKS[name] for name in names}
    whole = np.ones((B, T, S), bool)
    for name, mask in masks.items():
        whole &= mask[..., None] if name == "query_mask" else mask[:, None]
    want = oracle(ours, QUERY, VALUE, KEY, mask=whole, causal=causal)
    got = results(ours, QUERY, VALUE, KEY, use_causal_mask=causal, **masks)
    np.testing.assert_allclose(got[0], want, atol=1e-5, rtol=1e-5)
    of_keys = {*names} - {"query_mask"}
    assert [m if m is None else m.shape.rank for m in given[-1:]] == [2 if of_keys else None]
    by_the_whole = {"attention_mask": whole, "use_causal_mask": causal}
    same(got, results(ours, QUERY, VALUE, KEY, **by_the_whole))
    # Where weights are formed, the masks are the same.
    formed = results(ours, QUERY, VALUE, KEY, return_attention_scores=True, **by_the_whole)
    same([formed[0], *formed[2:]], got)
    masks = {"use_causal_mask": causal, "return_attention_scores": True, **masks}
    same(results(ours, QUERY, VALUE, KEY, **masks), formed)


@pytest.mark.parametrize("shape", [(1, S), (B, 1, S), (1, 1, S), (B, 1, 1, S), (B, 1, 1, 1)])
def test_an_attention_mask_alike_for_all_queries_is_one_of_keys(shape, given):
    _, ours = pair(QUERY, VALUE)
    full = RNG.uniform(size=shape) < 0.7
    full[-1] &= shape[-1] == S
    kept = np.broadcast_to(full.reshape(-1, shape[-1]), (B, S))
    query = np.where(kept.any(axis=1)[:, None, None], QUERY, np.nan)
    dirty = np.where(kept[..., None], VALUE, np.nan)
    got = results(ours, query, dirty, attention_mask=full, query_mask=ROWS)
    assert all(np.isfinite(part).all() for part in got)
    assert given[-1].shape == (B, S)
    each = np.broadcast_to(full, (B, N, T, S) if len(shape) == 4 else (B, T, S))
    same(got, results(ours, query, dirty, attention_mask=each, query_mask=ROWS))
    assert given[-1].shape.rank == 4


def test_a_masked_query_gets_0_where_weights_are_dropped():
    _, ours = pair(QUERY, VALUE, options={"dropout": 0.5})
    out = ours(QUERY, VALUE, query_mask=ROWS, value_mask=COLUMNS, training=True).numpy()
    np.testing.assert_allclose(out[~ROWS], np.tile(ours.get_weights()[-1], ((~ROWS).sum(), 1)))


@pytest.mark.parametrize("causal", [False, True])
def test_a_mask_that_keras_carries_is_one_of_keys_and_one_copy(causal, given):
    ids = np.where(COLUMNS, 1 + RNG.integers(0, 8, size=(B, S)), 0)
    embedding, layer = keras.layers.Embedding(9, 6, mask_zero=True), MultiHeadAttention(N, E)
    x = embedding(ids)
    layer(x, x)
    want = oracle(layer, x, x, mask=COLUMNS[..., None] & COLUMNS[:, None], causal=causal)

    @tf.function
    def run(ids):
        x = embedding(ids)
        return layer(x, x, use_causal_mask=causal)

    graph = run.get_concrete_function(tf.TensorSpec((None, S), tf.int64)).graph
    assert given[-1].shape.as_list() == [None, S]
    # One for the inputs, one for what comes out.
    selects = [op.outputs[0] for op in graph.get_operations() if op.type == "SelectV2"]
    assert [out.dtype for out in selects].count(tf.float32) == 2
    np.testing.assert_allclose(run(ids), want, atol=1e-5, rtol=1e-5)


def test_masks_that_keras_carries_are_honoured():
    ids = np.where(COLUMNS, 1 + RNG.integers(0, 8, size=(B, S)), 0)
    inputs = keras.Input((S,), dtype="int32")
    embedded = keras.layers.Embedding(9, 6, mask_zero=True)(inputs)
    theirs, ours = (cls(N, E) for cls in (keras.layers.MultiHeadAttention, MultiHeadAttention))
    model = keras.Model(inputs, [theirs(embedded, embedded), ours(embedded, embedded)])
    ours.set_weights(theirs.get_weights())
    want, got = model(ids)
    np.testing.assert_allclose(got.numpy()[COLUMNS], want.numpy()[COLUMNS], atol=1e-5)
    carried = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(model.outputs[1]))
    mean = np.stack([row[kept].mean(0) for row, kept in zip(got.numpy(), COLUMNS)])
    np.testing.assert_allclose(carried(ids), mean, atol=1e-5)


def test_dropout_drops_weights_in_training_only():
    theirs, ours = pair(QUERY, VALUE, options={"dropout": 0.5})
    same(results(ours, QUERY, VALUE), results(theirs, QUERY, VALUE))
    step = tf.function(lambda: ours(QUERY, VALUE, training=True))
    drawn = np.stack([step() for _ in range(200)])
    assert np.std(drawn, axis=0).min() > 0
    np.testing.assert_allclose(drawn.mean(0), ours(QUERY, VALUE), atol=1)


def test_a_window_is_a_band_and_a_gate_is_a_factor():
    ours = MultiHeadAttention(N, E, sliding_window=2, use_gate=True)
    ours(QUERY, VALUE)
    assert [tuple(w.shape) for w in ours.weights][4:6] == [(6, N, E), (N, E)]
    band = np.abs(np.arange(T)[:, None] - np.arange(S)) < 2
    plain = MultiHeadAttention(N, E)
    plain(QUERY, VALUE)
    shut, opened = ours.get_weights(), ours.get_weights()
    for weights, bias in ((shut, -1e4), (opened, 1e4)):
        weights[4], weights[5] = 0 * weights[4], 0 * weights[5] + bias
    ours.set_weights(opened)
    plain.set_weights(opened[:4] + opened[6:])
    same([ours(QUERY, VALUE)], [plain(QUERY, VALUE, attention_mask=band[None])])
    ours.set_weights(shut)
    same([ours(QUERY, VALUE)], [np.broadcast_to(shut[-1], QUERY.shape)])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_softmax_is_float32_in_16_bits(policy):
    layer = MultiHeadAttention(N, E, dtype=policy)
    layer(QUERY, VALUE)
    scores = {}
    for path in (False, True):
        got = layer(QUERY, VALUE, value_mask=COLUMNS, return_attention_scores=path)
        scores[path] = tf.cast(tf.nest.flatten(got)[0], tf.float32)
    want = oracle(layer, QUERY, VALUE, mask=COLUMNS)
    rounding = {"mixed_float16": 3e-3, "mixed_bfloat16": 3e-2}[policy]
    for got in scores.values():
        np.testing.assert_allclose(got, want, atol=rounding)


def test_jit_and_an_unknown_batch():
    _, ours = pair(QUERY, VALUE)
    spec = [tf.TensorSpec((None, *x.shape[1:]), tf.float32) for x in (QUERY, VALUE)]
    masks = [tf.TensorSpec((None, x.shape[1]), tf.bool) for x in (ROWS, COLUMNS)]

    @tf.function(input_signature=[*spec, *masks], jit_compile=True)
    def run(query, value, rows, columns):
        return ours(query, value, query_mask=rows, value_mask=columns, use_causal_mask=True)

    want = oracle(ours, QUERY, VALUE, mask=ROWS[..., None] & COLUMNS[:, None], causal=True)
    np.testing.assert_allclose(run(QUERY, VALUE, ROWS, COLUMNS), want, atol=1e-5, rtol=1e-5)


def test_the_op_runs_unless_weights_are_asked_for():
    layer = MultiHeadAttention(N, E, dropout=0.1, backend="xla")
    layer(QUERY, VALUE)

    def runs_op(**call):
        graph = tf.function(lambda q, v: layer(q, v, **call)).get_concrete_function(QUERY, VALUE)
        return any(
            "recops.multi_head_attention.xla" in op.name for op in graph.graph.get_operations()
        )

    assert runs_op()
    assert runs_op(training=False, use_causal_mask=True)
    assert not runs_op(training=True)
    assert not runs_op(return_attention_scores=True)


def test_reload_with_inputs_of_three_widths(tmp_path):
    inputs = [keras.Input(x.shape[1:]) for x in (QUERY, VALUE, KEY)]
    layer = MultiHeadAttention(N, E, value_dim=4, seed=3, kernel_regularizer="l2")
    model = keras.Model(inputs, layer(*inputs, return_attention_scores=True))
    shapes = [tuple(output.shape) for output in model.outputs]
    assert shapes == [(None, T, 6), (None, N, T, S)]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    same(again([QUERY, VALUE, KEY]), model([QUERY, VALUE, KEY]))
    config = layer.get_config()
    assert MultiHeadAttention.from_config(config).get_config() == config


def test_a_config_of_keras_makes_ours():
    stock = keras.layers.MultiHeadAttention(2, 3, use_bias=False)
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype("float32")
    want = stock(x, x)
    ours = MultiHeadAttention.from_config(stock.get_config())
    ours(x, x)
    ours.set_weights(stock.get_weights())
    np.testing.assert_allclose(ours(x, x), want, atol=1e-6)


def test_kernels_of_one_seeded_initializer_differ():
    layer = MultiHeadAttention(N, E, kernel_initializer=keras.initializers.GlorotUniform(1))
    layer(QUERY, QUERY)
    assert not np.allclose(layer.query_dense.get_weights()[0], layer.key_dense.get_weights()[0])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MultiHeadAttention(0, 4), "`num_heads` must be a positive integer, got 0"),
        (lambda: MultiHeadAttention(2, 4)(QUERY, VALUE, QUERY), "value and key .* must be equal"),
        (lambda: MultiHeadAttention(2, 4, attention_axes=2)(QUERY, VALUE), "attention_axes"),
        (
            lambda: MultiHeadAttention(2, 4)(QUERY, VALUE, attention_mask=np.ones(5, bool)),
            "attention_mask must have rank 2 to 4",
        ),
    ],
)
def test_unfit_arguments_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
