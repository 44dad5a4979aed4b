"""Retrieval sessions, free of any framework: one search, continued on demand."""

from nextk.sessions.async_session import AsyncRetrievalSession
from nextk.sessions.config import Limits, SearchConfig
from nextk.sessions.cursor import Cursor
from nextk.sessions.evaluation import RowReader
from nextk.sessions.query import RetrievalMode, SearchQuery, resolve_mode
from nextk.sessions.report import Phase, Report
from nextk.sessions.session import RetrievalSession

__all__ = [
    "AsyncRetrievalSession",
    "Cursor",
    "Limits",
    "Phase",
    "Report",
    "RetrievalMode",
    "RetrievalSession",
    "RowReader",
    "SearchConfig",
    "SearchQuery",
    "resolve_mode",
]
