"""The memory that an agent's tools have of their searches, and its changes: plain data and pure functions.

A `SearchMemory` holds the searches of one set of tools within one scope, and the ids of the documents that they have
shown. It lives in the state of a graph or in the context of a run. Therefore it goes through JSON and msgpack, a fork
of the run gets a copy, and an earlier checkpoint holds an earlier memory. It is changed by a `MemoryUpdate` for each
call, because several tools may write in one step.
"""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from nextk.arguments import require_count, written
from nextk.errors import ClientError
from nextk.plain import is_utf8
from nextk.sessions.cursor import Cursor

MAX_SEARCHES = 8
"""How many searches of one scope can be continued, unless the tools are made with another number."""
LETTERS = "bcdfghjkmnpqrstvwxz23456789"
"""The letters of search ids and of marks: no vowels, so that no words appear, and none that looks like another."""
_ID_LENGTH = 5


class SearchEntry(TypedDict):
    """One search.

    Attributes:
        query: The query in the words in which the model put it first.
        cursor: The position at which the search goes on; `None` once the search is at its end.
        calls: How many calls have shown a page of this search.
        shown_count: How many documents the search has shown.
    """

    query: str
    cursor: Cursor | None
    calls: int
    shown_count: int


class SearchMemory(TypedDict):
    """The searches of one scope.

    Attributes:
        searches: The searches by id; the one that was used last comes last.
        shown: The ids of all documents that were shown, in the order in which they were shown.
    """

    searches: dict[str, SearchEntry]
    shown: list[str]


class MemoryUpdate(TypedDict):
    """The change of a memory by one call.

    Attributes:
        searches: The search that the call has continued, by its id.
        shown: The ids of the documents that the call shows.
        max_searches: How many searches the memory may hold afterwards.
    """

    searches: dict[str, SearchEntry]
    shown: list[str]
    max_searches: int


def empty_memory() -> SearchMemory:
    """Return a memory without any search and without any shown document."""
    return {"searches": {}, "shown": []}


def apply_update(memory: SearchMemory, update: MemoryUpdate) -> SearchMemory:
    """Return the memory after a call; neither argument is changed.

    Two updates of one search may come in any order: the one with more calls stays. If there are too many searches, the
    ones that were not used for longest are forgotten, but not the documents that they have shown.

    Args:
        memory: The memory before the call.
        update: The change that the call makes.
    """
    searches = dict(memory["searches"])
    for search_id, entry in update["searches"].items():
        known = searches.pop(search_id, None)
        searches[search_id] = known if known is not None and known["calls"] > entry["calls"] else entry
    for search_id in list(searches)[: max(0, len(searches) - update["max_searches"])]:
        del searches[search_id]
    return {"searches": searches, "shown": list(dict.fromkeys([*memory["shown"], *update["shown"]]))}


def forget_search(memory: SearchMemory, search_id: str) -> SearchMemory:
    """Return the memory without one search; the documents that the search has shown stay in it.

    Args:
        memory: The memory as it is.
        search_id: The id of the search, as `read_id` returns it.
    """
    searches = {id_: entry for id_, entry in memory["searches"].items() if id_ != search_id}
    return {"searches": searches, "shown": memory["shown"]}


def memory_digest(memory: SearchMemory) -> str:
    """Return a digest of 32 hexadecimal digits, by which memories of different content differ."""
    return hashlib.sha256(json.dumps(memory, sort_keys=True).encode()).hexdigest()[:32]


class Refusal(StrEnum):
    """The reason why a call shows no documents and does not even search."""

    BLANK = "blank"
    """The query holds no words."""
    UNKNOWN = "unknown"
    """No search of this id can be continued: it was forgotten, or there never was one."""
    EXHAUSTED = "exhausted"
    """The search is at its end."""
    MAX_RESULTS = "max_results"
    """The search has shown as many documents as one search may show."""
    POLICIES_CHANGED = "policies_changed"
    """The search was made with a policy that does not hold any more, or with other parameters of it."""


@dataclass(frozen=True)
class ToolLimits:
    """The bounds of every search of one set of tools.

    Attributes:
        page_size: How many documents one call shows, at least 1.
        max_results: How many documents one search may show in all, at least 1; `None` for no bound.
        max_searches: How many searches can be continued, at least 1; the one that was not used for longest is forgotten
            first.

    Raises:
        ClientError: A number is not a whole number of at least 1.
    """

    page_size: int
    max_results: int | None
    max_searches: int

    def __post_init__(self) -> None:
        require_count(self.page_size, "page_size")
        require_count(self.max_searches, "max_searches")
        if self.max_results is not None:
            require_count(self.max_results, "max_results")


