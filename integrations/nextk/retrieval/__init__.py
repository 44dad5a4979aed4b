"""Retrieval sessions, free of any framework: one search, continued on demand."""

from nextk.retrieval.question import Question, RetrievalMode, resolve_mode
from nextk.retrieval.session import AsyncRetrievalSession, RetrievalSession

__all__ = ["AsyncRetrievalSession", "Question", "RetrievalMode", "RetrievalSession", "resolve_mode"]
