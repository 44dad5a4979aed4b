"""Memories of search tools, and updates of them, written briefly for tests."""

from typing import Any

from nextk.agents.memory import MemoryUpdate, SearchEntry, SearchMemory, ToolLimits

LIMITS = ToolLimits(page_size=3, max_results=10, max_searches=2)
CURSOR: dict[str, Any] = {"version": 1}
"""Stands for a cursor where nobody resumes it."""


def entry(query: str = "q", *, calls: int = 1, shown_count: int = 3, exhausted: bool = False) -> SearchEntry:
    """Return a search that has shown pages."""
    cursor = None if exhausted else CURSOR
    return {"query": query, "cursor": cursor, "calls": calls, "shown_count": shown_count}


def update(*shown: str, max_searches: int = 2, **searches: SearchEntry) -> MemoryUpdate:
    """Return an update that shows documents and changes searches."""
    return {"searches": searches, "shown": list(shown), "max_searches": max_searches}


def memory(*shown: str, **searches: SearchEntry) -> SearchMemory:
    """Return a memory that holds searches and shown documents."""
    return {"searches": searches, "shown": list(shown)}
