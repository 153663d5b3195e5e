"""Losses that Keras lacks. All are float32 inside and leave out what is masked."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks, compat
from recops._core.compat import keras
from recops._core.numerics import widened

REDUCTIONS = ("masked_mean", "mean")


def auxiliary_loss(
    click_logits: Any, negative_logits: Any, mask: Any = None, reduction: str = "masked_mean"
) -> tf.Tensor:
    """Auxiliary loss of DIEN: each interest tells the next click from a behaviour that was not.

        loss[b, t] = -log sigmoid(click_logits[b, t]) - log(1 - sigmoid(negative_logits[b, t]))

    Args:
      click_logits: [B, T], float: how well interest t fits behaviour t + 1.
      negative_logits: [B, T], dtype of `click_logits`: how well it fits a sampled one.
      mask: [B, T] bool, True = keep, None keeps all: whether both steps are behaviours.
      reduction: "masked_mean", the mean over the kept steps, or "mean", the sum over the kept steps
        divided by B T, as the authors' code has it: padding makes the loss small there.

    Defaults: reduction="masked_mean".

    Returns: scalar, float32 (float64 for float64 logits); 0 when no step is kept.

    Raises: ValueError for a wrong shape, dtype or reduction.

    Numerics: cross-entropy of logits, in float32 at least. What is masked, NaN included, changes
    neither loss nor gradient.

    Source: Zhou et al., Deep Interest Evolution Network, AAAI 2019, eq. 7, which sums over the
    steps of an example; both reductions here average over them.

    Example:
      >>> import numpy as np
      >>> logits = np.zeros((1, 2), "float32")
      >>> round(float(auxiliary_loss(logits, logits, np.array([[True, False]]))), 4)
      1.3863
    """
    op = "auxiliary_loss"
    clicks = checks.floats(op, "click_logits", click_logits, "B T")
    size = checks.sizes(clicks, 0, 1)
    negatives = checks.floats(op, "negative_logits", negative_logits, size, clicks.dtype)
    checks.choice(op, "reduction", reduction, REDUCTIONS)
    mask = tf.ones(tf.shape(clicks), tf.bool) if mask is None else mask
    kept = checks.mask(op, "mask", mask, size)
    clicks, negatives = widened(clicks, negatives)
    zero = tf.zeros([], clicks.dtype)
    # -log sigmoid(x) = softplus(-x), and -log(1 - sigmoid(x)) = softplus(x).
    terms = tf.nn.softplus(tf.where(kept, -clicks, zero)) + tf.nn.softplus(
        tf.where(kept, negatives, zero)
    )
    total = tf.reduce_sum(tf.where(kept, terms, zero))
    counted = kept if reduction == "masked_mean" else tf.ones_like(kept)
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(counted, total.dtype)))


def identity(y_true: Any, y_pred: Any) -> tf.Tensor:
    """Loss of a model whose output is its loss already, [B] or [B, 1]; labels are not looked at.

    For `compile(loss=...)` beside `recops.layers.SampledSoftmax`; `sample_weight` acts as always.

    Args:
      y_true: anything.
      y_pred: [B] or [B, 1], float, the losses.

    Returns: [B], float32 at least.

    Example:
      >>> import numpy as np
      >>> identity(None, np.array([[1.0], [2.0]], "float32")).numpy()
      array([1., 2.], dtype=float32)
    """
    (given,) = widened(tf.convert_to_tensor(y_pred))
    return tf.reshape(given, [-1])


# Keras 2 loads a function by its name alone, and would find its initializer "identity"; a file that
# Keras 3 wrote may still say so.
identity.__name__ = "identity_loss"
for _name in ("identity", identity.__name__):
    keras.utils.register_keras_serializable(package="recops", name=_name)(identity)


@compat.serializable
class MaskedCrossentropy(keras.losses.Loss):
    """What `masked_crossentropy` returns: a loss for `compile`, and for saved models.

    Args:
      label_smoothing: in [0, 1), see there.
      name: as of every Keras loss.

    Defaults: label_smoothing=0.0.

    Call: y_true [...], int, 0 is padding; y_pred [..., K] logits; sample_weight [B] or [...]. Gives
    a scalar, the mean over what is no padding.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 5.4.

    Example:
      >>> MaskedCrossentropy(label_smoothing=0.1).get_config()["label_smoothing"]
      0.1
    """

    def __init__(
        self, label_smoothing: float = 0.0, name: str = "masked_crossentropy", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"masked_crossentropy: label_smoothing must be in [0, 1), got {label_smoothing!r}"
            )
        self.label_smoothing = label_smoothing

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        kept = tf.cast(y_true, tf.int64) != 0
        terms = self.call(y_true, y_pred)
        if sample_weight is not None:
            weight = tf.cast(sample_weight, terms.dtype)
            while weight.shape.rank < terms.shape.rank:
                weight = weight[..., None]
            terms = tf.where(kept, terms * weight, tf.zeros([], terms.dtype))
        return tf.math.divide_no_nan(
            tf.reduce_sum(terms), tf.reduce_sum(tf.cast(kept, terms.dtype))
        )

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """The loss of each position, 0 at padding."""
        labels, (logits,) = tf.cast(y_true, tf.int64), widened(tf.convert_to_tensor(y_pred))
        kept, zero = labels != 0, tf.zeros([], logits.dtype)
        logits = tf.where(kept[..., None], logits, zero)
        right = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if self.label_smoothing:
            # The mean of -log p over all classes.
            even = tf.reduce_logsumexp(logits, -1) - tf.reduce_mean(logits, -1)
            right += self.label_smoothing * (even - right)
        return tf.where(kept, right, zero)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def masked_crossentropy(label_smoothing: float = 0.0) -> MaskedCrossentropy:
    """Cross-entropy of sequences whose id 0 is padding, for `compile(loss=...)`.

        loss = sum over labels != 0 of -sum_k q_k log softmax(logits)_k   /   count of labels != 0

    with q_k = (1 - label_smoothing) [k = label] + label_smoothing / K over all K classes, as Keras
    smooths; other texts share label_smoothing among the K - 1 wrong classes.

    Args:
      label_smoothing: in [0, 1).

    Defaults: label_smoothing=0.0.

    Returns: a Keras loss, called with labels [...] int and logits [..., K] float, and optionally
    sample_weight [B] or [...], that gives a scalar, float32 (float64 for float64 logits); 0 when
    all is padding.

    Numerics: float32 at least. Logits at padding, NaN included, change neither loss nor gradient.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 5.4.

    Example:
      >>> import numpy as np
      >>> labels, logits = np.array([[2, 0]]), np.zeros((1, 2, 4), "float32")
      >>> round(float(masked_crossentropy(label_smoothing=0.1)(labels, logits)), 4)
      1.3863
    """
    return MaskedCrossentropy(label_smoothing)


def weighted_binary_crossentropy(
    y_true: Any, y_pred: Any, watch_time: Any = None, *, from_logits: bool = False
) -> tf.Tensor:
    """Cross-entropy whose positives weigh as much as they were watched (YouTube's ranking).

        loss[b] = -watch_time[b] log p[b]  where the video was watched,  -log(1 - p[b])  elsewhere

    The odds p / (1 - p) that fit best are the watch time of all impressions, divided by the number
    of those that were not clicked: where clicks are rare, the expected watch time of an impression.
    `YoutubeDNNRanking(...).serving_model()` gives them.

    Args:
      y_true: [B] or [B, 1], the watch time in any unit, 0 (or less) where nothing was watched; or,
        beside `watch_time`, the labels: above 0 is a click.
      y_pred: [B] or [B, 1], float: probabilities, or logits.
      watch_time: [B] or [B, 1], of the clicks; what stands at the others is not looked at.
      from_logits: whether `y_pred` is logits, which lose no precision where p is near 0 or 1;
        probabilities are kept 1e-7 away from both, as Keras does.

    Defaults: from_logits=False.

    Returns: [B], float32 (float64 for float64 predictions). For `compile(loss=...)`, which passes
    the first two, there is `WeightedBinaryCrossentropy` as well.

    Raises: ValueError where the numbers of rows differ.

    Numerics: cross-entropy of logits, in float32 at least. A NaN in y_true makes a NaN.

    Source: Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    section 4.2.

    Example:
      >>> import numpy as np
      >>> watched, p = np.array([[30.0], [0.0]]), np.array([[0.5], [0.75]], "float32")
      >>> weighted_binary_crossentropy(watched, p).numpy().round(4)
      array([20.7944,  1.3863], dtype=float32)
    """
    (given,) = widened(tf.reshape(tf.convert_to_tensor(y_pred), [-1]))
    label = _rows_like(given, "y_true", y_true)
    weight = label if watch_time is None else _rows_like(given, "watch_time", watch_time)
    if not from_logits:
        chance = tf.clip_by_value(given, 1e-7, 1 - 1e-7)
        given = tf.math.log(chance) - tf.math.log1p(-chance)
    # Asked in this way, a NaN is no label of either kind.
    watched = tf.where(label > 0, weight * tf.nn.softplus(-given), label)
    return tf.where(label <= 0, tf.nn.softplus(given), watched)


def _rows_like(given: tf.Tensor, name: str, values: Any) -> tf.Tensor:
    rows = tf.reshape(tf.cast(values, given.dtype), [-1])
    if not rows.shape.is_compatible_with(given.shape):
        raise ValueError(
            f"weighted_binary_crossentropy: {name} must have a row for each of y_pred, "
            f"{checks.describe(given)}, got {checks.describe(rows)}"
        )
    return rows


keras.utils.register_keras_serializable(package="recops")(weighted_binary_crossentropy)


@compat.serializable
class WeightedBinaryCrossentropy(keras.losses.Loss):
    """`weighted_binary_crossentropy` as a loss object, for models that give logits.

    Args:
      from_logits: as there. name, reduction: as of every Keras loss.

    Defaults: from_logits=False.

    Call: y_true, the watch time, and y_pred, [B] or [B, 1] each; sample_weight [B]. Gives a scalar,
    the mean over the batch.

    Source: Covington et al., RecSys 2016, section 4.2.

    Example:
      >>> import numpy as np
      >>> loss = WeightedBinaryCrossentropy(from_logits=True)
      >>> round(float(loss(np.array([[30.0], [0.0]]), np.zeros((2, 1), "float32"))), 4)
      10.7438
    """

    def __init__(
        self,
        from_logits: bool = False,
        name: str = "weighted_binary_crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """The loss of each row, [B]."""
        return weighted_binary_crossentropy(y_true, y_pred, from_logits=self.from_logits)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}
