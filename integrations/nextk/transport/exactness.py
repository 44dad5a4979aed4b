"""Exact searches: `exact` is an extension of the protocol, of the same servers that number pages.

Any other server would ignore the field or refuse it, so it is sent to no server that has not said that it numbers pages
(see `nextk.transport.numbering`). A server that has said nothing yet is asked by `info` first, which costs one request.
"""

from dataclasses import replace
from typing import Any

from nextk import operations
from nextk.errors import ClientError
from nextk.operations import Operation
from nextk.transport.numbering import Numbering
from nextk.types import InfoResult


def question_before(operation: Operation[Any], numbering: Numbering) -> Operation[InfoResult] | None:
    """Return the operation that has to be sent before another one; `None` for none.

    Args:
        operation: The operation that is to be sent.
        numbering: What the server has said so far. The answer is to be noted there.
    """
    if not operation.exact or numbering.said is not None:
        return None
    return replace(operations.info(), patient=operation.patient)


def require_exact_search(operation: Operation[Any], numbering: Numbering) -> None:
    """Refuse to send an exact search to a server that does not know what it is.

    Args:
        operation: The operation that is to be sent.
        numbering: What the server has said.

    Raises:
        ClientError: The operation has an exact search, and the server has none.
    """
    if operation.exact and not numbering.said:
        message = (
            "this server has no exact search: indexes that are embedded or on PostgreSQL and `nextk serve` do, and it "
            "does not say that it is one. Leave exact= out"
        )
        raise ClientError(message)
