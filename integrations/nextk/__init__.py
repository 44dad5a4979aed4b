"""nextk: top-k, then next-k. Retrieval that continues the same search on demand.

This module has the client, blocking and asynchronous. The values that it takes and returns are in `nextk.types`, the
errors in `nextk.errors`, the sessions in `nextk.sessions`, and the retrievers in `nextk.langchain` and
`nextk.llama_index`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextk.async_client import AsyncIndex
    from nextk.client import Index
    from nextk.types import Vector

__all__ = ["AsyncIndex", "Index", "Vector"]

_MODULES = {"AsyncIndex": "nextk.async_client", "Index": "nextk.client", "Vector": "nextk.types"}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, since the command line shows its help without any of them."""
    if name == "__version__":
        from importlib.metadata import version

        return version("nextk")
    if name not in _MODULES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
