"""The state of a graph, and its reducer."""

import json

from nextk.langchain.agents.state import merge
from tests.support.search_memories import entry, memory, update


class TestMerge:
    """The reducer."""

    def test_memories_are_separate(self) -> None:
        """Two sets of tools know nothing of each other, and each is forgotten alone."""
        memories = merge(merge({}, {"one": update("x", a=entry())}), {"two": update("x", a=entry())})
        assert {"two"} == merge(memories, {"one": None}).keys()
        assert {} == merge({}, {"one": None})

    def test_nothing_is_changed_in_place(self) -> None:
        """A checkpoint stays as it was."""
        before = {"search": memory("x", a=entry())}
        copy = json.loads(json.dumps(before))
        merge(before, {"search": update("y", b=entry())})
        assert copy == before
