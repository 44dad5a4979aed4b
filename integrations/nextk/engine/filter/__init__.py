"""The filter language: `syntax` parses a text into a `tree`, and `sql` compiles the tree into a SQLite condition."""
