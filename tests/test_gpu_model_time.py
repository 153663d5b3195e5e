"""The modelled time of a program for a GPU, of texts of our own writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

GPU = Path(__file__).parents[1] / "bench" / "gpu"


@pytest.fixture
def model_time(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(GPU))
    import model_time

    return model_time


@pytest.fixture
def hlo_text(model_time: Any) -> Any:
    import hlo_text

    return hlo_text


def cost(us: float, name: str = "") -> str:
    named = f',"name":"{name}"' if name else ""
    return f'{{"end_to_end_cycles":1.0,"exec_time_us":{us},"compute_time_us":0.1{named}}}'


def fusion(name: str, operands: str, shape: str, calls: str, kind: str, *costs: str) -> str:
    """A line of a fusion as XLA writes it."""
    config = f'"fusion_backend_config":{{"kind":"{kind}"}},' if kind else ""
    return (
        f"  %{name} = {shape} fusion({operands}), kind=kLoop, calls=%{calls}, "
        f'metadata={{op_name="a(b/{name})"}}, '
        f'backend_config={{{config}"reification_cost":[{",".join(costs)}]}}\n'
    )


ADD = """%fused_add (a: f32[1000], b: f32[1000]) -> f32[1000] {
  %a = f32[1000]{0} parameter(0)
  %b = f32[1000]{0} parameter(1)
  ROOT %sum = f32[1000]{0} add(%a, %b)
}

"""


def product(dtype: str, m: int, n: int, k: int, precision: str = "") -> str:
    return f"""%inner ({dtype}) -> {dtype} {{
  %x = {dtype}[{m},{k}]{{1,0}} parameter(0)
  %y = {dtype}[{k},{n}]{{1,0}} parameter(1)
  ROOT %dot.1 = {dtype}[{m},{n}]{{1,0}} dot(%x, %y), lhs_contracting_dims={{1}}, \
rhs_contracting_dims={{0}}{precision}
}}

