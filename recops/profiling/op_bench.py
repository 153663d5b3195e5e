"""The op benchmark behind `recops bench`: every backend and stock form, checked and then timed."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from recops import ops
from recops._core import compat, dispatch, native
from recops._core.cases import Case, differentiated, select
from recops.profiling import stopwatch
from recops.profiling.judge import judge
from recops.version import __version__

MODES = ("forward", "forward+backward")
# Between the 20th and the 80th percentile, of the median: a figure that varies more says so.
SPREAD = 0.3


@dataclass(frozen=True)
class Row:
    """One measurement. `provider` is a backend or `stock.<form>`, run in a graph or under jit."""

    op: str
    case: str
    provider: str
    compiled: str
    mode: str
    dtype: str
    median_ms: float | None
    p20_ms: float | None
    p80_ms: float | None
    compile_ms: float | None
    peak_mib: float | None
    max_error: float | None
    floor_ratio: float | None
    status: str
    device: str
    threads: int
    tf: str
    keras: str
    recops: str
    git: str

    @property
    def stock(self) -> bool:
        """Whether this is what a user would write without recops."""
        return self.provider.startswith("stock.")

    def to_dict(self) -> dict[str, Any]:
        """Plain data of one JSON line."""
        return asdict(self)


def cases(tag: str, names: Sequence[str] = ()) -> list[Case]:
    """Cases with a tag, of the named ops or of all.

    Raises: ValueError for a name that is no op.
    """
    known = sorted(dispatch.rooms())
    for name in names:
        if name not in known:
            raise ValueError(f"bench: expected an op among {', '.join(known)}, got {name!r}")
    rooms = dispatch.rooms()
    return [c for op in names or known for c in select(rooms[op].file("cases").CASES, tag, op)]


def providers(case: Case) -> dict[tuple[str, str], Callable[..., Any]]:
    """(provider, "graph" or "jit") -> the function to time, for every backend that is there.

    `reference` is a formula, not a fast path: it is run in a graph alone, since its loops over
    pairs take XLA minutes. So is what XLA cannot compile: some stock forms, and the kernels under
    TensorFlow 2.15.
    """
    found: dict[tuple[str, str], Callable[..., Any]] = {}
    for backend in dispatch.CONCRETE:
        if takes(case, backend):
            op = functools.partial(getattr(ops, case.op), **case.options, backend=backend)
            slow = backend == "reference" or (backend == "cpp" and native.why_not(jit=True))
            for compiled in ("graph",) if slow else ("graph", "jit"):
                found[backend, compiled] = op
    stock = dispatch.rooms()[case.op].file("stock")
    only = getattr(stock, "ONLY_FOR", {})
    for name, form in stock.FORMS[case.op].items():
        if name in only and not only[name](case):
            continue
        graph_only = name in getattr(stock, "GRAPH_ONLY", ())
        for compiled in ("graph",) if graph_only else ("graph", "jit"):
            found[f"stock.{name}", compiled] = functools.partial(form, **case.options)
    return found


def takes(case: Case, backend: str) -> bool:
    """Whether a backend runs the op on the arguments of a case."""
    room = dispatch.rooms()[case.op]
    if not room.refuses_calls(backend):
        return room.why_not(backend, case.op) is None
    try:
        ops.select(case.op, **case.arrays("float32"), **case.options, backend=backend)
    except dispatch.BackendError:
        return False
    return True


def run(case: Case, dtype: str = "float32", seconds: float = 3.0) -> Iterator[Row]:
    """Check and time every provider of a case, forward and, where it has one, forward+backward."""
    arrays = case.arrays(dtype)
    inputs = {name: tf.nest.map_structure(tf.constant, value) for name, value in arrays.items()}
    changed = {name: inputs.pop(name) for name in arrays if name in case.updated}
    machine = stopwatch.rates(dtype)
    for mode in MODES if differentiated(arrays, case.constant) else MODES[:1]:
        backward = mode == MODES[1]
        truth = _truth(case, dtype, backward)
        steps: dict[tuple[str, str], Callable[[], Any]] = {}
        verdicts: dict[tuple[str, str], _Verdict] = {}
        for key, provider in providers(case).items():
            # What the op changes is held in variables, as it is in a training; each has its own.
            variables = tf.nest.map_structure(tf.Variable, changed)
            fn = functools.partial(provider, **variables)
            if key[0].startswith("stock."):
                # A form may make its layers at the first call, which it cannot inside a trace.
                fn(**inputs)
                tf.nest.map_structure(lambda held, value: held.assign(value), variables, changed)
            step = _step(fn, inputs, backward, key[1] == "jit", case.constant)
            verdicts[key] = _check(step, tf.nest.flatten(list(variables.values())), truth, dtype)
            if verdicts[key].status == "ok":
                steps[key] = step
        labels = {f"{provider}/{compiled}": (provider, compiled) for provider, compiled in steps}
        timed = stopwatch.interleave({n: steps[k] for n, k in labels.items()}, seconds=seconds)
        floor = machine.floor_ms(
            sum(case.flops) if backward else case.flops[0],
            _moved(case, arrays, truth, dtype, backward),
        )
        for key, verdict in verdicts.items():
            timing = timed.get("/".join(key))
            yield Row(
                case.op,
                case.name,
                *key,
                mode,
                dtype,
                median_ms=timing.median_ms if timing else None,
                p20_ms=timing.p20_ms if timing else None,
                p80_ms=timing.p80_ms if timing else None,
                compile_ms=verdict.first_ms - timing.median_ms if timing else None,
                peak_mib=stopwatch.peak_mib(steps[key]) if timing else None,
                max_error=verdict.error,
                floor_ratio=timing.median_ms / floor if timing else None,
                status=verdict.status,
                device=device(),
                threads=stopwatch.threads(),
                tf=tf.__version__,
                keras=compat.KERAS_VERSION,
                recops=__version__,
                git=_git(),
            )


def _step(
    fn: Callable[..., Any],
    inputs: Mapping[str, Any],
    backward: bool,
    jit: bool,
    constant: Collection[str],
) -> Callable[[], list[Any]]:
    """A provider on its inputs, traced: the first call compiles it."""
    body, values = program(fn, list(inputs), backward, constant), list(inputs.values())
    traced = tf.function(body, jit_compile=jit, autograph=False).get_concrete_function(*values)
    return functools.partial(traced, *values)


def program(
    fn: Callable[..., Any], names: Sequence[str], backward: bool, constant: Collection[str] = ()
) -> Callable[..., list[Any]]:
    """A provider as a function of its inputs in the order of `names`: outputs, then gradients.

    The inputs are arguments: constants would be folded away. Those named in `constant` get no
    gradient.
    """

    def body(*tensors: Any) -> list[Any]:
        arguments = dict(zip(names, tensors))
        if not backward:
            return [o for o in tf.nest.flatten(fn(**arguments)) if o is not None]
        floats = differentiated(arguments, constant)
        with tf.GradientTape() as tape:
            tape.watch(floats)
            outputs = tf.nest.flatten(fn(**arguments))
        gradients = tape.gradient(outputs, floats, output_gradients=_cotangents(outputs))
        return [*outputs, *gradients]

    return body


def _cotangents(outputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Incoming gradients: the outputs themselves, which are at hand and of no special value."""
    return [tf.stop_gradient(output) for output in outputs]


