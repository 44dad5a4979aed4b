"""The errors of nextk, split by who is at fault.

```
NextKError
├── ClientError(ValueError)         you misused the library; nothing was sent
│   ├── IndexLocked                 another process has the index's file open
│   └── PolicyMismatch              a cursor is resumed without a policy that it was made with
├── RefusedError(.status)           the index said no; `UpstashError` is the same class
│   ├── AuthenticationError         the token is missing, wrong or not allowed to do this
│   ├── QueryNotFound               the resumable query was stopped, has expired or never existed
│   └── TooManyQueries              the server has no room for another resumable query
├── TransportError                  no answer arrived
│   └── PageUncertain               no answer arrived, and the server may have advanced: the page's fate is unknown
├── SearchFailed                    an agent's tool could not search; its text is all that the model is told
├── LimitReached                    a bound that you set was hit before the search was exhausted
└── MissingExtraError(ImportError)  an optional part of nextk is not installed
```

All of them pickle, and none carries a token.
"""

__all__ = [
    "AuthenticationError",
    "ClientError",
    "IndexLocked",
    "LimitReached",
    "MissingExtraError",
    "NextKError",
    "PageUncertain",
    "PolicyMismatch",
    "QueryNotFound",
    "RefusedError",
    "SearchFailed",
    "TooManyQueries",
    "TransportError",
    "UpstashError",
]


class NextKError(Exception):
    """The root of every error that nextk raises on purpose.

    Attributes:
        retry_after: The seconds after which the server asked to be tried again; `None` if it did not.
        stored: How many records a call that stores had stored before this error, of those that it was given, in their
            order; `None` if the error is one of another call. Those of the request that failed are stored all or not at
            all: none of them if the index or the client refused it.
        deleted: How many records a `delete` had removed before this error, by the requests before the one that failed;
            `None` if the error is one of another call.
    """

    retry_after: float | None = None
    stored: int | None = None
    deleted: int | None = None


class ClientError(NextKError, ValueError):
    """You misused the library. Nothing was sent, so nothing changed; several requests have `stored` and `deleted`."""


class IndexLocked(ClientError):
    """Another process has the file of this embedded index open.

    An index on disk belongs to one process at a time. To share it, serve it with `nextk serve --data DIR` and connect
    to the server.
    """


class PolicyMismatch(ClientError):
    """A cursor is resumed without a policy that may have dropped matches, or with another one in its place.

    A permission check must not be lost on the way through a cursor. Resume it with the policies that the search had, or
    say `without_policies=True`.
    """


class RefusedError(NextKError):
    """The index refused the request. The documented SDK calls this class `UpstashError`, which is its alias here.

    Args:
        message: The server's own words.
        status: The HTTP status of the refusal, or 0 where no server was asked (a stopped handle).

    Attributes:
        after_loss: Whether the server may have received an earlier attempt at the same request, whose reply was lost.
    """

    after_loss: bool = False

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message, status)
        self.status = status

    def __str__(self) -> str:
        """Return the server's words; the status is an attribute."""
        return str(self.args[0])


UpstashError = RefusedError
"""The name that the documented SDK has for `RefusedError`, so that code written for it runs unchanged."""


class AuthenticationError(RefusedError):
    """The token is missing or wrong, or it may not do this (a read-only token that tries to write)."""


class QueryNotFound(RefusedError):
    """The resumable query was stopped, has expired after `max_idle` seconds, or never existed."""


class TooManyQueries(RefusedError):
    """No further resumable query may be opened until another one is stopped or expires."""


class TransportError(NextKError):
    """No usable answer arrived: the connection failed, timed out, or something else answered in the server's place.

    Attributes:
        sent: Whether the server may have received the request.
    """

    sent: bool = True


class PageUncertain(TransportError):
    """A page was requested and no usable answer arrived, so the server may or may not have advanced.

    To request the page again could skip one without a sign, so the handle refuses to. Stop the handle, and either start
    a new query or let a session of `nextk.sessions` recover. A server that numbers pages, as `nextk serve` does, gives
    a lost page again; there this error means that somebody else has advanced the query, or that another server has
    taken the place of the one that had it.

    Attributes:
        may_be_on_its_way: Whether the request may still reach the server: no reply came in time, and nothing broke.
    """

    may_be_on_its_way: bool = False


class SearchFailed(NextKError):
    """A tool of an agent could not search. No document is lost by it: the next call shows what this one did not.

    Frameworks may tell a model the text of what a tool raises. This one says in words of our own that the search failed
    and whether to try again. The error itself, which may hold secrets, is its `__cause__`; the log holds it as well.
    """


class LimitReached(NextKError):
    """The search reached a bound that the caller had set, before it was exhausted."""


class MissingExtraError(NextKError, ImportError):
    """An optional part of nextk is not installed; the message holds the command that installs it."""
