"""The tests that make sense where TensorFlow sees a GPU, in two runs of pytest.

    python -m tests.on_gpu [--device cpu] [pytest's own arguments]

Ops in eager, graph and compiled programs beside the oracles, layers, optimizers, and models that
have to learn. What they run there is the `xla` backend and the reference. `--device cpu` hides a
GPU and runs the same on the CPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
NO_GPU = (
    "on_gpu: TensorFlow sees no GPU here. On a machine that has one, install its libraries with "
    "pip install 'tensorflow[and-cuda]'; --device cpu (make test-gpu ON=cpu) runs the same tests "
    "on the CPU."
)
# The form for a GPU forward and backward as one program, and the backend op by op.
OPS = [
    "tests/ops/test_contract.py",
    "-k",
    "test_the_form_for_a_gpu or (test_value_and_gradient and xla and (eager or graph))",
]
REST = [
    "tests/test_device.py",
    *(
        f"tests/layers/test_contract.py::{test}"
        for test in (
            "test_layer_is_its_op",
            "test_dtype_policy",
            "test_what_is_masked_changes_nothing_kept",
            "test_one_fit_step_jit_on_and_off",
        )
    ),
    "tests/layers/test_mixed_precision.py::test_results_and_gradients_are_finite",
    "tests/optimizers/test_row_sparse.py::test_steps_equal_the_oracle",
    "tests/optimizers/test_row_sparse.py::test_with_loss_scaling",
    "tests/models/test_models.py::test_learns_what_a_linear_model_cannot",
    "tests/models/test_row_sparse.py::test_a_penalty_of_the_batch_keeps_the_step_row_sparse",
]


def sees_a_gpu() -> bool:
    """Asked in a process of its own, so that this one holds none of its memory."""
    ask = "import sys, tensorflow as tf; sys.exit(not tf.config.list_logical_devices('GPU'))"
    return subprocess.run([sys.executable, "-c", ask], capture_output=True).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; 2 where there is no GPU, 1 where a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    options, others = parser.parse_known_args(arguments)
    if options.device == "gpu" and not sees_a_gpu():
        print(NO_GPU, file=sys.stderr)
        return 2
    environment = os.environ | {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    if options.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    pytest = [sys.executable, "-m", "pytest", "-n", "0", "-q", *others]
    runs = [subprocess.run([*pytest, *part], cwd=ROOT, env=environment) for part in (OPS, REST)]
    return int(any(run.returncode for run in runs))


if __name__ == "__main__":
    sys.exit(main())
