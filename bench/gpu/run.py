"""Run exported programs on a GPU: first whether they are right there, then how long they take.

python bench/gpu/run.py BUILD [NAME-PART ...] [--calls 50] [--platform cpu]

Needs JAX with its CUDA plugin, and no TensorFlow. Each program's results are compared with those of
the same HLO on this machine's CPU; that the HLO computes the op is what the CPU tests say. Where
PyTorch is, its cuDNN GRU and its scaled_dot_product_attention are timed on the same sizes. Rows go
to `bench/results/gpu_run.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from arrays import TRAVELS, drawn, signed_sums
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


def timed(call: Callable[[], Any], wait: Callable[[Any], Any], calls: int) -> dict[str, float]:
    """Milliseconds of a call that is waited for, and of one in a queue of calls."""
    for _ in range(3):
        wait(call())
    each = []
    for _ in range(calls):
        start = time.perf_counter()
        wait(call())
        each.append(1e3 * (time.perf_counter() - start))
    start = time.perf_counter()
    for _ in range(calls):
        last = call()
    wait(last)
    queued = 1e3 * (time.perf_counter() - start) / calls
    return {
        "median_ms": round(statistics.median(each), 4),
        "min_ms": round(min(each), 4),
        "queued_ms": round(queued, 4),
    }


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


def peers(index: list[dict[str, Any]], calls: int) -> list[dict[str, Any]]:
    """PyTorch's fused forms on the sizes of the index, if it is installed and sees a GPU."""
    try:
        import torch
    except ImportError:
        return []
    if not torch.cuda.is_available():
        return []

    def row(program: dict[str, Any], form: str, step: Callable[[], Any]) -> dict[str, Any]:
        facts = {key: program[key] for key in ("op", "case", "dtype")}
        name = f"{program['op']}-{program['case']}-torch.{form}-{program['dtype']}"
        kept = {"name": name, **facts, "provider": f"torch.{form}", "torch": torch.__version__}
        times = timed(step, lambda _: torch.cuda.synchronize(), calls)
        return kept | {"status": "run", "device": torch.cuda.get_device_name()} | times

    rows = []
    for program in index:
        if program["provider"] != "xla" or "inputs" not in program:
            continue
        dtype = getattr(torch, program["dtype"])
        sizes = [facts["shape"] for facts in program["inputs"]]
        make = {"device": "cuda", "dtype": dtype, "requires_grad": True}
        if program["case"].startswith("gru"):
            x = torch.randn(*sizes[0], **make)
            units = sizes[2][0]
            gru = torch.nn.GRU(sizes[0][2], units, batch_first=True, device="cuda", dtype=dtype)

            def step(gru: Any = gru, x: Any = x) -> None:
                gru(x)[0].square().sum().backward()

            # cuDNN's GRU has the reset gate after the product; PyTorch's takes no mask.
            rows.append(row(program, "cudnn_gru_no_mask", step))
        elif program["op"] == "multi_head_attention":
            q, k, v = (torch.randn(*shape, **make).transpose(1, 2) for shape in sizes[:3])

            def attend(q: Any = q, k: Any = k, v: Any = v) -> None:
                out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
                torch.autograd.grad(out.square().sum(), (q, k, v))

            rows.append(row(program, "sdpa_no_mask", attend))
    return rows


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
    rows += peers(index, options.calls) if device.platform != "cpu" else []
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return int(any(row["status"] != "run" for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
