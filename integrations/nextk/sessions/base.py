"""The part that blocking and asynchronous sessions share: the search machine, and the link to its source. Private."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from nextk.arguments import elements_of, require_callable, require_kind, written
from nextk.errors import ClientError
from nextk.sessions.config import SearchConfig
from nextk.sessions.cursor import Cursor
from nextk.sessions.effects import (
    CanRepeat,
    Effect,
    Embed,
    FetchInfo,
    FetchNext,
    Pause,
    PlainQuery,
    Release,
    StartQuery,
)
from nextk.sessions.evaluation import RowReader
from nextk.sessions.link import AsyncLink, Link, Undecided
from nextk.sessions.machine import SearchMachine
from nextk.sessions.query import SearchQuery, explaining_models
from nextk.sessions.read_cursor import ReadCursor
from nextk.sessions.report import Report
from nextk.sessions.source import SourceTraits
from nextk.until.effects import CallCheck

T = TypeVar("T")
AnyLink = TypeVar("AnyLink", Link, AsyncLink)


class BaseSession(Generic[T, AnyLink]):
    """A search, and the link on which it is carried out.

    The arguments are documented at `RetrievalSession`.
    """

    def __init__(
        self,
        link: AnyLink,
        query: SearchQuery,
        reader: RowReader[T],
        embed: Callable[[SearchQuery], Any] | None,
        texts: Sequence[str],
        config: SearchConfig | None,
        cursor: Mapping[str, Any] | ReadCursor | None,
        without_policies: bool,
    ) -> None:
        self._config = SearchConfig() if config is None else require_kind(config, SearchConfig, "config")
        require_kind(query, SearchQuery, "query")
        require_kind(reader, RowReader, "reader")
        require_kind(without_policies, bool, "without_policies")
        if embed is not None:
            require_callable(embed, "embed")
        refuse_exact(link.traits, exact=query.exact)
        self._link: AnyLink = link
        self._embed = embed
        position = None
        self._parked_key: str | None = None  # the cursor's digest, until its parked search has been looked for
        if cursor is not None:
            read = ReadCursor.of(cursor, self._config.cursor_key, without_policies=without_policies)
            position, self._parked_key = read.position, read.digest
            read.require(link.identity, query, self._config.always_on)
            query = position.with_weighting(query)
        self._machine = SearchMachine(query, reader, _text_list(texts), self._config, link, position)
        self._state = self._machine.state
        self._stopped = False
        self._pid = os.getpid()

    def __repr__(self) -> str:
        state = "exhausted" if self.exhausted else "stopped" if self._stopped else "open"
        return f"<{type(self).__name__} {state}, {self._state.kept} served>"

    @property
    def exhausted(self) -> bool:
        """Whether an empty page has come and every match is decided; matches that a policy set aside may be left."""
        return self._state.exhausted

    @property
    def report(self) -> Report:
        """A summary of what the search has done so far."""
        return self._state.report

    def _carry_out(self, effect: Effect) -> Any:
        """Carry out an effect. The answer is a value in a blocking session, an awaitable in an asynchronous one."""
        if not isinstance(effect, Release):
            self._refuse_stopped()
        match effect:
            case StartQuery():
                return self._start_query(effect)
            case FetchNext(count, after_loss):
                if after_loss:
                    self._link.go_on_after_loss()
                return self._link.fetch_next(count)
            case PlainQuery(count):
                return self._link.query(self._query, count)
            case Release():
                return self._link.end()
            case CanRepeat():
                return self._link.can_repeat()
            case Pause(seconds):
                return self._pause(seconds)
            case _:
                return self._carry_out_beside(effect)

    def _carry_out_beside(self, effect: Embed | FetchInfo | CallCheck) -> Any:
        """Carry out an effect that has nothing to do with the open query."""
        match effect:
            case Embed(template):
                return refuse_incomplete(template) if self._embed is None else self._embed(template)
            case FetchInfo():
                return self._link.fetch_info()
            case CallCheck(check, items):
                return self._call_check(check, items)

    def _start_query(self, start: StartQuery) -> Any:
        raise NotImplementedError

    def _pause(self, seconds: float) -> Any:
        raise NotImplementedError

    def _call_check(self, check: Callable[[list[Any]], Any], items: list[Any]) -> Any:
        raise NotImplementedError

    def _fetch_first(self, start: StartQuery) -> Any:
        max_idle = self._config.idle_after(start.left_open)
        return self._link.fetch_first(self._query, start.count, seen=start.seen, max_idle=max_idle)

    @property
    def _query(self) -> SearchQuery:
        assert self._state.query is not None
        return self._state.query

    def _explaining_models(self) -> AbstractContextManager[None]:
        """Say where a model belongs, if the index refuses the vectors that `embed` has made."""
        query = self._state.query
        return explaining_models(by_vectors=self._embed is not None and query is not None and query.data is None)

    def _refuse_stopped(self) -> None:
        if self._stopped:
            message = "this session has been stopped; open a new one, or resume its cursor()"
            raise ClientError(message)

    def _adopt_parked(self) -> None:
        """Adopt the search that is still open for the cursor of this session, if there is one.

        In a forked child, let go of the parent's query first: pulling from it would cost the parent a page.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._link.forget()
            self._state.mark_lost()
        key, self._parked_key = self._parked_key, None
        undecided = None if key is None else self._link.adopt(key)
        if undecided is not None:
            self._state.adopt(undecided.waiting, undecided.set_aside)

    def _position(self) -> Cursor:
        return self._state.position(self._link.identity).write(self._config.cursor_key)

    def _park(self) -> Cursor:
        """Stop the session, but leave its search to the session that resumes the cursor."""
        cursor = self._position()
        if self._state.is_parkable:
            self._link.park(cursor["digest"], Undecided(list(self._state.waiting), self._state.set_aside))
        self._stopped = True
        return cursor


def _text_list(texts: object) -> list[str]:
    """Return the texts of a query as a list.

    Raises:
        ClientError: It is one text, nothing that can be listed, or holds something else than texts.
    """
    listed = None if isinstance(texts, str) else elements_of(texts)
    if listed is None:
        message = f"texts={written(texts)} has to be a list of texts"
        raise ClientError(message)
    return [require_kind(text, str, f"texts[{position}]") for position, text in enumerate(listed)]


def refuse_exact(traits: SourceTraits, *, exact: bool) -> None:
    """Refuse a search in exact order of a source that cannot promise it.

    Args:
        traits: The traits of the source.
        exact: Whether the order is to be exact.

    Raises:
        ClientError: It is, and the source cannot be told so.
    """
    if exact and not traits.exact:
        message = "exact=True is for an index, and this source ranks its rows as it does: leave exact= out"
        raise ClientError(message)


def refuse_incomplete(template: SearchQuery) -> SearchQuery:
    """Refuse a query that lacks its text or vectors, for a session without `embed`.

    Raises:
        ClientError: Always.
    """
    mode = "" if template.mode is None else f" for retrieval_mode={template.mode.value!r}"
    message = f"the question lacks its text, or the vectors{mode}: give them, or embed="
    raise ClientError(message)
