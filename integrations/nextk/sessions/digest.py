"""Fingerprints of what a cursor must not show, and the digest or the signature of a whole cursor. Private."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from nextk.errors import ClientError

_SIGNED = "hmac-sha256:"
"""The beginning of the digest of a cursor that was signed with a key."""


def fingerprint(text: str) -> str:
    """Return a hash of a text. It hides a long text, but not one that can be guessed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def digest_of(fields: Mapping[str, Any], key: str | None = None) -> str:
    """Return the digest of the fields of a cursor, whatever their order.

    Args:
        fields: The fields.
        key: The key with which they are signed; `None` for a digest that anybody can make.
    """
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return fingerprint(text) if key is None else _SIGNED + hmac.digest(key.encode(), text.encode(), "sha256").hex()


def refuse_other_signature(digest: object, key: str | None) -> None:
    """Refuse a cursor without a signature where one is required, and a signed one where it cannot be checked.

    Raises:
        ClientError: The cursor is signed, and there is no key; or it is not, and there is one.
    """
    signed = isinstance(digest, str) and digest.startswith(_SIGNED)
    if signed and key is None:
        message = "this cursor is signed: resume it with the cursor_key= that it was made with"
        raise ClientError(message)
    if key is not None and not signed:
        message = "this cursor is not signed, and cursor_key= takes signed ones alone: search anew"
        raise ClientError(message)
