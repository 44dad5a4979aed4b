"""Numbered pages: an extension of the protocol by which a page or a start whose reply was lost may be requested again.

A server that numbers pages says so by the header `Nextk-Numbered-Pages: 1` on every reply, and by `numberedPages` in
its `info`. Nothing of the following is sent to a server that has not said so; there, a repeated request for a page
would skip one.

- A start carries a `uuid` that the client has made. A repeated start finds the query that it has opened.
- A request for a page carries `pageNumber`; that of the first page, which the start brings, is 1. The server answers
  with `{"pageNumber": ..., "scores": [...]}`. If the number is that of the last page, the server returns that page
  again: the same ids, read anew, without those that are gone or no longer permitted.
"""

import uuid

HEADER = "Nextk-Numbered-Pages"
"""The header by which a server says that it numbers pages; its value is the version of the extension, `1`."""
VERSION = "1"


class Numbering:
    """Whether the server behind a transport numbers pages, as far as it has said so.

    Args:
        said: Whether the server has said so; `None` (the default) if it has said nothing yet.

    Attributes:
        said: Whether the server has said that it numbers pages; `None` as long as neither a header nor `info` said so,
            and `info` was not asked.
    """

    def __init__(self, said: bool | None = None) -> None:
        self.said = said
        self._by_header = False

    def note_header(self, value: str | None) -> None:
        """Take note of the header of a reply that the index itself has given.

        A server that said so by the header and then leaves it out has been replaced by another one. A proxy may remove
        headers, so that a header which never came says nothing.

        Args:
            value: The value of the header; `None` if the reply has no such header.
        """
        if value is not None:
            self.said = self._by_header = value.strip() == VERSION
        elif self._by_header:
            self.said, self._by_header = None, False

    def note_info(self, *, numbered: bool) -> None:
        """Take note of the answer of `info`.

        Args:
            numbered: Whether it says that pages are numbered.
        """
        self.said = numbered

    def new_uuid(self) -> str | None:
        """Return a new uuid for a start, or `None` for a server that has not said that it numbers pages."""
        return str(uuid.uuid4()) if self.said else None
