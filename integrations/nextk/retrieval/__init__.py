"""Retrieval sessions, free of any framework: one search, continued on demand."""

from nextk.retrieval.async_session import AsyncRetrievalSession
from nextk.retrieval.cursor import Cursor
from nextk.retrieval.question import Question, RetrievalMode, resolve_mode
from nextk.retrieval.report import Leg, Report
from nextk.retrieval.run import Reading
from nextk.retrieval.session import RetrievalSession
from nextk.retrieval.terms import Limits, Terms

__all__ = [
    "AsyncRetrievalSession",
    "Cursor",
    "Leg",
    "Limits",
    "Question",
    "Reading",
    "Report",
    "RetrievalMode",
    "RetrievalSession",
    "Terms",
    "resolve_mode",
]
