"""What the sequence ops and models become on a GPU, read from HLO, which needs none to be made."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops._core.cases import Case
from recops._core.compat import keras
from tests.lowering import both_ways, dots, lower, skip_where_nothing_lowers
from tests.models.planted import SMALL, data, features_of, read_by
from tests.testing import cases, room_module

# Sizes that occur once, so that a shape tells what it is of.
B, T, S, D, H, N, E, A = 3, 5, 7, 11, 13, 2, 17, 19
# Two recurrences, there and back: DIEN's two GRUs, DSIN's LSTM from either end.
LOOPS = {"DIEN": 4, "DSIN": 4}
MODELS = [name for name in ("DIN", "DIEN", "DSIN", "BST", "AutoInt") if name in SMALL]

# Infeeds, sends, and calls of the host: what a program on a GPU would wait for the CPU with.
HOST = re.compile(
    r"\b(?:infeed|outfeed|send|recv)\(|custom_call_target=\"[^\"]*(?:host|callback)", re.I
)

ROWS = Path(__file__).parents[1] / "bench" / "results" / "gpu_compiled.jsonl"
COMPILED = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []


@pytest.fixture(scope="module", autouse=True)
def _lowers_for_a_gpu():
    skip_where_nothing_lowers()


def normal(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(scale=0.3, size=shape), tf.float32)


def gru_inputs(steps: int, attention: bool) -> dict[str, tf.Tensor]:
    inputs = {
        "x": normal(B, steps, D),
        "kernel": normal(D, 3 * H),
        "recurrent_kernel": normal(H, 3 * H),
        "bias": normal(3 * H),
        "mask": tf.sequence_mask([1, steps, steps - 1], steps),
    }
    return inputs | {"attention": tf.abs(normal(B, steps))} if attention else inputs


def attention_inputs() -> dict[str, tf.Tensor]:
    query, key, value = normal(B, T, N, E), normal(B, S, N, E), normal(B, S, N, E)
    return {"query": query, "key": key, "value": value, "mask": tf.sequence_mask([1, S, 4], S)}


def target_inputs() -> dict[str, Any]:
    return {
        "query": normal(B, D),
        "keys": normal(B, T, D),
        "kernels": [normal(4 * D, A), normal(A, 1)],
        "biases": [normal(A), normal(1)],
        "mask": tf.sequence_mask([1, T, 4], T),
    }


GRU = {"gru": {}, "augru": {"gru_type": "augru"}}
CASES: dict[str, tuple[str, Callable[[], dict[str, Any]], dict[str, Any]]] = {
    "gru": ("dynamic_gru", lambda: gru_inputs(T, False), {}),
    "augru": ("dynamic_gru", lambda: gru_inputs(T, True), {"gru_type": "augru"}),
    "multi_head_attention": ("multi_head_attention", attention_inputs, {}),
    "target_attention": ("target_attention", target_inputs, {}),
}


def ours(case: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    op, inputs, options = CASES[case]
    return functools.partial(getattr(ops, op), **options, backend="xla"), inputs()


def stock(op: str, form: str, **options: Any) -> Callable[..., Any]:
    return functools.partial(room_module(op, "stock").FORMS[op][form], **options)


def kept(fn: Callable[..., Any], inputs: dict[str, Any]) -> list[tuple[int | None, ...]]:
    """Shapes of what the backward reads of the forward's results; the inputs do not count."""
    with tf.Graph().as_default() as graph:
        given = tf.nest.map_structure(
            lambda t: tf.compat.v1.placeholder(t.dtype, t.shape), list(inputs.values())
        )
        ours = set(graph.get_operations())
        outputs = tf.nest.flatten(fn(**dict(zip(inputs, given))))
        forward = set(graph.get_operations()) - ours
        tf.gradients(outputs, [t for t in tf.nest.flatten(given) if t.dtype.is_floating])
        backward = set(graph.get_operations()) - ours - forward
        read = {source(t).ref() for op in backward for t in op.inputs if t.op in forward}
        tensors = [t.deref() for t in read if t.deref().op in forward]
        return [tuple(t.shape.as_list()) for t in tensors if t.shape.rank is not None]


