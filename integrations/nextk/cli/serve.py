"""Serve indexes over HTTP to any client of Upstash Vector: the official SDKs and nextk's own."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nextk.cli.arguments import count
from nextk.cli.environment import Environment
from nextk.cli.locations import LOCATIONS_HELP
from nextk.errors import ClientError
from nextk.extras import require

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from nextk.engine.protocol import Engine
    from nextk.engine.schema import Schema
    from nextk.server.spec import IndexSpec

SUMMARY = "serve indexes over HTTP, to any client of Upstash Vector"

_EPILOG = """\
Every index is served below /indexes/NAME, and one of them at / too: the first one of the first start
with these data. Later starts keep it, whatever their --index says, until --root names another one.
If it is not served, / answers 404. /healthz and /metrics tell about the server itself, and
/openapi.json and /docs describe it. Without --index, every index in DIR is served; without --index
and --data, one index in memory.

Every option can be set by the environment variable that stands behind it: a flag by 1 or 0, an option
that may be repeated by values with blanks between them. An argument wins over the variable. Set
tokens in this way, since other users of the machine can see arguments. Without a token, the server
listens to this machine only, and refuses whatever a page in a browser may have sent: its Host header
has to be localhost, a loopback address, or the name of an --allow-host.

  nextk serve
      serve an index in memory that embeds text by itself
  nextk serve --data ~/.local/share/nextk
      serve the indexes that `nextk demo` and `nextk ingest` made
  nextk serve --data . \\
      --index docs=hybrid,embedding=static,sparse_embedding=bm25
  nextk serve --index test=dense,dimension=2,similarity=euclidean
  nextk serve --data . --index docs=dense,embedding=models:embedder
      embed by a model of your own, in models.py of this folder: a function
      from list[str], an object with embed_documents and embed_query, or a
      class that makes one; several threads call it

"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=count(0), default=8080, help="port to listen on, 0 for a free one (default: 8080)"
    )
    parser.add_argument("--token", metavar="T", help="token that clients must send")
    parser.add_argument("--read-only-token", metavar="R", help="token of clients that may only read")
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="name by which clients may call a server without a token, besides localhost; may be repeated",
    )
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="folder of the indexes; without it, indexes are in memory"
    )
    _add_database(parser)
    parser.add_argument(
        "--index",
        metavar="NAME=TYPE[,...]",
        action="append",
        default=[],
        help="an index to serve, made if absent: hybrid, dense or sparse, then any of dimension=N, "
        "similarity=cosine|euclidean|dot_product, embedding=static|MODULE:ATTRIBUTE, "
        "sparse_embedding=bm25|MODULE:ATTRIBUTE, fusion_order=global|batch, weighting=idf|none, "
        "pool_from=RECORDS, exact=true|false; may be repeated",
    )
    parser.add_argument(
        "--root", metavar="NAME", help="index that answers at / from now on (default: the one that did so before)"
    )
    _add_sizes(parser)
    _add_limits(parser)
    parser.add_argument(
        "--same-model",
        action="store_true",
        help="open indexes that were made with another version of their models, whose vectors are the same",
    )
    parser.add_argument("--quiet", action="store_true", help="do not log requests")
    parser.epilog = _EPILOG + LOCATIONS_HELP
    parser.set_defaults(environment=Environment(parser))  # last, so that it has every option


def _add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--postgres",
        metavar="DSN",
        help="database of the indexes, such as postgresql://user@host/database: PostgreSQL with pgvector 0.8 or later",
    )
    parser.add_argument(
        "--postgres-schema",
        metavar="NAME",
        default="nextk",
        help="database schema with the tables of nextk, made if absent (default: nextk)",
    )


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-body", metavar="MIB", type=count(), default=64, help="size of the largest upsert, in MiB (default: 64)"
    )
    _add_totals(parser)
    parser.add_argument(
        "--max-reply",
        metavar="MIB",
        type=count(),
        default=64,
        help="size of the largest reply, in MiB; a request for more is refused (default: 64)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--search-threads",
        metavar="N",
        type=count(),
        help="number of requests that search or write at the same time (default: one for each core, at least 2)",
    )
    parser.add_argument(
        "--max-namespaces",
        metavar="N",
        type=count(),
        default=10_000,
        help="number of namespaces at which an index makes no further one (default: 10,000)",
    )
    parser.add_argument(
        "--max-open-queries",
        metavar="N",
        type=count(),
        default=100,
        help="number of resumable queries that an index may have open, half of them with the same token in the same "
        "namespace; each holds 4 bytes a record (default: 100)",
    )
    parser.add_argument(
        "--max-idle",
        metavar="SECONDS",
        type=count(3_600, 86_400),
        default=3_600,
        help="longest time that a client may let a resumable query idle, 3,600 to 86,400 (default: 3,600)",
    )
    parser.add_argument(
        "--filter-timeout",
        metavar="SECONDS",
        type=count(),
        default=10,
        help="time after which a search gives its filter up, with status 503 (default: 10)",
    )


