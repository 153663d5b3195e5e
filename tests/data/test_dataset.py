"""Splits, their batches, and the checks of a data set."""

import numpy as np
import pytest

from recops.data import Dataset, Split
from recops.features import DenseFeature, SequenceFeature, SparseFeature


def rows_seen(dataset):
    return np.concatenate([inputs["row"].numpy() for inputs, _ in dataset])


@pytest.fixture
def part():
    row = np.arange(10)
    return Split({"row": row, "steps": np.stack([row, row * 2], 1)}, row % 2, row)


def test_batches_cover_the_split_in_order(part):
    batches = list(part.batches(4))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert rows_seen(part.batches(4)).tolist() == list(range(10))
    inputs, labels = batches[1]
    assert inputs["steps"].numpy().tolist() == [[4, 8], [5, 10], [6, 12], [7, 14]]
    assert labels.numpy().tolist() == [[0], [1], [0], [1]]
    assert inputs["row"].dtype == "int32"


def test_labels_may_be_sequences():
    rows = Split({"row": np.arange(5)}, np.arange(15).reshape(5, 3), np.zeros(5))
    for shuffle in (False, True):
        for inputs, labels in rows.batches(2, shuffle=shuffle):
            assert labels.shape[1:] == (3,)
            assert (labels.numpy()[:, 1] == 3 * inputs["row"].numpy() + 1).all()


def test_shuffle_is_a_function_of_seed_and_epoch(part):
    def seen(**options):
        return rows_seen(part.batches(4, shuffle=True, **options)).tolist()

    assert seen(seed=1, epoch=2) == seen(seed=1, epoch=2)
    assert sorted(seen(seed=1, epoch=2)) == list(range(10))
    orders = {tuple(seen(seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    for inputs, labels in part.batches(4, shuffle=True):
        assert (inputs["row"].numpy() % 2 == labels.numpy()[:, 0]).all()
        assert (inputs["steps"].numpy()[:, 1] == 2 * inputs["row"].numpy()).all()


def test_drop_remainder_makes_shapes_static(part):
    batches = part.batches(4, shuffle=True, drop_remainder=True)
    assert len(batches) == 2
    inputs, labels = batches.element_spec
    assert inputs["steps"].shape == (4, 2)
    assert labels.shape == (4, 1)
    assert part.batches(4).element_spec[0]["steps"].shape.as_list() == [None, 2]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("names", ["abcdef", "a", "e", "cf"])
def test_inputs_of_each_shape_and_type_stay_together(names, shuffle):
    row = np.arange(7)
    inputs = {
        "a": row,
        "b": row / 2,
        "c": row[:, None] + 10,
        "d": row[:, None] / 4,
        "e": np.stack([row, row * 3], 1),
        "f": np.zeros((7, 2, 3), int) + row[:, None, None],
    }
    part = Split({name: inputs[name] for name in names}, row * 5, row)
    batches = part.batches(3, shuffle=shuffle, seed=4)
    order = part.order(4, 0) if shuffle else row
    seen = [x for _, x in batches]
    assert np.concatenate(seen).tolist() == [[5 * i] for i in order]
    for name in names:
        got = np.concatenate([x[name] for x, _ in batches])
        np.testing.assert_array_equal(got, inputs[name][order])
        assert got.dtype == part.inputs[name].dtype
        assert batches.element_spec[0][name].shape.as_list() == [None, *inputs[name].shape[1:]]


def test_select_keeps_rows_and_drops_inputs(part):
    only = part.select(["steps"])
    inputs, labels = next(iter(only.batches(4)))
    assert list(inputs) == ["steps"]
    assert inputs["steps"].numpy()[3].tolist() == [3, 6]
    assert labels.numpy()[3] == 1
    assert only.groups.tolist() == part.groups.tolist()
    assert part.select({"steps": 0, "row": 0}) is part
    with pytest.raises(ValueError, match="no input 'col'; there are 'row', 'steps'"):
        part.select(["row", "col"])


def test_batches_refuses_bad_numbers(part):
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        part.batches(0)
    with pytest.raises(ValueError, match="epoch must be 0 or more, got -1"):
        part.batches(4, shuffle=True, epoch=-1)


def test_a_split_checks_lengths_and_types():
    with pytest.raises(ValueError, match="'row' has 3 rows, but there are 2 labels"):
        Split({"row": [1, 2, 3]}, [0, 1], [1, 1])
    with pytest.raises(ValueError, match="'groups' has 1 rows, but there are 2 labels"):
        Split({"row": [1, 2]}, [0, 1], [1])
    with pytest.raises(ValueError, match="'row' must hold integers or floats, got dtype <U1"):
        Split({"row": ["a", "b"]}, [0, 1], [1, 1])
    with pytest.raises(ValueError, match="'row' holds ids beyond int32, up to 4294967297"):
        Split({"row": [1, 2**32 + 1]}, [0, 1], [1, 1])


def test_a_split_cannot_be_changed_in_place(part):
    with pytest.raises(ValueError, match="read-only"):
        part.inputs["row"][0] = 5


def one_row(**inputs):
    part = Split({name: np.array([value]) for name, value in inputs.items()}, [1], [1])
    return lambda *features: Dataset(part, part, part, features)


@pytest.mark.parametrize(
    ("inputs", "feature", "reason"),
    [
        ({"a": 4}, SparseFeature("b", 4), "train split lacks the feature 'b'; it has 'a'"),
        ({"a": 5}, SparseFeature("a", 4), r"'a' in the train split: id 5 is outside 0\.\.4"),
        ({"a": -1}, SparseFeature("a", 4), r"id -1 is outside 0\.\.4"),
        ({"a": 1.0}, SparseFeature("a", 4), "expected integer ids, got float32"),
        ({"a": [1]}, SparseFeature("a", 4), r"expected shape \[N\], got \[1, 1\]"),
        ({"a": [1, 2]}, SequenceFeature("a", 4, 3), r"expected shape \[N, 3\], got \[1, 2\]"),
        ({"a": [1, 9, 0]}, SequenceFeature("a", 4, 3), r"id 9 is outside 0\.\.4"),
        (
            {"a": [1, 2, 3]},
            SequenceFeature("a", 4, 3, sessions=2),
            r"expected shape \[N, 2, 3\], got \[1, 3\]",
        ),
        ({"a": 1}, DenseFeature("a"), "expected float32, got int32"),
        ({"a": [1.0, 2.0]}, DenseFeature("a"), r"expected shape \[N, 1\], got \[1, 2\]"),
    ],
)
def test_a_dataset_checks_inputs_against_features(inputs, feature, reason):
    with pytest.raises(ValueError, match=reason):
        one_row(**inputs)(feature)


def test_a_dataset_takes_each_kind_of_feature():
    made = one_row(a=4, b=[1.0, 2.0], c=[[1, 0], [0, 2]], d=0.5)(
        SparseFeature("a", 4),
        DenseFeature("b", 2),
        SequenceFeature("c", 2, max_length=2, sessions=2),
        DenseFeature("d"),
    )
    assert len(made.features) == 4
