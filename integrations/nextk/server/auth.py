"""Who may do what: bearer tokens, compared in constant time. Pure decisions."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from nextk.errors import AuthenticationError, ClientError

_WRONG_TOKEN = "Unauthorized: Invalid auth token"  # noqa: S105 - the documented refusal
_OTHER_SITE = "Forbidden: a page of another site may not use a server without a token"


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a server; none at all leaves it open. They never show in a representation.

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
        """Whether a request needs a token."""
        return self.full is not None or self.read_only is not None

    def read_only_for(self, headers: Mapping[str, str]) -> bool:
        """Whether a request may only read.

        Args:
            headers: Those of the request, looked up in any letter case.

        Raises:
            AuthenticationError: It may do nothing at all.
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
