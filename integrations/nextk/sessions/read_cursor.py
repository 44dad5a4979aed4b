"""Cursors that were read and checked, as a session takes them. Private."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nextk.errors import ClientError
from nextk.sessions.cursor import Position
from nextk.sessions.query import SearchQuery
from nextk.until.policy import Policy


@dataclass(frozen=True, slots=True)
class ReadCursor:
    """A cursor that was read and checked. A session takes it instead of the plain data, and does not check it again.

    Attributes:
        position: The position that it holds.
        digest: Its digest, by which the pool knows a query that was left open for it.
        without_policies: Whether the search may go on without the policies that it had.
    """

    position: Position
    digest: str
    without_policies: bool = False

    @classmethod
    def of(cls, cursor: object, key: str | None = None, *, without_policies: bool = False) -> "ReadCursor":
        """Read and check a cursor; one that was read already is returned as it is.

        Args:
            cursor: The cursor.
            key: The key with which the cursor has to be signed; `None` for no key.
            without_policies: Whether the search may go on without the policies that it had.

        Raises:
            ClientError: The cursor is not one, is of another version, was edited, or was not signed with this key.
        """
        if isinstance(cursor, ReadCursor):
            return cursor
        position = Position.read(cursor, key)
        assert isinstance(cursor, Mapping)
        return cls(position, cursor["digest"], without_policies)

    def require(self, index: str, template: SearchQuery, policies: Sequence[Policy]) -> None:
        """Refuse to go on in another index, with another view of it, or without the policies of the search.

        Args:
            index: The identity of the index that is to be searched.
            template: The query that is to go on.
            policies: The single policies of the search that is to go on.

        Raises:
            ClientError: The index, the namespace, the filter, the fusion or the weighting is not that of the cursor.
            PolicyMismatch: A policy is not that of the cursor.
        """
        self.position.require(index, template)
        if not self.without_policies:
            self.position.require_policies(policies)

    @property
    def query_texts(self) -> list[str]:
        """The texts of the query as the caller of the retriever wrote them, at least one.

        Raises:
            ClientError: The cursor was not made by a retriever.
        """
        if not self.position.texts:
            message = "this cursor was not made by a retriever: it holds no question"
            raise ClientError(message)
        return self.position.texts
