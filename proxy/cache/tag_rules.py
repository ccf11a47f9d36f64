"""Which rule holds for a tag. Pure.

A pattern (see `globs.py`) is compared with the whole of the repository and the whole of
the tag, and the first rule that matches is the only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.cache.globs import matches
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
        of_repository, _, of_tag = rule.match.rpartition(":")
        if matches(of_tag, tag) and (
            matches(of_repository, repository) or matches(of_repository, f"{upstream}/{repository}")
        ):
            return rule
    return None
