"""For tests of what is built on nextk: faults on purpose, and a suite of what sessions promise.

```python
plan = FaultPlan(Strike(Fault.DROP_REPLY, Moment.NEXT, 2))
index = faulty(Index.embedded(embedding="static"), plan)
```

The same faults behind HTTP are in `nextk.testing.server`, which needs the `server` extra. Nothing here needs pytest.
"""

from nextk.testing.carrier import FaultyCarrier, faulty
from nextk.testing.compliance import AsyncSessionCompliance, SessionCompliance
from nextk.testing.faults import Clock, Fault, FaultPlan, Moment, Strike

__all__ = [
    "AsyncSessionCompliance",
    "Clock",
    "Fault",
    "FaultPlan",
    "FaultyCarrier",
    "Moment",
    "SessionCompliance",
    "Strike",
    "faulty",
]
