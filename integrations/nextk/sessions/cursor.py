"""The portable position of a search: plain data, to continue elsewhere what was begun here.

It holds where the search stands, not how to get at the index: no secret, no uuid, no function. It also says nothing of
the namespace and the filter but a fingerprint: those come from whoever takes the search up again, and have to be the
same, so that an edited cursor cannot widen anyone's view. The digest tells an edited or broken cursor from a whole one;
it is no signature.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError
from nextk.payloads import plain_list
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.sessions.report import Phase, Report
from nextk.types import SparseVector

Cursor: TypeAlias = dict[str, Any]
"""What `cursor()` returns: it goes through JSON and msgpack unchanged."""
VERSION = 1

_Count: TypeAlias = Annotated[int, Field(ge=0)]
_Size: TypeAlias = Annotated[int, Field(ge=1, le=MAX_ROWS)]


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
        version: Of this format.
        index: A fingerprint of the index.
        scope: Fingerprints of what in the question is not read from here, by name.
        texts: The question as it was put, one or more texts.
        data: The text that the index embeds; or
        vector: dense, float (dimension,); and
        sparse: dimensions and values of the sparse vector.
        phases: What was done so far, the present leg last.
        pulls: Of the present leg: the size of each pull, and the ids that it brought.
        waiting: Those ids of `pulls` that are not decided.
        set_aside: How many of them were set aside, the first ones.
        earlier: All other ids that were taken.
        best: The score of the first row of the present leg.
        dropped: Rows that never will be handed out, by cause.
        recovered: How often a search was asked anew.
        changed: Whether that brought other rows than before.
        complete: Whether what was exhausted is all there is.
        plain: Whether the pulls were plain queries, for want of room.
        exhausted: Whether the index has nothing left.
        memories: The policies of the search by name, and what each remembers.
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
    pulls: list[tuple[_Size, list[str]]]
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
        """The position of a search.

        Args:
            index: The name of the index.
            template: The view of it that the search has.
            query: The question, with its text or vectors.
            report: What was done so far.
            index_exhausted: Whether the index has nothing left.
            memories: What each policy remembers.
            **fields: The fields that say where the present leg stands.

        Raises:
            ClientError: A policy remembers what is not JSON.
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
        """Read a cursor.

        Raises:
            ClientError: It is not one, is of another version, or has been edited.
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
        """The cursor of this position."""
        fields = self.model_dump(mode="json")
        return {**fields, "digest": digest_of(fields)}

    def require(self, index: str, template: SearchQuery) -> None:
        """Refuse to go on with another index or another view of it.

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
        """The whole question, from what the retriever brings and what is kept here."""
        sparse = None if self.sparse is None else SparseVector(*self.sparse)
        return replace(
            template,
            data=self.data,
            vector=self.vector,
            sparse_vector=sparse,
            mode=self.phases[-1].mode,
        )

    def memories_of(self, policies: list[str]) -> list[dict[str, Any]]:
        """What the policies of these names remember, each by itself; nothing where the cursor was made without one."""
        remaining = list(self.memories)
        found: list[dict[str, Any]] = []
        for name in policies:
            match = next((pair for pair in remaining if pair[0] == name), None)
            if match is not None:
                remaining.remove(match)
            found.append({} if match is None else match[1])
        return found

    def reports(self) -> list[Phase]:
        """The legs, as a report has them."""
        return [Phase(retrieval_mode=phase.mode, **phase.model_dump(exclude={"mode"})) for phase in self.phases]


def texts_of(cursor: object) -> list[str]:
    """The question that a cursor belongs to, as it was put.

    Raises:
        ClientError: It is no cursor of a retriever.
    """
    texts = Position.read(cursor).texts
    if not texts:
        message = "this cursor was not made by a retriever: it holds no question"
        raise ClientError(message)
    return texts


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
    """Fingerprints of the view of the index that a question has."""
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
    """A short name of a text. It hides a long text, and not one that can be guessed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def digest_of(fields: Mapping[str, Any]) -> str:
    """A digest of a cursor's fields, in whatever order they stand."""
    return fingerprint(json.dumps(fields, sort_keys=True, separators=(",", ":")))
