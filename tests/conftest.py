"""For all tests: time is no criterion of correctness on a machine that others share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("entrepot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("entrepot")
