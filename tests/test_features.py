"""Features: what they refuse, which tables they share, and their round trip."""

from __future__ import annotations

import json

import pytest

from recops import features
from recops.features import DenseFeature, SequenceFeature, SparseFeature

ITEM = SparseFeature("item", 9)
SEEN = SequenceFeature("seen", 9, max_length=5, target="item")
UNSEEN = SequenceFeature("unseen", 9, max_length=5, negative_of="seen")


def test_inputs_have_the_shapes_of_a_batch():
    visits = SequenceFeature("visits", 9, max_length=5, sessions=3)
    made = features.inputs([ITEM, SEEN, visits, DenseFeature("place", 2)])
    shapes = {name: (tuple(x.shape), x.dtype) for name, x in made.items()}
    assert {name: shape for name, (shape, _) in shapes.items()} == {
        "item": (None,),
        "seen": (None, 5),
        "visits": (None, 3, 5),
        "place": (None, 2),
    }
    kinds = {name: "float" in str(dtype) for name, (_, dtype) in shapes.items()}
    assert kinds == {"item": False, "seen": False, "visits": False, "place": True}


def test_histories_and_negatives_follow_to_the_table_of_their_target():
    shared = SparseFeature("item", 9, embedding_name="things")
    twin = SparseFeature("twin", 9, embedding_name="things")
    assert features.tables([UNSEEN, SEEN, shared, twin, DenseFeature("age")]) == {"things": 10}
    assert features.table_of(UNSEEN, [ITEM, SEEN, UNSEEN]) == "item"
    assert features.tables([ITEM, SequenceFeature("words", 4, 2)]) == {"item": 10, "words": 5}


def test_a_table_has_one_size():
    with pytest.raises(ValueError, match="'twin' shares the table 'item', so its vocabulary_size"):
        features.tables([ITEM, SparseFeature("twin", 8, embedding_name="item")])


def test_a_pointer_needs_what_it_points_at():
    with pytest.raises(ValueError, match="'seen' points at 'item', which is not among"):
        features.tables([SEEN])


def test_config_round_trip_is_plain_data():
    all_kinds = [ITEM, SEEN, UNSEEN, DenseFeature("place", 2)]
    config = json.loads(json.dumps(features.to_config(all_kinds)))
    assert features.from_config(config) == all_kinds
    assert features.from_config(all_kinds) == all_kinds


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: SparseFeature("a", 0),
            r"SparseFeature\('a'\): vocabulary_size must be a positive",
        ),
        (lambda: SparseFeature("a", 2.0), "vocabulary_size must be a positive integer, got 2.0"),
        (lambda: SparseFeature("a", 2, embedding_dim=0), "embedding_dim must be a positive"),
        (lambda: DenseFeature("a", True), "dimension must be a positive integer, got True"),
        (lambda: SequenceFeature("a", 2, max_length=0), "max_length must be a positive"),
        (lambda: SequenceFeature("a", 2, 3, sessions=0), "sessions must be a positive"),
        (lambda: SequenceFeature("a", 2, 3, combiner="max"), "one of mean, sum, sqrtn, got 'max'"),
    ],
)
def test_each_feature_checks_its_numbers(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "at least one feature"),
        ([ITEM, ITEM], "the name 'item' is used twice"),
        ([ITEM, "age"], "got str: 'age'"),
    ],
)
def test_a_list_of_features_is_checked(given, said):
    with pytest.raises(ValueError, match=said):
        features.check(given)
