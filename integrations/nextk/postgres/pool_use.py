"""The use of a pool of connections, for whoever watches an index on PostgreSQL. Needs no psycopg."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["PoolUse", "PooledEngine"]


@dataclass(frozen=True, slots=True)
class PoolUse:
    """The connections of a pool at one moment.

    Attributes:
        in_use: The number of connections that somebody has, or that are being made.
        idle: The number of connections that are open, and that nobody has.
        waiting: The number of calls that wait for a connection.
        limit: The largest number of connections.
    """

    in_use: int
    idle: int
    waiting: int
    limit: int


@runtime_checkable
class PooledEngine(Protocol):
    """An engine with pools of connections."""

    def connection_pools(self) -> Mapping[str, PoolUse]:
        """Return the use of each pool by its name."""
        ...
