"""`recops.export`: from a model in memory to a program that runs without recops."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import checks
from recops.export import comparing, onnx, probe, programs, saved_model
from recops.export.report import Report
from recops.export.served import Served, axes, served

FORMATS = ("saved_model", "onnx")


def export(
    model: Any,
    path: str | os.PathLike[str],
    *,
    format: str = "saved_model",
    signature: Any = None,
    validate: Any = True,
) -> Report:
    """Write a model as a program that runs where recops is not installed.

    It is traced in inference mode with TensorFlow's own ops, whatever backend the layers name: no
    op of recops, no call of XLA, no dropout, no loss and no sampled negatives are in it. Then it is
    loaded in a fresh process that cannot import recops, and compared with the live model; only a
    program that agrees is put in its place. What a program gives is float32 under every policy.

    Models of `recops.models` give what their call gives, a probability or a value [B, 1], but
    `YoutubeDNNRetrieval` its `user_model`, "user_vector" [B, D], and `Transformer` its `generate`,
    "ids" [B, L] of "source" [B, L], padded to L = max_length, and the numbers "start" and "end".

    Args:
      model: any built Keras model, of recops or of other layers.
      path: of the folder (SavedModel; for TensorFlow Serving its last part is the number of a
        version) or of the file (ONNX). Missing folders on the way are made.
      format: "saved_model", with the signature "serving_default", or "onnx", by tf2onnx.
      signature: a structure of `tf.TensorSpec`s, as the model's call takes it, in place of the
        inputs that the model knows: of a model that is not functional, or for other dtypes. A dict
        gives the names. None takes the inputs of the model, by the keys of a dict or the names of
        its `keras.Input`s, with an open batch size.
      validate: True compares on a batch that is drawn from the inputs, in which ids go up to the
        vocabulary where it is known and are 0 and 1 where not; a batch, as the model takes it,
        compares on that; False does not compare.

    Defaults: format="saved_model", validate=True.

    Returns: Report: inputs and outputs, ops, size, and how far from the live model it is.

    Raises: ValueError for a model without weights or of unknown inputs, for what the format cannot
    hold, by the name of the layer, and for a program that does not give what the model gives;
    FileExistsError where something is at `path`; OSError where nothing can be written; ImportError,
    which names the extra to install, without tf2onnx. Nothing is left behind then.

    Example:
      >>> import tempfile, recops
      >>> from recops.features import SequenceFeature, SparseFeature
      >>> item, seen = SparseFeature("item", 99), SequenceFeature("seen", 99, 5, target="item")
      >>> model = recops.models.DIN([item, seen], hidden_units=[8])
      >>> folder = tempfile.TemporaryDirectory()
      >>> print(recops.export(model, f"{folder.name}/1", validate=False))
      DIN as saved_model: .../1, ... kB
      inputs   item [B] int32
               seen [B, 5] int32
      outputs  output [B, 1] float32
      ops      ..., none of recops and none of XLA
      not compared with the live model
      >>> program = tf.saved_model.load(f"{folder.name}/1").signatures["serving_default"]
      >>> program(item=tf.constant([7]), seen=tf.constant([[3, 9, 0, 0, 0]]))["output"].shape
      TensorShape([1, 1])
    """
    checks.choice("export", "format", format, FORMATS)
    target = _free(path)
    if format == "onnx":
        onnx.packages()
    made = served(model, signature)
    program = made.trace()
    programs.refuse_foreign(made.model.name, program)
    batches = [] if validate is False else _batches(made, validate)
    with _beside(target) as folder:
        written = folder / target.name
        if format == "onnx":
            onnx.write(program, made, written)
        else:
            saved_model.write(program, made.model, written)
        apart = _compared(made, format, written, batches) if batches else None
        size = sum(f.stat().st_size for f in [written, *written.rglob("*")] if f.is_file())
        # Another may have come meanwhile.
        written.rename(_free(target))
    return Report(
        path=str(path),
        format=format,
        model=made.model.name,
        inputs=_described(made.inputs),
        outputs=_described(program.structured_outputs),
        ops=programs.ops_of(program),
        bytes=size,
        max_difference=apart,
        tolerance=comparing.TOLERANCE[made.half] if batches else None,
        probe=" and ".join(str(_rows(batch)) for batch in batches) + " rows" if batches else None,
    )


def _described(specs: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{axes(spec)} {spec.dtype.name}" for name, spec in specs.items()}


def _free(path: str | os.PathLike[str]) -> Path:
    """A path where nothing is."""
    # The process that it is loaded in has a folder of its own.
    target = Path(path).absolute()
    if os.path.lexists(target):
        raise FileExistsError(
            f"export: {path} is there already; remove it, or take another path (TensorFlow "
            f"Serving reads the folder with the highest number)"
        )
    return target


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder on the file system of the target, so that what is in it can be renamed to it."""
    made = [parent for parent in target.parents if not parent.exists()]
    folder = None
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=".recops-export-", dir=target.parent))
        except OSError as error:
            raise type(error)(f"export: {target} cannot be written: {error}") from error
        yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            # Those that hold the program by now stay.
            with contextlib.suppress(OSError):
                parent.rmdir()


def _batches(made: Served, validate: Any) -> list[comparing.Batch]:
    """The probe, and where the batch is open its first row alone."""
    if validate is True:
        batch = probe.draw(made.reads, made.largest)
    else:
        batch = _given(made, validate)
    batches = [batch]
    open_ = [name for name, spec in made.reads.items() if spec.shape[:1] == [None]]
    if open_ and _rows(batch) > 1:
        batches.append({n: value[:1] if n in open_ else value for n, value in batch.items()})
    return batches


def _given(made: Served, batch: Any) -> comparing.Batch:
    """A batch by the names of the inputs; `tf.nest` orders it as it has ordered them."""
    by_name = isinstance(batch, Mapping) and set(made.reads) <= set(batch)
    values = [batch[name] for name in made.reads] if by_name else tf.nest.flatten(batch)
    if len(values) != len(made.reads):
        raise ValueError(
            f"export: the batch to compare on must hold {', '.join(made.reads)}, got "
            f"{len(values)} of {len(made.reads)}"
        )
    return {
        name: np.asarray(tf.convert_to_tensor(value, spec.dtype))
        for (name, spec), value in zip(made.reads.items(), values)
    }


def _rows(batch: comparing.Batch) -> int:
    return max((len(value) for value in batch.values() if value.ndim), default=1)


def _compared(made: Served, format_: str, written: Path, batches: list[comparing.Batch]) -> float:
    """How far the program is from the model, in the worst batch."""
    name = made.model.name
    want = [comparing.live(made, batch) for batch in batches]
    if any(v.dtype.kind == "f" and v.size and not np.isfinite(v).any() for v in want[0].values()):
        raise ValueError(
            f"export: {name} gives nothing but NaN or infinity on the batch to compare on, which "
            f"proves nothing; pass validate=BATCH with one of your own"
        )
    read = [{n: v for n, v in batch.items() if n in made.inputs} for batch in batches]
    (got,) = comparing.elsewhere([(format_, written, read)])
    worst = max(map(comparing.difference, want, got))
    if not worst <= comparing.TOLERANCE[made.half]:
        raise ValueError(
            f"export: {name} as {format_} is {worst:.1e} away from the live model, more than "
            f"{comparing.TOLERANCE[made.half]:.0e}; nothing was written"
        )
    return worst
