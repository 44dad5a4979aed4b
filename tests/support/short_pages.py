"""The texts and the warnings of agents' searches that end short, for the tests of both frameworks."""

from collections.abc import Sequence

import pytest

from tests.support.sentence_index import TEXTS


def require_short_pages(texts: Sequence[str], caplog: pytest.LogCaptureFixture) -> None:
    """Require that three searches for 40 results say why they are short, to the model and to the log.

    Args:
        texts: The texts that the model reads: first of a search that a guard ends with few results, then of one that a
            guard ends with none, then of one in which a check denies all.
        caplog: The log, which has to hold one warning for each search.
    """
    assert "The search stopped at its limit before it found 40 results." in texts[0]
    assert texts[1].startswith("The search stopped at its limit before it found anything new to show.")
    assert texts[2].startswith("No results: this search found nothing that may be shown.")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [True, True, False] == ["max_pulls=1" in warning for warning in warnings]
    assert f"{len(TEXTS)} dropped by accepted" in warnings[-1]
