"""Cursors: the position of a search as plain data, from which the search goes on in any process. Private.

A cursor says where the search stands, not how to reach the index: it holds no secret, no uuid and no function. Of the
namespace and the filter it holds only a fingerprint. Both come from the session that resumes the cursor, and have to be
the same as before, so that an edited cursor cannot widen anyone's view. The digest tells an edited or truncated cursor
from a whole one; it is not a signature.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError
from nextk.payloads import plain_list
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.sessions.report import Phase, Report
from nextk.types import SparseVector

Cursor: TypeAlias = dict[str, Any]
"""The plain data that `cursor()` returns. It goes through JSON and msgpack unchanged."""
VERSION = 1

_Count: TypeAlias = Annotated[int, Field(ge=0)]
_PullCount: TypeAlias = Annotated[int, Field(ge=1, le=MAX_ROWS)]


class _PhaseData(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    mode: RetrievalMode | None
    began: _Count
    pulls: _Count
    pulled: _Count
    repeated: _Count
    kept: _Count


class Position(BaseModel):
    """Where a search stands.

    Attributes:
        version: The version of this format, 1.
        index: A fingerprint of the identity of the index.
        scope: Fingerprints of the namespace, filter, fusion and weighting, by these names.
        texts: The texts of the query as the caller wrote them.
        data: The text that the index embeds; `None` for a query by vectors.
        vector: The dense vector, float (dimension,).
        sparse: The dimensions and the values of the sparse vector.
        phases: The counts of each phase, the present one last.
        pulls: The pulls of the present phase: the number of matches requested by each, and the ids that came.
        waiting: The ids among `pulls` that are not decided.
        set_aside: The number of waiting ids that were set aside, the first ones.
        earlier: All other ids that were pulled.
        best: The score of the first match of the present phase.
        dropped: The number of matches that will never be handed out, by cause.
        recovered: How often the search was started again.
        changed: Whether that brought other matches than before.
        complete: Whether an exhausted search has seen all matches.
        plain: Whether the matches came from a plain query, because the server had no room for a resumable one.
        exhausted: Whether the index has nothing left.
        memories: The name of each policy of the search, and what the policy remembers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1]
    index: str
    scope: dict[str, str]
    texts: list[str]
    data: str | None
    vector: list[float] | None
    sparse: tuple[list[int], list[float]] | None
    phases: list[_PhaseData]
    pulls: list[tuple[_PullCount, list[str]]]
    waiting: list[str]
    set_aside: _Count
    earlier: list[str]
    best: float | None
    dropped: dict[str, _Count]
    recovered: _Count
    changed: bool
    complete: bool
    plain: bool
    exhausted: bool
    memories: list[tuple[str, dict[str, Any]]]

    @classmethod
    def of(
        cls,
        index: str,
        template: SearchQuery,
        query: SearchQuery,
        report: Report,
        *,
        index_exhausted: bool,
        memories: list[tuple[str, dict[str, Any]]],
        **fields: Any,
    ) -> Self:
        """Return the position of a search.

        Args:
            index: The identity of the index.
            template: The query, of which namespace, filter, fusion and weighting are fingerprinted.
            query: The query with its text or vectors.
            report: The report of the search.
            index_exhausted: Whether the index has nothing left.
            memories: The name of each policy, and what the policy remembers.
            **fields: The other fields, as they are.

        Raises:
            ClientError: A policy remembers data that is not JSON.
        """
        vector, sparse = query.vector, query.sparse_vector
        return cls(
            version=1,
            index=fingerprint(index),
            scope=scope_of(template),
            data=query.data,
            vector=None if vector is None else plain_list(vector, "vector"),
            sparse=None if sparse is None else _plain(sparse),
            phases=[_phase_data(phase) for phase in report.phases],
            dropped=dict(report.dropped),
            recovered=report.recovered,
            changed=report.changed,
            complete=report.complete,
            exhausted=index_exhausted,
            memories=[(name, _json(name, memory)) for name, memory in memories],
            **fields,
        )

    @classmethod
    def read(cls, cursor: object) -> Self:
        """Read and check a cursor.

        Raises:
            ClientError: The cursor is not one, is of another version, or was edited.
        """
        if not isinstance(cursor, Mapping):
            message = f"a cursor is the dict that cursor() returned, not {type(cursor).__name__}"
            raise ClientError(message)
        fields = dict(cursor)
        digest = fields.pop("digest", None)
        version = fields.get("version")
        if version != VERSION or isinstance(version, bool):
            message = f"this is a cursor of version {version!r}, and this nextk reads version {VERSION}: search anew"
            raise ClientError(message)
        try:
            whole = digest == digest_of(fields)
            position = cls.model_validate_json(json.dumps(fields)) if whole else None
        except (ValidationError, TypeError, ValueError, RecursionError):
            position = None
        if position is None or not position.phases:
            message = "this cursor is not as cursor() returned it: it was edited or cut short. Search anew"
            raise ClientError(message)
        return position

    def write(self) -> Cursor:
        """Return the cursor of this position."""
        fields = self.model_dump(mode="json")
        return {**fields, "digest": digest_of(fields)}

    def require(self, index: str, template: SearchQuery) -> None:
        """Refuse to go on in another index, or with another view of it.

        Args:
            index: The identity of the index that is to be searched.
            template: The query that is to go on.

        Raises:
            ClientError: The index, the namespace, the filter, the fusion or the weighting is not that of the cursor.
        """
        if self.index != fingerprint(index):
            message = "this cursor belongs to another index: another URL or file, or one that was made anew"
            raise ClientError(message)
        here = scope_of(template)
        if self.scope != here:
            other = [name for name, value in here.items() if self.scope.get(name) != value] or list(here)
            message = (
                f"this cursor was made with another {' and another '.join(other)}: "
                "resume it with the same one (after widen() with the wider filter), or search anew"
            )
            raise ClientError(message)

    def query(self, template: SearchQuery) -> SearchQuery:
        """Return the complete query: the template, with the text or vectors and the mode of this position."""
        sparse = None if self.sparse is None else SparseVector(*self.sparse)
        return replace(
            template,
            data=self.data,
            vector=self.vector,
            sparse_vector=sparse,
            mode=self.phases[-1].mode,
        )

    def memories_of(self, policies: list[str]) -> list[dict[str, Any]]:
        """Return what each of these policies remembers; an empty memory for a policy that the cursor does not name."""
        remaining = list(self.memories)
        found: list[dict[str, Any]] = []
        for name in policies:
            match = next((pair for pair in remaining if pair[0] == name), None)
            if match is not None:
                remaining.remove(match)
            found.append({} if match is None else match[1])
        return found

    def reports(self) -> list[Phase]:
        """Return the phases as a report holds them."""
        return [Phase(retrieval_mode=phase.mode, **phase.model_dump(exclude={"mode"})) for phase in self.phases]


