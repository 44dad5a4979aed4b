"""Stopping policies. A policy decides when a search has found enough, and which results it keeps.

```python
from nextk.until import Accepted, MaxResults, TokenBudget

search.fetch_until(TokenBudget(6_000) | MaxResults(50))  # whichever comes first
search.fetch_until(Accepted(10, check))  # ten results that the check permits, however deep they are
```

`a | b` stops when one of the two has enough, `a & b` when both have. In either combination a match is kept only if
*every* policy keeps it, and all of them count the matches that were kept.

| policy                          | keeps                             | stops                                        |
| ------------------------------- | --------------------------------- | -------------------------------------------- |
| `MaxResults(n)`                 | everything                        | at `n` matches                               |
| `Accepted(n, check)`            | matches that the check permits    | at `n` matches                               |
| `DistinctBy(key, n, per_key=1)` | the first `per_key` of each key   | at `n` keys                                  |
| `TokenBudget(n, count=)`        | matches that still fit            | when it is full, or hardly anything fits     |
| `MinScore(t, patience=3)`       | scores of at least `t`            | after `patience` consecutive lower scores    |
| `RelativeScore(ratio)`          | `ratio` of the best score or more  | after 3 consecutive lower scores             |
| `ScoreGap(buffer=, min_k=)`     | everything                        | `buffer` matches after the largest score gap |
| `RerankStable(n, rerank)`       | everything                        | when a reranker's best `n` stay the same     |

`take(items, policy)` applies policies to any iterable of documents, nodes or texts, and `atake` to asynchronous ones:

```python
take(store.similarity_search("blue sky", k=100), Accepted(10, check))
```

A policy of your own is a subclass of `Policy` and one of `PolicyState`, about ten lines together; `nextk.until.policy`
holds the contract and an example. Policies that ask a function about many matches at once make a `BatchCheck` or a
`BatchObserver` instead of a plain `PolicyState`.
"""

from nextk.until.counting import Accepted, DistinctBy, MaxResults
from nextk.until.policy import BatchCheck, BatchObserver, Candidate, Policy, PolicyState
from nextk.until.reranking import Ranking, RerankStable
from nextk.until.scores import MinScore, RelativeScore, ScoreGap
from nextk.until.take import atake, take
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
    "atake",
    "estimate_tokens",
    "take",
]
