"""The searches of a thread: books by the name of their tool, joined by a reducer."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from nextk.agents.memory import MemoryUpdate, apply_update, empty_memory

Memories: TypeAlias = dict[str, Any]
"""The books of a thread, by the name of the tool that searches; as an update, patches, or `None` to begin anew."""


def merge(memories: Memories, updates: Mapping[str, MemoryUpdate | None]) -> Memories:
    """The reducer of the state.

    Args:
        memories: As they are.
        updates: A patch for each book that changes; `None` to forget it.
    """
    merged = dict(memories or {})
    for name, update in updates.items():
        if update is None:
            merged.pop(name, None)
        else:
            merged[name] = apply_update(merged.get(name) or empty_memory(), update)
    return merged
