"""The trace of a run: what happened when, and how often."""

import re
from collections import Counter

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOST_EVENTS = 20_000


class Trace:
    """The events of a run.

    Attributes:
        counts: How often each kind of event has happened.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._events: list[tuple[float, str, str]] = []

    def note(self, time: float, who: str, text: str, kind: str = "") -> None:
        """Note an event.

        Args:
            time: The time at which it happened, in seconds.
            who: To whom it happened.
            text: What happened.
            kind: The kind under which it is counted; `""` to count nothing.
        """
        assert len(self._events) < _MOST_EVENTS, "the run does not come to an end"
        self._events.append((time, who, text))
        if kind:
            self.counts[kind] += 1

    def lines(self) -> list[str]:
        """Return the events as lines, in which each uuid has a short name, in the order of their first appearance."""
        names: dict[str, str] = {}

        def name(match: re.Match[str]) -> str:
            return names.setdefault(match[0], f"q{len(names) + 1}")

        return [f"{time:9.3f} s  {who:<10} {_UUID.sub(name, text)}" for time, who, text in self._events]