def _add_totals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-connections",
        metavar="N",
        type=count(),
        default=1_000,
        help="number of connections; a further one takes the place of one that is silent (default: 1,000)",
    )
    parser.add_argument(
        "--max-requests",
        metavar="N",
        type=count(),
        default=256,
        help="number of requests under way at the same time; more are refused with status 503 (default: 256)",
    )
    parser.add_argument(
        "--max-bodies",
        metavar="MIB",
        type=count(),
        default=256,
        help="size of the bodies of all requests under way together, in MiB; more wait, and are refused with status "
        "503 after 5 seconds (default: 256)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM arrives."""
    _require_packages()
    from nextk.server.auth import Tokens
    from nextk.server.descriptors import fit_connections
    from nextk.server.limits import DEFAULT_LIMITS
    from nextk.server.listening import listen, run, url_of
    from nextk.server.log_limit import limited_logs
    from nextk.server.root import settle_root
    from nextk.server.spec import parse_specs

    arguments = arguments.environment.complete(arguments)
    specs = parse_specs(arguments.index)
    protected = Tokens(arguments.token, arguments.read_only_token).required
    _log(quiet=arguments.quiet)
    with (
        limited_logs(),
        contextlib.closing(listen(arguments.host, arguments.port, protected=protected)) as listener,
        _engines(arguments, specs) as engines,
    ):
        first = specs[0].name if specs else None
        root = settle_root(arguments.data, list(engines), first=first, requested=arguments.root)
        app = _application(arguments, engines, root)
        where = "on PostgreSQL" if arguments.postgres else _place(arguments.data)
        _welcome(url_of(listener), engines, where, root, protected=protected)
        connections = fit_connections(arguments.max_connections, len(engines))
        run(app, listener, replace(DEFAULT_LIMITS, connections=connections))
    return 0


def _engines(
    arguments: argparse.Namespace, specs: "Sequence[IndexSpec]"
) -> "contextlib.AbstractContextManager[dict[str, Engine]]":
    """Return what opens the engines: on PostgreSQL, in a folder or in memory."""
    from nextk.server.engines import open_engines
    from nextk.server.postgres import open_postgres_engines

    options = {
        "max_namespaces": arguments.max_namespaces,
        "max_open_queries": arguments.max_open_queries,
        "max_idle": arguments.max_idle,
        "same_model": arguments.same_model,
    }
    if not arguments.postgres:
        return open_engines(specs, arguments.data, filter_timeout=arguments.filter_timeout, **options)
    if arguments.data is not None:
        message = "--data and --postgres: give one of them, since the indexes are in a folder or in a database"
        raise ClientError(message)
    return open_postgres_engines(specs, arguments.postgres, arguments.postgres_schema, **options)


def _place(data: Path | None) -> str:
    from nextk.cli import screen

    return "in memory" if data is None else f"in {screen.short_path(data)}"


def _require_packages() -> None:
    for module in ("rich", "numpy", "orjson", "lark", "starlette", "uvicorn", "prometheus_client"):
        require(module, extra="server")


def _application(arguments: argparse.Namespace, engines: Mapping[str, "Engine"], root: str) -> "Starlette":
    from nextk.server.app import create_app

    return create_app(
        engines,
        token=arguments.token,
        read_only_token=arguments.read_only_token,
        allow_hosts=arguments.allow_host,
        root=root,
        backup_folder=arguments.data,
        max_body=arguments.max_body * 2**20,
        max_reply_bytes=arguments.max_reply * 2**20,
        max_requests=arguments.max_requests,
        max_bodies=arguments.max_bodies * 2**20,
        search_threads=arguments.search_threads,
    )


def _log(*, quiet: bool) -> None:
    """Log one line per request on standard error, as key=value."""
    logging.basicConfig(stream=sys.stderr, format="time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s")
    logging.getLogger("nextk").setLevel(logging.WARNING if quiet else logging.INFO)


def _welcome(url: str, engines: Mapping[str, "Engine"], where: str, root: str, *, protected: bool) -> None:
    """Print the indexes that are served, and the two variables that a client needs."""
    from nextk.cli import screen

    out = screen.Screen()
    out.say(("nextk serves ", "bold"), (url, "bold"), (f"   indexes {where}; stop with Ctrl-C", "dim"))
    table = screen.columns("index", "path", "schema", "records", right=("records",))
    for name, engine in engines.items():
        path = f"/indexes/{name}" + ("  and  /" if name == root else "")
        table.add_row(
            screen.cell(name), screen.cell(path), _schema(engine.schema), f"{sum(engine.stats().counts.values()):,}"
        )
    out.show(table)
    token = "<your token>" if protected else "none   # any value: this server asks for no token"
    out.print(f"export UPSTASH_VECTOR_REST_URL={url}", soft_wrap=True)
    out.print(f"export UPSTASH_VECTOR_REST_TOKEN={token}", soft_wrap=True)
    sys.stdout.flush()


def _schema(schema: "Schema") -> str:
    models = " + ".join(filter(None, (schema.embedding, schema.sparse_embedding)))
    metric = f", {schema.similarity.value.lower()}" if schema.dense else ""
    batch = ", batch-fused" if schema.fusion_order.value == "BATCH" else ""
    weighting = f", weighting {schema.weighting.value.lower()}" if schema.weighting else ""
    kind = "decided by the first write" if schema.type is None else schema.type.value.lower()
    return f"{kind}{metric}{batch}{weighting}" + (f", {models}" if models else "")
