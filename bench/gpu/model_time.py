"""A modelled time of a compiled program: what XLA's cost model and a roofline say of its kernels.

python bench/gpu/model_time.py HLO-FILE [--top 20]

Prints the kernels of a dump (`*after_optimizations.txt`), the dearest first. The model:

- a kernel without a product takes what XLA's own model says, `reification_cost` in the HLO that is
  compiled with `--xla_gpu_collect_cost_model_stats=true`;
- a product takes the longer of its flops at `REACHED` of the tensor cores' rate for the type of its
  operands and its bytes at the memory's rate, which is the rate that XLA's model gives the others;
- each launch adds `LAUNCH_US`, a loop is its body times its steps, and what runs asynchronously
  counts once, as if nothing ran beside it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hlo_text import Instruction, Module, Shape, parse

# NVIDIA H100 SXM, dense, flops a second: datasheet "NVIDIA H100 Tensor Core GPU" (halved where it
# counts sparsity) and the whitepaper on its architecture, table "H100 SXM5". float32 goes into the
# tensor cores as TF32 unless the highest precision is asked for, which leaves the plain units.
TENSOR_RATE = {"bf16": 989e12, "f16": 989e12, "f32": 494e12, "f64": 67e12}
PLAIN_RATE = 67e12
# Bytes a second of its HBM3, by the same datasheet.
MEMORY_RATE = 3.35e12
# The share of a tensor core's peak that a large product reaches in practice.
REACHED = 0.7
# Microseconds from one small kernel of a stream to the next.
LAUNCH_US = 2.5

# Nothing is launched for these.
FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "opt-barrier",
    "add-dependency",
    "partition-id",
    "replica-id",
}
# An operand that is only read through these is read in part.
PARTIAL = {"slice", "dynamic-slice", "gather"}
PRODUCTS = {"dot", "convolution"}


@dataclass(frozen=True)
class Kernel:
    """A launch of the entry or of a loop, `times` over; microseconds of one, without the launch."""

    name: str
    what: str
    us: float
    times: int = 1

    @property
    def total_us(self) -> float:
        """Microseconds of all its launches."""
        return self.times * (self.us + LAUNCH_US)


def kernels(module: Module) -> list[Kernel]:
    """All launches of a program."""
    known = [
        w.trip_count for body in module.computations.values() for w in body if w.opcode == "while"
    ]
    # A loop of unknown length counts as the longest other one, or as a single step.
    longest = max((steps for steps in known if steps is not None), default=1)
    return list(_launches(module, module.entry, 1, longest))


def summary(hlo: str) -> dict[str, float]:
    """Modelled microseconds of a program; the part of its products and that of its launches."""
    found = kernels(parse(hlo))
    products = sum(k.times * k.us for k in found if k.what.startswith("product"))
    return {
        "modelled_us": round(sum(k.total_us for k in found), 1),
        "products_us": round(products, 1),
        "launches_us": round(LAUNCH_US * sum(k.times for k in found), 1),
    }


def _launches(module: Module, computation: str, times: int, longest: int) -> Iterator[Kernel]:
    for instruction in module.computations[computation]:
        opcode = instruction.opcode
        if opcode == "while":
            steps = instruction.trip_count
            inside = ["body"] if steps is not None else ["body", "condition"]
            for part in inside:
                yield from _launches(
                    module,
                    instruction.called(part)[0],
                    times * (longest if steps is None else steps),
                    longest,
                )
        elif opcode in ("call", "async-start"):
            part = "to_apply" if opcode == "call" else "calls"
            yield from _launches(module, instruction.called(part)[0], times, longest)
        elif opcode == "conditional":
            branches = [
                list(_launches(module, name, times, longest))
                for part in ("branch_computations", "true_computation", "false_computation")
                for name in instruction.called(part)
            ]
            yield from max(branches, key=lambda branch: sum(k.total_us for k in branch))
        elif opcode not in FREE and not opcode.endswith(("-done", "-update")):
            what, us = _cost(module, module.by_name[computation], instruction)
            yield Kernel(instruction.name, what, us, times)


def _cost(
    module: Module, around: Mapping[str, Instruction], instruction: Instruction
) -> tuple[str, float]:
    """What a launch is, and its microseconds."""
    opcode = instruction.opcode.removesuffix("-start")
    if opcode == "fusion":
        return _fusion(module, around, instruction)
    moved = instruction.bytes + sum(around[name].bytes for name in instruction.operands)
    if opcode in PRODUCTS:
        flops, rate = _flops(around, instruction)
        return f"product {opcode}", roofline_us(flops / rate, moved)
    if opcode == "custom-call":
        called = _library_product(around, instruction)
        if called is not None:
            flops, rate = called
            # The second result is a workspace.
            moved -= instruction.bytes - instruction.shapes[0].bytes
            return f"product {instruction.target}", roofline_us(flops / rate, moved)
        return f"call {instruction.target}", roofline_us(0.0, moved)
    return opcode, roofline_us(0.0, moved)


def roofline_us(seconds: float, moved: float) -> float:
    """Microseconds of a product of so many seconds at full rate, or of its bytes."""
    return 1e6 * max(seconds / REACHED, moved / MEMORY_RATE)


def _fusion(
    module: Module, around: Mapping[str, Instruction], fusion: Instruction
) -> tuple[str, float]:
    kind = fusion.config.get("fusion_backend_config", {}).get("kind", "")
    inside = fusion.called("calls")[0]
    found = list(_products(module, inside))
    if found:
        seconds = sum(flops / rate for flops, rate in found)
        return f"product {kind or 'fusion'}", roofline_us(seconds, _moved(module, fusion))
    costs = fusion.config.get("reification_cost", [])
    if kind.startswith("__triton"):
        # The first entry counts a reduction once for each element that reads it.
        costs = [cost for cost in costs if cost.get("name") == "indexing-cost-model"]
    if not costs:
        return f"bytes {kind or 'fusion'}", roofline_us(0.0, _moved(module, fusion))
    return f"memory {kind or 'fusion'}", float(costs[0].get("exec_time_us", 0.0))


def _products(module: Module, computation: str) -> Iterator[tuple[float, float]]:
    """Flops and rate of each product in a fused computation and in those fused into it."""
    for instruction in module.computations[computation]:
        if instruction.opcode == "fusion":
            yield from _products(module, instruction.called("calls")[0])
        elif instruction.opcode in PRODUCTS:
            yield _flops(module.by_name[computation], instruction)


def _moved(module: Module, fusion: Instruction) -> float:
    """Bytes that a fusion reads and writes: of an operand that it slices, the slices."""
    inside = module.computations[fusion.called("calls")[0]]
    moved = float(fusion.bytes)
    for parameter in (i for i in inside if i.opcode == "parameter"):
        users = [i for i in inside if parameter.name in i.operands]
        if users and all(u.opcode in PARTIAL and u.operands[0] == parameter.name for u in users):
            moved += min(parameter.bytes, sum(u.bytes for u in users))
        else:
            moved += parameter.bytes
    return moved


def _flops(around: Mapping[str, Instruction], product: Instruction) -> tuple[float, float]:
    left, right = (around[name].shapes[0] for name in product.operands[:2])
    out = product.shapes[0]
    if product.opcode == "convolution":
        return 2.0 * out.elements * right.elements / _outputs(product, right), _rate(product, left)
    contracted = math.prod(left.sizes[axis] for axis in product.axes("lhs_contracting_dims"))
    rate = min(_rate(product, left), _rate(product, right))
    return 2.0 * out.elements * contracted, rate


def _rate(product: Instruction, operand: Shape) -> float:
    if "highest" in product.precision:
        return PLAIN_RATE
    return TENSOR_RATE.get(operand.dtype, PLAIN_RATE)


def _outputs(convolution: Instruction, kernel: Shape) -> int:
    """The number of output features of a convolution's kernel."""
    return kernel.sizes[convolution.labels[1].index("o")]


