"""Look at the number of file descriptors that this process may have, since each connection takes one."""

import logging
from collections.abc import Callable
from types import ModuleType

log = logging.getLogger("nextk.server")

_OWN = 128  # for files of the process itself, and for connections that are being refused
_OF_INDEX = 16  # for the files of one index


def _resource() -> ModuleType | None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return None
    return resource


def fit_connections(wanted: int, indexes: int, find: Callable[[], ModuleType | None] = _resource) -> int:
    """Return how many connections the file descriptors of this process are enough for.

    If they are too few, the limit of the process is raised as far as the system allows; if that is not enough, the
    number of connections is lowered, and the log says so.

    Args:
        wanted: The number of connections that is wanted.
        indexes: The number of indexes, whose files take descriptors, too.
        find: Returns the module `resource`, or `None` where there is none. Default: that of this system.
    """
    resource = find()
    if resource is None:
        return wanted
    own = _OWN + _OF_INDEX * indexes
    soft = _raise_to(wanted + own, resource)
    if soft is None or soft >= wanted + own:
        return wanted
    fitting = max(1, soft - own)
    log.warning(
        "the process may have %d file descriptors, which is enough for %d connections and not for %d: raise the limit "
        "(ulimit -n), or lower --max-connections",
        soft,
        fitting,
        wanted,
    )
    return fitting


def _raise_to(needed: int, resource: ModuleType) -> int | None:
    """Raise the limit of the process to what is needed, or as far as possible. Returns it, or `None` for no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    target = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft < target:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        except (OSError, ValueError):  # some systems promise more than they allow
            return int(soft)
    return int(max(soft, target))
