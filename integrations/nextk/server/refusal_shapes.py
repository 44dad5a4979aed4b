"""The statuses of refusals: what each one means, its typical words, and which commands can give it."""

from collections.abc import Mapping
from dataclasses import dataclass

from nextk.dispatch import COMMANDS

_STARTS = ("resumable-query", "resumable-query-data")  # which are refused while too many queries are open


@dataclass(frozen=True, slots=True)
class RefusalShape:
    """A status of refusals.

    Attributes:
        name: Its name in the description of the server.
        meaning: What it means.
        words: Typical texts of the error.
    """

    name: str
    meaning: str
    words: tuple[str, ...]


REFUSALS: Mapping[int, RefusalShape] = {
    400: RefusalShape(
        "Malformed",
        "The body is not JSON, or the request is not well-formed HTTP.",
        (
            "Invalid JSON: unexpected character: line 1 column 1 (char 0)",
            "Malformed request: it has both Content-Length and Transfer-Encoding",
        ),
    ),
    401: RefusalShape("InvalidToken", "The token is missing or wrong.", ("Unauthorized: Invalid auth token",)),
    403: RefusalShape(
        "Forbidden",
        "The token may only read, the index can only be read, too many resumable queries are open, or a web page may "
        "have sent the request to a server without a token.",
        (
            "Forbidden: read-only token cannot perform write operations",
            "Exceeded max active resumable query limit: 100",
            "Forbidden: a page of another site or port may not use a server without a token. If it is to do so, start "
            "the server with a token",
        ),
    ),
    404: RefusalShape(
        "NotFound",
        "There is no such index, namespace or open query.",
        (
            "Not found: there is no index notes",
            "Namespace de for the index notes does not exist",
            "Resumable query with uuid 0b8f6c0e-5b7e-4d0a-9a53-2f1c8f3f6a11 does not exist",
        ),
    ),
    405: RefusalShape(
        "MethodNotAllowed", "The method is not one that the path answers.", ("Method not allowed: PATCH",)
    ),
    408: RefusalShape("TooSlow", "The request took too long to arrive.", ("The request did not arrive in time",)),
    409: RefusalShape(
        "Conflict",
        "The page of the open query is neither its last one nor its next one, the uuid is that of another search, or "
        "the file of the index was replaced.",
        (
            "Resumable query with uuid 0b8f6c0e-5b7e-4d0a-9a53-2f1c8f3f6a11: page 7 cannot be read, because its last "
            "page is 3: start the search anew",
        ),
    ),
    413: RefusalShape(
        "TooLarge",
        "The body is larger than the command allows.",
        ("Request body is larger than 65536 bytes: this command needs less",),
    ),
    414: RefusalShape(
        "PathTooLong", "The path and the query string are too long.", ("The request line is longer than 16384 bytes",)
    ),
    422: RefusalShape(
        "Invalid",
        "A field is wrong, or the index cannot do this. Nothing was changed.",
        (
            "Invalid vector dimension: 3, expected: 2",
            "Invalid topK: Input should be less than or equal to 1000",
            "Only one of ids or prefix must be provided.",
        ),
    ),
    431: RefusalShape(
        "TooManyHeaders", "The headers are too large, or too many.", ("The request has more than 100 headers",)
    ),
    500: RefusalShape("Failed", "The server or its storage failed.", ("Internal server error",)),
    501: RefusalShape(
        "UnknownEncoding",
        "The body has an encoding that the server does not know.",
        ("The only Transfer-Encoding that is understood is chunked",),
    ),
    503: RefusalShape(
        "Unavailable",
        "The server has no time for this now, or a filter took too long. The request may be sent again.",
        (
            "The filter took longer than 10 seconds, and the search was given up. What it has read is kept for a "
            "while, so send the search again; if it fails again, use a simpler filter, or allow more time, on a server "
            "by --filter-timeout",
        ),
    ),
    505: RefusalShape(
        "UnknownVersion",
        "The request is of a version of HTTP that the server does not know.",
        ("The only versions of HTTP that are understood are 1.1 and 1.0",),
    ),
    507: RefusalShape(
        "DiskFull",
        "The disk is full. Nothing was changed; reads and deletes still work.",
        ("The index notes cannot do this: the disk is full (database or disk is full, SQLITE_FULL). ...",),
    ),
}
"""The statuses in ascending order."""


OF_NO_OPERATION = (405, 501, 505)
"""The statuses that no request gets that is made by the description."""
OF_EVERY_PATH = (400, 408, 414, 431, 500, 503)
"""The statuses of requests that do not arrive as they should, or that the server has no room for or fails to answer."""


def statuses_of(name: str, *, protected: bool) -> list[int]:
    """Return the statuses of the refusals that a command can give, ascending.

    Args:
        name: The name of the command.
        protected: Whether the server requires a token.
    """
    command = COMMANDS[name]
    given = {
        401: protected,
        403: command.writes or name in _STARTS or not protected,
        507: command.writes,
        **dict.fromkeys(OF_NO_OPERATION, False),
    }
    return [status for status in REFUSALS if given.get(status, True)]
