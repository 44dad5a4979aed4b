"""The client half of the protocol, without I/O: calls become operations, and results become public types.

An `Operation` holds plain values; the transports decide whether they are written as JSON. Only this package knows the
paths and bodies of the client half; `nextk.dispatch` knows those of the server half. Checks here raise `ClientError`
only for what no server would accept.
"""

from nextk.operations.operation import Operation, Repeat, target
from nextk.operations.queries import Page, Started, fetch_next, query, query_many, start, stop
from nextk.operations.records import (
    delete,
    delete_namespace,
    fetch,
    info,
    list_namespaces,
    range_,
    reset,
    update,
    upsert,
)

__all__ = [
    "Operation",
    "Page",
    "Repeat",
    "Started",
    "delete",
    "delete_namespace",
    "fetch",
    "fetch_next",
    "info",
    "list_namespaces",
    "query",
    "query_many",
    "range_",
    "reset",
    "start",
    "stop",
    "target",
    "update",
    "upsert",
]
