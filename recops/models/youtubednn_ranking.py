"""YoutubeDNN's second stage: how long a user would watch what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core import compat
from recops._core.compat import keras
from recops.features import Feature
from recops.models._parts import Parts
from recops.models.feature_model import FeatureModel, assembled


@compat.serializable
class RankingModel(FeatureModel):
    """A model whose output is a probability, [B, 1], and whose odds are the expected watch time.

    `YoutubeDNNRanking` makes it. Both are in the same order, so either ranks.
    """

    @property
    def serving_model(self) -> Any:
        """keras.Model from the same inputs to the expected watch time exp(W x + b), [B, 1] float32.

        It shares the weights, reads only Keras and the layers of this model, and can be saved by
        itself. The exponential is taken in float32 under every policy: float16 ends at exp(11).

        Raises: ValueError for a model of task="regression", whose output is no probability.
        """
        if not hasattr(self, "_serving_model"):
            head = compat.producer(self.output)
            if head.activation is not keras.activations.sigmoid:
                raise ValueError(
                    f"{self.name}: the expected watch time needs a model of task='binary'; that of "
                    f"'regression' gives its output as it is"
                )
            watch_time = keras.layers.Activation(
                "exponential", name="expected_watch_time", dtype="float32"
            )
            made = assembled(
                FeatureModel, self.input, watch_time(head.input), f"{self.name}_serving"
            )
            # Not tracked by Keras: its layers are those of this model.
            object.__setattr__(self, "_serving_model", made)
        return self._serving_model


def YoutubeDNNRanking(
    features: Sequence[Feature],
    *,
    hidden_units: Sequence[int] = (1024, 512, 256),
    activation: Any = "relu",
    dropout: float | Sequence[float] = 0.0,
    use_bn: bool = False,
    bn_momentum: float = 0.9,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Hidden layers over averaged histories and percentiles, which learn odds of watch time.

        p = sigmoid(W deep([embeddings, mean of watched, ..., percentiles]) + b)
        expected watch time = exp(W deep(...) + b)

    Train it on the watch time, 0 where the video was shown, not clicked; then the odds p / (1 - p)
    are, where clicks are rare, the expected watch time of an impression, in the same unit:

        model.compile("adam", recops.losses.weighted_binary_crossentropy)
        model.fit(inputs, watch_time)
        model.serving_model.predict(inputs)

    `recops train` has MovieLens, which knows no watch time: there a click counts as one unit, so
    that the loss is the plain cross-entropy, and what is served are the odds of a click.

    Args:
      features: any. Sequences are pooled by their combiners ("mean" in the paper). Numbers should
        be those of `recops.data.percentile_features`: a DenseFeature of dimension 3, the percentile
        with its square and root. The paper has the time since the user last watched the channel,
        and how often the video was shown to the user already.
      hidden_units, activation, dropout: of the deep part, as in `MLP`.
      use_bn, bn_momentum: batch normalization before each hidden layer's activation, as in `MLP`.
      l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression", which has no `serving_model`.
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: hidden_units=(1024, 512, 256), activation="relu", dropout=0.0, use_bn=False,
    bn_momentum=0.9, l2_hidden=0.0, l2_embedding=0.0, l2_embedding_rows="all", task="binary".

    Returns: RankingModel, a keras.Model from {feature name: values} to [B, 1] float32, with
    `serving_model`, also when it was reloaded.

    Raises: ValueError for contradicting features.

    Source: Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    section 4.

    Example:
      >>> import numpy as np
      >>> from recops.data import percentile_features
      >>> from recops.features import DenseFeature, SequenceFeature, SparseFeature
      >>> watched = SequenceFeature("watched", 99, max_length=20, target="video")
      >>> model = YoutubeDNNRanking(
      ...     [SparseFeature("video", 99), watched, DenseFeature("age", dimension=3)]
      ... )
      >>> ages = percentile_features([3.0, 40.0, 7.0])
      >>> batch = {"video": np.array([5, 7, 7]), "watched": np.ones((3, 20), int), "age": ages}
      >>> model.serving_model(batch).shape
      TensorShape([3, 1])
    """
    parts = Parts(
        "YoutubeDNNRanking",
        features,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    deep = parts.hidden(
        parts.vector(),
        hidden_units,
        activation,
        dropout,
        l2_hidden,
        use_bn=use_bn,
        bn_momentum=bn_momentum,
    )
    made = parts.model(parts.logit(deep, use_bias=True, name="output_logit"))
    return assembled(RankingModel, parts.inputs, made.output, parts.name)
