"""Shared by all agents' search tools, free of any framework: what the tools remember, and what a model reads."""
