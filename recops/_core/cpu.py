"""What a processor can do, and what code that is compiled for one asks of it."""

from __future__ import annotations

import functools
import platform

# What /proc/cpuinfo calls the instructions that a compiler may use of itself once it defines a
# macro. Those that only a program asks for by name (AES, AMX) are not among them.
_X86 = {
    "__SSE3__": "pni",
    "__SSSE3__": "ssse3",
    "__SSE4_1__": "sse4_1",
    "__SSE4_2__": "sse4_2",
    "__SSE4A__": "sse4a",
    "__POPCNT__": "popcnt",
    "__LZCNT__": "abm",
    "__BMI__": "bmi1",
    "__BMI2__": "bmi2",
    "__TBM__": "tbm",
    "__MOVBE__": "movbe",
    "__LAHF_SAHF__": "lahf_lm",
    "__PCLMUL__": "pclmulqdq",
    "__VPCLMULQDQ__": "vpclmulqdq",
    "__GFNI__": "gfni",
    "__F16C__": "f16c",
    "__FMA__": "fma",
    "__FMA4__": "fma4",
    "__XOP__": "xop",
    "__AVX__": "avx",
    "__AVX2__": "avx2",
    "__AVXVNNI__": "avx_vnni",
    "__AVXVNNIINT8__": "avx_vnni_int8",
    "__AVXVNNIINT16__": "avx_vnni_int16",
    "__AVXIFMA__": "avx_ifma",
    "__AVXNECONVERT__": "avx_ne_convert",
    "__AVX512F__": "avx512f",
    "__AVX512CD__": "avx512cd",
    "__AVX512DQ__": "avx512dq",
    "__AVX512BW__": "avx512bw",
    "__AVX512VL__": "avx512vl",
    "__AVX512ER__": "avx512er",
    "__AVX512PF__": "avx512pf",
    "__AVX512IFMA__": "avx512ifma",
    "__AVX512VBMI__": "avx512vbmi",
    "__AVX512VBMI2__": "avx512_vbmi2",
    "__AVX512VNNI__": "avx512_vnni",
    "__AVX512BITALG__": "avx512_bitalg",
    "__AVX512VPOPCNTDQ__": "avx512_vpopcntdq",
    "__AVX512VP2INTERSECT__": "avx512_vp2intersect",
    "__AVX512BF16__": "avx512_bf16",
    "__AVX512FP16__": "avx512_fp16",
    "__APX_F__": "apx",
}
_ARM = {
    "__ARM_FEATURE_CRC32": "crc32",
    "__ARM_FEATURE_ATOMICS": "atomics",
    "__ARM_FEATURE_QRDMX": "asimdrdm",
    "__ARM_FEATURE_FP16_VECTOR_ARITHMETIC": "asimdhp",
    "__ARM_FEATURE_FP16_FML": "asimdfhm",
    "__ARM_FEATURE_JCVT": "jscvt",
    "__ARM_FEATURE_COMPLEX": "fcma",
    "__ARM_FEATURE_RCPC": "lrcpc",
    "__ARM_FEATURE_DOTPROD": "asimddp",
    "__ARM_FEATURE_FRINT": "frint",
    "__ARM_FEATURE_MATMUL_INT8": "i8mm",
    "__ARM_FEATURE_BF16": "bf16",
    "__ARM_FEATURE_SVE": "sve",
    "__ARM_FEATURE_SVE_MATMUL_INT8": "svei8mm",
    "__ARM_FEATURE_SVE_MATMUL_FP32": "svef32mm",
    "__ARM_FEATURE_SVE_BF16": "svebf16",
    "__ARM_FEATURE_SVE2": "sve2",
    "__ARM_FEATURE_MOPS": "mops",
}
_KNOWN = {**_X86, **_ARM}


def machine() -> str:
    """The family of the processor, under one name on every system: x86_64, aarch64."""
    named = platform.machine()
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(named, named)


@functools.cache
def flags() -> frozenset[str]:
    """What the system says that this processor has; nothing where it does not say."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
            for line in f:
                name, _, values = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return frozenset(values.split())
    except OSError:
        pass
    return frozenset()


def needed(macros: str) -> list[str]:
    """The flags that code needs which is compiled with these macros, `#define` by `#define`."""
    defined = {line.split()[1] for line in macros.splitlines() if line.startswith("#define ")}
    return sorted(flag for macro, flag in _KNOWN.items() if macro in defined)
