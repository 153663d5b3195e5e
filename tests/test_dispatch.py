"""Which backend runs: precedence, refusals, and what `info` says about it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops import ops
from recops._core import compat, dispatch, native

X = np.ones((2, 3, 4), np.float32)


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_process_choice", None)
    monkeypatch.delenv("RECOPS_BACKEND", raising=False)


def _picked(**kwargs: str) -> str:
    return ops.select("pairwise_inner", X, **kwargs)


def test_context_wins_over_set_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOPS_CPP", "0")
    assert _picked() == "xla"
    monkeypatch.setenv("RECOPS_BACKEND", "reference")
    assert _picked() == "reference"
    recops.set_backend("xla")
    assert _picked() == "xla"
    with recops.backend("reference"):
        assert _picked() == "reference"
        with recops.backend("xla"):
            assert _picked() == "xla"
        assert _picked() == "reference"
    assert _picked() == "xla"
    assert _picked(backend="reference") == "reference"


def test_context_is_left_on_an_error_and_is_per_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOPS_CPP", "0")
    seen: list[str] = []
    with recops.backend("reference"):
        other = threading.Thread(target=lambda: seen.append(_picked()))
        other.start()
        other.join()
    assert seen == ["xla"]
    with pytest.raises(ZeroDivisionError), recops.backend("reference"):
        _ = 1 / 0
    assert _picked() == "xla"


@pytest.mark.parametrize("call", [recops.set_backend, lambda n: recops.backend(n).__enter__()])
def test_unknown_name_lists_the_four(call: object) -> None:
    with pytest.raises(ValueError, match="auto, cpp, xla, reference, got 'gpu'"):
        call("gpu")  # type: ignore[operator]


def test_unknown_environment_value_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOPS_BACKEND", "fast")
    with pytest.raises(ValueError, match=r"RECOPS_BACKEND: expected one of auto.*got 'fast'"):
        ops.pairwise_inner(X)


def test_named_backend_that_cannot_run_says_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOPS_CPP", "0")
    with pytest.raises(
        recops.BackendError,
        match=r"pairwise_inner cannot run with backend 'cpp': cpp: RECOPS_CPP=0",
    ):
        ops.pairwise_inner(X, backend="cpp")
    with recops.backend("cpp"), pytest.raises(NotImplementedError, match="native library"):
        ops.fm_interaction(X)


def test_switched_off_native_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOPS_CPP", "0")
    with pytest.raises(recops.BackendError, match="RECOPS_CPP=0 switches"):
        ops.pairwise_inner(X, backend="cpp")


def test_auto_takes_xla_on_a_gpu_and_falls_through_refusals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert dispatch._auto_order() == ("cpp", "xla", "reference")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    assert dispatch._auto_order() == ("xla", "reference")
    with tf.device("CPU"):
        assert dispatch._auto_order() == ("cpp", "xla", "reference")

    def refuse(op: str, *args: object) -> str:
        return "not on a Tuesday"

    room = dispatch.rooms()["pairwise_inner"]
    fast = SimpleNamespace(pairwise_inner=room.xla.pairwise_inner, why_not=refuse)
    monkeypatch.setattr(dispatch, "_ROOMS", dict(dispatch._ROOMS))
    picky = dispatch.Room("picky", ("pairwise_inner",), room.reference, _module(fast))
    with dispatch.noting() as noted:
        picky.call("pairwise_inner", tf.constant(X))
    assert noted == [("pairwise_inner", "reference")]
    with pytest.raises(recops.BackendError, match="xla: not on a Tuesday"):
        picky.call("pairwise_inner", tf.constant(X), backend="xla")


def _module(namespace: SimpleNamespace) -> ModuleType:
    module = ModuleType("fake")
    module.__dict__.update(vars(namespace))
    return module


def test_select_checks_arguments_like_a_call() -> None:
    with pytest.raises(
        ValueError, match=r"pairwise_inner: x must have shape \[B, F, D\], got \[3, 4\]"
    ):
        ops.select("pairwise_inner", X[0])
    with pytest.raises(ValueError, match=r"select: expected one of .*pairwise_inner.*got 'pair'"):
        ops.select("pair", X)


def test_select_computes_nothing() -> None:
    table, beyond = np.ones((3, 4), np.float32), np.array([[7]], np.int32)
    with pytest.raises(tf.errors.InvalidArgumentError):
        ops.embedding_lookup(table, beyond, [0], backend="reference")
    asked = {"table": table, "ids": beyond, "offsets": [0], "backend": "reference"}
    assert ops.select("embedding_lookup", **asked) == "reference"


def test_select_names_the_op_that_is_asked_for_and_not_those_within(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = np.ones((2, 3, 3), np.float32)
    assert ops.select("cin", X, [kernel], backend="xla") == "xla"
    room = dispatch.rooms()["cin"]

    def of_layers(x: tf.Tensor, kernels: list[tf.Tensor], *_: object) -> tf.Tensor:
        return ops.compressed_interaction(x, x, kernels[0], backend="reference")

    monkeypatch.setattr(room.xla, "cin", of_layers)
    assert ops.select("cin", X, [kernel], backend="xla") == "xla"


@pytest.mark.parametrize("jit", [False, True])
def test_select_answers_in_a_trace_and_leaves_nothing_there(
    jit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    where: list[bool] = []
    xla = dispatch.rooms()["pairwise_inner"].xla
    monkeypatch.setattr(
        xla, "why_not", lambda *_: where.append(compat.tracing_for_xla()), raising=False
    )

    @tf.function(jit_compile=jit)
    def traced(x: tf.Tensor, weight: tf.Variable) -> tf.Tensor:
        said.append(ops.select("pairwise_inner", x * weight, backend="xla"))
        return x + 1.0

    weight = tf.Variable(2.0)
    np.testing.assert_array_equal(traced(X, weight), X + 1)
    assert said == ["xla"]
    # A backend may refuse there, and there alone.
    assert where == [jit]
    graph = traced.get_concrete_function(X, weight).graph
    assert not [op.name for op in graph.get_operations() if "recops" in op.name]


@pytest.mark.needs("cpp")
@pytest.mark.parametrize("callable_by_xla", [True, False])
def test_auto_takes_what_xla_can_call_inside_jit(
    callable_by_xla: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = native._load()
    manifest = replace(library.built.manifest, xla=callable_by_xla)
    monkeypatch.setattr(library, "built", replace(library.built, manifest=manifest))
    said: list[str] = []

    @tf.function
    def inner(x: tf.Tensor) -> tf.Tensor:
        said.append(ops.select("pairwise_inner", x))
        return x + 1.0

    @tf.function
    def outer(x: tf.Tensor) -> tf.Tensor:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: inner(x), lambda: x)

    np.testing.assert_array_equal(tf.function(outer, jit_compile=True)(X), X + 1)
    assert said == ["cpp" if callable_by_xla else "xla"]
    assert _picked() == "cpp"
    if not callable_by_xla:
        refused = tf.function(lambda x: ops.fm_interaction(x, backend="cpp"), jit_compile=True)
        with pytest.raises(Exception, match="has no XLA calls for this TensorFlow; use backend"):
            refused(X)


def test_backend_appears_in_the_graph_for_profilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOPS_CPP", "0")
    graph = tf.function(ops.pairwise_inner).get_concrete_function(tf.TensorSpec((None, 3, 4))).graph
    assert any("recops.pairwise_inner.xla" in op.name for op in graph.get_operations())


def test_info_is_complete_printable_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOPS_CPP", "0")
    info = recops.info()
    plain = json.loads(json.dumps(info.to_dict()))
    assert plain["versions"]["recops"] == recops.__version__
    assert plain["versions"]["tensorflow"] == tf.__version__
    assert set(plain["ops"]) == set(dispatch.rooms())
    for states in plain["ops"].values():
        assert states["reference"] is None
        assert states["xla"] is None
        assert "native library" in states["cpp"]
    text = str(info)
    for op in plain["ops"]:
        assert op in text
    assert plain["native"] in text
