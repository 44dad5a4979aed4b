"""Authentication: decides by the bearer token of a request whether it may write, only read, or do nothing."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from nextk.errors import AuthenticationError, ClientError

_WRONG_TOKEN = "Unauthorized: Invalid auth token"  # noqa: S105 - the documented refusal
_OTHER_SITE = "Forbidden: a page of another site may not use a server without a token"


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
            AuthenticationError: The request has no valid token, or it comes from a web page of another site and the
                server has no token.
        """
        if not self.required:
            # Every command answers GET, so without a token the picture in a web page could empty an index.
            if headers.get("sec-fetch-site") == "cross-site":
                raise AuthenticationError(_OTHER_SITE, 403)
            return False
        scheme, _, given = headers.get("authorization", "").partition(" ")
        full, read_only = _equal(given, self.full), _equal(given, self.read_only)
        if scheme.lower() != "bearer" or not (full or read_only):
            raise AuthenticationError(_WRONG_TOKEN, 401)
        return not full


def _equal(given: str, token: str | None) -> bool:
    return token is not None and hmac.compare_digest(given.strip().encode(), token.encode())
