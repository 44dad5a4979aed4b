"""Retrieval sessions: one search, continued on demand, without any framework.

This package is public; the names in `__all__` are its whole interface. Its modules are private and may change.

- `RetrievalSession` and `AsyncRetrievalSession` search an index: `fetch_next`, `fetch_until`, `widen`, `cursor`.
- `SearchQuery` and `RetrievalMode` say what is searched, `RowReader` how matches become results, and `SearchConfig` and
  `Limits` how far a search goes.
- `Report`, `Phase` and `RecoveryReport` say what a search has done, and `Shortfall` what a call has brought that a
  limit ended; `Cursor` is its position as plain data.
"""

from nextk.sessions.async_session import AsyncRetrievalSession
from nextk.sessions.config import Limits, SearchConfig
from nextk.sessions.cursor import Cursor
from nextk.sessions.evaluation import RowReader
from nextk.sessions.query import RetrievalMode, SearchQuery, resolve_mode
from nextk.sessions.report import Phase, RecoveryReport, Report
from nextk.sessions.session import RetrievalSession
from nextk.sessions.shortfall import Shortfall

__all__ = [
    "AsyncRetrievalSession",
    "Cursor",
    "Limits",
    "Phase",
    "RecoveryReport",
    "Report",
    "RetrievalMode",
    "RetrievalSession",
    "RowReader",
    "SearchConfig",
    "SearchQuery",
    "Shortfall",
    "resolve_mode",
]
