"""Failures of Qdrant's client as errors of nextk, so that a session makes a request again where that helps. Private."""

from collections.abc import Iterator
from contextlib import contextmanager

from nextk.errors import NextKError, RefusedError, TransportError

_NOT_FOUND, _TOO_MANY = 404, 429
_GRPC_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL")
"""The codes of gRPC after which a request may work out the next time."""


@contextmanager
def explaining_failures(collection: str) -> Iterator[None]:
    """Raise failures of the client within the block as errors of nextk; other exceptions go through.

    Args:
        collection: The name of the collection, for messages.

    Raises:
        RefusedError: Qdrant has refused the request, or does not have the collection; or the client is closed.
        TransportError: No answer came.
    """
    try:
        yield
    except Exception as error:
        explained = _of_http(collection, error) or _of_process(collection, error) or _of_grpc(collection, error)
        if explained is None:
            raise
        raise explained from error


def _of_http(collection: str, error: Exception) -> NextKError | None:
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, QdrantException):  # for a 429 that says when to come again, and for one that says it illegibly
        return _too_many(collection, error)
    if isinstance(error, UnexpectedResponse):
        if error.status_code == _NOT_FOUND:
            return _missing(collection)
        message = f"Qdrant refused a search of the collection {collection!r}: {error}"
        return RefusedError(message, error.status_code or 0)
    if isinstance(error, ResponseHandlingException):
        if "client has been closed" in str(error):
            return _closed()
        return TransportError(f"Qdrant gave no answer for the collection {collection!r}: {error}")
    return None


def _of_process(collection: str, error: Exception) -> NextKError | None:
    if not isinstance(error, ValueError | RuntimeError):
        return None
    if str(error) == f"Collection {collection} not found":
        return _missing(collection)
    return _closed() if "is closed" in str(error) else None


def _of_grpc(collection: str, error: Exception) -> NextKError | None:
    code = getattr(error, "code", None)
    name = getattr(code() if callable(code) else None, "name", "")  # of gRPC, which need not be installed
    if name == "NOT_FOUND":
        return _missing(collection)
    if name in _GRPC_PASSING:
        return TransportError(f"Qdrant gave no answer for the collection {collection!r}: {name}")
    return None


def _missing(collection: str) -> RefusedError:
    message = f"Qdrant has no collection {collection!r}: it was deleted, or was never made"
    return RefusedError(message, _NOT_FOUND)


def _closed() -> RefusedError:
    message = "the client of Qdrant is closed: open a new one, and make the source of it"
    return RefusedError(message)


def _too_many(collection: str, error: Exception) -> RefusedError:
    refused = RefusedError(f"Qdrant refused a search of the collection {collection!r}: {error}", _TOO_MANY)
    seconds = getattr(error, "retry_after_s", None)
    refused.retry_after = None if seconds is None else float(seconds)
    return refused
