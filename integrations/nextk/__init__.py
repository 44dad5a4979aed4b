"""nextk: top-k, then next-k. Retrieval that continues the same search on demand.

This module has the client, blocking and asynchronous. The values that it takes and returns are in `nextk.types`, the
errors in `nextk.errors`, the sessions in `nextk.sessions`, and the retrievers in `nextk.langchain` and
`nextk.llama_index`.
"""

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.types import Vector

__all__ = ["AsyncIndex", "Index", "Vector"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("nextk")
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
