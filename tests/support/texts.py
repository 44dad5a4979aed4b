"""Texts that are easily misread in a filter, and the texts for which they could be mistaken."""

import re

from hypothesis import strategies as st

_LETTERS = st.text("'\"\\[]*?^!-aA\né☂ ", max_size=6)
_PIECES = st.lists(
    st.sampled_from(
        ["\\", "\\\\", "'", '"', "\\'", '\\"', "[*]", "[\\]", "C:", "a", " OR HAS FIELD k", "\u2019", "\x7f"]
    ),
    max_size=5,
).map("".join)
odd_texts = _LETTERS | _PIECES | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
"""Any text that metadata can hold, most of them with quotes, backslashes and the signs of GLOB."""


def with_neighbours(text: str) -> list[str]:
    """Return a text and others that differ from it in little, each of them once."""
    return list(
        dict.fromkeys(
            [
                text,
                text.replace("\\", "\\\\"),
                text.replace("\\\\", "\\"),
                text.replace("\\", ""),
                text.replace("\\", "/"),
                re.sub(r"""\\(['"])""", r"\1", text),
                re.sub(r"""(['"])""", r"\\\1", text),
                text.translate({ord("'"): '"', ord('"'): "'"}),
                text.replace("'", "?").replace('"', "?"),
                text.replace("'", "!").replace('"', "#"),
                text.replace("*", "").replace("?", "x"),
                re.sub(r"\[(.)\]", r"\1", text),
                re.sub(r"[*?\[\]]", "a", text),
                text.swapcase(),
                text.strip(),
                f"{text}\\",
                f"\\{text}",
                f"{text}\n",
                f"{text}x",
                text[:-1],
                text[1:],
                "",
                "a",
            ]
        )
    )
