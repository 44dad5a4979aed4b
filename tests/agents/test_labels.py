"""The labels of documents."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.agents.fence import Excerpt, Fence, one_line
from nextk.agents.labels import labels_of


class TestLabels:
    """Title, source and page, as loaders write them."""

    @pytest.mark.parametrize(
        ("metadata", "expected"),
        [
            ({"source": "a/b.pdf", "page": 0, "page_label": "i"}, {"source": "a/b.pdf", "page": "i"}),
            ({"title": "Sky", "source": "https://x.test/sky"}, {"title": "Sky", "source": "https://x.test/sky"}),
            ({"file_path": "/data/a.md", "file_name": "a.md", "page_label": "3"}, {"source": "a.md", "page": "3"}),
            ({"filename": "a.eml", "page_number": 2}, {"source": "a.eml", "page": "2"}),
            ({"URL": "https://x.test", "document_title": "X"}, {"title": "X", "source": "https://x.test"}),
            ({"title": " \n", "source": {"a": 1}, "page": True, "place": 3}, {}),
        ],
    )
    def test_keys(self, metadata: dict[str, Any], expected: dict[str, str]) -> None:
        """The best key that holds a word or a number gives the label."""
        assert expected == labels_of(metadata)

    def test_length(self) -> None:
        """A long label is shortened in its middle, so that the name of a file stays readable."""
        [label] = labels_of({"source": "https://x.test/" + "a" * 500 + "/report.pdf"}).values()
        assert (120, True, True) == (len(label), label.startswith("https://x.test/"), label.endswith("/report.pdf"))

    @given(st.text())
    def test_one_line(self, text: str) -> None:
        """A label stays on its line, inside its quotes and its tag, whatever it is made of."""
        line = one_line(text)
        assert len(line) <= 120
        assert len(line.splitlines()) <= 1
        opening = Fence("mark").block("doc", Excerpt("", {"title": line})).removesuffix("\n\n</doc-mark>")
        assert 2 == opening.count('"')
        assert opening.endswith('">')
        assert 1 == opening.count(">") == opening.count("<")

    def test_scripts(self) -> None:
        """Characters that join letters stay, since some scripts need them; those that change the direction do not."""
        assert "\u0915\u094d\u200d\u0937 x" == one_line("\u0915\u094d\u200d\u0937\u202ex")
