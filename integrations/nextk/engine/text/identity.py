"""The identity of a text model: a text that says which model it is, to compare when an index is opened again.

Models of equal identity are taken to make equal vectors. The identity is equal in every process for a model that is
configured equally. It holds the type of the model and the settings that decide vectors, such as the name of the model,
its dimensions and its instructions. It holds no secret and no address: a setting whose name speaks of one is left out,
and the text of a setting whose meaning is unknown is hashed. Settings that decide only how a model runs, such as batch
sizes, timeouts and devices, are left out as well.
"""

import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np

__all__ = ["identify"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KNOWN = _words(
    """
    model model_name model_id model_path model_file model_name_or_path name_or_path repo_id revision
    deployment deployment_name azure_deployment
    dim dimension dimensions output_dimension output_dimensionality truncate_dim
    normalize normalize_embeddings pooling pooling_mode precision quantization
    prompts prompt_name default_prompt_name query_instruction text_instruction embed_instruction document_instruction
    query_prefix document_prefix passage_prefix doc_embed_type embed_type task task_type input_type
    max_length max_seq_length max_tokens model_kwargs encode_kwargs query_encode_kwargs additional_kwargs
    """
)
"""Settings that decide vectors wherever they are found. Their values are shown as they are."""

_IRRELEVANT = _words(
    """
    api apikey key keys token secret secrets password passwd credential credentials auth authorization bearer cert
    certificate cookie cookies header headers username login account organization project tenant region
    url uri base endpoint host hostname port proxy proxies http https client session connection
    batch chunk timeout timeouts retry retries worker workers thread threads parallel process processes concurrency
    rate interval delay wait seconds backoff requests progress show verbose debug log logger logging callback callbacks
    cache cached folder dir directory home local device devices gpu cuda providers lazy alive async loop lock
    calls call count counter hits seen texts
    """
)
"""Words that mark a setting, by its name, as a secret, as a place, or as something that decides no vector."""

_SECRET_ENDINGS = ("key", "keys", "token", "secret", "password")

_NAMING = frozenset({"model", "model_name", "model_id", "model_path", "model_name_or_path", "repo_id", "deployment"})
_INNER = ("model", "_model", "client", "_client")
_HIDDEN_NAMES = ("tokenizer.name_or_path", "model_card_data.base_model", "config._name_or_path")
_METHODS = ("embed_documents", "embed_query", "get_text_embedding_batch", "get_query_embedding")
_SHOWN = 100  # characters of a text that is shown rather than hashed
_DEPTH = 4  # models within models


def identify(model: Any) -> str:
    """Return the identity of a model of the caller's own.

    Args:
        model: An object, a function, a method or a `functools.partial`. A function is identified by its module and
            qualified name, a method by its object and its name, and a model that caches another one by the other one.

    Returns:
        A text such as `langchain_openai.embeddings.base.OpenAIEmbeddings(model='text-embedding-3-small')`.
    """
    return _identify(model, ())


def _identify(model: Any, outer: tuple[Any, ...]) -> str:
    if len(outer) >= _DEPTH or any(model is other for other in outer):
        return _name(type(model))
    outer = (*outer, model)
    if isinstance(model, functools.partial):
        return _identify(model.func, outer) + _shown(_arguments(model), outer)
    if inspect.ismethod(model):
        return f"{_identify(model.__self__, outer)}.{model.__name__}"
    if hasattr(model, "__qualname__"):  # a function, a class, or a function in a wrapper of functools
        return _name(model)
    inner = _attribute(model, "underlying_embeddings")
    if inner is not None and any(base.__name__ == "CacheBackedEmbeddings" for base in type(model).__mro__):
        return _identify(inner, outer)
    return _name(type(model)) + _shown(_settings(model), outer)


def _name(thing: Any) -> str:
    """Return the module and the qualified name of a function or a class."""
    module = getattr(thing, "__module__", None) or type(getattr(thing, "__self__", None)).__module__
    if module == "__main__":  # it has another name as soon as it is imported
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        module = spec.name if spec is not None else Path(file).stem if file else module
    return f"{module}.{thing.__qualname__}"


def _arguments(function: "functools.partial[Any]") -> dict[str, Any]:
    """Return the arguments of a partial by the names of the parameters that they fill."""
    with suppress(TypeError, ValueError):
        return dict(inspect.signature(function.func).bind_partial(*function.args, **function.keywords).arguments)
    return {**{str(position): value for position, value in enumerate(function.args)}, **function.keywords}


def _settings(model: Any) -> dict[str, Any]:
    """Return the settings of an object that may decide its vectors, by their names."""
    settings = {name: _attribute(model, name) for name in {*_declared(model), *_KNOWN}}
    if not any(isinstance(settings.get(name), str) for name in _NAMING):  # it may keep its model in an attribute
        parts = [part for name in _INNER if (part := _attribute(model, name)) is not None and not _is_model(part)]
        for part in parts:
            found = {name: _attribute(part, name) for name in _KNOWN}
            settings |= {name: value for name, value in found.items() if isinstance(value, str | int)}
        settings["name_or_path"] = next(filter(None, map(_hidden_name, [model, *parts])), settings["name_or_path"])
    return settings


def _declared(model: Any) -> Iterator[str]:
    """Yield the names of the settings that a class declares: the fields of pydantic's, or the parameters of `__init__`.

    Other attributes may be state that changes from call to call.
    """
    fields = getattr(type(model), "model_fields", None)
    if isinstance(fields, Mapping):
        yield from fields
        return
    with suppress(TypeError, ValueError):
        for parameter in inspect.signature(type(model)).parameters.values():
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                yield parameter.name


def _attribute(model: Any, name: str) -> Any:
    """Return an attribute, or that of the same name with an underscore; `None` if there is neither."""
    for each in (name, f"_{name}"):
        try:
            value = getattr(model, each, None)
        except Exception:  # noqa: S112 - a property of somebody else's
            continue
        if value is not None and not inspect.isroutine(value):
            return value
    return None


def _hidden_name(model: Any) -> str | None:
    """Return the name of a model of transformers, which is kept by one of its parts."""
    for path in _HIDDEN_NAMES:
        value = functools.reduce(_attribute, path.split("."), model)
        if isinstance(value, str) and value:
            return value
    return None


def _is_model(value: Any) -> bool:
    return not isinstance(value, type) and any(callable(getattr(type(value), name, None)) for name in _METHODS)


def _shown(settings: Mapping[str, Any], outer: tuple[Any, ...]) -> str:
    """Write settings as arguments, sorted by name; those that decide no vector or cannot be compared are left out."""
    written = (f"{name}={text}" for name, text in _written(settings, outer))
    return f"({', '.join(written)})"


def _written(settings: Mapping[str, Any], outer: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
    for name in sorted(settings):
        if name not in _KNOWN and _is_irrelevant(name):
            continue
        text = _write(settings[name], outer, known=name in _KNOWN)
        if text is not None:
            yield name, text


def _is_irrelevant(name: str) -> bool:
    words = re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return any(word in _IRRELEVANT or word.endswith(_SECRET_ENDINGS) for word in words)


def _write(value: Any, outer: tuple[Any, ...], *, known: bool) -> str | None:
    """Write one value; `None` for a value that is unset, or that has no text that is equal in every process."""
    if isinstance(value, np.generic | Enum):
        value = value.item() if isinstance(value, np.generic) else value.value
    if isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str | PurePath):
        return _write_text(str(value), known=known)
    if isinstance(value, Mapping):
        named = {str(key): part for key, part in value.items()}
        parts = [f"{key!r}: {text}" for key, text in _written(named, outer)]
        return f"{{{', '.join(parts)}}}" if parts else None
    if isinstance(value, list | tuple | set | frozenset):
        texts = [text for part in value if (text := _write(part, outer, known=known)) is not None]
        return f"[{', '.join(sorted(texts) if isinstance(value, set | frozenset) else texts)}]" if texts else None
    if inspect.isroutine(value) or _is_model(value):
        return _identify(value, outer)
    return None


def _write_text(text: str, *, known: bool) -> str | None:
    if not text:
        return None
    if known and len(text) <= _SHOWN and "://" not in text:
        return repr(text)
    return f"#{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
