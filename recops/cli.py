"""The command `recops`: each subcommand parses, calls and prints."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from recops.version import __version__

OK, WRONG, USER_ERROR, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code: 0, 1 (a bench row is wrong), 2 (user error), 130."""
    arguments = _parser().parse_args(argv)
    try:
        _find_devices_quietly()
        return arguments.run(arguments)
    except KeyboardInterrupt:
        return _complain(arguments.interrupted(arguments), INTERRUPTED)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if not isinstance(error, _user_errors()):
            raise
        return _complain(_said(error), USER_ERROR)


def _train(arguments: argparse.Namespace) -> int:
    from recops.training import train_named

    result = train_named(
        arguments.model,
        arguments.data,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        patience=arguments.patience,
        seed=arguments.seed,
        backend=arguments.backend,
        precision=arguments.mixed_precision,
        jit=arguments.jit,
        out=_out(arguments),
        resume=arguments.resume,
    )
    print(f"{arguments.model} on {arguments.data}\n{result}\nwritten to {result.out}")
    return OK


def _out(arguments: argparse.Namespace) -> Path:
    # Of a path its last part alone: a folder "runs" that holds further folders is hard to find in.
    reader, _, path = arguments.data.partition(":")
    data = "-".join(filter(None, (reader, Path(path).name)))
    return arguments.out or Path("runs") / f"{arguments.model}-{data}"


def _train_interrupted(arguments: argparse.Namespace) -> str:
    if not (_out(arguments) / "history.json").exists():
        return (
            "stopped before the training began; nothing was written (there is nothing to --resume)"
        )
    return (
        f"stopped; go on after the last finished epoch with: recops train {arguments.model} "
        f"--data {arguments.data} --out {_out(arguments)} --resume"
    )


def _models(_: argparse.Namespace) -> int:
    from recops.models import CATALOGUE, ESTIMATORS
    from recops.training import DATA, READERS

    rows = [
        ("model", "paper", "data it needs"),
        *((e.name, e.paper, e.needs) for e in (*CATALOGUE.values(), *ESTIMATORS.values())),
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip())
    print(
        f"\nEach trains on {', '.join(DATA)}: recops train MODEL. Files of your own:\n"
        f"recops train MODEL --data READER:PATH, where READER is one of {', '.join(READERS)}"
    )
    return OK


def _explain(arguments: argparse.Namespace) -> int:
    from recops import explain
    from recops._core.compat import keras
    from recops.models import CATALOGUE
    from recops.training import dataset

    path = arguments.model / "model.keras" if arguments.model.is_dir() else arguments.model
    if not path.is_file():
        raise FileNotFoundError(f"explain: there is no model at {path}; train one with --out DIR")
    model = keras.models.load_model(path, compile=False)
    # The sequence task has the features of the ranking task as well.
    task = CATALOGUE[model.name].task if model.name in CATALOGUE else "sequence"
    part = dataset(arguments.data, task).test
    rows = slice(None)
    if arguments.row is not None:
        if arguments.row >= len(part):
            raise ValueError(
                f"explain: --row must be below {len(part)}, the rows of the test split, got "
                f"{arguments.row}"
            )
        rows = slice(arguments.row, arguments.row + 1)
    found = explain(model, {name: values[rows] for name, values in part.inputs.items()})
    row = None if arguments.row is None else 0
    written = found.plot(arguments.out, row)
    if row is not None:
        said = ", ".join(f"{value:.4f}" for value in found.predictions[row].ravel())
        print(f"row {arguments.row}: predicted {said}, label {part.labels[arguments.row, 0]:g}")
    for name, file in zip(found.parts, written):
        print(f"{name} ({found.parts[name].layer}): {file}")
    return OK


def _query(arguments: argparse.Namespace) -> int:
    from recops import query

    if arguments.user is not None:
        found = query.for_user(arguments.where, arguments.user, arguments.k, arguments.unseen)
    else:
        found = query.like_item(arguments.where, arguments.item, arguments.k)
    rows = [("rank", "item", "score")]
    rows += [(f"{n}", f"{item}", f"{score:.4f}") for n, (item, score) in enumerate(found, start=1)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths)))
    return OK


def _bench(arguments: argparse.Namespace) -> int:
    from recops import benchmark

    cases = benchmark.cases(arguments.cases, arguments.ops)
    rows = []
    with _whole_file(arguments.out) as write:
        for number, case in enumerate(cases, start=1):
            print(f"[{number}/{len(cases)}] {case.op} {case.name}", file=sys.stderr, flush=True)
            for row in benchmark.run(case, arguments.dtype, arguments.seconds):
                rows.append(row)
                write(json.dumps(row.to_dict()) + "\n")
    print(benchmark.summary(rows))
    return OK if all(row.status == "ok" for row in rows) else WRONG


@contextlib.contextmanager
def _whole_file(path: Path | None) -> Iterator[Callable[[str], object]]:
    """A writer of a file that appears when all is written; it finds out first whether it can be."""
    if path is None:
        yield lambda text: None
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(21, "is a folder")
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OSError(
            f"bench: --out {path} cannot be written ({error.strerror}); choose another file"
        ) from None
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            yield file.write
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _info(arguments: argparse.Namespace) -> int:
    from recops import info

    found = info()
    print(json.dumps(found.to_dict(), indent=2) if arguments.json else found)
    return OK