def source(tensor: tf.Tensor) -> tf.Tensor:
    """What a tensor is the identity of."""
    while tensor.op.type in ("Identity", "IdentityN", "StopGradient"):
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def shapes(hlo: str) -> set[str]:
    """All shapes in the text, as "3,5,44"."""
    return set(re.findall(r"\b(?:f\d+|bf16|s\d+|u\d+|pred)\[([\d,]+)\]", hlo))


def loops(hlo: str) -> int:
    return len(re.findall(r"\bwhile\(", hlo))


def products(hlo: str) -> int:
    return len(re.findall(r"\bdot\(", hlo))


WEIGHTS = (B, N, T, S)


@pytest.mark.parametrize("case", CASES)
def test_nothing_waits_for_the_host(case):
    assert not HOST.search(both_ways(*ours(case)))


def test_the_search_for_host_transfers_finds_them():
    for line in (
        "%o = token[] outfeed(f32[3]{0} %x, token[] %t)",
        "%s = (f32[3]{0}, u32[], token[]) send(f32[3]{0} %x, token[] %t), channel_id=1",
        '%c = f32[3]{0} custom-call(%x), custom_call_target="xla_python_gpu_callback"',
    ):
        assert HOST.search(line)
    assert not HOST.search('%c = f32[3]{0} custom-call(%x), custom_call_target="__cublas$gemm"')


@pytest.mark.parametrize(("dtype", "short"), [("bfloat16", "bf16"), ("float16", "f16")])
@pytest.mark.parametrize("case", cases(), ids=lambda c: f"{c.op}-{c.name}")
def test_products_of_16_bit_inputs_are_of_16_bits(case, dtype, short):
    # Products of sums over fields, which float16 has no room for.
    wide = (case.op, dtype) == ("outer_product", "float16")
    want = ["f32", "f32"] if wide else [short, short]
    assert all(operands == want for operands in multiplied(case, dtype))


def multiplied(case: Case, dtype: str) -> list[list[str]]:
    """Operand types of the products of a case, forward and backward."""
    fn = functools.partial(getattr(ops, case.op), **case.options, backend="xla")
    inputs = tf.nest.map_structure(tf.constant, case.arrays(dtype))
    return [operands for _, operands in dots(both_ways(fn, inputs, case.constant))]


@pytest.mark.parametrize("case", GRU)
def test_a_gru_is_two_loops_whatever_its_steps(case):
    attention = case == "augru"
    short = both_ways(ours(case)[0], gru_inputs(T, attention))
    long = both_ways(ours(case)[0], gru_inputs(T + 4, attention))
    assert loops(short) == loops(long) == 2
    assert products(short) == products(long)


def test_an_unrolled_stock_gru_grows_with_its_steps():
    unrolled = stock("dynamic_gru", "keras_gru", unroll=True)
    short, long = gru_inputs(T, False), gru_inputs(T + 4, False)
    unrolled(**short)  # makes the layer, which no trace may
    short, long = both_ways(unrolled, short), both_ways(unrolled, long)
    assert loops(short) == 0
    assert products(long) > products(short)


def test_a_gru_keeps_one_record_of_its_forward():
    def of_all_steps(fn: Callable[..., Any], inputs: dict[str, Any]) -> list[Any]:
        # A loop that is differentiated keeps lists of what was in each step, of no known shape.
        return [shape for shape in kept(fn, inputs) if shape == () or len(shape) == 3]

    assert of_all_steps(*ours("augru")) == [(None, B, 4 * H)]
    form, inputs = stock("dynamic_gru", "keras_gru", gru_type="augru"), gru_inputs(T, True)
    form(**inputs)
    assert len(of_all_steps(form, inputs)) > 1


def test_attention_keeps_no_weights():
    assert WEIGHTS not in kept(*ours("multi_head_attention"))
    for form in room_module("multi_head_attention", "stock").FORMS["multi_head_attention"]:
        assert WEIGHTS in kept(stock("multi_head_attention", form), attention_inputs())


