"""The filter language: `syntax` reads a text into a `tree`, `sql` turns the tree into a SQLite condition."""
