"""Run exported programs on a GPU: first whether they are right there, then how long they take.

python bench/gpu/run.py BUILD [NAME-PART ...] [--calls 50] [--platform cpu]

Needs JAX with its CUDA plugin, and no TensorFlow. An op's results are compared with those of the
same HLO on this machine's CPU; that the HLO computes the op is what the CPU tests say. The loss,
weights and momenta after a train step are compared with TensorFlow's on the machine that lowered
it, so that on a CPU, too, two programs are compared. Rows go to `bench/results/gpu_run.jsonl`.
What PyTorch takes is measured by `peers.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from arrays import TRAVELS, drawn, signed_sums
from clock import timed
from jax.extend import backend, mlir
from jaxlib import xla_client

ROWS = Path(__file__).resolve().parents[1] / "results" / "gpu_run.jsonl"
# Relative error in the 2-norm. Products of float32 may be TF32 on a GPU, off by about 3e-4.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 3e-2, "float16": 1e-2}
# Of gradients through a whole model, in momenta and weights, beside TensorFlow's on a CPU.
STEP_TOLERANCE = {"float32": 1e-2, "bfloat16": 1e-1, "float16": 3e-2}


class Program:
    """An HLO module compiled for a device, with its inputs there.

    `carried` says which result is which input of the next call: the variables of a train step.
    """

    def __init__(
        self, module: bytes, arrays: list[np.ndarray], device: Any, carried: dict[str, int]
    ) -> None:
        self.carried = {int(result): parameter for result, parameter in carried.items()}
        wanted = xla_client.XlaComputation(module).program_shape().parameter_shapes()
        # The runtime compares the sizes in bytes alone.
        if [(s.numpy_dtype(), s.dimensions()) for s in wanted] != [
            (a.dtype, a.shape) for a in arrays
        ]:
            raise ValueError(f"inputs must be {', '.join(map(str, wanted))}")
        options = backend.get_compile_options(num_replicas=1, num_partitions=1)
        self.program = device.client.compile_and_load(
            mlir.hlo_to_stablehlo(module), xla_client.DeviceList((device,)), options
        )
        self.arguments = [jax.device_put(array, device) for array in arrays]

    def __call__(self) -> list[Any]:
        made = self.program.execute_sharded(self.arguments)
        results = [r[0] for r in made.disassemble_into_single_device_arrays()]
        for result, parameter in self.carried.items():
            self.arguments[parameter] = results[result]
        return results


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    """Error in units of what its type allows."""
    if (got.dtype, got.shape) != (wanted.dtype, wanted.shape):
        return float("inf")
    if wanted.dtype.name not in TOLERANCE:
        return 0.0 if np.array_equal(got, wanted) else float("inf")
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    relative = np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)
    return float(relative / TOLERANCE[wanted.dtype.name]) if np.isfinite(relative) else float("inf")


def measure(build: Path, program: dict[str, Any], device: Any, calls: int) -> dict[str, Any]:
    """The row of a program: wrong results are not timed."""
    module = (build / f"{program['name']}.hlo.pb").read_bytes()
    with np.load(build / f"{program['name']}.npz") as exact:
        arrays = drawn(program["inputs"], exact)
    carried = program.get("carried", {})
    run = Program(module, arrays, device, carried)
    got = [np.asarray(r) for r in run()]
    if "expected" in program:
        worst = error_of_step(got, program)
    else:
        cpu = Program(module, arrays, jax.devices("cpu")[0], carried)
        wanted = [np.asarray(r) for r in cpu()]
        worst = max((error(g, w) for g, w in zip(got, wanted)), default=0.0)
    row = {"error_over_tolerance": round(worst, 4), "status": "run" if worst <= 1 else "wrong"}
    return row | timed(run, jax.block_until_ready, calls) if worst <= 1 else row


def error_of_step(got: list[np.ndarray], program: dict[str, Any]) -> float:
    """The largest error of a train step's results, in units of what its precision allows."""
    errors = []
    for wanted in program["expected"]:
        sums = np.array(signed_sums(got[wanted["result"]]))
        # Each is the norm of the error times a number of variance 1.
        off = float(np.sqrt(np.mean(np.square(sums - wanted["sums"]))))
        relative = off / max(wanted["norm"], 1e-30)
        allowed = STEP_TOLERANCE[program["dtype"]]
        errors.append(relative / allowed if np.isfinite(relative) else float("inf"))
    return max(errors)


def main() -> int:
    """Run the programs that were asked for; 1 if any was wrong or failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("parts", nargs="*", help="parts of names, all of which must be in a name")
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--platform", help="cuda or cpu; JAX's default if left out")
    parser.add_argument("--out", type=Path, default=ROWS)
    options = parser.parse_args()
    # Or 64-bit inputs lose half their bits.
    jax.config.update("jax_enable_x64", True)
    device = jax.devices(options.platform)[0]
    lines = (options.build / "index.jsonl").read_text().splitlines()
    index = [p for p in map(json.loads, lines) if all(part in p["name"] for part in options.parts)]
    rows = []
    for program in index:
        if "status" in program:  # it was not lowered, as gpu_compiled.jsonl says
            continue
        row = {key: value for key, value in program.items() if key not in TRAVELS}
        row |= {"device": device.device_kind, "jax": jax.__version__}
        try:
            row |= measure(options.build, program, device, options.calls)
        except Exception as e:  # one program must not cost the others their rows
            row["status"] = f"failed: {type(e).__name__}: {str(e).splitlines()[0]}"
        rows.append(row)
        print(json.dumps(row), flush=True)
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return int(any(row["status"] != "run" for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
