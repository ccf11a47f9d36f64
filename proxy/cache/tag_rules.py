"""Which rule holds for a tag. Pure.

A pattern is a shell's: `*` is any text, slashes included, `?` one character, `[ab]`
one of these. It is compared with the whole of the repository and the whole of the
tag, case counts, and the first rule that matches is the only one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

from proxy.oci.names import Repository, Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for the tags that `match` (`REPOSITORY:TAG`).

    `fresh_s` in seconds, None where the rule does not say. `immutable`: never asked
    again once known. Not `cached`: always asked, never written down.
    """

    match: str
    fresh_s: float | None = None
    immutable: bool = False
    cached: bool = True


def rule_for(rules: Sequence[Rule], upstream: str, repository: Repository, tag: Tag) -> Rule | None:
    """The first that matches, with or without the upstream's name in front."""
    for rule in rules:
        in_repository, in_tag = _compiled(rule.match)
        if in_tag.match(tag) is not None and (
            in_repository.match(repository) is not None
            or in_repository.match(f"{upstream}/{repository}") is not None
        ):
            return rule
    return None


@lru_cache(maxsize=4096)
def _compiled(match: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    repository, _, tag = match.rpartition(":")
    return re.compile(translate(repository)), re.compile(translate(tag))
