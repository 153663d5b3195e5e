"""DIEN's two layers: interests behind the behaviours, and how those near a target evolve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops import losses
from recops._core import checks, compat, dispatch
from recops._core.compat import keras
from recops.layers.base import OpLayer, build_child, kept, positive
from recops.layers.dynamic_gru import DynamicGRU
from recops.layers.mlp import MLP
from recops.layers.target_attention import TargetAttention
from recops.ops.dynamic_gru.options import AUGRU_FORMS, GRU_TYPES


class _Seeded(OpLayer):
    """A layer whose sublayers draw from seeds of their own next to its one."""

    seed: int | None

    def _seed(self, place: int) -> int | None:
        return None if self.seed is None else self.seed + place

    def _gru(self, units: int | None, gru_type: str, first: int, **options: Any) -> DynamicGRU:
        return DynamicGRU(
            units,
            gru_type,
            kernel_initializer=keras.initializers.GlorotUniform(seed=self._seed(first)),
            recurrent_initializer=keras.initializers.Orthogonal(seed=self._seed(first + 1)),
            backend=self.backend,
            name="gru",
            dtype=self.dtype_policy,
            **options,
        )

    def _dense(self, units: int, place: int, **options: Any) -> Any:
        initializer = keras.initializers.GlorotUniform(seed=self._seed(place))
        return keras.layers.Dense(units, kernel_initializer=initializer, **options)


@compat.serializable
class InterestExtractor(_Seeded):
    """Interests behind the behaviours (DIEN): [B, T, D] -> [B, T, H], the states of a GRU.

    Given sampled negatives it adds the auxiliary loss to the model: the interest of a step, with
    the behaviour after it and with a sampled one, goes through a small network that shall tell the
    two apart. See `recops.losses.auxiliary_loss`.

    Args:
      units: H; None is D.
      auxiliary_units: hidden layers, with a sigmoid each, of the network on [interest, behaviour];
        () scores by the inner product, which needs H == D.
      auxiliary_weight: factor of the loss.
      reduction: of the loss, "masked_mean" or "mean".
      reset_after: of the GRU, as in `DynamicGRU`.
      seed: of all kernels.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: auxiliary_units=(100, 50), auxiliary_weight=1.0, reduction="masked_mean",
    reset_after=False.

    Call: behaviors [B, T, D], float; negatives [B, T, D], one that was not chosen beside each, or
    None for no loss; mask [B, T] bool, True = keep, in any pattern, None is the one that Keras
    carries with the behaviors, or keeps all; training. Returns [B, T, H] in the compute dtype, 0
    where masked. The loss is of all pairs of neighbouring steps that are kept.

    Numerics: the GRU's state, the last logits and the loss are float32 for 16-bit inputs. What is
    masked, NaN included, changes neither output nor gradient.

    Source: Zhou et al., Deep Interest Evolution Network, AAAI 2019, section 4.2. The network in
    place of the inner product is the authors' code's, without its batch normalization.

    Example:
      >>> import numpy as np
      >>> clicks, others = np.ones((2, 5, 4), "float32"), np.zeros((2, 5, 4), "float32")
      >>> layer = InterestExtractor()
      >>> layer(clicks, others).shape, len(layer.losses)
      (TensorShape([2, 5, 4]), 1)
    """

    def __init__(
        self,
        units: int | None = None,
        auxiliary_units: Sequence[int] = (100, 50),
        auxiliary_weight: float = 1.0,
        reduction: str = "masked_mean",
        reset_after: bool = False,
        seed: int | None = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.supports_masking = True
        self.units = units
        self.auxiliary_units = tuple(auxiliary_units)
        self.auxiliary_weight = auxiliary_weight
        self.reduction = checks.choice(
            "InterestExtractor", "reduction", reduction, losses.REDUCTIONS
        )
        self.reset_after = reset_after
        self.seed = seed
        if units is not None:
            positive(self, units=units)
        self.gru = self._gru(units, "gru", 0, reset_after=reset_after)
        self.network = self.logit = None
        if self.auxiliary_units:
            self.network = MLP(
                self.auxiliary_units,
                "sigmoid",
                seed=self._seed(8),
                backend=self.backend,
                name="network",
                dtype=self.dtype_policy,
            )
            self.logit = self._dense(1, 4, name="logit", dtype=_wide(self))

    def __call__(self, behaviors: Any, negatives: Any = None, *args: Any, **kwargs: Any) -> Any:
        compat.build_with_all_shapes(self, behaviors=behaviors, negatives=negatives)
        return super().__call__(behaviors, negatives, *args, **kwargs)

    def build(self, behaviors_shape: Any, negatives_shape: Any = None) -> None:
        batch, steps, width = _three(self, "behaviors", behaviors_shape)
        units = self.units or width
        build_child(self.gru, (batch, steps, width))
        self.compares = negatives_shape is not None
        if self.compares and self.network is not None:
            build_child(self.network, (batch, None, units + width))
            build_child(self.logit, (batch, None, self.auxiliary_units[-1]))
        elif self.compares and units != width:
            raise ValueError(
                f"InterestExtractor: the inner product of interests and behaviours needs units = "
                f"D = {width}, got units = {units}; set auxiliary_units for a network instead"
            )
        self.built = True

    def call(
        self, behaviors: Any, negatives: Any = None, mask: Any = None, training: Any = None
    ) -> tf.Tensor:
        name = type(self).__name__
        mask = kept(mask, behaviors)
        behaviors = checks.floats(name, "behaviors", behaviors, "B T D")
        if mask is None:
            mask = tf.ones(tf.shape(behaviors)[:2], tf.bool)
        mask = checks.mask(name, "mask", mask, checks.sizes(behaviors, 0, 1))
        interests = self.gru(behaviors, mask=mask, training=training)  # [B, T, H]
        if negatives is not None and not dispatch.is_serving():
            if not self.compares:
                raise ValueError(
                    f"{name}: got negatives after a first call without them; a layer that was "
                    f"built without has no network for the auxiliary loss"
                )
            size = checks.sizes(behaviors, 0, 1, 2)
            # Keras 2 casts the first argument alone.
            negatives = tf.cast(negatives, behaviors.dtype)
            negatives = checks.floats(name, "negatives", negatives, size)
            self.add_loss(self._loss(interests, behaviors, negatives, mask))
        return interests

    def _loss(self, interests: Any, behaviors: Any, negatives: Any, mask: Any) -> tf.Tensor:
        pairs = mask[:, :-1] & mask[:, 1:]  # [B, T - 1]
        zero = tf.zeros([], behaviors.dtype)
        # Zeros in place of padding: a NaN would reach the kernels' gradients through a product.
        interests, clicks, others = (
            tf.where(pairs[..., None], x, zero)
            for x in (interests[:, :-1], behaviors[:, 1:], negatives[:, 1:])
        )
        if self.network is None or self.logit is None:
            wide = [tf.cast(x, _wide(self)) for x in (interests, clicks, others)]
            logits = [tf.reduce_sum(wide[0] * x, axis=2) for x in wide[1:]]
        else:
            both = [tf.concat([interests, x], axis=2) for x in (clicks, others)]
            scores = self.logit(self.network(tf.concat(both, axis=0)))[..., 0]  # [2B, T - 1]
            logits = tf.split(scores, 2)
        loss = losses.auxiliary_loss(logits[0], logits[1], pairs, self.reduction)
        return self.auxiliary_weight * loss

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(self, behaviors_shape: Any, *_: Any, **__: Any) -> Any:
        batch, steps, width = tuple(behaviors_shape)
        return (batch, steps, self.units or width)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "auxiliary_units": list(self.auxiliary_units),
            "auxiliary_weight": self.auxiliary_weight,
            "reduction": self.reduction,
            "reset_after": self.reset_after,
            "seed": self.seed,
        }


@compat.serializable
class InterestEvolution(_Seeded):
    """How the interests near a target evolve (DIEN): [B, D], [B, T, H] -> [B, H].

    The unit of `TargetAttention`, normalized, scores each interest for the target; a second GRU
    reads the interests with these scores, and its last state is the result.

    Args:
      gru_type: "augru", "agru" or "aigru", see `DynamicGRU`; or "gru", which reads the interests
        without scores: then the scores pool its states.
      augru_form: of AUGRU, "paper" or "alibaba".
      hidden_units, activation: of the attention, as in `TargetAttention`. Where D differs from H,
        the target first goes through a matrix [D, H].
      reset_after: of the GRU, as in `DynamicGRU`.
      seed: of all kernels.
      return_weights: also return the scores, [B, T], 0 where masked.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: gru_type="augru", augru_form="paper", hidden_units=(80, 40), activation="sigmoid",
    reset_after=False, return_weights=False.

    Call: query [B, D] and interests [B, T, H], float; mask [B, T] bool, True = keep, in any
    pattern, None is the one that Keras carries with the interests, or keeps all; training. Returns
    [B, H], or ([B, H], [B, T]), in the compute dtype; 0 in a row that keeps nothing.

    Numerics: state, scores and softmax are float32 for 16-bit inputs. What is masked, NaN included,
    changes neither output nor gradient.

    Source: Zhou et al., Deep Interest Evolution Network, AAAI 2019, section 4.3. The paper scores
    by a matrix [H, D] alone; the network is the authors' code's.

    Example:
      >>> import numpy as np
      >>> interests = np.ones((2, 5, 4), "float32")
      >>> InterestEvolution()(interests[:, 0], interests).shape
      TensorShape([2, 4])
    """

    def __init__(
        self,
        gru_type: str = "augru",
        augru_form: str = "paper",
        hidden_units: Sequence[int] = (80, 40),
        activation: Any = "sigmoid",
        reset_after: bool = False,
        seed: int | None = None,
        return_weights: bool = False,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.supports_masking = True
        self.gru_type = checks.choice("InterestEvolution", "gru_type", gru_type, GRU_TYPES)
        self.augru_form = checks.choice("InterestEvolution", "augru_form", augru_form, AUGRU_FORMS)
        self.hidden_units = tuple(hidden_units)
        self.reset_after = reset_after
        self.seed = seed
        self.return_weights = return_weights
        self.attention = TargetAttention(
            hidden_units,
            activation,
            return_weights=True,
            seed=self._seed(8),
            backend=backend,
            name="attention",
            dtype=self.dtype_policy,
        )
        self.gru = self._gru(
            None,
            gru_type,
            0,
            augru_form=augru_form,
            return_sequences=gru_type == "gru",
            reset_after=reset_after,
        )

    def __call__(self, query: Any, interests: Any, *args: Any, **kwargs: Any) -> Any:
        compat.build_with_all_shapes(self, query=query, interests=interests)
        return super().__call__(query, interests, *args, **kwargs)

    def build(self, query_shape: Any, interests_shape: Any) -> None:
        batch, steps, units = _three(self, "interests", interests_shape)
        self.projection = None
        if query_shape[-1] != units:
            self.projection = self._dense(
                units, 4, use_bias=False, name="projection", dtype=self.dtype_policy
            )
            build_child(self.projection, tuple(query_shape))
        with tf.name_scope(self.attention.name):
            self.attention.build((batch, units), (batch, steps, units))
        build_child(self.gru, (batch, steps, units))
        self.built = True

    def call(self, query: Any, interests: Any, mask: Any = None, training: Any = None) -> Any:
        name = type(self).__name__
        mask = kept(mask, interests)
        # Keras 2 casts the first argument alone.
        query, interests = (tf.cast(x, self.compute_dtype) for x in (query, interests))
        query = checks.floats(name, "query", query, "B D")
        interests = checks.floats(name, "interests", interests, "B T H")
        if mask is None:
            mask = tf.ones(tf.shape(interests)[:2], tf.bool)
        mask = checks.mask(name, "mask", mask, checks.sizes(interests, 0, 1))
        target = query if self.projection is None else self.projection(query)  # [B, H]
        if self.gru_type == "gru":
            states = self.gru(interests, mask=mask, training=training)  # [B, T, H]
            out, scores = self.attention(target, states, mask=mask, training=training)
        else:
            _, scores = self.attention(target, interests, mask=mask, training=training)  # [B, T]
            out = self.gru(interests, scores, mask=mask, training=training)  # [B, H]
        return (out, scores) if self.return_weights else out

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(self, query_shape: Any, interests_shape: Any) -> Any:
        out = (query_shape[0], interests_shape[-1])
        return (out, tuple(interests_shape)[:2]) if self.return_weights else out

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gru_type": self.gru_type,
            "augru_form": self.augru_form,
            "hidden_units": list(self.hidden_units),
            "activation": self.attention.get_config()["activation"],
            "reset_after": self.reset_after,
            "seed": self.seed,
            "return_weights": self.return_weights,
        }


def _three(layer: Any, name: str, shape: Any) -> tuple[Any, ...]:
    """The sizes of an input that must have three axes and a static width."""
    shape = tuple(tf.TensorShape(shape))
    if len(shape) != 3 or shape[2] is None:
        raise ValueError(
            f"{type(layer).__name__}: expected {name} [B, T, width] of a static width, got "
            f"{['?' if size is None else size for size in shape]}"
        )
    return shape


def _wide(layer: Any) -> str:
    """Float32, or float64 for a layer that computes in it."""
    return "float64" if layer.compute_dtype == "float64" else "float32"
