"""Which index of a server answers at the root: decided by the first start, and kept with the data.

Without that, an index that is added to a folder or taken out of it could come to answer the clients of another one.
"""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from nextk.errors import ClientError

log = logging.getLogger("nextk.server")

__all__ = ["FILE", "settle_root"]

FILE = "serve.json"
"""The file in the folder of the indexes that names the one at the root."""


def settle_root(data: Path | None, served: Sequence[str], *, first: str | None, requested: str | None) -> str:
    """Decide which index answers at the root, keep that with the data, and log it.

    Args:
        data: The folder of the indexes; `None` if they are in memory, where nothing is kept.
        served: The names of the indexes that are served, at least one.
        first: The name of the first `--index`, or `None` if there was none.
        requested: The name that `--root` gives, or `None`.

    Returns:
        The name of the index. It is none of `served` if the index that was kept is not served now: then no index
        answers at the root, rather than another one.

    Raises:
        ClientError: `requested` is not served, or the file that keeps the name cannot be read or written.
    """
    if requested is not None and requested not in served:
        message = f"--root {requested}: this start serves {', '.join(served)}"
        raise ClientError(message)
    kept = None if data is None or requested is not None else _read(data / FILE)
    root = requested or kept or served[0]
    if data is not None and root != kept:
        _write(data / FILE, root)
    _report(root, served, first)
    return root


def _report(root: str, served: Sequence[str], first: str | None) -> None:
    if root not in served:
        log.warning(
            "index=%s is the one at the root, but is not served: / answers 404. Serve it, or choose another one with"
            " --root NAME",
            root,
        )
    elif first not in (None, root):
        log.warning("index=%s answers at the root, as it did before; --root %s changes that", root, first)
    else:
        log.info("index=%s answers at the root", root)


def _read(path: Path) -> str | None:
    """Return the name that was kept, or `None` if none was."""
    try:
        name = json.loads(path.read_bytes())["root"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(path, error) from error
    if not isinstance(name, str) or not name:
        raise _unusable(path, "it names no index")
    return name


def _write(path: Path, name: str) -> None:
    """Keep a name. Whatever happens on the way, the file has the old content or the new one."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        try:
            with new.open("w", encoding="utf-8") as file:
                json.dump({"root": name}, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, reason: object) -> ClientError:
    return ClientError(
        f"cannot tell from {path} which index answers at the root ({reason}): choose one with --root NAME"
    )
