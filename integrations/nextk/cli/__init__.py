"""The command line: `nextk demo`, `ingest`, `query`, `info` and `serve`."""
