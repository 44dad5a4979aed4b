"""The tool calls of one step share the searches that the step has made."""

from nextk.agents.memory import MemoryView, apply_update, empty_memory
from nextk.langchain.agents.steps import ToolStep, ToolSteps
from tests.support.search_memories import entry, update


class TestSteps:
    """The calls of one step."""

    def test_one_after_another(self) -> None:
        """Each call sees what the ones before it have changed."""
        step = ToolStep()
        step.record("1", update("x", a=entry()))
        assert MemoryView(apply_update(empty_memory(), update("x", a=entry()))) == step.view("2", empty_memory())

    def test_a_call_that_is_made_again(self) -> None:
        """It sees what it saw the first time, and leaves out what calls after it have shown."""
        step = ToolStep()
        for call in "123":
            step.record(call, update(f"d{call}", a=entry(calls=int(call))))
        assert MemoryView(apply_update(empty_memory(), update("d1", a=entry())), frozenset(["d3"])) == step.view(
            "2", empty_memory()
        )

    def test_keys(self) -> None:
        """One key is one step, no key is always another one, and old steps are forgotten."""
        steps = ToolSteps()
        first = steps.step("a")
        assert first is steps.step("a")
        assert steps.step(None) is not steps.step(None)
        for number in range(128):
            steps.step(str(number))
        assert first is not steps.step("a")
