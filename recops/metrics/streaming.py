"""Keras metrics that equal those on arrays: GAUC, and hit rate and NDCG of the k best."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops._core.numerics import widened
from recops.layers.base import positive


class _Lists(keras.metrics.Metric):
    """Weighted mean over lists of what `_values` says of each, in float64."""

    def __init__(self, k: int, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        positive(self, k=k)
        self.k = k
        # In float32 a million lists would lose digits.
        self.total, self.weight = (
            self.add_weight(name=what, shape=(), initializer="zeros", dtype="float64")
            for what in ("total", "weight")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add lists: y_true and y_pred [Q, N], sample_weight [Q] or [Q, 1]."""
        (scores,) = widened(tf.convert_to_tensor(y_pred))
        gains = tf.cast(y_true, tf.float64)
        if scores.shape.rank != 2 or not gains.shape.is_compatible_with(scores.shape):
            raise ValueError(
                f"{type(self).__name__}: y_true and y_pred must both be [Q, N], got "
                f"{gains.shape} and {scores.shape}"
            )
        if scores.shape[1] is not None and self.k > scores.shape[1]:
            raise ValueError(
                f"{type(self).__name__}: k must be 1 to {scores.shape[1]}, got {self.k}"
            )
        weight = _weights(sample_weight, tf.shape(scores)[0])
        # A list without a relevant item does not count, not even where it is not finite.
        weight = tf.where(tf.reduce_any(gains > 0, axis=1), weight, 0)
        known = tf.reduce_all(tf.math.is_finite(scores), axis=1)
        values = tf.where(known, self._values(gains, scores), float("nan"))
        self.total.assign_add(tf.reduce_sum(tf.math.multiply_no_nan(values, weight)))
        self.weight.assign_add(tf.reduce_sum(weight))

    def _values(self, gains: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError

    def result(self) -> tf.Tensor:
        """The mean so far; 0 before the first list that counts."""
        return tf.math.divide_no_nan(*map(compat.as_tensor, (self.total, self.weight)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}


@compat.serializable
class HitRate(_Lists):
    """Share of the lists with a relevant item among their k best; `hit_rate_at_k` of all batches.

    Args:
      k: 1 to N.
      name: `hit_rate_at_k` with the number by default.

    Defaults: k=10.

    Call: y_true [Q, N], relevance of each candidate, above 0 is relevant; y_pred [Q, N] scores;
    sample_weight [Q] or [Q, 1] of each list. Gives a scalar, float64. Lists without a relevant item
    do not count. Among equal scores the relevant items come last.

    Raises: ValueError for other shapes, or k beyond N.

    Numerics: a prediction that is not finite makes the result NaN.

    Example:
      >>> metric = HitRate(k=1)
      >>> metric.update_state([[0, 1, 0]], [[0.1, 0.9, 0.2]])
      >>> metric.update_state([[1, 0, 0]], [[0.1, 0.9, 0.2]])
      >>> float(metric.result())
      0.5
    """

    def __init__(self, k: int = 10, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(k, name or f"hit_rate_at_{k}", **kwargs)

    def _values(self, gains: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        relevant = gains > 0
        best = tf.reduce_max(tf.where(relevant, scores, scores.dtype.min), axis=1, keepdims=True)
        before = ~relevant & (scores >= best)
        return tf.cast(tf.reduce_sum(tf.cast(before, tf.int32), axis=1) < self.k, tf.float64)


@compat.serializable
class NDCG(_Lists):
    """Normalized discounted cumulative gain of the k best; `ndcg_at_k` of all batches.

    Args:
      k: 1 to N.
      name: `ndcg_at_k` with the number by default.

    Defaults: k=10.

    Call: y_true [Q, N] gains of 0 or more; y_pred [Q, N] scores; sample_weight [Q] or [Q, 1] of
    each list. Gives a scalar, float64. Lists without a gain do not count. Equal scores share the
    discounts of their ranks.

    Raises: ValueError for other shapes, or k beyond N.

    Numerics: a prediction that is not finite makes the result NaN.

    Example:
      >>> metric = NDCG(k=3)
      >>> metric.update_state([[0, 1, 2]], [[0.9, 0.8, 0.7]])
      >>> round(float(metric.result()), 4)
      0.6199
    """

    def __init__(self, k: int = 10, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(k, name or f"ndcg_at_{k}", **kwargs)

    def _values(self, gains: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        rank = tf.range(1, tf.shape(scores)[1] + 1)
        discount = tf.math.log(tf.constant(2, tf.float64)) / tf.math.log1p(
            tf.cast(rank, tf.float64)
        )
        discount = tf.where(rank <= self.k, discount, 0)
        # Discounts of the first r ranks. Items of equal score are at the ranks first .. last.
        first_ranks = tf.pad(tf.cumsum(discount), [[1, 0]])
        ascending = tf.sort(-scores)
        first = tf.searchsorted(ascending, -scores, side="left")
        last = tf.searchsorted(ascending, -scores, side="right")
        shared = (tf.gather(first_ranks, last) - tf.gather(first_ranks, first)) / tf.cast(
            last - first, tf.float64
        )
        best = tf.reduce_sum(tf.sort(gains, direction="DESCENDING") * discount, axis=1)
        return tf.math.divide_no_nan(tf.reduce_sum(gains * shared, axis=1), best)


@compat.serializable
class GAUC(keras.metrics.Metric):
    """AUC within each group, averaged by the group's rows; `gauc` of all batches together.

    It keeps each row that it was given, since an exact AUC needs them all, and sorts them for each
    result.

    Args:
      capacity: None keeps all rows, in memory that grows: not for `jit_compile=True`, which needs
        fixed sizes. A number keeps the latest so many rows, and runs everywhere.
      name: "gauc" by default.

    Call: y_true [B] or [B, 1], 0 or 1; y_pred [B] or [B, 1] scores; sample_weight [B] or [B, 1];
    groups [B] or [B, 1], integers below 2^53. Gives a scalar, float64; 0 while no group has both
    classes. A weight counts as so many equal rows would, among the pairs and for the group.

    `compile` passes no groups. There, y_true is [B, 2]: the label, and the group beside it, in a
    type that holds it exactly (float32 does up to 2^24). The loss then takes the first column:

        def loss(y_true, y_pred):
            return keras.losses.binary_crossentropy(y_true[:, :1], y_pred)

    Keras asks a metric for its result in each step. Where the rows are many, do not compile it:
    update it in a callback, or predict and call `gauc`.

    Raises: ValueError where the groups are missing.

    Numerics: exact, ties count half, as on arrays. A prediction that is not finite makes the result
    NaN, unless its weight is 0.

    Source: Zhu et al., Optimized Cost per Click in Taobao Display Advertising, KDD 2017.

    Example:
      >>> metric = GAUC()
      >>> metric.update_state([0, 1, 1], [0.2, 0.9, 0.3], groups=[7, 7, 8])
      >>> metric.update_state([[0, 8], [1, 9]], [[0.6], [0.5]])
      >>> float(metric.result())
      0.5
    """

    def __init__(self, capacity: int | None = None, name: str = "gauc", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if capacity is not None:
            positive(self, capacity=capacity)
        self.capacity = capacity
        self._rows = _Rows(capacity)

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, groups: Any = None
    ) -> None:
        """Add rows; see the class."""
        given = tf.convert_to_tensor(y_true)
        if groups is None:
            if given.shape.rank != 2 or given.shape[1] != 2:
                raise ValueError(
                    f"GAUC: needs groups: pass groups=, or y_true [B, 2] of labels and groups, got "
                    f"y_true {given.shape}"
                )
            given, groups = given[:, 0], given[:, 1]
        scores = _flat(y_pred)
        weight = _weights(sample_weight, tf.shape(scores)[0])
        rows = tf.stack([_flat(given), scores, weight, _flat(groups)])
        self._rows.add(rows)

    def result(self) -> tf.Tensor:
        """GAUC of the rows kept."""
        return _gauc(*tf.unstack(self._rows.kept()))

    def reset_state(self) -> None:
        """Forget all rows."""
        self._rows.forget()

    def reset_states(self) -> None:
        """The name of `reset_state` in older code."""
        self.reset_state()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "capacity": self.capacity}


class _Rows:
    """Label, score, weight and group of the rows seen, [4, N] float64.

    Not a variable of Keras, which cannot grow, and would be saved with the model.
    """

    def __init__(self, capacity: int | None) -> None:
        # Where the size is fixed, a row of weight 0 is none.
        self._none = tf.zeros([4, capacity or 0], tf.float64)
        self._all = tf.Variable(self._none, shape=[4, capacity], trainable=False, name="rows")
        self._capacity = capacity

    def add(self, rows: tf.Tensor) -> None:
        rows = tf.concat([self._all, rows], axis=1)
        if self._capacity is not None:
            rows = tf.ensure_shape(rows[:, -self._capacity :], [4, self._capacity])
        self._all.assign(rows)

    def kept(self) -> tf.Tensor:
        return self._all.read_value()

    def forget(self) -> None:
        self._all.assign(self._none)


def _gauc(labels: tf.Tensor, scores: tf.Tensor, weight: tf.Tensor, groups: tf.Tensor) -> tf.Tensor:
    # By group, and by score within each: the second sort keeps the order of the first.
    order = tf.argsort(scores, stable=True)
    order = tf.gather(order, tf.argsort(tf.gather(groups, order), stable=True))
    labels, scores, weight, groups = (tf.gather(x, order) for x in (labels, scores, weight, groups))
    fresh_group = _changes(groups)
    group = _numbered(fresh_group)
    run = _numbered(fresh_group | _changes(scores))
    count = tf.shape(scores)[0]

    def total(x: tf.Tensor, of: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_sum(x, of, count)

    clicks, others = weight * labels, weight * (1 - labels)
    in_run = total(others, run)
    # Sums of integers are exact here, so equal scores count exactly one half.
    below_run = tf.cumsum(in_run, exclusive=True) - tf.gather(
        tf.cumsum(total(others, group), exclusive=True), _first(group, run, count)
    )
    won = total(clicks * tf.gather(below_run + in_run / 2, run), group)
    pairs = total(clicks, group) * total(others, group)
    size = tf.where(pairs > 0, total(weight, group), 0)
    areas = tf.math.divide_no_nan(won, pairs)
    result = tf.math.divide_no_nan(tf.reduce_sum(size * areas), tf.reduce_sum(size))
    broken = (weight > 0) & ~tf.math.is_finite(scores)
    return tf.where(tf.reduce_any(broken), tf.constant(float("nan"), tf.float64), result)


def _changes(x: tf.Tensor) -> tf.Tensor:
    """Whether a row differs from the one before."""
    return tf.concat([tf.zeros_like(x[:1], tf.bool), x[1:] != x[:-1]], axis=0)


def _numbered(fresh: tf.Tensor) -> tf.Tensor:
    """Number of the stretch that each row is in, where `fresh` says which rows begin one."""
    return tf.cumsum(tf.cast(fresh, tf.int32))


def _first(group: tf.Tensor, run: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The group of each run; 0 for the runs that there are not."""
    return tf.maximum(tf.math.unsorted_segment_max(group, run, count), 0)


def _weights(sample_weight: Any, count: Any) -> tf.Tensor:
    if sample_weight is None:
        return tf.ones([count], tf.float64)
    return tf.broadcast_to(_flat(sample_weight), [count])


def _flat(values: Any) -> tf.Tensor:
    return tf.reshape(tf.cast(values, tf.float64), [-1])
