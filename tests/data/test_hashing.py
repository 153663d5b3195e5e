"""Encoders that hash: ids that need no fit, and are alike in any process, block and type."""

import json

import numpy as np
import pytest
import tensorflow as tf

from recops.data import DataError, Encoder

CITIES = ["Rome", "Oslo", None, "Rome", "Lima"]


def test_ids_are_those_of_tensorflow_s_hash_behind_0():
    ids = Encoder(["city"], hash_buckets=50).transform({"city": CITIES})["city"]
    known = tf.strings.to_hash_bucket_fast(["Rome", "Oslo", "Rome", "Lima"], 50).numpy() + 1
    assert ids.dtype == np.int32
    assert ids.tolist() == [known[0], known[1], 0, known[2], known[3]]
    assert ids.min() == 0
    assert ids.max() <= 50


def test_nothing_is_fitted_and_every_block_agrees():
    encoder = Encoder(hash_buckets=1000)
    values = np.arange(500).astype(str)
    whole = encoder.transform({"x": values})["x"]
    again = Encoder(hash_buckets=1000)
    blocks = [again.transform({"x": values[i : i + 7]})["x"] for i in range(0, 500, 7)]
    assert np.concatenate(blocks).tolist() == whole.tolist()
    # A hash spreads: 500 values fall into some 390 of 1000 buckets.
    assert len(set(whole.tolist())) > 350


def test_equal_numbers_have_one_id_whatever_their_type():
    encoder = Encoder(["x"], hash_buckets=10**6)

    def of(values):
        return encoder.transform({"x": values})["x"].tolist()

    assert of(np.array([7, 2**60])) == of(["7", str(2**60)])
    assert of(np.array([7.0, 0.5, np.nan])) == [*of(["7", "0.5"]), 0]
    assert of([True]) == of([1])


def test_a_number_of_buckets_for_each_column():
    encoder = Encoder(hash_buckets={"a": 3, "b": 1})
    ids = encoder.transform({"b": ["x", "y"], "a": ["x", None]})
    assert ids["b"].tolist() == [1, 1]
    assert ids["a"][1] == 0
    assert [(f.name, f.vocabulary_size) for f in encoder.features()] == [("a", 3), ("b", 1)]


def test_fit_learns_the_names_alone():
    encoder = Encoder(hash_buckets=9)
    with pytest.raises(RuntimeError, match="names of the columns"):
        encoder.features()
    assert encoder.fit_transform(["x", "y"]).shape == (2,)
    assert [f.vocabulary_size for f in encoder.features()] == [9]
    with pytest.raises(ValueError, match="ids have no one value"):
        encoder.vocabulary("0")


def test_saved_and_loaded_it_hashes_alike(tmp_path):
    encoder = Encoder(["city"], hash_buckets=50)
    encoder.save(tmp_path / "encoder.json")
    again = Encoder.load(tmp_path / "encoder.json")
    want = encoder.transform({"city": CITIES})["city"].tolist()
    assert again.transform({"city": CITIES})["city"].tolist() == want
    content = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps({**content, "hash_buckets": {"city": 0}}))
    with pytest.raises(DataError, match="hash_buckets of 'city' must be 1 to"):
        Encoder.load(tmp_path / "encoder.json")


@pytest.mark.parametrize(
    ("columns", "buckets", "message"),
    [
        (None, 0, "must be 1 to"),
        (None, 2**31, "must be 1 to"),
        (None, 1.5, "must be an integer, got 1.5"),
        (["a", "b"], {"a": 3}, "for each of the columns"),
        (None, {}, "for each of the columns"),
    ],
)
def test_buckets_that_cannot_be(columns, buckets, message):
    with pytest.raises(ValueError, match=message):
        Encoder(columns, hash_buckets=buckets)


def test_no_min_count_beside_it():
    with pytest.raises(ValueError, match="takes no min_count, got 2"):
        Encoder(min_count=2, hash_buckets=5)
