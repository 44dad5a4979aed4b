"""Optional dependencies: this file turns a failed import into an error that names the command to run."""

import importlib
import importlib.util
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
        raise _missing(module, extra, error.name) from error


def require_installed(package: str, extra: str) -> None:
    """Check that an optional package is installed, without importing it.

    Args:
        package: The name of the package.
        extra: The extra of nextk that installs it.

    Raises:
        MissingExtraError: The package is not installed. The message holds the command that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise _missing(package, extra, package)


def _missing(module: str, extra: str, name: str) -> MissingExtraError:
    return MissingExtraError(f"{module} is not installed. Run: pip install 'nextk[{extra}]'", name=name)
