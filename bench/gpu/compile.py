"""Compile exported programs for a GPU that is not there and count what it would launch.

python bench/gpu/compile.py BUILD [NAME-PART ...] [--dump DIR]

Runs in an environment of its own, with JAX and its CUDA plugin and no TensorFlow; no GPU, driver or
CUDA library is needed. Rows go to `bench/results/gpu_compiled.jsonl`, one a program, a new row in
place of an old one of the same name. Kernels are chosen without autotuning, which needs the GPU:
there, matrix products may become calls of a library. The time in a row is `model_time.py`'s.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import model_time
from arrays import TRAVELS

HERE = Path(__file__).resolve().parent
ROWS = HERE.parent / "results" / "gpu_compiled.jsonl"
TARGET = HERE / "h100.txtpb"

# What XLA says where Triton cannot make a product.
NO_TILING = "Couldn't find output tile sizes"
KERNEL = {"kKernel", "kCustomKernel"}
COPY = {"kCopy", "kMemset32BitValue", "kMemzero", "kDeviceToDeviceCopy"}
HOST = {"kInfeed", "kOutfeed", "kSend", "kRecv", "kHostToDeviceCopy", "kDeviceToHostCopy"}
# What only groups, repeats or places other launches, which are listed by themselves.
STRUCTURE = {
    "kCommandBuffer",
    "kWhile",
    "kConditional",
    "kSequential",
    "kAsyncStart",
    "kAsyncDone",
    "kDynamicSliceFusion",
}
THUNK = re.compile(r"^( *)(?:\d+: )?(k[A-Z]\w*) ")


def launches(kinds: Sequence[str]) -> dict[str, int]:
    """Launches by what they are; anything but kernels and copies is a library's or the host's."""
    count = Counter(kinds)
    kernels = sum(count[k] for k in KERNEL)
    copies = sum(count[k] for k in COPY)
    host = sum(count[k] for k in HOST)
    structure = sum(count[k] for k in STRUCTURE)
    library = count.total() - kernels - copies - host - structure
    return {"kernels": kernels, "copies": copies, "library_calls": library, "host_transfers": host}


def loop_bodies(sequence: str) -> list[list[str]]:
    """Kinds of the launches in one step of each outer loop, in the order of execution.

    The condition is left out: a loop of a known number of steps does not evaluate it.
    """
    loops: list[list[str]] = []
    inside = False
    for line in sequence.splitlines():
        if line.startswith("  body:"):
            loops.append([])
            inside = True
        elif not line.startswith(" "):  # an outer launch, or the word before a condition
            inside = False
        elif inside and (found := THUNK.match(line)):
            loops[-1].append(found[2])
    return loops


def trip_counts(hlo: str) -> list[int | None]:
    """Steps of each outer loop, in the order of execution; None where XLA does not know."""
    entry = hlo[hlo.index("\nENTRY ") :]
    whiles = [line for line in entry.splitlines() if re.search(r"\bwhile\(", line)]
    found = [re.search(r'known_trip_count":\{"n":"(\d+)"', line) for line in whiles]
    return [int(match[1]) if match else None for match in found]


def facts(hlo: str, sequence: str, memory: Any) -> dict[str, Any]:
    """What is worth keeping of a compiled program."""
    kinds = [found[2] for line in sequence.splitlines() if (found := THUNK.match(line))]
    bodies, trips = loop_bodies(sequence), trip_counts(hlo)
    if len(bodies) != len(trips):
        raise ValueError(f"{len(trips)} loops in the program, {len(bodies)} in its launches")
    return {
        **launches(kinds),
        "loops": [{"steps": n, **launches(body)} for n, body in zip(trips, bodies)],
        **model_time.summary(hlo),
        # XLA reads on the host which branch to take, and whether a loop goes on.
        "waits": kinds.count("kConditional") + trips.count(None),
        "custom_calls": sorted(re.findall(r'custom_call_target="([^"]*)"', hlo)),
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
    }


class Compiler:
    """XLA for a described GPU, by way of JAX; `dump` gets the text of what it makes."""

    def __init__(self, dump: Path) -> None:
        self.dump = dump
        flags = (
            "--xla_gpu_autotune_level=0 --xla_gpu_collect_cost_model_stats=true "
            f"--xla_dump_to={dump}"
        )
        os.environ.update(JAX_PLATFORMS="cpu", JAX_SKIP_CUDA_CONSTRAINTS_CHECK="1", XLA_FLAGS=flags)
        import jax
        from jax.experimental import topologies

        self.version = jax.__version__
        topology = topologies.get_topology_desc(
            "", platform="cuda", target_config=TARGET.read_text(), topology="1x1x1"
        )
        self.device = topology.devices[0]
        self.target = re.search(r'device_description_str: "(.*)"', TARGET.read_text())[1]

    def _sequences(self) -> set[Path]:
        return set(self.dump.glob("*.thunk_sequence.txt"))

    def __call__(self, module: bytes) -> dict[str, Any]:
        """Compile a serialized HLO module."""
        try:
            return self._compile(module, {})
        except Exception as e:
            # Without autotuning it has one tiling for a fused product, which may not fit.
            if NO_TILING not in str(e):
                raise
            found = self._compile(module, {"xla_gpu_enable_triton_gemm": False})
            return found | {"products": "library"}

    def _compile(self, module: bytes, flags: dict[str, bool]) -> dict[str, Any]:
        from jax._src.interpreters.mlir import make_ir_context
        from jax.extend import backend, mlir
        from jaxlib import xla_client
        from jaxlib.mlir import ir

        options = backend.get_compile_options(
            num_replicas=1, num_partitions=1, env_options_overrides=flags
        )
        before, start = self._sequences(), time.perf_counter()
        code = ir.Module.parse(mlir.hlo_to_stablehlo(module), context=make_ir_context())
        program = self.device.client.compile(code, xla_client.DeviceList((self.device,)), options)
        seconds = time.perf_counter() - start
        (sequence,) = self._sequences() - before
        # Written only if the passes over the launches changed anything.
        passed = sequence.with_name(sequence.name[: -len(".txt")] + "_after_thunk_passes.txt")
        sequence = passed if passed.exists() else sequence
        return {
            **facts(
                program.hlo_modules()[0].to_string(),
                sequence.read_text(),
                program.get_compiled_memory_stats(),
            ),
            "compile_s": round(seconds, 1),
            "target": self.target,
            "jax": self.version,
        }


def main() -> None:
    """Compile the programs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("parts", nargs="*", help="parts of names, all of which must be in a name")
    parser.add_argument("--dump", type=Path, help="keep XLA's dump here")
    parser.add_argument("--out", type=Path, default=ROWS)
    options = parser.parse_args()
    index = [json.loads(line) for line in (options.build / "index.jsonl").read_text().splitlines()]
    kept = options.out.read_text().splitlines() if options.out.exists() else []
    rows = {row["name"]: row for row in map(json.loads, kept)}
    if not options.parts:  # all are compiled anew: what is not exported any more has no row
        exported = {program["name"] for program in index}
        rows = {name: row for name, row in rows.items() if name in exported}
    with tempfile.TemporaryDirectory() as folder:
        compiler = Compiler(options.dump or Path(folder))
        for program in index:
            if not all(part in program["name"] for part in options.parts):
                continue
            row = {key: value for key, value in program.items() if key not in TRAVELS}
            try:
                if "status" not in row:  # else it was not lowered
                    row |= compiler((options.build / f"{program['name']}.hlo.pb").read_bytes())
                    row["status"] = "compiled"
            except Exception as e:  # one program must not cost the others their rows
                # What XLA says of where an instruction comes from is of this machine.
                said = str(e).splitlines()[0].split(", metadata=")[0]
                row["status"] = f"failed: {type(e).__name__}: {said}"
            rows[row["name"]] = row
            print(json.dumps(row), flush=True)
            options.out.write_text("".join(json.dumps(r) + "\n" for r in rows.values()))


if __name__ == "__main__":
    main()
