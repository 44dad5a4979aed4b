"""For tests of what is built on nextk: faults on purpose, and a suite of what sessions promise.

```python
plan = FaultPlan(PlannedFault(Fault.DROP_REPLY, Moment.NEXT, 2))
index = faulty(Index.embedded(embedding="static"), plan)
```

The same faults behind HTTP are in `nextk.testing.server`, which needs the `server` extra. Nothing here needs pytest.
"""

from nextk.testing.compliance import AsyncSessionCompliance, SessionCompliance
from nextk.testing.faults import Fault, FaultPlan, ManualClock, PlannedFault, RequestKind
from nextk.testing.transport import FaultyTransport, faulty

__all__ = [
    "AsyncSessionCompliance",
    "Fault",
    "FaultPlan",
    "FaultyTransport",
    "ManualClock",
    "PlannedFault",
    "RequestKind",
    "SessionCompliance",
    "faulty",
]
