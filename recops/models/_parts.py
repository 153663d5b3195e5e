"""What the models are made of: inputs, embeddings, hidden layers, logits and the head."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from recops._core import checks
from recops._core.compat import keras
from recops.features import (
    DenseFeature,
    Feature,
    SequenceFeature,
    SparseFeature,
    check,
    inputs,
)
from recops.layers import MLP, FusedEmbedding, Linear, PaddingMask
from recops.layers.mlp import batch_normalization
from recops.layers.regularization import REGULARIZED_ROWS
from recops.models.feature_model import FeatureModel, assembled

_HEADS = {"binary": "sigmoid", "regression": "linear"}


class Parts:
    """A model in the making.

    Sparse and sequence features are its fields, dense features its numbers.

    Args:
      name: of the model, for messages and `keras.Model.name`.
      features: of `recops.features`.
      min_fields: how many fields the model needs to interact.
      task: "binary" (a probability) or "regression" (any real number).
      seed: makes all initial weights and dropout masks reproducible; None draws new ones.
      backend: of all layers.
      l2_embedding: L2 penalty of the embeddings.
      l2_embedding_rows: which rows of its tables a model penalises: "all" makes the gradient of a
        table with a penalty dense; of "batch" it stays sparse. See `FusedEmbedding`.
      sequences: which behaviours of a `target` the model reads: "pooled" reads all; "histories"
        leaves out those in sessions, "sessions" those without, and each needs one of its kind.
      keep_negatives: read sampled negatives (`negative_of`), which train few models.
    """

    def __init__(
        self,
        name: str,
        features: Sequence[Feature],
        *,
        min_fields: int = 0,
        task: str = "binary",
        seed: int | None = None,
        backend: str | None = None,
        l2_embedding: float = 0.0,
        l2_embedding_rows: str = "all",
        sequences: str = "pooled",
        keep_negatives: bool = False,
    ) -> None:
        self.name = name
        self.features = [
            feature for feature in check(features) if _read(feature, sequences, keep_negatives)
        ]
        if sequences != "pooled" and not self._behaviors:
            raise ValueError(
                f"{name}: needs a SequenceFeature with target="
                f"{' and sessions=' if sequences == 'sessions' else ' and no sessions'}, got "
                f"{', '.join(f.name for f in check(features))}"
            )
        self.numbers = [f for f in self.features if isinstance(f, DenseFeature)]
        self.fields = [f for f in self.features if not isinstance(f, DenseFeature)]
        if len(self.fields) < max(min_fields, 0 if self.numbers else 1):
            raise ValueError(
                f"{name}: needs at least {max(min_fields, 1)} sparse or sequence features, got "
                f"{len(self.fields)}: {', '.join(f.name for f in self.fields) or 'none'}"
            )
        self.task = checks.choice(name, "task", task, tuple(_HEADS))
        self.backend = backend
        self.l2_embedding = l2_embedding
        self.l2_embedding_rows = checks.choice(
            name, "l2_embedding_rows", l2_embedding_rows, REGULARIZED_ROWS
        )
        self.inputs = inputs(self.features)
        self._random = None if seed is None else random.Random(seed)

    @property
    def histories(self) -> list[SequenceFeature]:
        """The behaviours of a sparse feature in one sequence, [B, T]."""
        return [f for f in self._behaviors if not f.sessions]

    @property
    def sessions(self) -> list[SequenceFeature]:
        """The behaviours of a sparse feature in sessions, [B, K, T]."""
        return [f for f in self._behaviors if f.sessions]

    @property
    def _behaviors(self) -> list[SequenceFeature]:
        return [f for f in self.features if isinstance(f, SequenceFeature) and f.target]

    @property
    def negatives(self) -> list[SequenceFeature]:
        """The sampled negatives that the model reads."""
        return [f for f in self.features if isinstance(f, SequenceFeature) and f.negative_of]

    def target_of(self, behavior: SequenceFeature) -> SparseFeature:
        """The sparse feature that a history is of: the candidate."""
        for feature in self.features:
            if feature.name == behavior.target and isinstance(feature, SparseFeature):
                return feature
        raise ValueError(
            f"{self.name}: the target {behavior.target!r} of {behavior.name!r} is no SparseFeature "
            f"among the features: {', '.join(f.name for f in self.features)}"
        )

    def seed(self) -> int | None:
        """The next seed, or None for a model without one."""
        return None if self._random is None else self._random.randrange(2**31 - 1024)

    def glorot(self) -> Any:
        """Initializer of a kernel."""
        return keras.initializers.GlorotUniform(seed=self.seed())

    def embeddings(self, name: str = "embedding", width: int | None = None) -> Any:
        """Embeddings of all fields, [B, F, D]; `width` stands in for the features' own D."""
        fields = [replace(f, embedding_dim=width) if width else f for f in self.fields]
        return self._embedded(fields, name, join=True)

    def steps(self, name: str = "embedding") -> tuple[dict[str, Any], dict[str, Any]]:
        """Embeddings by feature, and the masks of behaviours and negatives.

        [B, D] of a sparse feature or a pooled list, [B, T, D] or [B, K, T, D] of a behaviour, whose
        mask is [B, T] or [B, K, T]. All of a table come from one gather.
        """
        masks = {
            feature.name: PaddingMask(name=f"mask_{feature.name}")(self.inputs[feature.name])
            for feature in (*self._behaviors, *self.negatives)
        }
        return self._embedded(self.fields, name, join=False), masks

    def _embedded(self, fields: Sequence[Any], name: str, join: bool) -> Any:
        layer = FusedEmbedding(
            fields,
            embeddings_initializer=keras.initializers.RandomUniform(seed=self.seed()),
            embeddings_regularizer=l2(self.l2_embedding),
            join=join,
            regularized_rows=self.l2_embedding_rows,
            backend=self.backend,
            name=name,
        )
        return layer({feature.name: self.inputs[feature.name] for feature in fields})

    def vector(self) -> Any:
        """All features in one vector: flat embeddings, then numbers. [B, F D + n]"""
        flat = keras.layers.Flatten()(self.embeddings()) if self.fields else None
        return self.with_numbers(flat)

    def with_numbers(self, x: Any) -> Any:
        """`x` [B, n] (or None) with the numbers of the dense features behind it."""
        return join(x, *(self.inputs[feature.name] for feature in self.numbers))

    def linear(self, l1: float = 0.0, l2: float = 0.0) -> Any:
        """First-order logit of all features, with the bias of the model. [B, 1]"""
        layer = Linear(
            self.features,
            l1=l1,
            l2=l2,
            kernel_initializer=self.glorot(),
            regularized_rows=self.l2_embedding_rows,
            backend=self.backend,
            name="linear",
            dtype="float32",
        )
        return layer(self.inputs)

    def hidden(
        self,
        x: Any,
        units: Sequence[int],
        activation: Any,
        dropout: float | Sequence[float],
        l2: float,
        **options: Any,
    ) -> Any:
        """`x` through the hidden layers, if there are any."""
        if not units:
            return x
        mlp = MLP(
            units,
            activation,
            dropout,
            l2=l2,
            seed=self.seed(),
            backend=self.backend,
            name="hidden",
            **options,
        )
        return mlp(x)

    def normalized_hidden(
        self,
        x: Any,
        units: Sequence[int],
        activation: Any,
        dropout: float | Sequence[float],
        l2: float,
        use_bn: bool | str,
        bn_momentum: float,
    ) -> Any:
        """`hidden`, where "input" and True also normalize what the hidden layers read."""
        if use_bn not in ("input", True, False):
            raise ValueError(f'{self.name}: use_bn must be "input", True or False, got {use_bn!r}')
        if use_bn:
            x = batch_normalization(bn_momentum, name="normalization")(x)
        inner = {"use_bn": use_bn is True, "bn_momentum": bn_momentum}
        return self.hidden(x, units, activation, dropout, l2, **inner)

    def logit(self, x: Any, use_bias: bool, name: str, penalty: float = 0.0) -> Any:
        """`x` [B, n] weighed into one number without activation, in float32. [B, 1]"""
        dense = keras.layers.Dense(
            1,
            use_bias=use_bias,
            kernel_initializer=self.glorot(),
            kernel_regularizer=l2(penalty),
            name=name,
            dtype="float32",
        )
        return dense(x)

    def model(self, *logits: Any) -> Any:
        """The model whose logits are added and then pass one head."""
        total = logits[0]
        if len(logits) > 1:
            total = keras.layers.Add(name="logit", dtype="float32")(list(logits))
        head = keras.layers.Activation(_HEADS[self.task], name="output", dtype="float32")
        return assembled(FeatureModel, self.inputs, head(total), self.name)


def join(*tensors: Any) -> Any:
    """The tensors [B, n] that are not None, side by side."""
    present = [tensor for tensor in tensors if tensor is not None]
    return present[0] if len(present) == 1 else keras.layers.Concatenate()(present)


def l2(weight: float) -> Any:
    """An L2 penalty, or None: even a penalty of 0 would read all weights."""
    return keras.regularizers.L2(weight) if weight else None


def _read(feature: Feature, sequences: str, keep_negatives: bool) -> bool:
    """Whether a model reads a feature: see `Parts`."""
    if not isinstance(feature, SequenceFeature):
        return True
    if feature.negative_of:
        return keep_negatives and sequences != "sessions"
    if not feature.target or sequences == "pooled":
        return True
    return bool(feature.sessions) == (sequences == "sessions")
