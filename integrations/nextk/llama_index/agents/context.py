"""What the tools keep in the context of a run: the book of their searches, and what they have said of late.

A context may be saved while a tool is at work, and LlamaIndex then runs that call again when the context is taken up.
What the first run of it has moved on is in the context already, so the second would show the page after, and the model
never the one before. Therefore a call that is run again is told apart by the id that the model gave it, and is answered
with the words of the first time.
"""

import hashlib
import importlib
import json
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from llama_index.core.agent.workflow import ToolCall
from llama_index.core.workflow import Context
from llama_index_instrumentation.dispatcher import active_instrument_tags

from nextk.agents.memory import SearchMemory, empty_memory

STATE_KEY = "resumable_searches"
"""Where the store of a context holds the searches; not under `state`, which agents print into the prompt."""
_MAX_ANSWERS = 16  # as many calls may be under way at once, and more


class ToolAnswer(TypedDict):
    """What a call has answered.

    Attributes:
        call: Which one.
        run: The run that it was made in.
        text: What it said.
    """

    call: str
    run: str
    text: str


class ContextState(TypedDict):
    """What is kept of one set of tools; plain data.

    Attributes:
        memory: Their searches.
        answers: What they said of late, the latest last.
    """

    memory: SearchMemory
    answers: list[ToolAnswer]


@dataclass(frozen=True)
class ToolCallKey:
    """A tool call of an agent.

    Attributes:
        id: What tells it from all others, in whatever run it is made.
        run: The run that makes it.
    """

    id: str
    run: str


async def read(ctx: Context[Any], name: str) -> ContextState:
    """What is kept under a name."""
    kept = (await ctx.store.get(STATE_KEY, default=None) or {}).get(name)
    return cast("ContextState", kept) if kept else {"memory": empty_memory(), "answers": []}


async def write(ctx: Context[Any], name: str, memory: SearchMemory, answers: list[ToolAnswer]) -> None:
    """Keep a book and replies under a name, whatever others keep there meanwhile."""
    kept: ContextState = {"memory": memory, "answers": answers}
    async with ctx.store.edit_state() as state:
        state[STATE_KEY] = {**(state.get(STATE_KEY) or {}), name: kept}


def with_answer(answers: list[ToolAnswer], call: ToolCallKey, text: str) -> list[ToolAnswer]:
    """The latest replies, with this one."""
    others = [answer for answer in answers if answer["call"] != call.id]
    return [*others, ToolAnswer(call=call.id, run=call.run, text=text)][-_MAX_ANSWERS:]


def earlier_answer(answers: list[ToolAnswer], call: ToolCallKey) -> str | None:
    """What a call has answered when it was first made; `None` where it is made first now.

    Within one run a call is not made again: there an id that comes a second time is another call's. LlamaIndex may even
    take up one call twice, where it was saved between two steps: the second of them goes on.
    """
    return next((answer["text"] for answer in answers if answer["call"] == call.id and answer["run"] != call.run), None)


async def current_call(ctx: Context[Any]) -> ToolCallKey | None:
    """The call that is being made, `None` where nothing tells it from others: outside agents, or without an id.

    Some models have no ids for their calls, and LlamaIndex then takes the tool's name: such calls are never taken for
    ones made again. Ids that begin anew with each question are, if everything else is the same too: the question, the
    tool and its arguments.
    """
    event = _current_event()
    run = active_instrument_tags.get().get("llamaindex.run_id")
    if not isinstance(event, ToolCall) or run is None or event.tool_id in ("", event.tool_name):
        return None
    question = await ctx.store.get("user_msg_str", default=None)
    parts = [event.tool_id, event.tool_name, event.tool_kwargs, question]
    return ToolCallKey(
        hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32], str(run)
    )


def _current_event() -> object:
    """What the step that runs is about; `None` where llama-index-workflows, before 2.22.1, does not say so.

    The name is not a documented one, so it may go.
    """
    try:
        present: Any = importlib.import_module("workflows.runtime.types.results").StepWorkerStateContextVar.get(None)
    except (ImportError, AttributeError):  # pragma: no cover
        return None
    return getattr(present, "event", None)
