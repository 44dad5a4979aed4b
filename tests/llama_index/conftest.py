"""Fixtures of the tests of the LlamaIndex adapter."""

import sys

import pytest
from llama_index.core.settings import Settings


@pytest.fixture
def settings_without_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has set a model, so that asking for the default one fails."""
    monkeypatch.setattr(Settings, "_embed_model", None)
    monkeypatch.delenv("IS_TESTING", raising=False)
    monkeypatch.setitem(sys.modules, "llama_index.embeddings.openai", None)
