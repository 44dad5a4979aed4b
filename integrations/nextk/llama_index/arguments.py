"""Arguments of the LlamaIndex retriever that it does not have, or that are meant for another one of its arguments."""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryType
from llama_index.core.vector_stores.types import MetadataFilters

from nextk.arguments import NoOthers, did_you_mean, elements_of, shown, written
from nextk.errors import ClientError
from nextk.llama_index.question import bundle_of
from nextk.retrievers.foreign_names import LLAMA_INDEX, LLAMA_INDEX_STORE
from nextk.sessions.config import Overrides


def refuse_wrong(
    retriever: type, unknown: Mapping[str, Any], *, embed_model: object, embedding: object, filters: object
) -> None:
    """Refuse arguments of the constructor that it does not have, and those that are meant for another one.

    Args:
        retriever: The class of the retriever.
        unknown: The arguments that the constructor does not have, by name.
        embed_model: What has to be one of LlamaIndex's models, if it is given.
        embedding: What has to be `True`, if it is given.
        filters: What has to be `MetadataFilters`, if it is given.

    Raises:
        ClientError: If an argument is of another kind. The message says where it goes.
        TypeError: If an argument is unknown. The message says which one may be meant.
    """
    for name in unknown:
        hint = did_you_mean(name, _known(retriever), LLAMA_INDEX)
        message = f"{retriever.__name__}() got an unexpected keyword argument {name!r}{hint}"
        raise TypeError(message)
    _require_kinds(embed_model, embedding, filters)


def _require_kinds(embed_model: object, embedding: object, filters: object) -> None:
    if embed_model is not None and not isinstance(embed_model, BaseEmbedding):
        message = (
            f"embed_model={shown(embed_model)} is not one of LlamaIndex's: a model that the index is to own goes to "
            "Index.embedded(path, embedding=...) or to from_nodes"
        )
        raise ClientError(message)
    if embedding is not None and embedding is not True:
        message = (
            f"embedding={shown(embedding)} is not True, which lets the index embed: a model goes into embed_model="
        )
        raise ClientError(message)
    if filters is not None and not isinstance(filters, MetadataFilters):
        message = (
            f"filters={written(filters)} is no MetadataFilters: a string in the index's language goes into filter="
        )
        raise ClientError(message)


def refuse_others(method: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse keywords that a method does not take, although LlamaIndex's signatures let through any.

    Raises:
        TypeError: There is one. The message says which one may be meant.
    """
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known, LLAMA_INDEX_STORE) if known else ": it takes none"
            message = f"{method}() got an unexpected keyword argument {name!r}{hint}"
            raise TypeError(message)


def postprocessor_list(given: object) -> list[BaseNodePostprocessor]:
    """Return node postprocessors as a list.

    Raises:
        ClientError: If it is no list, or if one of them is no node postprocessor.
    """
    listed = elements_of(given)
    if listed is None:
        message = f"node_postprocessors={shown(given)} has to be a list"
        raise ClientError(message)
    for position, each in enumerate(listed):
        if not callable(getattr(each, "postprocess_nodes", None)):
            message = f"node_postprocessors[{position}]={shown(each)} has no postprocess_nodes(nodes)"
            raise ClientError(message)
    return listed


def text_key_list(given: object) -> list[str]:
    """Return the metadata keys that may hold a text as a list.

    Raises:
        ClientError: If it is neither a text nor a list of texts.
    """
    listed = [given] if isinstance(given, str) else elements_of(given)
    if listed is None or not all(isinstance(key, str) for key in listed):
        message = f"text_key={written(given)} has to be a key of the metadata, or a list of keys"
        raise ClientError(message)
    return listed


if TYPE_CHECKING:
    _Base = BaseRetriever
else:
    _Base = object  # LlamaIndex gives a span to each method of a subclass, and these call one that has a span


class RefusingKeywords(_Base):
    """The part of the retriever that says where the keywords go that `retrieve` and `aretrieve` do not take."""

    def retrieve(self, str_or_query_bundle: QueryType, **unknown: Unpack[NoOthers]) -> list[NodeWithScore]:
        """Retrieve nodes, as every retriever of LlamaIndex does.

        Args:
            str_or_query_bundle: The query, as a text or as a bundle.
            **unknown: No keyword is taken.

        Returns:
            At most `similarity_top_k` nodes, best first; with `until`, as many as the policy decides.

        Raises:
            TypeError: If a keyword is given. The message says where it goes.
        """
        _refuse_keywords("retrieve", unknown, type(self))
        return super().retrieve(bundle_of(str_or_query_bundle))

    async def aretrieve(self, str_or_query_bundle: QueryType, **unknown: Unpack[NoOthers]) -> list[NodeWithScore]:
        """Retrieve nodes without blocking the event loop; see `retrieve`."""
        _refuse_keywords("aretrieve", unknown, type(self))
        return await super().aretrieve(bundle_of(str_or_query_bundle))


def _refuse_keywords(method: str, keywords: Mapping[str, Any], retriever: type) -> None:
    for name in keywords:
        owner, known = retriever.__name__, _known(retriever)
        if name in ("filter", "namespace", *Overrides.__annotations__):
            hint = f" (give it to {owner}({name}=...), or for one search to open(query, {name}=...))"
        elif name in known:
            hint = f" (give it to {owner}({name}=...))"
        else:
            hint = f"; {owner} has other arguments{did_you_mean(name, known, LLAMA_INDEX)}"
        message = f"{method}() got an unexpected keyword argument {name!r}{hint}"
        raise TypeError(message)


def _known(retriever: type) -> list[str]:
    return [name for name in inspect.signature(retriever).parameters if name != "unknown"]
