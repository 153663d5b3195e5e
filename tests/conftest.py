"""Test-wide settings: one TensorFlow thread a worker, so that two workers fill two cores."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# A choice made by whoever runs the tests must not decide which backend they test.
os.environ.pop("RECOPS_BACKEND", None)

import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
