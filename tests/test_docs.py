"""README and the cookbook do what they say."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
RECIPES = sorted((ROOT / "cookbook").glob("*.py"))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_readme_block(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of README runs by itself."""
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})  # noqa: S102 - our own text


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_recipe(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Every recipe of the cookbook runs by itself, without network, and leaves nothing behind in its folder."""
    monkeypatch.chdir(tmp_path)
    if "DATABASE_URL" in recipe.read_text(encoding="utf-8"):
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgres_server").dsn)
    before = sorted(recipe.parent.iterdir())
    runpy.run_path(str(recipe), run_name="__main__")
    assert before == sorted(path for path in recipe.parent.iterdir() if path.name != "__pycache__")
    assert [] == list(tmp_path.iterdir())


def test_there_is_something_to_run() -> None:
    """README has blocks and the cookbook has recipes."""
    assert BLOCKS
    assert RECIPES
