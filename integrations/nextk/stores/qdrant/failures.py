"""Failures of Qdrant's client as errors of nextk, so that a session makes a request again where that helps. Private."""

from collections.abc import Iterator
from contextlib import contextmanager

from nextk.errors import RefusedError, TransportError

_NOT_FOUND = 404
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
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except UnexpectedResponse as error:
        status = error.status_code or 0
        if status == _NOT_FOUND:
            raise _missing(collection) from error
        message = f"Qdrant refused a search of the collection {collection!r}: {error}"
        raise RefusedError(message, status) from error
    except ResponseHandlingException as error:
        message = f"Qdrant gave no answer for the collection {collection!r}: {error}"
        raise TransportError(message) from error
    except (ValueError, RuntimeError) as error:  # of a client in this process
        if str(error) == f"Collection {collection} not found":
            raise _missing(collection) from error
        if "is closed" in str(error):
            message = "the client of Qdrant is closed: open a new one, and make the source of it"
            raise RefusedError(message) from error
        raise
    except Exception as error:
        code = getattr(error, "code", None)
        name = getattr(code() if callable(code) else None, "name", "")  # of gRPC, which need not be installed
        if name == "NOT_FOUND":
            raise _missing(collection) from error
        if name in _GRPC_PASSING:
            message = f"Qdrant gave no answer for the collection {collection!r}: {name}"
            raise TransportError(message) from error
        raise


def _missing(collection: str) -> RefusedError:
    message = f"Qdrant has no collection {collection!r}: it was deleted, or was never made"
    return RefusedError(message, _NOT_FOUND)
