"""Sources: sessions over a store that you have, whatever it is.

A session, and the retrievers of LangChain and LlamaIndex, take a `Source` in the place of an index. A source of your
own is a subclass with an identity and one method:

```python
class Notes(RefetchSource):
    identity = "notes of 2026"

    def query(self, query, count):
        hits = store.nearest(query.data, count)
        return [StoreRow(hit.key, hit.score, data=hit.text, metadata=hit.tags, item=hit) for hit in hits]
```

| base class | for a store that | rows moved for n rows |
| --- | --- | --- |
| `ExclusionSource` | can leave rows out by their ids | n |
| `RefetchSource` | takes the number of rows alone | up to about 3 n |
| `Source` | keeps searches open by itself | n |
"""

from nextk.sessions.source import (
    AsyncSourceSearch,
    Continuation,
    ScoreKind,
    Source,
    SourceSearch,
    SourceTraits,
)
from nextk.stores.exclusion_source import ExclusionSource
from nextk.stores.refetch import RefetchSource
from nextk.stores.rows import RowKey, StoreRow, content_id, row_id

__all__ = [
    "AsyncSourceSearch",
    "Continuation",
    "ExclusionSource",
    "RefetchSource",
    "RowKey",
    "ScoreKind",
    "Source",
    "SourceSearch",
    "SourceTraits",
    "StoreRow",
    "content_id",
    "row_id",
]
