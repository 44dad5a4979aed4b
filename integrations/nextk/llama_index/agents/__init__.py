"""Tools for LlamaIndex's agents: a search, and more of the same search."""

from nextk.llama_index.agents.spec import ResumableSearchToolSpec

__all__ = ["ResumableSearchToolSpec"]
