"""`recops encode`: a source of any size as shards of encoded ids."""

from __future__ import annotations

import argparse

from recops.cli.messages import OK
from recops.cli.parser import Commands, command, count, natural, path


def add(commands: Commands) -> None:
    encode = command(
        commands,
        "encode",
        run,
        "Encode a source of any size into Parquet shards, for recops train --data stream:OUT.",
    )
    encode.set_defaults(interrupted=_interrupted)
    encode.add_argument(
        "source",
        metavar="SOURCE",
        help="READER:PATH; adult, amazon, criteo, libfm, parquet or csv",
    )
    encode.add_argument("out", type=path, metavar="OUT", help="folder of the shards")
    encode.add_argument(
        "--columns",
        metavar="SPEC",
        help="of parquet and csv: 'label=NAME group=NAME categories=NAME,NAME numbers=NAME "
        "lists=NAME:LENGTH'",
    )
    encode.add_argument("--task", help="ranking; of amazon also sequence, its own")
    encode.add_argument(
        "--hash-buckets", type=count, metavar="N", help="hash values, and learn none: one pass"
    )
    encode.add_argument(
        "--min-count", type=count, metavar="N", help="rarer values are unknown (criteo: 10)"
    )
    encode.add_argument("--split", help="random or time (amazon: time or last)")
    encode.add_argument("--numeric", help="log, percentile or plain")
    encode.add_argument("--seed", type=natural, default=0, help="of the random split (0)")
    encode.add_argument(
        "--shard-rows",
        type=count,
        default=1_000_000,
        metavar="N",
        help="rows of the source a shard (%(default)s)",
    )
    encode.add_argument(
        "--memory", type=count, default=512, metavar="MB", help="to keep to (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    from recops.data import encode

    done = encode(
        arguments.source,
        arguments.out,
        spec=arguments.columns,
        task=arguments.task,
        hash_buckets=arguments.hash_buckets,
        min_count=arguments.min_count,
        split=arguments.split,
        numeric=arguments.numeric,
        seed=arguments.seed,
        shard_rows=arguments.shard_rows,
        memory=arguments.memory,
    )
    print(f"{arguments.source}\n{done}\nwritten to {done.folder}")
    return OK


def _interrupted(arguments: argparse.Namespace) -> str:
    return (
        f"stopped; the shards that are whole stay in {arguments.out}, and the same command goes on "
        f"behind them"
    )
