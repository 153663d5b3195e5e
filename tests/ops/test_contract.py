"""Generated: op x backend x case x dtype x (eager, graph, jit), values and gradients."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops._core import device, dispatch
from recops._core.cases import Case, differentiated
from recops.profiling import op_bench
from tests import testing
from tests.needs import refusal_in

MODES = ("eager", "graph", "jit")


PARAMETERS = [
    pytest.param(case, backend, dtype, mode, id=f"{case.op}-{case.name}-{backend}-{dtype}-{mode}")
    for case in testing.cases()
    for backend in dispatch.CONCRETE
    if op_bench.takes(case, backend)
    for dtype in testing.DTYPES
    for mode in MODES
    # XLA takes seconds for the loops of a reference, which is the same formula in every dtype.
    if not (backend == "reference" and mode == "jit" and dtype != "float32")
]


@functools.cache
def _plain_errors(op: str, name: str, dtype: str) -> dict[str, list[float]]:
    """Errors of the first stock form run in `dtype`: the yardstick of a 16-bit result."""
    case = next(c for c in testing.cases() if c.op == op and c.name == name)
    form = next(iter(testing.room_module(op, "stock").FORMS[op].values()))
    got = testing.run(
        functools.partial(form, **case.options), case.arrays(dtype), constant=case.constant
    )
    want = testing.expected(op, name, dtype)
    return {
        kind: [testing.error(g, w) for g, w in zip(got[part], want[part])]
        for part, kind in enumerate(("value", "gradient"))
    }


@pytest.mark.parametrize(("case", "backend", "dtype", "mode"), PARAMETERS)
def test_value_and_gradient(
    case: Case, backend: str, dtype: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = dispatch.rooms()[case.op]
    module = getattr(room, backend)
    ran: list[str] = []
    kernel = getattr(module, case.op)
    monkeypatch.setattr(module, case.op, lambda *a: ran.append(backend) or kernel(*a))

    want = testing.expected(case.op, case.name, dtype)
    call = functools.partial(
        testing.run, testing.public(case, backend), case.arrays(dtype), mode, want[0], case.constant
    )
    if backend == "cpp" and (reason := refusal_in(mode)):
        # While tracing, TensorFlow may raise the error as one of its own with the same text.
        with pytest.raises(Exception, match=re.escape(reason)):
            call()
        return
    got = call()

    assert ran, f"{backend} was asked for but did not run"
    _assert_right(case, dtype, got, want)


def _assert_right(case: Case, dtype: str, got: Any, want: Any) -> None:
    plain = _plain_errors(case.op, case.name, dtype) if dtype in testing.ROUNDING else {}
    for part, kind in enumerate(("value", "gradient")):
        assert len(got[part]) == len(want[part])
        for index, (g, w) in enumerate(zip(got[part], want[part])):
            allowed = testing.bound(dtype, kind, plain[kind][index] if plain else None)
            assert testing.error(g, w) <= allowed, f"{kind} {index}"


@pytest.mark.parametrize("case", testing.cases(), ids=lambda c: f"{c.op}-{c.name}")
@pytest.mark.parametrize("dtype", testing.DTYPES)
def test_the_form_for_a_gpu(case: Case, dtype: str) -> None:
    """What `xla` makes for a GPU, run here: forward and backward as one program."""
    want = testing.expected(case.op, case.name, dtype)
    fn, arrays = testing.public(case, "xla"), case.arrays(dtype)
    with device.running_on("GPU"):
        got = testing.run(fn, arrays, "jit", want[0], case.constant)
    _assert_right(case, dtype, got, want)


@pytest.mark.parametrize("op", sorted(dispatch.rooms()))
def test_every_backend_ran_or_says_why(op: str) -> None:
    ran = {p.values[1] for p in PARAMETERS if p.values[0].op == op}
    for backend in dispatch.CONCRETE:
        reason = dispatch.rooms()[op].why_not(backend, op)
        assert (backend in ran) == (reason is None)
        assert reason is None or len(reason.split()) > 4


@pytest.mark.parametrize("case", testing.cases(), ids=lambda c: f"{c.op}-{c.name}")
def test_stock_forms_compute_the_op(case: Case) -> None:
    want = testing.expected(case.op, case.name, "float64")
    stock = testing.room_module(case.op, "stock")
    only = getattr(stock, "ONLY_FOR", {})
    for name, form in stock.FORMS[case.op].items():
        if name in only and not only[name](case):
            continue
        got = testing.run(
            functools.partial(form, **case.options), case.arrays(), constant=case.constant
        )
        for part, kind in enumerate(("value", "gradient")):
            for g, w in zip(got[part], want[part]):
                assert testing.error(g, w) <= testing.bound("float64", kind, None), name


@pytest.mark.parametrize("case", testing.cases(), ids=lambda c: f"{c.op}-{c.name}")
def test_select_names_what_runs(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = case.arrays("float32")
    room = dispatch.rooms()[case.op]
    ran: list[str] = []
    for backend in dispatch.CONCRETE:
        module = getattr(room, backend)
        kernel = getattr(module, case.op, None)
        if kernel is not None:
            monkeypatch.setattr(
                module, case.op, lambda *a, b=backend, k=kernel: ran.append(b) or k(*a)
            )
    for backend in ("auto", "xla", "reference"):
        said = ops.select(case.op, **arrays, **case.options, backend=backend)
        ran.clear()
        testing.public(case, backend)(**tf.nest.map_structure(tf.constant, arrays))
        assert ran[0] == said
        assert backend in ("auto", said)
    with pytest.raises(ValueError, match="expected one of auto, cpp, xla, reference, got 'fast'"):
        ops.select(case.op, **arrays, **case.options, backend="fast")


@pytest.mark.parametrize("op", sorted(set(dispatch.rooms()) - {"row_update"}))  # it has no batch
@pytest.mark.parametrize("backend", dispatch.CONCRETE)
@pytest.mark.parametrize("mode", ["graph", "jit"])
def test_unknown_batch_and_several_batches_from_one_trace(op: str, backend: str, mode: str) -> None:
    case = next(c for c in testing.cases() if c.op == op)
    if not op_bench.takes(case, backend) or (backend == "cpp" and refusal_in(mode)):
        pytest.skip(f"{backend} does not run {op} in a {mode}")
    fn = testing.public(case, backend)
    arrays = case.arrays("float32")
    want = testing.run(fn, arrays, constant=case.constant)[0]
    batch = want[0].shape[0]

    def rows_of(name: str, value: Any, rows: int) -> Any:
        """The first rows of an argument."""
        if isinstance(value, list):
            return [rows_of(name, item, rows) for item in value]
        batched = value.shape[:1] == (batch,) and name not in testing.WEIGHTS
        return value[:rows] if batched else value

    traced = tf.function(
        lambda kw: tf.nest.flatten(fn(**kw)),
        input_signature=[testing.signature(arrays, batch)],
        jit_compile=mode == "jit",
    )
    for rows in (batch, 1, 0):
        part = {name: rows_of(name, value, rows) for name, value in arrays.items()}
        outputs = traced(tf.nest.map_structure(tf.constant, part))
        for output, full in zip(outputs, want):
            if op in _ACROSS_ROWS and rows < batch:
                assert output.shape == (rows, *full.shape[1:])
                continue
            np.testing.assert_allclose(output.numpy(), full[:rows], rtol=1e-5, atol=1e-5)


# Ops whose rows depend on the other rows of the batch.
_ACROSS_ROWS = {"in_batch_softmax"}


@pytest.mark.parametrize("case", testing.cases(), ids=lambda c: f"{c.op}-{c.name}")
@pytest.mark.parametrize("backend", dispatch.CONCRETE)
def test_static_shapes_are_those_that_come_out(case: Case, backend: str) -> None:
    if not op_bench.takes(case, backend):
        pytest.skip(f"{backend} does not run {case.op} on {case.name}")
    arrays, fn = case.arrays("float32"), testing.public(case, backend)
    oracle = testing.oracle(case.op)(**testing.wide(arrays), **case.options)
    real = [np.shape(output) for output in tf.nest.flatten(oracle)]

    def step(tensors: dict[str, Any]) -> tuple[list[tf.Tensor], list[Any]]:
        sources = differentiated(tensors, case.constant)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = tf.nest.flatten(fn(**tensors))
        # An update has no gradient.
        return outputs, tape.gradient(outputs, sources) if case.op != "row_update" else []

    traced = tf.function(step).get_concrete_function(testing.signature(arrays))
    outputs, gradients = traced.structured_outputs
    assert [tuple(output.shape) for output in outputs] == real
    sources = differentiated(arrays, case.constant)
    assert [tuple(g.shape) for g in gradients] == [s.shape for s in sources[: len(gradients)]]
    assert len(gradients) == (0 if case.op == "row_update" else len(sources))

    if case.op in ("row_update", "row_sums"):  # they have no batch
        return
    batch = real[0][0]
    traced = tf.function(lambda kw: tf.nest.flatten(fn(**kw)))
    unknown = traced.get_concrete_function(testing.signature(arrays, batch)).structured_outputs
    assert [tuple(output.shape) for output in unknown] == [(None, *shape[1:]) for shape in real]
