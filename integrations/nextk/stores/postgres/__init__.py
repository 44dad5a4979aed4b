"""A table of PostgreSQL with pgvector as a source: your own, or one that another store has filled, as it stands.

Needs the extra `nextk[postgres]`.
"""

from nextk.stores.postgres.source import PostgresSource

__all__ = ["PostgresSource"]
