"""Lower whole train steps to XLA's HLO for a GPU: forward, backward and optimizer in one program.

python bench/gpu/steps.py BUILD [MODEL ...] [--dtype DTYPE]

Adds to the BUILD of export.py: a model of recops with LazyAdam and with Keras's Adam, and the same
of stock Keras layers with Adam, in float32 and under both 16-bit policies. A program is what Keras
traces for a step of `fit` under jit_compile. TensorFlow also takes the step here, by the kernels of
this machine, and what comes out goes along for `run.py` to compare with.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "examples"), str(ROOT / "bench" / "models")]

import numpy as np
import tensorflow as tf
from arrays import described, drawn, floating, signed_sums
from model_cases import Batch, clicks_of, criteo_shape
from stock import StockAutoInt, StockDIN
from stock_deepfm import StockDeepFM
from stock_dien import StockDIEN
from stock_fields import StockFiBiNET, StockXDeepFM
from stock_recall import DrawnLoss, StockYoutubeDNN
from stock_sequences import StockBST, StockDSIN
from tensorflow.compiler.xla.service import hlo_pb2

import recops
from recops import losses, models, optimizers
from recops._core import compat, device
from recops._core.compat import keras
from recops.features import SequenceFeature, SparseFeature, to_config

OP = "train_step"
POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
LEFT_OUT = (
    "not compiled: Keras turns XLA off for a model with cuDNN's recurrence, whose call cannot be "
    "compiled without a GPU"
)
# Under Adam an element moves by the sign of its gradient at first, and of one that is 0 by that of
# its rounding error. With a second moment in place it moves by the gradient.
SECOND_MOMENT = 1e-4
# Of a gradient that is 0 up to rounding, as that of a key's bias, what counts as its size: this
# part of the others' root mean square.
SMALL = 0.05


@dataclass(frozen=True)
class Step:
    """A model, the same in stock layers, and where there is one, that with cuDNN's recurrence."""

    make: Callable[[], Batch]
    ours: Callable[..., Any]
    stock: Callable[..., Any]
    cudnn: Callable[..., Any] | None = None
    loss: Any = "binary_crossentropy"


def sessions_of(items: int, rows: int = 1024, dim: int = 16) -> Batch:
    """An item and five sessions of ten clicks."""
    rng = np.random.default_rng(0)
    seen = SequenceFeature("seen", items, 10, dim, target="item", sessions=5)
    shapes = {"item": (rows,), "seen": (rows, 5, 10)}
    inputs = {
        name: rng.integers(1, items + 1, shape).astype("int32") for name, shape in shapes.items()
    }
    labels = rng.integers(0, 2, (rows, 1)).astype("float32")
    return [SparseFeature("item", items, dim), seen], inputs, labels


clicks = functools.partial(clicks_of, 100_000)
HIDDEN = {"hidden_units": (256, 128, 64)}
STEPS = {
    "DeepFM": Step(
        criteo_shape,
        functools.partial(models.DeepFM, **HIDDEN),
        functools.partial(StockDeepFM, **HIDDEN),
    ),
    "XDeepFM": Step(criteo_shape, models.XDeepFM, StockXDeepFM),
    "AutoInt": Step(criteo_shape, models.AutoInt, StockAutoInt),
    "FiBiNET": Step(criteo_shape, functools.partial(models.FiBiNET, dropout=0.0), StockFiBiNET),
    "DIN": Step(clicks, models.DIN, StockDIN),
    "DIEN": Step(clicks, models.DIEN, StockDIEN, functools.partial(StockDIEN, reset_after=True)),
    "DSIN": Step(
        functools.partial(sessions_of, 100_000),
        models.DSIN,
        functools.partial(StockDSIN, cudnn=False),
        StockDSIN,
    ),
    "BST": Step(clicks, functools.partial(models.BST, dropout=0.0), StockBST),
    "YoutubeDNNRetrieval": Step(
        clicks,
        models.YoutubeDNNRetrieval,
        functools.partial(StockYoutubeDNN, loss=DrawnLoss),
        loss=losses.identity,
    ),
}
# What the other optimizer makes of ours is told once, in the precision of all optimizers.
FORMS = dict.fromkeys(POLICIES, ("xla", "stock.keras"))
FORMS["float32"] = ("xla", "xla.adam", "stock.keras")


