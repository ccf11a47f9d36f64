"""The README's settings tables are those of the code."""

from __future__ import annotations

from pathlib import Path

from proxy.config import settings_table

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- settings -->", "<!-- /settings -->"


def test_the_readme_shows_the_settings_as_they_are():
    """Put right with `entrepot config table`."""
    text = README.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    block = text.partition(BEGIN)[2].partition(END)[0]
    assert block.strip() == settings_table()
