"""`recops query`: items for a user, or like an item."""

from __future__ import annotations

import argparse

from recops.cli.messages import OK
from recops.cli.parser import Commands, command, count, natural, path


def add(commands: Commands) -> None:
    query = command(
        commands, "query", run, "Best items for a user, or like an item, by a trained model."
    )
    query.add_argument(
        "where",
        type=path,
        metavar="DIR",
        help="folder of `recops train YoutubeDNNRetrieval`; for --item also its index file",
    )
    asked = query.add_mutually_exclusive_group(required=True)
    asked.add_argument("--user", type=natural, metavar="ID", help="as the data set names it")
    asked.add_argument("--item", type=natural, metavar="ID", help="as the data set names it")
    query.add_argument("-k", type=count, default=10, help="how many items (%(default)s)")
    query.add_argument("--unseen", action="store_true", help="leave out what the user has had")


def run(arguments: argparse.Namespace) -> int:
    from recops.training import query

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
