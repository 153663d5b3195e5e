"""Prints digests of every native op's values and gradients: graph, jit, and bfloat16 too.

python -m tests.native.digests THREADS
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import native
from recops._core.cases import Case
from recops.profiling import op_bench
from tests import testing


def _many_candidates(rng: np.random.Generator) -> Mapping[str, Any]:
    """More than one round of the native backward's, in several parts of the batch."""
    queries, items = (rng.normal(size=(1500, 200)) / 14 for _ in range(2))
    return {"queries": queries, "items": items}


def main(threads: int) -> None:
    """Run every smoke case, which has enough rows for many blocks, on so many threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    found = {}
    many = Case("in_batch_softmax", "many_candidates", _many_candidates, frozenset())
    for case in [*testing.cases("smoke"), many]:
        if not op_bench.takes(case, "cpp"):
            continue
        for dtype, mode in (("float32", "graph"), ("float32", "jit"), ("bfloat16", "graph")):
            if native.why_not(jit=mode == "jit"):
                continue
            fn, arrays = testing.public(case, "cpp"), case.arrays(dtype)
            values, gradients = testing.run(fn, arrays, mode, constant=case.constant)
            digest = hashlib.sha256()
            for array in [*values, *gradients]:
                digest.update(array.tobytes())
            found[f"{case.op} {case.name} {dtype} {mode}"] = digest.hexdigest()
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