ENTRY %main () -> {dtype}[{m},{n}] {{
  %p = {dtype}[{m},{k}]{{1,0}} parameter(0)
  %q = {dtype}[{k},{n}]{{1,0}} parameter(1)
""" + fusion("gemm", "%p, %q", f"{dtype}[{m},{n}]{{1,0}}", "inner", "__triton_gemm", cost(666000.0))


def test_a_plain_kernel_takes_what_xla_says_and_a_launch(model_time):
    text = (
        "HloModule jit_f, is_scheduled=true\n\n"
        + ADD
        + "ENTRY %main (p: f32[1000]) -> (f32[1000]) {\n  %p = f32[1000]{0} parameter(0)\n"
        + fusion("loop_add", "%p, %p", "f32[1000]{0}", "fused_add", "", cost(7.5), cost(9.0))
        + "  ROOT %t = (f32[1000]{0}) tuple(%loop_add)\n}\n"
    )
    assert model_time.summary(text) == {
        "modelled_us": 7.5 + model_time.LAUNCH_US,
        "products_us": 0.0,
        "launches_us": model_time.LAUNCH_US,
    }


def test_of_a_softmax_the_entry_by_indexing_counts(model_time):
    text = (
        ADD
        + "ENTRY %main () -> f32[1000] {\n  %p = f32[1000]{0} parameter(0)\n"
        + fusion(
            "softmax", "%p, %p", "f32[1000]{0}", "fused_add", "__triton",
            cost(12800.0), cost(25.0, "indexing-cost-model"),
        )
        + "}\n"
    )  # fmt: skip
    (kernel,) = model_time.kernels(model_time.parse(text))
    assert kernel.us == 25.0
    # Without that entry its bytes count: twice an operand of 4000 and a result.
    text = text.replace("indexing-cost-model", "another")
    (kernel,) = model_time.kernels(model_time.parse(text))
    assert kernel.us == pytest.approx(1e6 * 12000 / model_time.MEMORY_RATE)


@pytest.mark.parametrize(("dtype", "rate"), [("bf16", 989e12), ("f16", 989e12), ("f32", 494e12)])
def test_a_large_product_runs_at_the_rate_of_its_operands(model_time, dtype, rate):
    (kernel,) = model_time.kernels(model_time.parse(product(dtype, 8192, 8192, 8192) + "}\n"))
    assert kernel.us == pytest.approx(1e6 * 2 * 8192**3 / (rate * model_time.REACHED))
    assert kernel.what == "product __triton_gemm"


def test_the_highest_precision_leaves_the_tensor_cores(model_time):
    text = product("f32", 8192, 8192, 8192, ", operand_precision={highest,highest}") + "}\n"
    (kernel,) = model_time.kernels(model_time.parse(text))
    assert kernel.us == pytest.approx(1e6 * 2 * 8192**3 / (67e12 * model_time.REACHED))


def test_a_thin_product_is_bound_by_its_bytes(model_time):
    (kernel,) = model_time.kernels(model_time.parse(product("f32", 10**6, 8, 16) + "}\n"))
    moved = 4 * (10**6 * 16 + 16 * 8 + 10**6 * 8)
    assert kernel.us == pytest.approx(1e6 * moved / model_time.MEMORY_RATE)


def test_of_an_operand_that_is_sliced_the_slice_counts(model_time):
    text = product("f32", 10**6, 8, 16).replace(
        "%x = f32[1000000,16]{1,0} parameter(0)",
        "%all = f32[9000000,16]{1,0} parameter(0)\n"
        "  %x = f32[1000000,16]{1,0} slice(%all), slice={[0:1000000], [0:16]}",
    )
    text = text.replace("%p = f32[1000000,16]", "%p = f32[9000000,16]") + "}\n"
    (kernel,) = model_time.kernels(model_time.parse(text))
    moved = 4 * (10**6 * 16 + 16 * 8 + 10**6 * 8)
    assert kernel.us == pytest.approx(1e6 * moved / model_time.MEMORY_RATE)


def loop(body_cost: float, known: str) -> str:
    return (
        ADD
        + "%body (s: (s32[], f32[1000])) -> (s32[], f32[1000]) {\n"
        + "  %s = (s32[], f32[1000]{0}) parameter(0)\n"
        + "  %v = f32[1000]{0} get-tuple-element(%s), index=1\n"
        + fusion("step", "%v, %v", "f32[1000]{0}", "fused_add", "", cost(body_cost))
        + "}\n\n%condition (s: (s32[], f32[1000])) -> pred[] {\n"
        + "  %s.1 = (s32[], f32[1000]{0}) parameter(0)\n"
        + fusion("less", "%s.1", "pred[]", "fused_add", "", cost(1.0))
        + "}\n\nENTRY %main () -> f32[1000] {\n"
        + "  %start = (s32[], f32[1000]{0}) parameter(0)\n"
        + "  %w = (s32[], /*index=1*/f32[1000]{0}) while(%start), condition=%condition, body=%body"
        + (f', backend_config={{"known_trip_count":{{"n":"{known}"}}}}\n' if known else "\n")
    )


def test_a_loop_is_its_body_times_its_steps(model_time):
    found = model_time.summary(loop(2.0, "50") + "}\n")
    assert found["modelled_us"] == 50 * (2.0 + model_time.LAUNCH_US)
    assert found["launches_us"] == 50 * model_time.LAUNCH_US


def test_a_loop_of_unknown_length_counts_as_the_longest_and_asks_each_time(model_time):
    known = "  %k = (s32[], f32[1000]{0}) while(%start), condition=%condition, body=%body, "
    known += 'backend_config={"known_trip_count":{"n":"7"}}\n}\n'
    both = model_time.summary(loop(2.0, "") + known)["modelled_us"]
    one_step, asking = 2.0 + model_time.LAUNCH_US, 1.0 + model_time.LAUNCH_US
    assert both == 7 * one_step + 7 * (one_step + asking)
    alone = model_time.summary(loop(2.0, "") + "}\n")["modelled_us"]
    assert alone == one_step + asking


def test_what_runs_asynchronously_counts_once(model_time):
    text = (
        ADD
        + "%wrapped (p: f32[1000]) -> f32[1000] {\n  %p.1 = f32[1000]{0} parameter(0)\n"
        + fusion("inner", "%p.1, %p.1", "f32[1000]{0}", "fused_add", "", cost(3.0))
        + "}\n\nENTRY %main () -> f32[1000] {\n  %p = f32[1000]{0} parameter(0)\n"
        + "  %s = ((f32[1000]{0}), f32[1000]{0}) async-start(%p), calls=%wrapped\n"
        + "  ROOT %d = f32[1000]{0} async-done(%s)\n}\n"
    )
    assert model_time.summary(text)["modelled_us"] == 3.0 + model_time.LAUNCH_US


def test_calls_of_libraries_are_products(model_time):
    text = """ENTRY %main () -> f32[64] {
  %a = bf16[4096,2048]{1,0} parameter(0)
  %b = bf16[2048,4096]{1,0} parameter(1)
  %c = (bf16[4096,4096]{1,0}, s8[33554432]{0}) custom-call(%a, %b), \
custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":\
{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]},"precision_config":\
{"operand_precision":["DEFAULT","DEFAULT"]}}}
  %x = f32[1024,16,676]{2,1,0} parameter(2)
  %k = f32[1,676,128]{2,1,0} parameter(3)
  %y = (f32[1024,16,128]{2,1,0}, u8[0]{0}) custom-call(%x, %k), window={size=1}, \
dim_labels=b0f_0io->b0f, custom_call_target="__cudnn$convForward"
  %z = (f32[1,676,128]{2,1,0}, u8[0]{0}) custom-call(%x, %dy), window={size=1}, \
dim_labels=b0f_0io->b0f, custom_call_target="__cudnn$convBackwardFilter"
  %dy = f32[1024,16,128]{2,1,0} parameter(4)
}
"""
    gemm, forward, backward = model_time.kernels(model_time.parse(text))
    flops = 2 * 4096 * 2048 * 4096
    assert gemm.us == pytest.approx(1e6 * flops / (989e12 * model_time.REACHED))
    moved = 4 * (1024 * 16 * 676 + 676 * 128 + 1024 * 16 * 128)
    assert forward.us == pytest.approx(1e6 * moved / model_time.MEMORY_RATE)
    assert backward.us == pytest.approx(forward.us)


def test_of_branches_the_dearer_counts(model_time):
    branch = "%{0} (p: f32[1000]) -> f32[1000] {{\n  %p.{0} = f32[1000]{{0}} parameter(0)\n"
    text = ADD
    for name, us in (("cheap", 1.0), ("dear", 8.0)):
        text += branch.format(name)
        text += fusion("f" + name, f"%p.{name}", "f32[1000]{0}", "fused_add", "", cost(us)) + "}\n"
    text += "ENTRY %main () -> f32[1000] {\n  %i = s32[] parameter(0)\n"
    text += "  %c = f32[1000]{0} conditional(%i), branch_computations={%cheap, %dear}\n}\n"
    assert model_time.summary(text)["modelled_us"] == 8.0 + model_time.LAUNCH_US


def test_a_text_without_an_entry_is_refused(hlo_text):
    with pytest.raises(ValueError, match="ENTRY"):
        hlo_text.parse("HloModule jit_f\n")


def test_shapes_know_their_bytes(hlo_text):
    (made,) = hlo_text.parse(
        "ENTRY %main () -> f32[] {\n  %a = (bf16[2,3]{1,0}, pred[5]{0}, s64[], token[]) infeed()\n}"
    ).computations["main"]
    assert [shape.bytes for shape in made.shapes] == [12, 5, 8, 0]
