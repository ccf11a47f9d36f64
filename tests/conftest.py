"""For all tests: time is no criterion of correctness on a machine that others share."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("entrepot", deadline=None)
settings.load_profile("entrepot")
