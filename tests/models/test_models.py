"""Models: they learn a planted signal, repeat by seed, agree between backends, and reload."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recops import models
from recops._core.compat import keras, variable
from recops.features import DenseFeature, SequenceFeature, SparseFeature
from recops.layers import Linear
from recops.models import CATALOGUE, ESTIMATORS
from tests.models.counts import COUNTS
from tests.models.planted import (
    FEATURES,
    HISTORY,
    ITEM,
    PLACE,
    SEQUENCES,
    SMALL,
    USER,
    WORDS,
    auc,
    data,
    features_of,
    read_by,
)

each_model = pytest.mark.parametrize("name", SMALL)
OF_HISTORIES = [name for name in SMALL if CATALOGUE[name].task == "sequence"]
OF_FIELDS = [name for name in SMALL if name not in OF_HISTORIES]
ANY_NUMBER = ["WideDeep", "DCN", "LSPLM", "YoutubeDNNRanking"]
NAMED = ["NeuralCF"]
PAIRWISE = [name for name in OF_FIELDS if name not in (*ANY_NUMBER, *NAMED)]


def build(name, features=None, **options):
    options = {**SMALL[name], "seed": 1, **options}
    return CATALOGUE[name].build(features or features_of(name), **options)


def fit(model, epochs):
    batch, labels = data(2048)
    batch = read_by(model, batch)
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", jit_compile=False)
    history = model.fit(batch, labels, batch_size=128, epochs=epochs, shuffle=False, verbose=0)
    return history.history["loss"]


def predict(model, batch):
    return model.predict(read_by(model, batch), batch_size=512, verbose=0)


@pytest.fixture(scope="module")
def trained():
    """Each model and its losses, trained once for all tests."""
    cache = {}

    def get(name):
        if name not in cache:
            model = build(name, backend="xla")
            cache[name] = model, fit(model, 6)
        return cache[name]

    return get


def test_the_catalogue_is_complete():
    # What finds items gives a loss, no probability of a row: see test_youtubednn_retrieval.
    finders = {name for name, entry in CATALOGUE.items() if entry.task == "retrieval"}
    assert finders == {"YoutubeDNNRetrieval"}
    # The Transformer ranks nothing: it is trained on pairs of sequences, and made from their sizes.
    pairs = {name for name, entry in CATALOGUE.items() if entry.task == "next_click"}
    assert pairs == {"Transformer"}
    assert set(CATALOGUE) == {*SMALL, *finders, *pairs}
    others = {"CATALOGUE", "ESTIMATORS", "Entry"}
    assert {*CATALOGUE, *ESTIMATORS, *others} == set(models.__all__)
    for name, entry in CATALOGUE.items():
        assert name in pairs or entry.build is getattr(models, name)
        assert entry.name == name
        assert entry.paper
        assert entry.needs


@each_model
def test_learns_what_a_linear_model_cannot(name, trained):
    model, losses = trained(name)
    batch, labels = data(512, seed=1)
    assert losses[-1] < losses[0]
    assert auc(labels, predict(model, batch)) > 0.95


@pytest.mark.parametrize("features", [FEATURES, SEQUENCES], ids=["fields", "histories"])
def test_a_linear_model_cannot(features):
    inputs = {feature.name: feature.input() for feature in features}
    logit = Linear(features)(inputs)
    model = keras.Model(inputs, keras.layers.Activation("sigmoid")(logit))
    fit(model, 6)
    batch, labels = data(512, seed=1)
    assert auc(labels, predict(model, batch)) < 0.8


@each_model
@pytest.mark.parametrize("backend", ["reference", "auto"])  # "auto" is `cpp` on a CPU.
def test_same_seed_same_losses_and_backends_agree(name, backend, trained):
    _, losses = trained(name)
    model = build(name, backend=backend)
    assert fit(model, 2) == pytest.approx(losses[:2], rel=1e-3)


@each_model
def test_seeds_decide_the_initial_weights(name):
    one, two, other = (build(name, seed=seed).get_weights() for seed in (5, 5, 6))
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a, b)
    drawn = [np.std(w) > 0 for w in one]
    assert [not np.array_equal(a, c) for a, c in zip(one, other)] == drawn
    values = [float(w.ravel()[0]) for w, d in zip(one, drawn) if d]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "LSPLM"])
def test_logits_are_added_and_then_one_sigmoid(name, trained):
    model, _ = trained(name)
    batch, _ = data(64, seed=2)
    added = [layer for layer in model.layers if layer.name == "logit"]
    logits = added[0].input if added else [model.get_layer("output").input]
    assert [tuple(logit.shape) for logit in logits] == [(None, 1)] * len(logits)
    probe = keras.Model(model.input, [*logits, model.output])
    *parts, output = predict(probe, batch)
    np.testing.assert_allclose(output, 1 / (1 + np.exp(-sum(parts))), rtol=1e-5, atol=1e-6)
    assert not model.get_layer("output").weights
    # One bias in all: two would be the same parameter twice.
    last = [layer for layer in model.layers if layer.count_params() and _gives(layer, logits)]
    assert sum(getattr(layer, "bias", None) is not None for layer in last) == 1


def _gives(layer, logits):
    return any(layer.output is logit for logit in logits)


@pytest.mark.parametrize(("name", "options", "count"), COUNTS)
def test_parameter_counts(name, options, count):
    assert build(name, **options).count_params() == count


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("WideDeep", {"wide": "fm", "activation": "dice", "dropout": [0.1, 0.2]}),
        ("DCN", {"parameterization": "matrix", "l2_cross": 1e-4}),
        ("AFM", {"pooling": "avg"}),
        ("AFM", {"pooling": "max", "use_dnn": True, "hidden_units": [8]}),
        ("PNN", {"product": "inner", "pairs": "full", "activation": "prelu", "dropout": 0.1}),
        ("FiBiNET", {"squeeze": "max", "layer_norm": True, "residual": True, "use_linear": False}),
        ("AutoInt", {"scaling": True, "hidden_units": [16, 8], "l2_attention": 1e-4}),
        ("DSIN", {"num_heads": 2, "mask_diagonal": True, "use_layer_norm": False, "dropout": 0.1}),
        ("DSIN", {"causal": True, "weight_normalization": False, "res_layers": 1}),
        ("BST", {"pooling": "target", "num_blocks": 2, "dropout": 0.1}),
    ],
)
def test_options_run_and_reach_every_weight(name, options):
    model = build(name, **options)
    batch, labels = data(256)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(read_by(model, batch), training=True) - labels) ** 2)
    gradients = tape.gradient(loss, [variable(w) for w in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients):
        assert gradient is not None, weight
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), weight


def test_afm_poolings_are_what_they_say():
    batch, _ = data(8)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        model = build("AFM", pooling=pooling)
        pooled = keras.Model(model.input, model.get_layer("deep").input)
        embeddings = keras.Model(model.input, model.get_layer("embedding").output)
        e = predict(embeddings, batch)
        pairs = np.stack([e[:, i] * e[:, j] for i in range(4) for j in range(i + 1, 4)], axis=1)
        want = reduce(pairs, axis=1)
        np.testing.assert_allclose(predict(pooled, batch), want, rtol=1e-4, atol=1e-7)


@each_model
def test_regression_leaves_the_logit_as_it_is(name):
    model = build(name, task="regression")
    for weight in model.weights:
        if "bias" in (getattr(weight, "path", "") or weight.name):
            weight.assign(tf.fill(weight.shape, 50.0))
    batch, _ = data(4)
    y = predict(model, batch)
    assert y.shape == (4, 1)
    assert y.dtype == np.float32
    assert np.abs(y).max() > 1


@each_model
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_float32_probabilities(name, policy):
    model = build(name)
    batch = read_by(model, data(32)[0])
    want = model(batch)
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        got = build(name)(batch)
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert got.dtype == tf.float32
    np.testing.assert_allclose(got, want, atol=2e-2)


_RELOAD = """
import sys
from pathlib import Path
import numpy as np
import recops
import tensorflow as tf
batch = dict(np.load(Path(sys.argv[1], "batch.npz")))
for path in sorted(Path(sys.argv[1]).glob("*.keras")):
    model = tf.keras.models.load_model(path)
    want = np.load(path.with_suffix(".npy"))
    read = {symbol.name: batch[symbol.name] for symbol in model.inputs}
    np.testing.assert_allclose(model(read), want, atol=1e-6, err_msg=path.name)
    print(path.stem)
