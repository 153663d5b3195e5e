"""The Transformer from sequence to sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import checks, compat, dispatch
from recops._core.compat import keras
from recops.layers import PositionalEncoding, TransformerDecoder, TransformerEncoder
from recops.layers.base import build_child, positive
from recops.layers.dropout import Dropout

_NAMES = ("source", "target")


@compat.serializable
class Transformer(keras.Model):
    """Transformer: logits of each next target id, and greedy decoding of whole targets.

        logits = W decoder(embed(target) + positions, encoder(embed(source) + positions)) + b

    Args:
      source_vocabulary, target_vocabulary: number of real ids V; ids run 0..V and 0 is padding.
        Ids that start and end a target are among the V, wherever the caller has put them.
      d_model: width of the embeddings and of all layers.
      layers: number of encoder layers, and of decoder layers.
      heads: of every attention; they divide d_model.
      dff: width of the hidden fully connected layers.
      max_length: the longest source and target.
      dropout: rate after embeddings and sublayers.
      seed: makes initial weights and dropout masks reproducible.
      backend: of all layers; None leaves the choice to recops.

    Defaults: d_model=128, layers=4, heads=8, dff=512, max_length=40, dropout=0.1.

    Call: (source [B, S], target [B, T]), int, as a tuple or list or as a dict of "source" and
    "target"; training. Returns logits [B, T, target_vocabulary + 1], float32: those at step t see
    the whole source and target[:, :t + 1]. For training, the target goes in without its last id
    and is compared without its first (teacher forcing); see `recops.losses.masked_crossentropy`.

    Raises: ValueError for lengths beyond max_length; InvalidArgumentError for an id beyond its
    vocabulary (NaN inside jit_compile=True).

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017; normalization after each sum,
    as there. Embeddings and logits have weights of their own.

    Example:
      >>> import numpy as np
      >>> model = Transformer(9, 7, d_model=8, layers=1, heads=2, dff=16)
      >>> source = np.array([[3, 4, 0], [5, 0, 0]])
      >>> model((source, np.array([[6, 2], [6, 0]]))).shape
      TensorShape([2, 2, 8])
      >>> model.generate(source, start=6, end=7, max_length=4).shape
      TensorShape([2, 4])
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        d_model: int = 128,
        layers: int = 4,
        heads: int = 8,
        dff: int = 512,
        max_length: int = 40,
        dropout: float = 0.1,
        seed: int | None = None,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = {
            "source_vocabulary": source_vocabulary,
            "target_vocabulary": target_vocabulary,
            "d_model": d_model,
            "layers": layers,
            "heads": heads,
            "dff": dff,
            "max_length": max_length,
        }
        positive(self, **sizes)
        if d_model % heads:
            raise ValueError(f"Transformer: heads={heads} must divide d_model={d_model}")
        if backend is not None:
            dispatch.check_name(backend, "Transformer: backend")
        self.options: dict[str, Any] = {
            **sizes,
            "dropout": dropout,
            "seed": seed,
            "backend": backend,
        }
        self.max_length = max_length
        self.backend = backend
        common: dict[str, Any] = {"backend": backend, "dtype": self.dtype_policy}
        common |= {"num_heads": heads, "intermediate_dim": dff, "dropout": dropout}
        seeds = iter([None] * 99 if seed is None else range(seed, seed + 10**6, 1000))
        # With the factor sqrt(d_model) an embedding is as large as its position.
        self.initializers = [
            keras.initializers.RandomNormal(stddev=d_model**-0.5, seed=next(seeds)) for _ in _NAMES
        ]
        self.positions = PositionalEncoding(max_length, name="positions", dtype=self.dtype_policy)
        self.dropouts = [
            Dropout(dropout, seed=next(seeds), name=f"{name}_dropout", dtype=self.dtype_policy)
            for name in _NAMES
        ]
        self.encoders = [
            TransformerEncoder(seed=next(seeds), name=f"encoder_{i}", **common)
            for i in range(layers)
        ]
        self.decoders = [
            TransformerDecoder(seed=next(seeds), name=f"decoder_{i}", **common)
            for i in range(layers)
        ]
        self.head = keras.layers.Dense(
            target_vocabulary + 1,
            kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
            name="logits",
            dtype="float32",
        )
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """All weights: their shapes depend on the options alone."""
        if getattr(self, "built", False):
            return
        steps = (None, None, self.options["d_model"])
        with tf.name_scope(self.name):
            self.tables = [
                compat.add_table(
                    self,
                    name=f"{name}_embeddings",
                    shape=(self.options[f"{name}_vocabulary"] + 1, self.options["d_model"]),
                    initializer=initializer,
                )
                for name, initializer in zip(_NAMES, self.initializers)
            ]
            for layer in (self.positions, *self.dropouts, *self.encoders, self.head):
                build_child(layer, steps)
            for decoder in self.decoders:
                with tf.name_scope(decoder.name):
                    decoder.build(steps, steps)
        self.built = True

    def call(self, inputs: Any, training: Any = None) -> tf.Tensor:
        pair = [inputs[name] for name in _NAMES] if isinstance(inputs, Mapping) else inputs
        source, target = (
            checks.ids("Transformer", name, value, "B T") for name, value in zip(_NAMES, pair)
        )
        encoded = self._encode(source, training)
        x = self.dropouts[1](self.positions(self._embed(1, target)), training=training)
        for decoder in self.decoders:
            x = decoder(x, encoded, mask=target != 0, encoded_mask=source != 0, training=training)
        return self.head(x)

    def _embed(self, side: int, ids: tf.Tensor) -> tf.Tensor:
        table = compat.variable(self.tables[side])
        found = ops.embedding_lookup(table, ids, backend=self.backend or "auto")
        return tf.cast(found, self.compute_dtype)

    def _encode(self, source: tf.Tensor, training: Any = None) -> tf.Tensor:
        x = self.dropouts[0](self.positions(self._embed(0, source)), training=training)
        for encoder in self.encoders:
            x = encoder(x, mask=source != 0, training=training)
        return x

    def generate(
        self, source: Any, start: int, end: int, max_length: int | None = None
    ) -> tf.Tensor:
        """The likeliest id at each step, given those before: greedy decoding.

        Keys and values of earlier steps are kept, so a step costs one step, and all steps are one
        graph, traced once for each shape of `source`. Decoding ends with the last row that meets
        `end`. Padding is never chosen.

        Args:
          source: ids [B, S], int.
          start: id before the first one.
          end: id that ends a target.
          max_length: the most ids of a target; None is the model's, which is the most.

        Returns: ids [B, max_length], int32, without `start`, with `end` where it came, 0 after it.
        """
        length = self.max_length if max_length is None else max_length
        positive(self, max_length=length)
        if length > self.max_length:
            raise ValueError(
                f"Transformer: max_length must be at most the model's {self.max_length}, got "
                f"{length}"
            )
        source = checks.ids("Transformer", "source", source, "B S")
        if not hasattr(self, "_generating"):
            # Not tracked by Keras: it is a program, and no part of the model.
            object.__setattr__(self, "_generating", tf.function(self.decode, autograph=False))
        return self._generating(source, tf.constant(start), tf.constant(end), length)

    def decode(self, source: tf.Tensor, start: tf.Tensor, end: tf.Tensor, length: int) -> tf.Tensor:
        """The program of `generate`, of tensors: for a `tf.function` of one's own."""
        kept, encoded = source != 0, self._encode(source, training=False)
        caches, known = zip(*(d.start(encoded, length) for d in self.decoders))
        batch = tf.shape(source)[0]
        places = tf.range(length)

        def going(step: tf.Tensor, last: tf.Tensor, ended: tf.Tensor, *_: Any) -> tf.Tensor:
            return (step < length) & ~tf.reduce_all(ended)

        def decode(
            step: tf.Tensor, last: tf.Tensor, ended: tf.Tensor, ids: tf.Tensor, caches: Any
        ) -> tuple[Any, ...]:
            x = self.positions.at(self._embed(1, last[:, None]), step[None])  # [B, 1, D]
            filled = []
            for decoder, cache, encoded_cache in zip(self.decoders, caches, known):
                x, cache = decoder.step(x, step, cache, encoded_cache, kept)
                filled.append(cache)
            logits = self.head(x)[:, 0]  # [B, V + 1]
            best = 1 + tf.argmax(logits[:, 1:], axis=-1, output_type=tf.int32)
            best = tf.where(ended, 0, best)
            ids = tf.where(places == step, best[:, None], ids)
            return step + 1, best, ended | (best == end), ids, tuple(filled)

        state = (
            tf.constant(0),
            tf.fill([batch], start),
            tf.zeros([batch], tf.bool),
            tf.zeros([batch, length], tf.int32),
            caches,
        )
        return tf.while_loop(going, decode, state)[3]

    def get_build_config(self) -> None:
        """Nothing: a new model has its weights."""

    def get_config(self) -> dict[str, Any]:
        return {**self.options, "name": self.name, "dtype": self.dtype_policy.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Transformer:
        return cls(**config)
