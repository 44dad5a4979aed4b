"""The filter language. `syntax` parses a text into a `tree`, which is evaluated in one of two ways.

For searches, `evaluate` goes over the values of its fields in memory: `reading` reads them from the file, `columns`
holds them, and `store` keeps the columns complete and within their bound. For everything else, `sql` compiles the tree
into a condition of SQLite. Both let through the same records.
"""