def _library_product(
    around: Mapping[str, Instruction], call: Instruction
) -> tuple[float, float] | None:
    """Flops and rate of a call of cuBLAS or cuDNN; None of another call."""
    operands = [around[name].shapes[0] for name in call.operands]
    result = call.shapes[0]
    if call.target.startswith("__cublas$"):
        numbers = call.config["gemm_backend_config"]["dot_dimension_numbers"]
        axes = [int(axis) for axis in numbers.get("lhs_contracting_dimensions", [])]
        contracted = math.prod(operands[0].sizes[axis] for axis in axes)
        rate = min(_rate(call, operands[0]), _rate(call, operands[1]))
        return 2.0 * result.elements * contracted, rate
    if call.target.startswith("__cudnn$conv"):
        # Of input, kernel and output, the labels name all three whichever is made of the others.
        kernel = result if "BackwardFilter" in call.target else operands[1]
        output = result
        if "Backward" in call.target:
            output = operands[1] if "BackwardFilter" in call.target else operands[0]
        flops = 2.0 * output.elements * kernel.elements / _outputs(call, kernel)
        return flops, _rate(call, operands[0])
    return None


def main() -> None:
    """Print the kernels of a dump."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hlo", type=Path)
    parser.add_argument("--top", type=int, default=40)
    options = parser.parse_args()
    text = options.hlo.read_text()
    found = sorted(kernels(parse(text)), key=lambda k: -k.total_us)
    for kernel in found[: options.top]:
        print(
            f"{kernel.total_us:9.1f} us {kernel.times:5} x {kernel.us:8.1f}  "
            f"{kernel.what:40} {kernel.name}"
        )
    print(summary(text))


if __name__ == "__main__":
    main()