def test_attention_makes_its_weights_again_behind_a_barrier():
    hlo = both_ways(*ours("multi_head_attention"))
    # Of queries and gradients together: nothing is made again before it is asked for.
    assert re.search(
        rf"= \(f32\[{B},{N},{T},{E}\]\S*, f32\[{B},{N},{T},{E}\]\S*\) opt-barrier", hlo
    )
    assert products(hlo) == 7  # the scores twice


def fields_inputs(fields: int) -> dict[str, tf.Tensor]:
    pairs = fields * (fields - 1) // 2
    return {"x": normal(B, fields, D), "kernel": normal(pairs, D, D)}


def test_a_bilinear_layer_takes_as_many_products_whatever_its_fields():
    fn = functools.partial(ops.bilinear_interaction, bilinear_type="interaction", backend="xla")
    few, many = (products(both_ways(fn, fields_inputs(fields))) for fields in (5, 8))
    assert few == many
    slices = stock("bilinear_interaction", "slices", bilinear_type="interaction")
    assert products(both_ways(slices, fields_inputs(8))) > many


def test_cin_has_no_loop():
    inputs = {"x0": normal(B, T, D), "xk": normal(B, S, D), "kernel": normal(H, S, T)}
    hlo = both_ways(functools.partial(ops.compressed_interaction, backend="xla"), inputs)
    assert loops(hlo) == 0
    assert products(hlo) <= 4


def test_attentional_pooling_forms_no_products_of_pairs():
    pairs = T * (T - 1) // 2
    inputs = {"x": normal(B, T, D), "kernel": normal(D, A), "bias": normal(A)}
    inputs["projection"] = normal(A)
    of_pairs = {f"{B},{pairs},{D}", f"{B * pairs},{D}"}
    fn = functools.partial(ops.attentional_pooling, backend="xla")
    assert not shapes(both_ways(fn, inputs)) & of_pairs
    assert shapes(both_ways(stock("attentional_pooling", "gathers"), inputs)) & of_pairs


