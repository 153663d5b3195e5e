"""`recops profile`: where a train step of a model goes."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from recops._core.whole import writing
from recops.cli.messages import OK
from recops.cli.parser import Commands, command, count, path


def add(commands: Commands) -> None:
    made = command(commands, "profile", run, "Where a train step goes, and what would shorten it.")
    made.add_argument(
        "model", metavar="MODEL|FILE.keras", help="a name that `recops models` lists, or a file"
    )
    made.add_argument(
        "--data",
        help="a data set, or READER:PATH; default: movielens-100k for a MODEL, drawn for a FILE",
    )
    made.add_argument("--batch-size", type=count, metavar="N", help="rows a step")
    made.add_argument(
        "--steps", type=count, default=50, metavar="N", help="most steps of each part (%(default)s)"
    )
    made.add_argument("--json", type=path, metavar="F", help="write the profile as JSON")
    made.add_argument("--html", type=path, metavar="F", help="write the profile as a page")
    made.add_argument("--trace", type=path, metavar="DIR", help="write a trace for TensorBoard")


def run(arguments: argparse.Namespace) -> int:
    for option in ("json", "html", "trace"):
        _check_writable(option, getattr(arguments, option))
    from recops import profiling

    model, batches, said = _model_and_batches(arguments)
    found = profiling.profile(model, batches, arguments.steps)
    if arguments.trace is not None:
        profiling.trace(model, batches, arguments.trace, steps=min(arguments.steps, 5))
    if arguments.json is not None:
        with writing(arguments.json) as file:
            file.write_text(json.dumps(found.to_dict(), indent=2), encoding="utf-8")
    if arguments.html is not None:
        with writing(arguments.html) as file:
            file.write_text(found.to_html(), encoding="utf-8")
    print(f"{found}\nnote: {said}")
    return OK


def _model_and_batches(arguments: argparse.Namespace) -> tuple[Any, Any, str]:
    """The model, what it steps on, and a sentence on where that is from."""
    from recops._core import compat
    from recops.accelerate import probe
    from recops.models import CATALOGUE, ESTIMATORS
    from recops.training import TRAINING, build, dataset
    from recops.training.evaluation import read_by

    name, rows, spec = arguments.model, arguments.batch_size, arguments.data
    if name in ESTIMATORS:
        raise ValueError(f"profile: {name} is no Keras model and has no train step")
    if name in CATALOGUE:
        spec = spec or "movielens-100k"
        data = dataset(spec, CATALOGUE[name].task)
        model, rows = build(name, data), rows or TRAINING[name].batch_size
    elif not name.endswith(".keras") and not Path(name).exists():
        known = ", ".join(CATALOGUE)
        raise ValueError(f"profile: expected a .keras file or one of {known}, got {name!r}")
    else:
        from recops.cli.saved_models import load

        model, rows = load(Path(name).expanduser(), "profile", compiled=True), rows or probe.ROWS
        if spec is None and compat.graph_of(model) is None:
            raise ValueError(
                f"profile: {name} does not say what its inputs are; name --data, or call "
                f"recops.profiling.profile(model, batch) in Python"
            )
        if spec is None:
            drawn = probe.drawn(model, rows)
            return model, drawn, "a batch drawn from what the inputs say of themselves"
        data = dataset(spec, CATALOGUE[model.name].task if model.name in CATALOGUE else "sequence")
        # Raises a sentence where the data lacks an input.
        probe.checked(model, {key: value[:1] for key, value in data.train.inputs.items()})
    part = read_by(model, data).train
    # The first batch of an epoch that is shorter is the only one.
    batches = part.batches(rows, shuffle=True, drop_remainder=len(part) >= rows)
    return model, batches, f"batches of {spec}"


def _check_writable(option: str, target: Path | None) -> None:
    """Before a minute of work: whether the result can be put where it is to go."""
    if target is None:
        return
    folder = target if option == "trace" else target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if option != "trace" and target.is_dir():
            raise IsADirectoryError(21, "is a folder")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"profile: --{option} {target} cannot be written ({error.strerror}); choose another"
        ) from None
