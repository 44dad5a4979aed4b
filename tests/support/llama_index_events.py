"""A handler that notes the events of LlamaIndex."""

from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler


class Listening(BaseEventHandler):
    """Notes events of LlamaIndex.

    Attributes:
        seen: The events that were noted, in order.
        kinds: The types of the events to note; by default all.
    """

    seen: list[Any]
    kinds: tuple[type, ...] = (object,)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex wants."""
        return "Listening"

    def handle(self, event: Any, **_: Any) -> None:
        """Note an event if it is of one of the kinds."""
        if isinstance(event, self.kinds):
            self.seen.append(event)
