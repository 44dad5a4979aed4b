"""The common part of all agents' search tools, free of any framework. Users find their tools in the adapters.

`memory` holds what the tools remember, `prompts` what a model reads, and `call` what one call of a tool does. The tools
for users are in `nextk.langchain.agents` and `nextk.llama_index.agents`.
"""
