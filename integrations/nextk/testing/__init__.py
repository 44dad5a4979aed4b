"""Tools for testing code that is built on nextk: planned faults, and test suites for sessions and for sources.

A `FaultPlan` says which requests fail and how. `faulty` puts it between an index and its client:

```python
plan = FaultPlan(PlannedFault(Fault.DROP_REPLY, RequestKind.NEXT, 2))
index = faulty(Index.embedded(embedding="static"), plan)
```

`nextk.testing.server` makes the faults of a plan happen behind HTTP; it needs the `server` extra. `SessionCompliance`
and `AsyncSessionCompliance` test the sessions of an index or an adapter; `SourceCompliance` and `AsyncSourceCompliance`
test a source (`nextk.stores`), such as a store of your own. Nothing here needs pytest.
"""

from nextk.testing.compliance import AsyncSessionCompliance, SessionCompliance
from nextk.testing.faults import Fault, FaultPlan, ManualClock, PlannedFault, RequestKind
from nextk.testing.random_faults import RandomFaults
from nextk.testing.source_compliance import AsyncSourceCompliance, SourceCompliance
from nextk.testing.transport import FaultyTransport, faulty

__all__ = [
    "AsyncSessionCompliance",
    "AsyncSourceCompliance",
    "Fault",
    "FaultPlan",
    "FaultyTransport",
    "ManualClock",
    "PlannedFault",
    "RandomFaults",
    "RequestKind",
    "SessionCompliance",
    "SourceCompliance",
    "faulty",
]
