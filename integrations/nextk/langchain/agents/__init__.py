"""Search tools for LangChain's agents: `search`, and `more_results` of the same search.

Needs `pip install 'nextk[agents]'`.
"""

from nextk.extras import require

require("langchain.agents", extra="agents")  # first, so that its absence says how to install it

from nextk.langchain.agents.middleware import ResumableSearchMiddleware  # noqa: E402
from nextk.langchain.agents.state import ResumableSearchState, SearchArtifact, new_scope  # noqa: E402
from nextk.langchain.agents.tools import create_resumable_search_tools  # noqa: E402

__all__ = [
    "ResumableSearchMiddleware",
    "ResumableSearchState",
    "SearchArtifact",
    "create_resumable_search_tools",
    "new_scope",
]