def _truth(case: Case, dtype: str, backward: bool) -> list[np.ndarray]:
    """Outputs (and gradients) of the reference in float64, on the inputs as rounded to `dtype`."""
    arrays = tf.nest.map_structure(
        lambda a: a.astype(np.float64) if tf.as_dtype(a.dtype).is_floating else a,
        case.arrays(dtype),
    )
    inputs = {name: tf.nest.map_structure(tf.constant, value) for name, value in arrays.items()}
    reference = functools.partial(getattr(ops, case.op), **case.options, backend="reference")
    return [_plain(t) for t in _step(reference, inputs, backward, False, case.constant)()]


class _Verdict(NamedTuple):
    """Of a provider's first call: largest relative error, "ok" or what went wrong, milliseconds."""

    error: float | None
    status: str
    first_ms: float


def _check(
    step: Callable[[], Sequence[Any]],
    changed: Sequence[tf.Variable],
    truth: Sequence[np.ndarray],
    dtype: str,
) -> _Verdict:
    """Judge what a step returns, or the variables that it has changed."""
    try:
        result, first_ms = stopwatch.once(step)
    except (tf.errors.OpError, ValueError, NotImplementedError) as e:
        return _Verdict(None, f"failed: {str(e).splitlines()[0]}", 0.0)
    plain = [None if r is None else _plain(r) for r in (*result, *changed)]
    return _Verdict(*judge(plain, truth, dtype), first_ms)


