"""The words of LangChain's `as_retriever` as fields of the retriever: `search_type` and `search_kwargs`."""

from collections.abc import Mapping
from typing import Any

from nextk.arguments import did_you_mean, require_number, shown, written
from nextk.errors import ClientError
from nextk.retrievers.foreign_names import LANGCHAIN_STORE
from nextk.sessions import RetrievalMode
from nextk.until import MinScore, Policy

SIMILARITY, THRESHOLD, MMR = "similarity", "similarity_score_threshold", "mmr"

_PLAIN = ("k", "filter", "namespace")
_KNOWN: Mapping[str, tuple[str, ...]] = {
    SIMILARITY: (*_PLAIN, "score_threshold"),
    THRESHOLD: (*_PLAIN, "score_threshold"),
    MMR: (*_PLAIN, "fetch_k", "lambda_mult"),
}
_MMR_FIELDS = ("tags", "metadata", "name")


def require_search_kwargs(search_type: object, search_kwargs: object) -> dict[str, Any]:
    """Return the keywords of a search of the store as a new dict, without those that are `None`.

    Args:
        search_type: The kind of search, one of LangChain's three words.
        search_kwargs: The keywords; `None` for none.

    Raises:
        ClientError: The kind of search is unknown, the keywords are no dict, one of them does not belong to such a
            search, a search by a threshold has none, or that is no number from 0 to 1.
    """
    if not isinstance(search_type, str) or search_type not in _KNOWN:
        message = f"search_type={written(search_type)}{did_you_mean(search_type, _KNOWN)}"
        raise ClientError(message)
    if not isinstance(search_kwargs, Mapping | None):
        message = f"search_kwargs={shown(search_kwargs)} has to be a dict, such as {{'k': 5}}"
        raise ClientError(message)
    keywords, known = dict(search_kwargs or {}), _KNOWN[search_type]
    for name in keywords:
        if name not in known:
            message = f"search_kwargs has {name!r}, which a search of the type {search_type!r} does not take"
            raise ClientError(message + did_you_mean(name, known, LANGCHAIN_STORE))
    given = {name: value for name, value in keywords.items() if value is not None}
    if search_type == THRESHOLD and "score_threshold" not in given:
        message = "search_type='similarity_score_threshold' needs search_kwargs={'score_threshold': ...}, from 0 to 1"
        raise ClientError(message)
    if "score_threshold" in given:
        require_number(given["score_threshold"], "score_threshold", 0, 1)
    return given


def search_fields(keywords: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a retriever that searches as `search_kwargs` say.

    A score threshold becomes the policy `MinScore`, in a search of dense vectors, whose scores are comparable.

    Args:
        keywords: The keywords, which `require_search_kwargs` has returned.
        given: Further fields of the retriever, which the caller has given by their own names.

    Raises:
        ClientError: A setting stands in both.
    """
    for name in keywords:
        if name in given:
            message = f"{name}= is given, and search_kwargs has {name!r} as well: leave one of them out"
            raise ClientError(message)
    fields = {name: value for name, value in keywords.items() if name != "score_threshold"}
    fields |= given
    threshold = keywords.get("score_threshold")
    if threshold is not None:
        until: Policy | None = fields.get("until")
        fields["until"] = MinScore(threshold) if until is None else MinScore(threshold) | until
        fields.setdefault("retrieval_mode", RetrievalMode.DENSE)
    return fields


def refuse_mmr_fields(fields: Mapping[str, Any]) -> None:
    """Refuse fields that LangChain's own retriever, which searches by marginal relevance, does not have.

    Raises:
        ClientError: There is one.
    """
    for name in fields:
        if name not in _MMR_FIELDS:
            message = (
                f"{name}= has no place beside search_type='mmr', for which LangChain's own retriever is made: put what "
                "belongs to the search into search_kwargs, or leave search_type out"
            )
            raise ClientError(message)
