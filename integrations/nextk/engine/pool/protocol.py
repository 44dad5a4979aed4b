"""Codes of any kind, as a ranking by a pool uses them: they find the slots that are worth scoring."""

from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from nextk.engine.columns import Snapshot
from nextk.engine.pool.codes import Candidates, VisibleSlots


class PoolCodes(Protocol):
    """The codes of the slots of one namespace, which are appended. The length is the number of slots that have codes.

    Attributes:
        pool_factor: The size of the first pool, as a multiple of what good codes need.
    """

    pool_factor: ClassVar[int]

    @property
    def usable(self) -> bool:
        """Whether this process may search by the codes."""
        ...

    @property
    def finds_too_little(self) -> bool:
        """Whether the codes should be made anew, because searches show that they do not fit the vectors any more."""
        ...

    def note_search(self, *, widened: bool) -> None:
        """Take note of a search, which counts once.

        Args:
            widened: Whether it needed a larger pool than its first one for its first rows.
        """
        ...

    def __len__(self) -> int: ...

    def train(self, snapshot: Snapshot) -> None:
        """Learn from the vectors of a snapshot how to code them.

        Args:
            snapshot: A snapshot for which `can_be_coded` is true.
        """
        ...

    def extend(self, snapshot: Snapshot, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Append the codes of all slots of a snapshot that have none yet.

        Args:
            snapshot: A snapshot of the layout of the slots that have codes.
            goes_on: Returns whether to append more; it is asked before every few thousand slots. Default: always.
        """
        ...

    def nearest(self, query: NDArray[np.float32], count: int, visible: VisibleSlots) -> Candidates:
        """Return the slots whose codes are nearest to a query.

        Args:
            query: The dense vector of the query, float32 (dimension,).
            count: The number of slots; fewer are found if fewer have codes and are visible.
            visible: The slots that may be found.
        """
        ...
