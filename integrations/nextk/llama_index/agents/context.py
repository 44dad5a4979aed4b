"""The data that the tools keep in the context of a run: the memory of their searches, and their latest answers.

A context may be saved while a tool is at work, and LlamaIndex then makes that call again when the context is taken up.
By then the memory may hold what the first attempt has changed, so that the second attempt would show the page after,
and the model would never see the one before. Therefore a call that is made again is recognized by the id that the model
gave it, and it gets the answer of the first attempt.
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
"""The key under which the store of a context holds the states; it is not `state`, which agents print into prompts."""
_MAX_ANSWERS = 16  # as many calls may be under way at once, and more


class ToolAnswer(TypedDict):
    """The answer of one call.

    Attributes:
        call: The id of the call, as `ToolCallKey` has it.
        run: The id of the run in which the call was made.
        text: The text that the model has read.
    """

    call: str
    run: str
    text: str


class ContextState(TypedDict):
    """The data that a context keeps of one set of tools; plain data.

    Attributes:
        memory: The memory of their searches.
        answers: Their latest answers, at most 16; the newest comes last.
    """

    memory: SearchMemory
    answers: list[ToolAnswer]


@dataclass(frozen=True)
class ToolCallKey:
    """A tool call of an agent.

    Attributes:
        id: A digest by which this call differs from all others, in whatever run it is made.
        run: The id of the run that makes it.
    """

    id: str
    run: str


async def read(ctx: Context[Any], name: str) -> ContextState:
    """Return what the context keeps under a name; an empty state if it keeps nothing.

    Args:
        ctx: The context of the run.
        name: The name of the tool that searches.
    """
    state = (await ctx.store.get(STATE_KEY, default=None) or {}).get(name)
    return cast("ContextState", state) if state else {"memory": empty_memory(), "answers": []}


async def write(ctx: Context[Any], name: str, memory: SearchMemory, answers: list[ToolAnswer]) -> None:
    """Keep a memory and answers under a name. What the context keeps under other names stays as it is.

    Args:
        ctx: The context of the run.
        name: The name of the tool that searches.
        memory: The memory of the searches.
        answers: The latest answers.
    """
    new_state: ContextState = {"memory": memory, "answers": answers}
    async with ctx.store.edit_state() as store:
        store[STATE_KEY] = {**(store.get(STATE_KEY) or {}), name: new_state}


def with_answer(answers: list[ToolAnswer], call: ToolCallKey, text: str) -> list[ToolAnswer]:
    """Return the latest answers with the answer of one call at the end.

    Args:
        answers: The answers so far; an older answer of the same call is left out.
        call: The call.
        text: The text of its answer.
    """
    others = [answer for answer in answers if answer["call"] != call.id]
    return [*others, ToolAnswer(call=call.id, run=call.run, text=text)][-_MAX_ANSWERS:]


def earlier_answer(answers: list[ToolAnswer], call: ToolCallKey) -> str | None:
    """Return the answer that a call got when it was first made; `None` if it is made for the first time now.

    Within one run no call is made again, so an id that comes a second time there belongs to another call. LlamaIndex
    may even take up one call twice, if the context was saved between two steps: then the second one goes on.

    Args:
        answers: The latest answers.
        call: The call that is being made.
    """
    return next((answer["text"] for answer in answers if answer["call"] == call.id and answer["run"] != call.run), None)


async def current_call(ctx: Context[Any]) -> ToolCallKey | None:
    """Return the call that is being made; `None` outside agents, or if the call has no id.

    Some models have no ids for their calls, and LlamaIndex then takes the name of the tool: such a call is never
    recognized as made again. Some models begin their ids anew with each question: such a call is recognized if the
    question, the tool and its arguments are the same, too.

    Args:
        ctx: The context of the run.
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
    """Return the event that the running step works on; `None` with llama-index-workflows before 2.22.1.

    The name by which it is found is not documented, so it may disappear.
    """
    try:
        step: Any = importlib.import_module("workflows.runtime.types.results").StepWorkerStateContextVar.get(None)
    except (ImportError, AttributeError):  # pragma: no cover
        return None
    return getattr(step, "event", None)


def steering_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions with which LlamaIndex makes a step wait for an event, so that no tool may replace them."""
    try:
        waiting: type[Exception] = importlib.import_module("workflows.runtime.types.results").WaitingForEvent
    except (ImportError, AttributeError):  # pragma: no cover
        return ()
    return (waiting,)
