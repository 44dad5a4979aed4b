"""What both frameworks' retrievers share: the connection to an index, storing, sparse models, the text of records."""
