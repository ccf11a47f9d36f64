"""A shell's patterns: `*` is any text, slashes included, `?` one character, `[ab]` one of
these. The whole text is compared, and case counts. Pure.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache

_SPECIAL = re.compile(r"[*?\[]")


def matches(pattern: str, text: str) -> bool:
    """Whether the text is one of those that the pattern means."""
    return _compiled(pattern).match(text) is not None


def is_pattern(text: str) -> bool:
    """Whether it means more than itself."""
    return _SPECIAL.search(text) is not None


# fnmatch remembers 256, which thrash where a configuration has more.
@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))
