"""What the search tools of all agents share, free of any framework. Not for users: their tools are in the adapters.

`memory` holds what the tools remember, `prompts` what a model reads, and `call` what one call of a tool does. The tools
for users are in `nextk.langchain.agents` and `nextk.llama_index.agents`.
"""
