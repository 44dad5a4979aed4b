"""Open the transport of an embedded index. A process opens each file once, and all its transports share the engine."""

import os
from collections.abc import Mapping
from typing import Any

from nextk.arguments import real_path
from nextk.engine.factory import join_engine, open_engine
from nextk.transport.in_process import InProcessTransport, open_shared


def open_transport(path: str | os.PathLike[str] | None, keywords: Mapping[str, Any]) -> InProcessTransport:
    """Open an embedded index, or make it if its file does not exist.

    Args:
        path: The file of the index; `None` keeps the index in memory.
        keywords: The schema keywords of `nextk.Index.embedded`; `None` for each that was left out.

    Raises:
        ClientError: A keyword is unknown or contradicts the stored index; a model of the caller's own is missing; the
            file is not an index; or another process has it open.
    """
    real = None if path is None else real_path(path, "path")
    return open_shared(real, lambda: open_engine(real, keywords), lambda engine: join_engine(engine, keywords))
