"""Keeping what matters: pins, retention, and what is held, listed and removed by image.

Looks at content without using it, so that eviction, which goes by last use, is not
misled by who only wanted to know. What it removes, nothing that stays needs.
"""

from proxy.keeping.keeping import Keeping

__all__ = ["Keeping"]
