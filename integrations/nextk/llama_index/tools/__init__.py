"""Tools for LlamaIndex's agents: a search, and more of the same search."""

from nextk.llama_index.tools.spec import ResumableSearchToolSpec

__all__ = ["ResumableSearchToolSpec"]
