"""Cursors: the position of a search as plain data, from which the search goes on in any process. Private.

A cursor says where the search stands, not how to reach the index: it holds no secret, no uuid and no function. Of the
namespace, the filter and the policies it holds only fingerprints. They come from the session that resumes the cursor,
and have to be the same as before, so that a cursor cannot widen anyone's view, edited or not.

Without a key the digest tells a damaged cursor from a whole one, and no more: whoever edits a cursor on purpose can
make its digest anew. With a key it is a signature (HMAC-SHA256).
"""

import hmac
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from nextk.arguments import written
from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError, PolicyMismatch
from nextk.payloads import plain_list
from nextk.plain import plain
from nextk.sessions.digest import digest_of, fingerprint, refuse_other_signature
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.sessions.report import Phase, RecoveryReport, Report
from nextk.types import SparseVector, WeightingStrategy
from nextk.until.identity import describe_value
from nextk.until.policy import Policy

Cursor: TypeAlias = dict[str, Any]
"""The plain data that `cursor()` returns. It goes through JSON and msgpack unchanged."""
VERSION = 5

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


class _RecoveryData(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    faults: _Count
    repeats: _Count
    replays: _Count
    merged: _Count
    rows: _Count
    waited: Annotated[float, Field(ge=0)]
    left_open: _Count


class PolicyData(BaseModel):
    """A policy of a search, as a cursor holds it.

    Attributes:
        name: The name of the policy.
        identity: A fingerprint of the identity of the policy.
        drops: Whether the policy may drop matches, so that the search is not resumed without it.
        memory: The data that the policy remembers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    identity: str
    drops: bool
    memory: dict[str, Any]

    @classmethod
    def of(cls, policy: Policy, memory: Mapping[str, Any]) -> Self:
        """Return the data of a policy.

        Raises:
            ClientError: The policy remembers data that is not JSON.
        """
        name = policy.name
        return cls(name=name, identity=fingerprint(policy.identity), drops=policy.drops, memory=_json(name, memory))


class Position(BaseModel):
    """Where a search stands.

    Attributes:
        version: The version of this format, 5.
        index: A fingerprint of the identity of the index.
        scope: Fingerprints of the namespace, filter, fusion, weighting and exactness, by these names.
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
        reordered: Whether that brought them in another order, on an index that may rank approximately.
        recovery: The counts of the recoveries.
        complete: Whether an exhausted search has seen all matches.
        plain: Whether the matches came from a plain query, because the server had no room for a resumable one.
        exhausted: Whether the index has nothing left.
        refetched: The number of rows that were moved although they had come before.
        limit: The number of rows that the store gives of one search at most; `None` if no such limit is known.
        policies: The single policies of the search, with their memories.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[5]
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
    reordered: bool
    recovery: _RecoveryData
    complete: bool
    plain: bool
    exhausted: bool
    refetched: _Count
    limit: _Count | None
    policies: list[PolicyData]

    @classmethod
    def of(
        cls,
        index: str,
        template: SearchQuery,
        query: SearchQuery,
        report: Report,
        *,
        index_exhausted: bool,
        policies: list[PolicyData],
        **fields: Any,
    ) -> Self:
        """Return the position of a search.

        Args:
            index: The identity of the index.
            template: The query, of which namespace, filter, fusion, weighting and exactness are fingerprinted.
            query: The query with its text or vectors.
            report: The report of the search.
            index_exhausted: Whether the index has nothing left.
            policies: The single policies of the search, with their memories.
            **fields: The other fields, as they are.
        """
        vector, sparse = query.vector, query.sparse_vector
        return cls(
            version=5,
            index=fingerprint(index),
            scope=scope_of(replace(template, weighting=query.weighting, weighting_of_index=query.weighting_of_index)),
            data=query.data,
            vector=None if vector is None else plain(plain_list(vector, "vector")),
            sparse=None if sparse is None else _plain(sparse),
            phases=[_phase_data(phase) for phase in report.phases],
            dropped=dict(report.dropped),
            recovered=report.recovered,
            changed=report.changed,
            reordered=report.reordered,
            recovery=_RecoveryData(**asdict(report.recovery)),
            complete=report.complete,
            refetched=report.refetched,
            limit=report.limit,
            exhausted=index_exhausted,
            policies=policies,
            **fields,
        )

    @classmethod
    def read(cls, cursor: object, key: str | None = None) -> Self:
        """Read and check a cursor.

        Args:
            cursor: The cursor.
            key: The key with which the cursor has to be signed; `None` for no key.

        Raises:
            ClientError: The cursor is not one, is of another version, was edited, or was not signed with this key.
        """
        if not isinstance(cursor, Mapping):
            message = f"a cursor is the dict that cursor() returned, not {type(cursor).__name__}"
            raise ClientError(message)
        fields = dict(cursor)
        digest = fields.pop("digest", None)
        version = fields.get("version")
        if not isinstance(version, int) or version != VERSION:
            message = (
                f"this is a cursor of version {written(version)}, and this nextk reads version {VERSION}: search anew"
            )
            raise ClientError(message)
        refuse_other_signature(digest, key)
        try:
            whole = isinstance(digest, str) and hmac.compare_digest(digest, digest_of(fields, key))
            position = cls.model_validate_json(json.dumps(fields)) if whole else None
        except (ValidationError, TypeError, ValueError, RecursionError):
            position = None
        if position is None or not position.phases:
            reason = "it was edited or cut short" if key is None else "it was edited, or signed with another cursor_key"
            message = f"this cursor is not as cursor() returned it: {reason}. Search anew"
            raise ClientError(message)
        return position

    def write(self, key: str | None = None) -> Cursor:
        """Return the cursor of this position.

        Args:
            key: The key with which the cursor is signed; `None` for a digest that anybody can make.
        """
        fields = self.model_dump(mode="json")
        return {**fields, "digest": digest_of(fields, key)}

    def require(self, index: str, template: SearchQuery) -> None:
        """Refuse to go on in another index, or with another view of it.

        Args:
            index: The identity of the index that is to be searched.
            template: The query that is to go on.

        Raises:
            ClientError: The index, the namespace, the filter, the fusion, the weighting or the exactness is not that of
                the cursor.
        """
        if self.index != fingerprint(index):
            message = "this cursor belongs to another index or store: another URL, file or collection, or one made anew"
            raise ClientError(message)
        here = scope_of(self.with_weighting(template))
        if self.scope != here:
            other = [name for name, value in here.items() if self.scope.get(name) != value] or list(here)
            message = (
                f"this cursor was made with another {' and another '.join(other)}: "
                "resume it with the same one (after widen() with the wider filter), or search anew"
            )
            raise ClientError(message)

    def require_policies(self, policies: Sequence[Policy]) -> None:
        """Refuse to go on without a policy that may have dropped matches, or with another one in its place.

        Args:
            policies: The single policies of the search that is to go on. There may be more than before.

        Raises:
            PolicyMismatch: A policy of the cursor is missing or differs; the message names it.
        """
        present = Counter(fingerprint(policy.identity) for policy in policies)
        pinned = Counter((policy.name, policy.identity) for policy in self.policies if policy.drops)
        missing = [name for (name, identity), count in pinned.items() if present[identity] < count]
        if not missing:
            return
        names = {policy.name for policy in policies}
        found = "another one of that name" if missing[0] in names else "none of that name"
        message = (
            f"this cursor was made with the policy {missing[0]}, and this search has {found}: resume the cursor with "
            "the policies that the search had, with the same parameters and functions (until=, or the retriever's "
            "own); to go on without them, say without_policies=True"
        )
        raise PolicyMismatch(message)

    def with_weighting(self, template: SearchQuery) -> SearchQuery:
        """Return a template with the weighting of this position, if the template leaves it to the index.

        A search that has used no sparse vectors yet has no weighting either: its index is still to be asked.
        """
        pinned = self.scope.get("weighting")
        if not template.weighting_of_index or pinned == scope_of(template)["weighting"]:
            return template
        known = (template.with_weighting(weighting) for weighting in WeightingStrategy)
        return next((one for one in known if scope_of(one)["weighting"] == pinned), template.with_weighting(None))

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

    def memories_of(self, policies: Sequence[Policy]) -> list[dict[str, Any]]:
        """Return the memory of each of these policies; an empty one for a policy that the cursor does not hold."""
        remaining = list(self.policies)
        found: list[dict[str, Any]] = []
        for identity in (fingerprint(policy.identity) for policy in policies):
            match = next((stored for stored in remaining if stored.identity == identity), None)
            if match is not None:
                remaining.remove(match)
            found.append({} if match is None else match.memory)
        return found

    def reports(self) -> list[Phase]:
        """Return the phases as a report holds them."""
        return [Phase(retrieval_mode=phase.mode, **phase.model_dump(exclude={"mode"})) for phase in self.phases]

    def recovery_report(self) -> RecoveryReport:
        """Return the counts of the recoveries as a report holds them."""
        return RecoveryReport(**self.recovery.model_dump())


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
    """Return fingerprints of the namespace, filter, fusion, weighting and exactness of a query, by these names."""
    fusion, weighting = (part and part.value for part in (query.fusion, query.weighting))
    if query.weighting_of_index:
        weighting = "of the index"
    filtering = query.filter if query.store_filter is None else describe_value(query.store_filter)
    parts = {"namespace": query.namespace, "filter": filtering, "fusion": fusion, "weighting": weighting}
    parts["value of exact"] = str(query.exact)
    return {name: fingerprint(f"{name} {part}") for name, part in parts.items()}


def _plain(vector: SparseVector) -> tuple[list[int], list[float]]:
    return plain(plain_list(vector.indices, "indices")), plain(plain_list(vector.values, "values"))


def _json(policy: str, memory: Mapping[str, Any]) -> dict[str, Any]:
    try:
        carried: dict[str, Any] = json.loads(json.dumps(memory, allow_nan=False))
        to_json(carried)  # as the cursor will be written: no lone surrogates, and not too deep
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the policy {policy} remembers what is not JSON, so there can be no cursor: {error}"
        raise ClientError(message) from error
    if carried != memory:
        message = f"the policy {policy} remembers what JSON would change (a tuple, a key that is no string)"
        raise ClientError(message)
    return carried
