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

from nextk.retrieval.book import Book, empty

STATE_KEY = "resumable_searches"
"""Where the store of a context holds the searches; not under `state`, which agents print into the prompt."""
_MOST_REPLIES = 16  # as many calls may be under way at once, and more


class Reply(TypedDict):
    """What a call has answered.

    Attributes:
        call: Which one.
        run: The run that it was made in.
        text: What it said.
    """

    call: str
    run: str
    text: str


class Kept(TypedDict):
    """What is kept of one set of tools; plain data.

    Attributes:
        book: Their searches.
        replies: What they said of late, the latest last.
    """

    book: Book
    replies: list[Reply]


@dataclass(frozen=True)
class Call:
    """A tool call of an agent.

    Attributes:
        id: What tells it from all others, in whatever run it is made.
        run: The run that makes it.
    """

    id: str
    run: str


async def read(ctx: Context[Any], name: str) -> Kept:
    """What is kept under a name."""
    kept = (await ctx.store.get(STATE_KEY, default=None) or {}).get(name)
    return cast("Kept", kept) if kept else {"book": empty(), "replies": []}


async def write(ctx: Context[Any], name: str, book: Book, replies: list[Reply]) -> None:
    """Keep a book and replies under a name, whatever others keep there meanwhile."""
    kept: Kept = {"book": book, "replies": replies}
    async with ctx.store.edit_state() as state:
        state[STATE_KEY] = {**(state.get(STATE_KEY) or {}), name: kept}


def noted(replies: list[Reply], call: Call, text: str) -> list[Reply]:
    """The latest replies, with this one."""
    others = [reply for reply in replies if reply["call"] != call.id]
    return [*others, Reply(call=call.id, run=call.run, text=text)][-_MOST_REPLIES:]


def said_before(replies: list[Reply], call: Call) -> str | None:
    """What a call has answered when it was first made; `None` where it is made first now.

    Within one run a call is not made again: there an id that comes a second time is another call's. LlamaIndex may even
    take up one call twice, where it was saved between two steps: the second of them goes on.
    """
    return next((reply["text"] for reply in replies if reply["call"] == call.id and reply["run"] != call.run), None)


async def present_call(ctx: Context[Any]) -> Call | None:
    """The call that is being made, `None` where nothing tells it from others: outside agents, or without an id.

    Some models have no ids for their calls, and LlamaIndex then takes the tool's name: such calls are never taken for
    ones made again. Ids that begin anew with each question are, if everything else is the same too: the question, the
    tool and its arguments.
    """
    event = _present_event()
    run = active_instrument_tags.get().get("llamaindex.run_id")
    if not isinstance(event, ToolCall) or run is None or event.tool_id in ("", event.tool_name):
        return None
    question = await ctx.store.get("user_msg_str", default=None)
    parts = [event.tool_id, event.tool_name, event.tool_kwargs, question]
    return Call(hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32], str(run))


def _present_event() -> object:
    """What the step that runs is about; `None` where llama-index-workflows, before 2.22.1, does not say so.

    The name is not a documented one, so it may go.
    """
    try:
        present: Any = importlib.import_module("workflows.runtime.types.results").StepWorkerStateContextVar.get(None)
    except (ImportError, AttributeError):  # pragma: no cover
        return None
    return getattr(present, "event", None)
