"""Search tools for LlamaIndex's agents: `search`, `more_results` of the same search, and `close_search`."""

from nextk.llama_index.agents.spec import ResumableSearchToolSpec

__all__ = ["ResumableSearchToolSpec"]