@dataclass(frozen=True, slots=True)
class ReadCursor:
    """A cursor that was read and checked. A session takes it instead of the plain data, and does not check it again.

    Attributes:
        position: The position that it holds.
        digest: Its digest, by which the pool knows a query that was left open for it.
    """

    position: Position
    digest: str

    @classmethod
    def of(cls, cursor: object) -> "ReadCursor":
        """Read and check a cursor; one that was read already is returned as it is.

        Raises:
            ClientError: The cursor is not one, is of another version, or was edited.
        """
        if isinstance(cursor, ReadCursor):
            return cursor
        position = Position.read(cursor)
        assert isinstance(cursor, Mapping)
        return cls(position, cursor["digest"])

    @property
    def query_texts(self) -> list[str]:
        """The texts of the query as the caller of the retriever wrote them, at least one.

        Raises:
            ClientError: The cursor was not made by a retriever.
        """
        if not self.position.texts:
            message = "this cursor was not made by a retriever: it holds no question"
            raise ClientError(message)
        return self.position.texts


def _phase_data(phase: Phase) -> _PhaseData:
    return _PhaseData(
        mode=phase.retrieval_mode,
        began=phase.began,
        pulls=phase.pulls,
        pulled=phase.pulled,
        repeated=phase.repeated,
        kept=phase.kept,
    )


def scope_of(query: SearchQuery) -> dict[str, str]:
    """Return fingerprints of the namespace, filter, fusion and weighting of a query, by these names."""
    fusion, weighting = (part and part.value for part in (query.fusion, query.weighting))
    parts = {"namespace": query.namespace, "filter": query.filter, "fusion": fusion, "weighting": weighting}
    return {name: fingerprint(f"{name} {part}") for name, part in parts.items()}


def _plain(vector: SparseVector) -> tuple[list[int], list[float]]:
    return plain_list(vector.indices, "indices"), plain_list(vector.values, "values")


def _json(policy: str, memory: dict[str, Any]) -> dict[str, Any]:
    try:
        carried: dict[str, Any] = json.loads(json.dumps(memory, allow_nan=False))
    except (TypeError, ValueError) as error:
        message = f"the policy {policy} remembers what is not JSON, so there can be no cursor: {error}"
        raise ClientError(message) from error
    if carried != memory:
        message = f"the policy {policy} remembers what JSON would change (a tuple, a key that is no string)"
        raise ClientError(message)
    return carried


def fingerprint(text: str) -> str:
    """Return a hash of a text. It hides a long text, but not one that can be guessed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def digest_of(fields: Mapping[str, Any]) -> str:
    """Return the digest of the fields of a cursor, whatever their order."""
    return fingerprint(json.dumps(fields, sort_keys=True, separators=(",", ":")))
