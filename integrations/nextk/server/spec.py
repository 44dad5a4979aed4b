"""Parse the option `--index NAME=TYPE[,keyword=value...]` of `nextk serve`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nextk.engine.keywords import CUSTOM
from nextk.engine.pool.threshold import require_pool_keywords
from nextk.engine.schema import Schema
from nextk.errors import ClientError
from nextk.server.models import MODELS, is_reference

EXAMPLE = "docs=hybrid,embedding=static,sparse_embedding=bm25"
"""A typical spec, for help texts and error messages."""

_OF_POOLS = ("pool_from", "exact")
KEYWORDS = ("dimension", "similarity", "embedding", "sparse_embedding", "fusion_order", "weighting", *_OF_POOLS)
_NUMBERS = ("dimension", "pool_from")
_FLAGS = {"true": True, "false": False}
_SHIPPED = {"embedding": "static", "sparse_embedding": "bm25"}  # the models that come with nextk
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """One index to serve.

    Args:
        name: The name of the index.
        keywords: The schema keywords of `Index.embedded`; none of them for an index that exists. A model of one's own
            is in them by the name of its module, for `nextk.server.models.load_models`.
    """

    name: str
    keywords: dict[str, Any] = field(default_factory=dict)


DEFAULT = IndexSpec(
    "default", {"type": "hybrid", "embedding": "static", "sparse_embedding": "bm25", "weighting": "idf"}
)
"""The index that is served if neither an index nor a folder is given."""


def parse_spec(text: str) -> IndexSpec:
    """Parse one `NAME=TYPE[,keyword=value...]`.

    Raises:
        ClientError: A part is unknown, malformed, given twice or contradicts another one; the message names it.
    """
    name, equals, rest = text.partition("=")
    kind, *settings = rest.split(",")
    if not equals or not kind:
        raise _fault(text, f"give a name and a type, as in {EXAMPLE}")
    if not _NAME.fullmatch(name):
        raise _fault(text, f"the name {name!r} must be of letters, digits, '.', '_' and '-', a letter or digit first")
    keywords: dict[str, Any] = {"type": kind}
    for setting in settings:
        keyword, _, value = setting.partition("=")
        if keyword not in KEYWORDS:
            raise _fault(text, f"{setting!r} is not one of {', '.join(f'{known}=...' for known in KEYWORDS)}")
        if keyword in keywords:
            raise _fault(text, f"{keyword} is given twice")
        keywords[keyword] = _read(text, keyword, value)
    schema = {keyword: value for keyword, value in keywords.items() if keyword not in _OF_POOLS}
    try:
        require_pool_keywords(keywords)
        Schema.create(**schema | {name: CUSTOM for name in MODELS if is_reference(str(keywords.get(name, "")))})
    except ClientError as error:
        raise _fault(text, str(error)) from None
    return IndexSpec(name, keywords)


def parse_specs(texts: Sequence[str]) -> list[IndexSpec]:
    """Parse several specs, and return them in order.

    Raises:
        ClientError: One of them is wrong, or a name is given twice.
    """
    specs = [parse_spec(text) for text in texts]
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            message = f"--index {name}: the name is given twice"
            raise ClientError(message)
    return specs


def _read(text: str, keyword: str, value: str) -> str | int | bool:
    if keyword == "exact":
        if value not in _FLAGS:
            raise _fault(text, f"exact={value!r} is neither true nor false")
        return _FLAGS[value]
    if keyword in _NUMBERS:
        if not value.isdecimal():
            raise _fault(text, f"{keyword}={value!r} is not a whole number")
        return int(value)
    if keyword in MODELS and value != _SHIPPED[keyword] and not is_reference(value):
        known = f'"{_SHIPPED[keyword]}"'
        raise _fault(text, f"{keyword}={value!r} is neither {known} nor a model of your own, as in module:attribute")
    if not value:
        raise _fault(text, f"{keyword} has no value")
    return value


def _fault(text: str, reason: str) -> ClientError:
    return ClientError(f"--index {text}: {reason}")
