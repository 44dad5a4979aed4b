"""An agent that goes on searching: `search`, then `more_results` until it has what it needs, over two questions.

The model here is a pretender, so that this runs without an account; put any chat model in its place. Run it with
`python cookbook/agent_more_results.py`, after `pip install "nextk[local,agents]"`.
"""

import re
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver

from nextk.langchain import ResumableRetriever
from nextk.langchain.agents import ResumableSearchMiddleware

FACTS = [
    "The sky is blue because air scatters blue light more than red.",
    "At sunset the sky turns red: the light has crossed more air.",
    "The sky of Mars is butterscotch by day and blue at dusk.",
    "Clouds are white because their droplets scatter every colour alike.",
    "Grass is green because chlorophyll absorbs red and blue light.",
    "The sea looks blue because water absorbs red light.",
    "Blue whales are the largest animals that ever lived.",
    "Bread rises because yeast makes bubbles of carbon dioxide.",
]
QUESTION = "why is the sky blue?"


class Pretender(BaseChatModel):
    """Does what a model would do here: it searches, asks for more results, and answers."""

    @property
    def _llm_type(self) -> str:
        return "pretender"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:  # noqa: ARG002
        """Return the model itself: it knows the tools already."""
        return self

    def _generate(self, messages: list[BaseMessage], *arguments: Any, **options: Any) -> ChatResult:  # noqa: ARG002
        results = [message.text for message in messages if isinstance(message, ToolMessage)]
        if not results:
            message = call("search", query=QUESTION)
        elif isinstance(messages[-1], ToolMessage) and len(results) != 2:  # after the second page it answers
            message = AIMessage(f"I have read {len(results)} page(s).")
        else:
            found = re.search(r"search id: (\w+)", results[-1])
            assert found
            message = call("more_results", search_id=found.group(1))
        return ChatResult(generations=[ChatGeneration(message=message)])


def call(tool: str, **arguments: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": f"{tool}-call", "type": "tool_call"}])


def main() -> None:
    with ResumableRetriever.from_texts(FACTS, k=2) as retriever:
        agent = create_agent(
            Pretender(),
            middleware=[ResumableSearchMiddleware(retriever, description="Search facts about nature.")],
            checkpointer=InMemorySaver(),  # or a durable one, with which the search goes on in any process
        )
        thread: Any = {"configurable": {"thread_id": "1"}}
        said: list[str] = []
        for words in ("Why is the sky blue?", "Tell me more."):
            print("user:", words)
            result = agent.invoke({"messages": [{"role": "user", "content": words}]}, thread)
            for message in result["messages"][len(said) :]:
                said.append(message.text)
                if isinstance(message, ToolMessage):
                    print(f"{message.name}:", message.text.replace("\n\n", "\n    "))
                    report = message.artifact  # for the program, and not for the model
                    print(f"    ({report['kept']} of {report['pulled']} rows; {report['stop_reason']})")
            print("agent:", result["messages"][-1].text)

        # Nothing was shown twice, not even by the second question.
        facts = [line for text in said for line in text.splitlines() if line in FACTS]
        assert len(facts) == len(set(facts)) == 6


if __name__ == "__main__":
    main()
