"""Open the engines of a server together, and close them together."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from nextk.engine.base import FILTER_TIMEOUT, MAX_IDLE, MAX_NAMESPACES, MAX_OPEN_QUERIES
from nextk.engine.factory import open_engine
from nextk.engine.protocol import Engine
from nextk.errors import ClientError
from nextk.server.models import load_models
from nextk.server.spec import DEFAULT, EXAMPLE, IndexSpec

SUFFIX = ".nextk"
"""The ending of the name of an index's file."""


@contextlib.contextmanager
def open_engines(
    specs: Sequence[IndexSpec],
    data: Path | None,
    *,
    max_namespaces: int = MAX_NAMESPACES,
    max_open_queries: int = MAX_OPEN_QUERIES,
    max_idle: int = MAX_IDLE,
    filter_timeout: float = FILTER_TIMEOUT,
    same_model: bool = False,
) -> Iterator[dict[str, Engine]]:
    """Open the engines of a server, and close them when the block is left.

    Args:
        specs: The indexes to open; those that do not exist are made. If it is empty, every index in `data` is opened.
            If `data` is `None` too, one index in memory is made, which is called `default` and embeds text.
        data: The folder with the files of the indexes, `NAME.nextk`; `None` keeps the indexes in memory.
        max_namespaces: The number of namespaces at which an index makes no further one. Default 10,000.
        max_open_queries: The number of resumable queries that one index may have open at the same time. Default 100.
        max_idle: The longest time that a resumable query may be idle, in seconds. Default 3,600.
        filter_timeout: The seconds after which a search gives its filter up. Default 10.
        same_model: Whether models other than those that the indexes were made with make the same vectors, as for
            `Index.embedded`.

    Yields:
        The engines by name, in the order of `specs`, or sorted by name if `specs` is empty.

    Raises:
        ClientError: The folder cannot be used or has no index, a file is not an index, a stored index contradicts its
            spec, or a model cannot be imported.
        IndexLocked: Another process has one of the indexes open.
    """
    chosen = list(specs) or ([DEFAULT] if data is None else _stored(data))
    if data is not None:
        _make_folder(data)
    with contextlib.ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for spec in chosen:
            path = None if data is None else (data / f"{spec.name}{SUFFIX}").resolve()
            keywords = {**load_models(spec.name, spec.keywords), "same_model": same_model}
            engines[spec.name] = engine = open_engine(
                path,
                keywords,
                name=spec.name,
                max_namespaces=max_namespaces,
                max_open_queries=max_open_queries,
                max_idle=max_idle,
                filter_timeout=filter_timeout,
            )
            stack.callback(engine.close)
        yield engines


def _stored(data: Path) -> list[IndexSpec]:
    """Find the indexes in a folder. Their specs have no keywords, since each file stores its own schema."""
    names = sorted(path.name.removesuffix(SUFFIX) for path in data.glob(f"*{SUFFIX}") if path.is_file())
    if not names:
        message = f"there is no index (*{SUFFIX}) in {data}. Name one to make: --index {EXAMPLE}"
        raise ClientError(message)
    return [IndexSpec(name) for name in names]


def _make_folder(data: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot use {data} as the folder of the indexes: {error.strerror}"
        raise ClientError(message) from error
