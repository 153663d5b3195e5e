"""Sessions: pauses, users, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from recops.data import split_sessions


def by_hand(times, gap, groups):
    """One action after another, as a person would."""
    numbers, last = [], {}
    for time, user in zip(times, groups):
        number, before = last.get(user, (0, time))
        number += time - before >= gap
        last[user] = (number, time)
        numbers.append(number)
    return numbers


def test_a_pause_of_the_gap_itself_begins_a_session():
    assert split_sessions([0, 1799, 3598, 5398, 5398]).tolist() == [0, 0, 0, 1, 1]
    assert split_sessions([0, 1, 3], gap=2).tolist() == [0, 0, 1]
    assert split_sessions([0.0, 0.5, 1.5], gap=0.75).tolist() == [0, 0, 1]


@pytest.mark.parametrize("users", [1, 7])
def test_it_is_what_a_person_would_count(users):
    random = np.random.default_rng(users)
    groups = np.repeat([f"user {n}" for n in range(users)], random.integers(1, 40, users))
    times = np.concatenate(
        [
            np.sort(random.integers(0, 90_000, np.count_nonzero(groups == name)))
            for name in np.unique(groups)
        ]
    )
    found = split_sessions(times, groups=groups)
    assert found.tolist() == by_hand(times, 1800, groups)
    assert found.max() > 1


def test_each_user_begins_at_0_whatever_the_times():
    times = [10, 9000, 9100, 9100, 0, 5000]
    assert split_sessions(times, groups=[1, 1, 1, 4, 2, 2]).tolist() == [0, 1, 1, 0, 0, 1]


def test_few_actions():
    assert split_sessions([]).tolist() == []
    assert split_sessions([], groups=[]).tolist() == []
    assert split_sessions([7]).tolist() == [0]


@pytest.mark.parametrize(
    ("dtype", "times"),
    [("int8", [-128, 127]), ("int32", [-(2**31), 2**31 - 1]), ("uint64", [0, 2**64 - 1])],
)
def test_pauses_that_the_type_of_the_times_does_not_hold(dtype, times):
    assert split_sessions(np.array(times, dtype), gap=200).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"times": [3, 5, 4]}, "times must ascend, got 5 and then 4 at 2"),
        ({"times": [3, 5, 4], "groups": [1, 2, 2]}, "ascend within each user, got 5 and then 4"),
        ({"times": [3.0, float("nan")]}, "times must ascend"),
        ({"times": np.array([5000, 100], "uint64")}, "ascend, got 5000 and then 100 at 1"),
        ({"times": [float("nan")]}, "times must be numbers, got NaN at 0"),
        ({"times": [1, 2], "groups": ["a", None]}, "each row needs a group, got None in row 1"),
        ({"times": [1, 2], "groups": ["a", pd.NA]}, "each row needs a group, got <NA> in row 1"),
        ({"times": [1, 2], "groups": [1.0, float("nan")]}, r"got nan in row 1 \(1 of 2 rows\)"),
        ({"times": [1, 2, 3], "groups": [1, 2, 1]}, "must lie side by side"),
        ({"times": [1, 2], "groups": [1]}, r"groups must have the shape of times, \[2\], got \[1"),
        ({"times": [[1, 2]]}, r"shape \[N\], got int64 of shape \[1, 2\]"),
        ({"times": ["now"]}, "must be numbers"),
        ({"times": [1], "gap": 0}, "gap must be above 0, got 0"),
        ({"times": [1], "gap": float("nan")}, "gap must be above 0, got nan"),
    ],
)
def test_what_is_no_order_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        split_sessions(**arguments)
