"""Real data sets, split and encoded, as NumPy arrays or shards, and tf.data batches."""

from recops.data.adult import adult
from recops.data.amazon import amazon
from recops.data.criteo import criteo
from recops.data.dataset import Dataset, Resampled, Split
from recops.data.encode import Encoded, encode
from recops.data.encoder import Encoder, embedding_dim
from recops.data.example_age import example_age
from recops.data.libfm import libfm
from recops.data.movielens_tasks import movielens_100k
from recops.data.negatives import sample_negatives
from recops.data.percentile import Percentiles, percentile_features
from recops.data.sessions import split_sessions
from recops.data.sources import DataError
from recops.data.stream import parquet, stream

__all__ = [
    "DataError",
    "Dataset",
    "Encoded",
    "Encoder",
    "Percentiles",
    "Resampled",
    "Split",
    "adult",
    "amazon",
    "criteo",
    "embedding_dim",
    "encode",
    "example_age",
    "libfm",
    "movielens_100k",
    "parquet",
    "percentile_features",
    "sample_negatives",
    "split_sessions",
    "stream",
]
