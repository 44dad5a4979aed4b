"""Shared by both frameworks' retrievers: the connection to an index, writing, and reading the text of records."""
