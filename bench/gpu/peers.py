"""What PyTorch takes for the same: cuDNN's GRU, its fused attention, FuxiCTR's DIEN and DIN steps.

python bench/gpu/peers.py BUILD [--device cpu] [--calls 50]

Needs PyTorch and FuxiCTR, and neither JAX nor TensorFlow: `make gpu-run` runs it by the Python of
.venv-fuxictr. Sizes and inputs are those of the programs in BUILD. Each is first compared with the
same in float64 on the CPU and then timed; rows join those of `run.py` in
`bench/results/gpu_run.jsonl`.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "peers"))

import fuxictr
import numpy as np
import run_fuxictr
import torch
from clock import timed

ROWS = HERE.parent / "results" / "gpu_run.jsonl"
# Relative error in the 2-norm of values and gradients; float32 may be TF32.
TOLERANCE = {"float32": 2e-3, "bfloat16": 3e-2}
STEPS = ("DIN", "DIEN")

Compared = tuple[Callable[[], Any], Callable[[], list[torch.Tensor]], list[torch.Tensor]]


def gru(program: dict[str, Any], device: str) -> Compared:
    """cuDNN's GRU: the reset gate after the product, and no mask. On a CPU PyTorch's own."""
    sizes = [facts["shape"] for facts in program["inputs"]]
    dtype = getattr(torch, program["dtype"])
    module = torch.nn.GRU(sizes[0][2], sizes[2][0], batch_first=True).to(device, dtype)
    given = torch.randn(*sizes[0]).to(device, dtype).requires_grad_()
    exact = copy.deepcopy(module).to("cpu", torch.float64)
    wide = given.detach().to("cpu", torch.float64).requires_grad_()
    return (
        lambda: module(given)[0].square().sum().backward(),
        lambda: _both(lambda x: module(x)[0], [given]),
        _both(lambda x: exact(x)[0], [wide]),
    )


def attention(program: dict[str, Any], device: str) -> Compared:
    """`scaled_dot_product_attention` without a mask, by whichever kernel PyTorch takes."""
    dtype = getattr(torch, program["dtype"])
    drawn = [torch.randn(*facts["shape"]).transpose(1, 2) for facts in program["inputs"][:3]]
    given = [x.to(device, dtype).requires_grad_() for x in drawn]
    wide = [x.detach().to("cpu", torch.float64).requires_grad_() for x in given]
    fused = torch.nn.functional.scaled_dot_product_attention

    def formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1) @ v

    return (
        lambda: torch.autograd.grad(fused(*given).square().sum(), given),
        lambda: _both(fused, given),
        _both(formula, wide),
    )


def train_step(program: dict[str, Any], device: str, build: Path) -> Compared:
    """A step of FuxiCTR's model as it takes it: float32, dense gradients, Adam."""
    torch.manual_seed(0)
    asked = {"features": program["features"], "model": program["case"], "learning_rate": 1e-3}
    asked |= {"hidden_units": (200, 80), "dropout": 0.0, "l2_embedding": 0.0}
    model = run_fuxictr.build(asked)
    model.train()
    with np.load(build / f"{program['name']}.npz") as exact:
        part = {name: exact[str(i)] for i, name in enumerate(program["fed"])}
    part = {
        name: a.astype("float32" if name == run_fuxictr.LABEL else "int64")
        for name, a in part.items()
    }
    (batch,) = run_fuxictr.batches(part, program["features"], len(part[run_fuxictr.LABEL]))
    # In evaluation: each half would otherwise move the statistics of the other.
    wide = copy.deepcopy(model).double().eval()
    model.device = torch.device(device)
    model.to(model.device)

    def predicted() -> list[torch.Tensor]:
        model.eval()
        out = model(batch)["y_pred"]
        model.train()
        return [out]

    return lambda: model.train_step(batch), predicted, [wide(batch)["y_pred"]]


def _both(fn: Callable[..., torch.Tensor], inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The result, and the gradients of the sum of its squares."""
    out = fn(*inputs)
    return [out, *torch.autograd.grad(out.square().sum(), inputs)]


def error(got: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """The largest relative error in the 2-norm."""
    pairs = [(a.detach().double().cpu(), b.detach()) for a, b in zip(got, wanted)]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def peers(build: Path, device: str) -> Iterator[tuple[dict[str, Any], str, str, Compared]]:
    """A program of recops, the peer's name and version, and what to run."""
    for line in (build / "index.jsonl").read_text().splitlines():
        program = json.loads(line)
        if program["provider"] != "xla" or "inputs" not in program:
            continue
        if program["op"] == "dynamic_gru" and program["case"].startswith("gru"):
            yield program, "torch.cudnn_gru_no_mask", torch.__version__, gru(program, device)
        elif program["op"] == "multi_head_attention":
            yield program, "torch.sdpa_no_mask", torch.__version__, attention(program, device)
        elif "features" in program and program["dtype"] == "float32" and program["case"] in STEPS:
            step = train_step(program, device, build)
            yield program, f"fuxictr.{program['case']}", fuxictr.__version__, step


def main() -> int:
    """Compare, time and keep; 1 if any was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=ROWS)
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        print("peers: PyTorch sees no GPU; --device cpu runs the same on a CPU", file=sys.stderr)
        return 2
    kept = options.out.read_text().splitlines() if options.out.exists() else []
    rows = {row["name"]: row for row in map(json.loads, kept)}
    wrong = False
    for program, provider, version, (call, results, wanted) in peers(options.build, options.device):
        facts = {key: program[key] for key in ("op", "case", "dtype")}
        row = {"name": f"{facts['op']}-{facts['case']}-{provider}-{facts['dtype']}", **facts}
        row |= {"provider": provider, "library": version, "torch": torch.__version__}
        row["device"] = torch.cuda.get_device_name() if on_gpu else "cpu"
        row["error_over_tolerance"] = error(results(), wanted) / TOLERANCE[facts["dtype"]]
        row["status"] = "run" if row["error_over_tolerance"] <= 1 else "wrong"
        wrong |= row["status"] == "wrong"
        if row["status"] == "run":
            row |= timed(
                call, lambda _: torch.cuda.synchronize() if on_gpu else None, options.calls
            )
        rows[row["name"]] = row
        print(json.dumps(row), flush=True)
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
