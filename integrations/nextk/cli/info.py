"""Show the type, the models and the number of records of an index on disk, or the state of a PostgreSQL database."""

import argparse
import os
from pathlib import Path

from nextk.cli.locations import LOCATIONS_HELP, index_to_read
from nextk.cli.postgres_info import show_database
from nextk.errors import ClientError
from nextk.extras import require

SUMMARY = "show what an index contains"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--index", metavar="FILE", type=Path, help="the index (default: see below)")
    parser.add_argument(
        "--postgres",
        metavar="DSN",
        help="show a database instead: versions, settings, the indexes of nextk in it, and what is missing; "
        "leave the password to PGPASSWORD or ~/.pgpass",
    )
    parser.add_argument(
        "--postgres-schema",
        metavar="NAME",
        default="nextk",
        help="database schema with the tables of nextk (default: nextk)",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.epilog = LOCATIONS_HELP


def run(arguments: argparse.Namespace) -> int:
    """Print the type, the models, and the number of records per namespace; or the state of a database."""
    require("rich", extra="local")
    if arguments.postgres is not None:
        if arguments.index is not None:
            message = "--index and --postgres: give one of them, since an index is in a file or in a database"
            raise ClientError(message)
        return show_database(arguments.postgres, arguments.postgres_schema, as_json=arguments.json)
    return _show_file(index_to_read(arguments.index), as_json=arguments.json)


def _show_file(path: Path, *, as_json: bool) -> int:
    from nextk.cli import screen
    from nextk.client import Index
    from nextk.types import UNDECIDED, InfoResult

    with Index.embedded(path) as index:
        info: InfoResult = index.info()
    dense, sparse = info.dense_index, info.sparse_index
    facts: dict[str, str | int | None] = {
        "type": "decided by the first write" if info.index_type == UNDECIDED else info.index_type.lower(),
        "records": info.vector_count,
        "bytes": info.index_size,
        "dimension": info.dimension or None,
        "similarity": info.similarity_function.lower() or None,
        "embedding": dense.embedding_model or None if dense else None,
        "sparse_embedding": sparse.embedding_model or None if sparse else None,
        "embedding_identity": info.embedding_identity or None,
        "sparse_embedding_identity": info.sparse_embedding_identity or None,
        "weighting": info.weighting.lower() if info.weighting else None,
    }
    namespaces = {name: one.vector_count for name, one in (info.namespaces or {}).items()}
    if as_json:
        screen.print_json({"index": os.fspath(path), **facts, "namespaces": namespaces})
        return 0
    out = screen.Screen()
    where = screen.short_path(path)
    table = screen.columns("index", where, filling=where)
    for name, value in facts.items():
        if value is not None:
            table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else value)
    for name, count in namespaces.items():
        if name or len(namespaces) > 1:
            table.add_row(screen.cell(f"namespace {name!r}"), f"{count:,}")
    out.show(table)
    return 0
