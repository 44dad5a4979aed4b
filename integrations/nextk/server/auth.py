"""Authentication: decides by the head of a request whether it may write, only read, or do nothing."""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import Scope

from nextk.errors import AuthenticationError, ClientError
from nextk.server.browsers import PageGuard

_WRONG_TOKEN = "Unauthorized: Invalid auth token"  # noqa: S105 - the documented refusal


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a server. Without any token the server is open. Tokens never show in a representation.

    Args:
        full: The token of clients that may read and write; `None` if there is no such token.
        read_only: The token of clients that may only read; `None` if there is no such token.

    Raises:
        ClientError: A token is empty, or both are the same.
    """

    full: str | None = field(default=None, repr=False)
    read_only: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if "" in (self.full, self.read_only):
            message = "a token must not be empty; leave it out to run without one"
            raise ClientError(message)
        if self.full is not None and self.full == self.read_only:
            message = "the read-only token must differ from the token, or it would allow writing"
            raise ClientError(message)

    @property
    def required(self) -> bool:
        """Whether a request needs a token: true if the server has at least one."""
        return self.full is not None or self.read_only is not None

    def read_only_for(self, headers: Mapping[str, str]) -> bool:
        """Decide whether a request may only read. Tokens are compared in constant time.

        Args:
            headers: The headers of the request. The mapping must ignore the case of names.

        Returns:
            True if the request may only read, false if it may write too.

        Raises:
            AuthenticationError: The request has no valid token.
        """
        if not self.required:
            return False
        scheme, _, given = headers.get("authorization", "").partition(" ")
        full, read_only = _equal(given, self.full), _equal(given, self.read_only)
        if scheme.lower() != "bearer" or not (full or read_only):
            raise AuthenticationError(_WRONG_TOKEN, 401)
        return not full


class Access:
    """Decides what a request may do: by its token, or, on a server without tokens, by whether a web page may send it.

    Args:
        tokens: The tokens of the server.
        allow_hosts: The names by which clients may call a server without tokens, besides those of loopback.

    Raises:
        ClientError: An element of `allow_hosts` is not the name of a host.
    """

    def __init__(self, tokens: Tokens, allow_hosts: Iterable[str] = ()) -> None:
        self._tokens = tokens
        self._pages = PageGuard(allow_hosts)

    @property
    def protected(self) -> bool:
        """Whether a request needs a token."""
        return self._tokens.required

    @property
    def has_both_tokens(self) -> bool:
        """Whether there are clients that may write, and others that may only read."""
        return self._tokens.full is not None and self._tokens.read_only is not None

    def read_only_for(self, scope: Scope) -> bool:
        """Decide whether a request may only read.

        Args:
            scope: The scope of the request, of ASGI.

        Returns:
            True if the request may only read, false if it may write too.

        Raises:
            AuthenticationError: The request has no valid token; or the server has none, and the request may come from
                a web page of another site.
        """
        if not self._tokens.required:
            self._pages.require_no_other_page(scope)
        return self._tokens.read_only_for(Headers(scope=scope))


def _equal(given: str, token: str | None) -> bool:
    return token is not None and hmac.compare_digest(given.strip().encode(), token.encode())
