"""Why requests are refused, in one short word for each kind, as the metrics count them."""

from collections.abc import Mapping

from nextk.engine.abandonment import GivenUp
from nextk.engine.filter.timer import FilterTimeout
from nextk.engine.reply_budget import ReplyRefused
from nextk.errors import AuthenticationError, QueryNotFound, RefusedError, TooManyQueries

__all__ = ["OTHER", "REASONS", "reason_of"]

REASONS: Mapping[tuple[type[RefusedError], int], str] = {
    (AuthenticationError, 401): "unauthorized",
    (AuthenticationError, 403): "other_site",
    (TooManyQueries, 403): "too_many_queries",
    (QueryNotFound, 404): "query_not_found",
    (ReplyRefused, 422): "large_reply",
    (FilterTimeout, 503): "slow_filter",
    (GivenUp, 503): "given_up",
    (RefusedError, 400): "bad_request",
    (RefusedError, 403): "forbidden",
    (RefusedError, 404): "not_found",
    (RefusedError, 405): "method_not_allowed",
    (RefusedError, 408): "late",
    (RefusedError, 409): "conflict",
    (RefusedError, 413): "too_large",
    (RefusedError, 414): "too_large",
    (RefusedError, 422): "invalid",
    (RefusedError, 429): "busy",
    (RefusedError, 431): "too_large",
    (RefusedError, 500): "failed",
    (RefusedError, 501): "bad_request",
    (RefusedError, 503): "busy",
    (RefusedError, 505): "bad_request",
    (RefusedError, 507): "disk_full",
}
"""The words by the class of the error that refuses a request and by its status."""

OTHER = "other"
"""The word for a refusal that is not in `REASONS`, so that a new one cannot be mistaken for another."""


def reason_of(error: RefusedError) -> str:
    """Return the word for a refusal, which is one of `REASONS` or `OTHER`. A class that is not there is its base."""
    words = (REASONS.get((kind, error.status)) for kind in type(error).__mro__)
    return next((word for word in words if word is not None), OTHER)
