"""Run from an installed package where no compiler is: `cpp` is there and right.

python without_compiler.py
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

import recops


def main() -> None:
    """Fail unless the library that was installed is the one that runs."""
    if found := [name for name in ("g++", "clang++", "c++", "cc", "gcc") if shutil.which(name)]:
        raise SystemExit(f"not what this is for: {', '.join(found)} on PATH={os.environ['PATH']}")
    information = recops.info()
    installed = Path(recops.__file__).parent / "native"
    if not information.native.startswith(str(installed)):
        raise SystemExit(f"expected the library in {installed}: {information.native}")
    x = np.random.default_rng(0).normal(size=(64, 26, 16)).astype("float32")
    expected = recops.ops.fm_interaction(x, backend="reference")

    for jit in (None, False, *([True] if information.library["xla"] else [])):
        call = recops.ops.fm_interaction
        run = call if jit is None else tf.function(call, jit_compile=jit)
        np.testing.assert_allclose(run(x, backend="cpp"), expected, rtol=1e-4, atol=1e-4)
    reasons = {op: backends["cpp"] for op, backends in information.ops.items()}
    without = sorted(op for op, reason in reasons.items() if reason is not None)
    print(json.dumps({"isa": information.library["isa"], "without_cpp": without}))


if __name__ == "__main__":
    main()
