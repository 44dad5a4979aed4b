"""Rules for namespaces that every engine keeps, and the words in which it refuses whatever breaks them."""

from nextk.errors import RefusedError

__all__ = ["missing_namespace", "require_deletable", "require_renamable", "require_room", "taken_namespace"]


def require_deletable(namespace: str) -> None:
    """Raise `RefusedError` if a namespace may not be deleted.

    Args:
        namespace: The name of the namespace.
    """
    if not namespace:
        message = "The default namespace cannot be deleted; reset it instead"
        raise RefusedError(message, 422)


def require_renamable(namespace: str, new: str) -> None:
    """Raise `RefusedError` if a namespace may not be given another name.

    Args:
        namespace: The name of the namespace.
        new: The new name.
    """
    if not namespace or not new:
        message = "The default namespace can be neither renamed nor replaced"
        raise RefusedError(message, 422)


def require_room(index: str, count: int, limit: int) -> None:
    """Raise `RefusedError` if an index may have no further namespace.

    Args:
        index: The name by which error messages call the index.
        count: The number of its namespaces.
        limit: The number of namespaces that it may have.
    """
    if count >= limit:
        message = (
            f"The index {index} has {count} namespaces, and no more than {limit} are allowed: delete one that is not "
            "needed; a server may be started with a higher --max-namespaces"
        )
        raise RefusedError(message, 422)


def missing_namespace(namespace: str, index: str) -> RefusedError:
    """Return the error of a call for a namespace that does not exist.

    Args:
        namespace: The name of the namespace.
        index: The name by which error messages call the index.
    """
    return RefusedError(f"Namespace {namespace} for the index {index} does not exist", 404)


def taken_namespace(new: str, index: str) -> RefusedError:
    """Return the error of a new name that another namespace has already.

    Args:
        new: The new name.
        index: The name by which error messages call the index.
    """
    message = f"Namespace {new} for the index {index} already exists; set deleteExisting to replace it"
    return RefusedError(message, 422)
