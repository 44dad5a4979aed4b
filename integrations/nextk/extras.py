"""Optional dependencies: this file turns a failed import into an error that names the command to run."""

import importlib
from types import ModuleType

from nextk.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: The dotted name to import.
        extra: The extra of nextk that installs it.

    Returns:
        The module.

    Raises:
        MissingExtraError: The module is not installed. The message holds the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a fault inside the dependency, not its absence
        message = f"{module} is not installed. Run: pip install 'nextk[{extra}]'"
        raise MissingExtraError(message, name=error.name) from error
