"""Turn the failures that an engine meets in its storage into refusals of the calls that met them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from nextk.errors import RefusedError

__all__ = ["refuse_failures"]

_EngineClass = TypeVar("_EngineClass", bound=type)


def refuse_failures(
    engine: _EngineClass, failures: tuple[type[BaseException], ...], refusal: Callable[[Any, str], RefusedError]
) -> _EngineClass:
    """Make every public method of an engine, and of its bases, raise `RefusedError` for the failures of its storage.

    Args:
        engine: The class, whose instances have a `name`. Properties stay as they are, and so do its bases.
        failures: The classes of the failures.
        refusal: Returns the error of a call for a failure and the name of the index.

    Returns:
        The class.
    """
    for name, method in inspect.getmembers(engine, inspect.isfunction):
        if not name.startswith("_"):
            setattr(engine, name, _refusing(method, failures, refusal))
    return engine


def _refusing(
    method: Callable[..., Any], failures: tuple[type[BaseException], ...], refusal: Callable[[Any, str], RefusedError]
) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return method(self, *arguments, **keywords)
        except failures as error:
            # In no variable here: an error that its own traceback refers to would live on, with open statements.
            raise refusal(error, self.name) from error

    return call