def compiled(step: Step, form: str, features: list[Any]) -> Any:
    """The model of a form, under the policy of the moment, with an optimizer that has its state."""
    make = step.stock if form == "stock.keras" else step.ours
    rule = optimizers.LazyAdam if form == "xla" else keras.optimizers.Adam
    model = make(features)
    model.compile(rule(1e-3), step.loss, jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    for variable in model.optimizer.variables:
        if "velocity" in variable.path:
            variable.assign(tf.fill(variable.shape, SECOND_MOMENT))
    return model


def traced(model: Any, batch: Batch, jit: bool) -> tuple[Any, list[Any]]:
    """A step of `fit` as a function of inputs and labels, and those."""
    _, inputs, labels = batch

    def step(x: Any, y: Any) -> Any:
        return model.train_step((x, y))

    fn = tf.function(step, jit_compile=jit, autograph=False)
    return fn, [{name: tf.constant(inputs[name]) for name in model.input}, tf.constant(labels)]


def lower(fn: Any, given: list[Any]) -> tuple[bytes, dict[int, int]]:
    """The HLO module of a step, and which result is which parameter's next value.

    With variables TensorFlow lowers for a device that is there alone, so for this machine's CPU.
    What its own ops become is the same text but for the few that have a kernel for each; the forms
    of recops are those of a GPU.
    """
    hlo = hlo_pb2.HloModuleProto()
    ir = fn.experimental_get_compiler_ir(*given)
    hlo.ParseFromString(ir(stage="hlo_serialized", device_name="/device:CPU:0"))
    for instruction in (i for c in hlo.computations for i in c.instructions):
        # An update's last copy, which StableHLO has no word for.
        if instruction.opcode == "copy":
            instruction.opcode = "reshape"
    carried = {
        entry.output_shape_index[0]: entry.parameter_number
        for entry in hlo.input_output_alias.entries
    }
    return hlo.SerializeToString(), carried


def export(name: str, form: str, dtype: str, build: Path) -> dict[str, Any]:
    """Write the program of a form; its line of the index."""
    step = STEPS[name]
    batch = step.make()
    with policy(POLICIES[dtype]):
        model = compiled(step, form, batch[0])
    with device.running_on("GPU"), recops.backend("xla"):
        fn, given = traced(model, batch, jit=True)
        graph = fn.get_concrete_function(*given)
        held = {id(variable.handle): variable for variable in graph.graph.variables}
        captured = [held[id(handle)] for handle in graph.captured_inputs]
        hlo, carried = lower(fn, given)
    program = f"{OP}-{name}-{form}-{dtype}"
    (build / f"{program}.hlo.pb").write_bytes(hlo)
    arrays = [t.numpy() for t in [*tf.nest.flatten(given), *captured]]
    facts = [described(array) for array in arrays]
    fed = len(tf.nest.flatten(given))
    exact = {str(i): a for i, a in enumerate(arrays) if i < fed or not floating(a)}
    np.savez_compressed(build / f"{program}.npz", **exact)
    for variable, value in zip(captured, drawn(facts, exact)[fed:]):
        variable.assign(value)
    return {
        **of(name, form, dtype),
        "name": program,
        "inputs": facts,
        "features": to_config(batch[0]),
        "fed": [*sorted(model.input), "label"],
        "carried": {str(out): parameter for out, parameter in carried.items()},
        "expected": expected(model, batch, captured, carried, fed),
    }


def of(name: str, form: str, dtype: str) -> dict[str, Any]:
    """What a line of the index says of a program beside its contents."""
    program = f"{OP}-{name}-{form}-{dtype}"
    facts = {"op": OP, "case": name, "provider": form, "dtype": dtype, "tf": tf.__version__}
    return {"name": program, **facts}


def expected(
    model: Any, batch: Batch, captured: list[Any], carried: dict[int, int], fed: int
) -> list[dict[str, Any]]:
    """What TensorFlow makes of the step with this machine's kernels: signed sums of each result."""
    with device.running_on("CPU"):
        fn, given = traced(model, batch, jit=False)
        results = tf.nest.flatten(fn(*given))
    found = {i: result.numpy() for i, result in enumerate(results)}
    found |= {out: captured[parameter - fed].numpy() for out, parameter in carried.items()}
    kinds = {out: _kind(captured[parameter - fed].name) for out, parameter in carried.items()}
    size = {kind: _root_mean_square(found, kinds, kind) for kind in set(kinds.values())}
    return [
        {
            "result": out,
            "sums": signed_sums(value),
            "norm": max(
                float(np.linalg.norm(value.astype(np.float64))),
                SMALL * size.get(kinds.get(out, ""), 0.0) * value.size**0.5,
            ),
        }
        for out, value in sorted(found.items())
        if floating(value)
    ]


def _kind(name: str) -> str:
    """Momenta with momenta, weights with weights."""
    return next((kind for kind in ("momentum", "velocity") if kind in name), "weight")


def _root_mean_square(found: dict[int, Any], kinds: dict[int, str], kind: str) -> float:
    """Of the middle one of the results of a kind."""
    sizes = [
        float(np.sqrt(np.mean(np.square(found[out], dtype=np.float64))))
        for out in kinds
        if kinds[out] == kind and floating(found[out]) and found[out].ndim
    ]
    return float(np.median(sizes))


def turns_xla_off(step: Step) -> bool:
    """Whether Keras would compile no part of the model on a GPU, as asked of it with one."""
    # By name: the package has a function `rnn` in its place.
    rnn = importlib.import_module("keras.src.backend.tensorflow.rnn")
    trainer = importlib.import_module("keras.src.trainers.trainer")
    with mock.patch.object(rnn, "_is_gpu_available", return_value=True):
        return not trainer.model_supports_jit(step.cudnn(step.make()[0]))


@contextlib.contextmanager
def policy(name: str) -> Iterator[None]:
    """What is made in the block follows this policy."""
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy("float32")


def main() -> None:
    """Lower the steps that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("models", nargs="*", help="of STEPS; all if left out")
    parser.add_argument("--dtype", action="append", choices=POLICIES, help="all if left out")
    options = parser.parse_args()
    if unknown := [name for name in options.models if name not in STEPS]:
        parser.error(f"expected models among {', '.join(STEPS)}, got {', '.join(unknown)}")
    if not compat.KERAS_VERSION.startswith("3"):
        parser.error(f"needs Keras 3, got {compat.KERAS_VERSION}")
    options.build.mkdir(parents=True, exist_ok=True)
    index = options.build / "index.jsonl"
    kept = [json.loads(line) for line in index.read_text().splitlines()] if index.exists() else []
    rows = {row["name"]: row for row in kept}
    for name, dtype in itertools.product(options.models or STEPS, options.dtype or POLICIES):
        made = [export(name, form, dtype, options.build) for form in FORMS[dtype]]
        if STEPS[name].cudnn is not None and turns_xla_off(STEPS[name]):
            made.append({**of(name, "stock.keras_cudnn", dtype), "status": LEFT_OUT})
        for row in made:
            rows[row["name"]] = row
            print(row["name"], row.get("status", "lowered"), flush=True)
        index.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
