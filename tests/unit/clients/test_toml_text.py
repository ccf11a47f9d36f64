"""Editing somebody else's TOML: what is changed, and when hands are kept off."""

from __future__ import annotations

import tomllib

import pytest

from proxy.clients.toml_text import into
from proxy.clients.wish import Conflict

KEY = (("a", "b.c"), {"x": "1"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", '\n[a."b.c"]\n  x = "1"\n'),
        ("top = 1\n", 'top = 1\n\n[a."b.c"]\n  x = "1"\n'),
        ("[a.'b.c'] # ours\ny = 2\n", "[a.'b.c'] # ours\n  x = \"1\"\ny = 2\n"),
        # Defined by its children only.
        ('[a."b.c".d]\ny = 2\n', '[a."b.c".d]\ny = 2\n\n[a."b.c"]\n  x = "1"\n'),
        ('[a."b.c"]\nx = "1"', '[a."b.c"]\nx = "1"'),
    ],
)
def test_a_missing_key_is_added_where_its_table_is(old: str, new: str) -> None:
    assert into("f", old, [KEY]) == new


@pytest.mark.parametrize(
    "old",
    [
        "not toml",
        "a = 1\n",
        # The table is written inline: nothing can be added to it by a line.
        'a = {"b.c" = {y = 2}}\n',
        # What looks like the header is text.
        'a."b.c".y = """\n[a."b.c"]\n"""\n',
        '[a."b.c"]\nx = "2"\n',
        '[[a]]\n"b.c" = 1\n',
    ],
)
def test_what_can_not_be_edited_safely_is_left_alone(old: str) -> None:
    with pytest.raises(Conflict):
        into("f", old, [KEY])


def test_a_value_over_several_lines_is_not_replaced_by_half() -> None:
    old = '[r]\nm = [\n  "a",\n]\n'
    with pytest.raises(Conflict):
        into("f", old, [(("r",), {"m": ["b"]})])
    assert tomllib.loads(into("f", '[r]\nm = ["a"]\n', [(("r",), {"m": ["b"]})])) == {
        "r": {"m": ["b", "a"]}
    }
