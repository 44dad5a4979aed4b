"""Qdrant as a source: dense, sparse and hybrid search over a collection, by exclusion of the points that have come.

Needs the extra `nextk[qdrant]`.
"""

from nextk.stores.qdrant.source import QdrantSource

__all__ = ["QdrantSource"]
