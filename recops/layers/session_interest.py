"""DSIN's session interests as the target sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops._core import checks, compat
from recops.layers.base import OpLayer, build_child, kept
from recops.layers.bilstm import BiLSTM
from recops.layers.session import SessionExtractor
from recops.layers.target_attention import TargetAttention


@compat.serializable
class SessionInterest(OpLayer):
    """Interests of the sessions and their course, weighed by the target: [B, K, T, D] -> [B, 2 D].

        i = extractor(sessions)    [B, K, D]            h = bilstm(i)    [B, K, D]
        out = [attention(query, i), attention'(query, h)]

    A session without a step takes no part: the LSTMs pass it over and its weights are 0.

    Args:
      num_heads, use_layer_norm, use_positional, causal, mask_diagonal: as in `SessionExtractor`.
      lstm_layers, res_layers: LSTMs in each stack of the `BiLSTM`, whose directions are averaged,
        and how many of the last add their input.
      hidden_units, activation, weight_normalization: of both attentions, as in `TargetAttention`.
      dropout: rate in the extractor and of the LSTMs' inputs.
      seed: of weights and dropout.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: num_heads=1, lstm_layers=2, res_layers=0, hidden_units=(80, 40), activation="sigmoid",
    weight_normalization=True, dropout=0.0, use_layer_norm=True, use_positional="bias",
    causal=False, mask_diagonal=False.

    Call: query [B, D] and sessions [B, K, T, D], float; mask [B, K, T] bool, True = keep, None is
    the one that Keras carries with the sessions, or keeps all; training. Returns [B, 2 D] in the
    compute dtype, 0 where all is masked.

    Numerics: as in the layers within: what is masked, NaN included, changes neither output nor
    gradient.

    Source: Feng et al., Deep Session Interest Network, IJCAI 2019, sections 3.3 to 3.5. The paper
    scores a session by i W query; the unit of DIN here is that of the authors' code.

    Example:
      >>> import numpy as np
      >>> sessions = np.ones((2, 3, 5, 4), "float32")
      >>> SessionInterest()(sessions[:, 0, 0], sessions).shape
      TensorShape([2, 8])
    """

    def __init__(
        self,
        num_heads: int = 1,
        lstm_layers: int = 2,
        res_layers: int = 0,
        hidden_units: Sequence[int] = (80, 40),
        activation: Any = "sigmoid",
        weight_normalization: bool = True,
        dropout: float = 0.0,
        use_layer_norm: bool = True,
        use_positional: str | None = "bias",
        causal: bool = False,
        mask_diagonal: bool = False,
        seed: int | None = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.supports_masking = True
        self.lstm_layers = lstm_layers
        self.res_layers = res_layers
        self.dropout = dropout
        self.seed = seed
        self.extractor = SessionExtractor(
            num_heads,
            dropout=dropout,
            use_layer_norm=use_layer_norm,
            use_positional=use_positional,
            causal=causal,
            mask_diagonal=mask_diagonal,
            seed=self._seed(0),
            backend=backend,
            name="extractor",
            dtype=self.dtype_policy,
        )
        self.attentions = [
            TargetAttention(
                hidden_units,
                activation,
                weight_normalization,
                seed=self._seed(64 * (i + 1)),
                backend=backend,
                name=name,
                dtype=self.dtype_policy,
            )
            for i, name in enumerate(("attention", "course_attention"))
        ]

    def _seed(self, place: int) -> int | None:
        return None if self.seed is None else self.seed + place

    def __call__(self, query: Any, sessions: Any, *args: Any, **kwargs: Any) -> Any:
        compat.build_with_all_shapes(self, query=query, sessions=sessions)
        return super().__call__(query, sessions, *args, **kwargs)

    def build(self, query_shape: Any, sessions_shape: Any) -> None:
        batch, count, _, dim = tuple(sessions_shape)
        self.bilstm = BiLSTM(
            dim,
            self.lstm_layers,
            self.res_layers,
            self.dropout,
            seed=self._seed(256),
            name="bilstm",
            dtype=self.dtype_policy,
        )
        build_child(self.extractor, sessions_shape)
        build_child(self.bilstm, (batch, count, dim))
        for attention in self.attentions:
            with tf.name_scope(attention.name):
                attention.build(query_shape, (batch, count, dim))
        self.built = True

    def call(self, query: Any, sessions: Any, mask: Any = None, training: Any = None) -> tf.Tensor:
        name = type(self).__name__
        mask = kept(mask, sessions)
        # Keras 2 casts the first argument alone.
        query, sessions = (tf.cast(x, self.compute_dtype) for x in (query, sessions))
        query = checks.floats(name, "query", query, "B D")
        sessions = checks.floats(name, "sessions", sessions, f"B K T {query.shape[1]}")
        if mask is None:
            mask = tf.ones(tf.shape(sessions)[:3], tf.bool)
        mask = checks.mask(name, "mask", mask, checks.sizes(sessions, 0, 1, 2))
        interests = self.extractor(sessions, mask=mask, training=training)  # [B, K, D]
        filled = tf.reduce_any(mask, axis=2)  # [B, K]
        course = self.bilstm(interests, mask=filled, training=training)  # [B, K, D]
        return tf.concat(
            [
                attention(query, keys, mask=filled, training=training)
                for attention, keys in zip(self.attentions, (interests, course))
            ],
            axis=1,
        )

    def compute_mask(self, query: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(self, query_shape: Any, *_: Any, **__: Any) -> Any:
        batch, dim = tuple(query_shape)
        return (batch, 2 * dim)

    def get_config(self) -> dict[str, Any]:
        within = self.extractor.get_config()
        attention = self.attentions[0].get_config()
        return {
            **super().get_config(),
            **{
                name: within[name]
                for name in (
                    "num_heads",
                    "use_layer_norm",
                    "use_positional",
                    "causal",
                    "mask_diagonal",
                )
            },
            **{
                name: attention[name]
                for name in ("hidden_units", "activation", "weight_normalization")
            },
            "lstm_layers": self.lstm_layers,
            "res_layers": self.res_layers,
            "dropout": self.dropout,
            "seed": self.seed,
        }
