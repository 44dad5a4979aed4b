"""The command line `nextk` with its commands `demo`, `ingest`, `query`, `info` and `serve`."""
