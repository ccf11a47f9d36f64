"""Patterns as a shell has them."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.globs import is_pattern, matches

_PATTERNS = st.lists(st.sampled_from(["a", "B", "*", "?", "[ab]", "[!a]", "/", ":", "."])).map(
    "".join
)


@given(pattern=_PATTERNS, text=st.text("aBb/:.\n", max_size=8))
def test_a_pattern_means_what_it_means_to_a_shell(pattern: str, text: str) -> None:
    assert matches(pattern, text) is fnmatchcase(text, pattern)
    assert is_pattern(pattern) or matches(pattern, text) is (pattern == text)


@given(name=st.text("ab/:.-", max_size=12))
def test_a_name_matches_itself_and_everything_matches_a_star(name: str) -> None:
    assert matches("*", name)
    assert matches(name, name)
    assert matches(f"{name}*", f"{name}/x:y")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [("docker.io/library/alpine:3.20", False), ("a/*:b", True), ("a?", True), ("[ab]:c", True)],
)
def test_what_has_to_be_expanded_is_a_pattern(text: str, pattern: bool) -> None:
    assert is_pattern(text) is pattern