@pytest.mark.needs("keras3", "only Keras 3 has a model's step without its variables")
@pytest.mark.parametrize("name", MODELS)
def test_a_train_step_of_a_model_lowers(name):
    """Loss, gradients and Adam as one program; variables are its arguments, not captured."""
    from recops.models import CATALOGUE

    model = CATALOGUE[name].build(features_of(name), seed=1, backend="xla", **SMALL[name])
    batch, labels = data(4)
    batch = {key: tf.constant(value) for key, value in read_by(model, batch).items()}

    def step(weights, others, first, second, batch, labels):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            predicted, others, losses = model.stateless_call(
                weights, others, batch, training=True, return_losses=True
            )
            losses.append(tf.reduce_mean(keras.losses.binary_crossentropy(labels, predicted)))
            loss = tf.add_n(losses)
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients)]
        second = [0.999 * v + 0.001 * tf.square(g) for v, g in zip(second, gradients)]
        moved = [w - 0.01 * m / (tf.sqrt(v) + 1e-7) for w, m, v in zip(weights, first, second)]
        return loss, moved, others, first, second

    weights, others = (
        [tf.constant(v.numpy()) for v in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    moments = [tf.zeros_like(w) for w in weights]
    hlo = lower(step, [weights, others, moments, moments, batch, tf.constant(labels)])
    assert hlo.startswith("HloModule")
    assert not HOST.search(hlo)
    assert loops(hlo) == LOOPS.get(name, 0)


@pytest.mark.skipif(not COMPILED, reason="no programs were compiled for a GPU: make gpu-report")
class TestCompiledRows:
    """The kept rows of `bench/gpu/compile.py`: what the recurrent and attention ops promise."""

    def of(self, op: str, provider: str, dtype: str = "float32") -> list[dict[str, Any]]:
        rows = [r for r in COMPILED if (r["op"], r["dtype"]) == (op, dtype)]
        found = [r for r in rows if r["provider"].startswith(provider)]
        assert found
        return found

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_loops_have_a_known_number_of_steps(self, dtype):
        for row in self.of("dynamic_gru", "xla", dtype):
            steps = 100 if "t100" in row["case"] else 50
            assert [loop["steps"] for loop in row["loops"]] == [steps, steps]
            assert not row["custom_calls"]
        # The backward of a stock form is a loop of unknown length.
        for row in self.of("dynamic_gru", "stock", dtype):
            assert None in [loop["steps"] for loop in row["loops"]]

    def test_augru_takes_6_kernels_a_step_and_8_back(self):
        for row in self.of("dynamic_gru", "xla"):
            forward, backward = (loop["kernels"] + loop["copies"] for loop in row["loops"])
            assert forward <= 6
            assert backward <= 8

    @pytest.mark.parametrize(
        ("op", "what", "most"),
        [
            ("dynamic_gru", "modelled_us", 0.6),
            ("dynamic_gru", "kernels", 1.0),
            ("multi_head_attention", "temporary_bytes", 1.05),
            ("target_attention", "modelled_us", 1.0),
            ("attentional_pooling", "modelled_us", 0.7),
            ("cin", "modelled_us", 0.9),
            ("compressed_interaction", "modelled_us", 0.9),
        ],
    )
    def test_at_most_a_part_of_what_the_stock_forms_take(self, op, what, most):
        for ours in self.of(op, "xla"):
            for other in self.of(op, "stock"):
                if other["case"] == ours["case"] and other["status"] == "compiled":
                    assert ours[what] <= most * other[what]

    @pytest.mark.parametrize("case", ["criteo_b4096", "criteo_small_b4096"])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_a_dense_layer_takes_what_a_stock_one_takes(self, case, dtype):
        ours, stock = (
            next(r for r in self.of("dense", provider, dtype) if r["case"] == case)
            for provider in ("xla", "stock")
        )
        assert ours["modelled_us"] <= 1.02 * stock["modelled_us"]

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_a_whole_step_waits_for_nothing_and_calls_nothing(self, dtype):
        for row in self.of("train_step", "xla", dtype):
            assert (row["host_transfers"], row["custom_calls"]) == (0, [])
            # Keras's LSTM, whose gradient is a loop of unknown length.
            assert row["waits"] == 0 or row["case"] == "DSIN"

    @pytest.mark.parametrize(("case", "most"), [("DIEN", 0.8), ("DeepFM", 1.0)])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_a_whole_step_takes_at_most_a_part_of_the_stock_one(self, case, most, dtype):
        ours, stock = (
            next(r for r in self.of("train_step", provider, dtype) if r["case"] == case)
            for provider in ("xla", "stock.keras")
        )
        assert ours["modelled_us"] <= most * stock["modelled_us"]


@pytest.mark.parametrize("rule", ["adam", "adagrad", "rowwise_adagrad", "ftrl"])
def test_a_row_sparse_step_lowers_with_sizes_of_the_batch(rule: str) -> None:
    rows, batch, dim = 12_345, 23, 7
    case = {"rule": rule, "learning_rate": 0.1, "backend": "xla"}
    row_slots = rule == "rowwise_adagrad"
    shapes = [[rows] if row_slots else [rows, dim]] * (1 if "adagrad" in rule else 2)

    def step(table: tf.Tensor, slots: list[tf.Tensor], ids: tf.Tensor, values: tf.Tensor) -> Any:
        return ops.row_update(table, slots, ids, values, **case)

    state = [tf.zeros(shape) for shape in shapes]
    batch_of = [tf.zeros([batch], tf.int32), tf.zeros([batch, dim])]
    hlo = lower(step, [tf.zeros([rows, dim]), state, *batch_of])
    assert not HOST.search(hlo)
    assert "custom-call" not in hlo
    made = [line for line in hlo.splitlines() if re.search(rf"= f32\[{rows}[,\]]", line)]
    # Of the table's size there are the variables, and what the scatters make of them.
    assert made
    assert {re.search(r"\] ?[{}0-9,]* (\S+?)\(", line)[1] for line in made} <= {
        "parameter", "reshape", "scatter",
    }  # fmt: skip
    assert f"f32[{batch},{dim}]" in hlo
