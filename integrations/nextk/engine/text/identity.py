"""The identity of a text model: a text that says which model it is, to compare when an index is opened again.

Models of equal identity are taken to make equal vectors. The identity is equal in every process for a model that is
configured equally. It holds the name of the model's type and these settings of it: those that its class declares, and
those that decide vectors wherever they are found, such as `model`, `dimensions` and `query_instruction` (`_KNOWN`).

Left out are settings

- whose name holds a word for a secret, such as `api_key`, `pat` or `connection_string`, whatever their value is;
- whose name holds a word for how a model runs, such as `batch_size`, `timeout` or `device`;
- whose name holds a word for a place, such as `base_url` or `cache_dir`, unless it also says that it names a model, as
  `model_dir` and `endpoint_name` do;
- that are declared with a default and have it, so that a setting that a new version adds changes no identity. Those of
  `_KNOWN` are kept unless they are `False`, because another default of theirs is another model;
- that are `None` or empty, or are objects of which no text is equal in every process.

The names in dicts are read by the same rules, at every depth. Of the settings that remain, the names, numbers and
booleans are written as they are, and so are texts under a name of `_KNOWN`, if they are short and no address. All other
texts are hashed. A model that is a setting of another one is written as its own identity.
"""

import dataclasses
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
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
    base_model base_model_name deployment deployment_name deployment_id azure_deployment endpoint_name
    dim dimension dimensions output_dimension output_dimensionality truncate_dim
    normalize normalize_embeddings pooling pooling_mode precision quantization
    prompts prompt_name default_prompt_name query_instruction text_instruction embed_instruction document_instruction
    query_prefix document_prefix passage_prefix doc_embed_type embed_type task task_type input_type
    max_length max_seq_length max_tokens model_kwargs encode_kwargs query_encode_kwargs additional_kwargs
    """
)
"""Settings that decide vectors wherever they are found. Their values are shown as they are."""

_SIZES = _words("dim dimension dimensions output_dimension output_dimensionality")
"""Known settings that count only where a class declares them: many models note the length of their first vector."""

_SECRET = _words(
    """
    apikey key keys token secret secrets password passwd passphrase passcode pass pw pwd pin pat sas
    credential credentials auth authorization oauth bearer jwt cert certificate pem private signature sig
    dsn conn connstr connection connectionstring license licence cookie cookies header headers username login account
    """
)
"""Words that mark a setting, by its name, as a secret, or as something that may hold one."""

_SECRET_ENDINGS = ("key", "keys", "token", "secret", "secrets", "password", "passwd", "passphrase", "pwd", "signature")

_RUNNING = _words(
    """
    batch chunk timeout timeouts retry retries worker workers thread threads parallel process processes concurrency
    rate interval delay wait seconds backoff requests progress show verbose debug log logger logging callback callbacks
    cache cached device devices gpu cuda providers lazy alive async loop lock client session http https proxy proxies
    calls call count counter hits seen texts
    """
)
"""Words that mark a setting, by its name, as something that decides only how a model runs, or as state."""

_PLACE = _words(
    """
    api url uri base endpoint host hostname port folder dir directory home local
    organization project tenant region
    """
)
"""Words that mark a setting, by its name, as a place, unless it names a model."""

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
    return _name(type(model)) + _shown(_settings(model, outer), outer)


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


def _settings(model: Any, outer: tuple[Any, ...]) -> dict[str, Any]:
    """Return the settings of an object that may decide its vectors, by their names."""
    declared = _declared(model)
    found = {name: _attribute(model, name) for name in {*declared, *(_KNOWN - _SIZES)}}
    settings = {
        name: value
        for name, value in found.items()
        if name not in declared or not _is_left_at_default(name, value, declared[name], outer)
    }
    if not any(isinstance(settings.get(name), str) for name in _NAMING):  # it may keep its model in an attribute
        parts = [part for name in _INNER if (part := _attribute(model, name)) is not None and not _is_model(part)]
        for part in parts:
            inner = {name: _attribute(part, name) for name in _KNOWN - _SIZES}
            settings |= {name: value for name, value in inner.items() if isinstance(value, str | int)}
        settings["name_or_path"] = next(filter(None, map(_hidden_name, [model, *parts])), found["name_or_path"])
    return settings


def _declared(model: Any) -> dict[str, Callable[[], Any]]:
    """Return the settings that a class declares, the fields of pydantic's or the parameters of `__init__`, by name.

    Other attributes may be state that changes from call to call.

    Returns:
        A function for each setting that returns its default: a marker, which has no text, if it has to be given.
    """
    fields = getattr(type(model), "model_fields", None)
    if isinstance(fields, Mapping):
        return {name: functools.partial(_default_of, field) for name, field in fields.items()}
    declared: dict[str, Callable[[], Any]] = {}
    with suppress(TypeError, ValueError):
        for parameter in inspect.signature(type(model)).parameters.values():
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                declared[parameter.name] = functools.partial(getattr, parameter, "default")
    if dataclasses.is_dataclass(model):  # its parameters say only that there is a factory
        factories = {field.name: functools.partial(_default_of, field) for field in dataclasses.fields(model)}
        declared |= {name: default for name, default in factories.items() if name in declared}
    return declared


def _default_of(field: Any) -> Any:
    """Return the default of a field of pydantic's or of a dataclass, also one that a factory makes."""
    factory = getattr(field, "default_factory", None)
    if not callable(factory):
        return field.default
    try:
        return factory()
    except Exception:  # it needs the other fields
        return None


def _is_left_at_default(name: str, value: Any, default: Callable[[], Any], outer: tuple[Any, ...]) -> bool:
    """Return whether a declared setting has its default, and is left out for that.

    A setting of `_KNOWN` is left out only if it is `False`: with another value as its default the model is another one.
    """
    if name in _KNOWN:
        return value is False and default() is False
    if _is_irrelevant(name) or (text := _write(value, outer, known=False)) is None:
        return False  # left out for another reason: a factory, which may be slow, is not called for it
    return text == _write(default(), outer, known=False)


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
    words = set(re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()))
    if words & (_SECRET | _RUNNING) or any(word.endswith(_SECRET_ENDINGS) for word in words):
        return True
    return bool(words & _PLACE) and not _names_model(words)


def _names_model(words: set[str]) -> bool:
    """Return whether the words of a setting's name say that its value is, or leads to, a model."""
    return any(word.startswith(("model", "deployment")) for word in words) or bool(
        "endpoint" in words and words & {"name", "id"}
    )


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