def _plain(tensor: Any) -> np.ndarray:
    """A dense float64 array: a sparse gradient's rows are summed."""
    return tf.cast(tf.convert_to_tensor(tensor), tf.float64).numpy()


def _moved(
    case: Case, arrays: Mapping[str, Any], truth: Sequence[np.ndarray], dtype: str, backward: bool
) -> float:
    """Bytes of inputs, outputs and gradients, each read or written once.

    A table counts by the rows that are read, which are those that get a gradient or are changed.
    """
    floats, ids, written = 0.0, 0.0, 0.0
    parameters = len(differentiated(arrays, case.constant))
    for name, value in arrays.items():
        for array in tf.nest.flatten(value):
            elements = array.size
            if name in case.rows_read:
                elements = case.rows_read[name] * array[:1].size
            if tf.as_dtype(array.dtype).is_floating:
                floats += elements
                written += elements if name in case.updated else 0
            else:
                ids += array.nbytes
    outputs = truth[: len(truth) - parameters] if backward else truth
    # On the way back the outputs come in as gradients, and those of the inputs go out.
    passes = 2 if backward else 1
    written = written if case.updated else sum(t.size for t in outputs)
    return ids + passes * tf.as_dtype(dtype).size * (floats + written)


@functools.cache
def device() -> str:
    """Name of the device that ops run on."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        return next(
            (line.split(":")[1].strip() for line in f if line.startswith("model name")), "CPU"
        )


@functools.cache
def _git() -> str:
    """Commit of the checkout that this package runs from, "" for an installed one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").is_dir():
        return ""
    asked = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def summary(rows: Sequence[Row]) -> str:
    """A table: each provider's better of graph and jit, beside the best stock form of its case."""
    lines = [
        f"{'op':24} {'case':24} {'mode':17} {'provider':24} {'ms':>9} {'p20-p80  ':>19} "
        f"{'x stock':>8} {'x floor':>8}"
    ]
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.op, row.case, row.mode), []).append(row)
    for (op, case, mode), group in groups.items():
        stock = min((r.median_ms for r in group if r.stock and r.median_ms), default=None)
        for provider in dict.fromkeys(r.provider for r in group):
            mine = [r for r in group if r.provider == provider]
            timed = [r for r in mine if r.median_ms is not None]
            if not timed:
                lines.append(f"{op:24} {case:24} {mode:17} {provider:24} {mine[0].status}")
                continue
            best = min(timed, key=lambda r: r.median_ms or 0)
            spread = f"{best.p20_ms:.2f}-{best.p80_ms:.2f}{' !' if noisy(best) else '  '}"
            speedup = f"{stock / best.median_ms:.2f}" if stock and best.median_ms else ""
            lines.append(
                f"{op:24} {case:24} {mode:17} {provider + ' ' + best.compiled:24} "
                f"{best.median_ms:9.2f} {spread:>19} {speedup:>8} {best.floor_ratio:8.1f}"
            )
    if any(line.count(" ! ") for line in lines):
        lines.append(f"!: p20 to p80 is over {SPREAD:.0%} of the median; run it on a quiet machine")
    return "\n".join(lines)


def noisy(row: Row) -> bool:
    """Whether the middle of the measurements is so wide that the median says little."""
    if row.median_ms is None or row.p20_ms is None or row.p80_ms is None:
        return False
    return row.p80_ms - row.p20_ms > SPREAD * row.median_ms
