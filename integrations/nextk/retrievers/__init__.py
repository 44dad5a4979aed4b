"""The common part of both frameworks' retrievers: the connection, storing, sparse models, the text of records."""
