"""Ids by a hash that every process and machine, and a served graph, computes alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recops.data.factors import Factors

# An id is int32, and 0 is unknown.
_MOST_BUCKETS = 2**31 - 2
# Groups are told apart by so many numbers, which int64 holds.
_GROUPS = 2**62


def checked_buckets(
    buckets: int | Mapping[str, int] | None, columns: Sequence[str] | None
) -> int | dict[str, int] | None:
    """The numbers of buckets as `Encoder` keeps them, or ValueError."""
    if buckets is None:
        return None
    given = dict(buckets) if isinstance(buckets, Mapping) else {"": buckets}
    for name, number in given.items():
        of = f" of {name!r}" if name else ""
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
            raise ValueError(f"Encoder: hash_buckets{of} must be an integer, got {number!r}")
        if not 1 <= number <= _MOST_BUCKETS:
            raise ValueError(
                f"Encoder: hash_buckets{of} must be 1 to {_MOST_BUCKETS}, got {number}"
            )
    if not isinstance(buckets, Mapping):
        return int(buckets)
    if not buckets or (columns is not None and set(map(str, columns)) != set(map(str, buckets))):
        raise ValueError(
            f"Encoder: hash_buckets must have a number for each of the columns "
            f"{list(columns or ())}, got {list(buckets)}"
        )
    return {str(name): int(number) for name, number in buckets.items()}


def hashed(column: Factors, buckets: int) -> np.ndarray:
    """[N] int32 ids 1..buckets of the values of a column, 0 where missing."""
    # One entry more, for the code -1 of a missing value.
    table = np.zeros(len(column.distinct) + 1, np.int32)
    table[:-1] = _hash(column.distinct, buckets) + 1
    return table[column.codes]


def group_numbers(column: Factors) -> np.ndarray:
    """[N] int64: equal where the values are, in whatever block they come; -1 where missing."""
    table = np.full(len(column.distinct) + 1, -1, np.int64)
    table[:-1] = _hash(column.distinct, _GROUPS)
    return table[column.codes]


def _hash(values: Sequence[Any], buckets: int) -> np.ndarray:
    import tensorflow as tf

    if not len(values):
        return np.zeros(0, np.int64)
    with tf.device("CPU:0"):
        texts = tf.constant([_text(value) for value in values])
        return tf.strings.to_hash_bucket_fast(texts, buckets).numpy()


def _text(value: Any) -> str:
    """Numbers that are equal have one text, as they have one id where values are learnt."""
    if isinstance(value, str):
        return value
    number = float(value)
    return str(int(value)) if number.is_integer() else repr(number)
