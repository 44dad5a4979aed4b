"""Text models of one's own for served indexes: imported from a module that is named on the command line.

A module is found among the installed packages or in the current folder, where `uvicorn module:app` finds one, too.
"""

import importlib
import re
import sys
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from nextk.arguments import shown
from nextk.engine.text.custom import find_model_functions
from nextk.errors import ClientError

__all__ = ["MODELS", "is_reference", "load_models"]

MODELS = ("embedding", "sparse_embedding")
"""The keywords of an index that take a model."""

_REFERENCE = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


def is_reference(text: str) -> bool:
    """Return whether a text names a model in a module, as in `module:attribute`."""
    return _REFERENCE.fullmatch(text) is not None


def load_models(index: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of an index, with the models themselves in the places of those that are named by module.

    An attribute that is a class is called without arguments, and what it makes is the model.

    Args:
        index: The name of the index, for errors.
        keywords: The schema keywords of `Index.embedded`.

    Raises:
        ClientError: A module or its attribute cannot be imported, a class cannot be called in this way, or something
            is no model. The error's cause is what the module raised.
    """
    loaded = dict(keywords)
    for keyword in MODELS:
        reference = loaded.get(keyword)
        if isinstance(reference, str) and is_reference(reference):
            try:
                loaded[keyword] = _load(reference)
            except _Unusable as error:
                message = f"--index {index}: cannot use {keyword}={reference}: {error}"
                raise ClientError(message) from error.__cause__
    return loaded


class _Unusable(Exception):
    """A reference leads to no model. The text says why."""


def _load(reference: str) -> Any:
    module, _, attribute = reference.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:  # "" stands for it, too, but only as long as nobody changes the folder
        sys.path.insert(0, folder)
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a module may raise anything, and a script may even end itself
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            reason = f"there is no module {error.name} in {folder}, and none among the installed packages"
        else:
            reason = f"importing {module} failed, {_words(error)}"
        raise _Unusable(reason) from error
    try:
        model = reduce(getattr, attribute.split("."), imported)
    except AttributeError as error:
        where = getattr(imported, "__file__", None) or module
        message = f"there is no {attribute} in {where}"
        raise _Unusable(message) from error
    except (Exception, SystemExit) as error:  # as a property or a module's own __getattr__ may
        message = f"getting {attribute} failed, {_words(error)}"
        raise _Unusable(message) from error
    if isinstance(model, type):
        try:
            model = model()
        except (Exception, SystemExit) as error:
            message = f"calling it without arguments failed, {_words(error)}"
            raise _Unusable(message) from error
    if find_model_functions(model) is None:
        message = (
            f"it is {shown(model)}, but a model is a function that takes list[str], or an object with embed_documents "
            "and embed_query"
        )
        raise _Unusable(message)
    return model


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
