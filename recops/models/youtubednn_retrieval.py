"""YoutubeDNN's first stage: which few of all items a user may want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from recops._core import compat
from recops._core.compat import keras
from recops.features import Feature, SequenceFeature, SparseFeature, check
from recops.layers import SampledSoftmax
from recops.models._parts import Parts
from recops.models.feature_model import FeatureModel, assembled


@compat.serializable
class RetrievalModel(FeatureModel):
    """A model of user inputs and the item that was chosen, whose output is its loss, [B, 1].

    `YoutubeDNNRetrieval` makes it. A user's score of an item is the inner product of both vectors.
    """

    @property
    def user_model(self) -> Any:
        """keras.Model from the user's inputs, without the item, to the user's vectors [B, D]."""
        if not hasattr(self, "_user_model"):
            symbols = {symbol.name: symbol for symbol in self.inputs}
            del symbols[self.item]
            made = FeatureModel(symbols, self._asked("inputs"), name=f"{self.name}_user")
            # Not tracked by Keras: its layers are those of this model.
            object.__setattr__(self, "_user_model", made)
        return self._user_model

    @property
    def item(self) -> str:
        """Name of the input that holds the item."""
        return self._asked("labels").name

    def item_embeddings(self) -> Any:
        """The items' vectors, [V + 1, D] float32 NumPy array; row 0 is padding."""
        return compat.as_tensor(compat.producer(self.output).embeddings).numpy()

    def _asked(self, argument: str) -> Any:
        """What the softmax is called with: the symbolic vector of the user, or the item."""
        return compat.call_argument(compat.producer(self.output), argument)


def YoutubeDNNRetrieval(
    features: Sequence[Feature],
    *,
    item: str = "item",
    hidden_units: Sequence[int] | None = None,
    activation: Any = "relu",
    output_activation: Any = "linear",
    dropout: float | Sequence[float] = 0.0,
    use_bn: bool = False,
    bn_momentum: float = 0.9,
    num_sampled: int = 100,
    sampler: str = "log_uniform",
    counts: Any = None,
    distortion: float = 0.75,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Hidden layers that turn what a user did into a vector, trained to choose the next item.

        u = deep([mean of watched, mean of searched, ..., example age])
        loss = -log softmax over the item and sampled others of <u, v_item>

    The item is one of the inputs, since which items are sampled depends on it, and the output is
    the loss of each row. Compile with `recops.losses.identity`; labels are not looked at:

        model.compile("adam", recops.losses.identity)
        model.fit({**user_inputs, "item": items}, zeros, sample_weight=...)
        index = recops.retrieval.Index(model.item_embeddings()[1:], range(1, V + 1))
        index.search(model.user_model.predict(user_inputs), k=10)

    Args:
      features: of the user, pooled by their combiners: watched items (a SequenceFeature with
        target=item), searched words, sparse features, and dense ones such as the example age (0
        when serving, see `recops.data.example_age`). And among them the sparse feature of the item;
        its embedding_dim is D.
      item: name of that feature. The vectors v of the softmax are a table of their own, apart from
        the one that histories are read by, as in the paper.
      hidden_units: widths; the last one must be D. None is (4 D, 2 D, D), a tower as in the paper.
      activation, output_activation: of all layers but the last, and of that. The paper has ReLU
        there too; then no user can dislike anything, and small vectors die.
      dropout: after all layers but the last, one rate or a list.
      use_bn, bn_momentum: batch normalization before each hidden layer's activation, as in `MLP`.
      num_sampled, sampler, counts, distortion: as in `SampledSoftmax`. "log_uniform" takes the
        items' ids to be in order of falling frequency; "frequency" needs counts [V + 1]. Id 0 is
        never drawn.
      l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      backend: of all layers. seed: of initial weights, dropout and sampled items.

    Defaults: item="item", activation="relu", output_activation="linear", dropout=0.0, use_bn=False,
    bn_momentum=0.9, num_sampled=100, sampler="log_uniform", distortion=0.75, l2_hidden=0.0,
    l2_embedding=0.0, l2_embedding_rows="all".

    Returns: RetrievalModel, a keras.Model from {feature name: values} to [B, 1] float32, with
    `user_model` and `item_embeddings()`, also when it was reloaded.

    Raises: ValueError where `item` is no sparse feature, nothing of the user is left, or the last
    hidden layer does not have the width D.

    Source: Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    section 3.

    Example:
      >>> from recops.features import SequenceFeature, SparseFeature
      >>> watched = SequenceFeature("watched", 99, max_length=20, embedding_dim=8, target="item")
      >>> model = YoutubeDNNRetrieval([SparseFeature("item", 99, 8), watched])
      >>> model.user_model.output_shape, model.item_embeddings().shape
      ((None, 8), (100, 8))
    """
    name = "YoutubeDNNRetrieval"
    label = next((f for f in check(features) if f.name == item), None)
    if not isinstance(label, SparseFeature):
        raise ValueError(
            f"{name}: item must name a SparseFeature, got {item!r} among "
            f"{', '.join(feature.name for feature in features)}"
        )
    own = [_of_user(feature, label) for feature in features if feature is not label]
    if not own:
        raise ValueError(f"{name}: needs features of the user beside {item!r}, got none")
    dim = label.embedding_dim
    widths = (4 * dim, 2 * dim, dim) if hidden_units is None else tuple(hidden_units)
    if not widths or widths[-1] != dim:
        raise ValueError(
            f"{name}: the last of hidden_units must be {dim}, the embedding_dim of {item!r}, got "
            f"{widths}"
        )
    parts = Parts(
        name,
        own,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    x = parts.hidden(
        parts.vector(),
        widths[:-1],
        activation,
        dropout,
        l2_hidden,
        use_bn=use_bn,
        bn_momentum=bn_momentum,
    )
    # Indexes take float32.
    user = keras.layers.Dense(
        dim,
        output_activation,
        kernel_initializer=parts.glorot(),
        name="user_vector",
        dtype="float32",
    )(x)  # [B, D]
    chosen = label.input()
    softmax = SampledSoftmax(
        label.vocabulary_size,
        num_sampled,
        sampler,
        counts,
        distortion,
        embeddings_initializer=keras.initializers.RandomUniform(seed=parts.seed()),
        embeddings_regularizer=keras.regularizers.L2(l2_embedding) if l2_embedding else None,
        seed=parts.seed(),
        regularized_rows=l2_embedding_rows,
        backend=backend,
        name="item_vectors",
    )
    symbols = {**parts.inputs, item: chosen}
    return assembled(RetrievalModel, symbols, softmax(user, chosen), name)


def _of_user(feature: Feature, label: SparseFeature) -> Feature:
    """A feature that can be read without the item; what was watched keeps the item's table."""
    if isinstance(feature, SequenceFeature) and feature.target == label.name:
        table = feature.embedding_name or label.table
        return replace(feature, target=None, embedding_name=table)
    return feature
