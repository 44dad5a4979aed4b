"""Stopping policies: until what a search goes on, and which of its rows it keeps.

```python
from nextk.until import Accepted, MaxResults, TokenBudget

search.fetch_until(TokenBudget(6_000) | MaxResults(50))  # whichever comes first
search.fetch_until(Accepted(10, check))  # ten that the check permits, however deep they are
```

`a | b` stops when either says so, `a & b` when both do. Whatever stops it, a row is kept only if *every* policy keeps
it, and all of them count the rows that were kept.

| policy                            | keeps                          | stops                                          |
| --------------------------------- | ------------------------------ | ---------------------------------------------- |
| `MaxResults(n)`                   | everything                     | at `n` rows                                    |
| `Accepted(n, check)`              | what a check permits           | at `n` rows                                    |
| `DistinctBy(key, n, per_key=1)`   | `per_key` rows of each key     | at `n` keys                                    |
| `TokenBudget(n, count=)`          | what still fits                | when it is full, or hardly anything fits       |
| `MinScore(t, patience=3)`         | scores of `t` and more         | after `patience` rows below, one after another |
| `RelativeScore(ratio)`            | that share of the best score   | likewise                                       |
| `ScoreGap(buffer=, min_k=)`       | everything                     | some rows behind the largest gap (adaptive-k)  |
| `RerankStable(n, rerank)`         | everything                     | when a reranker's best `n` rows stay the same  |

Your own is a subclass of `Policy` and one of `PolicyState`; see there.
"""

from nextk.until.counting import Accepted, DistinctBy, MaxResults
from nextk.until.policy import BatchCheck, BatchObserver, Candidate, Policy, PolicyState
from nextk.until.reranking import Ranking, RerankStable
from nextk.until.scores import MinScore, RelativeScore, ScoreGap
from nextk.until.tokens import TokenBudget, estimate_tokens

__all__ = [
    "Accepted",
    "BatchCheck",
    "BatchObserver",
    "Candidate",
    "DistinctBy",
    "MaxResults",
    "MinScore",
    "Policy",
    "PolicyState",
    "Ranking",
    "RelativeScore",
    "RerankStable",
    "ScoreGap",
    "TokenBudget",
    "estimate_tokens",
]
