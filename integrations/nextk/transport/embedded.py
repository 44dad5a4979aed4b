"""The transport of an embedded index: one engine per process and file, whoever opens it and how often."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextk.engine.factory import open_engine, refuse_contradiction
from nextk.errors import ClientError
from nextk.transport.in_process import InProcessTransport, SharedEngine, share_engine


def open_transport(path: str | os.PathLike[str] | None, keywords: Mapping[str, Any]) -> InProcessTransport:
    """Open or make an embedded index.

    Args:
        path: Its file; `None` keeps it in memory.
        keywords: The schema keywords of `Index.embedded`; `None` for those left out.

    Raises:
        ClientError: A keyword is unknown, contradicts the stored index, or a model of the caller's own is missing; or
            the path is not an index, or another process holds it.
    """
    try:
        real = None if path is None else Path(path).expanduser().resolve()
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        message = f"path={path!r} cannot be used: {error}"
        raise ClientError(message) from error

    def reopen() -> SharedEngine:
        shared, new = share_engine(real, lambda: open_engine(real, keywords))
        if not new:
            try:
                refuse_contradiction(shared.engine.schema, keywords)
            except ClientError:
                shared.release()
                raise
        return shared

    return InProcessTransport(reopen(), reopen)
