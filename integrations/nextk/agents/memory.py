"""What an agent's tools remember of their searches, and how it changes: plain data and pure functions.

A *book* holds the searches of one pair of tools within one scope, and which documents were shown in it. It lives in the
state of a graph or the context of a run, so it goes through JSON and msgpack, it forks with them, and an earlier
checkpoint holds an earlier book. It changes by *patches*, because several tools may write in one step.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any, TypedDict

from nextk.sessions.cursor import Cursor
from nextk.until import Candidate, MaxResults, Policy, PolicyState

_LETTERS = "bcdfghjkmnpqrstvwxz23456789"
"""What ids are made of: no vowels, so no words; nothing that looks like something else."""
_ID_LENGTH = 5


class SearchEntry(TypedDict):
    """One search.

    Attributes:
        query: As the model put it first.
        cursor: Where it stands; `None` once it is at its end.
        turn: How often it has been pulled from.
        count: How many documents it has shown.
    """

    query: str
    cursor: Cursor | None
    turn: int
    count: int


class SearchMemory(TypedDict):
    """The searches of one scope.

    Attributes:
        searches: By id; the one used last comes last.
        shown: The ids of all documents that were shown, in order.
    """

    searches: dict[str, SearchEntry]
    shown: list[str]


class MemoryUpdate(TypedDict):
    """What one call changes in a book.

    Attributes:
        searches: The search that it pulled from, by id.
        shown: The ids of the documents that it shows.
        keep: How many searches the book may hold.
    """

    searches: dict[str, SearchEntry]
    shown: list[str]
    keep: int


def empty_memory() -> SearchMemory:
    """A book of which nothing is known yet."""
    return {"searches": {}, "shown": []}


def apply_update(memory: SearchMemory, update: MemoryUpdate) -> SearchMemory:
    """A book after a call. Of two patches to one search the one that is further on stays, in whatever order they come.

    The search that was not used for longest is forgotten where there are too many; what it has shown is not.
    """
    searches = dict(memory["searches"])
    for id_, entry in update["searches"].items():
        known = searches.pop(id_, None)
        searches[id_] = known if known is not None and known["turn"] > entry["turn"] else entry
    for id_ in list(searches)[: max(0, len(searches) - update["keep"])]:
        del searches[id_]
    return {"searches": searches, "shown": list(dict.fromkeys([*memory["shown"], *update["shown"]]))}


def forget(memory: SearchMemory, search_id: str) -> SearchMemory:
    """A book that cannot continue a search any more; what it has shown stays shown.

    Args:
        memory: As it is.
        search_id: What the model calls the search.
    """
    searches = {id_: entry for id_, entry in memory["searches"].items() if id_ != search_id}
    return {"searches": searches, "shown": memory["shown"]}


def digest_of(memory: SearchMemory) -> str:
    """A short name of what a book holds."""
    return hashlib.sha256(json.dumps(memory, sort_keys=True).encode()).hexdigest()[:32]


class Refusal(StrEnum):
    """Why a call shows no documents, and does not even search."""

    BLANK = "blank"
    """The query holds no words."""
    UNKNOWN = "unknown"
    """No search of this id can be continued: it was forgotten, or there never was one."""
    OVER = "exhausted"
    """Everything that the search finds has been shown."""
    LIMIT = "max_results"
    """The search has shown as many documents as one search may."""


@dataclass(frozen=True)
class ToolLimits:
    """What holds for every search of a pair of tools.

    Attributes:
        page_size: How many documents one call shows.
        max_results: How many one search may show in all; `None` for no bound.
        max_searches: How many searches can be continued; the one not used for longest is forgotten first.
    """

    page_size: int
    max_results: int | None
    max_searches: int


@dataclass(frozen=True)
class MemoryView:
    """What a call sees.

    Attributes:
        memory: As the calls before it leave it.
        elsewhere: The ids of documents that calls after it have shown, where it is made again.
    """

    memory: SearchMemory
    elsewhere: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CallPlan:
    """What a call is to do.

    Attributes:
        search_id: What the model calls the search.
        query: What is asked.
        cursor: Where to go on; `None` to begin.
        turn: How often the search was pulled from before.
        count: How many documents it has shown before.
        size: How many documents to show.
        first: The number of the first one; numbers count through the scope.
        shown: The ids that are not to be shown again.
        repeated: Whether the model has put the same query before.
    """

    search_id: str
    query: str
    cursor: Cursor | None
    turn: int
    count: int
    size: int
    first: int
    shown: frozenset[str]
    repeated: bool = False


def plan_search(view: MemoryView, query: str, rules: ToolLimits) -> CallPlan | Refusal:
    """What `search` is to do: begin, or go on where the same query has been put before."""
    if not query.strip():
        return Refusal.BLANK
    search_id = id_of(query, view.memory)
    entry = view.memory["searches"].get(search_id)
    if entry is not None:
        return _plan(view, search_id, entry, rules, repeated=True)
    fresh: SearchEntry = {"query": query, "cursor": None, "turn": 0, "count": 0}
    return _plan(view, search_id, fresh, rules)


def plan_more(view: MemoryView, search_id: str, rules: ToolLimits) -> CallPlan | Refusal:
    """What `more_results` is to do."""
    search_id = read_id(search_id)
    entry = view.memory["searches"].get(search_id)
    return Refusal.UNKNOWN if entry is None else _plan(view, search_id, entry, rules)


def _plan(
    view: MemoryView, search_id: str, entry: SearchEntry, rules: ToolLimits, *, repeated: bool = False
) -> CallPlan | Refusal:
    if entry["turn"] and entry["cursor"] is None:
        return Refusal.OVER
    size = rules.page_size
    if rules.max_results is not None:
        size = min(size, rules.max_results - entry["count"])
    if size < 1:
        return Refusal.LIMIT
    shown = view.memory["shown"]
    return CallPlan(
        search_id, size=size, first=len(shown) + 1, shown=view.elsewhere.union(shown), repeated=repeated, **entry
    )


def update_after(plan: CallPlan, ids: Sequence[str], cursor: Cursor | None, rules: ToolLimits) -> MemoryUpdate:
    """What a call changes.

    Args:
        plan: What it was to do.
        ids: Of the documents that it shows.
        cursor: Where the search stands now; `None` at its end.
        rules: What holds for every search.
    """
    entry: SearchEntry = {
        "query": plan.query,
        "cursor": cursor,
        "turn": plan.turn + 1,
        "count": plan.count + len(ids),
    }
    return {"searches": {plan.search_id: entry}, "shown": list(ids), "keep": rules.max_searches}


def read_id(search_id: str) -> str:
    """The id of a search, from what a model makes of it."""
    return search_id.strip().strip("\"'`").lower()


def id_of(query: str, memory: SearchMemory) -> str:
    """What the model calls a search: made of the query, so parallel calls, forks and retries agree without asking.

    Queries that differ in nothing but case, spaces and forms of letters are the same.
    """
    same = fold(query)
    number = int.from_bytes(hashlib.sha256(same.encode("utf-8", "surrogatepass")).digest())
    length = _ID_LENGTH
    while True:
        id_ = _spell(number, length)
        entry = memory["searches"].get(id_)
        if entry is None or fold(entry["query"]) == same:
            return id_
        length += 1  # another query has it


def fold(query: str) -> str:
    """A query without what makes no difference."""
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


def _spell(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, digit = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[digit])
    return "".join(letters)


def policy_for(plan: CallPlan, id_of: Callable[[Candidate], str] = attrgetter("id")) -> Policy:
    """Until what a call goes on, and what it leaves out.

    Args:
        plan: What the call is to do.
        id_of: The id by which what is shown is known; absent: that of the record.
    """
    return MaxResults(plan.size) | Unshown(plan.shown, id_of)


@dataclass(frozen=True)
class Unshown(Policy):
    """Keeps what was not shown before, nor earlier in the same call.

    Args:
        shown: Ids.
        id_of: The id of a row.
    """

    shown: frozenset[str]
    id_of: Callable[[Candidate], str] = attrgetter("id")

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Compare ids."""
        return _UnshownState(self)


class _UnshownState(PolicyState):
    def __init__(self, policy: Unshown) -> None:
        super().__init__(policy)
        self._taken: set[str] = set()

    def keeps(self, candidate: Candidate) -> bool:
        id_ = self.policy.id_of(candidate)
        return id_ not in self.policy.shown and id_ not in self._taken

    def add(self, candidate: Candidate) -> None:
        self._taken.add(self.policy.id_of(candidate))
