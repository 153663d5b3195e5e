"""`recops train`: train a model of the catalogue."""

from __future__ import annotations

import argparse
from pathlib import Path

from recops.cli.messages import OK
from recops.cli.parser import Commands, command, count, natural, path, positive


def add(commands: Commands) -> None:
    train = command(
        commands, "train", run, "Train a model; what is not given has the model's default."
    )
    train.set_defaults(interrupted=_interrupted)
    train.add_argument("model", metavar="MODEL", help="a name that `recops models` lists")
    train.add_argument(
        "--data",
        default="movielens-100k",
        help="a data set, or READER:PATH for files of your own; default: %(default)s",
    )
    train.add_argument("--epochs", type=count, help="most epochs (30)")
    train.add_argument("--batch-size", type=count, help="rows a step")
    train.add_argument("--backend", help="auto, cpp, xla or reference")
    train.add_argument(
        "--mixed-precision", metavar="POLICY", help="float32, mixed_bfloat16 or mixed_float16"
    )
    train.add_argument("--learning-rate", type=positive, help="of the optimizer")
    train.add_argument("--optimizer", help="lazy_adam, adam, adagrad, rowwise_adagrad, ftrl or sgd")
    train.add_argument("--patience", type=count, help="epochs without a better figure")
    train.add_argument("--seed", type=natural, help="of weights, shuffle and dropout (0)")
    train.add_argument("--out", type=path, metavar="DIR", help="default: runs/MODEL-DATA")
    again = train.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in DIR")
    again.add_argument(
        "--resume-or-begin", action="store_true", help="go on with it, or begin where there is none"
    )
    train.add_argument(
        "--checkpoint-steps", type=count, metavar="N", help="keep the state after each N steps too"
    )
    train.add_argument(
        "--jit", help="on, off or auto: compile the step with XLA (auto: where a GPU is)"
    )
    train.add_argument(
        "--strategy",
        default="none",
        help="none, mirrored (the devices of this process) or multi_worker (the processes that "
        "TF_CONFIG names, each of which runs this command)",
    )
    train.add_argument(
        "--wait",
        type=positive,
        default=600,
        metavar="SECONDS",
        help="for the other processes at first (%(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    from recops.training import train_named

    result = train_named(
        arguments.model,
        arguments.data,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        optimizer=arguments.optimizer,
        patience=arguments.patience,
        seed=arguments.seed,
        backend=arguments.backend,
        precision=arguments.mixed_precision,
        jit=arguments.jit,
        out=_out(arguments),
        resume="auto" if arguments.resume_or_begin else arguments.resume,
        checkpoint_steps=arguments.checkpoint_steps,
        strategy=arguments.strategy,
        wait=arguments.wait,
    )
    print(f"{arguments.model} on {arguments.data}\n{result}\nwritten to {result.out}")
    return OK


def _out(arguments: argparse.Namespace) -> Path:
    # Of a path its last part alone: a folder "runs" that holds further folders is hard to find in.
    reader, _, path = arguments.data.partition(":")
    data = "-".join(filter(None, (reader, Path(path).name)))
    return arguments.out or Path("runs") / f"{arguments.model}-{data}"


def _interrupted(arguments: argparse.Namespace) -> str:
    if not (_out(arguments) / "history.json").exists():
        return (
            "stopped before the training began; nothing was written (there is nothing to --resume)"
        )
    return (
        f"stopped; go on after the last finished epoch with: recops train {arguments.model} "
        f"--data {arguments.data} --out {_out(arguments)} --resume"
    )