@dataclass(frozen=True)
class MemoryView:
    """The memory as one call sees it.

    Attributes:
        memory: The memory as the calls before this one leave it.
        shown_later: The ids of documents that calls after this one have shown already, if this call is made a second
            time; else empty.
    """

    memory: SearchMemory
    shown_later: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CallPlan:
    """The page that a call is to show.

    Attributes:
        search_id: The id by which the model knows the search.
        query: The query of the search.
        cursor: The position at which the search goes on; `None` to begin it.
        calls: How many calls have shown a page of the search before.
        shown_count: How many documents the search has shown before.
        page_size: How many documents the call is to show.
        first_number: The number of the first of them; numbers count all documents that are shown in the scope, from 1.
        shown: The ids of the documents that must not be shown again.
        repeated: Whether the model has put the same query before.
    """

    search_id: str
    query: str
    cursor: Cursor | None
    calls: int
    shown_count: int
    page_size: int
    first_number: int
    shown: frozenset[str]
    repeated: bool = False


def plan_search(view: MemoryView, query: str, limits: ToolLimits) -> CallPlan | Refusal:
    """Plan a call of `search`: begin a search, or continue the one of the same query.

    Args:
        view: The memory as the call sees it.
        query: The query in the words of the model.
        limits: The bounds of every search.

    Returns:
        The page to show, or the reason why there is none.
    """
    given: object = query
    if not isinstance(given, str) or not given.strip():
        return Refusal.BLANK
    search_id = search_id_of(query, view.memory)
    entry = view.memory["searches"].get(search_id)
    if entry is not None:
        return _plan(view, search_id, entry, limits, repeated=True)
    new_entry: SearchEntry = {"query": query, "cursor": None, "calls": 0, "shown_count": 0}
    return _plan(view, search_id, new_entry, limits)


def plan_more(view: MemoryView, search_id: str, limits: ToolLimits) -> CallPlan | Refusal:
    """Plan a call of `more_results`: continue an earlier search.

    Args:
        view: The memory as the call sees it.
        search_id: The id of the search, as the model writes it.
        limits: The bounds of every search.

    Returns:
        The page to show, or the reason why there is none.
    """
    search_id = read_id(search_id)
    entry = view.memory["searches"].get(search_id)
    return Refusal.UNKNOWN if entry is None else _plan(view, search_id, entry, limits)


def _plan(
    view: MemoryView, search_id: str, entry: SearchEntry, limits: ToolLimits, *, repeated: bool = False
) -> CallPlan | Refusal:
    if entry["calls"] and entry["cursor"] is None:
        return Refusal.EXHAUSTED
    page_size = limits.page_size
    if limits.max_results is not None:
        page_size = min(page_size, limits.max_results - entry["shown_count"])
    if page_size < 1:
        return Refusal.MAX_RESULTS
    shown = view.memory["shown"]
    return CallPlan(
        search_id,
        page_size=page_size,
        first_number=len(shown) + 1,
        shown=view.shown_later.union(shown),
        repeated=repeated,
        **entry,
    )


def update_after(plan: CallPlan, ids: Sequence[str], cursor: Cursor | None, limits: ToolLimits) -> MemoryUpdate:
    """Return the change that a call makes.

    Args:
        plan: The plan of the call.
        ids: The ids of the documents that the call shows.
        cursor: The position at which the search goes on; `None` at its end.
        limits: The bounds of every search.
    """
    entry: SearchEntry = {
        "query": plan.query,
        "cursor": cursor,
        "calls": plan.calls + 1,
        "shown_count": plan.shown_count + len(ids),
    }
    return {"searches": {plan.search_id: entry}, "shown": list(ids), "max_searches": limits.max_searches}


def continuable(memory: SearchMemory) -> list[tuple[str, str]]:
    """Return id and query of each search that can be continued, the one that was used last at the end."""
    return [(id_, entry["query"]) for id_, entry in memory["searches"].items() if entry["cursor"] is not None]


def read_id(search_id: object) -> str:
    """Return the id of a search in its own spelling, whatever quotes, spaces and capitals a model adds to it."""
    return search_id.strip().strip("\"'`").lower() if isinstance(search_id, str) else ""


def search_id_of(query: str, memory: SearchMemory) -> str:
    """Return the id by which the model knows the search of a query.

    The id is made of the query, so that parallel calls, forks and retries find the same one without any agreement.
    Queries that `fold` makes equal have one id.

    Args:
        query: The query in the words of the model.
        memory: The searches that have their ids already; an id that another query has is made longer.
    """
    folded = fold(query)
    number = int.from_bytes(hashlib.sha256(folded.encode("utf-8", "surrogatepass")).digest())
    length = _ID_LENGTH
    while True:
        search_id = _spell(number, length)
        entry = memory["searches"].get(search_id)
        if entry is None or fold(entry["query"]) == folded:
            return search_id
        length += 1  # another query has it


def require_tool_name(given: object, name: str) -> str:
    """Return the name of a tool.

    Args:
        given: The name.
        name: The name of the argument, for the error message.

    Raises:
        ClientError: It is no text, is empty, or holds a NUL or a lone surrogate.
    """
    if not isinstance(given, str) or not given or "\0" in given or not is_utf8(given):
        message = f"{name}={written(given)} is no name of a tool: give a word such as 'search'"
        raise ClientError(message)
    return given


def fold(query: str) -> str:
    """Return a query without the differences of case, spaces and compatible forms of letters (Unicode NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


def _spell(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, digit = divmod(number, len(LETTERS))
        letters.append(LETTERS[digit])
    return "".join(letters)