"""


def test_all_reload_in_a_fresh_process_and_predict_the_same(trained, tmp_path):
    batch, _ = data(32, seed=3)
    np.savez(tmp_path / "batch.npz", **batch)
    for name in SMALL:
        model, _ = trained(name)
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", model(read_by(model, batch)))
    command = [sys.executable, "-c", _RELOAD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == sorted(SMALL)


def test_embedding_gradients_stay_sparse_without_a_penalty():
    batch, _ = data(8)
    for penalty, kind in ((0.0, tf.IndexedSlices), (1e-3, tf.Tensor)):
        model = build("DeepFM", l2_embedding=penalty)
        table = model.get_layer("embedding").embeddings
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(read_by(model, batch))) + sum(model.losses)
        assert isinstance(tape.gradient(loss, variable(table)), kind)


@pytest.mark.parametrize("name", [name for name in OF_FIELDS if name not in NAMED])
def test_sequences_alone_are_fields(name):
    seen = SequenceFeature("seen", 12, 3, 4, combiner="sum", embedding_name="item")
    options = {"crosses": ()} if name == "WideDeep" else {}
    model = build(name, [WORDS, seen], **options)
    ids = np.array([[1, 2, 0]], np.int32)
    assert model({"words": ids, "seen": ids}).shape == (1, 1)


@pytest.mark.parametrize("name", PAIRWISE)
def test_too_few_fields_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: needs at least 2 sparse.* got 1: user"):
        build(name, [USER, PLACE])
    with pytest.raises(ValueError, match=f"{name}: needs at least 2 sparse.* got 0: none"):
        build(name, [PLACE])


@pytest.mark.parametrize("name", ANY_NUMBER)
def test_numbers_alone_are_enough_where_nothing_is_paired(name):
    model = CATALOGUE[name].build([PLACE, DenseFeature("age")])
    assert model({"place": np.ones((3, 2)), "age": np.ones((3, 1))}).shape == (3, 1)
    with pytest.raises(ValueError, match="at least one feature"):
        CATALOGUE[name].build([])


@pytest.mark.parametrize("name", OF_HISTORIES)
def test_models_of_histories_need_one_and_its_target(name):
    with pytest.raises(ValueError, match=f"{name}: needs a SequenceFeature with target="):
        build(name, FEATURES)
    with pytest.raises(ValueError, match=r"'item'.*among the features: "):
        build(name, [feature for feature in SEQUENCES if feature is not ITEM])


@pytest.mark.parametrize("name", OF_HISTORIES)
def test_candidate_and_history_share_one_table(name):
    table = build(name).get_layer("embedding").embeddings
    # items, noise, words; each with a row for id 0
    assert tuple(table.shape) == (13 + 6 + 7, 4)


@pytest.mark.parametrize("name", OF_HISTORIES)
def test_an_empty_history_is_a_prediction(name, trained):
    model, _ = trained(name)
    batch = read_by(model, data(8)[0])
    empty = {k: np.zeros_like(v) if k in ("history", "sessions") else v for k, v in batch.items()}
    y = model.predict(empty, verbose=0)
    assert np.isfinite(y).all()
    assert not np.allclose(y, model.predict(batch, verbose=0), atol=1e-3)


def test_sampled_negatives_are_no_input():
    negatives = SequenceFeature("unseen", 12, 4, 4, negative_of="history")
    model = models.DeepFM([ITEM, HISTORY, negatives])
    assert set(model.input) == {"item", "history"}
    with pytest.raises(ValueError, match="DCN: needs at least 1 sparse or sequence features"):
        models.DCN([negatives])


def test_wrong_options_say_what_is_allowed():
    for name, options, said in [
        ("FM", {"task": "rank"}, "FM: task must be one of binary, regression, got 'rank'"),
        ("PNN", {"product": "cross"}, "product must be one of inner, outer, both"),
        ("PNN", {"hidden_units": ()}, "PNN: hidden_units must name at least"),
        ("AFM", {"pooling": "sum"}, "pooling must be one of att, avg, max"),
        ("WideDeep", {"wide": "deep"}, "wide must be one of linear, fm"),
        ("AutoInt", {"num_layers": 0}, "AutoInt: num_layers must be 1 or more, got 0"),
        ("AutoInt", {"embed_numeric": False}, "AutoInt: nothing would read place: set embed_num"),
        ("DeepFM", {"backend": "cuda"}, "auto, cpp, xla, reference, got 'cuda'"),
    ]:
        with pytest.raises(ValueError, match=said):
            build(name, **options)
    with pytest.raises(ValueError, match="one embedding_dim"):
        build("DeepFM", [USER, SparseFeature("city", 9, 8)])


def test_a_batch_without_a_feature_is_told_which():
    batch, _ = data(4)
    del batch["item"]
    with pytest.raises(ValueError, match="item"):
        build("FM")(batch)
