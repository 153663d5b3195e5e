"""YoutubeDNN's retrieval: it learns what goes together, and both of its sides survive a reload."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from recops import losses, models
from recops._core.compat import keras
from recops.features import SparseFeature
from recops.retrieval import Index
from tests.models.planted_retrieval import AGE, FEATURES, FILMS, ITEM, TOWN, WATCHED, choices


def build(features=FEATURES, **options):
    options = {"hidden_units": [16, 4], "num_sampled": 10, "seed": 1, **options}
    return models.YoutubeDNNRetrieval(features, **options)


def fit(model, rows=1600, epochs=6, jit=False, **options):
    model.compile(keras.optimizers.Adam(0.02), losses.identity, jit_compile=jit)
    return model.fit(
        choices(rows), np.zeros(rows), batch_size=100, epochs=epochs, verbose=0, **options
    ).history["loss"]


def of_user(batch):
    return {name: values for name, values in batch.items() if name != "item"}


def own_half(model, batch):
    """Share of the best five films that are of the half that the user watches."""
    users = model.user_model.predict(of_user(batch), verbose=0)
    _, best = Index(model.item_embeddings()[1:], np.arange(1, FILMS + 1)).search(users, 5)
    return float(np.mean(best % 2 == batch["item"][:, None] % 2))


@pytest.fixture(scope="module")
def trained():
    model = build()
    return model, fit(model)


def test_it_learns_which_half(trained):
    model, history = trained
    assert history[-1] < history[0] - 0.3
    assert own_half(model, choices(200, seed=1)) > 0.95
    assert own_half(build(), choices(200, seed=1)) < 0.8


def test_the_two_sides_are_those_of_the_loss(trained):
    model, _ = trained
    batch = choices(8, seed=2)
    users = model.user_model.predict(of_user(batch), verbose=0)
    vectors = model.item_embeddings()
    assert users.shape == (8, 4)
    assert vectors.shape == (FILMS + 1, 4)
    assert vectors.dtype == np.float32
    assert model.item == "item"
    assert {symbol.name for symbol in model.user_model.inputs} == {*of_user(batch)}
    # With every film a candidate once and no correction, the loss is that of the whole softmax.
    layer = model.get_layer("item_vectors")
    logits = users.astype(np.float64) @ vectors.T.astype(np.float64)
    want = np.log(np.exp(logits[:, 1:]).sum(axis=1)) - logits[np.arange(8), batch["item"]]
    every = (np.arange(1, FILMS + 1), np.zeros(8, "float32"), np.zeros(FILMS, "float32"))
    np.testing.assert_allclose(layer(users, batch["item"], sampled=every)[:, 0], want, rtol=1e-5)


def test_the_history_is_averaged_over_what_is_watched_alone():
    model = build()
    batch = choices(1)
    changed = {**of_user(batch), "watched": np.array([[3, 5, 0, 0]], np.int32)}
    moved = {**changed, "watched": np.array([[0, 5, 0, 3]], np.int32)}
    twice = {**changed, "watched": np.array([[3, 5, 5, 3]], np.int32)}
    other = {**changed, "watched": np.array([[3, 6, 0, 0]], np.int32)}
    one, two, three, four = (
        model.user_model.predict(b, verbose=0) for b in (changed, moved, twice, other)
    )
    np.testing.assert_allclose(one, two, atol=1e-7)
    np.testing.assert_allclose(one, three, atol=1e-7)
    assert not np.allclose(one, four, atol=1e-5)


@pytest.mark.parametrize("sampler", ["uniform", "log_uniform", "frequency"])
def test_padding_is_never_drawn_and_stays_as_it_was(sampler):
    counts = np.full(FILMS + 1, 5)
    model = build(sampler=sampler, counts=counts, num_sampled=40)
    before = model.item_embeddings()
    fit(model, rows=400, epochs=3)
    moved = (model.item_embeddings() != before).any(axis=1)
    assert not moved[0]
    assert moved[1:].all()


def test_sample_weight_counts():
    one, other = build(), build()
    odd = (choices(400)["item"] % 2).astype("float32")
    fit(one, rows=400, epochs=2, sample_weight=odd)
    fit(other, rows=400, epochs=2)
    assert not np.allclose(one.item_embeddings(), other.item_embeddings(), atol=1e-3)
    # Even films are negatives alone: nobody is offered one.
    users = one.user_model.predict(of_user(choices(50)), verbose=0)
    scores = (users @ one.item_embeddings()[1:].T).mean(axis=0)
    assert scores[::2].min() > scores[1::2].max()


@pytest.mark.parametrize(
    ("policy", "jit"),
    [("mixed_bfloat16", False), ("mixed_float16", False), ("float32", True)],
)
def test_it_learns_in_16_bit_and_compiled(policy, jit):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = build()
    finally:
        keras.mixed_precision.set_global_policy(before)
    history = fit(model, jit=jit)
    assert np.isfinite(history).all()
    assert model(choices(4)).dtype == tf.float32
    assert model.item_embeddings().dtype == np.float32
    assert own_half(model, choices(200, seed=1)) > 0.9


def test_the_seed_decides_and_backends_agree():
    few = {"rows": 400, "epochs": 2, "shuffle": False}
    one, two = (fit(build(backend=b), **few) for b in ("xla", "reference"))
    assert one == pytest.approx(two, rel=1e-3)
    assert fit(build(seed=2), **few) != pytest.approx(two, rel=1e-3)


_RELOAD = """
import sys
import numpy as np
import recops
import tensorflow as tf
model = tf.keras.models.load_model(sys.argv[1])
kept = dict(np.load(sys.argv[2]))
items, users = kept.pop("items"), kept.pop("users")
np.testing.assert_array_equal(model.item_embeddings(), items)
np.testing.assert_allclose(model.user_model.predict(kept, verbose=0), users, atol=1e-6)
label = np.ones(len(users), "int32")
model.fit({**kept, model.item: label}, label, epochs=1, verbose=0)
assert (model.item_embeddings() != items).any()
print("same")
"""


def test_it_reloads_in_a_fresh_process(trained, tmp_path):
    model, _ = trained
    batch = of_user(choices(16, seed=3))
    users = model.user_model.predict(batch, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "kept.npz", items=model.item_embeddings(), users=users, **batch)
    command = [sys.executable, "-c", _RELOAD, tmp_path / "model.keras", tmp_path / "kept.npz"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("same\n"), done.stderr[-3000:]


def test_default_widths_are_a_tower_down_to_the_items():
    model = models.YoutubeDNNRetrieval([ITEM, WATCHED, AGE])
    rows = FILMS + 1
    hidden = (4 + 1) * 16 + 16 + 16 * 8 + 8 + 8 * 4 + 4
    # The softmax has a table of its own, and counts its calls.
    assert model.count_params() == 2 * rows * 4 + hidden + 1


def test_mistakes_say_what_is_needed():
    for features, options, said in [
        ([WATCHED, TOWN], {}, "item must name a SparseFeature, got 'item' among watched, town"),
        ([ITEM, AGE], {"item": "example_age"}, "must name a SparseFeature, got 'example_age'"),
        ([ITEM], {}, "needs features of the user beside 'item'"),
        (FEATURES, {"hidden_units": [8]}, r"must be 4, the embedding_dim of 'item', got \(8,\)"),
        (FEATURES, {"hidden_units": []}, "the last of hidden_units must be 4"),
        (FEATURES, {"sampler": "popular"}, "sampler must be one of"),
        (FEATURES, {"sampler": "frequency"}, "needs counts"),
        ([replace(ITEM, vocabulary_size=9), WATCHED], {}, None),
        ([ITEM, SparseFeature("town", 5, 8), WATCHED], {}, "one embedding_dim"),
    ]:
        if said is None:
            build(features, **options)  # Two tables may have sizes of their own.
            continue
        with pytest.raises(ValueError, match=said):
            build(features, **options)