def _build(arguments: argparse.Namespace) -> int:
    from recops._core import build

    print(build.find_or_build(rebuild=arguments.force).describe())
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="recops", description="Recommender models on fast, exact ops.")
    parser.add_argument("--version", action="version", version=f"recops {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run, interrupted=lambda _: "stopped; nothing was written")
        return made

    train = command("train", _train, "Train a model; what is not given has the model's default.")
    train.set_defaults(interrupted=_train_interrupted)
    train.add_argument("model", metavar="MODEL", help="a name that `recops models` lists")
    train.add_argument(
        "--data",
        default="movielens-100k",
        help="a data set, or READER:PATH for files of your own; default: %(default)s",
    )
    train.add_argument("--epochs", type=_count, help="most epochs (30)")
    train.add_argument("--batch-size", type=_count, help="rows a step")
    train.add_argument("--backend", help="auto, cpp, xla or reference")
    train.add_argument(
        "--mixed-precision", metavar="POLICY", help="float32, mixed_bfloat16 or mixed_float16"
    )
    train.add_argument("--learning-rate", type=_positive, help="of Adam")
    train.add_argument("--patience", type=_count, help="epochs without a better figure")
    train.add_argument("--seed", type=_natural, help="of weights, shuffle and dropout (0)")
    train.add_argument("--out", type=Path, metavar="DIR", help="default: runs/MODEL-DATA")
    train.add_argument("--resume", action="store_true", help="go on with the run in DIR")
    train.add_argument(
        "--jit", help="on, off or auto: compile the step with XLA (auto: where a GPU is)"
    )

    command("models", _models, "List the models that can be trained.")

    explained = command("explain", _explain, "Draw what a trained model looked at.")
    explained.add_argument(
        "model", type=Path, metavar="DIR|MODEL.keras", help="what `recops train` wrote"
    )
    explained.add_argument("--data", default="movielens-100k", help="default: %(default)s")
    explained.add_argument(
        "--row", type=_natural, metavar="N", help="of the test split; default: the mean of all"
    )
    explained.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the PNGs")

    query = command("query", _query, "Best items for a user, or like an item, by a trained model.")
    query.add_argument(
        "where",
        type=Path,
        metavar="DIR",
        help="folder of `recops train YoutubeDNNRetrieval`; for --item also its index file",
    )
    asked = query.add_mutually_exclusive_group(required=True)
    asked.add_argument("--user", type=_natural, metavar="ID", help="as the data set names it")
    asked.add_argument("--item", type=_natural, metavar="ID", help="as the data set names it")
    query.add_argument("-k", type=_count, default=10, help="how many items (%(default)s)")
    query.add_argument("--unseen", action="store_true", help="leave out what the user has had")

    bench = command("bench", _bench, "Check and time every backend of the ops, and stock forms.")
    bench.add_argument("ops", nargs="*", metavar="OP", help="default: all")
    bench.add_argument("--cases", choices=("smoke", "test", "bench"), default="bench")
    bench.add_argument(
        "--dtype", choices=("float16", "bfloat16", "float32", "float64"), default="float32"
    )
    bench.add_argument("--seconds", type=_positive, default=3.0, help="a case and mode (3)")
    bench.add_argument("--out", type=Path, metavar="FILE.jsonl", help="one JSON row a line")

    information = command("info", _info, "Versions, devices, and each op's backends.")
    information.add_argument("--json", action="store_true")
    built = command("build", _build, "Build the native library, unless it is there.")
    built.add_argument("--force", action="store_true", help="build even if it is there")
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; `--help` shows the usage."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(_complain(f"{self.prog}: {message}; see {self.prog} --help", USER_ERROR))


def _number(convert: Callable[[str], Any], fits: Callable[[Any], bool], expected: str) -> Any:
    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            if fits(value := convert(text)):
                return value
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")

    return parse


_count = _number(int, lambda n: n >= 1, "a whole number of 1 or more")
_natural = _number(int, lambda n: n >= 0, "a whole number of 0 or more")
_positive = _number(float, lambda x: 0 < x < float("inf"), "a number above 0")


def _find_devices_quietly() -> None:
    """Have TensorFlow look for devices without its log on stderr.

    On a machine without a GPU the search ends in an error message that is none, whatever the log
    level; it is shown only when the search fails. What TensorFlow says when it is imported comes
    before this: the package imports it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            tf.config.list_physical_devices()
        except Exception:
            log.seek(0)
            os.write(kept, log.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _user_errors() -> tuple[type[Exception], ...]:
    import tensorflow as tf

    from recops._core.build import BuildError
    from recops.data import DataError

    # NotImplementedError: BackendError. InvalidArgumentError: an id beyond its table.
    # ImportError: an optional package that is not there.
    known = (ValueError, NotImplementedError, OSError, ImportError, DataError, BuildError)
    return (*known, tf.errors.InvalidArgumentError)


def _said(error: Exception) -> str:
    """The message of an error in one line, without what Keras and TensorFlow wrap around it."""
    text = str(error)
    if bold := re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.S):
        text = bold.group(1)
    elif failed := re.search(r"assertion failed: (.*)", text):
        text = failed.group(1).replace("[", "").replace("]", "")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return " ".join(f"{line};" if line[-1].isalnum() else line for line in lines).rstrip(";")


def _complain(message: str, code: int) -> int:
    prefix = "" if message.startswith("recops") else "recops: "
    print(f"{prefix}{message}", file=sys.stderr, flush=True)
    return code
