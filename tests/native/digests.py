"""Prints digests of every native op's values and gradients: graph, jit, and bfloat16 too.

python -m tests.native.digests THREADS
"""

from __future__ import annotations

import hashlib
import json
import sys

import tensorflow as tf

from recops.profiling import op_bench
from tests import testing


def main(threads: int) -> None:
    """Run every smoke case, which has enough rows for many blocks, on so many threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    found = {}
    for case in testing.cases("smoke"):
        if not op_bench.takes(case, "cpp"):
            continue
        for dtype, mode in (("float32", "graph"), ("float32", "jit"), ("bfloat16", "graph")):
            fn, arrays = testing.public(case, "cpp"), case.arrays(dtype)
            values, gradients = testing.run(fn, arrays, mode, constant=case.constant)
            digest = hashlib.sha256()
            for array in [*values, *gradients]:
                digest.update(array.tobytes())
            found[f"{case.op} {case.name} {dtype} {mode}"] = digest.hexdigest()
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
