"""Feature columns: what a model is told about its inputs, and the Keras inputs they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recops._core.compat import keras

COMBINERS = ("mean", "sum", "sqrtn")


def _check_positive(feature: Any, *fields: str) -> None:
    for field in fields:
        value = getattr(feature, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{type(feature).__name__}({feature.name!r}): {field} must be a positive integer, "
                f"got {value!r}"
            )


@dataclass(frozen=True)
class SparseFeature:
    """One categorical id per example.

    Args:
      name: key of the input in a batch; shape [B], int32 or int64.
      vocabulary_size: number of real ids V. Ids run 0..V, where 0 is unknown or padding.
      embedding_dim: width D of its embedding.
      embedding_name: features with the same name share one table; the feature's name by default.

    Defaults: embedding_dim=16.

    Example:
      >>> SparseFeature("item", vocabulary_size=1682, embedding_dim=8).table
      'item'
    """

    name: str
    vocabulary_size: int
    embedding_dim: int = 16
    embedding_name: str | None = None

    def __post_init__(self) -> None:
        _check_positive(self, "vocabulary_size", "embedding_dim")

    @property
    def table(self) -> str:
        """Name of the embedding table that this feature reads."""
        return self.embedding_name or self.name

    def input(self) -> Any:
        """Keras input of this feature, [B]."""
        return keras.Input(shape=(), name=self.name, dtype="int32")


@dataclass(frozen=True)
class DenseFeature:
    """A real number, or a vector of `dimension` of them, per example.

    Args:
      name: key of the input in a batch; shape [B] or [B, dimension], float.
      dimension: width of the vector.

    Defaults: dimension=1.

    Example:
      >>> DenseFeature("price").dimension
      1
    """

    name: str
    dimension: int = 1

    def __post_init__(self) -> None:
        _check_positive(self, "dimension")

    def input(self) -> Any:
        """Keras input of this feature, [B, dimension]."""
        return keras.Input(shape=(self.dimension,), name=self.name, dtype="float32")


@dataclass(frozen=True)
class SequenceFeature:
    """A list of ids per example, padded with 0 on either side to `max_length`.

    Args:
      name: key of the input in a batch; shape [B, max_length], int32 or int64.
      vocabulary_size: number of real ids V. Ids run 0..V, where 0 is padding.
      max_length: steps T (per session, when `sessions` is given).
      embedding_dim: width D of its embedding.
      embedding_name: name of its table; that of `target` or `negative_of`, else its own name.
      combiner: how the embeddings are pooled where one vector is needed: "mean", "sum", "sqrtn".
      target: name of the sparse feature whose history this is; it shares that feature's table.
      negative_of: name of the history whose sampled negatives these are (auxiliary loss).
      sessions: number of sessions K; the input is then [B, K, max_length].

    Defaults: embedding_dim=16, combiner="mean".

    Example:
      >>> SequenceFeature("hist_item", 1682, max_length=50, target="item").table
      'item'
    """

    name: str
    vocabulary_size: int
    max_length: int
    embedding_dim: int = 16
    embedding_name: str | None = None
    combiner: str = "mean"
    target: str | None = None
    negative_of: str | None = None
    sessions: int | None = None

    def __post_init__(self) -> None:
        _check_positive(self, "vocabulary_size", "max_length", "embedding_dim")
        if self.sessions is not None:
            _check_positive(self, "sessions")
        if self.combiner not in COMBINERS:
            raise ValueError(
                f"SequenceFeature({self.name!r}): combiner must be one of {', '.join(COMBINERS)}, "
                f"got {self.combiner!r}"
            )

    @property
    def table(self) -> str:
        """Name of the embedding table that this feature reads."""
        return self.embedding_name or self.target or self.name

    def input(self) -> Any:
        """Keras input of this feature, [B, T] or [B, K, T]."""
        steps = (self.max_length,)
        shape = steps if self.sessions is None else (self.sessions, *steps)
        return keras.Input(shape=shape, name=self.name, dtype="int32")


Feature = SparseFeature | DenseFeature | SequenceFeature
_KINDS = {cls.__name__: cls for cls in (SparseFeature, DenseFeature, SequenceFeature)}


def check(features: Iterable[Feature]) -> list[Feature]:
    """Return the features as a list, or raise ValueError when two of them contradict each other."""
    features = list(features)
    if not features:
        raise ValueError("features: expected at least one feature, got none")
    seen: set[str] = set()
    for feature in features:
        if not isinstance(feature, tuple(_KINDS.values())):
            raise ValueError(
                f"features: expected {', '.join(_KINDS)}, got {type(feature).__name__}: {feature!r}"
            )
        if feature.name in seen:
            raise ValueError(f"features: the name {feature.name!r} is used twice")
        seen.add(feature.name)
    return features


def tables(features: Sequence[Feature]) -> dict[str, int]:
    """Rows of each embedding table, in order of first use: {table name: vocabulary_size + 1}.

    A history or its negatives read the table of the feature that they point at.
    """
    rows: dict[str, int] = {}
    for feature in features:
        if isinstance(feature, DenseFeature):
            continue
        table, size = table_of(feature, features), feature.vocabulary_size + 1
        if rows.setdefault(table, size) != size:
            raise ValueError(
                f"feature {feature.name!r} shares the table {table!r}, so its vocabulary_size "
                f"must be {rows[table] - 1}, got {feature.vocabulary_size}"
            )
    return rows


def table_of(feature: SparseFeature | SequenceFeature, features: Sequence[Feature]) -> str:
    """Table that a feature reads, following `target` and `negative_of` to the feature they name."""
    if feature.embedding_name or isinstance(feature, SparseFeature):
        return feature.table
    pointer = feature.target or feature.negative_of
    if pointer is None:
        return feature.table
    for other in features:
        if other.name == pointer and not isinstance(other, DenseFeature):
            return table_of(other, features)
    raise ValueError(
        f"feature {feature.name!r} points at {pointer!r}, which is not among the features: "
        f"{', '.join(f.name for f in features)}"
    )


def inputs(features: Sequence[Feature]) -> dict[str, Any]:
    """One Keras input a feature, keyed by its name."""
    return {feature.name: feature.input() for feature in features}


def to_config(features: Sequence[Feature]) -> list[dict[str, Any]]:
    """Plain dictionaries that `from_config` reads back."""
    return [{"class_name": type(f).__name__, **asdict(f)} for f in features]


def from_config(config: Sequence[dict[str, Any] | Feature]) -> list[Feature]:
    """Features from the dictionaries of `to_config`; features pass through."""
    return [
        _KINDS[item["class_name"]](**{k: v for k, v in item.items() if k != "class_name"})
        if isinstance(item, dict)
        else item
        for item in config
    ]
