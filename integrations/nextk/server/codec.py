"""The bytes of HTTP around `nextk.dispatch`: bodies are decoded before it, results and refusals encoded after it."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from nextk.dispatch import BodyForm, dispatch, find_command
from nextk.engine.protocol import Engine
from nextk.engine.reply_budget import within_budget
from nextk.engine.values import Match
from nextk.errors import RefusedError
from nextk.server.body_limits import BodyLimit
from nextk.server.refusals import OTHER, reason_of

log = logging.getLogger("nextk.server")

MAX_REPLY = 64 * 2**20
"""How many bytes the records of a reply may take by default."""

_ROUNDED_FROM = 2.0**63  # beyond 64 bits orjson reads whole numbers as floats
# orjson writes a numpy float32 as the shortest decimal that names it, always with a fraction: what the wire asks.
# Dataclasses are passed to `_default`, since it knows how the wire spells a record.
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply on its way out over HTTP.

    Attributes:
        status: The HTTP status.
        body: The JSON envelope: `{"result": ...}`, or `{"error": text, "status": number}`.
        reason: The word of `nextk.server.refusals` for a refusal. Default `""`, for none.
    """

    status: int
    body: bytes
    reason: str = ""


def answer(
    engine: Engine,
    target: str,
    body: bytes,
    *,
    read_only: bool = False,
    limit: BodyLimit | None = None,
    max_reply: int = MAX_REPLY,
) -> Reply:
    """Answer one request of HTTP.

    Args:
        engine: The index that answers.
        target: Path and query string as they came, still percent-encoded.
        body: The bytes of the body, whatever their declared type.
        read_only: Whether to refuse commands that change anything. Default `False`.
        limit: The limits of the body, whose size was checked while it came. Default `None`, for none.
        max_reply: How many bytes the records of the reply may take. Default 64 MiB.

    Returns:
        The reply; a refusal is a reply, too.
    """
    try:
        command = find_command(target, read_only=read_only)
        if limit is not None and command.form is not BodyForm.NONE:
            limit.require_few_values(body)
        values = _decode(command.form, body)
        result = within_budget(max_reply, lambda: dispatch(engine, target, values, read_only=read_only))
        return Reply(200, _encode({"result": result}))
    except RefusedError as error:
        if error.__cause__ is not None and error.status >= 500:  # the client cannot mend it, so the operator is told
            log.error("%s", error)
        return refusal(str(error), error.status, reason_of(error))
    except Exception:
        log.exception("the reply to %s cannot be written", target.partition("?")[0])
        return refusal("Internal server error", 500, "failed")


def refusal(text: str, status: int, reason: str = OTHER) -> Reply:
    """Return the reply for a failure.

    Args:
        text: What went wrong.
        status: The HTTP status.
        reason: The word of `nextk.server.refusals` that the metrics have for it. Default `"other"`.
    """
    return Reply(status, _encode({"error": text, "status": status}), reason)


def _encode(envelope: Mapping[str, Any]) -> bytes:
    return orjson.dumps(envelope, _default, _OPTIONS)


def _default(value: object) -> dict[str, Any]:
    """Return a record as the wire spells it; what is absent is left out."""
    if not isinstance(value, Match):
        raise TypeError
    sparse = value.sparse_vector
    fields = {
        "id": value.id,
        "score": value.score,
        "vector": value.vector,
        "sparseVector": None if sparse is None else {"indices": sparse.indices, "values": sparse.values},
        "metadata": None if value.metadata is None else orjson.Fragment(value.metadata),
        "data": value.data,
    }
    return {key: field for key, field in fields.items() if field is not None}


def _decode(form: BodyForm, body: bytes) -> object:
    if form is BodyForm.NONE:
        return None
    return _selection(body) if form is BodyForm.SELECTION else _json(body)


def _json(body: bytes) -> object:
    try:
        return _loads(body)
    except (orjson.JSONDecodeError, RecursionError) as error:
        message = f"Invalid JSON: {error}"
        raise RefusedError(message, 400) from None


def _loads(body: bytes) -> Any:
    """Read JSON. Whole numbers in metadata are never rounded: those beyond 64 bits stay whole, to be refused."""
    value = orjson.loads(body)
    return json.loads(body) if _may_be_rounded(value) else value


def _may_be_rounded(body: object) -> bool:
    """Return whether metadata holds a float so large that it may be a whole number beyond 64 bits in the text."""
    records = body if isinstance(body, list) else [body]
    values = [record.get("metadata") for record in records if isinstance(record, dict)]
    while values:
        value = values.pop()
        if isinstance(value, dict | list):
            values.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, float) and abs(value) >= _ROUNDED_FROM:
            return True
    return False


def _selection(body: bytes) -> object:
    """Read what a delete selects; older clients send a bare list of ids, or one id without quotes."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"ids": [_raw_id(body)]} if body[:1] not in (b"{", b"[", b"") else _json(body)
    if isinstance(value, list):
        return {"ids": value}
    if isinstance(value, dict):
        return value
    return {"ids": [value if isinstance(value, str) else body.decode().strip()]}  # `1.0` is an id, and not `1`


def _raw_id(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        message = "Invalid id: the body is neither JSON nor UTF-8"
        raise RefusedError(message, 400) from None
